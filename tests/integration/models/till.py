"""A stage with a till: a fan who pays through Stripe (over HTTP, of a fake), and the webhooks that follow."""

from __future__ import annotations

import itertools
from typing import Any

from fakes.stripe_server import KEY, SECRET, StripeServer
from fakes.stripe_wire import encoded, signature
from sqlalchemy import select
from stage import Stage

from models.db import Database
from models.gateways.stripe import StripeGateway
from models.payments import DisputeRow, GatewayEventRow, PurchaseRow, RefundRow
from models.people import PersonRow
from models.services import payments, purchase_refunds, webhooks
from models.services.accounts import Person
from models.services.payments import BuyerLimits, Purchase

_numbers = itertools.count(1)


class Till:
    """Who buys, with which card, and what Stripe says about it later."""

    def __init__(self, stage: Stage, server: StripeServer) -> None:
        self.stage, self.server, self.world = stage, server, server.world
        self.world.clock = lambda: stage.now.timestamp()
        self.database: Database = stage.database
        self.gateway = StripeGateway(KEY, (SECRET,), server.url)
        self.fan: Person = stage.fan(tokens=0)

    def begin(self, package: str = "tokens-1000", **more: Any) -> Purchase:
        """To Stripe's page and no further."""
        values: dict[str, Any] = {
            "user_id": self.fan.user_id,
            "package_id": package,
            "key": f"key-{next(_numbers)}",
            "cause_id": "test",
            "now": self.stage.now,
            "return_url": lambda purchase_id: f"https://green.test/wallet/purchases/{purchase_id}",
            **more,
        }
        return payments.top_up(self.database, self.gateway, **values)

    def buy(self, package: str = "tokens-1000", **more: Any) -> PurchaseRow:
        """Paid, and heard of."""
        purchase = self.begin(package, **more)
        self.world.pay(self.row(purchase.purchase_id).gateway_ref or "")
        payments.reconcile(self.database, self.gateway, purchase.purchase_id, self.stage.now)
        return self.row(purchase.purchase_id)

    def row(self, purchase_id: str) -> PurchaseRow:
        with self.database.reading() as tx:
            row = tx.get_one(PurchaseRow, purchase_id)
            tx.expunge(row)
            return row

    def rows(self, kind: Any) -> list[Any]:
        with self.database.reading() as tx:
            rows = list(tx.scalars(select(kind)))
            tx.expunge_all()
            return rows

    @property
    def disputes(self) -> list[DisputeRow]:
        return self.rows(DisputeRow)

    @property
    def refunds(self) -> list[RefundRow]:
        return self.rows(RefundRow)

    @property
    def frozen(self) -> bool:
        with self.database.reading() as tx:
            return tx.get_one(PersonRow, self.fan.user_id).spending_frozen_at is not None

    def receive(self, event: dict[str, Any]) -> bool:
        """A webhook comes in; whether it was the first of its id."""
        body = encoded(event)
        read = self.gateway.verify_webhook(body, {"Stripe-Signature": signature(body, SECRET)})
        return self.stage.run(lambda tx: webhooks.receive(tx, "stripe", read, self.stage.now))

    def act_on(self, event: dict[str, Any]) -> str:
        """The worker's part."""
        return webhooks.act_on(self.database, self.gateway, "stripe", event["id"], self.stage.now)

    def hear(self, event: dict[str, Any]) -> str:
        self.receive(event)
        return self.act_on(event)

    def hear_all(self, *types: str) -> list[str]:
        """All events so far, or those of these types."""
        return [self.hear(event) for event in self.world.all("event") if not types or event["type"] in types]

    def event_row(self, event: dict[str, Any]) -> GatewayEventRow:
        return next(row for row in self.rows(GatewayEventRow) if row.event_id == event["id"])

    def refund(self, purchase_id: str, tokens: int | None = None) -> purchase_refunds.RefundView:
        return self.stage.run(
            lambda tx: purchase_refunds.request(
                tx,
                user_id=self.fan.user_id,
                purchase_id=purchase_id,
                tokens=tokens,
                cause_id="test",
                now=self.stage.now,
            )
        )

    def send(self, refund_id: str) -> str:
        return purchase_refunds.send(self.database, self.gateway, refund_id, self.stage.now)

    @property
    def available(self) -> int:
        return self.stage.balances(self.fan)["wallet"]


def limits(daily_minor: int, days: int = 7) -> BuyerLimits:
    return BuyerLimits(days=days, daily_minor=daily_minor)
