"""Where ways to pay, bad payments and the clock meet: each was built by itself, these are the crossings."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from patrons import active
from sqlalchemy import select
from sqlalchemy.orm import Session
from stage import MINUTE, Call, Stage
from ways import live, offer, running, subscribe

from models import ledger
from models.bookings import BookingRow
from models.db import Database
from models.errors import Forbidden
from models.payments import PurchaseRow
from models.services import (
    booking_clock,
    bookings,
    complaints,
    disputes,
    payments,
    private_streams,
    purchase_refunds,
    queueing,
    renewals,
    spending,
    tips,
)
from models.services.accounts import Person
from models.services.streams import StreamView

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


# --- a dispute of a lot, whatever it is behind, and won afterwards --------------------------------------


def asked(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    stage.ask(fan, stream, 5)


def queued(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    running(stage, creator, stream, stage.fan(1_000), minutes=5)
    assert stage.ask(fan, stream, 5).status == "queued"


def booked(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    book(stage, creator, fan)


def in_a_call(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> Call:
    call = running(stage, creator, stream, fan, minutes=5)
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    return call


def settling(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> Call:
    call = in_a_call(stage, fan, creator, stream)
    stage.end(call.session_id, fan)
    return call


def after_a_call(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> Call:
    call = settling(stage, fan, creator, stream)
    stage.call_ended(call.session_id, "fan_left", 2 * MINUTE)
    return call


def cleared(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    after_a_call(stage, fan, creator, stream)
    stage.later(days=30)
    stage.run(lambda tx: ledger.clear_due(tx, stage.now))
    assert stage.balances(creator)["earnings"] == 400


def paid_out(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    cleared(stage, fan, creator, stream)
    about: dict[str, Any] = {"key": "out", "reference": "out", "cause_id": "test", "now": stage.now}
    stage.run(lambda tx: ledger.payout(tx, creator.user_id, 400, **about))


def refunded_in_part(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    call = after_a_call(stage, fan, creator, stream)
    about: dict[str, Any] = {"key": "back", "cause_id": "test", "now": stage.now}
    stage.run(lambda tx: ledger.refund(tx, call.request_id, 101, **about))


def contested(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    call = after_a_call(stage, fan, creator, stream)
    stage.run(
        lambda tx: complaints.complain(
            tx, call.session_id, by_id=fan.user_id, reason="Black picture.", now=stage.now
        )
    )


def tipped(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    stage.run(
        lambda tx: tips.tip(
            tx,
            fan=fan,
            creator_id=creator.user_id,
            amount=77,
            key="tip",
            now=stage.now,
            settings=stage.settings,
            cause_id="test",
        )
    )


def subscribed(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    subscribe(stage, fan, creator)


def given_back_in_part(stage: Stage, fan: Person, creator: Person, stream: StreamView) -> None:
    with stage.database.reading() as tx:
        purchase_id = tx.scalars(select(PurchaseRow.id).where(PurchaseRow.user_id == fan.user_id)).one()
    stage.run(
        lambda tx: purchase_refunds.request(
            tx, user_id=fan.user_id, purchase_id=purchase_id, tokens=300, cause_id="test", now=stage.now
        )
    )


STATES = (
    asked,
    queued,
    booked,
    in_a_call,
    settling,
    after_a_call,
    cleared,
    paid_out,
    refunded_in_part,
    contested,
    tipped,
    subscribed,
    given_back_in_part,
)


def clock_round(stage: Stage) -> None:
    """What the clock does to open things of somebody who may not spend."""
    for check in (queueing.release_impossible, booking_clock.release_impossible, booking_clock.start_due):
        stage.run(lambda tx, check=check: check(tx, stage.now))  # type: ignore[misc]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_dispute_takes_its_lot_back_from_everywhere_and_a_won_one_returns_it(
    stage: Stage, state: Callable[..., Call | None]
) -> None:
    # given
    creator, stream = live(stage, queue=True, subscription_price=400, subscription_minutes=10)
    fan = stage.fan(0)
    purchase_id = bought(stage, fan)
    call = state(stage, fan, creator, stream)
    withdrawn = 300 if state is given_back_in_part else 0
    # when: the payment is disputed, twice, and the clock comes; a call ends by it
    for _ in range(2):
        turns_bad(stage, purchase_id)
    clock_round(stage)
    if call is not None and stage.session(call.session_id).status == "settling":
        stage.call_ended(call.session_id, "closed", 2 * MINUTE)
    stage.audit()
    # then: nothing of it is left with anybody but as a debt
    mine, theirs = stage.balances(fan), stage.balances(creator)
    assert mine == dict.fromkeys(mine, 0)
    assert (theirs["earnings_pending"], theirs["earnings"]) == (0, 0)
    assert theirs["debt"] == (-400 if state is paid_out else 0)
    with stage.database.reading() as tx:
        others = -1_000 if state is queued else 0
        assert ledger.balance(tx, "gateway:sandbox") == others
    # and when it is won, twice, every token is somebody's again
    for _ in range(2):
        won(stage, purchase_id)
    stage.audit()
    mine, theirs = stage.balances(fan), stage.balances(creator)
    with stage.database.reading() as tx:
        fees, out = ledger.balance(tx, "fees"), ledger.balance(tx, "payouts")
    earned = theirs["earnings_pending"] + theirs["earnings"]
    assert mine["wallet"] + mine["held"] + earned + fees + out == 1_000 - withdrawn
    assert (theirs["debt"], mine["held"]) == (0, 0)


def test_a_won_dispute_gives_the_rest_of_the_month_back(stage: Stage) -> None:
    """The creator is paid for it again; a fan who has subscribed anew meanwhile keeps that one."""
    creator, fan = stage.creator(), stage.fan(0)
    offer(stage, creator, subscription_price=400, subscription_minutes=10)
    purchase_id = bought(stage, fan)
    subscribe(stage, fan, creator)
    turns_bad(stage, purchase_id)
    assert not active(stage, fan, creator)
    stage.later(days=10)
    won(stage, purchase_id)
    assert active(stage, fan, creator)
    assert stage.told(fan, "SUBSCRIPTION_CHANGED")[-1]["status"] == "active"
    # and it renews as if nothing had been
    stage.later(days=21)
    stage.run(lambda tx: renewals.renew_due(tx, stage.now))
    assert active(stage, fan, creator)
    # once that month's time is over, it stays ended
    turns_bad(stage, purchase_id)
    stage.later(days=40)
    won(stage, purchase_id)
    assert not active(stage, fan, creator)
    stage.audit()


def test_what_two_payments_paid_is_back_once_both_are_good(stage: Stage) -> None:
    # given a subscription that two purchases paid, and both are disputed
    creator, fan = stage.creator(), stage.fan(0)
    offer(stage, creator, subscription_price=1_500, subscription_minutes=10)
    purchases = [bought(stage, fan), bought(stage, fan)]
    subscribe(stage, fan, creator)
    for purchase_id in purchases:
        turns_bad(stage, purchase_id)
    assert not active(stage, fan, creator)
    # when one of them is won, then it is not paid yet
    won(stage, purchases[0])
    assert not active(stage, fan, creator)
    won(stage, purchases[1])
    assert active(stage, fan, creator)
    stage.audit()
