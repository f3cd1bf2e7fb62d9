"""Cutting somebody out of a room: recorded first, carried out by the node, safe to repeat.

The caller's reason is a label that people are told. What is billed follows from facts: bad payments that are
really there, or what an admin says about whose fault it was; without either it is an outside cut.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import get_args

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models import ids, log, lots, outbox
from models.battles import BattleRow
from models.errors import Invalid, NotFound
from models.messages.commands import CloseRoom, Reason, TerminateCall
from models.people import PersonRow
from models.services import battle_clock, rooms, streams
from models.services.accounts import Caller
from models.services.ending import want_end
from models.services.locks import lock_people, locked
from models.sessions import RUNNING, SessionRow
from models.settlement import AtFault, Wish
from models.streams import RoomBarRow, RoomRow, StreamRow


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded. The caller sends ``command`` to ``node_id`` and waits for the answer.

    ``already``: this user had been cut from this room before, and the same command is sent again; then the
    node's NOT_CONNECTED is a success as well. ``command`` None: the room has closed, there is nothing to do.
    """

    command: CloseRoom | TerminateCall | None
    node_id: str | None
    already: bool


def terminate(
    tx: Session,
    *,
    room_id: str,
    user_id: str,
    reason: str,
    label_by: Caller,
    at_fault: AtFault | None = None,
    now: datetime,
) -> Ticket:
    """Cut ``user_id`` out of a room and bar them until it closes.

    A party of a private room: the whole session ends. The creator of a public room: the stream ends. Somebody who
    is in a battle: that side is out of it. Raises
    Invalid (``field``), NotFound NOT_CONNECTED for rooms and users that are not there.
    """
    label = _label(reason)
    room = tx.get(RoomRow, room_id)
    if room is None or tx.get(PersonRow, user_id) is None:
        raise _not_connected()
    # Two cuts at once wait for one another; what a room is of is locked before it, as by whoever else takes both.
    lock_people(tx, room.creator_id, user_id)
    _lock_what_it_is_of(tx, room)
    room = locked(tx, RoomRow, room_id)
    bar = tx.get(RoomBarRow, (room_id, user_id), populate_existing=True)
    if room is None or (bar is None and room.status == "closed"):
        raise _not_connected()
    if bar is not None:
        return _again(tx, room, bar, now)
    message_id = ids.new_id(ids.MESSAGE)
    by_id = _id_of(label_by)
    command: CloseRoom | TerminateCall | None
    if room.kind == "private":
        command = _end_session(tx, room, user_id, label, label_by, at_fault, message_id, now)
    elif room.kind == "live" and user_id == room.creator_id:
        stream = tx.scalars(select(StreamRow).where(StreamRow.room_id == room_id)).one()
        command = streams.finish(tx, stream, label, by_id, now, message_id)
    else:
        command = _cut(room_id, user_id, label, message_id, now)
        outbox.command(tx, _node_of(room), command, now=now)
    if room.kind == "battle":
        battle_clock.thrown_out(tx, room_id.removeprefix("battle-"), user_id, now)
    tx.add(
        RoomBarRow(room_id=room_id, user_id=user_id, reason=label, by=by_id, message_id=message_id, created_at=now)
    )
    tx.flush()
    log.event("cut_recorded", room_id=room_id, reason=label, cause_id=message_id)
    return Ticket(command=command, node_id=room.node_id, already=False)


def not_connected(tx: Session, *, room_id: str, user_id: str, message_id: str) -> None:
    """The node says that this user was not there: take back the bar of that very cut."""
    tx.execute(
        delete(RoomBarRow).where(
            RoomBarRow.room_id == room_id, RoomBarRow.user_id == user_id, RoomBarRow.message_id == message_id
        )
    )


def payment_failed(tx: Session, session_id: str, now: datetime) -> None:
    """A payment behind a session was found bad: end it, unless it is ending already."""
    if want_end(tx, session_id, "payment_failed", by_id=None, now=now) is not None:
        log.event("session_payment_failed", session_id=session_id)


def _lock_what_it_is_of(tx: Session, room: RoomRow) -> None:
    owners: dict[str, type[BattleRow] | type[StreamRow] | type[SessionRow]]
    owners = {"battle": BattleRow, "live": StreamRow, "private": SessionRow}
    owner = owners[room.kind]
    owner_id = tx.scalar(select(owner.id).where(owner.room_id == room.id))
    if owner_id is not None:
        locked(tx, owner, owner_id)


def _end_session(
    tx: Session,
    room: RoomRow,
    user_id: str,
    label: Reason,
    label_by: Caller,
    at_fault: AtFault | None,
    message_id: str,
    now: datetime,
) -> CloseRoom | None:
    session = tx.scalar(select(SessionRow).where(SessionRow.room_id == room.id))
    if session is None or session.status not in RUNNING or user_id not in (session.fan_id, session.creator_id):
        raise _not_connected()
    cause = _cause(tx, session, label, label_by, at_fault)
    return want_end(
        tx,
        session.id,
        cause,
        by_id=_id_of(label_by),
        now=now,
        label=label,
        at_fault=(at_fault or "none") if cause == "moderation" else None,
        message_id=message_id,
    )


def _cause(tx: Session, session: SessionRow, label: Reason, label_by: Caller, at_fault: AtFault | None) -> Wish:
    is_admin = label_by.person is not None and "admin" in label_by.person.roles
    if is_admin and (at_fault is not None or label == "MODERATION"):
        return "moderation"
    if lots.bad_tokens_in(tx, session.request_id) > 0:
        return "payment_failed"
    return "outside_cut"


def _again(tx: Session, room: RoomRow, bar: RoomBarRow, now: datetime) -> Ticket:
    """The same command once more: it may not have been confirmed the first time."""
    label = _label(bar.reason)
    if room.kind == "battle" or (room.kind == "live" and bar.user_id != room.creator_id):
        if room.status == "closed":
            return Ticket(command=None, node_id=None, already=True)
        cut = _cut(room.id, bar.user_id, label, bar.message_id, now)
        outbox.command(tx, _node_of(room), cut, now=now)
        return Ticket(command=cut, node_id=room.node_id, already=True)
    ended = select(SessionRow.id).where(SessionRow.room_id == room.id, SessionRow.status == "ended")
    if tx.scalar(ended) is not None:
        return Ticket(command=None, node_id=None, already=True)
    close = rooms.close_room(tx, room.id, label, cause_id=bar.message_id, now=now, message_id=bar.message_id)
    return Ticket(command=close, node_id=room.node_id, already=True)


def _cut(room_id: str, user_id: str, label: Reason, message_id: str, now: datetime) -> TerminateCall:
    return TerminateCall(
        message_id=message_id,
        cause_id=message_id,
        deadline_at=(now + timedelta(seconds=rooms.CLOSE_WITHIN_SECONDS)).timestamp(),
        room_id=room_id,
        user_id=user_id,
        reason=label,
    )


def _label(reason: str) -> Reason:
    if reason not in get_args(Reason):
        raise Invalid(f"Choose one of {', '.join(get_args(Reason))}.", field="reason")
    label: Reason = msgspec.convert(reason, Reason)
    return label


def _id_of(caller: Caller) -> str:
    if caller.person is not None:
        return caller.person.user_id
    return caller.integrator_id or "unknown"


def _node_of(room: RoomRow) -> str:
    if room.node_id is None:
        raise _not_connected()
    return room.node_id


def _not_connected() -> NotFound:
    return NotFound("Nobody of that id is in that room.", code="NOT_CONNECTED")
