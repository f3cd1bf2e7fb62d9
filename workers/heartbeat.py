"""A process says every few seconds that it is alive, for whoever looks at /admin. No rule reads it."""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

import dramatiq
from dramatiq.middleware import Middleware

from models import ids
from models.clock import utc_now
from models.db import Database
from models.services import processes
from workers.loop import Loop


class Heartbeat:
    """One process's own."""

    def __init__(self, db: Database, kind: Literal["clock", "worker"]) -> None:
        self._db = db
        self._kind = kind
        self._boot_id = ids.new_id(ids.BOOT)
        self._started_at = utc_now()

    def step(self) -> float:
        """Beat once; seconds until the next."""
        now = utc_now()
        self._db.run(
            lambda tx: processes.beat(
                tx, self._boot_id, self._kind, pid=os.getpid(), started_at=self._started_at, now=now
            )
        )
        return processes.HEARTBEAT_SECONDS

    def end(self) -> None:
        """The last beat."""
        self._db.run(lambda tx: processes.gone(tx, self._boot_id))


class WorkerHeartbeat(Middleware):
    """The heartbeat of a Dramatiq worker, from its boot to its shutdown."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._heartbeat: Heartbeat | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:
        """Called by Dramatiq in the worker process, after its fork."""
        self._heartbeat = Heartbeat(self._db, "worker")
        loop = Loop("heartbeat", self._heartbeat.step, self._stop)
        self._thread = threading.Thread(target=loop.run, name="heartbeat", daemon=True)
        self._thread.start()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:
        """Called by Dramatiq when the worker is told to stop."""
        self._stop.set()
        if self._thread is not None and self._heartbeat is not None:
            self._thread.join(timeout=1)
            self._heartbeat.end()
