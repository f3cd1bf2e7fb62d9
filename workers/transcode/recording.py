"""The supervisor of recordings: private streams to which both sides have agreed, each into one file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from models import ids, log
from models.clock import utc_now
from models.db import Database
from models.services import recording_work
from models.services.leases import Lease
from workers.transcode.jobs import COMPLETE_SECONDS, HANDED_ON, PRIVATE_DIRECTORY, WHOLE, RecordingJob
from workers.transcode.supervisor import Child, Supervisor

LOST_SECONDS = 30.0
MARKER = ".recordings"


class Recording(Supervisor):
    """One recorder for each recording that this worker has the lease of."""

    prefix = f"{ids.RECORDING}_"
    program = "workers.transcode.recorder"
    stop_seconds = COMPLETE_SECONDS

    def __init__(
        self,
        db: Database,
        *,
        worker_id: str,
        root: Path,
        capacity: int,
        preset: str,
        free_bytes: int,
        egress_key: bytes,
    ) -> None:
        super().__init__(db, recording_work, worker_id=worker_id, root=root, capacity=capacity)
        self._preset = preset
        self._free_bytes = free_bytes
        self._egress_key = egress_key
        self._look_for_lost_at = 0.0

    def _job(self, lease: Lease, directory: Path) -> RecordingJob:
        self._root.chmod(PRIVATE_DIRECTORY)
        directory.chmod(PRIVATE_DIRECTORY)
        return RecordingJob(
            recording_id=lease.work_id,
            room_id=lease.room_id,
            egress_url=lease.signaling_url.rsplit("/signaling", 1)[0],
            directory=str(directory),
            epoch=lease.epoch,
            egress_key=self._egress_key,
            preset=self._preset,
            free_bytes=self._free_bytes,
        )

    def _look_after(self) -> None:
        self._stop_children()
        now = time.monotonic()
        if now >= self._look_for_lost_at:
            self._look_for_lost_at = now + LOST_SECONDS
            self._look_for_lost()

    def _look_for_lost(self) -> None:
        """What this worker has completed and is not there any more: nobody can be given it.

        A disk that is not mounted has lost nothing: it is told by a file that is made where nothing is kept yet.
        """
        with self._db.reading() as tx:
            kept = recording_work.kept_by(tx, self._worker_id)
        marker = self._root / MARKER
        if not marker.exists():
            if kept:
                log.event("recordings_not_there", level=logging.WARNING, kept=len(kept))
            else:
                marker.touch()
            return
        for recording_id in kept:
            if not (self._root / recording_id / WHOLE).exists():
                log.event("recording_lost", level=logging.WARNING, recording_id=recording_id)
                self._db.run(lambda tx, lost=recording_id: recording_work.lost(tx, lost, utc_now()))  # type: ignore[misc]

    def _stop_children(self) -> None:
        """Stop what may not be recorded any more, should its node not have done so."""
        recording = [child for child in self._children.values() if child.lease.signaling_url]
        with self._db.reading() as tx:
            stopped = set(recording_work.to_stop(tx, [child.lease.work_id for child in recording]))
        for child in recording:
            if child.lease.work_id in stopped:
                child.end()

    def _done(self, child: Child) -> None:
        said, lease = child.last_said, child.lease
        if said is None or said.type != "ended" or said.reason == HANDED_ON:
            return
        self._db.run(
            lambda tx: recording_work.finished(
                tx,
                lease.work_id,
                lease.epoch,
                utc_now(),
                duration_ms=said.duration_ms,
                size=said.size,
                reason=said.reason,
            )
        )
