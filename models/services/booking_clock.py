"""What the clock does about bookings: reminding, starting, letting go what cannot be kept, tidying up after.

A booking that starts becomes an accepted request and a connecting session in one transaction, with the hold
that it had; from there on it is a session like any other, and the end table settles no-shows. One that cannot
start within its grace gives everything back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, bindparam, exists, or_, select
from sqlalchemy.orm import Session, aliased

from models import ids, log
from models.agenda import agenda_for
from models.bookings import BookingRow
from models.clock import rfc3339
from models.errors import Unavailable
from models.machine import move
from models.people import BlockRow, PersonRow
from models.requests import RequestRow
from models.services import acceptance, accounts, placement, streams
from models.services.announcements import tell
from models.services.bookings import Because, close_booking, locked_booking
from models.services.engaged import in_session
from models.services.locks import lock_people, locked, one_by_one
from models.sessions import SessionRow
from models.streams import RoomRow, StreamRow

MOST_AT_ONCE = 50
TITLE = "Booked"

# Built once: the clock asks these each round, and building them took longer than executing them.
_REMIND = (
    select(BookingRow)
    .where(
        BookingRow.status == "booked",
        or_(
            and_(BookingRow.reminders == 0, BookingRow.starts_at <= bindparam("first")),
            and_(BookingRow.reminders == 1, BookingRow.starts_at <= bindparam("last")),
        ),
    )
    .order_by(BookingRow.starts_at, BookingRow.id)
    .limit(MOST_AT_ONCE)
    .with_for_update(skip_locked=True, key_share=True)
    .execution_options(populate_existing=True)
)
_START = (
    select(BookingRow.id)
    .where(BookingRow.status == "booked", BookingRow.starts_at <= bindparam("now"))
    .order_by(BookingRow.starts_at, BookingRow.id)
    .limit(MOST_AT_ONCE)
)
_BLOCKED = exists().where(BlockRow.creator_id == BookingRow.creator_id, BlockRow.fan_id == BookingRow.fan_id)
_FROZEN = exists().where(PersonRow.id == BookingRow.fan_id, PersonRow.spending_frozen_at.is_not(None))
# Nobody pays for a call that we keep them from, nor waits for somebody who cannot come.
_LOCKED_OUT = exists().where(
    PersonRow.id.in_((BookingRow.fan_id, BookingRow.creator_id)), PersonRow.locked_at.is_not(None)
)
_IMPOSSIBLE = (
    select(BookingRow.id)
    .where(BookingRow.status == "booked", _BLOCKED | _FROZEN | _LOCKED_OUT)
    .order_by(BookingRow.id)
    .limit(MOST_AT_ONCE)
)
_RUNNING = aliased(SessionRow)
_OVER = (
    select(StreamRow.id, StreamRow.creator_id)
    .join(BookingRow, BookingRow.stream_id == StreamRow.id)
    .where(
        StreamRow.status == "private",
        ~exists().where(_RUNNING.stream_id == StreamRow.id, _RUNNING.status != "ended"),
    )
    .order_by(StreamRow.creator_id)
    .limit(MOST_AT_ONCE)
)


def remind_due(tx: Session, now: datetime, *, minute_ms: int) -> int:
    """Remind both sides an hour and five minutes before the start; how many bookings."""
    first, last = agenda_for(minute_ms).remind
    due = tx.scalars(_REMIND, {"first": now + first, "last": now + last}).all()

    def remind(row: BookingRow) -> None:
        # A clock that was away sends what is due now, once.
        row.reminders = sum(row.starts_at <= now + before for before in (first, last))
        tx.flush()
        if row.starts_at > now:
            _remind(tx, row, now)

    return one_by_one(tx, due, remind)


def start_due(tx: Session, now: datetime) -> int:
    """Begin the sessions of bookings whose time has come; how many were begun or let go."""
    return _each(tx, _START, now, lambda row: _start(tx, row, now))


def release_impossible(tx: Session, now: datetime) -> int:
    """Let go bookings of who was blocked since, may not spend, or cannot sign in any more; how many."""
    return _each(tx, _IMPOSSIBLE, now, lambda row: _let_go(tx, row, now))


def end_streams(tx: Session, now: datetime) -> int:
    """End streams that were made for a booking whose session is over; how many."""
    ended = 0
    for stream_id, creator_id in tx.execute(_OVER).all():
        lock_people(tx, creator_id)
        stream = locked(tx, StreamRow, stream_id)
        # Its creator may have gone public with it, and stays on the air.
        if stream is not None and stream.status == "private" and not in_session(tx, creator_id):
            streams.finish(tx, stream, "STREAM_ENDED", creator_id, now)
            ended += 1
    return ended


def _each(tx: Session, due: Select[str], now: datetime, act: Callable[[BookingRow], bool]) -> int:
    """``act`` on each booking that is found, taken in the order of locks: its people first."""
    found = tx.scalars(due, {"now": now}).all()
    done = 0

    def take(seen: BookingRow) -> None:
        nonlocal done
        row = locked_booking(tx, seen.id)
        if row is not None and row.status == "booked":
            done += act(row)

    one_by_one(tx, [tx.get_one(BookingRow, booking_id) for booking_id in found], take)
    return done


def _let_go(tx: Session, row: BookingRow, now: datetime) -> bool:
    """End a booking that may not begin any more; False when nothing is against it."""
    because: Because | None = None
    if tx.get(BlockRow, (row.creator_id, row.fan_id), populate_existing=True) is not None:
        because = "blocked"
    elif tx.get_one(PersonRow, row.fan_id, populate_existing=True).spending_frozen_at is not None:
        because = "payment_failed"
    elif accounts.is_locked(tx, row.fan_id) or accounts.is_locked(tx, row.creator_id):
        because = "unavailable"
    if because is not None:
        close_booking(tx, row, "released", because, now)
    return because is not None


def _start(tx: Session, row: BookingRow, now: datetime) -> bool:
    if row.starts_at > now:
        return False
    # A payment may have turned bad since the clock looked for such bookings; nothing would end this call.
    if _let_go(tx, row, now):
        return True
    grace = agenda_for(row.minute_ms).grace
    late = now > row.starts_at + grace
    if late or in_session(tx, row.creator_id) or in_session(tx, row.fan_id):
        if late:
            log.event("booking_not_kept", logging.WARNING, booking_id=row.id, cause_id=row.cause_id)
            busy = in_session(tx, row.creator_id) or in_session(tx, row.fan_id)
            close_booking(tx, row, "released", "busy" if busy else "unavailable", now)
        return late
    try:
        node_id = placement.pick_node(tx, "private", now, instead_of=(row.creator_id,))
    except Unavailable:
        return False
    stream = _stream_for(tx, row, now)
    request = _request_of(tx, row, stream, now)
    move(tx, BookingRow, row.id, "booked", "started", closed_at=now)
    session = acceptance.begin(tx, request, stream, node_id, now, grace // timedelta(milliseconds=1))
    for user_id in (row.fan_id, row.creator_id):
        tell(
            tx,
            user_id,
            "BOOKING_STARTED",
            now,
            bookingId=row.id,
            sessionId=session.id,
            roomId=session.room_id,
        )
    log.event("booking_started", booking_id=row.id, session_id=session.id, cause_id=row.cause_id)
    return True


def _stream_for(tx: Session, row: BookingRow, now: datetime) -> StreamRow:
    """The creator's stream; where there is none, a private one for this call that ends with it."""
    open_one = select(StreamRow.id).where(StreamRow.creator_id == row.creator_id, StreamRow.status != "ended")
    stream_id = tx.scalar(open_one)
    stream = locked(tx, StreamRow, stream_id) if stream_id else None
    if stream is not None and stream.status != "ended":
        return stream
    stream_id = ids.new_id(ids.STREAM)
    room_id = ids.live_room(stream_id)
    stream = StreamRow(
        id=stream_id,
        creator_id=row.creator_id,
        room_id=room_id,
        title=TITLE,
        status="private",
        started_at=now,
    )
    # Its public room was never open, and is there should the creator go public afterwards.
    room = RoomRow(
        id=room_id,
        node_id=None,
        kind="live",
        creator_id=row.creator_id,
        status="closed",
        viewers=0,
        created_at=now,
        closed_at=now,
    )
    tx.add_all((stream, room))
    tx.flush()
    row.stream_id = stream_id
    tx.flush()
    return stream


def _request_of(tx: Session, row: BookingRow, stream: StreamRow, now: datetime) -> RequestRow:
    request = RequestRow(
        id=row.request_id,
        fan_id=row.fan_id,
        creator_id=row.creator_id,
        stream_id=stream.id,
        minimum_minutes=row.minimum_minutes,
        requested_minutes=row.minutes,
        list_rate=row.list_rate,
        rate_per_minute=row.rate_per_minute,
        discount_percent=row.discount_percent,
        commission_percent=row.commission_percent,
        minute_ms=row.minute_ms,
        payment_mode="prepaid",
        included_minutes=row.included_minutes,
        unlock_price=0,
        total_cost=row.total_cost,
        status="accepted",
        accepted_by="booking",
        cause_id=row.cause_id,
        created_at=row.created_at,
        expires_at=row.starts_at,
        answered_at=now,
    )
    tx.add(request)
    tx.flush()
    return request


def _remind(tx: Session, row: BookingRow, now: datetime) -> None:
    creator, fan = tx.get_one(PersonRow, row.creator_id), tx.get_one(PersonRow, row.fan_id)
    for user_id, name in ((row.fan_id, creator.display_name), (row.creator_id, fan.handle)):
        tell(
            tx,
            user_id,
            "BOOKING_REMINDER",
            now,
            bookingId=row.id,
            name=name,
            startsAt=rfc3339(row.starts_at),
            startsInMs=(row.starts_at - now) // timedelta(milliseconds=1),
            minutes=row.minutes,
        )
