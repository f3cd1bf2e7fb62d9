"""What operators count: requests, open sockets, refusals. One registry for each application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# A method is any word that a client likes to send, and each would be a series for ever.
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


class Metrics:
    """The instruments of one web process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "greenroom_http_requests", "Answers", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "greenroom_http_request_seconds", "Time to answer", ["route"], registry=self.registry
        )
        self.feeds = Gauge("greenroom_feed_sockets", "Open event feeds", registry=self.registry)
        self.pipes = Gauge("greenroom_signaling_sockets", "Open signaling sockets", registry=self.registry)
        self.feed_overflows = Counter(
            "greenroom_feed_overflows", "Feeds closed because they did not keep up", registry=self.registry
        )
        self.broker_reconnects = Counter(
            "greenroom_feed_broker_connects", "Connections of the feed to the broker", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int) -> None:
        """Count one answer; ``route`` is the rule, not the address."""
        self.requests.labels(method if method in METHODS else "other", route, str(status)).inc()
