"""What happens to battles without anybody's wish: their time comes or is over, somebody is away or frozen.

The node's facts say who is in the room; the clock decides what follows. Each battle is dealt with by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Select, exists, select, update
from sqlalchemy.orm import Session

from models import log
from models.battles import UNFINISHED, BattleRow, BattleSideRow, BattleTipRow
from models.errors import Unavailable
from models.services import battle_money, battles, broadcasts
from models.services.ending import MESSAGES_MS
from models.services.locks import locked, one_by_one
from models.streams import RoomRow

MOST_AT_ONCE = 50
AWAY_MINUTES = 1
"""So long may a creator's seat be empty: to come, and to come back."""
LATE_MINUTES = 10
"""A battle that could not begin for so long, for want of a media node, is called off."""


# --- the clock ---------------------------------------------------------------------------------------


def begin_due(tx: Session, now: datetime) -> int:
    """Begin the battles whose time has come, or call them off where fewer than two creators are in; how many."""
    due = select(BattleRow.id).where(BattleRow.status == "open", BattleRow.begins_at <= now)
    return _each(tx, due.order_by(BattleRow.begins_at), lambda battle: _begin_or_call_off(tx, battle, now))


def end_due(tx: Session, now: datetime) -> int:
    """End the battles whose time is over; how many."""
    due = select(BattleRow.id).where(BattleRow.status == "running", BattleRow.ends_at <= now)

    def end(battle: BattleRow) -> bool:
        if battle.status != "running" or battle.ends_at is None or battle.ends_at > now:
            return False
        battles.finish(tx, battle, "time", now)
        return True

    return _each(tx, due.order_by(BattleRow.ends_at), end)


def drop_absent(tx: Session, now: datetime) -> int:
    """Who has been away for too long is in no more; a battle that this leaves to one, or to nobody, ends.

    The one who stays must be there: who is away at the same time, as after a restart of the media node, has not
    won by it. How many battles changed.
    """
    away = exists().where(
        BattleSideRow.battle_id == BattleRow.id,
        BattleSideRow.status == "in",
        BattleSideRow.absent_since.is_not(None),
        # Minutes differ with the house; the rows that are found are looked at by their own.
        BattleSideRow.absent_since <= now - timedelta(milliseconds=MESSAGES_MS),
    )
    there = select(BattleSideRow.creator_id).where(
        BattleSideRow.battle_id == BattleRow.id, BattleSideRow.status == "in"
    )
    second = there.order_by(BattleSideRow.place).offset(1).limit(1).correlate(BattleRow).scalar_subquery()
    due = select(BattleRow.id).where(BattleRow.status == "running", away | second.is_(None))
    return _each(tx, due.order_by(BattleRow.id), lambda battle: _look(tx, battle, now))


# --- what the node says ------------------------------------------------------------------------------


def seat(
    tx: Session, room: RoomRow, user_id: str, *, node_id: str, here: bool, said_at: datetime, now: datetime
) -> None:
    """A node says whether a creator's seat in a battle's room is taken; late and repeated words change nothing."""
    if room.node_id != node_id:
        return
    battle = tx.scalar(select(BattleRow).where(BattleRow.room_id == room.id))
    if battle is None:
        return
    battle = locked(tx, BattleRow, battle.id)
    side = tx.get(BattleSideRow, (battle.id, user_id), populate_existing=True) if battle is not None else None
    if battle is None or side is None or battle.status != "running" or side.status != "in":
        return
    if side.heard_at is not None and side.heard_at > said_at:
        return
    was_here = side.absent_since is None
    side.heard_at = said_at
    if here:
        side.absent_since, side.came_at = None, side.came_at or now
    else:
        side.absent_since = side.absent_since or now
    tx.flush()
    if here:
        broadcasts.want(tx, room.id, now)
    if here != was_here:
        battles.changed(tx, battle, now)


def node_reborn(tx: Session, node_id: str, now: datetime) -> None:
    """A node's former life took all connections with it: nobody is there until the present one says so.

    Takes the battles there, for whoever has one takes its seats and its room in whichever order.
    """
    theirs = select(RoomRow.id).where(RoomRow.node_id == node_id)
    running = select(BattleRow.id).where(BattleRow.room_id.in_(theirs), BattleRow.status == "running")
    tx.execute(running.order_by(BattleRow.id).with_for_update(key_share=True))
    nobody_there(tx, theirs, now)


def nobody_there(tx: Session, room_ids: Select[str], now: datetime) -> None:
    """All seats of the battles in these rooms are empty since now, at the latest. The caller has locked them."""
    running = select(BattleRow.id).where(BattleRow.room_id.in_(room_ids), BattleRow.status == "running")
    tx.execute(
        update(BattleSideRow)
        .where(
            BattleSideRow.battle_id.in_(running),
            BattleSideRow.status == "in",
            BattleSideRow.absent_since.is_(None),
        )
        .values(absent_since=now),
        execution_options={"synchronize_session": False},
    )


# --- what happens to people --------------------------------------------------------------------------


def spending_frozen(tx: Session, person_id: str, now: datetime) -> None:
    """Nothing of this person's may be at stake: their tips go back, and their entry fee.

    Before the battle they are out of it, and one of theirs is called off; in a running one they go on, with
    nothing in the pot.
    """
    for battle_id in _battles_of(tx, person_id):
        battle = locked(tx, BattleRow, battle_id)
        if battle is None or battle.status not in UNFINISHED:
            continue
        battle_money.return_tips(tx, battle, now, fan_id=person_id)
        side = tx.get(BattleSideRow, (battle_id, person_id), populate_existing=True)
        if side is not None and battle.status == "open" and side.status == "in":
            out_of_open(tx, battle, side, now)
        elif side is not None:
            battle_money.return_fee(tx, battle, side, now)
        if battle.status in UNFINISHED:
            battles.changed(tx, battle, now)


def thrown_out(tx: Session, battle_id: str, creator_id: str, now: datetime) -> None:
    """An admin cut a creator out of a battle, or locked the account: that side is in no more.

    One that the host is cut out of goes on; what follows for the pot is as for anybody who left.
    """
    battle = locked(tx, BattleRow, battle_id)
    side = tx.get(BattleSideRow, (battle_id, creator_id), populate_existing=True)
    if battle is None or side is None or side.status != "in":
        return
    if battle.status == "open":
        out_of_open(tx, battle, side, now)
    else:
        battles.drop_side(tx, battle, side, "gone", now)
    if battle.status in UNFINISHED:
        battles.changed(tx, battle, now)


def out_of_open(tx: Session, battle: BattleRow, side: BattleSideRow, now: datetime) -> None:
    """Somebody is out of a battle that has not begun; the host's is called off. The caller has locked it."""
    if side.creator_id == battle.host_id:
        battles.call_off(tx, battle, "moderation", now)
    else:
        battles.drop_side(tx, battle, side, "left", now)


def _battles_of(tx: Session, person_id: str) -> list[str]:
    tipped = select(BattleTipRow.battle_id).where(
        BattleTipRow.fan_id == person_id, BattleTipRow.returned_at.is_(None)
    )
    entered = select(BattleSideRow.battle_id).where(BattleSideRow.creator_id == person_id)
    mine = select(BattleRow.id).where(
        BattleRow.status.in_(UNFINISHED), BattleRow.id.in_(tipped) | BattleRow.id.in_(entered)
    )
    return list(tx.scalars(mine.order_by(BattleRow.id)))


def _begin_or_call_off(tx: Session, battle: BattleRow, now: datetime) -> bool:
    if battle.status != "open" or battle.begins_at > now:
        return False
    inside = [side for side in battle_money.sides_of(tx, battle.id) if side.status == "in"]
    if len(inside) < 2:
        battles.call_off(tx, battle, "too_few", now)
        return True
    try:
        battles.begin(tx, battle, now)
    except Unavailable:
        if now <= battle.begins_at + timedelta(milliseconds=LATE_MINUTES * battle.minute_ms):
            return False
        battles.call_off(tx, battle, "too_few", now)
    return True


def _look(tx: Session, battle: BattleRow, now: datetime) -> bool:
    if battle.status != "running":
        return False
    since = now - timedelta(milliseconds=max(MESSAGES_MS, AWAY_MINUTES * battle.minute_ms))
    inside = [side for side in battle_money.sides_of(tx, battle.id) if side.status == "in"]
    gone = [side for side in inside if side.absent_since is not None and side.absent_since <= since]
    for side in gone:
        battles.drop_side(tx, battle, side, "gone", now)
    left = [side for side in inside if side not in gone]
    # Who is alone may be on the way back from the same trouble that took the others.
    if not left or (len(left) == 1 and left[0].absent_since is None):
        battles.finish(tx, battle, "deserted", now)
        return True
    if gone:
        battles.changed(tx, battle, now)
    return bool(gone)


def _each(tx: Session, due: Select[str], act: Callable[[BattleRow], bool]) -> int:
    """``act`` on each battle that is found, taken in the order of locks: its people first."""
    done = 0

    def take(seen: BattleRow) -> None:
        nonlocal done
        battle = battles.locked_with_people(tx, seen.id)
        if battle is not None and act(battle):
            done += 1

    found = tx.scalars(due.limit(MOST_AT_ONCE)).all()
    failed = len(found) - one_by_one(tx, [tx.get_one(BattleRow, each) for each in found], take)
    if failed:
        log.event("battles_failed", count=failed)
    return done
