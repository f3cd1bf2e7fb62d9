"""For operators: alive, ready, counted. Answers quickly whatever is broken behind us."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import msgspec
import pika
from flask import Blueprint, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from models import log
from models.clock import utc_now
from models.config import is_loopback
from models.errors import Forbidden
from models.services import placement
from web.api.schema import answer_json
from web.auth import current_person
from web.context import Greenroom, greenroom

CHECK_SECONDS = 2.0
# Whoever asks more often gets the last answer: a probe must not be a way to keep the broker busy.
REMEMBER_SECONDS = 1.0

blueprint = Blueprint("health", __name__)


class Probes:
    """Asks the database and the broker, one question at a time each, and waits a bounded time."""

    def __init__(self, checks: dict[str, Callable[[], None]], seconds: float = CHECK_SECONDS) -> None:
        self._checks, self._seconds = checks, seconds
        self._lock = threading.Lock()
        self._asked_at = -REMEMBER_SECONDS
        self._last: dict[str, bool] = {}
        self._running: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def results(self) -> dict[str, bool]:
        """Which dependencies answer."""
        with self._lock:
            if time.monotonic() - self._asked_at >= REMEMBER_SECONDS:
                self._last = self._ask()
                self._asked_at = time.monotonic()
            return self._last

    def _ask(self) -> dict[str, bool]:
        # Made here, not at start: threads do not survive a fork.
        pool = self._pool = self._pool or ThreadPoolExecutor(len(self._checks), "probe")
        for name, check in self._checks.items():
            # One that still hangs is waited for again, not joined by another.
            if name not in self._running or self._running[name].done():
                self._running[name] = pool.submit(check)
        deadline = time.monotonic() + self._seconds
        return {name: self._answers(name, deadline - time.monotonic()) for name in self._checks}

    def _answers(self, name: str, seconds: float) -> bool:
        try:
            self._running[name].result(max(0.0, seconds))
        except FutureTimeout:
            log.event("dependency_silent", dependency=name)
            return False
        except Exception as error:
            log.event("dependency_down", dependency=name, error=type(error).__name__)
            return False
        return True


def probes_of(house: Greenroom) -> Probes:
    """The probes of an application."""
    return Probes(
        {
            "database": lambda: _ask_database(house),
            "broker": lambda: _ask_broker(house),
            "media": lambda: _ask_for_a_node(house),
        }
    )


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process serves."""
    return answer_json(200, b'{"status":"ok"}')


@blueprint.get("/readyz")
def readyz() -> Response:
    """What the process depends on answers; 503 when something does not.

    ``media``: whether a media node is there. Pages are served without one, so it is told and no more.
    """
    probes: Probes = current_app.extensions["probes"]
    results = probes.results()
    ready = results["database"] and results["broker"]
    each = {name: "ok" if up else "down" for name, up in results.items()}
    body = {"status": "ok" if ready else "unavailable", **each}
    return answer_json(200 if ready else 503, msgspec.json.encode(body))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus's text format, for this machine's own scraper and for admins."""
    person = None if _is_local_scraper() else current_person()
    if not _is_local_scraper() and (person is None or "admin" not in person.roles):
        raise Forbidden("Metrics are for operators.")
    return Response(generate_latest(greenroom().metrics.registry), content_type=CONTENT_TYPE_LATEST)


def _is_local_scraper() -> bool:
    """From this machine, and not on behalf of somebody else."""
    forwarded = any(
        name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
    )
    original = request.environ.get("werkzeug.proxy_fix.orig", request.environ)
    return not forwarded and is_loopback(str(original.get("REMOTE_ADDR", "")))


def _ask_database(house: Greenroom) -> None:
    with house.database.reading() as tx:
        tx.execute(text("SELECT 1"))


def _ask_for_a_node(house: Greenroom) -> None:
    with house.database.reading() as tx:
        placement.require_node(tx, utc_now())


def _ask_broker(house: Greenroom) -> None:
    parameters = pika.URLParameters(house.settings.amqp_url)
    parameters.socket_timeout = parameters.stack_timeout = CHECK_SECONDS
    parameters.connection_attempts = 1
    pika.BlockingConnection(parameters).close()
