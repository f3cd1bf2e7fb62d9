"""Bugs in money that comes from outside, and in what leaves for outside."""

from __future__ import annotations

from typing import Any

from models import clearing, holds
from models.payments import GatewayEventRow
from models.postings import account_id, post
from models.services import payments, payouts, purchases, webhooks
from models.services.purchases import find_purchase
from simulation.planting import Patches, Without, bug


@bug("A webhook credits its purchase although it was credited before.")
def webhook_credits_again(patches: Patches) -> None:
    def make(act_on: Any) -> Any:
        def again(db: Any, gateway: Any, name: str, event_id: str, now: Any) -> Any:
            outcome = act_on(db, gateway, name, event_id, now)
            db.run(lambda tx: _credit(tx, name, event_id, now))
            return outcome

        return again

    patches.replace(webhooks, "act_on", make)


def _credit(tx: Any, name: str, event_id: str, now: Any) -> None:
    event = tx.get(GatewayEventRow, (name, event_id))
    row = find_purchase(tx, event.reference)
    if row is not None and row.status == "succeeded":
        entries = {account_id("gateway", name): -row.tokens, account_id("wallet", row.user_id): row.tokens}
        post(tx, "top_up", entries, key=f"webhook:{event_id}", reference=row.id, cause_id="", now=now)


@bug("Tokens are credited before the gateway was asked.")
def credit_before_the_charge(patches: Patches) -> None:
    def make(begin: Any) -> Any:
        def trusting(tx: Any, *args: Any, **more: Any) -> Any:
            order, purchase, *rest = begin(tx, *args, **more)
            if purchase.status == "created":
                purchases.complete_purchase(
                    tx, order.purchase_id, gateway_ref=f"pay_{order.purchase_id}", now=order.created_at
                )
            return order, purchase, *rest

        return trusting

    patches.replace(payments, "_begin", make)


@bug("Gifts that fans spent are paid out to creators.")
def promo_paid_out(patches: Patches) -> None:
    for module in (holds, clearing):
        patches.replace(module, "gift_part", lambda _part: lambda *_args, **_more: 0)


@bug("A dispute takes cleared earnings and makes debts while earnings are pending.")
def dispute_skips_pending(patches: Patches) -> None:
    patches.replace(holds, "_pending_bites", lambda _bites: lambda tx, row, *_owed: [(row, 0)])


@bug("A payout whose answer was lost is asked for again under another name.")
def payout_sent_twice(patches: Patches) -> None:
    count = iter(range(10**9))

    def make(send: Any) -> Any:
        def other_name(db: Any, gateway: Any, payout_id: str, now: Any) -> Any:
            real = gateway.payout

            def payout(account: str, amount: int, currency: str, key: str) -> Any:
                return real(account, amount, currency, f"{key}-{next(count)}")

            return send(db, Without(gateway, "payout", payout), payout_id, now)

        return other_name

    patches.replace(payouts, "send", make)
