"""What transcode workers do with recordings: lease them, say what is on disk, and stop when they must.

A lease taken while both consents stand carries the permission of the room's node with it: without a worker
that is about to record, no node hands anything out. Knows no files and no ffmpeg.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.machine import move
from models.messages.commands import PermitRecording
from models.recordings import STANDING, WORKED_ON, RecordingRow
from models.services import leases, recording_ends
from models.services.leases import Lease
from models.services.locks import locked
from models.services.recording_sales import owe_refund
from models.streams import RoomRow

PERMIT_WITHIN_SECONDS = 10
STOPS = {"NO_SPACE": "no_space"}
"""Why a child stopped by itself: the reason that people are told. Anything else is ``stopped``."""


def take_lease(tx: Session, recording_id: str, worker_id: str, now: datetime) -> Lease | None:
    """The lease of this recording, if nobody holds it; its node, told in the same transaction, permits it.

    Without an address, where nothing may be recorded any more and only its file is to be completed.
    """
    row = leases.free(tx, RecordingRow, recording_id, WORKED_ON, now)
    if row is None:
        return None
    url = leases.node_url(tx, row.room_id) if row.status in STANDING else ""
    if url is None:
        return None
    lease = leases.hold(tx, row, worker_id, url, now)
    if row.status in STANDING:
        _permit(tx, row, now)
    log.event("recording_leased", recording_id=row.id, session_id=row.session_id, epoch=row.epoch)
    return lease


def take_over(
    tx: Session, worker_id: str, most: int, now: datetime, *, besides: Collection[str] = ()
) -> list[Lease]:
    """Leases of up to ``most`` recordings that nobody works on, but none of ``besides``; the oldest first."""
    found = leases.waiting(tx, RecordingRow, WORKED_ON, most, now, besides)
    taken = (take_lease(tx, recording_id, worker_id, now) for recording_id in found)
    return [lease for lease in taken if lease is not None]


def renew(tx: Session, worker_id: str, held: Collection[tuple[str, int]], now: datetime) -> set[str]:
    """Prolong the leases of these (recording, epoch); the ids of those that are still this worker's."""
    return leases.renew(tx, RecordingRow, WORKED_ON, worker_id, held, now)


def give_back(tx: Session, recording_id: str, worker_id: str, epoch: int, now: datetime) -> None:
    """The worker stops working on it, and another may begin at once."""
    leases.give_back(tx, RecordingRow, WORKED_ON, recording_id, worker_id, epoch, now)


def forget_leases(tx: Session, worker_id: str, now: datetime) -> None:
    """A worker begins a new life: what its former one held is free."""
    leases.forget(tx, RecordingRow, WORKED_ON, worker_id, now)


def still_open(tx: Session, recording_ids: Collection[str]) -> Sequence[str]:
    """For which of these there is still something to do."""
    return leases.still_open(tx, RecordingRow, WORKED_ON, recording_ids)


def to_stop(tx: Session, recording_ids: Collection[str]) -> Sequence[str]:
    """Which of these may not be recorded any more, whatever their node still hands out."""
    return leases.still_open(tx, RecordingRow, ("finishing", "kept", "gone"), recording_ids)


def worth_keeping(tx: Session, recording_ids: Collection[str], now: datetime, *, seconds: float) -> set[str]:
    """Which of these have files that somebody may still watch, or that are being made. None is kept longer."""
    wanted = select(RecordingRow.id).where(RecordingRow.id.in_(recording_ids), RecordingRow.status != "gone")
    return set(tx.scalars(wanted))


def ready(tx: Session, recording_id: str, epoch: int, now: datetime) -> None:
    """Something is on disk; said by the holder of the lease, once per epoch."""
    row = locked(tx, RecordingRow, recording_id)
    if row is not None and row.epoch == epoch and row.status == "wanted":
        move(tx, RecordingRow, row.id, "wanted", "running", started_at=now)
        recording_ends.changed(tx, row, now)


def finished(
    tx: Session,
    recording_id: str,
    epoch: int,
    now: datetime,
    *,
    duration_ms: int,
    size: int,
    reason: str,
    disk_id: str | None = None,
) -> None:
    """Its file is complete, on that disk; ``size`` 0: nothing was recorded. Said by the holder of the lease; again
    is harmless.

    A child that stopped by itself, for want of space or since its room may not be read, stops the recording.
    """
    row = locked(tx, RecordingRow, recording_id)
    if row is None or row.epoch != epoch or row.status not in WORKED_ON:
        return
    if row.status in STANDING:
        recording_ends.stop(tx, row, STOPS.get(reason, "stopped"), now)
        recording_ends.tell_node(tx, row, now)
    if size == 0:
        recording_ends.gone(tx, row, "not_started", now)
        return
    move(
        tx,
        RecordingRow,
        row.id,
        "finishing",
        "kept",
        duration_ms=duration_ms,
        size=size,
        disk_id=disk_id,
        expires_at=now + timedelta(days=row.keep_days),
    )
    log.event("recording_kept", recording_id=row.id, session_id=row.session_id, duration_ms=duration_ms)
    recording_ends.changed(tx, row, now)


def kept_by(tx: Session, worker_id: str) -> dict[str, str]:
    """Recordings that this worker has completed and that can be watched: their ids, and the disk each is on."""
    mine = select(RecordingRow.id, RecordingRow.disk_id)
    kept = mine.where(RecordingRow.status == "kept", RecordingRow.worker_id == worker_id)
    return {id_: disk_id or "" for id_, disk_id in tx.execute(kept.order_by(RecordingRow.id))}


def on_disks(tx: Session) -> dict[str | None, list[str]]:
    """All recordings that can be watched, by the disk that each is on; None: those whose disk took no name."""
    kept = select(RecordingRow.disk_id, RecordingRow.id).where(RecordingRow.status == "kept")
    found: dict[str | None, list[str]] = {}
    for disk_id, recording_id in tx.execute(kept.order_by(RecordingRow.id)):
        found.setdefault(disk_id, []).append(recording_id)
    return found


def lost(tx: Session, recording_id: str, now: datetime) -> None:
    """Its file is not where it should be: it cannot be given, and who paid for it is given back."""
    row = locked(tx, RecordingRow, recording_id)
    if row is None or row.status != "kept":
        return
    recording_ends.gone(tx, row, "lost", now)
    owe_refund(tx, row, now)


def _permit(tx: Session, row: RecordingRow, now: datetime) -> None:
    node_id = tx.scalar(select(RoomRow.node_id).where(RoomRow.id == row.room_id))
    if node_id is None:
        return
    outbox.command(
        tx,
        node_id,
        PermitRecording(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=row.session_id,
            deadline_at=(now + timedelta(seconds=PERMIT_WITHIN_SECONDS)).timestamp(),
            room_id=row.room_id,
            session_id=row.session_id,
            recording_id=row.id,
            epoch=row.epoch,
        ),
        now=now,
    )
