"""Wanting a session to end, and the deadlines by which it must have been heard of.

An end is first a wish: ``settling``, the room told to close. Media's ``CallEnded`` settles it; when none
comes in time, the last report stands.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from models.machine import move
from models.messages.commands import CloseRoom, Reason
from models.services import recording_ends, rooms
from models.services.announcements import session_changed
from models.services.locks import locked
from models.sessions import RUNNING, SessionRow
from models.settlement import AtFault, Wish
from models.timing import Timers, timers_for

# A shortened minute shortens these deadlines too, but not the time that a message takes through the broker,
# the node and a worker; below this floor they would call a busy machine a failed one.
MESSAGES_MS = 10_000

_REASONS: dict[Wish, Reason] = {
    "fan": "ENDED_BY_FAN",
    "creator": "ENDED_BY_CREATOR",
    "stream_deleted": "ENDED_BY_CREATOR",
    "payment_failed": "PAYMENT_FAILED",
    "moderation": "MODERATION",
    "outside_cut": "MEDIA_FAILURE",
}


def want_end(
    tx: Session,
    session_id: str,
    cause: Wish | None,
    *,
    by_id: str | None,
    now: datetime,
    label: Reason | None = None,
    at_fault: AtFault | None = None,
    message_id: str | None = None,
) -> CloseRoom | None:
    """Move a running session to ``settling`` and close its room; None when it is not running any more.

    ``label`` is what the people in the room are told; no bill follows from it.
    """
    session = locked(tx, SessionRow, session_id)
    if session is None or session.status not in RUNNING:
        return None
    move(
        tx,
        SessionRow,
        session.id,
        session.status,
        "settling",
        end_cause=cause,
        at_fault=at_fault,
        ended_by=by_id,
        end_label=label,
        next_hold_at=None,
        deadline_kind="settle",
        deadline_at=settle_by(session, now),
    )
    recording_ends.session_over(tx, session.id, now)
    reason = label or (_REASONS[cause] if cause else "MEDIA_FAILURE")
    command = rooms.close_room(
        tx, session.room_id, reason, cause_id=session.cause_id, now=now, message_id=message_id
    )
    session_changed(tx, session, now)
    return command


def open_by(timers: Timers, now: datetime) -> datetime:
    """When the node must have confirmed the room."""
    return _after(now, timers.open_ms)


def settle_by(session: SessionRow, now: datetime) -> datetime:
    """When the final report must have come."""
    return _after(now, timers_for(session.minute_ms).settle_ms)


def silent_by(session: SessionRow, now: datetime) -> datetime:
    """When media must have ended the session by itself: connecting, all paid time and all pauses used up."""
    timers = timers_for(session.minute_ms)
    paused_ms = session.creator_pause_ms + session.node_pause_ms
    left = session.paid_ms - session.delivered_ms + timers.pause_ms - paused_ms
    connecting = 0 if session.live_at else session.connecting_ms or timers.connecting_ms
    return now + timedelta(milliseconds=max(0, left) + connecting + timers.report_ms + MESSAGES_MS)


def _after(now: datetime, milliseconds: int) -> datetime:
    return now + timedelta(milliseconds=max(MESSAGES_MS, milliseconds))
