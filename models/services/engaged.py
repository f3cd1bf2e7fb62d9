"""Whether a person is free: not in a session now, and not about to be in one that is booked.

Reads only. A caller that acts on the answer has taken the person's row (``locks.lock_people``): whoever opens
a session or books a time takes it too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BindParameter, bindparam, exists, or_, select
from sqlalchemy.orm import Session

from models.agenda import agenda_for
from models.battles import BattleRow, BattleSideRow
from models.bookings import BookingRow
from models.clock import rfc3339
from models.errors import Conflict
from models.sessions import SessionRow

# Built once: nearly every request and acceptance asks these, and building them took longer than executing them.
_ME: BindParameter[str] = bindparam("user_id")
_BATTLE = exists().where(
    BattleSideRow.creator_id == _ME,
    BattleSideRow.status == "in",
    BattleRow.id == BattleSideRow.battle_id,
    BattleRow.status == "running",
)
_SESSION = (
    select(SessionRow.id)
    .where(or_(SessionRow.fan_id == _ME, SessionRow.creator_id == _ME), SessionRow.status != "ended")
    .exists()
)
_IN_BATTLE = select(_BATTLE)
_IN_SESSION = select(or_(_SESSION, _BATTLE))
_NEXT_BOOKING = (
    select(BookingRow.starts_at)
    .where(or_(BookingRow.fan_id == _ME, BookingRow.creator_id == _ME), BookingRow.status == "booked")
    .order_by(BookingRow.starts_at)
    .limit(1)
)
_NEXT_BATTLE = (
    select(BattleRow.begins_at)
    .join(BattleSideRow, BattleSideRow.battle_id == BattleRow.id)
    .where(BattleSideRow.creator_id == _ME, BattleSideRow.status == "in", BattleRow.status == "open")
    .limit(1)
)


def in_session(tx: Session, user_id: str) -> bool:
    """Whether the person is in a session that has not ended, settling included, or in a battle that runs."""
    return bool(tx.scalar(_IN_SESSION, {"user_id": user_id}))


def in_battle(tx: Session, user_id: str) -> bool:
    """Whether the person is in a battle that runs."""
    return bool(tx.scalar(_IN_BATTLE, {"user_id": user_id}))


def in_session_at(tx: Session, user_id: str, moment: datetime, now: datetime) -> bool:
    """Whether the person's present session, if any, may go on until ``moment`` with what is paid for."""
    mine = or_(SessionRow.fan_id == user_id, SessionRow.creator_id == user_id)
    session = tx.scalar(select(SessionRow).where(mine, SessionRow.status != "ended"))
    if session is None:
        return False
    return now + timedelta(milliseconds=session.paid_ms - session.delivered_ms) > moment


def next_start(tx: Session, user_id: str, now: datetime) -> datetime | None:
    """When the person's next booking, on either side, or battle starts; one that is due and has not counts.

    ``now`` is for callers that ask about time; what is due is still ahead of whatever would begin now.
    """
    found = (tx.scalar(query, {"user_id": user_id}) for query in (_NEXT_BOOKING, _NEXT_BATTLE))
    return min((at for at in found if at is not None), default=None)


def booked_between(tx: Session, user_id: str, begins: datetime, ends: datetime, guard: timedelta) -> bool:
    """Whether a booking of the person's, on either side, takes some of this time or of the guard around it."""
    mine = or_(BookingRow.fan_id == user_id, BookingRow.creator_id == user_id)
    within = (BookingRow.starts_at < ends + guard, BookingRow.ends_at > begins - guard)
    found = select(BookingRow.id).where(mine, BookingRow.status == "booked", *within)
    return tx.scalar(found.limit(1)) is not None


def battle_between(tx: Session, user_id: str, begins: datetime, ends: datetime, guard: timedelta) -> bool:
    """Whether a battle that the person is in takes some of this time or of the guard around it."""
    entered = (
        select(BattleRow)
        .join(BattleSideRow, BattleSideRow.battle_id == BattleRow.id)
        .where(BattleSideRow.creator_id == user_id, BattleSideRow.status == "in")
    )
    battle = tx.scalar(entered.limit(1))
    if battle is None:
        return False
    first = battle.started_at or battle.begins_at
    last = battle.ends_at or first + timedelta(milliseconds=battle.limit_minutes * battle.minute_ms)
    return first < ends + guard and last > begins - guard


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
