"""Lots: which purchase is behind which token, first in, first out.

A hold draws from the oldest lots, a release returns to the same lots, a settlement spends, good tokens
first. When a lot's payment turns out bad, ``recover`` takes back what it can, in docs/money.md's order.
The caller holds the lock on the fan's wallet. Knows nothing of cards and sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from models.books import HoldRow, LotRow, LotUseRow
from models.postings import account_id, lock_balance, post


def draw(tx: Session, owner_id: str, reference: str, amount: int) -> None:
    """Reserve ``amount`` tokens for a hold, oldest good lots first. They are there: the wallet had them."""
    free = select(LotRow).where(LotRow.owner_id == owner_id, LotRow.free > 0)
    oldest_first = free.order_by(LotRow.bad_at.is_not(None), LotRow.created_at, LotRow.id)
    for lot in tx.scalars(oldest_first.execution_options(populate_existing=True)).all():
        if amount == 0:
            return
        taken = min(amount, lot.free)
        lot.free -= taken
        use = tx.get(LotUseRow, (reference, lot.id))
        if use is None:
            tx.add(LotUseRow(reference=reference, lot_id=lot.id, held=taken, spent=0, recovered=0))
        else:
            use.held += taken
        amount -= taken
    if amount:
        raise RuntimeError(f"the lots of {owner_id} hold fewer tokens than the wallet")


def give_back(tx: Session, reference: str, amount: int) -> None:
    """Return ``amount`` held tokens to the lots that they came from, what was drawn last first."""
    for use, lot in reversed(_behind(tx, reference)):
        returned = min(amount, use.held)
        use.held -= returned
        lot.free += returned
        amount -= returned
    _nothing_left(reference, amount)
    tx.flush()


def spend(tx: Session, reference: str, amount: int) -> None:
    """Spend ``amount`` of what is held, good tokens first, oldest lots first; return the rest to its lots."""
    behind = _behind(tx, reference)
    for use, lot in behind:
        spent = min(amount, use.held)
        use.spent += spent
        lot.free += use.held - spent
        use.held = 0
        amount -= spent
    _nothing_left(reference, amount)
    tx.flush()


def unspend(tx: Session, reference: str) -> None:
    """A settlement is undone: what it spent is free again, in its lots."""
    for use, lot in _behind(tx, reference):
        lot.free += use.spent
        use.spent = 0
    tx.flush()


def take_back(tx: Session, owner_id: str, cause_id: str, now: datetime) -> int:
    """Send the free tokens of bad lots back where they came from; how many those were."""
    bad = select(LotRow).where(LotRow.owner_id == owner_id, LotRow.bad_at.is_not(None), LotRow.free > 0)
    taken = 0
    for lot in tx.scalars(
        bad.order_by(LotRow.created_at, LotRow.id).execution_options(populate_existing=True)
    ).all():
        amount = lot.free
        lot.free, lot.reversed = 0, lot.reversed + amount
        post(
            tx,
            "payment_reversal",
            {account_id("wallet", owner_id): -amount, lot.origin: amount},
            # What was taken back before is part of the key: each bite has its own.
            key=f"payment_reversal:{lot.id}:free:{lot.reversed}",
            reference=lot.id,
            cause_id=cause_id,
            now=now,
        )
        taken += amount
    tx.flush()
    return taken


def recover(tx: Session, owner_id: str, cause_id: str, now: datetime) -> int:
    """Take back all that can be of a person's bad lots: what is free, then what was spent; how many tokens."""
    taken = take_back(tx, owner_id, cause_id, now)
    bad = select(LotRow.id).where(LotRow.owner_id == owner_id, LotRow.bad_at.is_not(None))
    return taken + sum(
        recover_spent(tx, lot_id, cause_id, now) for lot_id in tx.scalars(bad.order_by(LotRow.id)).all()
    )


def recover_spent(tx: Session, lot_id: str, cause_id: str, now: datetime) -> int:
    """Take what a bad lot has paid back from who was paid: pending earnings with their fee, cleared, debt."""
    lot = tx.get_one(LotRow, lot_id)
    uses = select(LotUseRow).where(LotUseRow.lot_id == lot_id, LotUseRow.spent > LotUseRow.recovered)
    taken = 0
    for use in tx.scalars(uses.order_by(LotUseRow.reference)).all():
        amount = use.spent - use.recovered
        paid = tx.get_one(HoldRow, use.reference, populate_existing=True, with_for_update=True)
        if paid.creator_id is None:
            raise RuntimeError(f"spent, but nobody was paid for {use.reference}")
        entries = _from_the_paid(tx, paid, paid.creator_id, amount)
        entries[lot.origin] = amount
        use.recovered += amount
        paid.recovered += amount
        post(
            tx,
            "payment_reversal",
            entries,
            key=f"payment_reversal:{lot_id}:{use.reference}:{use.recovered}",
            reference=lot_id,
            cause_id=cause_id,
            now=now,
        )
        taken += amount
    tx.flush()
    return taken


def _from_the_paid(tx: Session, paid: HoldRow, creator_id: str, amount: int) -> dict[str, int]:
    """The creator's and the platform's part of ``amount``; what the creator has no tokens for becomes debt."""

    def fee_of(tokens: int) -> int:
        return tokens * paid.commission // (paid.earnings + paid.commission)

    # As a difference of sums, so that the parts of many lots add up to the whole fee.
    fee = fee_of(paid.recovered + amount) - fee_of(paid.recovered)
    entries = {account_id("fees"): -fee}
    owed = amount - fee
    cleared = lock_balance(tx, account_id("earnings", creator_id))
    pending = lock_balance(tx, account_id("earnings_pending", creator_id))
    entries[account_id("earnings_pending", creator_id)] = -min(owed, pending)
    owed -= min(owed, pending)
    entries[account_id("earnings", creator_id)] = -min(owed, cleared)
    owed -= min(owed, cleared)
    entries[account_id("debt", creator_id)] = -owed
    return entries


def bad_tokens_in(tx: Session, reference: str) -> int:
    """How many tokens of what is held for ``reference`` come from bad payments."""
    return sum(use.held for use, lot in _behind(tx, reference) if lot.bad_at is not None)


def lots_behind(tx: Session, reference: str) -> tuple[str, ...]:
    """Ids of the lots that hold tokens for ``reference`` now, oldest first."""
    return tuple(lot.id for use, lot in _behind(tx, reference) if use.held)


def references_behind(tx: Session, lot_id: str) -> tuple[str, ...]:
    """The other way round: the open holds that a lot is behind."""
    query = select(LotUseRow.reference).where(LotUseRow.lot_id == lot_id, LotUseRow.held > 0)
    return tuple(tx.scalars(query.order_by(LotUseRow.reference)))


def _behind(tx: Session, reference: str) -> Sequence[tuple[LotUseRow, LotRow]]:
    """Uses with their lots: good ones first, then by age."""
    is_bad: ColumnElement[bool] = LotRow.bad_at.is_not(None)
    query = (
        select(LotUseRow, LotRow)
        .join(LotRow, LotRow.id == LotUseRow.lot_id)
        .where(LotUseRow.reference == reference)
        .order_by(is_bad, LotRow.created_at, LotRow.id)
        .execution_options(populate_existing=True)
    )
    return [(use, lot) for use, lot in tx.execute(query)]


def _nothing_left(reference: str, amount: int) -> None:
    if amount:
        raise RuntimeError(f"the lots behind {reference} hold fewer tokens than its hold")
