"""Nodes that rooms were moved away from, until it is known that they have let go.

A node that was only thought lost may go on forwarding to clients that still reach it. Who promises that forwarding
has stopped (``/api/rtc/terminate-stream``) may not do so on the word of the new node alone. Knows no commands: the
old node is told to let go by ``failover``, and says that it has by reporting its rooms without this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.db import insert_into
from models.streams import RoomDepartureRow

LINGERS = timedelta(seconds=30)
"""A node that stays silent for longer has lost its clients as well, as far as can be known: a browser whose
signaling is gone has joined elsewhere, and an abandoned seat is given up."""


def moved(tx: Session, room_id: str, old_id: str, new_id: str, now: datetime) -> None:
    """The room leaves the old node, and is at the new one."""
    tx.execute(
        delete(RoomDepartureRow).where(
            (RoomDepartureRow.at <= now - LINGERS)
            | ((RoomDepartureRow.room_id == room_id) & (RoomDepartureRow.node_id == new_id))
        )
    )
    tx.execute(
        insert_into(tx, RoomDepartureRow)
        .values(room_id=room_id, node_id=old_id, at=now)
        .on_conflict_do_update(index_elements=["room_id", "node_id"], set_={"at": now}),
        execution_options={"synchronize_session": False},
    )


def reported(tx: Session, node_id: str, room_ids: Sequence[str], said_at: datetime) -> None:
    """The node has these rooms and no others: what it was to let go before it said so, it has."""
    tx.execute(
        delete(RoomDepartureRow).where(
            RoomDepartureRow.node_id == node_id,
            RoomDepartureRow.at < said_at,
            RoomDepartureRow.room_id.not_in(room_ids),
        ),
        execution_options={"synchronize_session": False},
    )


def may_linger(tx: Session, room_id: str, now: datetime) -> bool:
    """Whether a node that the room was moved away from may still be forwarding in it."""
    left = select(RoomDepartureRow.node_id).where(
        RoomDepartureRow.room_id == room_id, RoomDepartureRow.at > now - LINGERS
    )
    return tx.scalar(left.limit(1)) is not None
