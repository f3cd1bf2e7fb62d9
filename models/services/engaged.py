"""Whether a person is free: not in a session now, and not about to be in one that is booked.

Reads only. A caller that acts on the answer has taken the person's row (``locks.lock_people``): whoever opens
a session or books a time takes it too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models.agenda import agenda_for
from models.bookings import BookingRow
from models.clock import rfc3339
from models.errors import Conflict
from models.sessions import SessionRow


def in_session(tx: Session, user_id: str) -> bool:
    """Whether the person is in a session that has not ended, settling included."""
    mine = or_(SessionRow.fan_id == user_id, SessionRow.creator_id == user_id)
    return tx.scalar(select(SessionRow.id).where(mine, SessionRow.status != "ended").limit(1)) is not None


def in_session_at(tx: Session, user_id: str, moment: datetime, now: datetime) -> bool:
    """Whether the person's present session, if any, may go on until ``moment`` with what is paid for."""
    mine = or_(SessionRow.fan_id == user_id, SessionRow.creator_id == user_id)
    session = tx.scalar(select(SessionRow).where(mine, SessionRow.status != "ended"))
    if session is None:
        return False
    return now + timedelta(milliseconds=session.paid_ms - session.delivered_ms) > moment


def next_start(tx: Session, user_id: str, now: datetime) -> datetime | None:
    """When the person's next booking starts, on either side; one that is due and has not started counts.

    ``now`` is for callers that ask about time; what is due is still ahead of whatever would begin now.
    """
    mine = or_(BookingRow.fan_id == user_id, BookingRow.creator_id == user_id)
    first = select(BookingRow.starts_at).where(mine, BookingRow.status == "booked").order_by(BookingRow.starts_at)
    return tx.scalar(first.limit(1))


def fits_before(start: datetime | None, until: datetime, minute_ms: int) -> bool:
    """Whether something that lasts ``until`` leaves a booking at ``start`` the time that it needs before it."""
    return start is None or until <= start - agenda_for(minute_ms).guard


def require_unbooked(
    tx: Session, *, creator_id: str, fan_id: str, now: datetime, minutes: int, minute_ms: int
) -> None:
    """Refuse what would run into a booking of either; raises Conflict CREATOR_UNAVAILABLE or FAN_BOOKED.

    Both carry ``startsAt``, when the booking begins.
    """
    until = now + timedelta(milliseconds=minutes * minute_ms)
    start = next_start(tx, creator_id, now)
    if start is not None and not fits_before(start, until, minute_ms):
        raise Conflict(
            "That would run into a time that is booked with the creator.",
            code="CREATOR_UNAVAILABLE",
            starts_at=rfc3339(start),
        )
    start = next_start(tx, fan_id, now)
    if start is not None and not fits_before(start, until, minute_ms):
        raise Conflict(
            "That would run into a time that the fan has booked.", code="FAN_BOOKED", starts_at=rfc3339(start)
        )
