"""Times that creators open ahead, and fans' bookings of them: opening, booking, cancelling, seeing.

The whole price is held when a time is booked, at the rate of that moment. What happens at the start is
``booking_clock``'s part. Lock order: people, slot, booking, accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models import ids, ledger, log, pricing
from models.agenda import LONGEST_AHEAD, agenda_for
from models.bookings import BookingRow, SlotRow
from models.clock import rfc3339
from models.config import Settings
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.machine import move
from models.people import BlockRow, PersonRow
from models.services import engaged, offers, subscriptions
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.engaged import next_start
from models.services.locks import lock_people, locked
from models.sessions import SessionRow

__all__ = [
    "BookingView",
    "NewSlot",
    "SlotView",
    "book",
    "booking_view",
    "bookings_of",
    "cancel",
    "close_booking",
    "fan_next_start",
    "next_start",
    "open_slots",
    "slots_of",
    "withdraw_slot",
]

OPEN_SLOTS = 200
BOOKINGS_PER_FAN = 10
SHOWN_AFTERWARDS = timedelta(days=7)

Ending = Literal["cancelled", "released"]
Because = Literal["fan", "creator", "blocked", "payment_failed", "busy", "unavailable"]


class NewSlot(msgspec.Struct, frozen=True, kw_only=True):
    """A time to open; ``starts_at`` aware."""

    starts_at: datetime
    minutes: int


class Party(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The other side of a booking: what everybody may see of a person."""

    handle: str
    display_name: str
    avatar_url: str | None
    is_mock: bool


class BookingView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A booking as one of its two sides sees it; tokens are whole, ``minute_ms`` the length of its minutes."""

    booking_id: str
    slot_id: str
    status: str
    role: Literal["fan", "creator"]
    counterpart: Party
    starts_at: datetime
    ends_at: datetime
    minutes: int
    minute_ms: int
    rate_per_minute: int
    discount_percent: int
    included_minutes: int
    total_cost: int
    earnings: int
    """The creator's, if all minutes are used."""
    cancel_until: datetime
    """Until when the fan may cancel; the creator always may."""
    can_cancel: bool
    close_reason: str | None = None
    session_id: str | None = None


class SlotView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A time that a creator opened; with the viewer's own price, or for its creator with who booked it."""

    slot_id: str
    starts_at: datetime
    ends_at: datetime
    minutes: int
    status: str
    rate_per_minute: int
    total_cost: int
    """For the viewer, in tokens."""
    included_minutes: int = 0
    booking: BookingView | None = None


# --- the creator's times -----------------------------------------------------------------------------


def open_slots(
    tx: Session, creator: Person, wanted: Sequence[NewSlot], *, now: datetime, minute_ms: int
) -> tuple[SlotView, ...]:
    """Open times for booking, all of them or none.

    Raises Forbidden NOT_A_CREATOR, Invalid, Conflict SLOT_OVERLAPS (``startsAt``) or TOO_MANY_SLOTS.
    """
    if "creator" not in creator.roles:
        raise Forbidden("Only creators open times.", code="NOT_A_CREATOR")
    lock_people(tx, creator.user_id)
    agenda = agenda_for(minute_ms)
    taken = list(
        tx.execute(
            select(SlotRow.starts_at, SlotRow.ends_at).where(
                SlotRow.creator_id == creator.user_id, SlotRow.status != "withdrawn", SlotRow.ends_at > now
            )
        ).tuples()
    )
    if len(taken) + len(wanted) > OPEN_SLOTS:
        raise Conflict(f"At most {OPEN_SLOTS} times are open at once.", code="TOO_MANY_SLOTS", limit=OPEN_SLOTS)
    rows = []
    for slot in wanted:
        starts_at = slot.starts_at.astimezone(UTC)
        _check_time(starts_at, slot.minutes, now, agenda.lead)
        ends_at = starts_at + timedelta(milliseconds=slot.minutes * minute_ms)
        if any(starts_at < end + agenda.guard and start < ends_at + agenda.guard for start, end in taken):
            raise Conflict(
                "Two times need 5 minutes between them.", code="SLOT_OVERLAPS", starts_at=rfc3339(starts_at)
            )
        taken.append((starts_at, ends_at))
        rows.append(
            SlotRow(
                id=ids.new_id(ids.SLOT),
                creator_id=creator.user_id,
                starts_at=starts_at,
                ends_at=ends_at,
                minutes=slot.minutes,
                status="open",
                created_at=now,
            )
        )
    tx.add_all(rows)
    tx.flush()
    offer = offers.get_settings(tx, creator.user_id)
    return tuple(_slot_view(tx, row, offer, None, now) for row in rows)


def withdraw_slot(tx: Session, slot_id: str, *, creator_id: str, now: datetime) -> None:
    """Take an open time back; again is the same. Raises NotFound, Conflict SLOT_BOOKED (``bookingId``)."""
    lock_people(tx, creator_id)
    slot = locked(tx, SlotRow, slot_id)
    if slot is None or slot.creator_id != creator_id:
        raise NotFound("There is no such time.")
    if slot.status == "booked":
        booked = select(BookingRow.id).where(BookingRow.slot_id == slot_id, BookingRow.status == "booked")
        raise Conflict("It is booked. Cancel the booking.", code="SLOT_BOOKED", booking_id=tx.scalar(booked))
    if slot.status == "open":
        move(tx, SlotRow, slot_id, "open", "withdrawn")


def slots_of(
    tx: Session, creator_id: str, now: datetime, minute_ms: int, *, viewer_id: str | None = None
) -> tuple[SlotView, ...]:
    """The creator's times to come, soonest first: for others those that can be booked, for the creator all.

    Raises NotFound when that is no creator.
    """
    offer = offers.get_settings(tx, creator_id)
    wanted = select(SlotRow).where(SlotRow.creator_id == creator_id)
    if viewer_id == creator_id:
        wanted = wanted.where(SlotRow.status != "withdrawn", SlotRow.ends_at > now)
    elif offer.enabled:
        wanted = wanted.where(SlotRow.status == "open", SlotRow.starts_at >= now + agenda_for(minute_ms).lead)
    else:
        return ()
    rows = tx.scalars(wanted.order_by(SlotRow.starts_at).limit(OPEN_SLOTS)).all()
    return tuple(_slot_view(tx, row, offer, viewer_id, now) for row in rows)


# --- booking -----------------------------------------------------------------------------------------


def book(
    tx: Session,
    fan: Person,
    slot_id: str,
    *,
    max_total_cost: int | None = None,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> BookingView:
    """Book a time: one winner, and the whole price is held in the same transaction.

    Raises NotFound, Forbidden (NOT_A_FAN, OWN_STREAM, BLOCKED, SPENDING_FROZEN, SPENDING_CAP), Conflict
    (SLOT_TAKEN, SLOT_CLOSED, PRIVATE_DISABLED, CREATOR_UNAVAILABLE, FAN_BOOKED, FAN_BUSY, TOO_MANY_BOOKINGS,
    PRICE_CHANGED), PaymentRequired.
    """
    creator_id = tx.scalar(select(SlotRow.creator_id).where(SlotRow.id == slot_id))
    if creator_id is None:
        raise NotFound("There is no such time.")
    _may_book(tx, fan, creator_id)
    lock_people(tx, fan.user_id, creator_id)
    slot = _bookable(tx, slot_id, now, settings.minute_ms)
    _both_free(tx, fan.user_id, slot, now, settings.minute_ms)
    booking = _write(tx, fan.user_id, slot, max_total_cost, now, settings, cause_id)
    move(tx, SlotRow, slot.id, "open", "booked")
    if booking.total_cost:
        key = f"hold:{booking.request_id}"
        ledger.hold(
            tx,
            fan.user_id,
            booking.total_cost,
            key=key,
            reference=booking.request_id,
            cause_id=cause_id,
            now=now,
        )
    _changed(tx, booking, now)
    balance_changed(tx, fan.user_id, now)
    log.event("booked", booking_id=booking.id, cause_id=cause_id)
    return _view(tx, booking, fan.user_id, now)


def cancel(tx: Session, booking_id: str, *, by_person_id: str, now: datetime) -> BookingView:
    """Cancel a booking: all tokens come back. The fan up to an hour before the start, the creator always.

    A time that its fan gives back can be booked again; one that its creator cancels is withdrawn. Raises
    NotFound, Conflict BOOKING_CLOSED or BOOKING_FIXED (``cancelUntil``).
    """
    booking = locked_booking(tx, booking_id)
    if booking is None or by_person_id not in (booking.fan_id, booking.creator_id):
        raise NotFound("There is no such booking.")
    if booking.status != "booked":
        raise Conflict("The booking is over.", code="BOOKING_CLOSED", status=booking.status)
    by_fan = by_person_id == booking.fan_id
    if by_fan and now > _cancel_until(booking):
        raise Conflict(
            "It is too late to cancel.", code="BOOKING_FIXED", cancel_until=rfc3339(_cancel_until(booking))
        )
    close_booking(tx, booking, "cancelled", "fan" if by_fan else "creator", now)
    return _view(tx, booking, by_person_id, now)


def close_booking(tx: Session, booking: BookingRow, to: Ending, because: Because, now: datetime) -> None:
    """End a booking without a session and give everything back; the caller has it locked, with its people."""
    move(tx, BookingRow, booking.id, "booked", to, closed_at=now, close_reason=because)
    slot = locked(tx, SlotRow, booking.slot_id)
    if slot is not None and slot.status == "booked":
        again = because == "fan" and slot.starts_at > now
        move(tx, SlotRow, slot.id, "booked", "open" if again else "withdrawn")
    if booking.total_cost:
        key = f"release:{booking.request_id}"
        ledger.release(tx, booking.request_id, key=key, cause_id=booking.cause_id, now=now)
    subscriptions.return_minutes(tx, booking.request_id, 0, now)
    balance_changed(tx, booking.fan_id, now)
    _changed(tx, booking, now)
    log.event("booking_closed", booking_id=booking.id, status=to, because=because, cause_id=booking.cause_id)


def locked_booking(tx: Session, booking_id: str) -> BookingRow | None:
    """The booking taken for oneself, after its two people."""
    seen = tx.get(BookingRow, booking_id)
    if seen is None:
        return None
    lock_people(tx, seen.fan_id, seen.creator_id)
    return locked(tx, BookingRow, booking_id)


# --- seeing ------------------------------------------------------------------------------------------


def fan_next_start(tx: Session, fan_id: str, now: datetime) -> datetime | None:
    """When the fan's next booking starts; one that is due and has not started counts."""
    return next_start(tx, fan_id, now)


def booking_view(tx: Session, booking_id: str, person_id: str, now: datetime) -> BookingView:
    """A booking of the person's, on either side; raises NotFound."""
    booking = tx.get(BookingRow, booking_id, populate_existing=True)
    if booking is None or person_id not in (booking.fan_id, booking.creator_id):
        raise NotFound("There is no such booking.")
    return _view(tx, booking, person_id, now)


def bookings_of(
    tx: Session, person_id: str, now: datetime, *, creator_id: str | None = None
) -> tuple[BookingView, ...]:
    """A person's bookings on either side, or with one creator: those to come first, closed ones for a week."""
    mine = or_(BookingRow.fan_id == person_id, BookingRow.creator_id == person_id)
    wanted = select(BookingRow).where(
        mine, or_(BookingRow.status == "booked", BookingRow.closed_at > now - SHOWN_AFTERWARDS)
    )
    if creator_id is not None:
        wanted = wanted.where(BookingRow.creator_id == creator_id)
    order = wanted.order_by(BookingRow.status != "booked", BookingRow.starts_at, BookingRow.id).limit(OPEN_SLOTS)
    return tuple(_view(tx, row, person_id, now) for row in tx.scalars(order))


def _view(tx: Session, row: BookingRow, person_id: str, now: datetime) -> BookingView:
    is_fan = person_id == row.fan_id
    other = tx.get_one(PersonRow, row.creator_id if is_fan else row.fan_id)
    session_id = None
    if row.status == "started":
        session_id = tx.scalar(select(SessionRow.id).where(SessionRow.request_id == row.request_id))
    return BookingView(
        booking_id=row.id,
        slot_id=row.slot_id,
        status=row.status,
        role="fan" if is_fan else "creator",
        counterpart=Party(
            handle=other.handle,
            display_name=other.display_name if is_fan else other.handle,
            avatar_url=other.avatar_url,
            is_mock=other.is_mock,
        ),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        minutes=row.minutes,
        minute_ms=row.minute_ms,
        rate_per_minute=row.rate_per_minute,
        discount_percent=row.discount_percent,
        included_minutes=row.included_minutes,
        total_cost=row.total_cost,
        earnings=pricing.split(row.total_cost, row.commission_percent)[0],
        cancel_until=_cancel_until(row),
        can_cancel=row.status == "booked" and (not is_fan or now <= _cancel_until(row)),
        close_reason=row.close_reason,
        session_id=session_id,
    )


def _slot_view(
    tx: Session, slot: SlotRow, offer: offers.PrivateSettings, viewer_id: str | None, now: datetime
) -> SlotView:
    booking = None
    if slot.status == "booked":
        booking = tx.scalar(
            select(BookingRow).where(BookingRow.slot_id == slot.id, BookingRow.status.in_(("booked", "started")))
        )
    included = subscriptions.minutes_left(tx, viewer_id, slot.creator_id, now) if viewer_id else 0
    price = _price(tx, viewer_id or "", offer, slot, included, now)
    return SlotView(
        slot_id=slot.id,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        minutes=slot.minutes,
        status=slot.status,
        rate_per_minute=price.rate_per_minute,
        total_cost=price.total_cost,
        included_minutes=price.included_minutes,
        booking=_view(tx, booking, slot.creator_id, now) if booking and viewer_id == slot.creator_id else None,
    )


# --- what it requires --------------------------------------------------------------------------------


def _check_time(starts_at: datetime, minutes: int, now: datetime, lead: timedelta) -> None:
    if minutes not in pricing.REQUESTED_MINUTES or isinstance(minutes, bool):
        raise Invalid("Choose 1 to 240 minutes.", field="minutes")
    if not now + lead <= starts_at <= now + LONGEST_AHEAD:
        raise Invalid("Choose a start at least 5 minutes and at most 60 days ahead.", field="startsAt")


def _may_book(tx: Session, fan: Person, creator_id: str) -> None:
    if fan.user_id == creator_id:
        raise Forbidden("This is your own time.", code="OWN_STREAM")
    if "fan" not in fan.roles:
        raise Forbidden("Only fans book private streams.", code="NOT_A_FAN")
    if tx.get(BlockRow, (creator_id, fan.user_id)) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")


def _bookable(tx: Session, slot_id: str, now: datetime, minute_ms: int) -> SlotRow:
    slot = locked(tx, SlotRow, slot_id)
    if slot is None or slot.status == "withdrawn":
        raise NotFound("There is no such time any more.")
    if slot.status == "booked":
        raise Conflict("Somebody else has booked this time.", code="SLOT_TAKEN")
    if slot.starts_at < now + agenda_for(minute_ms).lead:
        raise Conflict("It is too late to book this time.", code="SLOT_CLOSED")
    return slot


def _both_free(tx: Session, fan_id: str, slot: SlotRow, now: datetime, minute_ms: int) -> None:
    guard = agenda_for(minute_ms).guard
    count = select(func.count()).where(BookingRow.fan_id == fan_id, BookingRow.status == "booked")
    if (tx.scalar(count) or 0) >= BOOKINGS_PER_FAN:
        raise Conflict(
            f"You have {BOOKINGS_PER_FAN} bookings already.", code="TOO_MANY_BOOKINGS", limit=BOOKINGS_PER_FAN
        )
    if _clashes(tx, slot.creator_id, slot, guard) or engaged.in_session_at(
        tx, slot.creator_id, slot.starts_at - guard, now
    ):
        raise Conflict("The creator cannot at that time.", code="CREATOR_UNAVAILABLE")
    if _clashes(tx, fan_id, slot, guard):
        raise Conflict("You have booked another time too close to it.", code="FAN_BOOKED")
    if engaged.in_session_at(tx, fan_id, slot.starts_at - guard, now):
        raise Conflict("You may still be in a private stream then.", code="FAN_BUSY")


def _clashes(tx: Session, person_id: str, slot: SlotRow, guard: timedelta) -> bool:
    found = select(BookingRow.id).where(
        or_(BookingRow.fan_id == person_id, BookingRow.creator_id == person_id),
        BookingRow.status == "booked",
        BookingRow.starts_at < slot.ends_at + guard,
        BookingRow.ends_at > slot.starts_at - guard,
    )
    return tx.scalar(found.limit(1)) is not None


def _price(
    tx: Session, fan_id: str, offer: offers.PrivateSettings, slot: SlotRow, included: int, now: datetime
) -> pricing.Price:
    """At today's rate for this fan. What is sold is the time that was opened, whatever the minimum is now."""
    discount = offer.subscriber_discount_percent
    if discount and not offers.is_subscriber(tx, fan_id, slot.creator_id, now):
        discount = 0
    return pricing.price(
        rate_per_minute=offer.rate_per_minute,
        min_minutes=min(offer.min_minutes, slot.minutes),
        minutes=slot.minutes,
        discount_percent=discount,
        included_minutes=included,
    )


def _write(
    tx: Session,
    fan_id: str,
    slot: SlotRow,
    max_total_cost: int | None,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> BookingRow:
    offer = offers.get_settings(tx, slot.creator_id)
    if not offer.enabled:
        raise Conflict("The creator takes no private streams now.", code="PRIVATE_DISABLED")
    request_id = ids.new_id(ids.REQUEST)
    included = subscriptions.reserve_minutes(tx, fan_id, slot.creator_id, slot.minutes, request_id, now)
    price = _price(tx, fan_id, offer, slot, included, now)
    if max_total_cost is not None and price.total_cost > max_total_cost:
        raise Conflict(
            "The price has changed.",
            code="PRICE_CHANGED",
            total_cost=price.total_cost,
            rate_per_minute=price.rate_per_minute,
        )
    left = slot.starts_at - now
    booking = BookingRow(
        id=ids.new_id(ids.BOOKING),
        slot_id=slot.id,
        request_id=request_id,
        fan_id=fan_id,
        creator_id=slot.creator_id,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        minutes=slot.minutes,
        minimum_minutes=price.min_minutes,
        list_rate=offer.rate_per_minute,
        rate_per_minute=price.rate_per_minute,
        discount_percent=price.discount_percent,
        commission_percent=settings.commission_percent,
        minute_ms=settings.minute_ms,
        included_minutes=price.included_minutes,
        total_cost=price.total_cost,
        status="booked",
        reminders=sum(left <= before for before in agenda_for(settings.minute_ms).remind),
        cause_id=cause_id,
        created_at=now,
    )
    tx.add(booking)
    tx.flush()
    return booking


def _cancel_until(row: BookingRow) -> datetime:
    return row.starts_at - agenda_for(row.minute_ms).free_cancel


def _changed(tx: Session, booking: BookingRow, now: datetime) -> None:
    for user_id in (booking.fan_id, booking.creator_id):
        tell(
            tx,
            user_id,
            "BOOKING_CHANGED",
            now,
            bookingId=booking.id,
            status=booking.status,
            reason=booking.close_reason,
            startsAt=rfc3339(booking.starts_at),
        )
