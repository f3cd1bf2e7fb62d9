"""The supervisor of recordings: private streams to which both sides have agreed, each into one file."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

from models import egress_tickets, ids, log
from models.clock import utc_now
from models.db import Database
from models.services import recording_work
from models.services.leases import Lease
from workers.transcode.jobs import COMPLETE_SECONDS, HANDED_ON, PRIVATE_DIRECTORY, WHOLE, RecordingJob, Said
from workers.transcode.supervisor import Child, Supervisor

LOST_SECONDS = 30.0
MARKER = ".recordings"
_DISK_NAME = re.compile("[0-9a-f]{32}", re.ASCII)


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
            egress_key=egress_tickets.room_key(self._egress_key, lease.room_id),
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

        A disk that is not mounted has lost nothing. Each has a name, in a marker that is made with the first
        recording on it: what should be on another disk than the one that is here is away, for as long as nobody
        declares that disk lost (``flask --app web recordings lost``).
        """
        with self._db.reading() as tx:
            kept = recording_work.kept_by(tx, self._worker_id)
        here, away = self._disk_id(), Counter[str]()
        for recording_id, disk_id in kept.items():
            if (self._root / recording_id / WHOLE).exists():
                continue
            if here is None or disk_id != here:
                away[disk_id] += 1
                continue
            log.event("recording_lost", level=logging.WARNING, recording_id=recording_id)
            self._db.run(lambda tx, lost=recording_id: recording_work.lost(tx, lost, utc_now()))  # type: ignore[misc]
        for disk_id, number in away.items():
            named = {"disk_id": disk_id or "unnamed", "here": here, "kept": len(kept), "away": number}
            log.event("recordings_not_there", level=logging.WARNING, **named)

    def _disk_id(self) -> str | None:
        """The name of the disk that is here; None where nothing was ever recorded, or its name cannot be read."""
        try:
            name = (self._root / MARKER).read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            log.event("recordings_unnamed", level=logging.WARNING, error=type(error).__name__)
            return None
        if _DISK_NAME.fullmatch(name) is None:
            log.event("recordings_unnamed", level=logging.WARNING, error="NotAName")
            return None
        return name

    def _name_disk(self) -> str | None:
        """The same, of a disk that something has just been recorded on; None when it takes no name, being full."""
        if (here := self._disk_id()) is not None:
            return here
        here = uuid4().hex
        # Whole or not at all. Two workers that name it at once disagree about one recording, which is then never
        # taken for lost.
        made = self._root / f"{MARKER}.{here}"
        try:
            made.write_text(here)
            os.replace(made, self._root / MARKER)
        except OSError as error:
            # What is kept on it is kept all the same, and never taken for lost.
            log.event("recordings_unnamed", level=logging.WARNING, error=type(error).__name__)
            return None
        return here

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
        self._finish(lease, said)

    def _finish(self, lease: Lease, said: Said) -> None:
        disk_id = self._name_disk() if said.size else None
        self._db.run(
            lambda tx: recording_work.finished(
                tx,
                lease.work_id,
                lease.epoch,
                utc_now(),
                duration_ms=said.duration_ms,
                size=said.size,
                reason=said.reason,
                disk_id=disk_id,
            )
        )
