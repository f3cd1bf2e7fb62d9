"""What anybody may see of battles: what is at stake, who is in, the score, how it ended. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import func, select
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
    """The battles that anybody may look at now, without their single tips; in a few questions, however many."""
    open_ones = (
        select(BattleRow)
        .where(BattleRow.status.in_(UNFINISHED))
        .order_by(BattleRow.status.desc(), BattleRow.begins_at, BattleRow.id)
        .limit(MOST_SHOWN)
    )
    over = select(BattleRow).where(BattleRow.status == "ended").order_by(BattleRow.ended_at.desc()).limit(10)
    rank = {"running": 0, "open": 1}
    found = sorted(
        tx.scalars(open_ones), key=lambda row: (rank[row.status], row.ends_at or row.begins_at, row.id)
    )
    return BattleList(battles=_views(tx, [*found, *tx.scalars(over)], viewer_id, now))


def running_of(tx: Session, creator_id: str) -> str | None:
    """The id of the battle that the creator is on the air in."""
    mine = select(BattleRow.id).join(BattleSideRow, BattleSideRow.battle_id == BattleRow.id)
    in_it = (BattleSideRow.creator_id == creator_id) & (BattleSideRow.status == "in")
    return tx.scalar(mine.where(in_it, BattleRow.status == "running"))


def current_of(tx: Session, creator_id: str) -> str | None:
    """The id of the battle that the creator is in, open or running."""
    mine = select(BattleSideRow.battle_id).where(
        BattleSideRow.creator_id == creator_id, BattleSideRow.status == "in"
    )
    return tx.scalar(mine)


def view_of(tx: Session, battle: BattleRow, viewer_id: str | None, now: datetime) -> BattleView:
    """The row as somebody sees it."""
    (view,) = _views(tx, [battle], viewer_id, now)
    return msgspec.structs.replace(view, tips=_tips(tx, battle.id))


class _Money(NamedTuple):
    """Tokens of several battles at once."""

    score: dict[tuple[str, str], int]
    """By battle and creator."""
    pot: dict[str, int]
    yours: dict[str, int]


def _views(
    tx: Session, battles: Sequence[BattleRow], viewer_id: str | None, now: datetime
) -> tuple[BattleView, ...]:
    money = _money(tx, [battle.id for battle in battles], viewer_id)
    sides: dict[str, list[SideView]] = {battle.id: [] for battle in battles}
    running = {battle.id for battle in battles if battle.status == "running"}
    rows = (
        select(BattleSideRow, PersonRow)
        .join(PersonRow, PersonRow.id == BattleSideRow.creator_id)
        .where(BattleSideRow.battle_id.in_(sides), BattleSideRow.status != "left")
        .order_by(BattleSideRow.place)
        .execution_options(populate_existing=True)
    )
    for side, person in tx.execute(rows):
        score = money.score.get((side.battle_id, side.creator_id), 0)
        sides[side.battle_id].append(_side(side, person, score, side.battle_id in running))
    return tuple(_view(battle, tuple(sides[battle.id]), money, now) for battle in battles)


def _view(battle: BattleRow, sides: tuple[SideView, ...], money: _Money, now: datetime) -> BattleView:
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
        pot=battle.pot_tokens if over else money.pot.get(battle.id, 0),
        remaining_ms=left,
        sides=sides,
        tips=(),
        your_tips=money.yours.get(battle.id, 0),
    )


def _side(side: BattleSideRow, person: PersonRow, score: int, running: bool) -> SideView:
    return SideView(
        creator_id=side.creator_id,
        handle=person.handle,
        display_name=person.display_name,
        avatar_url=person.avatar_url,
        status=side.status,
        present=running and side.status == "in" and side.absent_since is None,
        score=score,
        share=side.share,
        earned=side.earned,
    )


def _money(tx: Session, battle_ids: Sequence[str], viewer_id: str | None) -> _Money:
    kept = (BattleTipRow.battle_id.in_(battle_ids), BattleTipRow.returned_at.is_(None))
    tipped = func.sum(BattleTipRow.amount)
    by_side = select(BattleTipRow.battle_id, BattleTipRow.creator_id, tipped).where(*kept)
    scores = tx.execute(by_side.group_by(BattleTipRow.battle_id, BattleTipRow.creator_id))
    mine = select(BattleTipRow.battle_id, tipped).where(*kept, BattleTipRow.fan_id == viewer_id)
    yours = tx.execute(mine.group_by(BattleTipRow.battle_id)).all() if viewer_id is not None else ()
    return _Money(
        score={(battle_id, creator_id): int(tokens) for battle_id, creator_id, tokens in scores},
        pot=battle_money.in_pots(tx, battle_ids),
        yours={battle_id: int(tokens) for battle_id, tokens in yours},
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
