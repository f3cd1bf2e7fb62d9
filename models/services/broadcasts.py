"""Broadcasts: wanted when a public room has its creator, leased by transcode workers, ended with their room.

A worker holds a lease for LEASE_SECONDS and renews it; one that is dead or stuck loses the broadcast to
another, which works under the next epoch. Knows no files and no ffmpeg.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.broadcasts import BroadcastRow
from models.db import insert_into
from models.errors import Conflict, Unavailable
from models.machine import move
from models.messages.commands import Reason
from models.messages.routing import TRANSCODE_ACTOR, TRANSCODE_QUEUE
from models.services import leases
from models.services.announcements import tell
from models.services.leases import Lease
from models.services.locks import locked
from models.streams import RoomRow

OPEN = ("wanted", "live")
UNCLAIMED_SECONDS = 3.0
"""A broadcast that no worker has taken for this long is said to be unavailable."""


class Watchable(msgspec.Struct, frozen=True, kw_only=True):
    """A broadcast as those see it who want to watch; ``available`` is False when no worker takes it."""

    broadcast_id: str
    room_id: str
    creator_id: str
    status: str
    available: bool


def want(tx: Session, room_id: str, now: datetime) -> None:
    """A public room has something to show: a broadcast of it is wanted, unless there is one."""
    room = locked(tx, RoomRow, room_id)
    if room is None or room.kind == "private" or room.status == "closed":
        return
    broadcast_id = ids.new_id(ids.BROADCAST)
    made = tx.execute(
        insert_into(tx, BroadcastRow)
        .values(
            id=broadcast_id,
            room_id=room_id,
            creator_id=room.creator_id,
            status="wanted",
            wanted_at=now,
            epoch=0,
        )
        .on_conflict_do_nothing()
        .returning(BroadcastRow.id)
    )
    if made.first() is not None:
        outbox.actor(tx, TRANSCODE_QUEUE, TRANSCODE_ACTOR, broadcast_id, cause_id=room_id, now=now)
        log.event("broadcast_wanted", room_id=room_id, broadcast_id=broadcast_id)


def end(tx: Session, room_id: str, reason: Reason, now: datetime) -> None:
    """The room closes, and its broadcast with it; nothing if there is none. The caller has locked the room."""
    # Taken, or a worker's word of the same moment would fail the wish that closes the room.
    row = tx.scalar(open_of(room_id).with_for_update(key_share=True))
    if row is not None:
        move(tx, BroadcastRow, row.id, row.status, "ended", ended_at=now, end_reason=reason)
        log.event("broadcast_ended", room_id=room_id, broadcast_id=row.id, reason=reason)


def open_of(room_id: str) -> Select[BroadcastRow]:
    """Selects the room's broadcast that has not ended."""
    found = select(BroadcastRow).where(BroadcastRow.room_id == room_id, BroadcastRow.status != "ended")
    return found.execution_options(populate_existing=True)


def watchable(tx: Session, room_id: str, now: datetime) -> Watchable | None:
    """The room's broadcast, if it has one that has not ended."""
    row = tx.scalar(open_of(room_id))
    if row is None:
        return None
    since = max(row.wanted_at, row.lease_until or row.wanted_at)
    return Watchable(
        broadcast_id=row.id,
        room_id=row.room_id,
        creator_id=row.creator_id,
        status=row.status,
        available=since > now - timedelta(seconds=UNCLAIMED_SECONDS),
    )


def require_picture(tx: Session, room_ids: Collection[str], now: datetime) -> None:
    """A worker makes pictures of one of these rooms now, and has said so until this transaction ends.

    Stricter than ``available``, which bridges the change from one worker to the next: somebody is about to pay.
    Raises Conflict STREAM_NOT_LIVE without a picture, Unavailable when nobody holds its lease.
    """
    shown = select(BroadcastRow).where(BroadcastRow.room_id.in_(room_ids), BroadcastRow.status == "live")
    # Shared: it cannot end meanwhile, and who buys waits for nobody else who does.
    found = shown.order_by(BroadcastRow.id).with_for_update(read=True)
    rows = tx.scalars(found.execution_options(populate_existing=True)).all()
    if not rows:
        raise Conflict("Nothing is broadcast now.", code="STREAM_NOT_LIVE")
    if not any(row.lease_until is not None and row.lease_until > now for row in rows):
        raise Unavailable("The picture is interrupted: nothing was paid, try again soon.", code="UNAVAILABLE")


def with_pictures(tx: Session, room_ids: Collection[str]) -> dict[str, str]:
    """Of these rooms, those whose broadcast has pictures now: its id by the room's."""
    found = select(BroadcastRow).where(BroadcastRow.room_id.in_(room_ids), BroadcastRow.status == "live")
    return {row.room_id: row.id for row in tx.scalars(found)}


# --- for transcode workers -----------------------------------------------------------------------------


def take_lease(tx: Session, broadcast_id: str, worker_id: str, now: datetime) -> Lease | None:
    """The lease of this broadcast, if nobody holds it and its room is on a node; else None."""
    row = leases.free(tx, BroadcastRow, broadcast_id, OPEN, now)
    url = leases.node_url(tx, row.room_id) if row is not None else None
    if row is None or url is None:
        return None
    lease = leases.hold(tx, row, worker_id, url, now)
    log.event("broadcast_leased", room_id=row.room_id, broadcast_id=row.id, epoch=row.epoch)
    return lease


def take_over(
    tx: Session, worker_id: str, most: int, now: datetime, *, besides: Collection[str] = ()
) -> list[Lease]:
    """Leases of up to ``most`` broadcasts that nobody works on, but none of ``besides``; the oldest first."""
    found = leases.waiting(tx, BroadcastRow, OPEN, most, now, besides)
    taken = (take_lease(tx, broadcast_id, worker_id, now) for broadcast_id in found)
    return [lease for lease in taken if lease is not None]


def renew(tx: Session, worker_id: str, held: Collection[tuple[str, int]], now: datetime) -> set[str]:
    """Prolong the leases of these (broadcast, epoch); the ids of those that are still this worker's."""
    return leases.renew(tx, BroadcastRow, OPEN, worker_id, held, now)


def give_back(tx: Session, broadcast_id: str, worker_id: str, epoch: int, now: datetime) -> None:
    """The worker stops working on it, and another may begin at once."""
    leases.give_back(tx, BroadcastRow, OPEN, broadcast_id, worker_id, epoch, now)


def forget_leases(tx: Session, worker_id: str, now: datetime) -> None:
    """A worker begins a new life: what its former one held is free."""
    leases.forget(tx, BroadcastRow, OPEN, worker_id, now)


def ready(tx: Session, broadcast_id: str, epoch: int, now: datetime) -> None:
    """The first segments are there; said by the holder of the lease, once per epoch."""
    row = locked(tx, BroadcastRow, broadcast_id)
    if row is None or row.epoch != epoch or row.status != "wanted":
        return
    move(tx, BroadcastRow, row.id, "wanted", "live", ready_at=now)
    tell(tx, None, "BROADCAST_READY", now, creatorId=row.creator_id, roomId=row.room_id)


def still_open(tx: Session, broadcast_ids: Collection[str]) -> Sequence[str]:
    """Which of these have not ended."""
    return leases.still_open(tx, BroadcastRow, OPEN, broadcast_ids)


def worth_keeping(tx: Session, broadcast_ids: Collection[str], now: datetime, *, seconds: float) -> set[str]:
    """Which of these have not ended, or ended less than ``seconds`` ago: their files are still asked for."""
    fresh = or_(BroadcastRow.ended_at.is_(None), BroadcastRow.ended_at > now - timedelta(seconds=seconds))
    return set(tx.scalars(select(BroadcastRow.id).where(BroadcastRow.id.in_(broadcast_ids), fresh)))
