"""Refunds made by hand on the provider's own pages: their tokens go, once, whoever tells us and however often."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from fakes.stripe_server import StripeServer
from stage import Stage
from till import Till

from models.db import Database
from models.errors import Conflict
from models.gateways.base import Dispute, Payment
from models.messages.commands import CloseRoom
from models.services import payments, purchase_refunds
from workers.payments import poll_request_payments


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


def by_hand(till: Till, reference: str | None, amount: int | None = None) -> str:
    """Somebody presses Refund on Stripe's pages; Stripe's id of it."""
    params = {"payment_intent": reference} | ({} if amount is None else {"amount": str(amount)})
    return str(till.world.refund(params)["id"])


def told(till: Till) -> list[str]:
    return till.hear_all("charge.refunded", "refund.created", "refund.failed")


def test_unspent_tokens_leave_with_their_money(till: Till) -> None:
    # given: 1,000 tokens for 48.00, of which half the price is given back by hand
    purchase = till.buy()
    by_hand(till, purchase.gateway_ref, 2_400)
    # when
    assert told(till) == ["done", "done"]
    # then
    assert till.available == 500
    assert not till.frozen
    (row,) = till.refunds
    assert (row.outside, row.status, row.tokens, row.amount_minor) == (True, "succeeded", 500, 2_400)
    assert till.row(purchase.id).status == "succeeded"
    assert till.stage.told(till.fan, "REFUND_CHANGED")[-1]["tokens"] == 500
    # and nobody asks Stripe to give that money back once more
    assert till.send(row.id) == "succeeded"
    assert len(till.world.all("refund")) == 1
    till.stage.audit()


def test_twice_late_and_out_of_order_are_once(till: Till) -> None:
    purchase = till.buy()
    for amount in (1_000, 1_400):
        by_hand(till, purchase.gateway_ref, amount)
    events = [one for one in till.world.all("event") if "refund" in one["type"]]
    assert len(events) == 4
    for order in itertools.islice(itertools.permutations(reversed(events)), 0, 24, 5):
        for event in order:
            till.hear(event)
    payments.reconcile(till.database, till.gateway, purchase.id, till.stage.now)
    assert till.available == 500
    assert sum(row.tokens for row in till.refunds) == 500
    assert sum(row.amount_minor for row in till.refunds) == 2_400
    till.stage.audit()


def test_a_refund_of_which_no_webhook_came_is_found_by_looking_again(till: Till) -> None:
    purchase = till.buy()
    by_hand(till, purchase.gateway_ref)
    till.stage.later(seconds=30)
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 1
    for _ in range(2):
        payments.reconcile(till.database, till.gateway, purchase.id, till.stage.now)
    assert till.available == 0
    assert not till.frozen
    assert len(till.refunds) == 1
    till.stage.audit()


def test_our_own_refunds_are_not_counted_again(till: Till) -> None:
    purchase = till.buy()
    assert till.send(till.refund(purchase.id, 300).refund_id) == "succeeded"
    told(till)
    assert till.available == 700
    assert till.row(purchase.id).refunded_outside_minor == 0
    # and with the rest by hand, all of it is gone
    by_hand(till, purchase.gateway_ref, 4_800 - 1_440)
    told(till)
    assert till.available == 0
    assert till.row(purchase.id).refunded_outside_minor == 4_800 - 1_440
    assert sorted(row.tokens for row in till.refunds) == [300, 700]
    till.stage.audit()


def test_a_whole_price_back_while_tokens_are_in_use_is_a_bad_payment(till: Till) -> None:
    """As for a dispute: the call ends, spent tokens come from who was paid, and spending is frozen."""
    # given: a call paid and settled, and another one that runs
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    first = stage.accept(stage.ask(till.fan, stream, 5).request_id, creator)
    stage.opened(first.session_id)
    stage.delivered(first.session_id, 1, 0)
    stage.later(minutes=5)
    stage.call_ended(first.session_id, "time_expired", 300_000)
    other, theirs = stage.live()
    second = stage.accept(stage.ask(till.fan, theirs, 5).request_id, other)
    stage.opened(second.session_id)
    stage.delivered(second.session_id, 1, 0)
    assert stage.balances(creator)["earnings_pending"] == 400
    # when
    refund = by_hand(till, purchase.gateway_ref)
    assert told(till) == ["done", "done"]
    # then
    assert till.frozen
    assert [one.reason for one in stage.commands(CloseRoom) if one.room_id == second.room_id] == ["PAYMENT_FAILED"]
    stage.call_ended(second.session_id, "closed", 60_000)
    assert stage.balances(creator)["earnings_pending"] == stage.balances(other)["earnings_pending"] == 0
    assert till.available == 0
    assert till.row(purchase.id).status == "failed"
    stage.audit()
    # and when the bank sends that refund back, the money is ours and everything returns
    till.world.fail_refund(refund)
    told(till)
    payments.reconcile(till.database, till.gateway, purchase.id, stage.now)
    assert till.row(purchase.id).status == "succeeded"
    assert not till.frozen
    assert stage.balances(creator)["earnings_pending"] == 400
    assert till.available == 500
    stage.audit()


def test_a_part_takes_what_is_held_once_it_comes_back(till: Till) -> None:
    # given: 1,000 tokens, 500 of them held by a request
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    request = stage.ask(till.fan, stream, 5)
    by_hand(till, purchase.gateway_ref, 3_600)
    # when: a poll of that request finds it
    assert poll_request_payments(till.database, till.gateway, request.request_id, stage.now) == 0
    # then: 750 are due, 500 are there; nothing is closed and nobody frozen
    assert till.available == 0
    assert stage.balances(till.fan)["held"] == 500
    assert not till.frozen
    stage.audit()
    # when it is declined, the rest leaves at the next look, a minute later at most
    stage.decline(request.request_id, creator)
    stage.later(minutes=1)
    assert stage.run(lambda tx: payments.reconcile_due(tx, stage.now)) == 1
    payments.reconcile(till.database, till.gateway, purchase.id, stage.now)
    assert till.available == 250
    assert sum(row.tokens for row in till.refunds) == 750
    stage.audit()


def test_what_is_due_is_not_given_back_a_second_time(till: Till) -> None:
    """Between the moment in which tokens come free and the next look their owner may ask for their price."""
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    request = stage.ask(till.fan, stream, 5)
    by_hand(till, purchase.gateway_ref, 3_600)
    told(till)
    stage.decline(request.request_id, creator)
    with pytest.raises(Conflict) as refusal:
        till.refund(purchase.id, 500)
    assert (refusal.value.code, refusal.value.fields["unspent"]) == ("NOT_UNSPENT", 250)
    till.send(till.refund(purchase.id, 250).refund_id)
    assert sum(amount for what, amount in till.world.moved if what == "refund") == -4_800
    stage.audit()


def test_what_a_part_stood_for_and_was_spent_is_our_loss(till: Till) -> None:
    purchase = till.buy()
    stage = till.stage
    creator, stream = stage.live()
    session = stage.accept(stage.ask(till.fan, stream, 10).request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 0)
    stage.later(minutes=10)
    stage.call_ended(session.session_id, "time_expired", 600_000)
    by_hand(till, purchase.gateway_ref, 2_400)
    assert told(till) == ["done", "done"]
    assert stage.balances(creator)["earnings_pending"] == 800
    assert till.refunds == []
    assert not till.frozen
    assert till.row(purchase.id).refunded_outside_minor == 2_400
    stage.audit()


def test_a_refund_that_the_bank_sends_back_returns_its_tokens(till: Till) -> None:
    purchase = till.buy()
    by_hand(till, purchase.gateway_ref, 480)
    refund = by_hand(till, purchase.gateway_ref, 960)
    told(till)
    assert till.available == 700
    till.world.fail_refund(refund)
    assert till.hear_all("refund.failed") == ["done"]
    assert till.available == 900
    assert sum(row.tokens for row in till.refunds if row.status == "succeeded") == 100
    shown = till.stage.run(lambda tx: purchase_refunds.bought(tx, till.fan.user_id))
    assert shown[0].unspent == 900
    till.stage.audit()


def test_a_refund_before_the_success_was_heard_of(till: Till) -> None:
    purchase = till.begin()
    session = till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    by_hand(till, session["payment_intent"])
    assert told(till) == ["done", "done"]
    assert till.available == 0
    till.hear_all()
    assert till.available == 0
    assert till.row(purchase.purchase_id).succeeded_at is not None
    assert not till.frozen
    till.stage.audit()


def test_a_dispute_after_it_takes_the_rest_and_gives_the_rest_back(till: Till) -> None:
    purchase = till.buy()
    by_hand(till, purchase.gateway_ref, 2_400)
    told(till)
    dispute = till.world.dispute(purchase.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    assert till.available == 0
    till.world.close_dispute(dispute["id"], won=True)
    till.hear_all("charge.dispute.closed")
    assert till.available == 500
    assert not till.frozen
    till.stage.audit()


def test_a_dispute_that_was_won_and_then_the_whole_price_by_hand_heard_of_at_once(till: Till) -> None:
    """Nothing was in use, all money is back: nobody stays frozen for it."""
    purchase = till.buy()
    dispute = till.world.dispute(purchase.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    assert till.frozen
    # when: no word of the two came in between
    row = till.row(purchase.id)
    answer = Payment(
        reference=row.gateway_ref or "",
        status="succeeded",
        purchase_id=row.id,
        dispute=Dispute(reference=dispute["id"], status="won", reason="fraudulent", amount_minor=row.price_minor),
        refunded_outside_minor=row.price_minor,
    )
    till.stage.later(seconds=1)
    for _ in range(2):
        till.stage.run(lambda tx: payments.apply(tx, row.id, answer, till.stage.now))
    # then
    assert (till.available, till.frozen) == (0, False)
    assert till.row(purchase.id).status == "succeeded"
    till.stage.audit()
