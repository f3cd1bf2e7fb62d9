"""Broadcasts: wanted when a public room has its creator, leased by transcode workers, ended with their room.

A worker holds a lease for LEASE_SECONDS and renews it; one that is dead or stuck loses the broadcast to
another, which works under the next epoch. Knows no files and no ffmpeg.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, Select, or_, select, update
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.broadcasts import BroadcastRow
from models.db import insert_into
from models.machine import move
from models.messages.commands import Reason
from models.messages.routing import TRANSCODE_ACTOR, TRANSCODE_QUEUE
from models.services.announcements import tell
from models.services.locks import locked
from models.streams import MediaNodeRow, RoomRow

LEASE_SECONDS = 3.0
"""Longer than a worker's pauses, shorter than what a viewer's buffer bridges."""
UNCLAIMED_SECONDS = 3.0
"""A broadcast that no worker has taken for this long is said to be unavailable."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to work on, and where the room's media are to be had (a ws address, private)."""

    broadcast_id: str
    room_id: str
    epoch: int
    signaling_url: str


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


def with_pictures(tx: Session, room_ids: Collection[str]) -> dict[str, str]:
    """Of these rooms, those whose broadcast has pictures now: its id by the room's."""
    found = select(BroadcastRow).where(BroadcastRow.room_id.in_(room_ids), BroadcastRow.status == "live")
    return {row.room_id: row.id for row in tx.scalars(found)}


# --- for transcode workers -----------------------------------------------------------------------------


def take_lease(tx: Session, broadcast_id: str, worker_id: str, now: datetime) -> Lease | None:
    """The lease of this broadcast, if nobody holds it and its room is on a node; else None."""
    row = locked(tx, BroadcastRow, broadcast_id)
    if row is None or row.status == "ended" or (row.lease_until is not None and row.lease_until > now):
        return None
    return _lease(tx, row, worker_id, now)


def take_over(
    tx: Session, worker_id: str, most: int, now: datetime, *, besides: Collection[str] = ()
) -> list[Lease]:
    """Leases of up to ``most`` broadcasts that nobody works on, but none of ``besides``; the oldest first."""
    if most <= 0:
        return []
    free = or_(BroadcastRow.lease_until.is_(None), BroadcastRow.lease_until <= now)
    found = tx.scalars(
        select(BroadcastRow.id)
        .where(BroadcastRow.status != "ended", free, BroadcastRow.id.not_in(besides))
        .order_by(BroadcastRow.wanted_at, BroadcastRow.id)
        .limit(most)
    ).all()
    taken = (take_lease(tx, broadcast_id, worker_id, now) for broadcast_id in found)
    return [lease for lease in taken if lease is not None]


def renew(tx: Session, worker_id: str, held: Collection[tuple[str, int]], now: datetime) -> set[str]:
    """Prolong the leases of these (broadcast, epoch); the ids of those that are still this worker's."""
    kept: set[str] = set()
    for broadcast_id, epoch in sorted(held):
        renewed = tx.execute(
            update(BroadcastRow)
            .where(*_held(broadcast_id, worker_id, epoch))
            .values(lease_until=_until(now)),
            execution_options={"synchronize_session": False},
        )
        if renewed.rowcount:  # type: ignore[attr-defined]
            kept.add(broadcast_id)
    return kept


def give_back(tx: Session, broadcast_id: str, worker_id: str, epoch: int, now: datetime) -> None:
    """The worker stops working on it, and another may begin at once."""
    tx.execute(
        update(BroadcastRow).where(*_held(broadcast_id, worker_id, epoch)).values(lease_until=now),
        execution_options={"synchronize_session": False},
    )


def forget_leases(tx: Session, worker_id: str, now: datetime) -> None:
    """A worker begins a new life: what its former one held is free."""
    tx.execute(
        update(BroadcastRow)
        .where(BroadcastRow.worker_id == worker_id, BroadcastRow.status != "ended", BroadcastRow.lease_until > now)
        .values(lease_until=now),
        execution_options={"synchronize_session": False},
    )


def ready(tx: Session, broadcast_id: str, epoch: int, now: datetime) -> None:
    """The first segments are there; said by the holder of the lease, once per epoch."""
    row = locked(tx, BroadcastRow, broadcast_id)
    if row is None or row.epoch != epoch or row.status != "wanted":
        return
    move(tx, BroadcastRow, row.id, "wanted", "live", ready_at=now)
    tell(tx, None, "BROADCAST_READY", now, creatorId=row.creator_id, roomId=row.room_id)


def still_open(tx: Session, broadcast_ids: Collection[str]) -> Sequence[str]:
    """Which of these have not ended."""
    wanted = select(BroadcastRow.id).where(BroadcastRow.id.in_(broadcast_ids), BroadcastRow.status != "ended")
    return tx.scalars(wanted).all()


def worth_keeping(tx: Session, broadcast_ids: Collection[str], now: datetime, *, seconds: float) -> set[str]:
    """Which of these have not ended, or ended less than ``seconds`` ago: their files are still asked for."""
    fresh = or_(BroadcastRow.ended_at.is_(None), BroadcastRow.ended_at > now - timedelta(seconds=seconds))
    return set(tx.scalars(select(BroadcastRow.id).where(BroadcastRow.id.in_(broadcast_ids), fresh)))


def _lease(tx: Session, row: BroadcastRow, worker_id: str, now: datetime) -> Lease | None:
    url = tx.scalar(
        select(MediaNodeRow.signaling_url)
        .join(RoomRow, RoomRow.node_id == MediaNodeRow.id)
        .where(RoomRow.id == row.room_id, RoomRow.status != "closed")
    )
    if url is None:
        return None
    row.worker_id, row.epoch, row.lease_until = worker_id, row.epoch + 1, _until(now)
    tx.flush()
    log.event("broadcast_leased", room_id=row.room_id, broadcast_id=row.id, epoch=row.epoch)
    return Lease(broadcast_id=row.id, room_id=row.room_id, epoch=row.epoch, signaling_url=url)


def _until(now: datetime) -> datetime:
    return now + timedelta(seconds=LEASE_SECONDS)


def _held(broadcast_id: str, worker_id: str, epoch: int) -> tuple[ColumnElement[bool], ...]:
    return (
        BroadcastRow.id == broadcast_id,
        BroadcastRow.worker_id == worker_id,
        BroadcastRow.epoch == epoch,
        BroadcastRow.status != "ended",
    )
