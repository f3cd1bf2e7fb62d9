"""Where a private room was before it was moved, for what was said there and is read only now.

What a node said before the room was taken from it may wait in the broker for as long as it likes, and the room may
move on meanwhile, more than once. Whether such words count is decided here; what they say is ``media_facts``'.
A stay is kept for as long as its words may count: until one of a later stay was taken in, or the session settled.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.streams import RoomStayRow


def ended(tx: Session, room_id: str, epoch: int, now: datetime) -> None:
    """The room is moved away from where it was under that epoch."""
    tx.add(RoomStayRow(room_id=room_id, epoch=epoch, left_at=now))
    tx.flush()


def moves_since(tx: Session, room_id: str, epoch: int, said_at: datetime) -> tuple[datetime, ...]:
    """When the room was moved, first from where this was said under that epoch, then further.

    None at all if the words do not count: they were said after the room had been moved away, so nobody had asked
    that node any more (it only seemed to be lost); or something is known already from where the room was later.
    """
    later = (
        select(RoomStayRow)
        .where(RoomStayRow.room_id == room_id, RoomStayRow.epoch >= epoch)
        .order_by(RoomStayRow.epoch)
    )
    stays = tx.scalars(later).all()
    if not stays or stays[0].epoch != epoch or said_at > stays[0].left_at:
        return ()
    return tuple(stay.left_at for stay in stays)


def heard(tx: Session, room_id: str, epoch: int) -> None:
    """Words from there have been taken in: what was said before it came there does not count any more, whatever
    becomes of that node."""
    if epoch > 0:
        tx.execute(delete(RoomStayRow).where(RoomStayRow.room_id == room_id, RoomStayRow.epoch < epoch))


def settled(tx: Session, room_id: str, epoch: int) -> None:
    """The session is over, with its room under that epoch: nothing that is said of it counts any more."""
    heard(tx, room_id, epoch)
