"""Renewing with a saved card: charged once a period whatever comes twice, retried by the day when declined."""

from __future__ import annotations

from datetime import timedelta

import pytest
from patrons import active, found, freeze, patron_of, subscribe
from sqlalchemy import select
from stage import Stage

from models.db import Database
from models.errors import Unavailable
from models.gateways.base import Order, Payment
from models.gateways.sandbox import SandboxGateway
from models.payments import PurchaseRow
from models.services import payments, renewals, spending, subscriptions
from models.services.accounts import Person
from workers.subscriptions import renew_subscription

PRICE = 300


class Lossy(SandboxGateway):
    """Charges, and then the answer is lost as often as ``losses`` says."""

    losses = 0

    def charge_saved(self, order: Order) -> Payment:
        payment = super().charge_saved(order)
        if self.losses:
            self.losses -= 1
            raise Unavailable("The answer was lost.")
        return payment


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


@pytest.fixture
def gateway(stage: Stage) -> Lossy:
    return Lossy(stage.database, 60_000, lambda: stage.now)


def save_card(stage: Stage, gateway: Lossy, fan: Person, card: str) -> None:
    payments.top_up(
        stage.database,
        gateway,
        user_id=fan.user_id,
        package_id="tokens-200",
        card=card,
        key=f"save-{card}",
        cause_id="test",
        now=stage.now,
        save_card=True,
    )


def subscribed(stage: Stage, gateway: Lossy, card: str = "succeeds") -> tuple[Person, Person, str]:
    """A fan without tokens whose subscription is at its period's end, paid with that card."""
    creator, fan = patron_of(stage, price=PRICE), stage.fan(100)
    save_card(stage, gateway, fan, "saved-fails" if card == "fails" else card)
    view = subscribe(stage, fan, creator, paid_by="gateway")
    assert stage.balances(fan)["wallet"] == 0
    stage.now = view.period_end
    return fan, creator, view.subscription_id


def clock(stage: Stage) -> int:
    return stage.run(lambda tx: renewals.renew_due(tx, stage.now))


def work(stage: Stage, gateway: Lossy, subscription_id: str, period: int = 2) -> bool:
    return renew_subscription(stage.database, gateway, subscription_id, period, stage.now)


def charged(stage: Stage, fan: Person) -> list[str]:
    with stage.database.reading() as tx:
        mine = select(PurchaseRow.status).where(PurchaseRow.user_id == fan.user_id, PurchaseRow.way == "saved")
        return sorted(tx.scalars(mine))


def test_the_card_is_charged_once_and_the_month_begins(stage: Stage, gateway: Lossy) -> None:
    # given
    fan, creator, subscription_id = subscribed(stage, gateway)
    # when: the clock hands it to a worker, and looks again only a day later
    assert [clock(stage), clock(stage)] == [1, 0]
    assert [actor for _, actor, _ in stage.actors()].count("renew_subscription") == 1
    assert stage.told(fan, "SUBSCRIPTION_CHANGED")[-1]["status"] == "active"
    # and the message comes three times
    assert [work(stage, gateway, subscription_id) for _ in range(3)] == [True, False, False]
    # then
    assert charged(stage, fan) == ["succeeded"]
    assert (active(stage, fan, creator), stage.balances(fan)["wallet"]) == (True, 0)
    stage.now += timedelta(days=1)
    assert clock(stage) == 0
    stage.audit()


def test_what_was_chosen_pays_whatever_the_wallet_has(stage: Stage, gateway: Lossy) -> None:
    """The card, for who chose the card; and never the card for who chose tokens, though one is saved."""
    # given
    by_card, cards_creator, subscription_id = subscribed(stage, gateway)
    creator, by_tokens = patron_of(stage, price=PRICE), stage.fan(700)
    save_card(stage, gateway, by_tokens, "succeeds")
    view = subscribe(stage, by_tokens, creator, paid_by="tokens")
    payments.top_up(
        stage.database,
        gateway,
        user_id=by_card.user_id,
        package_id="tokens-1000",
        key="more",
        cause_id="test",
        now=stage.now,
    )
    stage.now = view.period_end
    # when
    clock(stage)
    assert work(stage, gateway, subscription_id)
    assert work(stage, gateway, view.subscription_id) is False
    # then
    assert (charged(stage, by_card), stage.balances(by_card)["wallet"]) == (["succeeded"], 1_000)
    assert (charged(stage, by_tokens), stage.balances(by_tokens)["wallet"]) == ([], 300)
    assert active(stage, by_card, cards_creator)
    assert active(stage, by_tokens, creator)
    stage.audit()


def test_a_lost_answer_is_no_second_charge(stage: Stage, gateway: Lossy) -> None:
    fan, creator, subscription_id = subscribed(stage, gateway)
    clock(stage)
    gateway.losses = 2
    for _ in range(2):
        with pytest.raises(Unavailable):
            work(stage, gateway, subscription_id)
    # a day passes, and the next try takes up what was begun
    stage.now += timedelta(days=1)
    assert clock(stage) == 1
    assert work(stage, gateway, subscription_id)
    assert charged(stage, fan) == ["succeeded"]
    assert active(stage, fan, creator)


def test_a_declined_card_is_tried_each_day_and_then_it_ends(stage: Stage, gateway: Lossy) -> None:
    fan, creator, subscription_id = subscribed(stage, gateway, "fails")
    for _ in range(3):
        assert clock(stage) == 1
        assert [work(stage, gateway, subscription_id), work(stage, gateway, subscription_id)] == [False, False]
        stage.now += timedelta(days=1)
    assert charged(stage, fan) == ["failed"] * 3
    assert found(stage, fan)[0].status == "unpaid"
    told = [message["status"] for message in stage.told(fan, "SUBSCRIPTION_CHANGED")]
    assert told == ["active", *["unpaid"] * 6]
    clock(stage)
    assert (found(stage, fan)[0].end_reason, active(stage, fan, creator)) == ("unpaid", False)
    assert work(stage, gateway, subscription_id) is False


def test_a_message_that_comes_before_its_time_charges_nothing(stage: Stage, gateway: Lossy) -> None:
    fan, _, subscription_id = subscribed(stage, gateway)
    stage.now -= timedelta(seconds=1)
    assert work(stage, gateway, subscription_id) is False
    assert charged(stage, fan) == []


def test_a_cancelled_one_charges_nothing(stage: Stage, gateway: Lossy) -> None:
    fan, _, subscription_id = subscribed(stage, gateway)
    clock(stage)
    stage.run(lambda tx: subscriptions.cancel(tx, subscription_id, fan_id=fan.user_id, now=stage.now))
    assert work(stage, gateway, subscription_id) is False
    assert charged(stage, fan) == []


def test_a_card_charged_too_late_leaves_its_tokens_to_the_fan(stage: Stage, gateway: Lossy) -> None:
    fan, _, subscription_id = subscribed(stage, gateway)
    clock(stage)
    gateway.losses = 1
    with pytest.raises(Unavailable):
        work(stage, gateway, subscription_id)
    stage.run(lambda tx: subscriptions.cancel(tx, subscription_id, fan_id=fan.user_id, now=stage.now))
    with stage.database.reading() as tx:
        purchase = tx.scalars(select(PurchaseRow.id).where(PurchaseRow.way == "saved")).one()
    payments.reconcile(stage.database, gateway, purchase, stage.now)
    assert stage.balances(fan)["wallet"] == PRICE
    stage.audit()


@pytest.mark.parametrize("why", ["frozen", "cap"])
def test_no_card_is_charged_for_what_could_not_be_paid_then(stage: Stage, gateway: Lossy, why: str) -> None:
    fan, creator, subscription_id = subscribed(stage, gateway)
    clock(stage)
    if why == "frozen":
        freeze(stage, fan)
    else:
        stage.run(lambda tx: spending.set_cap(tx, fan.user_id, PRICE - 1, stage.now))
    assert work(stage, gateway, subscription_id) is False
    assert (charged(stage, fan), active(stage, fan, creator)) == ([], False)
    assert stage.told(fan, "SUBSCRIPTION_CHANGED")[-1]["status"] == "unpaid"
