"""Battles: a creator opens one, others enter, fans tip a side, and the pot is split as was said beforehand.

Opening, entering, leaving, beginning, tipping and ending; what the clock and the media node do to a battle is
in ``battle_clock``, its money in ``battle_money``. docs/decisions/0014 gives the rules and their reasons.

Locks: people (by id), the battle, streams, the room, accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import ids, log, splitting
from models.agenda import agenda_for
from models.battles import BattleRow, BattleSideRow, BattleTipRow
from models.config import Settings
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.machine import move
from models.messages.commands import Reason
from models.people import BlockRow
from models.services import accounts, battle_money, engaged, placement, rooms, streams
from models.services.accounts import Person
from models.services.announcements import tell
from models.services.battle_views import BattleView, view_of
from models.services.locks import lock_people, locked
from models.services.tips import HIGHEST, LOWEST, checked_message
from models.sessions import RUNNING, SessionRow
from models.streams import StreamRow

LONGEST_TITLE = 80
HIGHEST_FEE = 100_000
LIMITS = range(1, 121)
CREATORS = range(2, 5)
WINNER_PERCENTS = range(50, 101)
LONGEST_AHEAD = timedelta(days=7)

EndReason = Literal["time", "host", "deserted", "too_few", "withdrawn", "moderation"]


# --- before it begins -------------------------------------------------------------------------------


def open_battle(
    tx: Session,
    host: Person,
    *,
    title: str,
    entry_fee: int,
    winner_percent: int | None,
    most_creators: int,
    limit_minutes: int,
    begins_at: datetime,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> BattleView:
    """Open a battle and enter it as its first side, for the entry fee.

    ``winner_percent`` None: equal shares. Raises Invalid (``field``), Forbidden (NOT_A_CREATOR, SPENDING_FROZEN,
    SPENDING_CAP), Conflict (IN_BATTLE, CREATOR_UNAVAILABLE), PaymentRequired.
    """
    _require_creator(host)
    title = _checked(title, entry_fee, winner_percent, most_creators, limit_minutes, begins_at, now)
    lock_people(tx, host.user_id)
    battle_id = ids.new_id(ids.BATTLE)
    battle = BattleRow(
        id=battle_id,
        host_id=host.user_id,
        room_id=ids.battle_room(battle_id),
        title=title,
        status="open",
        entry_fee=entry_fee,
        winner_percent=winner_percent,
        most_creators=most_creators,
        limit_minutes=limit_minutes,
        minute_ms=settings.minute_ms,
        commission_percent=settings.commission_percent,
        begins_at=begins_at,
        cause_id=cause_id,
        created_at=now,
    )
    _require_free(tx, host.user_id, battle)
    tx.add(battle)
    tx.flush()
    _take_side(tx, battle, host.user_id, cause_id, now)
    log.event("battle_opened", battle_id=battle_id, cause_id=cause_id)
    return view_of(tx, battle, host.user_id, now)


def enter(
    tx: Session, battle_id: str, creator: Person, *, max_entry_fee: int, now: datetime, cause_id: str
) -> BattleView:
    """Enter an open battle for its entry fee. Who is in already stays in and pays nothing more.

    Raises NotFound, Forbidden (NOT_A_CREATOR, BLOCKED, SPENDING_FROZEN, SPENDING_CAP), Conflict (BATTLE_CLOSED,
    BATTLE_FULL, IN_BATTLE, CREATOR_UNAVAILABLE, PRICE_CHANGED), PaymentRequired.
    """
    _require_creator(creator)
    lock_people(tx, creator.user_id)
    battle = _locked(tx, battle_id)
    sides = battle_money.sides_of(tx, battle.id)
    inside = [side.creator_id for side in sides if side.status == "in"]
    if creator.user_id in inside:
        return view_of(tx, battle, creator.user_id, now)
    if battle.status != "open" or battle.begins_at <= now:
        raise Conflict("This battle takes nobody in any more.", code="BATTLE_CLOSED")
    if len(inside) >= battle.most_creators:
        raise Conflict("Every place in this battle is taken.", code="BATTLE_FULL")
    if battle.entry_fee > max_entry_fee:
        raise Conflict("The entry fee is another.", code="PRICE_CHANGED", total_cost=battle.entry_fee)
    if _blocked_among(tx, creator.user_id, inside):
        raise Forbidden("You and somebody in this battle have nothing to do with each other.", code="BLOCKED")
    _require_free(tx, creator.user_id, battle)
    _take_side(tx, battle, creator.user_id, cause_id, now)
    return view_of(tx, battle, creator.user_id, now)


def leave(tx: Session, battle_id: str, creator_id: str, now: datetime) -> BattleView:
    """Leave before it begins: the entry fee and all tips for that side go back. The host's leaving calls it off.

    Again is no harm. Raises NotFound, Conflict BATTLE_CLOSED.
    """
    lock_people(tx, creator_id)
    battle = _locked(tx, battle_id)
    side = tx.get(BattleSideRow, (battle_id, creator_id), populate_existing=True)
    if side is None:
        raise NotFound("You are not in this battle.")
    if battle.status == "cancelled" or (battle.status == "open" and side.status == "left"):
        return view_of(tx, battle, creator_id, now)
    if battle.status != "open":
        raise Conflict("The battle has begun.", code="BATTLE_CLOSED")
    if creator_id == battle.host_id:
        call_off(tx, battle, "withdrawn", now)
    else:
        drop_side(tx, battle, side, "left", now)
        changed(tx, battle, now)
    return view_of(tx, battle, creator_id, now)


def call_off(tx: Session, battle: BattleRow, reason: EndReason, now: datetime) -> None:
    """An open battle never begins: everything goes back. The caller has locked it."""
    _over(tx, battle, "cancelled", "returned", reason, battle_money.return_all(tx, battle, now), now)


def start(tx: Session, battle_id: str, host: Person, now: datetime) -> BattleView:
    """The host begins an open battle that two creators or more have entered. Again is no harm.

    Raises NotFound, Conflict (BATTLE_CLOSED, TOO_FEW_CREATORS, CREATOR_UNAVAILABLE when it would run into a
    booking of a creator's), Unavailable without a media node.
    """
    battle = _own(tx, battle_id, host.user_id)
    if battle.status == "running":
        return view_of(tx, battle, host.user_id, now)
    if battle.status != "open":
        raise Conflict("This battle is over.", code="BATTLE_CLOSED")
    inside = [side.creator_id for side in battle_money.sides_of(tx, battle_id) if side.status == "in"]
    if len(inside) < 2:
        raise Conflict("A battle needs two creators.", code="TOO_FEW_CREATORS")
    until = now + _lasts(battle)
    for creator_id in inside:
        if engaged.booked_between(tx, creator_id, now, until, agenda_for(battle.minute_ms).guard):
            raise Conflict("It would run into a booking of a creator's.", code="CREATOR_UNAVAILABLE")
    begin(tx, battle, now)
    return view_of(tx, battle, host.user_id, now)


def begin(tx: Session, battle: BattleRow, now: datetime) -> None:
    """An open battle begins: its room opens, the sides' public streams end. The caller has locked all of them.

    A creator who is in a private stream just then stays there, and is away from the battle meanwhile.
    """
    sides = [side for side in battle_money.sides_of(tx, battle.id) if side.status == "in"]
    inside = [side.creator_id for side in sides]
    node_id = placement.pick_node(tx, "battle", now, instead_of=inside)
    for side in sides:
        side.absent_since = now
        _end_stream(tx, side.creator_id, now)
    move(tx, BattleRow, battle.id, "open", "running", started_at=now, ends_at=now + _lasts(battle))
    tx.refresh(battle)
    spec = rooms.battle_spec(tx, battle)
    rooms.open_room(tx, spec, kind="battle", node_id=node_id, cause_id=battle.id, now=now)
    changed(tx, battle, now)
    for side in sides:
        # Wherever they are: who does not come within a minute is out of it.
        tell(tx, side.creator_id, "BATTLE_BEGUN", now, battleId=battle.id, title=battle.title)
    log.event("battle_begun", battle_id=battle.id, creators=len(sides), cause_id=battle.cause_id)


# --- while it runs ----------------------------------------------------------------------------------


def tip(
    tx: Session,
    battle_id: str,
    *,
    fan: Person,
    creator_id: str,
    amount: int,
    message: str = "",
    key: str,
    now: datetime,
    cause_id: str,
) -> BattleView:
    """Tip a side, before the battle begins or while it runs; the same ``key`` again is the same tip.

    Raises Invalid (``field``), NotFound, Forbidden (NOT_A_FAN, OWN_STREAM, BLOCKED, SPENDING_FROZEN,
    SPENDING_CAP), Conflict (BATTLE_CLOSED, SIDE_GONE, IDEMPOTENCY_KEY_REUSED), PaymentRequired.
    """
    if not LOWEST <= amount <= HIGHEST:
        raise Invalid(f"Choose {LOWEST} to {HIGHEST:,} tokens.", field="amount")
    text = checked_message(message)
    if "fan" not in fan.roles:
        raise Forbidden("Only fans tip.", code="NOT_A_FAN")
    lock_people(tx, fan.user_id)
    battle = _locked(tx, battle_id)
    before = tx.scalar(select(BattleTipRow).where(BattleTipRow.fan_id == fan.user_id, BattleTipRow.key == key))
    if before is not None:
        if (before.battle_id, before.creator_id, before.amount) != (battle_id, creator_id, amount):
            raise Conflict("This key was used for another tip.", code="IDEMPOTENCY_KEY_REUSED")
        return view_of(tx, battle, fan.user_id, now)
    _may_tip(tx, battle, fan.user_id, creator_id, now)
    row = BattleTipRow(
        id=ids.new_id(ids.BATTLE_TIP),
        battle_id=battle_id,
        creator_id=creator_id,
        fan_id=fan.user_id,
        key=key,
        amount=amount,
        message=text,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    battle_money.pay_in(tx, battle, fan.user_id, amount, f"stake:{row.id}", cause_id, now)
    tell(
        tx,
        None,
        "BATTLE_TIP",
        now,
        battleId=battle_id,
        tipId=row.id,
        creatorId=creator_id,
        handle=fan.handle,
        displayName=fan.display_name,
        amount=amount,
        message=text or None,
        score=battle_money.scores(tx, battle_id)[creator_id],
        pot=battle_money.in_pot(tx, battle_id),
    )
    log.event("battle_tipped", battle_id=battle_id, tip_id=row.id, cause_id=cause_id)
    return view_of(tx, battle, fan.user_id, now)


def end(tx: Session, battle_id: str, host: Person, now: datetime) -> BattleView:
    """The host ends a running battle: the score of this moment counts. Again is no harm.

    Raises NotFound, Conflict BATTLE_CLOSED before it has begun.
    """
    battle = _own(tx, battle_id, host.user_id)
    if battle.status in ("open", "cancelled"):
        raise Conflict("The battle is not running.", code="BATTLE_CLOSED")
    if battle.status == "running":
        finish(tx, battle, "host", now)
    return view_of(tx, battle, host.user_id, now)


def finish(tx: Session, battle: BattleRow, reason: EndReason, now: datetime) -> None:
    """A running battle is over: the pot is shared out as was said, or all of it goes back. The caller holds it.

    Those share who are in to the end and were there. Everything goes back when nobody is, when fewer than two
    ever came, when no side was tipped, and when an admin ended it.
    """
    why: Reason = "MODERATION" if reason == "moderation" else "STREAM_ENDED"
    rooms.close_room(tx, battle.room_id, why, cause_id=battle.id, now=now)
    battle_money.return_bad(tx, battle, now)
    sides = battle_money.sides_of(tx, battle.id)
    stayed = [side for side in sides if side.status == "in" and side.came_at is not None]
    came = sum(side.came_at is not None for side in sides)
    for side in sides:
        # A battle may be over before they are found missing.
        if side.status == "in" and side.came_at is None:
            drop_side(tx, battle, side, "gone", now)
    score = battle_money.scores(tx, battle.id)
    if reason == "moderation" or not stayed or came < 2 or not score:
        tokens = battle_money.return_all(tx, battle, now)
        outcome = "returned"
    else:
        tokens = battle_money.in_pot(tx, battle.id)
        results = [score.get(side.creator_id, 0) for side in stayed]
        shares = splitting.split(tokens, results, battle.winner_percent)
        battle_money.share_out(
            tx, battle, {side.creator_id: share for side, share in zip(stayed, shares, strict=True)}, now
        )
        outcome = "draw" if len(splitting.winners(results)) > 1 else "won"
        outcome = "walkover" if len(stayed) == 1 else outcome
    _over(tx, battle, "ended", outcome, reason, tokens, now)


def drop_side(
    tx: Session, battle: BattleRow, side: BattleSideRow, status: Literal["left", "gone"], now: datetime
) -> None:
    """A side is in no more. Before the battle everything of it goes back; of one that never came, its tips, and
    the fee unless it had a minute to come after the time that it was told."""
    side.status, side.absent_since = status, None
    tx.flush()
    by = max(battle.started_at or now, battle.begins_at) + timedelta(milliseconds=battle.minute_ms)
    if status == "left" or (side.came_at is None and now < by):
        battle_money.return_fee(tx, battle, side, now)
    if status == "left" or side.came_at is None:
        battle_money.return_tips(tx, battle, now, side=side.creator_id)
    log.event("battle_side_out", battle_id=battle.id, status=status, cause_id=battle.cause_id)


def changed(tx: Session, battle: BattleRow, now: datetime) -> None:
    """Everybody who looks at it looks again."""
    tell(tx, None, "BATTLE_CHANGED", now, battleId=battle.id, roomId=battle.room_id, status=battle.status,
         outcome=battle.outcome)  # fmt: skip


# --- shared -----------------------------------------------------------------------------------------


def locked_with_people(tx: Session, battle_id: str) -> BattleRow | None:
    """The battle as it is now, with everybody who is in it taken before it; None if there is none."""
    inside = select(BattleSideRow.creator_id).where(BattleSideRow.battle_id == battle_id)
    lock_people(tx, *tx.scalars(inside))
    return locked(tx, BattleRow, battle_id)


def _checked(
    title: str,
    entry_fee: int,
    winner_percent: int | None,
    most_creators: int,
    limit_minutes: int,
    begins_at: datetime,
    now: datetime,
) -> str:
    title = " ".join(title.split())
    if not 1 <= len(title) <= LONGEST_TITLE or not title.isprintable():
        raise Invalid(f"Choose a title of 1 to {LONGEST_TITLE} printable characters.", field="title")
    if not 0 <= entry_fee <= HIGHEST_FEE:
        raise Invalid(f"Choose 0 to {HIGHEST_FEE:,} tokens.", field="entryFee")
    if winner_percent is not None and winner_percent not in WINNER_PERCENTS:
        raise Invalid("Choose 50 to 100 percent.", field="winnerPercent")
    if most_creators not in CREATORS:
        raise Invalid("Choose 2 to 4 creators.", field="mostCreators")
    if limit_minutes not in LIMITS:
        raise Invalid("Choose 1 to 120 minutes.", field="limitMinutes")
    if not now < begins_at <= now + LONGEST_AHEAD:
        raise Invalid("Choose a time within the next 7 days.", field="beginsAt")
    return title


def _take_side(tx: Session, battle: BattleRow, creator_id: str, cause_id: str, now: datetime) -> None:
    side = tx.get(BattleSideRow, (battle.id, creator_id), populate_existing=True)
    if side is None:
        place = len(battle_money.sides_of(tx, battle.id)) + 1
        side = BattleSideRow(battle_id=battle.id, creator_id=creator_id, place=place)
        tx.add(side)
    side.status, side.fee, side.entered_at = "in", battle.entry_fee, now
    try:
        tx.flush()
    except IntegrityError as error:
        raise Conflict("You are in another battle.", code="IN_BATTLE") from error
    if battle.entry_fee:
        battle_money.pay_in(
            tx, battle, creator_id, battle.entry_fee, f"stake:{ids.new_id(ids.TRANSFER)}", cause_id, now
        )
    changed(tx, battle, now)


def _require_creator(person: Person) -> None:
    if "creator" not in person.roles:
        raise Forbidden("Only creators battle.", code="NOT_A_CREATOR")


def _require_free(tx: Session, creator_id: str, battle: BattleRow) -> None:
    other = select(BattleSideRow.battle_id).where(
        BattleSideRow.creator_id == creator_id, BattleSideRow.status == "in"
    )
    if (battle_id := tx.scalar(other)) is not None:
        raise Conflict("You are in another battle.", code="IN_BATTLE", battle_id=battle_id)
    until = battle.begins_at + _lasts(battle)
    if engaged.booked_between(tx, creator_id, battle.begins_at, until, agenda_for(battle.minute_ms).guard):
        raise Conflict("That would run into a time that is booked with you.", code="CREATOR_UNAVAILABLE")


def _blocked_among(tx: Session, creator_id: str, others: Sequence[str]) -> bool:
    pairs = [(other, creator_id) for other in others] + [(creator_id, other) for other in others]
    return any(tx.get(BlockRow, pair, populate_existing=True) is not None for pair in pairs)


def _may_tip(tx: Session, battle: BattleRow, fan_id: str, creator_id: str, now: datetime) -> None:
    sides = {side.creator_id: side for side in battle_money.sides_of(tx, battle.id)}
    if creator_id not in sides:
        raise NotFound("That creator is not in this battle.")
    if fan_id in sides:
        raise Forbidden("Nobody tips in their own battle.", code="OWN_STREAM")
    if tx.get(BlockRow, (creator_id, fan_id), populate_existing=True) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")
    ends_at = battle.ends_at if battle.status == "running" else battle.begins_at
    if battle.status not in ("open", "running") or ends_at is None or ends_at <= now:
        raise Conflict("This battle takes no tips any more.", code="BATTLE_CLOSED")
    if sides[creator_id].status != "in" or accounts.is_locked(tx, creator_id):
        raise Conflict("This creator has left the battle.", code="SIDE_GONE")


def _end_stream(tx: Session, creator_id: str, now: datetime) -> None:
    found = select(StreamRow.id).where(StreamRow.creator_id == creator_id, StreamRow.status != "ended")
    stream_id = tx.scalar(found)
    stream = locked(tx, StreamRow, stream_id) if stream_id is not None else None
    calling = select(SessionRow.id).where(SessionRow.creator_id == creator_id, SessionRow.status.in_(RUNNING))
    if stream is not None and stream.status != "ended" and tx.scalar(calling) is None:
        streams.finish(tx, stream, "STREAM_ENDED", creator_id, now)


def _over(
    tx: Session, battle: BattleRow, status: str, outcome: str, reason: EndReason, tokens: int, now: datetime
) -> None:
    for side in battle_money.sides_of(tx, battle.id):
        if side.status == "in":
            side.status, side.absent_since = "done", None
    tx.flush()
    move(tx, BattleRow, battle.id, battle.status, status, ended_at=now, outcome=outcome, end_reason=reason,
         pot_tokens=tokens)  # fmt: skip
    tx.refresh(battle)
    changed(tx, battle, now)
    log.event("battle_over", battle_id=battle.id, outcome=outcome, reason=reason, cause_id=battle.cause_id)


def _lasts(battle: BattleRow) -> timedelta:
    return timedelta(milliseconds=battle.limit_minutes * battle.minute_ms)


def _locked(tx: Session, battle_id: str) -> BattleRow:
    battle = locked(tx, BattleRow, battle_id)
    if battle is None:
        raise NotFound("There is no such battle.")
    return battle


def _own(tx: Session, battle_id: str, host_id: str) -> BattleRow:
    found = tx.get(BattleRow, battle_id)
    if found is None or found.host_id != host_id:
        raise NotFound("There is no such battle of yours.")
    battle = locked_with_people(tx, battle_id)
    assert battle is not None  # battles are never deleted
    return battle
