"""What media nodes say, taken in: the only place where a fact of theirs changes our state.

Facts come twice, late and out of order, from present and former lives of a node. A report counts when it is
of the life that the session is in and newer than the last; figures never fall. Every handler may be
repeated without harm.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.config import MEDIA_CAPACITY
from models.db import insert_into
from models.machine import move
from models.messages import events
from models.messages.commands import Reason, RoomSpec, SyncRooms
from models.services import battle_clock, blank_media, departures, failover, room_repair, rooms, stays, streams
from models.services.announcements import session_changed
from models.services.ending import silent_by
from models.services.extending import next_hold_at
from models.services.failover import interrupt, running_on
from models.services.locks import locked
from models.services.settling import settle
from models.sessions import RUNNING, SessionRow
from models.settlement import EndFacts
from models.streams import MediaNodeRow, RoomRow

SYNC_WITHIN_SECONDS = 60
_STATUS_OF = {"running": "live", "paused": "paused"}


def take(tx: Session, event: events.AnyEvent, now: datetime) -> None:
    """Let one fact have its effect."""
    match event:
        case events.NodeReady():
            _node_ready(tx, event, now)
        case events.NodeReport():
            room_repair.compare(tx, event, now)
        case events.RoomOpened():
            _room_opened(tx, event, now)
        case events.ParticipantJoined() | events.ParticipantLeft():
            _seat_changed(tx, event, now)
        case events.MediaDelivered():
            _delivered(tx, event, now)
        case events.CallEnded():
            _call_ended(tx, event, now)
        case events.CallTerminated():
            log.event("call_terminated", room_id=event.room_id, cause_id=event.cause_id)


# --- nodes and rooms ---------------------------------------------------------------------------------


def _node_ready(tx: Session, event: events.NodeReady, now: datetime) -> None:
    """A node is there, perhaps in a new life: tell it how its rooms should be."""
    known = locked(tx, MediaNodeRow, event.node_id)
    reborn = known is not None and known.boot_id != event.boot_id
    values = {
        "boot_id": event.boot_id,
        "signaling_url": event.signaling_url,
        "seen_at": now,
        "capacity": event.capacity or MEDIA_CAPACITY,
        "participants": max(0, event.participants),
        # A new life is there; whether the same one answers again, who asked it says (``failover``).
        **({"lost_at": None, "found_at": None} if reborn else {}),
    }
    tx.execute(
        insert_into(tx, MediaNodeRow)
        .values(id=event.node_id, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values),
        execution_options={"synchronize_session": False},
    )
    departures.reported(tx, event.node_id, event.rooms, datetime.fromisoformat(event.at))
    if reborn:
        # Battles before sessions and rooms, as everywhere.
        battle_clock.node_reborn(tx, event.node_id, now)
    sessions = running_on(tx, event.node_id)
    broken_ms = _begin_anew(tx, event, sessions, now) if reborn else {}
    wanted = [
        *(rooms.private_spec(tx, session, paused_for_ms=broken_ms.get(session.id, 0)) for session in sessions),
        *rooms.public_specs(tx, event.node_id),
    ]
    _sync(tx, event, wanted, now)
    log.event("node_ready", node_id=event.node_id, reborn=reborn, rooms=len(wanted))


def _begin_anew(
    tx: Session, event: events.NodeReady, sessions: Sequence[SessionRow], now: datetime
) -> dict[str, int]:
    """The node's former life took all connections with it; what was running is paused, by our cause. Session's
    id → for how many ms already."""
    tx.execute(
        update(RoomRow)
        .where(RoomRow.node_id == event.node_id, RoomRow.status == "open")
        .values(status="opening", viewers=0)
    )
    return {session.id: interrupt(tx, session, event.boot_id, now) for session in sessions}


def _sync(tx: Session, event: events.NodeReady, wanted: list[RoomSpec], now: datetime) -> None:
    keep = {spec.room_id for spec in wanted}
    others = [room_id for room_id in event.rooms if room_id not in keep]
    elsewhere = failover.moved_away(tx, event.node_id, others)
    outbox.command(
        tx,
        event.node_id,
        SyncRooms(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=event.message_id,
            deadline_at=(now + timedelta(seconds=SYNC_WITHIN_SECONDS)).timestamp(),
            boot_id=event.boot_id,
            open=tuple(wanted),
            close=tuple(sorted(set(others) - {moved.room_id for moved in elsewhere})),
            elsewhere=elsewhere,
        ),
    )


def _room_opened(tx: Session, event: events.RoomOpened, now: datetime) -> None:
    if event.session_id is not None:
        _session_opened(tx, event, event.session_id, now)
    elif (public := tx.get(RoomRow, event.room_id)) is not None and public.kind == "battle":
        for creator_id in rooms.creators_of(tx, public):
            _battle_seat(tx, public, event, creator_id, creator_id in event.publishers_here, now)
    else:
        _creator_seat(tx, event, event.creator_here, now)
    room = locked(tx, RoomRow, event.room_id)
    if room is None or room.status != "opening":
        return
    if (room.node_id, room.epoch) == (event.node_id, event.epoch):
        move(tx, RoomRow, room.id, "opening", "open")


def _session_opened(tx: Session, event: events.RoomOpened, session_id: str, now: datetime) -> None:
    """The node holds the budget: from here on, what it does not forward is not paid."""
    session = locked(tx, SessionRow, session_id)
    if session is None or not _is_there(session, event):
        return
    if session.status == "ended":
        # It came too late for us; nobody may go on there.
        rooms.close_room(tx, event.room_id, "MEDIA_FAILURE", cause_id=session.cause_id, now=now)
        return
    values: dict[str, object] = {
        "acknowledged_ms": _acknowledged(session, event.paid_ms),
        "opened_at": session.opened_at or now,
    }
    if session.boot_id is None:
        values["boot_id"] = event.boot_id
    if session.status in RUNNING:
        values |= _next_report(session, now)
    _set(tx, session, values)


def _seat_changed(
    tx: Session, event: events.ParticipantJoined | events.ParticipantLeft, now: datetime
) -> None:
    room = tx.get(RoomRow, event.room_id)
    here = isinstance(event, events.ParticipantJoined)
    if room is not None and room.kind == "battle":
        _battle_seat(tx, room, event, event.user_id, here, now)
    elif room is not None and event.user_id == room.creator_id:
        _creator_seat(tx, event, here, now)
    tx.execute(
        update(RoomRow)
        .where(RoomRow.id == event.room_id, RoomRow.node_id == event.node_id, RoomRow.status != "closed")
        .values(viewers=max(0, event.viewers))
    )


def _creator_seat(
    tx: Session,
    event: events.RoomOpened | events.ParticipantJoined | events.ParticipantLeft,
    here: bool,
    now: datetime,
) -> None:
    said_at = datetime.fromisoformat(event.at)
    streams.creator_seat(tx, event.room_id, node_id=event.node_id, here=here, said_at=said_at, now=now)
    if isinstance(event, events.ParticipantJoined):
        streams.picture_from(tx, event.room_id, encoder=event.encoder, said_at=said_at, now=now)


def _battle_seat(
    tx: Session,
    room: RoomRow,
    event: events.RoomOpened | events.ParticipantJoined | events.ParticipantLeft,
    user_id: str,
    here: bool,
    now: datetime,
) -> None:
    said_at = datetime.fromisoformat(event.at)
    battle_clock.seat(tx, room, user_id, node_id=event.node_id, here=here, said_at=said_at, now=now)


# --- a session's meter -------------------------------------------------------------------------------


def _delivered(tx: Session, event: events.MediaDelivered, now: datetime) -> None:
    session = locked(tx, SessionRow, event.session_id)
    if session is not None and (moves := _moves_since(tx, session, event)):
        _late_report(tx, session, event, moves, now)
        return
    if session is None or not _is_news(tx, session, event):
        log.event("report_ignored", logging.DEBUG, session_id=event.session_id, sequence=event.sequence)
        return
    if session.status == "ended":
        # Settled without this node's last word, or by the last word of its former life.
        log.event("ended_session_goes_on", logging.WARNING, session_id=session.id, cause_id=session.cause_id)
        rooms.close_room(tx, session.room_id, "MEDIA_FAILURE", cause_id=session.cause_id, now=now)
        return
    first, interrupted_at = session.last_sequence < 0, session.reported_at
    if first:
        stays.heard(tx, session.room_id, event.epoch)
    values = _figures(session, event, now)
    blank_media.flag(tx, session, event, now)
    status = _STATUS_OF.get(event.state)
    if session.status not in RUNNING:
        _set(tx, session, values)
        return
    before = (session.status, session.pause_cause)
    if status is not None:
        values["pause_cause"] = event.cause if status == "paused" else None
        if session.live_at is None:
            values |= {"live_at": now, "creator_connected": True, "fan_connected": True}
    # One UPDATE for all of it: this is what the house does most.
    _note(session, values)
    _note(session, _next_report(session, now))
    if status is not None and status != session.status:
        move(tx, SessionRow, session.id, session.status, status)
    _set(tx, session, {"next_hold_at": next_hold_at(session, now)})
    if (session.status, session.pause_cause) != before:
        session_changed(tx, session, now)
    if first:
        _catch_up(tx, session, event, interrupted_at, now)


def _call_ended(tx: Session, event: events.CallEnded, now: datetime) -> None:
    session = locked(tx, SessionRow, event.session_id)
    moves = _moves_since(tx, session, event) if session is not None else ()
    if session is None or session.status == "ended" or not (moves or _is_final(tx, session, event)):
        log.event("end_ignored", session_id=event.session_id, fact=event.fact)
        return
    # What the move took for our pause was none: the call was over.
    over = {**_late_figures(session, event, moves), "node_pause_ms": event.node_pause_ms} if moves else None
    _set(tx, session, over or _figures(session, event, now))
    blank_media.flag(tx, session, event, now)
    facts = EndFacts(
        fact=event.fact,
        creator_connected=event.creator_connected,
        fan_connected=event.fan_connected,
        creator_pause_ms=event.creator_pause_ms,
        node_pause_ms=event.node_pause_ms,
        pause_cause=event.pause_cause,
        paused_for_ms=event.paused_for_ms,
    )
    settle(tx, session, facts, now)
    if moves:
        # Where it was moved to, nobody knows that yet.
        reason = msgspec.convert(session.end_reason, Reason)
        rooms.close_room(tx, session.room_id, reason, cause_id=session.cause_id, now=now)


# --- what was still on its way when the room was moved -----------------------------------------------


def _moves_since(
    tx: Session, session: SessionRow, event: events.MediaDelivered | events.CallEnded
) -> tuple[datetime, ...]:
    """When the room was moved since this was said of it; none if it was not, or if that does not count.

    It counts if it was under way when the room was moved, as long as nothing was heard from where the room is now,
    nor from where it was meanwhile. What a node says that only seemed to be lost, it says later, when its clients
    were let go already: that does not count.
    """
    if event.epoch >= session.room_epoch:
        return ()
    return stays.moves_since(tx, session.room_id, event.epoch, datetime.fromisoformat(event.at))


def _late_report(
    tx: Session, session: SessionRow, event: events.MediaDelivered, moves: tuple[datetime, ...], now: datetime
) -> None:
    """Figures rise to it; where the session stands, the room's new place will say (``_catch_up``)."""
    if session.status == "ended":
        return
    _set(tx, session, _late_figures(session, event, moves))
    stays.heard(tx, session.room_id, event.epoch)
    blank_media.flag(tx, session, event, now)
    if session.status not in RUNNING:
        return
    if event.state in _STATUS_OF and session.live_at is None:
        was_live = {"opened_at": session.opened_at or now, "live_at": now}
        _set(tx, session, {**was_live, "creator_connected": True, "fan_connected": True})
        move(tx, SessionRow, session.id, session.status, "paused", pause_cause="node")
        session_changed(tx, session, now)
    if session.opened_at is not None:
        _set(tx, session, _next_report(session, now))


def _late_figures(
    session: SessionRow, event: events.MediaDelivered | events.CallEnded, moves: tuple[datetime, ...]
) -> dict[str, object]:
    """None falls. Our pause since then lasts from when this was said, not from when it is read."""
    since = (datetime.fromisoformat(event.at), *moves)
    broken = sum((min(end - begin, failover.UNSEEN) for begin, end in pairwise(since)), timedelta())
    node_pause_ms = event.node_pause_ms + broken // timedelta(milliseconds=1)
    return {
        "delivered_ms": max(session.delivered_ms, event.delivered_ms),
        "acknowledged_ms": _acknowledged(session, event.paid_ms),
        "creator_pause_ms": max(session.creator_pause_ms, event.creator_pause_ms),
        "node_pause_ms": max(session.node_pause_ms, node_pause_ms),
        "black_ms": max(session.black_ms, event.black_ms),
        "silent_ms": max(session.silent_ms, event.silent_ms),
    }


def _moved_at(tx: Session, session: SessionRow) -> datetime | None:
    return tx.scalar(select(RoomRow.placed_at).where(RoomRow.id == session.room_id))


def _catch_up(
    tx: Session, session: SessionRow, first: events.MediaDelivered, interrupted_at: datetime | None, now: datetime
) -> None:
    """A node's first word of a session shows that it was told less than was known since: it is told again."""
    told = (first.delivered_ms, first.creator_pause_ms, first.node_pause_ms)
    known = (session.delivered_ms, session.creator_pause_ms, session.node_pause_ms)
    if all(one >= other for one, other in zip(told, known, strict=True)):
        return
    since = max((at for at in (interrupted_at, _moved_at(tx, session)) if at is not None), default=now)
    paused_for_ms = max(0, (now - since) // timedelta(milliseconds=1))
    spec = rooms.private_spec(tx, session, paused_for_ms=paused_for_ms)
    rooms.tell(tx, first.node_id, spec, cause_id=session.cause_id, now=now)


# --- which words count -------------------------------------------------------------------------------


def _is_news(tx: Session, session: SessionRow, event: events.MediaDelivered) -> bool:
    if not _is_there(session, event):
        return False
    if session.boot_id in (None, event.boot_id):
        return event.sequence > session.last_sequence
    return _is_present_life(tx, event)


def _is_final(tx: Session, session: SessionRow, event: events.CallEnded) -> bool:
    """The last word of a former life counts as long as the present one has said nothing."""
    if not _is_there(session, event):
        return False
    return session.boot_id in (None, event.boot_id) or session.last_sequence < 0 or _is_present_life(tx, event)


def _is_there(
    session: SessionRow, event: events.RoomOpened | events.MediaDelivered | events.CallEnded
) -> bool:
    """Whether the session's room is where this was said; it may have been there before, under a lower epoch."""
    return (session.node_id, session.room_epoch) == (event.node_id, event.epoch)


def _is_present_life(tx: Session, event: events.Event) -> bool:
    return tx.scalar(select(MediaNodeRow.boot_id).where(MediaNodeRow.id == event.node_id)) == event.boot_id


def _figures(
    session: SessionRow, event: events.MediaDelivered | events.CallEnded, now: datetime
) -> dict[str, object]:
    return {
        "boot_id": event.boot_id,
        "last_sequence": event.sequence,
        "delivered_ms": max(session.delivered_ms, event.delivered_ms),
        "acknowledged_ms": _acknowledged(session, event.paid_ms),
        "creator_pause_ms": max(session.creator_pause_ms, event.creator_pause_ms),
        "node_pause_ms": max(session.node_pause_ms, event.node_pause_ms),
        "black_ms": max(session.black_ms, event.black_ms),
        "silent_ms": max(session.silent_ms, event.silent_ms),
        "reported_at": now,
    }


def _acknowledged(session: SessionRow, paid_ms: int) -> int:
    return min(session.paid_ms, max(session.acknowledged_ms, paid_ms))


def _next_report(session: SessionRow, now: datetime) -> dict[str, object]:
    return {"deadline_kind": "silent", "deadline_at": silent_by(session, now)}


def _set(tx: Session, session: SessionRow, values: dict[str, object]) -> None:
    """Write figures of a row that is locked; states move through ``machine.move`` alone."""
    _note(session, values)
    tx.flush()


def _note(session: SessionRow, values: dict[str, object]) -> None:
    """The same without writing yet."""
    for name, value in values.items():
        setattr(session, name, value)
