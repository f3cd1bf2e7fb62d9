"""Webhooks twice, late, out of order and about nothing of ours; and purchases that nobody has heard of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest
from fakes.stripe_server import StripeServer
from fakes.stripe_wire import Refused
from fakes.stripe_world import DECLINED
from stage import Stage
from till import Till, limits

from models.db import Database
from models.errors import Forbidden, PaymentRequired, Unavailable
from models.payments import GatewayEventRow, PurchaseRow
from models.people import PersonRow
from models.services import payments, webhooks


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    with StripeServer() as server:
        yield Till(stage, server)


def test_a_payment_on_stripes_page_is_credited_when_stripe_says_so(till: Till) -> None:
    # given: the buyer is on Stripe's page
    purchase = till.begin()
    assert purchase.status == "pending"
    assert purchase.checkout_url is not None
    assert purchase.checkout_url.startswith(till.server.url)
    assert till.available == 0
    # when
    till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    assert till.available == 0
    assert till.hear_all("checkout.session.completed") == ["done"]
    # then
    row = till.row(purchase.purchase_id)
    assert (row.status, (row.gateway_ref or "")[:3]) == ("succeeded", "pi_")
    assert till.available == 1_000
    assert till.stage.told(till.fan, "PURCHASE_CHANGED")[-1]["status"] == "succeeded"
    till.stage.audit()


def test_the_same_call_goes_on_at_the_same_page(till: Till) -> None:
    first = till.begin(key="k")
    assert till.begin(key="k") == first
    assert len(till.world.all("checkout.session")) == 1


def test_events_in_any_order_and_any_number_end_in_the_same_books(till: Till) -> None:
    # given: a payment that is disputed at once, and every event about it
    purchase = till.begin()
    session = till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    till.world.dispute(session["payment_intent"])
    events = till.world.all("event")
    assert {event["type"] for event in events} == {
        "payment_intent.succeeded",
        "checkout.session.completed",
        "charge.dispute.created",
    }
    # when: the dispute first, then the success; and all of it again, in every order
    for order in itertools.permutations(reversed(events)):
        for event in order:
            till.hear(event)
    # then
    assert till.row(purchase.purchase_id).status == "disputed"
    assert [row.status for row in till.disputes] == ["opened"]
    assert till.frozen
    assert till.available == 0
    assert len(till.rows(GatewayEventRow)) == len(events)
    till.stage.audit()


def test_a_repeat_calls_no_worker_again(till: Till) -> None:
    purchase = till.begin()
    till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    event = till.world.all("event", type="checkout.session.completed")[0]
    assert [till.receive(event), till.receive(event)] == [True, False]
    assert [actor for _, actor, _ in till.stage.actors()] == ["on_gateway_event"]
    asked = len(till.server.asked)
    assert till.act_on(event) == "done"
    assert len(till.server.asked) > asked
    asked = len(till.server.asked)
    assert till.act_on(event) == "done"
    assert len(till.server.asked) == asked


def test_an_event_that_lies_is_harmless(till: Till) -> None:
    """Signed, but its content says more than is true: the truth is asked for."""
    purchase = till.begin()
    reference = till.row(purchase.purchase_id).gateway_ref
    lie = till.world.emit(
        "checkout.session.completed",
        {"id": reference, "object": "checkout.session", "status": "complete", "payment_status": "paid"},
    )
    assert till.hear(lie) == "done"
    assert till.row(purchase.purchase_id).status == "pending"
    assert till.available == 0


def test_events_about_nothing_of_ours_are_kept_and_ignored(till: Till) -> None:
    foreign = till.world.checkout(
        {
            "line_items": [{"quantity": "1", "price_data": {"currency": "usd", "unit_amount": "100"}}],
            "expires_at": str(int(till.stage.now.timestamp()) + 3_000),
            "success_url": "https://x.test",
            "cancel_url": "https://x.test",
        }
    )
    till.world.pay(foreign["id"])
    for about in (
        ("checkout.session.completed", {"id": "cs_test_unknown"}),
        ("charge.dispute.created", {"id": "dp_1", "payment_intent": "pi_unknown"}),
        ("charge.dispute.created", {"id": "dp_1"}),
        ("radar.early_fraud_warning.created", {"id": "issfr_1", "charge": "ch_unknown"}),
        ("refund.updated", {"id": "re_unknown"}),
        ("plan.created", {"id": "plan_1"}),
    ):
        till.world.emit(*about)
    till.world.emit("payout.paid", {"id": "po_unknown"}, account="acct_unknown")
    till.world.emit("account.updated", {"id": "acct_unknown"}, account="acct_unknown")
    # when
    outcomes = till.hear_all()
    # then
    assert set(outcomes) == {"not_ours", "done"}
    assert {row.status for row in till.rows(GatewayEventRow)} == {"ignored"}
    assert till.rows(PurchaseRow) == []
    till.stage.audit()


def test_an_event_waits_while_stripe_is_away(till: Till) -> None:
    purchase = till.begin()
    till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    event = till.world.all("event", type="checkout.session.completed")[0]
    till.receive(event)
    till.server.away = True
    with pytest.raises(Unavailable):
        till.act_on(event)
    assert till.event_row(event).status == "received"
    till.server.away = False
    assert till.act_on(event) == "done"
    assert till.available == 1_000


def test_another_gateways_events_are_not_asked_about(till: Till) -> None:
    purchase = till.begin()
    event = till.world.emit("checkout.session.completed", {"id": till.row(purchase.purchase_id).gateway_ref})
    till.receive(event)
    other = type("Other", (), {"name": "other"})()
    assert webhooks.act_on(till.database, other, "stripe", event["id"], till.stage.now) == "other_gateway"


def test_a_payment_whose_webhook_never_came_is_found_by_asking(till: Till) -> None:
    # given
    purchase = till.begin()
    till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    # when: nobody asks before a minute has passed, then once a minute
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 0
    till.stage.later(minutes=1)
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 1
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 0
    assert [(queue, actor) for queue, actor, _ in till.stage.actors()] == [("payments", "reconcile_purchase")]
    done = payments.reconcile(till.database, till.gateway, purchase.purchase_id, till.stage.now)
    # then
    assert done.status == "succeeded"
    assert till.available == 1_000
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 0


def test_a_dispute_of_which_no_webhook_came_is_found_by_looking_again(till: Till) -> None:
    # given: a good payment, which nobody spends, and whose dispute nobody tells us of
    purchase = till.buy()
    till.world.dispute(purchase.gateway_ref or "")
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 0
    # when: half a minute later it is looked at again
    till.stage.later(seconds=30)
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 1
    payments.reconcile(till.database, till.gateway, purchase.id, till.stage.now)
    # then
    assert till.row(purchase.id).status == "disputed"
    assert till.frozen
    # and its end is found in the same way
    till.world.close_dispute(till.disputes[0].gateway_ref, won=True)
    till.stage.later(minutes=1)
    assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 1
    payments.reconcile(till.database, till.gateway, purchase.id, till.stage.now)
    assert till.row(purchase.id).status == "succeeded"
    assert not till.frozen
    till.stage.audit()


def test_an_answer_that_says_what_is_known_writes_nothing(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a good payment, one on Stripe's page, and one of which Stripe has not heard
    purchases = [till.buy().id, till.begin().purchase_id]
    till.server.away = True
    with pytest.raises(Unavailable):
        till.begin()
    till.server.away = False
    purchases += [row.id for row in till.rows(PurchaseRow) if row.id not in purchases]

    def writes(*_: object) -> None:
        raise AssertionError("an answer without news took a write transaction")

    # when
    with monkeypatch.context() as patched:
        patched.setattr(till.database, "run", writes)
        again = [payments.reconcile(till.database, till.gateway, id_, till.stage.now) for id_ in purchases]
    # then
    assert [purchase.status for purchase in again] == ["succeeded", "pending", "pending"]
    assert till.available == 1_000


def test_good_payments_are_looked_at_ever_more_rarely(till: Till) -> None:
    till.buy()
    looks = []
    began = till.stage.now
    while (ask_at := till.rows(PurchaseRow)[0].ask_at) is not None:
        till.stage.now = ask_at
        looks.append((ask_at - began).total_seconds())
        assert till.stage.run(lambda tx: payments.reconcile_due(tx, till.stage.now)) == 1
    assert looks[:3] == [30, 60, 90]
    assert 30 < len(looks) < 40
    assert 180 < looks[-1] / 86_400 < 280


def test_a_crash_between_the_charge_and_the_credit_is_made_good(till: Till) -> None:
    """Stripe made the checkout and its answer was lost: the purchase is found by its id."""
    till.server.lose_answers = 2
    with pytest.raises(Unavailable):
        till.begin(key="k")
    (lost,) = till.world.all("checkout.session")
    (row,) = till.rows(PurchaseRow)
    assert (row.status, row.gateway_ref) == ("pending", None)
    till.world.pay(lost["id"])
    assert payments.reconcile(till.database, till.gateway, row.id, till.stage.now).status == "succeeded"
    assert till.available == 1_000
    assert till.begin(key="k").status == "succeeded"
    assert len(till.world.all("checkout.session")) == 1
    till.stage.audit()


def test_a_lost_answer_and_the_same_call_again_is_one_payment(till: Till) -> None:
    till.server.lose_answers = 2
    with pytest.raises(Unavailable):
        till.begin(key="k")
    assert till.begin(key="k").checkout_url == till.world.all("checkout.session")[0]["url"]
    assert len(till.world.all("checkout.session")) == 1


def test_what_the_provider_never_heard_of_is_given_up_after_two_hours(till: Till) -> None:
    till.server.away = True
    with pytest.raises(Unavailable):
        till.begin()
    till.server.away = False
    (row,) = till.rows(PurchaseRow)
    till.stage.later(minutes=119)
    assert payments.reconcile(till.database, till.gateway, row.id, till.stage.now).status == "pending"
    till.stage.later(minutes=2)
    assert payments.reconcile(till.database, till.gateway, row.id, till.stage.now).status == "failed"


def test_money_that_comes_after_we_gave_up_is_credited(till: Till) -> None:
    purchase = till.begin()
    till.stage.run(
        lambda tx: payments.fail_purchase(
            tx, purchase.purchase_id, gateway_ref=None, detail="abandoned", now=till.stage.now
        )
    )
    till.world.pay(till.row(purchase.purchase_id).gateway_ref or "")
    assert till.hear_all("checkout.session.completed") == ["done"]
    assert till.row(purchase.purchase_id).status == "succeeded"
    assert till.available == 1_000
    till.stage.audit()


def test_a_checkout_that_ran_out_has_failed(till: Till) -> None:
    purchase = till.begin()
    reference = till.row(purchase.purchase_id).gateway_ref or ""
    with pytest.raises(Refused):
        till.world.pay(reference, DECLINED)
    till.hear_all()
    assert till.row(purchase.purchase_id).status == "pending"
    till.world.expire(reference)
    assert till.hear_all("checkout.session.expired") == ["done"]
    row = till.row(purchase.purchase_id)
    assert row.status == "failed"
    assert till.stage.told(till.fan, "PURCHASE_CHANGED")[-1]["status"] == "failed"


# --- saved cards ------------------------------------------------------------------------------------


def test_a_saved_card_buys_exactly_what_is_needed(till: Till) -> None:
    till.buy(save_card=True)
    with till.database.reading() as tx:
        assert payments.saved_customer(tx, till.fan.user_id, "stripe") is not None

    def charge(key: str, tokens: int) -> payments.Purchase:
        return payments.charge_saved(
            till.database,
            till.gateway,
            user_id=till.fan.user_id,
            tokens=tokens,
            key=key,
            cause_id="test",
            now=till.stage.now,
        )

    first = charge("renew:1", 137)
    assert (first.status, first.tokens, first.price_minor) == ("succeeded", 137, 685)
    assert charge("renew:1", 137) == first
    assert till.available == 1_137
    # so few that a card would not be charged for it: ten, for 50 cents
    assert charge("renew:2", 3).tokens == 10
    assert till.available == 1_147
    till.stage.audit()


def test_without_a_saved_card_nothing_is_charged(till: Till) -> None:
    till.buy()
    for _ in range(2):
        with pytest.raises(PaymentRequired) as refusal:
            payments.charge_saved(
                till.database,
                till.gateway,
                user_id=till.fan.user_id,
                tokens=100,
                key="renew",
                cause_id="test",
                now=till.stage.now,
            )
        assert refusal.value.code in ("NO_SAVED_CARD", "CARD_DECLINED")
    assert till.available == 1_000


def test_a_lost_answer_about_a_saved_card_charges_once(till: Till) -> None:
    till.buy(save_card=True)
    till.server.lose_answers = 2
    arguments = {"user_id": till.fan.user_id, "tokens": 200, "key": "renew", "cause_id": "test"}
    with pytest.raises(Unavailable):
        payments.charge_saved(till.database, till.gateway, **arguments, now=till.stage.now)  # type: ignore[arg-type]
    assert till.available == 1_000
    (pending,) = [row for row in till.rows(PurchaseRow) if row.status == "pending"]
    assert payments.reconcile(till.database, till.gateway, pending.id, till.stage.now).status == "succeeded"
    again = payments.charge_saved(till.database, till.gateway, **arguments, now=till.stage.now)  # type: ignore[arg-type]
    assert again.status == "succeeded"
    assert till.available == 1_200
    assert [amount for what, amount in till.world.moved if what == "charge"] == [4_800, 1_000]


# --- who may buy how much ---------------------------------------------------------------------------


def test_a_new_buyer_goes_slowly(till: Till) -> None:
    till.buy(limits=limits(10_000))
    till.begin(limits=limits(10_000))
    with pytest.raises(Forbidden) as refusal:
        till.begin(package="tokens-200", limits=limits(10_000))
    assert refusal.value.code == "PURCHASE_LIMIT"
    assert refusal.value.fields == {"limit_minor": 10_000, "spent_minor": 9_600}
    # a day later there is room again; a week after the first good payment there is no limit
    till.stage.later(days=1, seconds=1)
    till.begin(package="tokens-200", limits=limits(1_000))
    with pytest.raises(Forbidden):
        till.begin(package="tokens-200", limits=limits(1_000))
    till.stage.later(days=6)
    till.begin(package="tokens-2500", limits=limits(1_000))


def test_what_was_refused_does_not_count_and_what_turned_bad_does(till: Till) -> None:
    purchase = till.begin(limits=limits(5_000))
    till.world.expire(till.row(purchase.purchase_id).gateway_ref or "")
    till.hear_all()
    row = till.buy(limits=limits(5_000))
    till.world.dispute(row.gateway_ref or "")
    till.hear_all("charge.dispute.created")
    till.stage.run(lambda tx: setattr(tx.get_one(PersonRow, till.fan.user_id), "spending_frozen_at", None))
    with pytest.raises(Forbidden):
        till.begin(package="tokens-200", limits=limits(5_000))
    till.stage.later(days=8)
    with pytest.raises(Forbidden):
        # It never became a proven payment.
        till.begin(package="tokens-2500", limits=limits(5_000))
    assert till.stage.now > row.created_at + timedelta(days=7)
