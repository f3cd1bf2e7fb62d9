"""What follows when a media node is lost: its rooms go on elsewhere, under the same ids and with the same budgets.

A node that boots anew takes its rooms up by itself (``media_facts``); where another node lives, nobody waits for
that. What was delivered counts as far as it was reported, read already or not (``media_facts``), the rest is at
our cost, and the pause is ours (docs/money.md). The node may live all the same, cut off or standing still: each
move raises the room's epoch, under which alone anything said of the room from then on counts, and tells the old
node to let go (docs/decisions/0016).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import msgspec
from sqlalchemy import exists, or_, select, update
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.battles import BattleRow, BattleSideRow
from models.broadcasts import BroadcastRow
from models.db import Database
from models.machine import move
from models.messages.commands import Elsewhere, ReleaseRoom, RoomSpec
from models.recordings import STANDING, RecordingRow
from models.services import battle_clock, departures, placement, rooms, stays
from models.services.announcements import session_changed
from models.services.broadcasts import OPEN
from models.services.ending import silent_by
from models.services.locks import locked
from models.services.placement import NodeLoad
from models.sessions import RUNNING, SessionRow
from models.streams import MediaNodeRow, RoomRow, StreamRow

_Owner = TypeVar("_Owner", SessionRow, BattleRow, StreamRow)

FOUND_AFTER = timedelta(seconds=5)
"""No earlier after it was lost a node counts as found."""

UNSEEN = timedelta(seconds=12)
"""No longer before it is taken for lost has a node been gone, or not reported. Where the last report that we know
is older, others wait to be read, and what they say was delivered is no pause (``media_facts``)."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a node, for whoever asks whether it is there."""

    node_id: str
    boot_id: str
    signaling_url: str
    lost_at: datetime | None
    takes_rooms: bool
    rooms: bool
    """Whether any room is on it."""


def watched(tx: Session) -> list[Watched]:
    """Every node that was ever heard of."""
    rooms_there = exists().where(RoomRow.node_id == MediaNodeRow.id, RoomRow.status != "closed")
    return [
        Watched(
            node_id=node.id,
            boot_id=node.boot_id,
            signaling_url=node.signaling_url,
            lost_at=node.lost_at,
            takes_rooms=node.lost_at is None and node.draining_at is None,
            rooms=has_rooms,
        )
        for node, has_rooms in tx.execute(select(MediaNodeRow, rooms_there).order_by(MediaNodeRow.id))
    ]


def node_lost(tx: Session, node_id: str, boot_id: str, now: datetime) -> None:
    """This life of a node does not answer: it is given no room. Its rooms :func:`move_rooms` moves."""
    node = locked(tx, MediaNodeRow, node_id)
    if node is not None and node.boot_id == boot_id and node.lost_at is None:
        node.lost_at = now
        tx.flush()
        log.event("node_lost", logging.WARNING, node_id=node_id, boot_id=boot_id)


def move_rooms(db: Database, node_id: str, boot_id: str, now: datetime) -> int:
    """Move the rooms of a node that is lost to others that have room for them; how many. Safe to repeat.

    Each in a transaction of its own: the first goes on while the last waits, and one that cannot be moved holds up
    no other. What fits nowhere costs a look, no lock; it stays, and is taken up by the node's next life.
    """
    leaving, nodes = _leaving(db, node_id, now)
    moved = 0
    for room in leaving:
        chosen = placement.choose(nodes, room.seats)
        if chosen is None:
            continue
        try:
            done = db.run(partial(_move, room=room, lost=(node_id, boot_id), chosen=chosen, now=now))
        except Exception:
            # The next round tries again.
            log.failure("room_move_failed", room_id=room.room_id, node_id=node_id)
            continue
        if done:
            moved += 1
            nodes = placement.with_room(nodes, chosen, room.seats)
        else:
            # Somebody else moves them, too, perhaps.
            _, nodes = _leaving(db, node_id, now)
    if moved:
        log.event("rooms_moved", logging.WARNING, node_id=node_id, count=moved)
    return moved


def may_be_found(lost_at: datetime, now: datetime) -> bool:
    """Whether it has been lost for long enough to be found: two clocks that disagree about a node would otherwise
    lose and find it several times a second."""
    return now >= lost_at + FOUND_AFTER


def node_found(tx: Session, node_id: str, boot_id: str, now: datetime) -> None:
    """This life of a node answers again: it may get rooms again, in a while. What was moved stays where it is."""
    node = locked(tx, MediaNodeRow, node_id)
    if node is None or node.boot_id != boot_id or node.lost_at is None or not may_be_found(node.lost_at, now):
        return
    node.lost_at, node.found_at = None, now
    tx.flush()
    log.event("node_found", node_id=node_id, boot_id=boot_id)


def moved_away(tx: Session, node_id: str, room_ids: Sequence[str]) -> tuple[Elsewhere, ...]:
    """Which of these rooms are open on another node, and under which epoch."""
    elsewhere = select(RoomRow.id, RoomRow.epoch).where(
        RoomRow.id.in_(room_ids), RoomRow.status != "closed", RoomRow.node_id != node_id
    )
    found = tx.execute(elsewhere.order_by(RoomRow.id))
    return tuple(Elsewhere(room_id=room_id, epoch=epoch) for room_id, epoch in found)


# --- interrupted sessions ----------------------------------------------------------------------------


def running_on(tx: Session, node_id: str) -> Sequence[SessionRow]:
    """The running sessions of a node, locked."""
    return tx.scalars(
        select(SessionRow)
        .where(SessionRow.node_id == node_id, SessionRow.status.in_(RUNNING))
        .order_by(SessionRow.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def interrupt(
    tx: Session, session: SessionRow, boot_id: str | None, now: datetime, *, not_before: datetime | None = None
) -> int:
    """All connections of a session are gone: it is paused, by our cause, until ``boot_id`` reports of it.

    Since its last report nothing is known to have been delivered: that time is part of our pause, except for what
    is ``not_before`` the interruption, when reports may still be on their way. How many ms.
    """
    session.boot_id, session.last_sequence = boot_id, -1
    broken_ms = 0
    if session.live_at is not None and session.reported_at is not None:
        since = session.reported_at if not_before is None else max(session.reported_at, not_before)
        broken_ms = max(0, (now - since) // timedelta(milliseconds=1))
        session.node_pause_ms += broken_ms
        session.reported_at = now
    tx.flush()
    if session.status == "live":
        move(tx, SessionRow, session.id, "live", "paused", pause_cause="node", next_hold_at=None)
        session_changed(tx, session, now)
    return broken_ms


# --- moving ------------------------------------------------------------------------------------------


class _Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """A room that is on a lost node."""

    room_id: str
    kind: str
    seats: int


def _leaving(db: Database, node_id: str, now: datetime) -> tuple[list[_Leaving], list[NodeLoad]]:
    """The rooms that are to leave a node, private ones first; and where there may be room for them."""
    session = exists().where(SessionRow.room_id == RoomRow.id, SessionRow.status.in_(RUNNING))
    stream = exists().where(StreamRow.room_id == RoomRow.id, StreamRow.status == "live")
    battle = exists().where(BattleRow.room_id == RoomRow.id, BattleRow.status == "running")
    on_air = (
        select(RoomRow.id, RoomRow.kind, RoomRow.viewers, RoomRow.awaited)
        .where(RoomRow.node_id == node_id, RoomRow.status != "closed", or_(session, stream, battle))
        .order_by(RoomRow.kind != "private", RoomRow.id)
    )
    with db.reading() as tx:
        found = tx.execute(on_air).all()
        leaving = [
            _Leaving(room_id=room_id, kind=kind, seats=placement.seats_of(kind, viewers, awaited))
            for room_id, kind, viewers, awaited in found
        ]
        return leaving, placement.living(tx, now) if leaving else []


def _move(tx: Session, *, room: _Leaving, lost: tuple[str, str], chosen: str, now: datetime) -> bool:
    """Move one room; False if it is not on that lost node any more, or over."""
    node_id, boot_id = lost
    node = locked(tx, MediaNodeRow, node_id)
    if node is None or node.boot_id != boot_id or node.lost_at is None:
        return False
    if room.kind == "private":
        return _move_session(tx, room, node_id, node.lost_at - UNSEEN, chosen, now)
    return _move_public(tx, room, node_id, chosen, now)


def _move_session(
    tx: Session, leaving: _Leaving, node_id: str, alive_at: datetime, chosen: str, now: datetime
) -> bool:
    session = _with_room(tx, SessionRow, leaving.room_id)
    room = _still_on(tx, leaving.room_id, node_id)
    if session is None or session.status not in RUNNING or room is None:
        return False
    stays.ended(tx, room.id, room.epoch, now)
    broken_ms = interrupt(tx, session, None, now, not_before=alive_at)
    _place(tx, room, chosen, leaving.seats, now)
    session.node_id, session.room_epoch = chosen, room.epoch
    if session.opened_at is not None:
        session.deadline_kind, session.deadline_at = "silent", silent_by(session, now)
    tx.flush()
    _free_leases(tx, room.id, now)
    _tell(tx, room, rooms.private_spec(tx, session, paused_for_ms=broken_ms), node_id, session.cause_id, now)
    return True


def _move_public(tx: Session, leaving: _Leaving, node_id: str, chosen: str, now: datetime) -> bool:
    # In the order of locks: what the room belongs to comes before it.
    spec = _public_spec(tx, leaving)
    room = _still_on(tx, leaving.room_id, node_id)
    if spec is None or room is None:
        return False
    _nobody_is_there(tx, room, now)
    _place(tx, room, chosen, leaving.seats, now)
    _free_leases(tx, room.id, now)
    _tell(tx, room, msgspec.structs.replace(spec, epoch=room.epoch), node_id, room.id, now)
    return True


def _public_spec(tx: Session, leaving: _Leaving) -> RoomSpec | None:
    """How the room should be; its stream or battle is locked. None: that is over."""
    if leaving.kind == "battle":
        battle = _with_room(tx, BattleRow, leaving.room_id)
        return rooms.battle_spec(tx, battle) if battle is not None and battle.status == "running" else None
    stream = _with_room(tx, StreamRow, leaving.room_id)
    return rooms.live_spec(tx, stream) if stream is not None and stream.status == "live" else None


def _with_room(tx: Session, table: type[_Owner], room_id: str) -> _Owner | None:
    """The row that the room belongs to, locked."""
    id_ = tx.scalar(select(table.id).where(table.room_id == room_id))
    return locked(tx, table, id_) if id_ is not None else None


def _still_on(tx: Session, room_id: str, node_id: str) -> RoomRow | None:
    """The room, locked; None if it is not on that node any more."""
    room = locked(tx, RoomRow, room_id)
    return room if room is not None and room.status != "closed" and room.node_id == node_id else None


def _place(tx: Session, room: RoomRow, node_id: str, seats: int, now: datetime) -> None:
    status = room.status
    room.node_id, room.epoch, room.placed_at = node_id, room.epoch + 1, now
    room.viewers, room.awaited = 0, seats
    tx.flush()
    if status == "open":
        move(tx, RoomRow, room.id, "open", "opening")


def _nobody_is_there(tx: Session, room: RoomRow, now: datetime) -> None:
    """Until the new node says so. By whatever clock: it is newer than all that was said before."""
    if room.kind == "battle":
        battle_clock.nobody_there(tx, select(RoomRow.id).where(RoomRow.id == room.id), now)
        sides = select(BattleRow.id).where(BattleRow.room_id == room.id)
        heard = update(BattleSideRow).where(BattleSideRow.battle_id.in_(sides)).values(heard_at=None)
    else:
        heard = update(StreamRow).where(StreamRow.room_id == room.id).values(creator_heard_at=None)
    tx.execute(heard, execution_options={"synchronize_session": False})


def _free_leases(tx: Session, room_id: str, now: datetime) -> None:
    """Whoever reads the room's media reads it from the old node: a new lease names the new one."""
    for table, statuses in ((BroadcastRow, OPEN), (RecordingRow, STANDING)):
        tx.execute(
            update(table)
            .where(table.room_id == room_id, table.status.in_(statuses), table.worker_id.is_not(None))
            .values(worker_id=None, lease_until=now),
            execution_options={"synchronize_session": False},
        )


def _tell(
    tx: Session, room: RoomRow, spec: RoomSpec, old_id: str | None, cause_id: str, now: datetime
) -> None:
    """The new node opens it; the old one, should it hear, lets go."""
    rooms.tell(tx, room.node_id or "", spec, cause_id=cause_id, now=now)
    if old_id is not None:
        departures.moved(tx, room.id, old_id, room.node_id or "", now)
        release = ReleaseRoom(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=cause_id,
            deadline_at=(now + timedelta(seconds=rooms.CLOSE_WITHIN_SECONDS)).timestamp(),
            room_id=room.id,
            epoch=room.epoch,
        )
        outbox.command(tx, old_id, release, now=now)
