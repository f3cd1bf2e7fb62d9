"""The transcode workers, as far as money knows them: they lease rooms, say that they show them, complete files.

Their services are the real ones; what is played is when they come to it, that they die with a lease in hand, and
that files are lost. A worker renews its lease every second; that is played only where somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from models.messages.routing import RECORDING_ACTOR
from models.services import broadcasts, recording_work
from simulation.house import House

WORKERS = ("transcoder-1", "transcoder-2")
LEASE_MS = 3_000
DAY_MS = 86_400_000


class Transcoder:
    """All transcode workers together."""

    def __init__(self, house: House) -> None:
        self._house, self._timeline = house, house.timeline
        self._random = house.timeline.random
        house.broker.transcode = self._message

    # --- broadcasts ---------------------------------------------------------------------------------

    def show(self, room_id: str) -> None:
        """As of now there is a picture of this room, if a worker has a place for it."""
        found = self._house.eye.rows(
            "SELECT id, status, epoch, worker_id, lease_until FROM broadcasts WHERE room_id = ?"
            " AND status <> 'ended'",
            (room_id,),
        )
        if not found or self._random.random() < 0.05:
            return
        broadcast_id, status, epoch, worker_id, lease_until = found[0]
        now = self._house.eye.moment(self._timeline.utc())
        if lease_until is None or lease_until <= now:
            if worker_id is not None and self._random.random() < 0.9:
                self._do("renew", lambda tx, now: broadcasts.renew(tx, worker_id, [(broadcast_id, epoch)], now))
            else:
                who = self._random.choice(WORKERS)
                self._do("lease", lambda tx, now: broadcasts.take_lease(tx, broadcast_id, who, now) is not None)
                epoch += 1
        if status == "wanted":
            self._do("ready", lambda tx, now: broadcasts.ready(tx, broadcast_id, epoch, now))

    # --- recordings ---------------------------------------------------------------------------------

    def _message(self, body: bytes) -> None:
        if RECORDING_ACTOR.encode() not in body:
            return
        recording_id = msgspec.json.decode(body)["args"][0]
        for _ in range(self._random.choices((0, 1, 2), (5, 85, 10))[0]):
            delay = self._random.randrange(100, 5_000)
            self._timeline.after(delay, lambda: self._take(recording_id, self._random.choice(WORKERS)))

    def _take(self, recording_id: str, worker: str) -> None:
        def lease(tx: Any, now: Any) -> int:
            found = recording_work.take_lease(tx, recording_id, worker, now)
            return 0 if found is None else found.epoch

        answer = self._do("lease", lease)
        if not answer.ok or not answer.value:
            return
        epoch: int = answer.value
        if self._random.random() < 0.1:
            # It dies with the lease in hand, and another finds the row.
            self._timeline.after(LEASE_MS + self._random.randrange(4_000), partial(self._take_over, recording_id))
            if self._random.random() < 0.5:
                return
        ready = partial(self._again, "ready", lambda tx, now: recording_work.ready(tx, recording_id, epoch, now))
        self._timeline.after(self._random.randrange(800, 4_000), ready)

    def _take_over(self, recording_id: str) -> None:
        row = self._house.invariants.sales.recordings[recording_id]
        if row["status"] in ("wanted", "running", "finishing"):
            self._take(recording_id, self._random.choice(WORKERS))

    def changed(self, row: dict[str, Any], before: str) -> None:
        """The row says that there is something to do: to complete the file, or that nobody does so."""
        recording_id = row["id"]
        if row["status"] == "finishing":
            self._timeline.after(self._random.randrange(500, 15_000), partial(self._finish, recording_id))
        elif row["status"] == "kept" and self._random.random() < 0.12:
            lost = partial(self._again, "lost", lambda tx, now: recording_work.lost(tx, recording_id, now))
            self._timeline.after(self._random.randrange(60_000, 6 * DAY_MS), lost)
        del before

    def _finish(self, recording_id: str) -> None:
        row_of = self._house.invariants.sales.recordings
        size = 0 if self._random.random() < 0.06 else self._random.randrange(10**6, 10**8)

        def finished(tx: Any, now: Any, late: int = 0) -> None:
            epoch = row_of[recording_id]["epoch"] - late
            recording_work.finished(
                tx, recording_id, epoch, now, duration_ms=size // 100, size=size, reason="", disk_id="disk-1"
            )

        if self._random.random() < 0.1 and row_of[recording_id]["epoch"] > 1:
            # Who was taken for dead says it, too.
            self._do("finished", lambda tx, now: finished(tx, now, 1))
        self._again("finished", finished)

    # --- small things -------------------------------------------------------------------------------

    def _do(self, act: str, fn: Callable[[Any, Any], Any]) -> Any:
        return self._house.call("transcoder", f"transcode_{act}", fn)

    def _again(self, act: str, fn: Callable[[Any, Any], Any]) -> None:
        """A worker says it again until it is answered; said twice it is no harm."""
        if self._do(act, fn).lost or self._random.random() < 0.05:
            self._timeline.after(self._random.randrange(500, 5_000), partial(self._again, act, fn))
