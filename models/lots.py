"""Lots: which purchase is behind which token, first in, first out.

A hold draws from the oldest lots, a release returns to the same lots, a settlement spends, good tokens
first; a refund returns to them. The caller holds the lock on the fan's wallet. Knows nothing of transfers,
cards and sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from models.books import LotRow, LotUseRow


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


def unspend(tx: Session, reference: str, amount: int) -> None:
    """``amount`` of what was spent is refunded: free again, in its lots, what was spent last first."""
    for use, lot in reversed(_behind(tx, reference)):
        returned = min(amount, use.spent - use.recovered)
        use.spent -= returned
        lot.free += returned
        amount -= returned
    _nothing_left(reference, amount)
    tx.flush()


def promo_spent(tx: Session, reference: str, less: int = 0) -> int:
    """How many of the tokens that paid were gifts; ``less``: after a refund of so many."""
    spent = 0
    for use, lot in reversed(_behind(tx, reference)):
        left = use.spent - use.recovered
        returned = min(less, left)
        less -= returned
        spent += left - returned if lot.source == "promo" else 0
    return spent


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
