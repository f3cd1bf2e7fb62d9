"""Differences between the rooms a node has and the rooms it should have, repaired while both run.

A node tells its rooms every five seconds. On boot and on reconnect it is told everything anyway
(``media_facts``); this is for a command that got lost in between. Where nothing differs nothing is said.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.messages.commands import RoomSpec, SyncRooms
from models.messages.events import NodeReport
from models.services import departures, failover, rooms
from models.services.locks import locked
from models.sessions import RUNNING, SessionRow
from models.streams import MediaNodeRow, RoomBarRow, RoomRow, StreamKeyRow, StreamRow

# What was wished less than this ago is still on its way.
UNDER_WAY = timedelta(seconds=10)
# A cut is said again for this long.
CUT_SAID_AGAIN = timedelta(seconds=60)
REPAIR_WITHIN_SECONDS = 30
BACK_WITHIN = timedelta(seconds=15)
"""Of a room that was moved: how long placement counts on everybody's coming back."""


def compare(tx: Session, report: NodeReport, now: datetime) -> bool:
    """Note that the node is alive, and tell it what to open and close; whether there was a difference.

    A life of the node that is not its present one is not listened to.
    """
    node = locked(tx, MediaNodeRow, report.node_id)
    if node is None or node.boot_id != report.boot_id:
        return False
    node.seen_at, node.participants = now, max(0, report.participants)
    tx.flush()
    departures.reported(tx, report.node_id, report.rooms, datetime.fromisoformat(report.at))
    wanted = _wanted(tx, report.node_id)
    missing = [
        *_private(tx, report, now),
        *_public(tx, report, now),
    ]
    extra = tuple(sorted(set(report.rooms) - wanted))
    _nobody_awaited(tx, report.node_id, now)
    if not missing and not extra:
        return False
    elsewhere = failover.moved_away(tx, report.node_id, extra)
    outbox.command(
        tx,
        report.node_id,
        SyncRooms(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=report.message_id,
            deadline_at=(now + timedelta(seconds=REPAIR_WITHIN_SECONDS)).timestamp(),
            boot_id=report.boot_id,
            open=tuple(missing),
            close=tuple(sorted(set(extra) - {moved.room_id for moved in elsewhere})),
            elsewhere=elsewhere,
        ),
        now=now,
    )
    log.event(
        "rooms_repaired",
        level=logging.WARNING,
        node_id=report.node_id,
        opened=len(missing),
        closed=len(extra),
        cause_id=report.message_id,
    )
    return True


def _nobody_awaited(tx: Session, node_id: str, now: datetime) -> None:
    """Whoever was to come back to a room that was moved here has come by now, and is in the figures."""
    tx.execute(
        update(RoomRow)
        .where(RoomRow.node_id == node_id, RoomRow.awaited > 0, RoomRow.placed_at < now - BACK_WITHIN)
        .values(awaited=0),
        execution_options={"synchronize_session": False},
    )


def _wanted(tx: Session, node_id: str) -> set[str]:
    """Every room that may be on the node."""
    return set(tx.scalars(select(RoomRow.id).where(RoomRow.node_id == node_id, RoomRow.status != "closed")))


def _private(tx: Session, report: NodeReport, now: datetime) -> list[RoomSpec]:
    """Rooms of running sessions that the node lacks, or whose paid time or cuts it has not acknowledged."""
    sessions = tx.scalars(
        select(SessionRow)
        .where(
            SessionRow.node_id == report.node_id,
            SessionRow.status.in_(RUNNING),
            SessionRow.start_time < now - UNDER_WAY,
        )
        .order_by(SessionRow.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return [
        rooms.private_spec(tx, session)
        for session in sessions
        if session.room_id not in report.rooms or session.acknowledged_ms < session.paid_ms
    ]


def _public(tx: Session, report: NodeReport, now: datetime) -> list[RoomSpec]:
    """Rooms of public streams and battles that the node lacks, or out of which somebody or a stream key was cut
    just now."""
    lately = select(RoomBarRow.room_id).where(
        RoomBarRow.created_at > now - CUT_SAID_AGAIN, RoomBarRow.created_at < now - UNDER_WAY
    )
    revoked = (
        select(StreamRow.room_id)
        .join(StreamKeyRow, StreamKeyRow.creator_id == StreamRow.creator_id)
        .where(StreamKeyRow.revoked_at > now - CUT_SAID_AGAIN, StreamKeyRow.revoked_at < now - UNDER_WAY)
    )
    cut = {*tx.scalars(lately), *tx.scalars(revoked)}
    wanted = rooms.public_specs(tx, report.node_id, made_before=now - UNDER_WAY)
    return [spec for spec in wanted if spec.room_id not in report.rooms or spec.room_id in cut]
