"""How bookings and the times that can be booked are seen, by each side. Reads only.

The price of an open time is today's, for that viewer; the price of a booking is its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import Select, case, or_, select
from sqlalchemy.orm import Session

from models import pricing
from models.agenda import agenda_for
from models.bookings import BookingRow, SlotRow
from models.errors import NotFound
from models.people import PersonRow
from models.services import offers, subscriptions
from models.sessions import SessionRow

MOST_SHOWN = 200
SHOWN_AFTERWARDS = timedelta(days=7)


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
    min_minutes: int
    """What is paid for at least once the creator has come."""
    rate_per_minute: int
    """For the viewer, in tokens, as is the total."""
    discount_percent: int
    total_cost: int
    included_minutes: int = 0
    booking: BookingView | None = None


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a creator asks of one fan today."""

    settings: offers.PrivateSettings
    discount_percent: int = 0
    included_minutes: int = 0


def slots_of(
    tx: Session, creator_id: str, now: datetime, minute_ms: int, *, viewer_id: str | None = None
) -> tuple[SlotView, ...]:
    """The creator's times to come, soonest first: for others those that can be booked, for the creator all.

    Raises NotFound when that is no creator.
    """
    offer = offer_to(tx, creator_id, viewer_id, now)
    wanted = select(SlotRow).where(SlotRow.creator_id == creator_id)
    if viewer_id == creator_id:
        wanted = wanted.where(SlotRow.status != "withdrawn", SlotRow.ends_at > now)
    elif offer.settings.enabled:
        wanted = wanted.where(SlotRow.status == "open", SlotRow.starts_at >= now + agenda_for(minute_ms).lead)
    else:
        return ()
    rows = tx.scalars(wanted.order_by(SlotRow.starts_at).limit(MOST_SHOWN)).all()
    booked = {}
    if viewer_id == creator_id:
        taken = BookingRow.slot_id.in_([row.id for row in rows if row.status == "booked"])
        mine = _with_others(creator_id).where(taken, BookingRow.status.in_(("booked", "started")))
        booked = {each[0].slot_id: _view(*each, person_id=creator_id, now=now) for each in tx.execute(mine)}
    return tuple(slot_view(row, offer, booked.get(row.id)) for row in rows)


def booking_view(tx: Session, booking_id: str, person_id: str, now: datetime) -> BookingView:
    """A booking of the person's, on either side; raises NotFound."""
    booking = tx.get(BookingRow, booking_id, populate_existing=True)
    if booking is None or person_id not in (booking.fan_id, booking.creator_id):
        raise NotFound("There is no such booking.")
    return view_of(tx, booking, person_id, now)


def bookings_of(
    tx: Session, person_id: str, now: datetime, *, creator_id: str | None = None
) -> tuple[BookingView, ...]:
    """A person's bookings on either side, or with one creator: those to come first, closed ones for a week."""
    wanted = _with_others(person_id).where(
        or_(BookingRow.status == "booked", BookingRow.closed_at > now - SHOWN_AFTERWARDS)
    )
    if creator_id is not None:
        wanted = wanted.where(BookingRow.creator_id == creator_id)
    order = wanted.order_by(BookingRow.status != "booked", BookingRow.starts_at, BookingRow.id).limit(MOST_SHOWN)
    return tuple(_view(*each, person_id=person_id, now=now) for each in tx.execute(order))


def soon(tx: Session, person_id: str, now: datetime, minute_ms: int) -> BookingView | None:
    """The person's next booking, if it starts within the hour in which they are reminded."""
    within = now + agenda_for(minute_ms).remind[0]
    found = tx.execute(
        _with_others(person_id)
        .where(BookingRow.status == "booked", BookingRow.starts_at <= within)
        .order_by(BookingRow.starts_at)
        .limit(1)
    ).one_or_none()
    return None if found is None else _view(*found, person_id=person_id, now=now)


def view_of(tx: Session, row: BookingRow, person_id: str, now: datetime) -> BookingView:
    """The booking as that one of its two people sees it."""
    return _view(
        *tx.execute(_with_others(person_id).where(BookingRow.id == row.id)).one(), person_id=person_id, now=now
    )


def _with_others(person_id: str) -> Select[BookingRow, PersonRow, str]:
    """The person's bookings on either side: each with the other side and the session that it became."""
    return (
        select(BookingRow, PersonRow, SessionRow.id)
        .join(
            PersonRow,
            PersonRow.id == case((BookingRow.fan_id == person_id, BookingRow.creator_id), else_=BookingRow.fan_id),
        )
        .outerjoin(SessionRow, (SessionRow.request_id == BookingRow.request_id) & (BookingRow.status == "started"))
        .where(or_(BookingRow.fan_id == person_id, BookingRow.creator_id == person_id))
    )


def _view(
    row: BookingRow, other: PersonRow, session_id: str | None, *, person_id: str, now: datetime
) -> BookingView:
    is_fan = person_id == row.fan_id
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
        cancel_until=cancel_until(row),
        can_cancel=row.status == "booked" and (not is_fan or now <= cancel_until(row)),
        close_reason=row.close_reason,
        session_id=session_id,
    )


def slot_view(slot: SlotRow, offer: Offer, booking: BookingView | None = None) -> SlotView:
    """The time at that offer's price; ``booking`` for its creator alone, who learns who booked it."""
    price = price_of(slot, offer)
    return SlotView(
        slot_id=slot.id,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        minutes=slot.minutes,
        status=slot.status,
        min_minutes=price.min_minutes,
        rate_per_minute=price.rate_per_minute,
        discount_percent=price.discount_percent,
        total_cost=price.total_cost,
        included_minutes=price.included_minutes,
        booking=booking,
    )


def offer_to(tx: Session, creator_id: str, viewer_id: str | None, now: datetime) -> Offer:
    """Today's offer to one viewer; raises NotFound when that is no creator."""
    settings = offers.get_settings(tx, creator_id)
    if viewer_id is None or viewer_id == creator_id:
        return Offer(settings=settings)
    subscriber = settings.subscriber_discount_percent > 0 and offers.is_subscriber(tx, viewer_id, creator_id, now)
    return Offer(
        settings=settings,
        discount_percent=settings.subscriber_discount_percent if subscriber else 0,
        included_minutes=subscriptions.minutes_left(tx, viewer_id, creator_id, now),
    )


def price_of(slot: SlotRow, offer: Offer) -> pricing.Price:
    """What the time costs. What is sold is the time that was opened, whatever the creator's minimum is now."""
    return pricing.price(
        rate_per_minute=offer.settings.rate_per_minute,
        min_minutes=min(offer.settings.min_minutes, slot.minutes),
        minutes=slot.minutes,
        discount_percent=offer.discount_percent,
        included_minutes=offer.included_minutes,
    )


def cancel_until(row: BookingRow) -> datetime:
    """Until when the fan may cancel."""
    return row.starts_at - agenda_for(row.minute_ms).free_cancel
