"""Media nodes as operators see them, and draining: a node that takes no new room and keeps what it has."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import log
from models.errors import Conflict, NotFound
from models.services import placement
from models.services.locks import locked
from models.streams import MediaNodeRow, RoomRow

MOST = 200

State = Literal["ready", "draining", "silent", "lost"]


class Node(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A media process. ``load`` and ``capacity`` in participants; ``load`` as placement counts it.

    ``alive``: it was heard of lately, and answers. ``draining`` beside ``state``, as a lost node may be both.
    """

    node_id: str
    boot_id: str
    seen_at: datetime
    alive: bool
    rooms: int
    load: int
    capacity: int
    draining: bool
    state: State


def nodes(tx: Session, now: datetime) -> tuple[Node, ...]:
    """Every media node that was ever heard of, the latest first."""
    rooms = {
        node_id: int(count)
        for node_id, count in tx.execute(
            select(RoomRow.node_id, func.count()).where(RoomRow.status != "closed").group_by(RoomRow.node_id)
        )
    }
    loads = {load.node_id: load.load for load in placement.counted(tx)}
    rows = tx.scalars(select(MediaNodeRow).order_by(MediaNodeRow.seen_at.desc(), MediaNodeRow.id).limit(MOST))
    return tuple(_view(row, rooms.get(row.id, 0), loads.get(row.id, 0), now) for row in rows)


def drain(tx: Session, node_id: str, now: datetime) -> None:
    """The node takes no new room from now on, in its later lives neither. Raises NotFound."""
    node = _known(tx, node_id)
    node.draining_at = node.draining_at or now
    tx.flush()
    log.event("node_draining", node_id=node_id)


def undrain(tx: Session, node_id: str) -> None:
    """The node takes rooms again. Raises NotFound."""
    _known(tx, node_id).draining_at = None
    tx.flush()
    log.event("node_undrained", node_id=node_id)


def forget(tx: Session, node_id: str, now: datetime) -> None:
    """The node is gone for good, and nobody asks for it any more; should it come back, it says so itself.

    Raises NotFound; Conflict for one that has rooms, or that lives: it would be told nothing until it reconnects.
    """
    node = _known(tx, node_id)
    there = select(RoomRow.id).where(RoomRow.node_id == node_id, RoomRow.status != "closed").limit(1)
    if tx.scalar(there) is not None:
        raise Conflict("It has rooms; they end, or are moved to another node, first.")
    if node.lost_at is None and node.seen_at > now - placement.HEARD_WITHIN:
        raise Conflict("It lives; stop it first.")
    tx.delete(node)
    tx.flush()
    log.event("node_forgotten", node_id=node_id)


def _known(tx: Session, node_id: str) -> MediaNodeRow:
    node = locked(tx, MediaNodeRow, node_id)
    if node is None:
        raise NotFound("There is no such media node.")
    return node


def _view(row: MediaNodeRow, rooms: int, load: int, now: datetime) -> Node:
    silent = row.seen_at <= now - placement.HEARD_WITHIN
    draining = row.draining_at is not None
    state: State = "lost" if row.lost_at else "silent" if silent else "draining" if draining else "ready"
    return Node(
        node_id=row.id,
        boot_id=row.boot_id,
        seen_at=row.seen_at,
        alive=row.lost_at is None and not silent,
        rooms=rooms,
        load=load,
        capacity=row.capacity,
        draining=draining,
        state=state,
    )
