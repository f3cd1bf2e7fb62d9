"""Spectators: who may watch a broadcast, in which tier, and who may no more.

There is no row for a spectator, since there is no limit to them: a viewer is a pseudonym of a person, or of a
nameless visitor, for one broadcast. Only who is refused has one.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import log, spectator_addresses
from models.battles import BattleRow, BattleSideRow
from models.broadcasts import BroadcastRow, SpectatorBarRow
from models.db import insert_into
from models.errors import Conflict, Forbidden, NotFound, Unavailable
from models.ladder import Tier
from models.people import BlockRow
from models.services import broadcasts, passes, rooms
from models.services.accounts import Person
from models.services.offers import is_subscriber
from models.streams import RoomBarRow, RoomRow


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may watch."""

    room_id: str
    broadcast_id: str
    viewer_id: str
    tier: Tier
    ready: bool


def seat(tx: Session, room_id: str, *, person: Person | None, subject: str, key: bytes, now: datetime) -> Seat:
    """What this person, or nameless visitor, may watch of the room now; ``subject`` names either for good.

    Raises NotFound ROOM_NOT_FOUND; Forbidden BARRED, BLOCKED; Conflict STREAM_NOT_LIVE when nothing is
    broadcast; Unavailable when no worker has a place for it.
    """
    room = tx.get(RoomRow, room_id)
    if room is None or room.kind == "private":
        raise NotFound("There is no such room.", code="ROOM_NOT_FOUND")
    if person is not None:
        _require_welcome(tx, room, person.user_id)
    broadcast = broadcasts.watchable(tx, room_id, now)
    if broadcast is None:
        raise Conflict("Nothing is broadcast from this room now.", code="STREAM_NOT_LIVE")
    if not broadcast.available:
        raise Unavailable("The stream cannot be watched without a seat at the moment.", code="UNAVAILABLE")
    viewer = spectator_addresses.viewer_id(broadcast.broadcast_id, subject, key)
    if tx.get(SpectatorBarRow, (broadcast.broadcast_id, viewer)) is not None:
        raise Forbidden("You may not watch this stream any more.", code="BARRED")
    return Seat(
        room_id=room_id,
        broadcast_id=broadcast.broadcast_id,
        viewer_id=viewer,
        tier=_best_tier(tx, person, room, now),
        ready=broadcast.status == "live",
    )


def tier_of(tx: Session, person: Person | None, creator_id: str, now: datetime) -> Tier:
    """Premium for the creator, subscribers, whoever has a pass, and admins."""
    if person is None:
        return "free"
    if person.user_id == creator_id or "admin" in person.roles:
        return "premium"
    fan_id = person.user_id
    pays = is_subscriber(tx, fan_id, creator_id, now) or passes.is_valid(tx, fan_id, creator_id, now)
    return "premium" if pays else "free"


def _best_tier(tx: Session, person: Person | None, room: RoomRow, now: datetime) -> Tier:
    """Of a battle the best that the person has with any of its creators."""
    tiers: set[Tier] = {tier_of(tx, person, creator_id, now) for creator_id in rooms.creators_of(tx, room)}
    return "premium" if "premium" in tiers else "free"


def bar(tx: Session, broadcast_id: str, viewer_id: str, reason: str, now: datetime) -> bool:
    """This viewer watches this broadcast no more; False if that was so before. Their addresses end at once."""
    made = tx.execute(
        insert_into(tx, SpectatorBarRow)
        .values(broadcast_id=broadcast_id, viewer_id=viewer_id, reason=reason, created_at=now)
        .on_conflict_do_nothing()
        .returning(SpectatorBarRow.viewer_id)
    ).first()
    if made is not None:
        log.event("spectator_barred", broadcast_id=broadcast_id, reason=reason)
    return made is not None


def barred(tx: Session, key: bytes) -> set[tuple[str, str]]:
    """All (broadcast, viewer) that may not watch what has not ended.

    Those who were found sharing; whom the creator blocked; who was cut out of the room.
    """
    open_ones = select(BroadcastRow.id).where(BroadcastRow.status != "ended")
    found = {
        (row.broadcast_id, row.viewer_id)
        for row in tx.scalars(select(SpectatorBarRow).where(SpectatorBarRow.broadcast_id.in_(open_ones)))
    }
    blocked = (
        select(BroadcastRow.id, BlockRow.fan_id)
        .join(BlockRow, BlockRow.creator_id == BroadcastRow.creator_id)
        .where(BroadcastRow.status != "ended")
    )
    blocked_in_battle = (
        select(BroadcastRow.id, BlockRow.fan_id)
        .join(BattleRow, BattleRow.room_id == BroadcastRow.room_id)
        .join(BattleSideRow, BattleSideRow.battle_id == BattleRow.id)
        .join(BlockRow, BlockRow.creator_id == BattleSideRow.creator_id)
        .where(BroadcastRow.status != "ended", BattleSideRow.status == "in")
    )
    cut = (
        select(BroadcastRow.id, RoomBarRow.user_id)
        .join(RoomBarRow, RoomBarRow.room_id == BroadcastRow.room_id)
        .where(BroadcastRow.status != "ended")
    )
    for broadcast_id, user_id in (*tx.execute(blocked), *tx.execute(blocked_in_battle), *tx.execute(cut)):
        found.add((broadcast_id, spectator_addresses.viewer_id(broadcast_id, user_id, key)))
    return found


def _require_welcome(tx: Session, room: RoomRow, user_id: str) -> None:
    if tx.get(RoomBarRow, (room.id, user_id)) is not None:
        raise Forbidden("You were removed from this room.", code="BARRED")
    rooms.require_unblocked(tx, user_id, rooms.creators_of(tx, room))
