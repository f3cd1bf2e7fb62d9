"""Booking on pages: a creator's open times, the dialog before a booking, a person's own bookings.

Knows no rule: what may be booked or cancelled, and what it costs, is the services' part.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import abort, render_template, request
from sqlalchemy.orm import Session

from models import end_words, ledger
from models.agenda import agenda_for
from models.clock import utc_now
from models.services import accounts, bookings
from models.services.accounts import Person
from models.services.booking_views import BookingView, SlotView
from web.auth import current_person, role_required
from web.pages import blueprint, wording
from web.pages.deps import database, settings

SHOWN_AT_FIRST = 3

_CLOSED = {
    ("fan", "fan"): "You cancelled",
    ("creator", "fan"): "Cancelled by the fan",
    ("fan", "creator"): "Cancelled by the creator",
    ("creator", "creator"): "You cancelled",
}
_RELEASED = {
    "busy": "Could not start: one of you was in another call",
    "unavailable": "Could not start: the fault was ours",
    "blocked": "Let go by the creator",
    "payment_failed": "Let go: a payment was found bad",
}


def creator_context(tx: Session, viewer: Person | None, creator_id: str) -> dict[str, Any]:
    """What ``booking_card.html`` needs: the times that can be booked, the viewer's bookings with the creator."""
    now = utc_now()
    viewer_id = viewer.user_id if viewer else None
    slots: tuple[SlotView, ...] = ()
    mine: tuple[BookingView, ...] = ()
    if viewer_id != creator_id:
        slots = bookings.slots_of(tx, creator_id, now, settings().minute_ms, viewer_id=viewer_id)
        if viewer_id is not None:
            mine = bookings.bookings_of(tx, viewer_id, now, creator_id=creator_id)
    return {
        "slots": slots,
        "first_slots": SHOWN_AT_FIRST,
        "own_bookings": [each for each in mine if each.status == "booked"],
    }


def left_ms(at: datetime) -> int:
    """Milliseconds until then, for scripts whose clock may differ; never below zero."""
    return max(0, (at - utc_now()) // timedelta(milliseconds=1))


def status_words(booking: BookingView) -> str:
    """What became of a booking, for its reader."""
    if booking.status == "booked":
        return "Booked"
    if booking.status == "started":
        return "Started"
    if booking.status == "cancelled":
        return _CLOSED.get((booking.role, booking.close_reason or ""), "Cancelled")
    return _RELEASED.get(booking.close_reason or "", "Let go")


blueprint.add_app_template_filter(status_words, "booking_words")
blueprint.add_app_template_filter(left_ms, "left_ms")


@blueprint.get("/models/<handle>/times")
def creator_times(handle: str) -> str:
    """The card of times again, after something changed."""
    viewer = current_person()
    with database().reading() as tx:
        creator = _creator(tx, handle)
        context = creator_context(tx, viewer, creator.user_id)
    return render_template("partials/booking_card.html", creator=creator, kind=_kind(viewer, creator), **context)


@blueprint.get("/models/<handle>/times/<slot_id>")
@role_required("fan")
def creator_time(handle: str, slot_id: str) -> str:
    """Everything that a fan reads before booking that time."""
    viewer = current_person()
    assert viewer is not None
    now, minute_ms = utc_now(), settings().minute_ms
    with database().reading() as tx:
        creator = _creator(tx, handle)
        found = bookings.slots_of(tx, creator.user_id, now, minute_ms, viewer_id=viewer.user_id)
        slot = next((each for each in found if each.slot_id == slot_id), None)
        balance = ledger.balance(tx, ledger.account_id("wallet", viewer.user_id))
    if slot is None:
        abort(404)
    agenda = agenda_for(minute_ms)
    cancel_until = slot.starts_at - agenda.free_cancel
    return render_template(
        "partials/booking_dialog.html",
        creator=creator,
        slot=slot,
        balance=balance,
        cancel_until=cancel_until if cancel_until > now else None,
        free_cancel=wording.lasting(_ms(agenda.free_cancel)),
        grace=wording.lasting(_ms(agenda.grace)),
        minute_ms=minute_ms,
        terms=end_words.terms(
            min_minutes=slot.min_minutes,
            rate_per_minute=slot.rate_per_minute,
            minute_ms=minute_ms,
            included_minutes=slot.included_minutes,
            money=wording.money,
        ),
    )


@blueprint.get("/bookings")
@role_required("fan", "creator")
def my_bookings() -> str:
    """A person's bookings; with ``?part=list`` only the list."""
    person = current_person()
    assert person is not None
    with database().reading() as tx:
        found = bookings.bookings_of(tx, person.user_id, utc_now())
    context = {
        "ahead": [each for each in found if each.status == "booked"],
        "over": [each for each in found if each.status != "booked"],
        "grace": wording.lasting(_ms(agenda_for(settings().minute_ms).grace)),
    }
    only_list = request.args.get("part") == "list"
    return render_template("partials/booking_list.html" if only_list else "bookings.html", **context)


def _creator(tx: Session, handle: str) -> Person:
    person = accounts.find_by_handle(tx, handle)
    if person is None or "creator" not in person.roles:
        abort(404)
    return person


def _kind(viewer: Person | None, creator: Person) -> str:
    if viewer is None:
        return "anon"
    if viewer.user_id == creator.user_id:
        return "owner"
    return "fan" if "fan" in viewer.roles else "other"


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
