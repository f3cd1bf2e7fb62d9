"""The two payment providers behind one face, so that one set of tests holds for both."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from fakes.stripe_server import KEY, SECRET, StripeServer
from fakes.stripe_wire import Refused, encoded, signature
from sqlalchemy import func, select

from models.db import Database
from models.gateways import sandbox
from models.gateways.base import Order, Payment, PaymentGateway
from models.gateways.sandbox import CARDS, SandboxGateway
from models.gateways.stripe import StripeGateway
from models.payments import SandboxPaymentRow, SandboxPayoutRow, SandboxRefundRow

_numbers = itertools.count(1)
WEBHOOK_KEY = b"a key that signs"


def order(amount_minor: int = 4_800, **more: Any) -> Order:
    """A purchase of its own."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "purchase_id": f"pur_{number}",
        "buyer_id": f"usr_{number}",
        "title": "1,000 tokens",
        "amount_minor": amount_minor,
        "currency": "USD",
        "created_at": datetime.now(UTC),
        **more,
    }
    return Order(**values)


class Provider(Protocol):
    """A gateway, and the hands of the people on its other side."""

    gateway: PaymentGateway

    def pay(self, wanted: Order, card: str = "succeeds") -> Payment:
        """The buyer pays, with one of sandbox.CARDS; the payment as it is right afterwards."""

    def later(self, times: int = 1) -> None:
        """Let happen what the card does later (once: a dispute; twice: its end)."""

    def account(self, kind: str) -> str:
        """A creator's account that is one of sandbox.ACCOUNTS."""

    def webhook(self, kind: str, reference: str, *, at: float | None = None) -> tuple[bytes, dict[str, str]]:
        """A signed event about something, ready to be sent."""

    def money(self) -> int:
        """What has come in less what went out, in cents."""


class SandboxProvider:
    """The sandbox, with a clock that a test moves."""

    def __init__(self, database: Database) -> None:
        self.now = datetime.now(UTC)
        self.database = database
        self.gateway = SandboxGateway(database, 60_000, lambda: self.now, webhook_key=WEBHOOK_KEY)

    def pay(self, wanted: Order, card: str = "succeeds") -> Payment:
        payment = self.gateway.create_checkout(wanted, return_url="https://x.test/back", card=card).payment
        assert payment is not None
        return payment

    def later(self, times: int = 1) -> None:
        self.now += timedelta(seconds=40 * times)

    def account(self, kind: str) -> str:
        made = self.gateway.onboard("usr_c", account_ref=None, return_url="https://x.test", account=kind)
        return made.account_ref

    def webhook(self, kind: str, reference: str, *, at: float | None = None) -> tuple[bytes, dict[str, str]]:
        body = msgspec.json.encode({"id": f"evt_{next(_numbers)}", "kind": kind, "reference": reference})
        moment = self.now if at is None else datetime.fromtimestamp(at, UTC)
        return body, {sandbox.SIGNATURE_HEADER: sandbox.sign(body, WEBHOOK_KEY, moment)}

    def money(self) -> int:
        with self.database.reading() as tx:
            charged = select(func.sum(SandboxPaymentRow.amount_minor)).where(SandboxPaymentRow.card != "fails")
            back = select(func.sum(SandboxRefundRow.amount_minor)).where(SandboxRefundRow.detail == "")
            out = select(SandboxPayoutRow)
            paid = sum(
                row.amount_minor
                for row in tx.scalars(out)
                if self.gateway.payout_status(row.reference).status == "paid"
            )
            return (tx.scalar(charged) or 0) - (tx.scalar(back) or 0) - paid


class StripeProvider:
    """The stripe gateway and the fake Stripe that it talks to."""

    def __init__(self, server: StripeServer) -> None:
        self.server, self.world = server, server.world
        self.gateway = StripeGateway(KEY, ("whsec_of_before", SECRET), server.url)
        self._later: list[Any] = []
        self._accounts: dict[str, str] = {}

    def pay(self, wanted: Order, card: str = "succeeds") -> Payment:
        checkout = self.gateway.create_checkout(wanted, return_url="https://x.test/back")
        assert checkout.url is not None
        assert checkout.url.startswith(self.server.url)
        later = card == "flagged" or card.startswith("dispute")
        number = CARDS["succeeds" if later else card]
        try:
            self.world.pay(checkout.reference, number)
        except Refused:
            # The buyer gives up, and the time to pay runs out.
            self.world.expire(checkout.reference)
        payment = self.gateway.status(checkout.reference)
        if card.startswith("dispute"):
            self._later.append(lambda: self.world.dispute(payment.reference))
            if card != "disputed":
                self._later.append(lambda: self._close(payment.reference, won=card == "dispute-won"))
        if card == "flagged":
            self._later.append(lambda: self.world.warn(payment.reference))
        return payment

    def _close(self, intent: str, *, won: bool) -> None:
        self.world.close_dispute(self.world.all("dispute", payment_intent=intent)[0]["id"], won=won)

    def later(self, times: int = 1) -> None:
        due, self._later = self._later[:times], self._later[times:]
        for happens in due:
            happens()
        for payout in self.world.all("payout", status="pending"):
            kind = self._accounts[self.world.owners[payout["id"]]]
            self.world.finish_payout(payout["id"], failure="account_closed" if kind == "fails-later" else None)

    def account(self, kind: str) -> str:
        creator = f"usr_{next(_numbers)}"
        reference = self.gateway.onboard(creator, account_ref=None, return_url="https://x.test").account_ref
        if kind != "unready":
            self.world.finish_onboarding(reference)
        if kind == "fails":
            self.world.get("account", reference)["metadata"]["refuse_payouts"] = "1"
        self._accounts[reference] = kind
        return reference

    def webhook(self, kind: str, reference: str, *, at: float | None = None) -> tuple[bytes, dict[str, str]]:
        prefix = {"payment": "checkout.session.completed", "refund": "refund.updated", "other": "plan.created"}
        event = self.world.emit(prefix[kind], {"id": reference, "object": "something"})
        body = encoded(event)
        return body, {"Stripe-Signature": signature(body, SECRET, time.time() if at is None else at)}

    def money(self) -> int:
        return sum(amount for what, amount in self.world.moved if not what.startswith("dispute"))
