"""On which media node a room goes: the one with the most room left, of those that live and take rooms.

The arithmetic is pure; only ``loads`` reads rows. What a node reports is some seconds old, and who was granted a
seat may not have taken it yet, so a node's load is the greater of two counts that are both too low: what it
reported together with the rooms placed on it since, and what its rooms are known or expected to hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from models.errors import Unavailable
from models.streams import MediaNodeRow, RoomRow

Kind = Literal["live", "private", "battle"]

SEATS: dict[Kind, int] = {"live": 2, "private": 2, "battle": 4}
"""How many participants a new room is expected to have; a room that has more counts as what it has."""
RESTARTS_WITHIN = timedelta(seconds=30)
"""A node that was lost less than this ago may be on its way back: where no other has room, it is waited for. No
longer than a session waits for its room to open."""
HEARD_WITHIN = timedelta(seconds=15)
"""A node that lives reports every five seconds. One that has not for so long answers the clock, perhaps, but does
not hear what it is told: it has lost its broker, or somebody else answers under its address."""

STEADY_AFTER = timedelta(seconds=30)
"""A node that was taken for lost and found again may be again, by a clock that does not reach it: it is given no
room for so long, while another can be."""


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A node as placement sees it; participants throughout."""

    node_id: str
    capacity: int
    reported: int = 0
    """How many it said that it has."""
    placed: int = 0
    """How many are expected in rooms that were placed on it since."""
    seated: int = 0
    """How many all its rooms are known, or at least expected, to have."""

    @property
    def load(self) -> int:
        """How many it is taken to have."""
        return max(self.reported + self.placed, self.seated)

    @property
    def left(self) -> int:
        """How many more it takes; below zero where rooms grew beyond its capacity."""
        return self.capacity - self.load


def choose(nodes: Iterable[NodeLoad], seats: int) -> str | None:
    """The node with the most room left, if ``seats`` more fit there; of several alike the first by name."""
    fitting = [node for node in nodes if node.left >= seats]
    return min(fitting, key=lambda node: (-node.left, node.node_id)).node_id if fitting else None


def pick_node(tx: Session, kind: Kind, now: datetime, *, instead_of: Collection[str] = ()) -> str:
    """Where a new room of this kind goes; raises Unavailable NO_MEDIA_NODE when no node takes it.

    ``instead_of``: creators whose public rooms close for it. Their seats are free for it, or on a full node nobody
    could go from public to private.

    Two that ask in the same instant do not see each other, and may both be given a node's last seats. That is not
    prevented: it takes a node over its figure by a room for each transaction that is open at that moment, while
    rooms that fill take it over by ten times as much, which headroom is for; and the next to ask see both. A lock
    on the node's row would make it exact, and let every placement wait for every other, against the order of locks
    in which rooms are moved (node, session, room).
    """
    seats, freed = SEATS[kind], _freed(tx, instead_of)
    chosen = choose(_without(living(tx, now), freed), seats) or choose(
        _without(loads(tx, lost_since=now - RESTARTS_WITHIN), freed), seats
    )
    if chosen is not None:
        return chosen
    full = tx.scalar(select(MediaNodeRow.id).where(MediaNodeRow.lost_at.is_(None)).limit(1)) is not None
    words = "Every media node is full or takes no new rooms." if full else "No media node is ready."
    raise Unavailable(f"{words} Try again in a moment.", code="NO_MEDIA_NODE")


def _freed(tx: Session, creators: Collection[str]) -> Counter[str]:
    """How many seats the open public rooms of these have, by node."""
    public = select(RoomRow.node_id, RoomRow.kind, RoomRow.viewers, RoomRow.awaited).where(
        RoomRow.creator_id.in_(creators), RoomRow.kind == "live", RoomRow.status != "closed"
    )
    freed: Counter[str] = Counter()
    if creators:
        for node_id, kind, viewers, awaited in tx.execute(public):
            freed[node_id or ""] += seats_of(kind, viewers, awaited)
    return freed


def _without(nodes: Iterable[NodeLoad], freed: Mapping[str, int]) -> list[NodeLoad]:
    return [msgspec.structs.replace(node, capacity=node.capacity + freed.get(node.node_id, 0)) for node in nodes]


def living(tx: Session, now: datetime) -> list[NodeLoad]:
    """The nodes that live and take rooms.

    Those that are silent only where all of them are; nor those that were lost a moment ago, while another was not.
    """
    heard = MediaNodeRow.seen_at > now - HEARD_WITHIN
    steady = or_(MediaNodeRow.found_at.is_(None), MediaNodeRow.found_at <= now - STEADY_AFTER)
    for which in ((heard, steady), (heard,), ()):
        if nodes := loads(tx, *which):
            return nodes
    return []


def seats_of(kind: str, viewers: int, awaited: int) -> int:
    """How many participants a room has, or is expected to have."""
    return max(SEATS[msgspec.convert(kind, Kind)], viewers + 1, awaited)


def with_room(nodes: Iterable[NodeLoad], node_id: str, seats: int) -> list[NodeLoad]:
    """The same nodes when one more room is on one of them."""
    return [
        msgspec.structs.replace(node, placed=node.placed + seats, seated=node.seated + seats)
        if node.node_id == node_id
        else node
        for node in nodes
    ]


def require_node(tx: Session, now: datetime) -> None:
    """Raises Unavailable NO_MEDIA_NODE unless some node lives, full or not, or may be restarting."""
    there = or_(MediaNodeRow.lost_at.is_(None), MediaNodeRow.lost_at > now - RESTARTS_WITHIN)
    if tx.scalar(select(MediaNodeRow.id).where(there).limit(1)) is None:
        raise Unavailable("No media node is ready.", code="NO_MEDIA_NODE")


def loads(
    tx: Session, *which: ColumnElement[bool], lost_since: datetime | None = None
) -> list[NodeLoad]:
    """Every node that is not draining and lives, or, with ``lost_since``, that was lost after that; of these,
    those that ``which`` selects."""
    alive = MediaNodeRow.lost_at.is_(None) if lost_since is None else MediaNodeRow.lost_at > lost_since
    return counted(tx, and_(MediaNodeRow.draining_at.is_(None), alive, *which))


def counted(tx: Session, which: object = None) -> list[NodeLoad]:
    """The load of each node, or of those that ``which`` selects."""
    # As ``seats_of``.
    expected = case(*((RoomRow.kind == kind, seats) for kind, seats in SEATS.items()), else_=0)
    expected = case((RoomRow.awaited > expected, RoomRow.awaited), else_=expected)
    present = RoomRow.viewers + 1
    seated = case((present > expected, present), else_=expected)
    found = (
        select(
            MediaNodeRow.id,
            MediaNodeRow.capacity,
            MediaNodeRow.participants,
            func.coalesce(func.sum(case((RoomRow.placed_at > MediaNodeRow.seen_at, expected), else_=0)), 0),
            func.coalesce(func.sum(case((RoomRow.id.is_not(None), seated), else_=0)), 0),
        )
        .outerjoin(RoomRow, and_(RoomRow.node_id == MediaNodeRow.id, RoomRow.status != "closed"))
        .group_by(MediaNodeRow.id, MediaNodeRow.capacity, MediaNodeRow.participants)
        .order_by(MediaNodeRow.id)
    )
    if which is not None:
        found = found.where(which)  # type: ignore[arg-type]
    return [
        NodeLoad(node_id=row[0], capacity=row[1], reported=row[2], placed=int(row[3]), seated=int(row[4]))
        for row in tx.execute(found)
    ]
