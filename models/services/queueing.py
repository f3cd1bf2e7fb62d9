"""The queue of a busy creator: who waits, in which order, whose turn it is.

A request waits as ``queued`` with its hold. When the creator is free the first of the queue is called: its fan
has a minute to confirm again, then it is ``pending`` like any other. One is called at a time, by the clock
alone (``call_waiting``), so that a settlement never depends on the queue and nobody is forgotten whatever ended
a session. Must not accept anything: that is ``acceptance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from models import log, outbox
from models.agenda import agenda_for
from models.bookings import BookingRow
from models.errors import Conflict, NotFound
from models.machine import move
from models.people import BlockRow, PersonRow
from models.requests import OPEN, RequestRow
from models.services import engaged, offers, presence, subscriptions
from models.services.announcements import tell
from models.services.closing import Because, close_request, open_requests
from models.services.locks import lock_people, locked, one_by_one
from models.sessions import SessionRow
from models.streams import CreatorSettingsRow, StreamRow
from models.timing import timers_for

RULES_QUEUE = "rules"
RULES_ACTOR = "apply_auto_accept"
LONGEST_QUEUE = 50
MOST_AT_ONCE = 100

# Built once: the clock asks these each round, and building them took longer than executing them.
_OTHER = aliased(RequestRow)
_HAS_TURN = exists().where(
    _OTHER.creator_id == RequestRow.creator_id, _OTHER.status.in_(OPEN), _OTHER.turn_at.is_not(None)
)
_BUSY = exists().where(SessionRow.creator_id == RequestRow.creator_id, SessionRow.status != "ended")
_IDLE = (
    select(RequestRow.creator_id)
    .where(RequestRow.status == "queued", RequestRow.turn_at.is_(None), ~_HAS_TURN, ~_BUSY)
    .distinct()
    .order_by(RequestRow.creator_id)
    .limit(MOST_AT_ONCE)
)
_BLOCKED = exists().where(BlockRow.creator_id == RequestRow.creator_id, BlockRow.fan_id == RequestRow.fan_id)
_FROZEN = exists().where(PersonRow.id == RequestRow.fan_id, PersonRow.spending_frozen_at.is_not(None))
_IMPOSSIBLE = (
    select(RequestRow)
    .where(RequestRow.status.in_(OPEN), _BLOCKED | _FROZEN)
    .order_by(RequestRow.id)
    .limit(MOST_AT_ONCE)
    .with_for_update(skip_locked=True, key_share=True, of=RequestRow)
    .execution_options(populate_existing=True)
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a new request begins."""

    status: Literal["pending", "queued"]
    expires_at: datetime


def place(tx: Session, stream: StreamRow, *, now: datetime, minute_ms: int, at_once: bool = False) -> Place:
    """Where a request on this stream begins; ``at_once``: it is not one that waits (instant unlock).

    The caller has locked the stream's row, shared. Raises Conflict STREAM_NOT_LIVE, CREATOR_BUSY.
    """
    if stream.status == "ended":
        raise Conflict("The creator is not live.", code="STREAM_NOT_LIVE")
    in_session = engaged.in_session(tx, stream.creator_id)
    busy = in_session or stream.status != "live"
    queue = _queue_is_on(tx, stream.creator_id)
    if not busy and (at_once or not queue or _waiting(tx, stream.creator_id) == 0):
        return Place(status="pending", expires_at=now + _ms(timers_for(minute_ms).answer_ms))
    if queue and not at_once and not _of_a_booking(tx, stream.id):
        if _waiting(tx, stream.creator_id) >= LONGEST_QUEUE:
            raise Conflict("The creator's queue is full.", code="CREATOR_BUSY")
        return Place(status="queued", expires_at=now + agenda_for(minute_ms).wait)
    if in_session:
        raise Conflict("The creator is in a private stream.", code="CREATOR_BUSY")
    raise Conflict("The creator is not live.", code="STREAM_NOT_LIVE")


def is_open(tx: Session, stream_id: str, creator_id: str) -> bool:
    """Whether requests may wait on this stream while its creator is busy."""
    return _queue_is_on(tx, creator_id) and not _of_a_booking(tx, stream_id)


def ahead_first(tx: Session, creator_id: str, rows: Sequence[RequestRow], now: datetime) -> list[RequestRow]:
    """``rows`` of one creator in the order in which they come to their turn; the called one is first."""
    priority = offers.get_options(tx, creator_id).request_priority
    subscribers: set[str] = set()
    if priority == "subscribers_first":
        subscribers = subscriptions.subscribers_among(tx, creator_id, {row.fan_id for row in rows}, now)

    def rank(row: RequestRow) -> tuple[bool, int, datetime, str]:
        value = 0
        if priority == "subscribers_first":
            value = 0 if row.fan_id in subscribers else 1
        elif priority == "highest_total":
            value = -_worth(row)
        return (row.turn_at is None, value, row.created_at, row.id)

    return sorted(rows, key=rank)


def positions(tx: Session, creator_id: str, now: datetime) -> dict[str, int]:
    """Queued request → its place in the creator's queue, from 1."""
    rows = tx.scalars(
        select(RequestRow).where(RequestRow.creator_id == creator_id, RequestRow.status == "queued")
    ).all()
    return {row.id: at for at, row in enumerate(ahead_first(tx, creator_id, rows, now), start=1)}


def position(tx: Session, row: RequestRow, now: datetime) -> int | None:
    """The request's place in the queue, from 1; None when it does not wait there."""
    return positions(tx, row.creator_id, now).get(row.id) if row.status == "queued" else None


def call_next(tx: Session, creator_id: str, now: datetime) -> str | None:
    """Offer a free creator's time to the next who can take it; the request's id, or None.

    Nobody is called while another has the turn, while the creator is busy or away. A fan who is away, in a
    call, or whose minutes would run into a booking keeps the place and is passed over for now.
    """
    lock_people(tx, creator_id)
    stream_id = tx.scalar(
        select(StreamRow.id).where(StreamRow.creator_id == creator_id, StreamRow.status != "ended")
    )
    if stream_id is None or engaged.in_session(tx, creator_id):
        return None
    rows = open_requests(tx, creator_id=creator_id)
    if any(row.turn_at is not None for row in rows):
        return None
    waiting = [row for row in rows if row.status == "queued" and row.expires_at > now]
    row = _first_able(tx, creator_id, waiting, now)
    if row is None:
        return None
    row.turn_at, row.expires_at = now, now + agenda_for(row.minute_ms).turn
    tx.flush()
    creator = tx.get_one(PersonRow, creator_id)
    turn_ms = (row.expires_at - now) // _ms(1)
    tell(
        tx,
        row.fan_id,
        "PRIVATE_TURN",
        now,
        requestId=row.id,
        handle=creator.handle,
        name=creator.display_name,
        remainingMs=turn_ms,
    )
    tell_positions(tx, creator_id, now)
    log.event("queue_called", request_id=row.id, cause_id=row.cause_id)
    return row.id


def reconfirm(tx: Session, request_id: str, *, fan_id: str, now: datetime) -> RequestRow:
    """The fan whose turn it is still wants to: the request is pending, at the price that it was made at.

    Once more is the same. Raises NotFound, Conflict REQUEST_NOT_PENDING or NOT_YOUR_TURN.
    """
    row = locked(tx, RequestRow, request_id)
    if row is None or row.fan_id != fan_id:
        raise NotFound("There is no such request.")
    if row.status not in OPEN or row.expires_at <= now:
        status = "expired" if row.status in OPEN else row.status
        raise Conflict("The request is not waiting any more.", code="REQUEST_NOT_PENDING", status=status)
    if row.status == "pending":
        return row
    if row.turn_at is None:
        raise Conflict("It is not your turn yet.", code="NOT_YOUR_TURN")
    expires_at = now + _ms(timers_for(row.minute_ms).answer_ms)
    move(tx, RequestRow, row.id, "queued", "pending", expires_at=expires_at)
    ask_rules(tx, row, now)
    handle = tx.get_one(PersonRow, fan_id).handle
    tell(
        tx,
        row.creator_id,
        "PRIVATE_REQUESTED",
        now,
        requestId=row.id,
        handle=handle,
        minutes=row.requested_minutes,
        totalCost=row.total_cost,
    )
    tell_positions(tx, row.creator_id, now)
    return row


def why_expired(row: RequestRow) -> Because | None:
    """Why the time of an open request is up; None: its creator did not answer."""
    if row.status != "queued":
        return None
    return "wait_over" if row.turn_at is None else "turn_missed"


def ask_rules(tx: Session, row: RequestRow, now: datetime) -> None:
    """Have the creator's auto-accept rule look at a request that is pending from now on."""
    outbox.actor(tx, RULES_QUEUE, RULES_ACTOR, row.id, cause_id=row.cause_id, now=now)


def send_back(tx: Session, creator_id: str, now: datetime) -> None:
    """The creator is busy from now on: whoever asks waits in the queue, or is let go where there is none.

    Also whose turn it was. The half hour counts from when they asked. The caller has locked the creator.
    """
    queue = _queue_is_on(tx, creator_id)
    for row in open_requests(tx, creator_id=creator_id):
        until = row.created_at + agenda_for(row.minute_ms).wait
        if not queue:
            close_request(tx, row, "declined", now, because="creator_busy")
        elif until <= now:
            close_request(tx, row, "expired", now, because="wait_over")
        elif row.status == "pending":
            move(tx, RequestRow, row.id, "pending", "queued", turn_at=None, expires_at=until)
        else:
            row.turn_at, row.expires_at = None, until
    tx.flush()
    tell_positions(tx, creator_id, now)


def tell_positions(tx: Session, creator_id: str, now: datetime) -> None:
    """Everybody who waits learns their place; the creator's page looks again."""
    for request_id, at in positions(tx, creator_id, now).items():
        row = tx.get_one(RequestRow, request_id)
        tell(
            tx,
            row.fan_id,
            "PRIVATE_QUEUE",
            now,
            requestId=request_id,
            position=at,
            turn=row.turn_at is not None,
            remainingMs=max(0, (row.expires_at - now) // _ms(1)),
        )
    tell(tx, creator_id, "PRIVATE_QUEUE", now)


# --- the clock's part --------------------------------------------------------------------------------


def call_waiting(tx: Session, now: datetime) -> int:
    """Call the next of every free creator with a queue in which nobody has the turn; how many were called."""
    return sum(call_next(tx, creator_id, now) is not None for creator_id in tx.scalars(_IDLE).all())


def release_impossible(tx: Session, now: datetime) -> int:
    """Let go who may not be accepted any more: blocked meanwhile, or not allowed to spend; how many."""
    due = tx.scalars(_IMPOSSIBLE).all()

    def let_go(row: RequestRow) -> None:
        if tx.get(BlockRow, (row.creator_id, row.fan_id)) is not None:
            close_request(tx, row, "declined", now)
        else:
            close_request(tx, row, "cancelled", now, because="payment_failed")

    return one_by_one(tx, due, let_go)


def _first_able(tx: Session, creator_id: str, waiting: list[RequestRow], now: datetime) -> RequestRow | None:
    if not waiting:
        return None
    gone_ms = timers_for(waiting[0].minute_ms).feed_gone_ms
    here = presence.present_among(tx, {creator_id, *(row.fan_id for row in waiting)}, now, gone_ms)
    if creator_id not in here:
        return None
    for row in ahead_first(tx, creator_id, waiting, now):
        if row.fan_id in here and not engaged.in_session(tx, row.fan_id) and _fits(tx, row, now):
            return row
    return None


def _fits(tx: Session, row: RequestRow, now: datetime) -> bool:
    minutes = max(row.requested_minutes, row.minimum_minutes)
    try:
        engaged.require_unbooked(
            tx,
            creator_id=row.creator_id,
            fan_id=row.fan_id,
            now=now,
            minutes=minutes,
            minute_ms=row.minute_ms,
        )
    except Conflict:
        return False
    return True


def _worth(row: RequestRow) -> int:
    """Tokens, minutes that a subscription includes among them: they were paid for too."""
    return row.rate_per_minute * max(row.requested_minutes, row.minimum_minutes) + row.unlock_price


def _queue_is_on(tx: Session, creator_id: str) -> bool:
    on = select(CreatorSettingsRow.private_stream_queue).where(CreatorSettingsRow.creator_id == creator_id)
    return bool(tx.scalar(on))


def _waiting(tx: Session, creator_id: str) -> int:
    count = select(func.count()).where(RequestRow.creator_id == creator_id, RequestRow.status == "queued")
    return tx.scalar(count) or 0


def _of_a_booking(tx: Session, stream_id: str) -> bool:
    """A stream that was made for a booking was never public and ends with its session: nobody waits there."""
    return tx.scalar(select(BookingRow.id).where(BookingRow.stream_id == stream_id).limit(1)) is not None


def _ms(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)
