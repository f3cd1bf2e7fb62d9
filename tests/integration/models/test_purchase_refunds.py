"""Unused tokens back for money: only what is unspent, never more than was paid, and a refusal undoes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.stripe_server import StripeServer
from fakes.stripe_world import REFUND_FAILS
from hypothesis import given
from hypothesis import strategies as st
from stage import Stage
from till import Till

from models import ledger
from models.db import Database
from models.errors import Conflict, Invalid, NotFound, Unavailable
from models.services import payments, purchase_refunds
from workers.payments import send_refund


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


def bought(till: Till) -> tuple[purchase_refunds.BoughtView, ...]:
    return till.stage.run(lambda tx: purchase_refunds.bought(tx, till.fan.user_id))


def test_unspent_tokens_go_back_for_their_price(till: Till) -> None:
    # given: 1,000 tokens for $48, of which 500 are held
    purchase = till.buy()
    till.stage.ask(till.fan, till.stage.live()[1], 5)
    (shown,) = bought(till)
    assert (shown.unspent, shown.refund_minor) == (500, 2_400)
    # when: 100, then all the rest
    first, rest = till.refund(purchase.id, 100), till.refund(purchase.id)
    assert (first.tokens, first.amount_minor, first.status) == (100, 480, "requested")
    assert (rest.tokens, rest.amount_minor) == (400, 1_920)
    assert till.available == 0
    assert [actor for _, actor, _ in till.stage.actors()][-2:] == ["send_refund", "send_refund"]
    # then
    assert [till.send(first.refund_id), till.send(rest.refund_id)] == ["succeeded", "succeeded"]
    assert [amount for what, amount in till.world.moved if what == "refund"] == [-480, -1_920]
    assert till.row(purchase.id).refunded_minor == 2_400
    assert till.stage.told(till.fan, "REFUND_CHANGED")[-1]["status"] == "succeeded"
    assert [one.status for one in bought(till)[0].refunds] == ["succeeded", "succeeded"]
    till.stage.audit()


def test_what_is_held_or_spent_is_not_given_back(till: Till) -> None:
    purchase = till.buy()
    till.stage.ask(till.fan, till.stage.live()[1], 10)
    for tokens in (None, 1):
        with pytest.raises(Conflict) as refusal:
            till.refund(purchase.id, tokens)
        assert (refusal.value.code, refusal.value.fields["unspent"]) == ("NOT_UNSPENT", 0)
    for tokens in (0, -5):
        with pytest.raises((Conflict, Invalid)):
            till.refund(purchase.id, tokens)
    assert till.refunds == []


def test_a_repeat_asks_stripe_once(till: Till) -> None:
    refund = till.refund(till.buy().id)
    for _ in range(3):
        assert till.send(refund.refund_id) == "succeeded"
    assert len(till.world.all("refund")) == 1


def test_a_lost_answer_moves_money_once(till: Till) -> None:
    refund = till.refund(till.buy().id)
    till.server.lose_answers = 2
    with pytest.raises(Unavailable):
        till.send(refund.refund_id)
    till.server.memory.forget()
    assert till.send(refund.refund_id) == "succeeded"
    assert [amount for what, amount in till.world.moved if what == "refund"] == [-4_800]


def test_a_refused_refund_gives_the_tokens_back(till: Till) -> None:
    # given: the payment was refunded elsewhere
    purchase = till.buy()
    till.world.refund({"payment_intent": purchase.gateway_ref})
    refund = till.refund(purchase.id, 300)
    assert till.available == 700
    # when
    assert till.send(refund.refund_id) == "refused"
    # then
    assert till.available == 1_000
    assert till.row(purchase.id).refunded_minor == 0
    (row,) = till.refunds
    assert (row.status, row.detail) == ("refused", "charge_already_refunded")
    assert till.stage.told(till.fan, "REFUND_CHANGED")[-1]["status"] == "refused"
    assert till.send(refund.refund_id) == "refused"
    till.stage.audit()


def test_a_bank_may_send_a_refund_back_days_later(till: Till) -> None:
    # given: a card whose refunds come back; first pending, then, from elsewhere, a success that fails
    begun = till.begin()
    till.world.pay(till.row(begun.purchase_id).gateway_ref or "", REFUND_FAILS)
    payments.reconcile(till.database, till.gateway, begun.purchase_id, till.stage.now)
    refund = till.refund(begun.purchase_id)
    assert till.send(refund.refund_id) == "sent"
    (theirs,) = till.world.all("refund")
    theirs["status"] = "succeeded"
    assert till.send(refund.refund_id) == "succeeded"
    # when
    till.world.fail_refund(theirs["id"])
    assert till.hear_all("refund.failed") == ["done"]
    # then
    assert till.available == 1_000
    assert till.refunds[0].status == "refused"
    till.stage.audit()


def test_while_stripe_is_away_the_clock_has_it_asked_each_minute(till: Till) -> None:
    refund = till.refund(till.buy().id)
    till.server.away = True
    send_refund(till.database, till.gateway, refund.refund_id, till.stage.now)
    assert till.refunds[0].status == "requested"
    assert till.stage.run(lambda tx: purchase_refunds.ask_again(tx, till.stage.now)) == 0
    till.stage.later(minutes=1)
    assert till.stage.run(lambda tx: purchase_refunds.ask_again(tx, till.stage.now)) == 1
    assert till.stage.run(lambda tx: purchase_refunds.ask_again(tx, till.stage.now)) == 0
    till.server.away = False
    send_refund(till.database, till.gateway, refund.refund_id, till.stage.now)
    assert till.refunds[0].status == "succeeded"
    till.stage.later(minutes=5)
    assert till.stage.run(lambda tx: purchase_refunds.ask_again(tx, till.stage.now)) == 0


def test_only_the_buyer_and_only_what_was_paid(till: Till) -> None:
    pending = till.begin()
    with pytest.raises(Conflict) as refusal:
        till.refund(pending.purchase_id)
    assert refusal.value.code == "NOT_REFUNDABLE"
    with pytest.raises(NotFound):
        till.refund("pur_unknown")
    paid = till.buy()
    till.fan = till.stage.fan()
    with pytest.raises(NotFound):
        till.refund(paid.id)


def test_a_dispute_after_a_refund_takes_only_what_is_left(till: Till) -> None:
    purchase = till.buy()
    refund = till.refund(purchase.id, 400)
    till.send(refund.refund_id)
    till.world.dispute(purchase.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    assert till.available == 0
    with till.database.reading() as tx:
        assert ledger.balance(tx, "gateway:stripe") == 0
    # and a refund that fails afterwards has nobody to come back to but the gateway
    till.world.fail_refund(till.world.all("refund")[0]["id"])
    till.hear_all("refund.failed")
    assert till.available == 0
    till.stage.audit()


@given(price=st.integers(1, 10**7), tokens=st.integers(1, 10**6), data=st.data())
def test_parts_never_add_up_to_more_than_was_paid(price: int, tokens: int, data: st.DataObject) -> None:
    left, back = tokens, 0
    while left and data.draw(st.booleans()):
        part = data.draw(st.integers(1, left))
        left -= part
        back += purchase_refunds.amount_for(price, tokens, part)
    assert back + purchase_refunds.amount_for(price, tokens, left) <= price
    assert purchase_refunds.amount_for(price, tokens, tokens) == price
