"""What anybody may see of battles: what is at stake, who is in, the score, how it ended. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.battles import UNFINISHED, BattleRow, BattleSideRow, BattleTipRow
from models.clock import rfc3339
from models.errors import NotFound
from models.people import PersonRow
from models.services import battle_money

MOST_SHOWN = 50
LATEST_TIPS = 20


class SideView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One side; ``score`` is what was tipped for it, ``share`` its part of the pot in the end, in tokens."""

    creator_id: str
    handle: str
    display_name: str
    avatar_url: str | None
    status: str
    present: bool
    """Whether the creator is in the room of the running battle."""
    score: int
    share: int
    earned: int
    """Of the share, after the commission."""


class BattleTipView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tip for a side."""

    tip_id: str
    creator_id: str
    handle: str
    display_name: str
    amount: int
    message: str
    at: str
    returned: bool


class BattleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A battle. ``winnerPercent`` null: equal shares. ``remainingMs``: until it begins, or ends; 0 afterwards."""

    battle_id: str
    room_id: str
    title: str
    status: str
    host_id: str
    entry_fee: int
    winner_percent: int | None
    most_creators: int
    limit_minutes: int
    minute_ms: int
    commission_percent: int
    begins_at: datetime
    started_at: datetime | None
    ends_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    end_reason: str | None
    pot: int
    """What is in it; at the end: what was shared out or given back."""
    remaining_ms: int
    sides: tuple[SideView, ...]
    tips: tuple[BattleTipView, ...]
    """The latest, newest first."""
    your_tips: int
    """What the caller has tipped here and has not got back."""


class BattleList(msgspec.Struct, frozen=True, kw_only=True):
    """Running ones first, then those that will begin, then the latest that are over."""

    battles: tuple[BattleView, ...]


def find(tx: Session, battle_id: str, viewer_id: str | None, now: datetime) -> BattleView:
    """One battle. Raises NotFound."""
    battle = tx.get(BattleRow, battle_id, populate_existing=True)
    if battle is None:
        raise NotFound("There is no such battle.")
    return view_of(tx, battle, viewer_id, now)


def listed(tx: Session, viewer_id: str | None, now: datetime) -> BattleList:
    """The battles that anybody may look at now."""
    open_ones = select(BattleRow).where(BattleRow.status.in_(UNFINISHED)).limit(MOST_SHOWN)
    over = select(BattleRow).where(BattleRow.status == "ended").order_by(BattleRow.ended_at.desc()).limit(10)
    rank = {"running": 0, "open": 1}
    found = sorted(
        tx.scalars(open_ones), key=lambda row: (rank[row.status], row.ends_at or row.begins_at, row.id)
    )
    return BattleList(battles=tuple(view_of(tx, row, viewer_id, now) for row in (*found, *tx.scalars(over))))


def current_of(tx: Session, creator_id: str) -> str | None:
    """The id of the battle that the creator is in, open or running."""
    mine = select(BattleSideRow.battle_id).where(
        BattleSideRow.creator_id == creator_id, BattleSideRow.status == "in"
    )
    return tx.scalar(mine)


def view_of(tx: Session, battle: BattleRow, viewer_id: str | None, now: datetime) -> BattleView:
    """The row as somebody sees it."""
    over = battle.ended_at is not None
    deadline = battle.ends_at if battle.status == "running" else battle.begins_at
    left = 0 if over or deadline is None else max(0, int((deadline - now).total_seconds() * 1000))
    return BattleView(
        battle_id=battle.id,
        room_id=battle.room_id,
        title=battle.title,
        status=battle.status,
        host_id=battle.host_id,
        entry_fee=battle.entry_fee,
        winner_percent=battle.winner_percent,
        most_creators=battle.most_creators,
        limit_minutes=battle.limit_minutes,
        minute_ms=battle.minute_ms,
        commission_percent=battle.commission_percent,
        begins_at=battle.begins_at,
        started_at=battle.started_at,
        ends_at=battle.ends_at,
        ended_at=battle.ended_at,
        outcome=battle.outcome,
        end_reason=battle.end_reason,
        pot=battle.pot_tokens if over else battle_money.in_pot(tx, battle.id),
        remaining_ms=left,
        sides=_sides(tx, battle),
        tips=_tips(tx, battle.id),
        your_tips=_tipped_by(tx, battle.id, viewer_id),
    )


def _sides(tx: Session, battle: BattleRow) -> tuple[SideView, ...]:
    score = battle_money.scores(tx, battle.id)
    sides = [side for side in battle_money.sides_of(tx, battle.id) if side.status != "left"]
    people = _people(tx, [side.creator_id for side in sides])
    return tuple(
        SideView(
            creator_id=side.creator_id,
            handle=people[side.creator_id].handle,
            display_name=people[side.creator_id].display_name,
            avatar_url=people[side.creator_id].avatar_url,
            status=side.status,
            present=battle.status == "running" and side.status == "in" and side.absent_since is None,
            score=score.get(side.creator_id, 0),
            share=side.share,
            earned=side.earned,
        )
        for side in sides
    )


def _tips(tx: Session, battle_id: str) -> tuple[BattleTipView, ...]:
    latest = (
        select(BattleTipRow, PersonRow.handle, PersonRow.display_name)
        .join(PersonRow, PersonRow.id == BattleTipRow.fan_id)
        .where(BattleTipRow.battle_id == battle_id)
        .order_by(BattleTipRow.created_at.desc(), BattleTipRow.id)
        .limit(LATEST_TIPS)
    )
    return tuple(
        BattleTipView(
            tip_id=row.id,
            creator_id=row.creator_id,
            handle=handle,
            display_name=name,
            amount=row.amount,
            message=row.message,
            at=rfc3339(row.created_at),
            returned=row.returned_at is not None,
        )
        for row, handle, name in tx.execute(latest)
    )


def _tipped_by(tx: Session, battle_id: str, viewer_id: str | None) -> int:
    if viewer_id is None:
        return 0
    mine = select(BattleTipRow.amount).where(
        BattleTipRow.battle_id == battle_id,
        BattleTipRow.fan_id == viewer_id,
        BattleTipRow.returned_at.is_(None),
    )
    return sum(tx.scalars(mine))


def _people(tx: Session, person_ids: Sequence[str]) -> dict[str, PersonRow]:
    return {row.id: row for row in tx.scalars(select(PersonRow).where(PersonRow.id.in_(person_ids)))}
