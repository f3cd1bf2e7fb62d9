"""A battle's money: entry fees and side tips into its pot, and everything out of it again, exactly once.

Whoever calls has taken the battle's row (and people's before it): nothing else moves in or out meanwhile.
Knows nothing of rooms, seats and clocks; the ledger moves the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from models import ids, ledger, pots
from models.battles import BattleRow, BattleSideRow, BattleTipRow
from models.services.announcements import balance_changed


def stake_of(battle_id: str, person_id: str) -> str:
    """The ledger's reference of all that a person has in a battle's pot."""
    return f"{battle_id}:{person_id}"


def pay_in(
    tx: Session, battle: BattleRow, person_id: str, tokens: int, key: str, cause_id: str, now: datetime
) -> None:
    """Tokens from a wallet into the pot. Raises as ``ledger.hold``: PaymentRequired, Forbidden."""
    ledger.hold(
        tx,
        person_id,
        tokens,
        key=key,
        reference=stake_of(battle.id, person_id),
        pot=pots.account_of(battle.id),
        cause_id=cause_id,
        now=now,
    )
    balance_changed(tx, person_id, now)


def return_fee(tx: Session, battle: BattleRow, side: BattleSideRow, now: datetime) -> None:
    """A side's entry fee goes back to who paid it."""
    fee, side.fee = side.fee, 0
    tx.flush()
    _give_back(tx, battle, side.creator_id, fee, now)


def return_tips(
    tx: Session, battle: BattleRow, now: datetime, *, side: str | None = None, fan_id: str | None = None
) -> int:
    """All tips go back to their fans, or those for one side, or of one fan; how many tokens that was."""
    which: list[ColumnElement[bool]] = [BattleTipRow.battle_id == battle.id, BattleTipRow.returned_at.is_(None)]
    which += [BattleTipRow.creator_id == side] if side is not None else []
    which += [BattleTipRow.fan_id == fan_id] if fan_id is not None else []
    sums = select(BattleTipRow.fan_id, func.sum(BattleTipRow.amount)).where(*which)
    found = tx.execute(sums.group_by(BattleTipRow.fan_id).order_by(BattleTipRow.fan_id)).all()
    back = update(BattleTipRow).where(*which).values(returned_at=now)
    tx.execute(back, execution_options={"synchronize_session": False})
    for giver, tokens in found:
        _give_back(tx, battle, giver, int(tokens), now)
    return sum(int(tokens) for _, tokens in found)


def return_all(tx: Session, battle: BattleRow, now: datetime) -> int:
    """Everybody has back what they paid in; how many tokens that was."""
    tokens = return_tips(tx, battle, now)
    for side in sides_of(tx, battle.id):
        tokens += side.fee
        return_fee(tx, battle, side, now)
    return tokens


def return_bad(tx: Session, battle: BattleRow, now: datetime) -> None:
    """What bad payments are behind goes back before anybody is paid with it; their givers' tips count no more."""
    for reference in pots.bad_tokens_in(tx, pots.account_of(battle.id)):
        person_id = reference.partition(":")[2]
        return_tips(tx, battle, now, fan_id=person_id)
        for side in sides_of(tx, battle.id):
            if side.creator_id == person_id:
                return_fee(tx, battle, side, now)


def share_out(tx: Session, battle: BattleRow, shares: Mapping[str, int], now: datetime) -> None:
    """Pay the pot to the sides: creator's id → share of it, commission included."""
    wanted = {creator_id: tokens for creator_id, tokens in shares.items() if tokens}
    paid = pots.share_out(
        tx,
        pots.account_of(battle.id),
        wanted,
        commission_percent=battle.commission_percent,
        cause_id=battle.cause_id,
        now=now,
    )
    for side in sides_of(tx, battle.id):
        if side.creator_id in paid:
            side.share, side.earned = wanted[side.creator_id], paid[side.creator_id].earnings
            balance_changed(tx, side.creator_id, now)
    tx.flush()


def in_pot(tx: Session, battle_id: str) -> int:
    """Tokens in the pot now."""
    return pots.tokens_in(tx, pots.account_of(battle_id))


def in_pots(tx: Session, battle_ids: Sequence[str]) -> dict[str, int]:
    """The same of many, in one question; battles with nothing in the pot are left out."""
    return pots.tokens_in_each(tx, {pots.account_of(battle_id): battle_id for battle_id in battle_ids})


def scores(tx: Session, battle_id: str) -> dict[str, int]:
    """Creator's id → tokens tipped for that side, without what went back; sides without a tip are left out."""
    query = select(BattleTipRow.creator_id, func.sum(BattleTipRow.amount)).where(
        BattleTipRow.battle_id == battle_id, BattleTipRow.returned_at.is_(None)
    )
    return {creator_id: int(tokens) for creator_id, tokens in tx.execute(query.group_by(BattleTipRow.creator_id))}


def sides_of(tx: Session, battle_id: str) -> list[BattleSideRow]:
    """All sides, in the order in which they entered."""
    query = select(BattleSideRow).where(BattleSideRow.battle_id == battle_id).order_by(BattleSideRow.place)
    return list(tx.scalars(query.execution_options(populate_existing=True)))


def _give_back(tx: Session, battle: BattleRow, person_id: str, tokens: int, now: datetime) -> None:
    if tokens == 0:
        return
    ledger.release(
        tx,
        stake_of(battle.id, person_id),
        amount=tokens,
        pot=pots.account_of(battle.id),
        # Each return is of rows that say so in this transaction; none comes a second time.
        key=f"stake_return:{ids.new_id(ids.TRANSFER)}",
        cause_id=battle.cause_id,
        now=now,
    )
    balance_changed(tx, person_id, now)
