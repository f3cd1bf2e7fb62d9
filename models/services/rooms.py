"""Rooms: on which node each is, how it should be, who may take a seat in it.

A room's row is what we want; the node's ``RoomOpened`` makes it ``open``. Every change writes the command
that tells the node; ``SyncRooms`` says all of it again when a node comes back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, outbox
from models.battles import BattleRow, BattleSideRow
from models.errors import Forbidden, NotFound, Unavailable
from models.machine import move
from models.messages.commands import Budget, CloseRoom, OpenRoom, Reason, RoomSpec, SpentReason, TerminateCall
from models.people import BlockRow
from models.recordings import STANDING, RecordingRow
from models.services import broadcasts
from models.services.accounts import Person
from models.services.locks import locked
from models.sessions import RUNNING, SessionRow
from models.streams import MediaNodeRow, RoomBarRow, RoomRow, StreamKeyRow, StreamRow
from models.timing import Timers, timers_for

Role = Literal["participant", "spectator"]

# A close or a cut that waited for a broker is still wanted. An opening that is late is told by SyncRooms.
CLOSE_WITHIN_SECONDS = 86_400
OPEN_WITHIN_SECONDS = 60
MOST_REVOKED = 50
"""How many revoked keys a room's spec names; an encoder is on the air with one of the latest."""


class Admission(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a grant may say."""

    room_id: str
    user_id: str
    display_name: str
    role: Role
    publish: bool


def admission(
    tx: Session,
    *,
    person: Person | None,
    room_id: str,
    role: Role,
    now: datetime,
    integrator_id: str | None = None,
) -> Admission:
    """Whether this person may join this room now, and as what.

    Raises NotFound for rooms that are not there for the asker (an integrator has none of its own yet),
    Forbidden for whoever was cut or is blocked. ``now`` is for rules that come with bookings.
    """
    room = tx.get(RoomRow, room_id)
    if person is None or room is None:
        raise _no_such_room()
    if tx.get(RoomBarRow, (room_id, person.user_id)) is not None:
        raise Forbidden("You were removed from this room.", code="BARRED")
    if room.status == "closed":
        raise _no_such_room()
    publish = role == "participant"
    if room.kind == "private":
        _require_party(tx, room_id, person.user_id)
    elif person.user_id != room.creator_id or room.kind == "battle":
        creators = creators_of(tx, room)
        if person.user_id not in creators:
            # Nobody keeps a rival out of the battle that both have entered.
            publish = False
            require_unblocked(tx, person.user_id, creators)
    return Admission(
        room_id=room_id, user_id=person.user_id, display_name=person.display_name, role=role, publish=publish
    )


def creators_of(tx: Session, room: RoomRow) -> tuple[str, ...]:
    """Whose picture a public room shows: its creator's, or those of who is in the battle."""
    if room.kind != "battle":
        return (room.creator_id,)
    inside = (
        select(BattleSideRow.creator_id)
        .join(BattleRow, BattleRow.id == BattleSideRow.battle_id)
        .where(BattleRow.room_id == room.id, BattleSideRow.status == "in")
    )
    return tuple(tx.scalars(inside.order_by(BattleSideRow.place)))


def require_unblocked(tx: Session, user_id: str, creators: tuple[str, ...]) -> None:
    """Raises Forbidden BLOCKED when one of these creators has blocked this person."""
    blocked = select(BlockRow.fan_id).where(BlockRow.creator_id.in_(creators), BlockRow.fan_id == user_id)
    if tx.scalar(blocked.limit(1)) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")


def _require_party(tx: Session, room_id: str, user_id: str) -> None:
    session = tx.scalar(select(SessionRow).where(SessionRow.room_id == room_id))
    if session is None or user_id not in (session.fan_id, session.creator_id) or session.status not in RUNNING:
        raise _no_such_room()


def _no_such_room() -> NotFound:
    return NotFound("There is no such room.", code="ROOM_NOT_FOUND")


def signaling_url(tx: Session, room_id: str) -> str:
    """The ws(s) address of the node that the room is on; raises NotFound, Unavailable ROOM_OPENING.

    Nobody enters a call that we do not know to be open: should we give it up for unconfirmed and give
    everything back, nothing may have been watched.
    """
    found = tx.execute(
        select(MediaNodeRow.signaling_url, RoomRow.status, RoomRow.epoch)
        .join(RoomRow, RoomRow.node_id == MediaNodeRow.id)
        .where(RoomRow.id == room_id, RoomRow.status != "closed")
    ).one_or_none()
    if found is None:
        raise _no_such_room()
    url, status, epoch = found
    if status == "opening" and epoch > 0:
        # It was moved away from a node that was lost, and whoever was in it asks where to.
        raise Unavailable("The room is not open yet.", code="ROOM_OPENING")
    opening = select(SessionRow.id).where(SessionRow.room_id == room_id, SessionRow.opened_at.is_(None))
    if tx.scalar(opening) is not None:
        raise Unavailable("The room is not open yet.", code="ROOM_OPENING")
    return str(url)


def viewers(tx: Session, room_id: str) -> int:
    """How many watch; the creator is not counted."""
    return tx.scalar(select(RoomRow.viewers).where(RoomRow.id == room_id)) or 0


# --- how a room should be ----------------------------------------------------------------------------


def live_spec(tx: Session, stream: StreamRow) -> RoomSpec:
    """The public room of a stream: any valid grant, except for those who were cut."""
    return RoomSpec(
        room_id=stream.room_id,
        epoch=_epoch(tx, stream.room_id),
        creator_id=stream.creator_id,
        barred=_barred(tx, stream.room_id),
        revoked_keys=_revoked_keys(tx, stream.creator_id),
    )


def battle_spec(tx: Session, battle: BattleRow) -> RoomSpec:
    """The public room of a battle: those who are in it publish, any other valid grant watches."""
    inside = select(BattleSideRow.creator_id).where(
        BattleSideRow.battle_id == battle.id, BattleSideRow.status == "in"
    )
    return RoomSpec(
        room_id=battle.room_id,
        epoch=_epoch(tx, battle.room_id),
        creator_id=battle.host_id,
        publishers=tuple(tx.scalars(inside.order_by(BattleSideRow.place))),
        barred=_barred(tx, battle.room_id),
    )


def public_specs(tx: Session, node_id: str, *, made_before: datetime | None = None) -> list[RoomSpec]:
    """All public rooms that the node is to have, or those of them that were wanted before some moment."""
    on_node = select(RoomRow.id).where(RoomRow.node_id == node_id, RoomRow.status != "closed")
    if made_before is not None:
        on_node = on_node.where(RoomRow.created_at < made_before)
    streams = select(StreamRow).where(StreamRow.room_id.in_(on_node), StreamRow.status == "live")
    battles = select(BattleRow).where(BattleRow.room_id.in_(on_node), BattleRow.status == "running")
    # Looked up once here and not once for each spec.
    known = tx.scalars(select(RoomRow).where(RoomRow.id.in_(on_node))).all()
    specs = [
        *(live_spec(tx, stream) for stream in tx.scalars(streams.order_by(StreamRow.id))),
        *(battle_spec(tx, battle) for battle in tx.scalars(battles.order_by(BattleRow.id))),
    ]
    del known
    return specs


def private_spec(tx: Session, session: SessionRow, *, paused_for_ms: int = 0) -> RoomSpec:
    """The room of a session: two parties, and the budget with all that was reported of it.

    ``paused_for_ms``: how long a restart has interrupted it already, which ``node_pause_ms`` includes.
    """
    recording_id, recording_epoch = _recording(tx, session.id)
    return RoomSpec(
        room_id=session.room_id,
        epoch=session.room_epoch,
        creator_id=session.creator_id,
        parties=(session.creator_id, session.fan_id),
        barred=_barred(tx, session.room_id),
        budget=Budget(
            session_id=session.id,
            paid_ms=session.paid_ms,
            rate_per_minute=session.rate_per_minute,
            timers=_timers_of(session),
            delivered_ms=session.delivered_ms,
            creator_pause_ms=session.creator_pause_ms,
            node_pause_ms=session.node_pause_ms,
            resumed=session.live_at is not None,
            paused_for_ms=paused_for_ms,
            spent_reason=spent_reason(session),
        ),
        recording_id=recording_id,
        recording_epoch=recording_epoch,
    )


def _recording(tx: Session, session_id: str) -> tuple[str, int]:
    """Of the recording that both parties have agreed to and that a worker is about to make, or makes: its id, or
    empty; and its epoch, of whatever there is."""
    which = RecordingRow.session_id == session_id
    found = tx.execute(select(RecordingRow.id, RecordingRow.status, RecordingRow.epoch).where(which)).one_or_none()
    if found is None:
        return "", 0
    return found.id if found.status in STANDING and found.epoch > 0 else "", found.epoch


def spent_reason(session: SessionRow) -> SpentReason:
    """What both are to be told when the paid time is used up."""
    return "PAYMENT_FAILED" if session.hold_refused else "TIME_EXPIRED"


def _timers_of(session: SessionRow) -> Timers:
    timers = timers_for(session.minute_ms)
    if session.connecting_ms is None or session.live_at is not None:
        return timers
    return msgspec.structs.replace(timers, connecting_ms=session.connecting_ms)


def _epoch(tx: Session, room_id: str) -> int:
    room = tx.get(RoomRow, room_id)
    return room.epoch if room is not None else 0


def _barred(tx: Session, room_id: str) -> tuple[str, ...]:
    return tuple(
        tx.scalars(select(RoomBarRow.user_id).where(RoomBarRow.room_id == room_id).order_by(RoomBarRow.user_id))
    )


def _revoked_keys(tx: Session, creator_id: str) -> tuple[str, ...]:
    """Keys that somebody may still be publishing with: those that were ever used, the latest first."""
    used = select(StreamKeyRow.id).where(
        StreamKeyRow.creator_id == creator_id,
        StreamKeyRow.revoked_at.is_not(None),
        StreamKeyRow.last_used_at.is_not(None),
    )
    return tuple(tx.scalars(used.order_by(StreamKeyRow.revoked_at.desc(), StreamKeyRow.id).limit(MOST_REVOKED)))


# --- opening and closing -----------------------------------------------------------------------------


def open_room(
    tx: Session,
    spec: RoomSpec,
    *,
    kind: Literal["live", "private", "battle"],
    node_id: str,
    cause_id: str,
    now: datetime,
) -> None:
    """Place the room on a node and tell it; a closed room opens again under its own id."""
    room = locked(tx, RoomRow, spec.room_id)
    if room is None:
        tx.add(
            RoomRow(
                id=spec.room_id,
                node_id=node_id,
                kind=kind,
                creator_id=spec.creator_id,
                status="opening",
                created_at=now,
                placed_at=now,
            )
        )
        tx.flush()
    else:
        anew = {"node_id": node_id, "placed_at": now, "viewers": 0, "awaited": 0, "closed_at": None}
        move(tx, RoomRow, room.id, room.status, "opening", **anew)
    tell(tx, node_id, spec, cause_id=cause_id, now=now)


def tell(tx: Session, node_id: str, spec: RoomSpec, *, cause_id: str, now: datetime) -> None:
    """Tell a node how a room of its should be, whether it has it already or not."""
    opening = OpenRoom(
        message_id=ids.new_id(ids.MESSAGE),
        cause_id=cause_id,
        deadline_at=(now + timedelta(seconds=OPEN_WITHIN_SECONDS)).timestamp(),
        room=spec,
    )
    outbox.command(tx, node_id, opening, now=now)


def close_room(
    tx: Session, room_id: str, reason: Reason, *, cause_id: str, now: datetime, message_id: str | None = None
) -> CloseRoom:
    """Want the room closed and tell its node; safe to repeat. Returns the command that was written."""
    room = mark_closed(tx, room_id, now)
    if room is not None and room.kind != "private":
        broadcasts.end(tx, room_id, reason, now)
    command = CloseRoom(
        message_id=message_id or ids.new_id(ids.MESSAGE),
        cause_id=cause_id,
        deadline_at=(now + timedelta(seconds=CLOSE_WITHIN_SECONDS)).timestamp(),
        room_id=room_id,
        reason=reason,
    )
    if room is not None and room.node_id is not None:
        outbox.command(tx, room.node_id, command, now=now)
    return command


def mark_closed(tx: Session, room_id: str, now: datetime) -> RoomRow | None:
    """The room is closed, or is to be; returns its row."""
    room = locked(tx, RoomRow, room_id)
    if room is not None and room.status != "closed":
        move(tx, RoomRow, room_id, room.status, "closed", closed_at=now, viewers=0)
    return room


def cut(tx: Session, room_id: str, user_id: str, reason: Reason, *, cause_id: str, now: datetime) -> TerminateCall:
    """Tell the room's node to cut one user out; returns the command that was written."""
    command = TerminateCall(
        message_id=ids.new_id(ids.MESSAGE),
        cause_id=cause_id,
        deadline_at=(now + timedelta(seconds=CLOSE_WITHIN_SECONDS)).timestamp(),
        room_id=room_id,
        user_id=user_id,
        reason=reason,
    )
    room = tx.get(RoomRow, room_id)
    if room is not None and room.node_id is not None and room.status != "closed":
        outbox.command(tx, room.node_id, command, now=now)
    return command
