"""Lots: which purchase is behind which token, first in, first out.

A hold draws from the oldest lots, a release returns to the same lots, a settlement spends, good tokens
first; a refund returns to them. The caller holds the lock on the fan's wallet. Knows nothing of transfers,
cards and sessions.

Drawing, returning and spending are arithmetic on what was read, and make the writes for the caller to
execute with its transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.orm import Session

from models.books import LotRow, LotUseRow
from models.ledger_sql import FREE as _FREE
from models.ledger_sql import NEW_USE as _NEW_USE
from models.ledger_sql import USE as _USE
from models.ledger_sql import USE_ALL as _USE_ALL
from models.statements import Write


class Lot(NamedTuple):
    """A lot as a movement reads it, good ones first, then by age. ``held`` here; None: no use yet."""

    id: str
    bad: bool
    free: int
    held: int | None


def draw(lots: Iterable[Lot], reference: str, amount: int, *, spend: bool = False) -> list[Write]:
    """Reserve ``amount`` tokens for a hold, or spend them at once. They are there: the wallet had them."""
    writes: list[Write] = []
    for lot in lots:
        if amount == 0:
            break
        taken = min(amount, lot.free)
        held, spent = (0, taken) if spend else (taken, 0)
        writes.append(Write(_FREE, (-taken, lot.id, lot.free, bool(lot.bad))))
        if lot.held is None:
            writes.append(Write(_NEW_USE, (reference, lot.id, held, spent)))
        else:
            writes.append(Write(_USE, (held, spent, reference, lot.id, lot.held)))
        amount -= taken
    _nothing_left(reference, amount)
    return writes


def give_back(lots: Sequence[Lot], reference: str, amount: int) -> list[Write]:
    """Return ``amount`` held tokens to the lots that they came from, what was drawn last first."""
    writes: list[Write] = []
    for lot in reversed(lots):
        held = lot.held or 0
        if returned := min(amount, held):
            writes.append(Write(_USE, (-returned, 0, reference, lot.id, held)))
            writes.append(Write(_FREE, (returned, lot.id, lot.free, bool(lot.bad))))
            amount -= returned
    _nothing_left(reference, amount)
    return writes


def spend(lots: Sequence[Lot], reference: str, amount: int) -> list[Write]:
    """Spend ``amount`` of what is held, good tokens first, oldest lots first; return the rest to its lots."""
    writes: list[Write] = []
    for lot in lots:
        if held := lot.held or 0:
            spent = min(amount, held)
            if spent == held:
                writes.append(Write(_USE_ALL, (reference, lot.id, held, bool(lot.bad))))
            else:
                returned = held - spent
                writes.append(Write(_USE, (-held, spent, reference, lot.id, held)))
                writes.append(Write(_FREE, (returned, lot.id, lot.free, bool(lot.bad))))
            amount -= spent
    _nothing_left(reference, amount)
    return writes


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


def behind(tx: Session, reference: str) -> list[Lot]:
    """The lots behind a hold as a movement reads them."""
    return [Lot(lot.id, lot.bad_at is not None, lot.free, use.held) for use, lot in _behind(tx, reference)]


def lots_behind(tx: Session, reference: str) -> tuple[str, ...]:
    """Ids of the lots that hold tokens for ``reference`` now, oldest first."""
    return tuple(lot.id for use, lot in _behind(tx, reference) if use.held)


def references_behind(tx: Session, lot_id: str) -> tuple[str, ...]:
    """The other way round: the open holds that a lot is behind."""
    query = select(LotUseRow.reference).where(LotUseRow.lot_id == lot_id, LotUseRow.held > 0)
    return tuple(tx.scalars(query.order_by(LotUseRow.reference)))


_IS_BAD: ColumnElement[bool] = LotRow.bad_at.is_not(None)
_BEHIND = (
    select(LotUseRow, LotRow)
    .join(LotRow, LotRow.id == LotUseRow.lot_id)
    .where(LotUseRow.reference == bindparam("reference"))
    .order_by(_IS_BAD, LotRow.created_at, LotRow.id)
    .execution_options(populate_existing=True)
)


def _behind(tx: Session, reference: str) -> Sequence[tuple[LotUseRow, LotRow]]:
    """Uses with their lots: good ones first, then by age."""
    return [(use, lot) for use, lot in tx.execute(_BEHIND, {"reference": reference})]


def _nothing_left(reference: str, amount: int) -> None:
    if amount:
        raise RuntimeError(f"the lots behind {reference} hold fewer tokens than its hold")
