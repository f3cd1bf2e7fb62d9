"""What operators count: of this process its requests and sockets, of the whole house what the database says.

One registry for each application. Workers and the clock have no door of their own: what they do is in rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models import live_files, log
from models.clock import utc_now
from models.db import Database
from models.services import figures
from models.services.figures import Figure

# A method is any word that a client likes to send, and each would be a series for ever.
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


# Two scrapers that ask at once, or one that asks too often, cost one look.
REMEMBER_SECONDS = 5.0


class HouseFigures(Collector):
    """The figures of the house, read at most once in REMEMBER_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = -REMEMBER_SECONDS
        self._last: tuple[GaugeMetricFamily, ...] = ()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: to be registered must not read the database."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called by the registry for each scrape. With the database away it says just that."""
        with self._lock:
            if time.monotonic() - self._read_at >= REMEMBER_SECONDS:
                self._last = self._read()
                self._read_at = time.monotonic()
            return self._last

    def _read(self) -> tuple[GaugeMetricFamily, ...]:
        try:
            with self._database.reading() as tx:
                found = list(figures.figures(tx, utc_now()))
        except Exception:
            log.failure("figures_not_read")
            return families([Figure("database_up", "Whether the figures could be read", 0)])
        return families([*found, Figure("database_up", "Whether the figures could be read", 1)])


def families(found: Iterable[Figure]) -> tuple[GaugeMetricFamily, ...]:
    """Figures of one name together, as Prometheus's text format wants them."""
    made: dict[str, GaugeMetricFamily] = {}
    for figure in found:
        names = [name for name, _ in figure.labels]
        if figure.name not in made:
            made[figure.name] = GaugeMetricFamily(f"greenroom_{figure.name}", figure.meaning, labels=names)
        made[figure.name].add_metric([value for _, value in figure.labels], figure.value)
    return tuple(made.values())


class StorageFigures(Collector):
    """What transcode workers say of their object storage; nothing where there is none."""

    def __init__(self, hls_dir: Path) -> None:
        self._hls_dir = hls_dir

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: to be registered must not read the disk."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called by the registry for each scrape."""
        found = []
        for each in live_files.conditions(self._hls_dir):
            label = (("worker", each.worker),)
            found += [
                Figure("storage_up", "Whether the object storage took what it was last given", each.up, label),
                Figure("storage_failures", "Rounds that failed since the worker began", each.failures, label),
                Figure("storage_objects", "Objects put since the worker began", each.objects, label),
                Figure("storage_removed", "Objects removed since the worker began", each.removed, label),
                Figure("storage_said_seconds", "Since the worker said so", time.time() - each.at, label),
            ]
        return families(found)


class Metrics:
    """The instruments of one web process; with a ``database`` also the figures of the house,
    with ``hls_dir`` those of the object storage."""

    def __init__(self, database: Database | None = None, hls_dir: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        if hls_dir is not None:
            self.registry.register(StorageFigures(hls_dir))
        if database is not None:
            self.registry.register(HouseFigures(database))
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
