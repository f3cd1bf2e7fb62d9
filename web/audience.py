"""Who watches without a seat: counted here in memory, told to the database as one number for each broadcast.

A viewer is a pseudonym that was heard within KEEP_SECONDS. Where there are several web processes, somebody who
is answered now by one and now by another may count twice until the first has forgotten. Starts its thread with
the first viewer, so after any fork. Must not know what is watched, by whom, or where from.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from models import log
from models.clock import utc_now
from models.db import Database
from models.ids import BOOT, new_id
from models.services import audiences

KEEP_SECONDS = 90.0
"""Longer than pages wait before they renew."""
REPORT_SECONDS = 5.0
AGAIN_SECONDS = 8.0
"""What has not changed is said again after this, before ``audiences.FRESH_SECONDS`` are over."""
MOST_VIEWERS = 200_000
"""Of all broadcasts together, some 30 MB; more are not counted."""


class Audience:
    """The viewers that this process heard of. Safe from any thread."""

    def __init__(
        self,
        database: Database,
        *,
        most: int = MOST_VIEWERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._most, self._clock = database, most, clock
        self._lock = threading.Lock()
        # The longest silent first.
        self._heard: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._said: dict[str, tuple[int, float]] = {}
        self._owner = 0
        self._boot_id = ""
        self._stopping = threading.Event()

    def heard(self, broadcast_id: str, viewer_id: str) -> None:
        """This viewer watches. Never waits for the database."""
        self._ensure_running()
        viewer = (broadcast_id, viewer_id)
        with self._lock:
            if viewer not in self._heard:
                if len(self._heard) >= self._most:
                    return
                self._counts[broadcast_id] = self._counts.get(broadcast_id, 0) + 1
            self._heard[viewer] = self._clock()
            self._heard.move_to_end(viewer)

    def report(self) -> None:
        """Write what has changed, and what would otherwise be too old to count."""
        now = self._clock()
        due = self._due(now)
        if not due:
            return
        self._database.run(lambda tx: audiences.report(tx, self._boot_id, due, utc_now()))
        for broadcast_id, count in due.items():
            if count:
                self._said[broadcast_id] = (count, now)
            else:
                del self._said[broadcast_id]

    def close(self) -> None:
        """Stop the thread."""
        self._stopping.set()

    def _due(self, now: float) -> dict[str, int]:
        with self._lock:
            self._forget(now)
            counts = dict(self._counts)
        due = {broadcast_id: 0 for broadcast_id in self._said if broadcast_id not in counts}
        for broadcast_id, count in counts.items():
            before, at = self._said.get(broadcast_id, (0, 0.0))
            if count != before or now - at >= AGAIN_SECONDS:
                due[broadcast_id] = count
        return due

    def _forget(self, now: float) -> None:
        while self._heard:
            viewer, at = next(iter(self._heard.items()))
            if now - at <= KEEP_SECONDS:
                return
            del self._heard[viewer]
            left = self._counts[viewer[0]] - 1
            if left:
                self._counts[viewer[0]] = left
            else:
                del self._counts[viewer[0]]

    def _ensure_running(self) -> None:
        if self._owner == os.getpid():
            return
        with self._lock:
            if self._owner == os.getpid():
                return
            self._heard.clear()
            self._counts, self._said = {}, {}
            self._boot_id = new_id(BOOT)
            self._stopping = threading.Event()
            self._owner = os.getpid()
        threading.Thread(target=self._report_forever, args=(self._stopping,), name="audience", daemon=True).start()

    def _report_forever(self, stopping: threading.Event) -> None:
        while not stopping.wait(REPORT_SECONDS):
            try:
                self.report()
            except Exception:
                log.failure("audience_not_reported")
