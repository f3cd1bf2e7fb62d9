"""Where ways to pay, bad payments and the clock meet: each was built by itself, these are the crossings."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session
from stage import MINUTE, Stage
from ways import live, running, subscribe

from models.bookings import BookingRow
from models.db import Database
from models.errors import Forbidden
from models.services import booking_clock, bookings, disputes, payments, private_streams, spending
from models.services.accounts import Person

_numbers = itertools.count()


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def bought(stage: Stage, fan: Person, package_id: str = "tokens-1000") -> str:
    """A purchase that succeeded; its id."""
    number = next(_numbers)

    def work(tx: Session) -> str:
        purchase = payments.begin_purchase(
            tx,
            user_id=fan.user_id,
            package_id=package_id,
            gateway="sandbox",
            key=f"key-{number}",
            cause_id="test",
            now=stage.now,
        )
        payments.complete_purchase(tx, purchase.purchase_id, gateway_ref=f"ref-{number}", now=stage.now)
        return purchase.purchase_id

    return stage.run(work)


def turns_bad(stage: Stage, purchase_id: str) -> None:
    stage.run(lambda tx: disputes.mark_bad(tx, purchase_id, stage.now, status="disputed"))


def won(stage: Stage, purchase_id: str) -> None:
    stage.run(lambda tx: disputes.good_again(tx, purchase_id, stage.now))


def book(stage: Stage, creator: Person, fan: Person, in_minutes: int = 120) -> str:
    slot = bookings.NewSlot(starts_at=stage.now + timedelta(minutes=in_minutes), minutes=5)
    (opened,) = stage.run(lambda tx: bookings.open_slots(tx, creator, [slot], now=stage.now, minute_ms=MINUTE))
    view = stage.run(
        lambda tx: bookings.book(
            tx, fan, opened.slot_id, now=stage.now, settings=stage.settings, cause_id="test"
        )
    )
    return view.booking_id


def booking(stage: Stage, booking_id: str) -> BookingRow:
    with stage.database.reading() as tx:
        return tx.get_one(BookingRow, booking_id)


def test_a_booking_does_not_begin_once_its_payment_is_bad(stage: Stage) -> None:
    """However the clock's checks follow one another: nobody would ever end that call."""
    creator, fan = stage.creator(), stage.fan(0)
    purchase_id = bought(stage, fan)
    booking_id = book(stage, creator, fan)
    stage.later(minutes=120)
    stage.heartbeat()
    turns_bad(stage, purchase_id)
    stage.run(lambda tx: booking_clock.start_due(tx, stage.now))
    row = booking(stage, booking_id)
    assert (row.status, row.close_reason) == ("released", "payment_failed")
    assert stage.balances(fan) == dict.fromkeys(stage.balances(fan), 0)
    stage.audit()


def test_a_call_of_minutes_that_a_bad_payment_included_ends(stage: Stage) -> None:
    """A call that the subscription pays is paid by whatever paid the subscription."""
    creator, stream = live(stage, subscription_price=400, subscription_minutes=10)
    fan = stage.fan(0)
    purchase_id = bought(stage, fan)
    subscribe(stage, fan, creator)
    call = running(stage, creator, stream, fan, minutes=5)
    assert stage.session(call.session_id).total_held == 0
    turns_bad(stage, purchase_id)
    row = stage.session(call.session_id)
    assert (row.status, row.end_cause) == ("settling", "payment_failed")
    stage.call_ended(call.session_id, "closed", 3 * MINUTE)
    assert stage.balances(creator)["earnings_pending"] == 0
    stage.audit()


def test_what_comes_back_of_yesterday_is_nothing_to_spend_today(stage: Stage) -> None:
    """Else a limit is saved up: hold for bookings day by day, and spend it all on one."""
    creator, fan = stage.creator(), stage.fan(1_000)
    stage.run(lambda tx: spending.set_cap(tx, fan.user_id, 500, stage.now))
    booking_id = book(stage, creator, fan, in_minutes=3 * 24 * 60)
    stage.later(days=1)
    stage.run(lambda tx: bookings.cancel(tx, booking_id, by_person_id=fan.user_id, now=stage.now))
    other, stream = stage.live()
    stage.heartbeat()
    stage.ask(fan, stream, 5)
    third, later = stage.live()
    with pytest.raises(Forbidden) as refusal:
        stage.ask(fan, later, 5)
    assert refusal.value.code == "SPENDING_CAP"
    # what was held today and came back today is to be spent again
    with stage.database.reading() as tx:
        request = private_streams.open_request_of(tx, fan.user_id, other.user_id, stage.now)
    assert request is not None
    stage.cancel(request.request_id, fan)
    stage.ask(fan, later, 5)
    assert third != other
    stage.audit()
