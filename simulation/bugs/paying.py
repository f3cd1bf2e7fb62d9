"""Bugs in tips, subscriptions, extensions, refunds and clearing: what fans pay and get back besides sessions."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from models import ledger
from models.books import TransferRow
from models.services import (
    complaints,
    disputes,
    earnings,
    extending,
    payouts,
    purchase_refunds,
    refunds,
    renewals,
    subscriptions,
    tips,
)
from simulation.planting import Patches, Without, bug


def _forget_the_key(patches: Patches, module: Any, name: str) -> None:
    """Each call has a key of its own."""
    numbers = itertools.count()

    def make(act: Any) -> Any:
        return lambda *args, key, **more: act(*args, key=f"{key}-{next(numbers)}", **more)

    patches.replace(module, name, make)


@bug("A tip that is sent again, since its answer was lost, is paid again.")
def tip_paid_again(patches: Patches) -> None:
    _forget_the_key(patches, tips, "tip")


@bug("An extension that is asked for again, since its answer was lost, is held again.")
def extension_held_again(patches: Patches) -> None:
    _forget_the_key(patches, extending, "extend")


@bug("A refund that is given again, since its answer was lost, is given twice.")
def refund_given_twice(patches: Patches) -> None:
    _forget_the_key(patches, refunds, "give")


@bug("Tips cost no commission.")
def tip_without_commission(patches: Patches) -> None:
    def pay(*args: Any, commission_percent: int, **more: Any) -> Any:
        return ledger.pay(*args, commission_percent=0, **more)

    patches.replace(tips, "ledger", lambda real: Without(real, "pay", pay))


@bug("A renewal is paid for two months and gives one.")
def renewal_paid_twice(patches: Patches) -> None:
    def make(pay_next: Any) -> Any:
        def twice(tx: Any, row: Any, now: Any) -> bool:
            paid = pay_next(tx, row, now)
            if paid and ledger.balance(tx, ledger.account_id("wallet", row.fan_id)) >= row.price_tokens:
                subscriptions.pay(tx, row, row.period + 1, now)
            return bool(paid)

        return twice

    patches.replace(renewals, "_pay_next", make)


@bug("A cancelled subscription is renewed.")
def cancelled_and_renewed(patches: Patches) -> None:
    def make(why_not: Any) -> Any:
        return lambda tx, row: None if row.cancel_at_period_end else why_not(tx, row)

    patches.replace(renewals, "_why_not", make)


@bug("Earnings clear a day too early.")
def cleared_too_early(patches: Patches) -> None:
    def clear_due(tx: Any, now: Any, **more: Any) -> int:
        return ledger.clear_due(tx, now + timedelta(days=1), **more)

    patches.replace(earnings, "ledger", lambda real: Without(real, "clear_due", clear_due))


@bug("A complaint does not keep its earnings from clearing.")
def complaint_stops_nothing(patches: Patches) -> None:
    patches.replace(complaints, "ledger", lambda real: Without(real, "contest"))


@bug("Unused tokens whose refund the provider refused stay gone.")
def refused_refund_kept(patches: Patches) -> None:
    patches.replace(purchase_refunds, "ledger", lambda real: Without(real, "put_back"))


@bug("The price of unused tokens is rounded up.")
def refund_rounded_up(patches: Patches) -> None:
    def rounded_up(price_minor: int, bought: int, tokens: int) -> int:
        return -(-price_minor * tokens // bought)

    patches.replace(purchase_refunds, "amount_for", lambda _amount: rounded_up)


@bug("A payout that failed does not come back to the creator.")
def failed_payout_kept(patches: Patches) -> None:
    def nothing(tx: Any, transfer_id: str, **_more: Any) -> Any:
        return ledger.transfers_of(tx, tx.get(TransferRow, transfer_id).reference)[0]

    patches.replace(payouts, "ledger", lambda real: Without(real, "payout_return", nothing))


@bug("Who has a disputed payment may go on spending.")
def spending_while_frozen(patches: Patches) -> None:
    def make(check: Any) -> Any:
        return lambda tx, fan_id, amount, frozen_at, cap, now: check(tx, fan_id, amount, None, cap, now)

    patches.replace(ledger, "_check_allowed", make)


@bug("A payment that turns out bad ends and freezes everything, and its tokens stay.")
def bad_tokens_kept(patches: Patches) -> None:
    patches.replace(disputes, "ledger", lambda real: Without(real, "mark_lot_bad"))


@bug("A dispute that was won gives the tokens back to nobody.")
def won_dispute_forgotten(patches: Patches) -> None:
    patches.replace(disputes, "ledger", lambda real: Without(real, "lot_good_again"))
