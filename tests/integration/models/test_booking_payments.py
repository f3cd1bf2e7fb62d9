"""A booking whose payment turns bad before it begins: found by a webhook or by looking, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fakes.stripe_server import StripeServer
from stage import Stage
from till import Till

from models.db import Database
from models.services import booking_clock, bookings
from models.services.booking_views import BookingView
from workers.jobs import poll_payments
from workers.payments import poll_request_payments

PRICE = 1_000


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


def booked(till: Till) -> BookingView:
    """Ten minutes in two hours, paid from a purchase."""
    stage, creator = till.stage, till.stage.creator()
    wanted = [bookings.NewSlot(starts_at=stage.now + timedelta(hours=2), minutes=10)]
    (slot,) = stage.run(lambda tx: bookings.open_slots(tx, creator, wanted, now=stage.now, minute_ms=60_000))
    return stage.run(
        lambda tx: bookings.book(
            tx, till.fan, slot.slot_id, now=stage.now, settings=stage.settings, cause_id="test"
        )
    )


def seen(till: Till, booking: BookingView) -> BookingView:
    stage = till.stage
    return stage.run(lambda tx: bookings.booking_view(tx, booking.booking_id, till.fan.user_id, stage.now))


def clock(till: Till) -> None:
    stage = till.stage
    stage.heartbeat()
    stage.run(lambda tx: booking_clock.release_impossible(tx, stage.now))
    stage.run(lambda tx: booking_clock.start_due(tx, stage.now))


def polls(till: Till) -> list[str]:
    """What the job has workers ask about now."""
    before = len(till.stage.actors())
    till.stage.run(lambda tx: poll_payments(tx, till.stage.now))
    return [body for _, actor, body in till.stage.actors()[before:] if actor == "poll_request_payments"]


def test_a_dispute_lets_the_booking_go_at_once(till: Till) -> None:
    purchase = till.buy()
    booking = booked(till)
    assert till.stage.balances(till.fan)["held"] == PRICE
    # when
    till.world.dispute(purchase.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    clock(till)
    # then
    view = seen(till, booking)
    assert (view.status, view.close_reason) == ("released", "payment_failed")
    assert till.stage.balances(till.fan) | {"wallet": 0, "held": 0} == till.stage.balances(till.fan)
    till.stage.audit()


def test_before_it_begins_its_payments_are_asked_about_though_no_webhook_came(till: Till) -> None:
    # given
    purchase = till.buy()
    booking = booked(till)
    till.world.dispute(purchase.gateway_ref or "")
    assert polls(till) == []
    # when: ten minutes before
    till.stage.now = booking.starts_at - timedelta(minutes=10)
    (body,) = polls(till)
    request_id = next(word for word in body.replace('"', " ").split() if word.startswith("req_"))
    assert poll_request_payments(till.database, till.gateway, request_id, till.stage.now) == 1
    # then: it never begins
    till.stage.now = booking.starts_at
    clock(till)
    assert seen(till, booking).status == "released"
    assert till.stage.balances(till.fan)["held"] == 0
    assert polls(till) == []
    till.stage.audit()
