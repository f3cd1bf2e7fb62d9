"""More time for a running session: the fan's extension, and the next minute of a call paid minute by minute.

Tokens are held first, then the node is told; what media never acknowledges is not billed (``settlement.bill``)
and comes back when the session is settled. Each change takes both people's rows, then the session's.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from models import ids, ledger, log, outbox, pricing
from models.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired
from models.messages.commands import GrantBudget
from models.postings import first_transfer
from models.services import engaged, rooms
from models.services.announcements import balance_changed, session_changed, tell
from models.services.ending import silent_by
from models.services.locks import lock_people, locked, one_by_one
from models.sessions import SessionRow
from models.timing import timers_for

MOST_MINUTES = pricing.SESSION_MINUTES[-1]
MOST_AT_ONCE = 100
EXTENDABLE = ("live", "paused")


class ExtendedView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the session is paid for now, in all, and what the fan has left to spend, in tokens."""

    paid_minutes: int
    balance: int


def extend(
    tx: Session, session_id: str, *, fan_id: str, minutes: int, key: str, now: datetime
) -> ExtendedView:
    """Hold for ``minutes`` more at the session's rate and have the node go on; again with ``key`` is the same.

    Raises NotFound, Invalid, Conflict (SESSION_NOT_LIVE, CREATOR_UNAVAILABLE, FAN_BOOKED), PaymentRequired,
    Forbidden (SPENDING_FROZEN, SPENDING_CAP).
    """
    session = _taken(tx, session_id)
    if session is None or session.fan_id != fan_id:
        raise NotFound("There is no such session.")
    key = f"extend:{session.id}:{key}"
    if first_transfer(tx, key, "hold", session.request_id) is None:
        if session.status not in EXTENDABLE:
            raise Conflict("The call is not running.", code="SESSION_NOT_LIVE", status=session.status)
        _check_minutes(session, minutes)
        _require_unbooked(tx, session, minutes, now)
        _add(tx, session, minutes, key, now)
        log.event("session_extended", session_id=session.id, cause_id=session.cause_id, minutes=minutes)
    balance = ledger.balance(tx, ledger.account_id("wallet", fan_id))
    return ExtendedView(paid_minutes=session.paid_minutes, balance=balance)


# Built once: the clock asks each round, and building it took longer than executing it.
_DUE = (
    select(SessionRow.id, SessionRow.fan_id, SessionRow.creator_id)
    .where(SessionRow.next_hold_at <= bindparam("now"))
    .order_by(SessionRow.next_hold_at, SessionRow.id)
    .limit(MOST_AT_ONCE)
)


def hold_next_minutes(tx: Session, now: datetime) -> int:
    """Minute by minute: hold the next one where the paid ones are nearly used up; how many were dealt with."""
    due = tx.execute(_DUE, {"now": now}).all()
    if not due:
        return 0
    lock_people(tx, *{person_id for _, *people in due for person_id in people})
    rows = [row for session_id, *_ in due if (row := locked(tx, SessionRow, session_id)) is not None]
    return one_by_one(tx, rows, lambda session: _next_minute(tx, session, now))


def next_hold_at(session: SessionRow, now: datetime) -> datetime | None:
    """When the next minute is to be held, by a report taken in now; None while nothing is to be held."""
    if session.payment_mode != "per_minute" or session.status != "live" or session.hold_refused:
        return None
    if session.paid_minutes >= MOST_MINUTES:
        return None
    left_ms = session.paid_ms - session.delivered_ms - timers_for(session.minute_ms).next_minute_ms
    return now + timedelta(milliseconds=max(0, left_ms))


def tell_of_lost(tx: Session, session: SessionRow, now: datetime) -> None:
    """The call ended before an extension reached it: the fan learns what came back."""
    minutes = lost_minutes(session)
    if minutes:
        tokens = minutes * session.rate_per_minute
        tell(
            tx,
            session.fan_id,
            "EXTENSION_RETURNED",
            now,
            sessionId=session.id,
            minutes=minutes,
            tokens=tokens,
        )


def lost_minutes(session: SessionRow) -> int:
    """Minutes of extensions that were held for and that media never acknowledged."""
    if session.payment_mode != "prepaid":
        return 0
    first = max(session.requested_minutes, session.minimum_minutes)
    acknowledged = session.acknowledged_ms // session.minute_ms
    return session.paid_minutes - acknowledged if acknowledged >= first else 0


def _next_minute(tx: Session, session: SessionRow, now: datetime) -> None:
    """One minute, once: the row that was seen due may have moved on since."""
    if session.next_hold_at is None or session.next_hold_at > now or next_hold_at(session, now) is None:
        session.next_hold_at = None
        return
    session.next_hold_at = None
    number = session.paid_minutes + 1
    try:
        _require_unbooked(tx, session, 1, now)
    except Conflict:
        # Not for want of tokens: the paid minutes are the last, and say so by running out.
        log.event("next_minute_booked", session_id=session.id, cause_id=session.cause_id)
        return
    try:
        with tx.begin_nested():
            _add(tx, session, 1, f"minute:{session.id}:{number}", now)
    except (PaymentRequired, Forbidden) as refusal:
        tx.refresh(session)
        session.next_hold_at, session.hold_refused = None, True
        tx.flush()
        _grant(tx, session, now)
        session_changed(tx, session, now)
        log.event("next_minute_refused", session_id=session.id, cause_id=session.cause_id, code=refusal.code)
        return
    log.event("next_minute_held", session_id=session.id, cause_id=session.cause_id, number=number)


def _add(tx: Session, session: SessionRow, minutes: int, key: str, now: datetime) -> None:
    """Hold for ``minutes`` and tell the node. Refusals come before the first change."""
    cost = pricing.checked_amount(session.rate_per_minute * minutes)
    ledger.hold(
        tx,
        session.fan_id,
        cost,
        key=key,
        reference=session.request_id,
        cause_id=session.cause_id,
        now=now,
    )
    session.paid_minutes += minutes
    session.paid_ms = session.paid_minutes * session.minute_ms
    session.total_held += cost
    session.hold_refused = False
    session.next_hold_at = next_hold_at(session, now)
    session.deadline_kind, session.deadline_at = "silent", silent_by(session, now)
    tx.flush()
    _grant(tx, session, now)
    session_changed(tx, session, now)
    balance_changed(tx, session.fan_id, now)


def _grant(tx: Session, session: SessionRow, now: datetime) -> None:
    """Late is harmless: the highest figure counts, and an ended call takes none."""
    if session.node_id is None:
        raise RuntimeError("a running session is on a node")
    outbox.command(
        tx,
        session.node_id,
        GrantBudget(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=session.cause_id,
            deadline_at=(now + timedelta(seconds=rooms.CLOSE_WITHIN_SECONDS)).timestamp(),
            room_id=session.room_id,
            session_id=session.id,
            paid_ms=session.paid_ms,
            spent_reason=rooms.spent_reason(session),
        ),
        now=now,
    )


def _check_minutes(session: SessionRow, minutes: int) -> None:
    if isinstance(minutes, bool) or not isinstance(minutes, int) or minutes not in pricing.REQUESTED_MINUTES:
        raise Invalid("Choose 1 to 240 minutes.", field="minutes")
    left = MOST_MINUTES - session.paid_minutes
    if minutes > left:
        raise Invalid(
            f"A call lasts {MOST_MINUTES} minutes at most; {left} more can be added.", field="minutes"
        )


def _require_unbooked(tx: Session, session: SessionRow, minutes: int, now: datetime) -> None:
    left_ms = session.paid_ms - session.delivered_ms
    engaged.require_unbooked(
        tx,
        creator_id=session.creator_id,
        fan_id=session.fan_id,
        now=now,
        minutes=minutes + -(-left_ms // session.minute_ms),
        minute_ms=session.minute_ms,
    )


def _taken(tx: Session, session_id: str) -> SessionRow | None:
    """Both people, then the session: the order of ``locks``."""
    seen = tx.get(SessionRow, session_id)
    if seen is None:
        return None
    lock_people(tx, seen.fan_id, seen.creator_id)
    return locked(tx, SessionRow, session_id)
