"""Money that a provider gave back without our asking: what that takes back in tokens.

The provider says how much in all, so that the same news, twice or late, changes nothing. The tokens that the
money stood for leave the purchase's unspent ones at once; those that are held, as soon as they come back.
A purchase whose whole price is back pays for nothing any more: where its tokens are in use, it has turned bad,
and docs/money.md's order for that holds. What a part of the price stood for and was spent is the house's loss.
Knows no provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.books import LotRow
from models.machine import move
from models.payments import PurchaseRow, RefundRow
from models.services.announcements import balance_changed, tell
from models.services.purchases import ASK_AFTER, note


class _Standing(msgspec.Struct, frozen=True):
    """How a purchase stands, in tokens, to what was given back of its price from outside."""

    due: int
    """What the money stood for."""
    taken: int
    free: int
    whole: bool
    """Nothing of the price is left."""


def take_in(tx: Session, row: PurchaseRow, given_minor: int, now: datetime) -> bool:
    """Note what the provider has given back of a purchase; whether its tokens are unpaid for, and in use.

    The caller holds the purchase and its buyer.
    """
    if row.refunded_outside_minor != given_minor:
        note(tx, row.id, "refunded_outside", str(given_minor), now)
        log.event("refunded_outside", purchase_id=row.id, cause_id=row.cause_id, amount_minor=given_minor)
        row.refunded_outside_minor = given_minor
        tx.flush()
    now_standing = _standing(tx, row)
    return now_standing.whole and now_standing.due - now_standing.taken > now_standing.free


def settle(tx: Session, row: PurchaseRow, now: datetime) -> None:
    """Take what is due of the unspent tokens of a good purchase, or put back what is due no longer; repeatable."""
    before = _refunds(tx, row.id)
    if not before and row.refunded_outside_minor == 0:
        return
    standing = _standing(tx, row)
    for refund in reversed(before):
        if standing.taken <= standing.due:
            break
        _put_back(tx, refund, now)
        standing = _standing(tx, row)
    tokens = min(standing.due - standing.taken, standing.free)
    if tokens > 0:
        _take(tx, row, tokens, now, last=tokens == standing.due - standing.taken)
    if tokens < standing.due - standing.taken and row.ask_at is not None:
        # What is held may come back; it is taken then.
        row.ask_at = min(row.ask_at, now + ASK_AFTER)
        tx.flush()


def _standing(tx: Session, row: PurchaseRow) -> _Standing:
    free = tx.scalar(select(LotRow.free).where(LotRow.id == row.id).execution_options(populate_existing=True)) or 0
    ours = tx.scalars(
        select(RefundRow.tokens).where(
            RefundRow.purchase_id == row.id, ~RefundRow.outside, RefundRow.status != "refused"
        )
    )
    left = row.tokens - sum(ours)
    whole = row.refunded_outside_minor > 0 and row.refunded_minor + row.refunded_outside_minor >= row.price_minor
    due = left if whole else min(left, row.tokens * row.refunded_outside_minor // row.price_minor)
    return _Standing(due=due, taken=sum(one.tokens for one in _refunds(tx, row.id)), free=free, whole=whole)


def _refunds(tx: Session, purchase_id: str) -> Sequence[RefundRow]:
    """Those from outside whose tokens were taken, the oldest first."""
    query = select(RefundRow).where(
        RefundRow.purchase_id == purchase_id, RefundRow.outside, RefundRow.status != "refused"
    )
    return tx.scalars(
        query.order_by(RefundRow.created_at, RefundRow.id).execution_options(populate_existing=True)
    ).all()


def _take(tx: Session, row: PurchaseRow, tokens: int, now: datetime, *, last: bool) -> None:
    known = sum(one.amount_minor for one in _refunds(tx, row.id))
    amount = row.refunded_outside_minor - known if last else row.price_minor * tokens // row.tokens
    refund_id = ids.new_id(ids.REFUND)
    transfer = ledger.withdraw(
        tx, row.id, tokens, key=f"withdraw:{refund_id}", reference=refund_id, cause_id=row.cause_id, now=now
    )
    tx.add(
        RefundRow(
            id=refund_id,
            purchase_id=row.id,
            user_id=row.user_id,
            tokens=tokens,
            amount_minor=max(1, amount),
            currency=row.currency,
            transfer_id=transfer.transfer_id,
            gateway=row.gateway,
            outside=True,
            status="succeeded",
            cause_id=row.cause_id,
            created_at=now,
            asked_at=now,
            closed_at=now,
        )
    )
    tx.flush()
    _tell(tx, row.user_id, refund_id, "succeeded", tokens, now)


def _put_back(tx: Session, refund: RefundRow, now: datetime) -> None:
    move(tx, RefundRow, refund.id, refund.status, "refused", closed_at=now)
    ledger.put_back(tx, refund.transfer_id, cause_id=refund.cause_id, now=now)
    _tell(tx, refund.user_id, refund.id, "refused", refund.tokens, now)


def _tell(tx: Session, user_id: str, refund_id: str, status: str, tokens: int, now: datetime) -> None:
    balance_changed(tx, user_id, now)
    tell(tx, user_id, "REFUND_CHANGED", now, refundId=refund_id, status=status, tokens=tokens)
