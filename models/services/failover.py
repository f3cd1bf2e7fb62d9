"""What follows when a media node is lost: its rooms go on elsewhere, under the same ids and with the same budgets.

A node that boots anew takes its rooms up by itself (``media_facts``); where another node lives, nobody waits for
that. What was delivered counts as far as it was reported, the rest is at our cost, and the pause is ours
(docs/money.md). The node may live all the same, cut off or standing still: each move raises the room's epoch,
under which alone anything said of the room counts, and tells the old node to let go (docs/decisions/0016).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.battles import BattleRow, BattleSideRow
from models.broadcasts import BroadcastRow
from models.machine import move
from models.messages.commands import Elsewhere, ReleaseRoom, RoomSpec
from models.recordings import STANDING, RecordingRow
from models.services import battle_clock, placement, rooms
from models.services.announcements import session_changed
from models.services.broadcasts import OPEN
from models.services.ending import silent_by
from models.services.locks import locked
from models.sessions import RUNNING, SessionRow
from models.streams import MediaNodeRow, RoomRow, StreamRow

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


def move_rooms(tx: Session, node_id: str, boot_id: str, now: datetime) -> int:
    """Move the rooms of a node that is lost to others that have room for them; how many. Safe to repeat.

    What fits nowhere stays, and is taken up by the node's next life.
    """
    node = locked(tx, MediaNodeRow, node_id)
    if node is None or node.boot_id != boot_id or node.lost_at is None:
        return 0
    sessions = running_on(tx, node_id)
    moved = sum(_move_session(tx, session, node.lost_at - UNSEEN, now) for session in sessions)
    moved += _move_public(tx, node_id, now)
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


def _move_session(tx: Session, session: SessionRow, alive_at: datetime, now: datetime) -> bool:
    room = locked(tx, RoomRow, session.room_id)
    node_id = _room_for(tx, room, now)
    if room is None or node_id is None:
        return False
    old_id = room.node_id
    broken_ms = interrupt(tx, session, None, now, not_before=alive_at)
    _place(tx, room, node_id, now)
    session.node_id, session.room_epoch = node_id, room.epoch
    if session.opened_at is not None:
        session.deadline_kind, session.deadline_at = "silent", silent_by(session, now)
    tx.flush()
    _free_leases(tx, room.id, now)
    _tell(tx, room, rooms.private_spec(tx, session, paused_for_ms=broken_ms), old_id, session.cause_id, now)
    return True


def _move_public(tx: Session, node_id: str, now: datetime) -> int:
    moved = 0
    for spec in rooms.public_specs(tx, node_id):
        # In the order of locks: what the room belongs to comes before it.
        for table in (BattleRow, StreamRow):
            tx.scalar(select(table.id).where(table.room_id == spec.room_id).with_for_update(key_share=True))
        room = locked(tx, RoomRow, spec.room_id)
        chosen = _room_for(tx, room, now)
        if room is None or chosen is None:
            continue
        _nobody_is_there(tx, room, now)
        _place(tx, room, chosen, now)
        _free_leases(tx, room.id, now)
        _tell(tx, room, msgspec.structs.replace(spec, epoch=room.epoch), node_id, room.id, now)
        moved += 1
    return moved


def _room_for(tx: Session, room: RoomRow | None, now: datetime) -> str | None:
    """A living node for this room; None: there is none, or the room is closed."""
    if room is None or room.status == "closed":
        return None
    return placement.living(tx, msgspec.convert(room.kind, placement.Kind), now)


def _place(tx: Session, room: RoomRow, node_id: str, now: datetime) -> None:
    status = room.status
    room.node_id, room.epoch, room.placed_at, room.viewers = node_id, room.epoch + 1, now, 0
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
        release = ReleaseRoom(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=cause_id,
            deadline_at=(now + timedelta(seconds=rooms.CLOSE_WITHIN_SECONDS)).timestamp(),
            room_id=room.id,
            epoch=room.epoch,
        )
        outbox.command(tx, old_id, release, now=now)
