"""The four cards of the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.db import Database
from models.errors import Invalid, NotFound
from models.gateways.base import Order, Payment
from models.gateways.sandbox import SandboxGateway


def charged(gateway: SandboxGateway, card: str) -> Payment:
    """What the sandbox answers when a card is charged."""
    order = Order(
        purchase_id="pur_1",
        buyer_id="usr_1",
        title="Tokens",
        amount_minor=999,
        currency="EUR",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    payment = gateway.create_checkout(order, return_url="", card=card).payment
    assert payment is not None
    return payment


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_ms(self, milliseconds: int) -> None:
        self.now += timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    ("card", "at_once", "after_40_s"),
    [
        ("succeeds", "succeeded", "succeeded"),
        ("fails", "failed", "failed"),
        ("fails-later", "succeeded", "failed"),
        ("disputed", "succeeded", "disputed"),
    ],
)
def test_each_card_does_what_it_says(db: Database, card: str, at_once: str, after_40_s: str) -> None:
    # given
    wall = Wall()
    gateway = SandboxGateway(db, 60_000, wall)
    # when
    payment = charged(gateway, card)
    # then
    assert payment.status == at_once
    wall.pass_ms(39_999)
    assert gateway.status(payment.reference).status == at_once
    wall.pass_ms(1)
    assert gateway.status(payment.reference).status == after_40_s


def test_later_comes_sooner_when_the_minute_is_short(db: Database) -> None:
    wall = Wall()
    gateway = SandboxGateway(db, 6_000, wall)
    payment = charged(gateway, "fails-later")
    wall.pass_ms(4_000)
    assert gateway.status(payment.reference).status == "failed"


def test_asking_again_for_a_purchase_charges_once(db: Database) -> None:
    # given
    wall = Wall()
    gateway = SandboxGateway(db, 60_000, wall)
    first = charged(gateway, "fails-later")
    wall.pass_ms(40_000)
    # when the same purchase is asked for again, with another card even
    second = charged(gateway, "succeeds")
    # then it is the same payment
    assert (second.reference, second.status) == (first.reference, "failed")


def test_another_process_sees_the_same_payments(db: Database, sqlite_url: str) -> None:
    payment = charged(SandboxGateway(db, 60_000), "fails")
    elsewhere = Database(sqlite_url)
    assert SandboxGateway(elsewhere, 60_000).status(payment.reference) == payment
    elsewhere.close()


def test_unknown_cards_and_payments_are_refused(db: Database) -> None:
    gateway = SandboxGateway(db, 60_000)
    with pytest.raises(Invalid):
        charged(gateway, "4242424242424241")
    with pytest.raises(NotFound):
        gateway.status("sandbox_pur_1")
    assert charged(gateway, "4242 4242 4242 4242").good
