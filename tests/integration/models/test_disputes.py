"""Disputes from first to last: what is frozen, closed, ended and taken back, and what a won one undoes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.stripe_server import StripeServer
from stage import Stage
from till import Till

from models.db import Database
from models.errors import Forbidden
from models.messages.commands import CloseRoom
from models.people import PersonRow
from models.services import payments
from workers.payments import poll_request_payments, poll_session_payments


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


def disputed(till: Till, reference: str | None) -> str:
    """The card's owner disputes that payment, and we hear of it; Stripe's id of the dispute."""
    dispute = till.world.dispute(reference or "")
    assert till.hear_all("charge.dispute.created")[-1] == "done"
    return str(dispute["id"])


def decided(till: Till, dispute_id: str, *, won: bool) -> None:
    till.world.close_dispute(dispute_id, won=won)
    assert till.hear_all("charge.dispute.closed")[-1] == "done"


def test_a_dispute_is_kept_with_what_the_bank_says(till: Till) -> None:
    purchase = till.buy()
    disputed(till, purchase.gateway_ref)
    (row,) = till.disputes
    assert (row.purchase_id, row.user_id, row.status) == (purchase.id, till.fan.user_id, "opened")
    assert (row.reason, row.amount_minor, row.currency) == ("fraudulent", 4_800, "USD")
    assert row.due_at is not None
    assert row.due_at > till.stage.now
    assert till.frozen
    assert till.available == 0
    till.stage.audit()


def test_a_dispute_ends_the_live_call_that_its_tokens_pay(till: Till) -> None:
    # given: a call, of which three minutes are delivered
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    session = stage.accept(stage.ask(till.fan, stream, 10).request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 0)
    stage.later(minutes=3)
    stage.delivered(session.session_id, 2, 180_000)
    # when
    disputed(till, purchase.gateway_ref)
    # then: the room is told to close, with the reason that people see
    assert stage.session(session.session_id).end_cause == "payment_failed"
    closing = [one for one in stage.commands(CloseRoom) if one.room_id == session.room_id]
    assert [one.reason for one in closing] == ["PAYMENT_FAILED"]
    # and the settlement pays nothing with bad tokens
    stage.call_ended(session.session_id, "closed", 180_000)
    assert stage.receipt(session.session_id).earnings == 0
    assert stage.balances(till.fan)["wallet"] == 0
    assert stage.balances(creator)["earnings_pending"] == 0
    stage.audit()


def test_a_call_paid_with_other_tokens_goes_on(till: Till) -> None:
    """Spending is frozen, so it cannot be extended; what is held is good."""
    good = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    stage.later(seconds=1)
    bad = till.buy(package="tokens-200")
    session = stage.accept(stage.ask(till.fan, stream, 10).request_id, creator)
    disputed(till, bad.gateway_ref)
    assert stage.session(session.session_id).end_cause is None
    assert till.row(good.id).status == "succeeded"
    stage.audit()


def test_open_requests_are_closed_and_no_new_one_is_made(till: Till) -> None:
    purchase, other = till.buy(), till.buy(package="tokens-200")
    stage = till.stage
    (_, first), (_, second) = stage.live(), stage.live()
    stage.ask(till.fan, first, 5)
    disputed(till, purchase.gateway_ref)
    assert stage.balances(till.fan)["held"] == 0
    with pytest.raises(Forbidden) as refusal:
        stage.ask(till.fan, second, 5)
    assert refusal.value.code == "SPENDING_FROZEN"
    # and another, good purchase is not given back either, nor is anything bought
    for attempt in (lambda: till.refund(other.id), till.begin):
        with pytest.raises(Forbidden) as refusal:
            attempt()
        assert refusal.value.code == "SPENDING_FROZEN"
    stage.audit()


def test_spent_tokens_come_back_from_who_was_paid_and_return_when_won(till: Till) -> None:
    # given: a call paid in full, then the dispute
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    session = stage.accept(stage.ask(till.fan, stream, 5).request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 0)
    stage.later(minutes=5)
    stage.call_ended(session.session_id, "time_expired", 300_000)
    assert stage.balances(creator)["earnings_pending"] == 400
    dispute = disputed(till, purchase.gateway_ref)
    assert stage.balances(creator)["earnings_pending"] == 0
    assert till.available == 0
    stage.audit()
    # when the bank decides for us
    decided(till, dispute, won=True)
    # then
    assert [row.status for row in till.disputes] == ["won"]
    assert till.row(purchase.id).status == "succeeded"
    assert stage.balances(creator)["earnings_pending"] == 400
    assert till.available == 500
    assert not till.frozen
    stage.ask(till.fan, stage.live()[1], 5)
    stage.audit()


def test_a_lost_dispute_stays_as_it_is(till: Till) -> None:
    purchase = till.buy()
    dispute = disputed(till, purchase.gateway_ref)
    decided(till, dispute, won=False)
    decided(till, dispute, won=False)
    assert [row.status for row in till.disputes] == ["lost"]
    assert till.disputes[0].closed_at is not None
    assert till.row(purchase.id).status == "disputed"
    assert till.frozen
    assert till.available == 0
    till.stage.audit()


def test_spending_stays_frozen_while_anything_else_is_bad(till: Till) -> None:
    first, second = till.buy(), till.buy(package="tokens-200")
    one, other = disputed(till, first.gateway_ref), disputed(till, second.gateway_ref)
    decided(till, one, won=True)
    assert till.frozen
    assert till.available == 1_000
    decided(till, other, won=True)
    assert not till.frozen
    assert till.available == 1_200
    till.stage.audit()


def test_a_freeze_by_an_admin_outlives_a_won_dispute(till: Till) -> None:
    purchase = till.buy()
    dispute = disputed(till, purchase.gateway_ref)
    till.stage.later(minutes=1)
    till.stage.run(
        lambda tx: setattr(tx.get_one(PersonRow, till.fan.user_id), "spending_frozen_at", till.stage.now)
    )
    decided(till, dispute, won=True)
    assert till.frozen
    assert till.available == 1_000


def test_an_early_warning_flags_and_takes_nothing(till: Till) -> None:
    purchase = till.buy()
    till.world.warn(purchase.gateway_ref or "")
    till.hear_all("radar.early_fraud_warning.created")
    assert till.row(purchase.id).flagged_at is not None
    assert not till.frozen
    assert till.available == 1_000


def test_an_inquiry_is_no_dispute_yet(till: Till) -> None:
    purchase = till.buy()
    dispute = till.world.dispute(purchase.gateway_ref or "")
    dispute["status"] = "warning_needs_response"
    till.hear_all("charge.dispute.created")
    assert till.row(purchase.id).status == "succeeded"
    assert not till.frozen


def test_polls_find_a_dispute_behind_a_session_and_behind_an_open_request(till: Till) -> None:
    # given: no webhook comes
    purchase = till.buy()
    stage = till.stage
    _creator, stream = stage.live()
    request = stage.ask(till.fan, stream, 5)
    assert request.request_id in stage.run(payments.open_requests_paid)
    assert poll_request_payments(till.database, till.gateway, request.request_id, stage.now) == 0
    till.world.dispute(purchase.gateway_ref or "")
    # when Stripe is away it is no failure
    till.server.away = True
    assert poll_request_payments(till.database, till.gateway, request.request_id, stage.now) == 0
    assert not till.frozen
    till.server.away = False
    # then
    assert poll_request_payments(till.database, till.gateway, request.request_id, stage.now) == 1
    assert poll_request_payments(till.database, till.gateway, request.request_id, stage.now) == 0
    assert till.frozen
    assert stage.run(payments.open_requests_paid) == ()
    stage.audit()


def test_a_poll_ends_the_session_once(till: Till) -> None:
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    session = stage.accept(stage.ask(till.fan, stream, 5).request_id, creator)
    stage.opened(session.session_id)
    till.world.dispute(purchase.gateway_ref or "")
    assert poll_session_payments(till.database, till.gateway, session.session_id, stage.now) == 1
    assert till.hear_all("charge.dispute.created") == ["done"]
    assert len([one for one in stage.commands(CloseRoom) if one.room_id == session.room_id]) == 1
    assert len(till.disputes) == 1
    stage.call_ended(session.session_id, "closed", 0)
    stage.audit()
