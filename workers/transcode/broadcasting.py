"""The supervisor of broadcasts: HLS and DASH of public rooms, and who may not watch them any more."""

from __future__ import annotations

import os
from pathlib import Path

from models import egress_tickets, ids
from models.db import Database
from models.services import broadcasts, spectating
from models.services.leases import Lease
from models.spectator_addresses import BARRED, barred_name
from workers.transcode.jobs import Job
from workers.transcode.supervisor import Child, Supervisor


class Broadcasting(Supervisor):
    """One child for each broadcast that this worker has the lease of."""

    prefix = f"{ids.BROADCAST}_"
    program = "workers.transcode.child"

    def __init__(
        self,
        db: Database,
        *,
        worker_id: str,
        root: Path,
        capacity: int,
        preset: str,
        low_latency: bool,
        spectators_key: bytes,
        egress_key: bytes,
    ) -> None:
        super().__init__(db, broadcasts, worker_id=worker_id, root=root, capacity=capacity)
        self._preset = preset
        self._low_latency = low_latency
        self._spectators_key = spectators_key
        self._egress_key = egress_key

    def _job(self, lease: Lease, directory: Path) -> Job:
        return Job(
            broadcast_id=lease.work_id,
            room_id=lease.room_id,
            egress_url=lease.signaling_url.rsplit("/signaling", 1)[0],
            directory=str(directory),
            epoch=lease.epoch,
            egress_key=egress_tickets.room_key(self._egress_key, lease.room_id),
            low_latency=self._low_latency,
            preset=self._preset,
        )

    def _look_after(self) -> None:
        """Let whoever serves the files see who is barred: a file for each, and none for what has ended."""
        barred = self._root / BARRED
        barred.mkdir(parents=True, exist_ok=True)
        with self._db.reading() as tx:
            found = spectating.barred(tx, self._spectators_key)
        wanted = {barred_name(broadcast_id, viewer_id) for broadcast_id, viewer_id in found}
        there = set(os.listdir(barred))
        for name in wanted - there:
            (barred / name).touch()
        for name in there - wanted:
            (barred / name).unlink(missing_ok=True)

    def _done(self, child: Child) -> None:
        """Nothing: its playlists are closed, and its room's end has ended the broadcast."""
