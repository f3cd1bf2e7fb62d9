"""How recordings stop and how they go: by either side, with their session, with time, for want of a worker.

Whoever ends a session needs only this. A row that is ``gone`` cannot be watched from that moment; the
transcode worker then removes its file.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.machine import move
from models.messages.commands import StopRecording
from models.recordings import STANDING, RecordingRow
from models.services.announcements import tell
from models.services.locks import one_by_one
from models.streams import RoomRow

STOP_WITHIN_SECONDS = 86_400
UNSTARTED_SECONDS = 30
"""Both agreed, and in this time nothing was recorded: no worker is there, or none has a place."""
MOST_AT_ONCE = 100


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is in the outbox, for whoever wants to send it at once and wait for the answer."""

    command: StopRecording
    node_id: str


def of(session_id: str) -> Select[RecordingRow]:
    """Selects the session's recording, as it is now."""
    found = select(RecordingRow).where(RecordingRow.session_id == session_id)
    return found.execution_options(populate_existing=True)


def changed(tx: Session, row: RecordingRow, now: datetime) -> None:
    """Both sides look again."""
    for person_id in (row.fan_id, row.creator_id):
        tell(tx, person_id, "RECORDING_CHANGED", now, sessionId=row.session_id, status=row.status)


def session_over(tx: Session, session_id: str, now: datetime) -> None:
    """The session ends, and with it whatever was asked or recorded. The caller has locked the session."""
    row = tx.scalar(of(session_id).with_for_update(key_share=True))
    if row is None:
        return
    if row.status == "asked":
        gone(tx, row, "not_started", now)
    elif row.status in STANDING:
        stop(tx, row, "session_over", now)


def stop(tx: Session, row: RecordingRow, reason: str, now: datetime, *, by_id: str | None = None) -> None:
    """Nothing more may be recorded; what there is, is completed. The caller has locked the row."""
    row.stopped_at, row.stop_reason, row.stopped_by = now, reason, by_id
    tx.flush()
    log.event("recording_stopped", recording_id=row.id, session_id=row.session_id, reason=reason)
    if row.epoch == 0:
        # No worker has ever touched it: there is nothing to complete.
        gone(tx, row, "not_started", now)
        return
    move(tx, RecordingRow, row.id, row.status, "finishing")
    changed(tx, row, now)


def tell_node(tx: Session, row: RecordingRow, now: datetime) -> Told | None:
    """Have the room's node hand out nothing more of it; None when the room is on no node any more."""
    node_id = tx.scalar(select(RoomRow.node_id).where(RoomRow.id == row.room_id, RoomRow.status != "closed"))
    if node_id is None:
        return None
    command = StopRecording(
        message_id=ids.new_id(ids.MESSAGE),
        cause_id=row.session_id,
        deadline_at=(now + timedelta(seconds=STOP_WITHIN_SECONDS)).timestamp(),
        room_id=row.room_id,
        session_id=row.session_id,
        recording_id=row.id,
    )
    outbox.command(tx, node_id, command, now=now)
    return Told(command=command, node_id=node_id)


def gone(tx: Session, row: RecordingRow, reason: str, now: datetime, *, by_id: str | None = None) -> None:
    """It cannot be watched from now on. The caller has locked the row."""
    move(tx, RecordingRow, row.id, row.status, "gone", gone_at=now, gone_reason=reason, gone_by=by_id)
    log.event("recording_gone", recording_id=row.id, session_id=row.session_id, reason=reason)
    changed(tx, row, now)


def expire_due(tx: Session, now: datetime) -> int:
    """Recordings whose days are over; how many."""

    def expire(row: RecordingRow) -> None:
        gone(tx, row, "expired", now)

    return _each(tx, (RecordingRow.status == "kept", RecordingRow.expires_at <= now), expire)


def give_up_due(tx: Session, now: datetime) -> int:
    """Both agreed, and nobody came to record: said, rather than waited for. How many."""

    def give_up(row: RecordingRow) -> None:
        stop(tx, row, "no_recorder", now)
        tell_node(tx, row, now)

    since = now - timedelta(seconds=UNSTARTED_SECONDS)
    return _each(tx, (RecordingRow.status == "wanted", RecordingRow.wanted_at <= since), give_up)


def _each(tx: Session, which: tuple[ColumnElement[bool], ...], act: Callable[[RecordingRow], None]) -> int:
    rows = tx.scalars(
        select(RecordingRow)
        .where(*which)
        .order_by(RecordingRow.id)
        .limit(MOST_AT_ONCE)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return one_by_one(tx, rows, act)
