"""One room for operators: what it is, where it is, who is in it. What flows there only its node knows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.errors import NotFound
from models.people import PersonRow
from models.sessions import SessionRow
from models.streams import MediaNodeRow, RoomRow, StreamRow


class WatchedRoom(msgspec.Struct, frozen=True, kw_only=True):
    """A room as the books have it. ``node_url``: its node's signaling address; None while it has no node."""

    room_id: str
    kind: str
    status: str
    title: str
    creator_id: str
    creator_handle: str
    opened_at: datetime
    node_id: str | None
    node_url: str | None
    session_id: str | None


def watched(tx: Session, room_id: str) -> WatchedRoom:
    """The room, open or closed. Raises NotFound."""
    found = tx.execute(
        select(RoomRow, PersonRow.handle, StreamRow.title, MediaNodeRow.signaling_url, SessionRow.id)
        .join(PersonRow, PersonRow.id == RoomRow.creator_id)
        .outerjoin(StreamRow, StreamRow.room_id == RoomRow.id)
        .outerjoin(SessionRow, SessionRow.room_id == RoomRow.id)
        .outerjoin(MediaNodeRow, MediaNodeRow.id == RoomRow.node_id)
        .where(RoomRow.id == room_id)
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such room.", code="ROOM_NOT_FOUND")
    room, handle, title, url, session_id = found
    return WatchedRoom(
        room_id=room.id,
        kind=room.kind,
        status=room.status,
        title=title or "",
        creator_id=room.creator_id,
        creator_handle=handle,
        opened_at=room.created_at,
        node_id=room.node_id,
        node_url=url,
        session_id=session_id,
    )


def handles(tx: Session, user_ids: Collection[str]) -> dict[str, str]:
    """Handles by user id, of those who have an account here."""
    rows = tx.execute(select(PersonRow.id, PersonRow.handle).where(PersonRow.id.in_(user_ids)))
    return {row.id: row.handle for row in rows}
