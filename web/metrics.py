"""What operators count: requests, open sockets, refusals. One registry for each application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


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
