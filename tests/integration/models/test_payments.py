"""Buying tokens through the sandbox, and what follows when a payment turns out bad."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from stage import Stage

from models import ledger
from models.audit import books_problems
from models.db import Database
from models.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired, Unavailable
from models.gateways.base import Checkout, Order
from models.gateways.sandbox import SandboxGateway
from models.payments import PaymentAttemptRow, PurchaseRow
from models.services import payments, wallet

T = TypeVar("T")


class Shop(SandboxGateway):
    """A sandbox whose clock the test moves, whose answers can get lost, and one buyer."""

    def __init__(self, database: Database, buyer: str, now: datetime) -> None:
        super().__init__(database, 60_000, now=lambda: self.now)
        self.database, self.buyer, self.now = database, buyer, now
        self.away = False
        self.charged: list[str] = []

    def create_checkout(self, order: Order, *, return_url: str, card: str | None = None) -> Checkout:
        self.charged.append(order.purchase_id)
        checkout = super().create_checkout(order, return_url=return_url, card=card)
        if self.away:
            raise Unavailable("The answer was lost.")
        return checkout

    def buy(self, card: str = "succeeds", key: str = "key", package: str = "tokens-1000") -> payments.Purchase:
        return payments.top_up(
            self.database,
            self,
            user_id=self.buyer,
            package_id=package,
            card=card,
            key=key,
            cause_id="test",
            now=self.now,
        )

    def read(self, fn: Callable[[Session], T]) -> T:
        with self.database.reading() as tx:
            assert books_problems(tx) == ()
            return fn(tx)

    @property
    def available(self) -> int:
        return self.read(lambda tx: wallet.wallet(tx, self.buyer)).available

    def statuses(self) -> list[str]:
        return self.read(lambda tx: list(tx.scalars(select(PurchaseRow.status).order_by(PurchaseRow.created_at))))


def staged(database: Database) -> Stage:
    """A stage with a media node and a web process."""
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


@pytest.fixture
def shop(database: Database, make_person: Callable[..., str], now: datetime) -> Shop:
    return Shop(database, make_person("fan"), now)


def test_the_packages_have_the_prices_of_the_shop_window() -> None:
    assert [(package.tokens, package.price_minor) for package in payments.packages()] == [
        (200, 1_000),
        (500, 2_500),
        (1_000, 4_800),
        (2_500, 11_500),
    ]


def test_a_good_card_credits_the_tokens_at_once(shop: Shop) -> None:
    purchase = shop.buy()
    assert (purchase.status, purchase.tokens, purchase.price_minor) == ("succeeded", 1_000, 4_800)
    assert shop.available == 1_000
    assert shop.read(lambda tx: ledger.balance(tx, "gateway:sandbox")) == -1_000


def test_the_same_key_buys_once(shop: Shop) -> None:
    assert shop.buy() == shop.buy()
    assert shop.available == 1_000
    with pytest.raises(Conflict):
        shop.buy(package="tokens-200")
    shop.buy(key="another")
    assert shop.available == 2_000


def test_a_declined_card_credits_nothing_and_stays_declined(shop: Shop) -> None:
    for _ in range(2):
        with pytest.raises(PaymentRequired) as refusal:
            shop.buy("fails")
        assert refusal.value.code == "CARD_DECLINED"
    assert shop.available == 0
    assert shop.statuses() == ["failed"]
    assert len(shop.charged) == 1


def test_a_lost_answer_is_asked_for_again_and_charges_once(shop: Shop) -> None:
    shop.away = True
    with pytest.raises(Unavailable):
        shop.buy()
    assert shop.statuses() == ["pending"]
    assert shop.available == 0
    shop.away = False
    shop.buy()
    assert shop.available == 1_000
    assert len(set(shop.charged)) == 1


def test_no_such_package_and_no_such_card(shop: Shop) -> None:
    with pytest.raises(NotFound):
        shop.buy(package="tokens-1")
    with pytest.raises(Invalid):
        shop.buy("unknown")
    assert shop.statuses() == ["failed"]


def test_completing_and_failing_are_repeatable_and_exclusive(shop: Shop) -> None:
    bought = shop.buy().purchase_id

    def complete(tx: Session) -> payments.Purchase:
        return payments.complete_purchase(tx, bought, gateway_ref="other", now=shop.now)

    assert shop.database.run(complete).status == "succeeded"
    assert shop.available == 1_000
    with pytest.raises(Conflict):
        shop.database.run(
            lambda tx: payments.fail_purchase(tx, bought, gateway_ref=None, detail="late", now=shop.now)
        )
    with pytest.raises(NotFound):
        shop.database.run(lambda tx: payments.complete_purchase(tx, "pur_unknown", gateway_ref="x", now=shop.now))


@pytest.mark.parametrize(("card", "status"), [("fails-later", "failed"), ("disputed", "disputed")])
def test_a_bad_payment_freezes_spending_and_takes_back_what_is_there(
    shop: Shop, card: str, status: payments.BadStatus
) -> None:
    # given: 1,000 good tokens and 200 that look good
    shop.buy()
    reference = f"sandbox_{shop.buy(card, key='bad', package='tokens-200').purchase_id}"
    assert shop.available == 1_200
    assert shop.status(reference).good
    # when: 40 s later
    shop.now += timedelta(seconds=40)
    assert shop.status(reference).status == status
    first = shop.database.run(lambda tx: payments.mark_bad(tx, reference, shop.now, status=status))
    again = shop.database.run(lambda tx: payments.mark_bad(tx, reference, shop.now, status=status))
    # then
    assert (first, again) == (True, False)
    assert shop.available == 1_000
    assert sorted(shop.statuses()) == sorted(["succeeded", status])
    with pytest.raises(Forbidden) as refusal:
        shop.database.run(
            lambda tx: ledger.hold(tx, shop.buyer, 1, key="h", reference="r", cause_id="test", now=shop.now)
        )
    assert refusal.value.code == "SPENDING_FROZEN"
    outcomes = shop.read(
        lambda tx: list(tx.scalars(select(PaymentAttemptRow.outcome).order_by(PaymentAttemptRow.id)))
    )
    assert outcomes == ["succeeded", "succeeded", status]


def test_what_never_succeeded_is_not_marked_bad(shop: Shop) -> None:
    with pytest.raises(PaymentRequired):
        shop.buy("fails")
    declined = shop.charged[0]
    with pytest.raises(Conflict):
        shop.database.run(lambda tx: payments.mark_bad(tx, declined, shop.now))
    with pytest.raises(NotFound):
        shop.database.run(lambda tx: payments.mark_bad(tx, "sandbox_unknown", shop.now))


def test_a_bad_payment_closes_the_open_requests_of_its_buyer(database: Database) -> None:
    # given: two requests, of which the second is paid with the bad tokens
    stage = staged(database)
    (_, first), (_, second) = stage.live(), stage.live()
    fan = stage.fan(tokens=0)
    shop = Shop(database, fan.user_id, stage.now)
    shop.buy("succeeds")
    bad = shop.buy("fails-later", key="bad").purchase_id
    asked = [stage.ask(fan, stream, 10) for stream in (first, second)]
    # when
    database.run(lambda tx: payments.mark_bad(tx, bad, stage.now))
    # then
    assert stage.balances(fan)["held"] == 0
    assert stage.balances(fan)["wallet"] == 1_000
    for request in asked:
        with pytest.raises(Conflict):
            stage.cancel(request.request_id, fan)
    stage.audit()


def test_the_payments_behind_a_session_are_those_whose_tokens_it_holds(database: Database) -> None:
    # given: three purchases; the session of 600 tokens reaches into the second
    stage = staged(database)
    creator, stream = stage.live()
    fan = stage.fan(tokens=0)
    shop = Shop(database, fan.user_id, stage.now)
    bought = []
    for number, package in enumerate(("tokens-500", "tokens-500", "tokens-200")):
        bought.append(shop.buy(key=str(number), package=package).purchase_id)
        shop.now += timedelta(seconds=1)
    accepted = stage.accept(stage.ask(fan, stream, 6).request_id, creator)

    def behind() -> tuple[str, ...]:
        return shop.read(lambda tx: payments.payments_behind(tx, accepted.session_id))

    assert behind() == tuple(f"sandbox_{purchase_id}" for purchase_id in bought[:2])
    # when the second is found bad, it need not be asked about again
    database.run(lambda tx: payments.mark_bad(tx, bought[1], stage.now))
    assert behind() == (f"sandbox_{bought[0]}",)
    request_id = stage.session(accepted.session_id).request_id
    assert shop.read(lambda tx: payments.bad_tokens_in(tx, request_id)) == 100
    assert shop.read(lambda tx: payments.payments_behind(tx, "ses_unknown")) == ()
    stage.audit()


def test_the_statement_tells_each_transfer_in_words(database: Database) -> None:
    stage = staged(database)
    call = stage.running(minutes=10)
    stage.later(minutes=7)
    stage.call_ended(call.session_id, "fan_left", 7 * 60_000)
    with database.reading() as tx:
        of_fan = wallet.statement(tx, call.fan.user_id)
        of_creator = wallet.statement(tx, call.creator.user_id)
        latest = wallet.statement(tx, call.fan.user_id, limit=1)
        left = wallet.wallet(tx, call.fan.user_id)
        earned = wallet.wallet(tx, call.creator.user_id)
    assert {(line.words, line.available, line.held, line.earnings) for line in of_fan} == {
        ("Tokens bought", 1_000, 0, 0),
        ("Held for a private stream", -1_000, 1_000, 0),
        ("Private stream paid", 300, -1_000, 0),
    }
    assert [(line.words, line.earnings) for line in of_creator] == [("Private stream earned", 560)]
    assert latest == of_fan[:1]
    assert latest[0].kind == "settle"
    assert (left.available, left.held, left.debt) == (300, 0, 0)
    assert (earned.earnings_pending, earned.available) == (560, 0)
