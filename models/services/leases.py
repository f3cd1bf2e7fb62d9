"""Leases: rows that one transcode worker at a time works on, each time under a higher epoch.

A worker holds a lease for LEASE_SECONDS and renews it; one that is dead or stuck loses the row to another.
Knows neither files nor what is made of a room.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from models.broadcasts import BroadcastRow
from models.recordings import RecordingRow
from models.services.locks import locked
from models.streams import MediaNodeRow, RoomRow

LEASE_SECONDS = 3.0
"""Longer than a worker's pauses, shorter than what a viewer's buffer bridges."""

Row = TypeVar("Row", BroadcastRow, RecordingRow)
Table = type[BroadcastRow] | type[RecordingRow]


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to work on, and where the room's media are to be had: a private ws address, or empty
    where nothing more is to be had."""

    work_id: str
    room_id: str
    epoch: int
    signaling_url: str


def free(tx: Session, table: type[Row], id_: str, statuses: Collection[str], now: datetime) -> Row | None:
    """The row, taken for oneself, if there is something to do and nobody holds it."""
    row = locked(tx, table, id_)
    if row is None or row.status not in statuses or (row.lease_until is not None and row.lease_until > now):
        return None
    return row


def hold(
    tx: Session, row: BroadcastRow | RecordingRow, worker_id: str, signaling_url: str, now: datetime
) -> Lease:
    """Give the row, which is free, to this worker under the next epoch."""
    row.worker_id, row.epoch, row.lease_until = worker_id, row.epoch + 1, until(now)
    tx.flush()
    return Lease(work_id=row.id, room_id=row.room_id, epoch=row.epoch, signaling_url=signaling_url)


def waiting(
    tx: Session,
    table: Table,
    statuses: Collection[str],
    most: int,
    now: datetime,
    besides: Collection[str],
) -> Sequence[str]:
    """Up to ``most`` rows that nobody works on, but none of ``besides``; the oldest first."""
    if most <= 0:
        return []
    unheld = or_(table.lease_until.is_(None), table.lease_until <= now)
    return tx.scalars(
        select(table.id)
        .where(table.status.in_(statuses), unheld, table.id.not_in(besides))
        .order_by(table.wanted_at, table.id)
        .limit(most)
    ).all()


def renew(
    tx: Session,
    table: Table,
    statuses: Collection[str],
    worker_id: str,
    held: Collection[tuple[str, int]],
    now: datetime,
) -> set[str]:
    """Prolong the leases of these (id, epoch); the ids of those that are still this worker's."""
    kept: set[str] = set()
    for id_, epoch in sorted(held):
        renewed = tx.execute(
            update(table).where(*is_held(table, statuses, id_, worker_id, epoch)).values(lease_until=until(now)),
            execution_options={"synchronize_session": False},
        )
        if renewed.rowcount:  # type: ignore[attr-defined]
            kept.add(id_)
    return kept


def give_back(
    tx: Session, table: Table, statuses: Collection[str], id_: str, worker_id: str, epoch: int, now: datetime
) -> None:
    """The worker stops working on it, and another may begin at once."""
    tx.execute(
        update(table).where(*is_held(table, statuses, id_, worker_id, epoch)).values(lease_until=now),
        execution_options={"synchronize_session": False},
    )


def forget(tx: Session, table: Table, statuses: Collection[str], worker_id: str, now: datetime) -> None:
    """A worker begins a new life: what its former one held is free."""
    tx.execute(
        update(table)
        .where(table.worker_id == worker_id, table.status.in_(statuses), table.lease_until > now)
        .values(lease_until=now),
        execution_options={"synchronize_session": False},
    )


def still_open(tx: Session, table: Table, statuses: Collection[str], ids: Collection[str]) -> Sequence[str]:
    """In which of these there is still something to do."""
    return tx.scalars(select(table.id).where(table.id.in_(ids), table.status.in_(statuses))).all()


def node_url(tx: Session, room_id: str) -> str | None:
    """Where the room's node listens; None for a room that is closed or nowhere."""
    return tx.scalar(
        select(MediaNodeRow.signaling_url)
        .join(RoomRow, RoomRow.node_id == MediaNodeRow.id)
        .where(RoomRow.id == room_id, RoomRow.status != "closed")
    )


def until(now: datetime) -> datetime:
    """When a lease that is taken or renewed now ends."""
    return now + timedelta(seconds=LEASE_SECONDS)


def is_held(
    table: Table, statuses: Collection[str], id_: str, worker_id: str, epoch: int
) -> tuple[ColumnElement[bool], ...]:
    """That the row is this worker's, under this epoch."""
    return (
        table.id == id_,
        table.worker_id == worker_id,
        table.epoch == epoch,
        table.status.in_(statuses),
    )
