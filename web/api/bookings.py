"""Times that creators open, fans' bookings of them, and a fan's turn in a creator's queue."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from sqlalchemy.orm import Session

from models.services import bookings, private_streams, queueing
from models.services.booking_views import BookingView, SlotView
from models.services.private_streams import RequestView
from web import limits
from web.api.schema import CREATOR, FAN, SIGNED_IN, Api, Call, Nothing
from web.api.streaming import Id, Minutes, RequestId, Tokens

api = Api("bookings")
MOST_AT_ONCE = 60


class SlotBody(msgspec.Struct, frozen=True, rename="camel"):
    """A time to open: RFC 3339 with its offset, and how many minutes."""

    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]
    minutes: Minutes


class SlotsBody(msgspec.Struct, frozen=True):
    """Times to open, all of them or none."""

    slots: Annotated[list[SlotBody], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]


class Slots(msgspec.Struct, frozen=True):
    """Times to come, soonest first."""

    slots: tuple[SlotView, ...]


class Withdrawn(msgspec.Struct, frozen=True):
    """Nobody can book it any more."""

    status: Literal["withdrawn"] = "withdrawn"


class BookingBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which time; ``maxTotalCost`` is the total that the fan saw."""

    slot_id: Id
    max_total_cost: Tokens | None = None


class Bookings(msgspec.Struct, frozen=True):
    """The caller's bookings: those to come first, then those that ended in the last seven days."""

    bookings: tuple[BookingView, ...]


@api.read("/api/streaming/slots/<creator_id>", access=SIGNED_IN, answer=Slots, errors=("NOT_FOUND",))
def slots(tx: Session, call: Call[Nothing]) -> Slots:
    """A creator's times that can be booked, at the caller's price; for the creator all, with who booked them."""
    minute_ms = call.house.settings.minute_ms
    viewer_id = call.person.user_id
    return Slots(bookings.slots_of(tx, call.path["creator_id"], call.now, minute_ms, viewer_id=viewer_id))


@api.write("POST", "/api/streaming/slots", access=CREATOR, body=SlotsBody, answer=Slots, status=201,
           limits=(limits.SLOTS,), errors=("SLOT_OVERLAPS", "TOO_MANY_SLOTS", "NOT_A_CREATOR"))  # fmt: skip
def open_slots(tx: Session, call: Call[SlotsBody]) -> Slots:
    """Open times for booking, at least 5 minutes and at most 60 days ahead, with 5 minutes between two."""
    wanted = [bookings.NewSlot(starts_at=slot.starts_at, minutes=slot.minutes) for slot in call.body.slots]
    minute_ms = call.house.settings.minute_ms
    return Slots(bookings.open_slots(tx, call.person, wanted, now=call.now, minute_ms=minute_ms))


@api.write("DELETE", "/api/streaming/slots/<slot_id>", access=CREATOR, answer=Withdrawn,
           errors=("NOT_FOUND", "SLOT_BOOKED"))  # fmt: skip
def withdraw_slot(tx: Session, call: Call[Nothing]) -> Withdrawn:
    """Take back a time that nobody has booked."""
    bookings.withdraw_slot(tx, call.path["slot_id"], creator_id=call.person.user_id, now=call.now)
    return Withdrawn()


@api.write("POST", "/api/streaming/bookings", access=FAN, body=BookingBody, answer=BookingView, status=201,
           idempotency="required", limits=(limits.BOOKING,),
           errors=("INSUFFICIENT_TOKENS", "BLOCKED", "NOT_FOUND", "SLOT_TAKEN", "SLOT_CLOSED", "PRIVATE_DISABLED",
                   "CREATOR_UNAVAILABLE", "FAN_BOOKED", "FAN_BUSY", "TOO_MANY_BOOKINGS", "PRICE_CHANGED",
                   "NOT_A_FAN", "OWN_STREAM", "SPENDING_CAP", "SPENDING_FROZEN"))  # fmt: skip
def book(tx: Session, call: Call[BookingBody]) -> BookingView:
    """Book a time; the whole price is held until the private stream begins by itself at its start."""
    body = call.body
    return bookings.book(
        tx,
        call.person,
        body.slot_id,
        max_total_cost=body.max_total_cost,
        now=call.now,
        settings=call.house.settings,
        cause_id=call.cause_id,
    )


@api.read("/api/streaming/bookings", access=SIGNED_IN, answer=Bookings)
def my_bookings(tx: Session, call: Call[Nothing]) -> Bookings:
    """The caller's bookings, as a fan and as a creator."""
    return Bookings(bookings.bookings_of(tx, call.person.user_id, call.now))


@api.read("/api/streaming/bookings/<booking_id>", access=SIGNED_IN, answer=BookingView, errors=("NOT_FOUND",))
def booking(tx: Session, call: Call[Nothing]) -> BookingView:
    """One booking of the caller's."""
    return bookings.booking_view(tx, call.path["booking_id"], call.person.user_id, call.now)


@api.write("DELETE", "/api/streaming/bookings/<booking_id>", access=SIGNED_IN, answer=BookingView,
           errors=("NOT_FOUND", "BOOKING_CLOSED", "BOOKING_FIXED"))  # fmt: skip
def cancel_booking(tx: Session, call: Call[Nothing]) -> BookingView:
    """Cancel a booking, all tokens come back: its fan until an hour before the start, its creator always."""
    return bookings.cancel(tx, call.path["booking_id"], by_person_id=call.person.user_id, now=call.now)


@api.write("POST", "/api/streaming/private-reconfirm", access=FAN, body=RequestId, answer=RequestView,
           errors=("NOT_FOUND", "REQUEST_NOT_PENDING", "NOT_YOUR_TURN"))  # fmt: skip
def private_reconfirm(tx: Session, call: Call[RequestId]) -> RequestView:
    """Confirm a request again when its turn in the queue has come: it is pending, at the price it was made at."""
    row = queueing.reconfirm(tx, call.body.request_id, fan_id=call.person.user_id, now=call.now)
    return private_streams.request_view(tx, row.id, call.person, call.now)
