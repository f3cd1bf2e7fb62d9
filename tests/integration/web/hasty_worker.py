"""A worker whose patience a test can wait for."""

from web.worker import Worker


class HastyWorker(Worker):
    """As the deployed one, sooner."""

    arrival_seconds = 1.0
