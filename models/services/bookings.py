"""Times that creators open ahead, and fans' bookings of them: opening, booking, cancelling, seeing.

The whole price is held when a time is booked, at the rate of that moment. What happens at the start is
``booking_clock``'s part. Lock order: people, slot, booking, accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import ids, ledger, log, pricing
from models.agenda import LONGEST_AHEAD, agenda_for
from models.bookings import BookingRow, SlotRow
from models.clock import rfc3339
from models.config import Settings
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.machine import move
from models.people import BlockRow, PersonRow
from models.services import accounts, engaged, subscriptions
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.booking_views import (
    BookingView,
    SlotView,
    booking_view,
    bookings_of,
    cancel_until,
    offer_to,
    price_of,
    slot_view,
    slots_of,
    view_of,
)
from models.services.engaged import next_start
from models.services.locks import lock_people, locked

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

Ending = Literal["cancelled", "released"]
Because = Literal["fan", "creator", "blocked", "payment_failed", "busy", "unavailable"]


class NewSlot(msgspec.Struct, frozen=True, kw_only=True):
    """A time to open; ``starts_at`` aware."""

    starts_at: datetime
    minutes: int


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
    theirs = select(SlotRow.starts_at, SlotRow.ends_at).where(
        SlotRow.creator_id == creator.user_id, SlotRow.status != "withdrawn", SlotRow.ends_at > now
    )
    taken: list[tuple[datetime, datetime]] = [(start, end) for start, end in tx.execute(theirs)]
    if len(taken) + len(wanted) > OPEN_SLOTS:
        raise Conflict(f"At most {OPEN_SLOTS} times are open at once.", code="TOO_MANY_SLOTS", limit=OPEN_SLOTS)
    rows = []
    for slot in wanted:
        starts_at = _checked_time(slot, now, agenda.lead)
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
    if rows:
        tell(tx, None, "TIMES_CHANGED", now, creatorId=creator.user_id, status="open")
    offer = offer_to(tx, creator.user_id, None, now)
    return tuple(slot_view(row, offer) for row in rows)


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
        _tell_viewers(tx, slot, "withdrawn", now)


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
    _tell_viewers(tx, slot, "booked", now)
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
    return view_of(tx, booking, fan.user_id, now)


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
    if by_fan and now > cancel_until(booking):
        raise Conflict(
            "It is too late to cancel.", code="BOOKING_FIXED", cancel_until=rfc3339(cancel_until(booking))
        )
    close_booking(tx, booking, "cancelled", "fan" if by_fan else "creator", now)
    return view_of(tx, booking, by_person_id, now)


def close_booking(tx: Session, booking: BookingRow, to: Ending, because: Because, now: datetime) -> None:
    """End a booking without a session and give everything back; the caller has it locked, with its people."""
    move(tx, BookingRow, booking.id, "booked", to, closed_at=now, close_reason=because)
    slot = locked(tx, SlotRow, booking.slot_id)
    if slot is not None and slot.status == "booked":
        again = because == "fan" and slot.starts_at > now
        move(tx, SlotRow, slot.id, "booked", "open" if again else "withdrawn")
        if again:
            _tell_viewers(tx, slot, "open", now)
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


def fan_next_start(tx: Session, fan_id: str, now: datetime) -> datetime | None:
    """When the fan's next booking starts; one that is due and has not started counts."""
    return next_start(tx, fan_id, now)


def _tell_viewers(tx: Session, slot: SlotRow, status: str, now: datetime) -> None:
    """Whoever looks at the creator's times sees it change; nobody learns by whom."""
    tell(tx, None, "TIMES_CHANGED", now, creatorId=slot.creator_id, slotId=slot.id, status=status)


# --- what it requires --------------------------------------------------------------------------------


def _checked_time(slot: NewSlot, now: datetime, lead: timedelta) -> datetime:
    """The start in UTC, to the second."""
    if slot.minutes not in pricing.REQUESTED_MINUTES or isinstance(slot.minutes, bool):
        raise Invalid("Choose 1 to 240 minutes.", field="minutes")
    # Compared before it is converted: the first and the last day of the calendar have no UTC in some zones.
    if not now + lead <= slot.starts_at <= now + LONGEST_AHEAD:
        raise Invalid("Choose a start at least 5 minutes and at most 60 days ahead.", field="startsAt")
    return slot.starts_at.astimezone(UTC).replace(microsecond=0)


def _may_book(tx: Session, fan: Person, creator_id: str) -> None:
    if fan.user_id == creator_id:
        raise Forbidden("This is your own time.", code="OWN_STREAM")
    if "fan" not in fan.roles:
        raise Forbidden("Only fans book private streams.", code="NOT_A_FAN")
    if tx.get(BlockRow, (creator_id, fan.user_id)) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")
    if accounts.is_locked(tx, creator_id):
        raise Conflict("The creator takes no private streams now.", code="PRIVATE_DISABLED")


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
    when = (slot.starts_at, slot.ends_at, guard)
    return engaged.booked_between(tx, person_id, *when) or engaged.battle_between(tx, person_id, *when)


def _write(
    tx: Session,
    fan_id: str,
    slot: SlotRow,
    max_total_cost: int | None,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> BookingRow:
    offer = offer_to(tx, slot.creator_id, fan_id, now)
    if not offer.settings.enabled:
        raise Conflict("The creator takes no private streams now.", code="PRIVATE_DISABLED")
    request_id = ids.new_id(ids.REQUEST)
    reserved = subscriptions.reserve_minutes(tx, fan_id, slot.creator_id, slot.minutes, request_id, now)
    price = price_of(slot, msgspec.structs.replace(offer, included_minutes=reserved))
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
        list_rate=offer.settings.rate_per_minute,
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


def _changed(tx: Session, booking: BookingRow, now: datetime) -> None:
    """Both sides learn of it; ``name`` is the other one's."""
    creator, fan = tx.get_one(PersonRow, booking.creator_id), tx.get_one(PersonRow, booking.fan_id)
    for user_id, role, name in ((fan.id, "fan", creator.display_name), (creator.id, "creator", fan.handle)):
        tell(
            tx,
            user_id,
            "BOOKING_CHANGED",
            now,
            bookingId=booking.id,
            slotId=booking.slot_id,
            status=booking.status,
            reason=booking.close_reason,
            role=role,
            name=name,
            startsAt=rfc3339(booking.starts_at),
        )
