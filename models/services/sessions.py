"""Private sessions: what each side sees, how either ends one, what the clock does about silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from models import log, outbox
from models.errors import Conflict, NotFound
from models.messages.events import AnyEvent, PauseCause
from models.people import PersonRow
from models.requests import PaymentMode
from models.services import media_facts, rooms
from models.services.ending import MESSAGES_MS, settle_by, want_end
from models.services.extending import MOST_MINUTES, ExtendedView, extend, hold_next_minutes
from models.services.locks import one_by_one
from models.services.receipts import Receipt, ReceiptSummary, history, receipt_of, why
from models.services.settling import bill_now, settle
from models.sessions import RUNNING, SessionRow
from models.settlement import CREATOR_LEFT, CREATOR_NO_SHOW, FAN_LEFT
from models.timing import timers_for

__all__ = [
    "Counterpart",
    "EndingNow",
    "ExtendedView",
    "Receipt",
    "ReceiptSummary",
    "SessionView",
    "current_session_of",
    "end",
    "extend",
    "history",
    "hold_next_minutes",
    "on_event",
    "open_overdue",
    "receipt_words",
    "running_sessions",
    "session_view",
    "settle_overdue",
]

MOST_AT_ONCE = 100

# Built once: the clock asks each round, and building it took longer than executing it.
_DUE = (
    select(SessionRow)
    .where(
        SessionRow.deadline_kind == bindparam("kind"),
        SessionRow.deadline_at <= bindparam("now"),
        SessionRow.status != "ended",
    )
    .order_by(SessionRow.deadline_at, SessionRow.id)
    .limit(MOST_AT_ONCE)
    .with_for_update(skip_locked=True, key_share=True)
    .execution_options(populate_existing=True)
)


class Counterpart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The other side of a session, as one may see it."""

    user_id: str
    handle: str
    display_name: str
    avatar_url: str | None


class EndingNow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What it comes to, in tokens, if the viewer ends the session now; for the fan the most it can be."""

    billed_minutes: int
    charged: int
    earnings: int
    refunded: int


class SessionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session that has not ended, for one of its two sides. Durations in milliseconds."""

    session_id: str
    request_id: str
    room_id: str
    stream_id: str
    creator_id: str
    fan_id: str
    status: Literal["connecting", "live", "paused", "settling"]
    pause_cause: PauseCause | None
    role: Literal["fan", "creator"]
    counterpart: Counterpart
    started_at: datetime
    live_at: datetime | None
    requested_minutes: int
    min_minutes: int
    minute_ms: int
    paid_ms: int
    delivered_ms: int
    creator_pause_ms: int
    node_pause_ms: int
    rate_per_minute: int
    discount_percent: int
    commission_percent: int
    total_held: int
    payment_mode: PaymentMode
    paid_minutes: int
    included_minutes: int
    unlock_price: int
    hold_refused: bool
    """Minute by minute: the next minute could not be held, so the paid ones are the last."""
    next_minute_ms: int
    """Minute by minute: the next one is held when this much is left."""
    warn_first_ms: int
    warn_last_ms: int
    most_minutes: int
    """What the session may come to with its extensions."""
    ending_now: EndingNow


def session_view(tx: Session, session_id: str, person_id: str) -> SessionView | Receipt:
    """The session as one of its sides sees it, once ended its receipt; NotFound for everybody else."""
    session = _own(tx, session_id, person_id)
    if session.status == "ended":
        return receipt_of(tx, session)
    is_fan = person_id == session.fan_id
    other = tx.get_one(PersonRow, session.creator_id if is_fan else session.fan_id)
    timers = timers_for(session.minute_ms)
    return SessionView(
        session_id=session.id,
        request_id=session.request_id,
        room_id=session.room_id,
        stream_id=session.stream_id,
        creator_id=session.creator_id,
        fan_id=session.fan_id,
        status=msgspec.convert(session.status, Literal["connecting", "live", "paused", "settling"]),
        pause_cause=msgspec.convert(session.pause_cause, PauseCause | None),
        role="fan" if is_fan else "creator",
        counterpart=Counterpart(
            user_id=other.id, handle=other.handle, display_name=other.display_name, avatar_url=other.avatar_url
        ),
        started_at=session.start_time,
        live_at=session.live_at,
        requested_minutes=session.requested_minutes,
        min_minutes=session.minimum_minutes,
        minute_ms=session.minute_ms,
        paid_ms=session.paid_ms,
        delivered_ms=session.delivered_ms,
        creator_pause_ms=session.creator_pause_ms,
        node_pause_ms=session.node_pause_ms,
        rate_per_minute=session.rate_per_minute,
        discount_percent=session.discount_percent,
        commission_percent=session.commission_percent,
        total_held=session.total_held,
        payment_mode=msgspec.convert(session.payment_mode, PaymentMode),
        paid_minutes=session.paid_minutes,
        included_minutes=session.included_minutes,
        unlock_price=session.unlock_price,
        hold_refused=session.hold_refused,
        next_minute_ms=timers.next_minute_ms,
        warn_first_ms=timers.warn_first_ms,
        warn_last_ms=timers.warn_last_ms,
        most_minutes=MOST_MINUTES,
        ending_now=_ending_now(tx, session, is_fan),
    )


def receipt_words(tx: Session, session_id: str, person_id: str) -> str:
    """Why the bill of an ended session is what it is, in a sentence; raises NotFound, Conflict SESSION_LIVE."""
    session = _own(tx, session_id, person_id)
    if session.status != "ended":
        raise Conflict("The session has not ended yet.", code="SESSION_LIVE")
    return why(session, person_id)


def end(tx: Session, session_id: str, *, by_person_id: str, now: datetime) -> None:
    """One side ends the session; again while it settles is the same.

    Raises NotFound, Conflict SESSION_NOT_LIVE.
    """
    session = _own(tx, session_id, by_person_id)
    wish: Literal["fan", "creator"] = "fan" if by_person_id == session.fan_id else "creator"
    if want_end(tx, session_id, wish, by_id=by_person_id, now=now) is not None:
        log.event("session_end_wished", session_id=session_id, cause_id=session.cause_id, by=wish)
        return
    if session.status == "ended":
        raise Conflict("The session has ended.", code="SESSION_NOT_LIVE", status=session.status)


def on_event(tx: Session, event: AnyEvent, now: datetime) -> None:
    """Take in a fact from a media node. Safe to repeat, in any order."""
    media_facts.take(tx, event, now)


def open_overdue(tx: Session, now: datetime) -> int:
    """Sessions whose room no node confirmed: our failure, everything back. How many."""

    def give_back(session: SessionRow) -> None:
        log.event("session_never_opened", logging.WARNING, session_id=session.id, cause_id=session.cause_id)
        rooms.close_room(tx, session.room_id, "MEDIA_FAILURE", cause_id=session.cause_id, now=now)
        settle(tx, session, None, now)

    return one_by_one(tx, _due(tx, now, "open"), give_back)


def settle_overdue(tx: Session, now: datetime) -> int:
    """Sessions that went silent are wanted to end; those without a final report settle by the last one.

    While the broker is away the node can neither be told to stop nor say what it delivered: its budget is
    not given back under it, the time for its report begins when the command has left, or after a day.
    """
    silent = _due(tx, now, "silent")
    for session in silent:
        log.event("session_silent", logging.WARNING, session_id=session.id, cause_id=session.cause_id)
        want_end(tx, session.id, None, by_id=None, now=now)
    command_holds = now - timedelta(seconds=rooms.CLOSE_WITHIN_SECONDS)
    overdue = []
    for session in _due(tx, now + timedelta(milliseconds=MESSAGES_MS), "settle"):
        if outbox.command_waits(tx, session.cause_id, command_holds):
            session.deadline_at = settle_by(session, now)
        elif session.deadline_at is not None and session.deadline_at <= now:
            overdue.append(session)

    def last_one_stands(session: SessionRow) -> None:
        log.event("no_final_report", logging.WARNING, session_id=session.id, cause_id=session.cause_id)
        settle(tx, session, None, now)

    return len(silent) + one_by_one(tx, overdue, last_one_stands)


def running_sessions(tx: Session) -> tuple[str, ...]:
    """Ids of the sessions in which media may be flowing."""
    return tuple(tx.scalars(select(SessionRow.id).where(SessionRow.status.in_(RUNNING)).order_by(SessionRow.id)))


def current_session_of(tx: Session, person_id: str) -> str | None:
    """The session that the person is in, if any."""
    return tx.scalar(
        select(SessionRow.id).where(
            or_(SessionRow.fan_id == person_id, SessionRow.creator_id == person_id),
            SessionRow.status.in_(RUNNING),
        )
    )


def _own(tx: Session, session_id: str, person_id: str) -> SessionRow:
    session = tx.get(SessionRow, session_id, populate_existing=True)
    if session is None or person_id not in (session.fan_id, session.creator_id):
        raise NotFound("There is no such session.")
    return session


def _due(tx: Session, now: datetime, kind: str) -> Sequence[SessionRow]:
    """Taken for oneself; what another clock has taken is left to it."""
    return tx.scalars(_DUE, {"kind": kind, "now": now}).all()


def _ending_now(tx: Session, session: SessionRow, is_fan: bool) -> EndingNow:
    # Whether the creator will be found connected is media's to say; till then the fan sees the most.
    fans_row = FAN_LEFT if session.opened_at else CREATOR_NO_SHOW
    row = fans_row if is_fan else CREATOR_LEFT
    result = bill_now(tx, session, row)
    return EndingNow(
        billed_minutes=result.billed_minutes,
        charged=result.charged,
        earnings=result.earnings,
        refunded=result.refunded,
    )
