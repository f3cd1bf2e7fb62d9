"""Pots: what a battle's stakes become when it is over. Taken out whole, to creators and fees, exactly once.

A stake is a hold that the pot's account holds (``ledger.hold`` with ``pot``). Sharing out turns each stake into
payments to creators, one for each creator that it goes to, as if its giver had paid them directly: clearing,
refunds and bad payments know them as they know tips. Knows nothing of who won and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import lots
from models.books import AccountRow, HoldRow, LotRow, LotUseRow
from models.clearing import CLEARING_DAYS
from models.errors import Invalid
from models.ledger_sql import LESS_HELD, NEW_USE, PAID, USE
from models.postings import About, account_id, post
from models.splitting import Part, commission_of, parts_of
from models.statements import Write, moment, write


class Paid(NamedTuple):
    """What one creator got of a pot, in tokens."""

    earnings: int
    commission: int


def account_of(battle_id: str) -> str:
    """The account that holds a battle's stakes."""
    return account_id("pot", battle_id)


def tokens_in(tx: Session, pot: str) -> int:
    """What the open stakes in it sum to."""
    return int(tx.scalar(select(func.sum(HoldRow.amount)).where(HoldRow.pot == pot)) or 0)


def tokens_in_each(tx: Session, names: Mapping[str, str]) -> dict[str, int]:
    """The same of several pots, under the names that the caller has for their accounts."""
    sums = select(HoldRow.pot, func.sum(HoldRow.amount)).where(HoldRow.pot.in_(names)).group_by(HoldRow.pot)
    return {names[pot]: int(tokens) for pot, tokens in tx.execute(sums) if pot is not None}


def stakes_in(tx: Session, pot: str) -> Sequence[HoldRow]:
    """The open stakes, with their givers' wallets locked before them, in one order."""
    wallets = select("wallet:" + HoldRow.fan_id).where(HoldRow.pot == pot, HoldRow.amount > 0)
    tx.flush()
    tx.execute(
        select(AccountRow.id)
        .where(AccountRow.id.in_(wallets))
        .order_by(AccountRow.id)
        .with_for_update(key_share=True)
    )
    found = select(HoldRow).where(HoldRow.pot == pot, HoldRow.amount > 0).order_by(HoldRow.created_at)
    found = found.order_by(HoldRow.reference).with_for_update().execution_options(populate_existing=True)
    return tx.scalars(found).all()


def bad_tokens_in(tx: Session, pot: str) -> dict[str, int]:
    """Stakes that bad payments are behind: reference → how many of its tokens."""
    query = (
        select(LotUseRow.reference, func.sum(LotUseRow.held))
        .join(LotRow, LotRow.id == LotUseRow.lot_id)
        .join(HoldRow, HoldRow.reference == LotUseRow.reference)
        .where(HoldRow.pot == pot, LotUseRow.held > 0, LotRow.bad_at.is_not(None))
        .group_by(LotUseRow.reference)
        .order_by(LotUseRow.reference)
    )
    return {reference: int(tokens) for reference, tokens in tx.execute(query)}


def share_out(
    tx: Session,
    pot: str,
    shares: Mapping[str, int],
    *,
    commission_percent: int,
    cause_id: str,
    now: datetime,
    clearing_days: int = CLEARING_DAYS,
) -> dict[str, Paid]:
    """Pay the whole pot to creators: creator's id → its share, commission included; they sum to what is in it.

    From each share the commission is taken once, rounded down. Raises Invalid when the sum is another one.
    """
    stakes = stakes_in(tx, pot)
    if sum(stake.amount for stake in stakes) != sum(shares.values()) or min(shares.values()) < 0:
        raise Invalid("The shares are not what is in the pot.")
    clears_at = now + timedelta(days=clearing_days)
    fees = {creator_id: _Fee(commission_percent) for creator_id in shares}
    all_parts = parts_of([stake.amount for stake in stakes], list(shares.values()))
    creators = list(shares)
    for stake, parts in zip(stakes, all_parts, strict=True):
        cut = [(creators[part.share], part.tokens, fees[creators[part.share]].of(part)) for part in parts]
        _pay(tx, stake, cut, pot, About("", stake.reference, cause_id, now), clears_at)
    return {creator_id: Paid(tokens - fees[creator_id].taken, fees[creator_id].taken)
            for creator_id, tokens in shares.items()}  # fmt: skip


class _Fee:
    """The commission of one share, in the parts that it comes in: differences of sums, so that all are one fee."""

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._paid = self.taken = 0

    def of(self, part: Part) -> int:
        self._paid += part.tokens
        fee = commission_of(self._paid, self._percent) - self.taken
        self.taken += fee
        return fee


def _pay(
    tx: Session, stake: HoldRow, cut: Sequence[tuple[str, int, int]], pot: str, about: About, clears_at: datetime
) -> None:
    """Close one stake, and write what it paid to whom: (creator, tokens, fee of them)."""
    at = moment(tx, about.now)
    behind = [lot for lot in lots.behind(tx, stake.reference) if lot.held]
    writes = [Write(LESS_HELD, (stake.amount, "released", at, stake.reference, stake.amount))]
    writes += [Write(USE, (-(lot.held or 0), 0, stake.reference, lot.id, lot.held)) for lot in behind]
    drawn = parts_of([lot.held or 0 for lot in behind], [tokens for _, tokens, _ in cut])
    for number, (creator_id, tokens, fee) in enumerate(cut):
        reference, earned = f"{stake.reference}:{creator_id}", tokens - fee
        clears = moment(tx, clears_at)
        writes.append(
            Write(PAID, (reference, stake.fan_id, creator_id, earned, fee, earned, at, at, clears))
        )
        writes += [
            Write(NEW_USE, (reference, lot.id, 0, part.tokens))
            for lot, parts in zip(behind, drawn, strict=True)
            for part in parts
            if part.share == number
        ]
    tx.flush()
    # One at a time: a payment's lots refer to it.
    for one in writes:
        write(tx, [one])
    for creator_id, tokens, fee in cut:
        reference = f"{stake.reference}:{creator_id}"
        entries = {pot: -tokens, account_id("earnings_pending", creator_id): tokens - fee, account_id("fees"): fee}
        key = f"share:{reference}"
        post(tx, "share", entries, key=key, reference=reference, cause_id=about.cause_id, now=about.now)
    tx.expire(stake)
