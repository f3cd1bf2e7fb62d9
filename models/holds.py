"""Holds: reading and locking them, and taking back what a settled one has paid.

What a settlement paid may be taken back in parts, by refunds and by recovery of bad payments. The fee's part
is a difference of sums, so that all parts together are the whole fee. Of lots it asks one thing: which part
of the earnings gifts paid for, since that is nobody's to give back as money.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import lots
from models.books import HoldRow
from models.errors import Conflict, NotFound
from models.postings import account_id, lock_balance


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a hold, in tokens. ``earnings`` and ``commission`` are what the settlement paid."""

    reference: str
    fan_id: str
    creator_id: str | None
    status: str
    amount: int
    """Held now."""
    earnings: int
    commission: int
    recovered: int
    refunded: int
    pending: int
    """Of the earnings: still in the clearing period."""
    clears_at: datetime | None
    cleared_at: datetime | None
    contested: bool

    @property
    def refundable(self) -> int:
        """What can still be given back to the fan, if the creator has it."""
        return self.earnings + self.commission - self.recovered - self.refunded


def hold_of(tx: Session, reference: str) -> HoldView | None:
    """The hold of a request, a booking, a tip or a subscription's period; None where nothing was ever held."""
    row = tx.get(HoldRow, reference, populate_existing=True)
    if row is None:
        return None
    figures = {field: getattr(row, field) for field in HoldView.__struct_fields__ if field != "contested"}
    return HoldView(**figures, contested=row.contested_at is not None)


def locked_hold(tx: Session, reference: str) -> HoldRow:
    """The hold, with its fan's wallet locked before it: the one order. NotFound without a hold."""
    fan_id = tx.scalar(select(HoldRow.fan_id).where(HoldRow.reference == reference))
    if fan_id is None:
        raise NotFound("Nothing is held for that.")
    lock_balance(tx, account_id("wallet", fan_id))
    return hold_for_update(tx, reference)


def hold_for_update(tx: Session, reference: str) -> HoldRow:
    """The hold as it is now; the caller knows that it exists."""
    return tx.get_one(HoldRow, reference, populate_existing=True, with_for_update=True)


def payee(row: HoldRow) -> str:
    """Who was paid."""
    if row.creator_id is None:
        raise RuntimeError(f"spent, but nobody was paid for {row.reference}")
    return row.creator_id


def left(row: HoldRow) -> int:
    """What was paid and has not been taken back, fee included."""
    return row.earnings + row.commission - row.recovered - row.refunded


def fee_of(row: HoldRow, amount: int) -> int:
    """The fee's part of the next ``amount`` tokens taken back; below zero: of the last ones, returned."""
    if amount == 0:
        return 0
    taken = row.recovered + row.refunded + amount
    return taken * row.commission // (row.earnings + row.commission) - row.fee_back


def net_earnings(row: HoldRow, less: int = 0) -> int:
    """What the creator has earned by it after all that was taken back, and after ``less`` more tokens."""
    return row.earnings - (row.recovered + row.refunded + less - row.fee_back - fee_of(row, less))


def gift_part(row: HoldRow, promo_spent: int, less: int = 0) -> int:
    """The part of the creator's net earnings that gifts paid for, rounded up: gifts never pay out."""
    paid = left(row) - less
    return -(-net_earnings(row, less) * promo_spent // paid) if paid else 0


def take_from_the_paid(
    tx: Session, row: HoldRow, amount: int, *, gift_left: int, gifts: int = 0, may_owe: bool
) -> dict[str, int]:
    """Entries that take ``amount`` from fees, pending and cleared earnings; what is missing becomes debt.

    ``gifts``: what of it promo has already. ``gift_left``: what of the earnings that remain gifts paid for; it
    stays pending for promo, as does the gifts' part of other holds. Without ``may_owe`` Conflict
    NOT_REVERSIBLE before any change.
    """
    creator_id, fee = payee(row), fee_of(row, amount)
    owed = amount - fee - gifts
    cleared = lock_balance(tx, account_id("earnings", creator_id))
    bites = _pending_bites(tx, row, owed, gift_left - (row.promo - gifts))
    pending = sum(tokens for _, tokens in bites)
    if not may_owe and owed > pending + cleared:
        raise Conflict("The creator's earnings do not have it.", code="NOT_REVERSIBLE")
    row.fee_back += fee
    for bitten, tokens in bites:
        bitten.pending -= tokens
    owed -= pending
    return {
        account_id("fees"): -fee,
        account_id("promo"): -gifts,
        account_id("earnings_pending", creator_id): -pending,
        account_id("earnings", creator_id): -min(owed, cleared),
        account_id("debt", creator_id): -max(0, owed - cleared),
    }


def _pending_bites(tx: Session, row: HoldRow, owed: int, for_promo: int) -> list[tuple[HoldRow, int]]:
    """Which holds' pending earnings give how much: this one's first, then the creator's others by age.

    None gives what waits there for promo: else gifts would pay for money that was paid out.
    """
    bites = [(row, min(owed, max(0, row.pending - max(0, for_promo))))]
    missing = owed - bites[0][1]
    if missing <= 0:
        return bites
    others = (
        select(HoldRow)
        .where(HoldRow.creator_id == row.creator_id, HoldRow.pending > 0, HoldRow.reference != row.reference)
        .order_by(HoldRow.contested_at.is_not(None), HoldRow.clears_at, HoldRow.reference)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    for other in tx.scalars(others).all():
        waits = gift_part(other, lots.promo_spent(tx, other.reference)) - other.promo
        bites.append((other, min(missing, max(0, other.pending - max(0, waits)))))
        missing -= bites[-1][1]
        if missing == 0:
            break
    return bites
