"""What is going on now, for operators: rooms and who is cut from them, sessions with their clocks."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from models.flags import FlagRow
from models.people import ApiTokenRow, PersonRow
from models.sessions import SessionRow
from models.streams import RoomBarRow, RoomRow, StreamRow

MOST = 200


class Party(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Somebody who may be cut out of a room."""

    user_id: str
    handle: str
    side: str


class Room(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An open room. ``left_ms``: of a private room's budget, as last reported; None: it has none."""

    room_id: str
    kind: str
    status: str
    node_id: str | None
    title: str
    viewers: int
    opened_at: datetime
    left_ms: int | None
    parties: tuple[Party, ...]
    barred: tuple[str, ...]
    session_id: str | None


class LiveSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session that has not ended. Milliseconds as last reported; ``reported_at`` says when."""

    session_id: str
    request_id: str
    cause_id: str
    room_id: str
    node_id: str | None
    status: str
    pause_cause: str | None
    payment_mode: str
    fan_id: str
    fan_handle: str
    creator_id: str
    creator_handle: str
    rate_per_minute: int
    total_held: int
    paid_ms: int
    acknowledged_ms: int
    delivered_ms: int
    started_at: datetime
    live_at: datetime | None
    reported_at: datetime | None
    deadline_kind: str | None
    deadline_at: datetime | None


class Flag(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pattern that somebody should look at. Milliseconds of the session at which it was noticed."""

    kind: str
    creator_handle: str
    fan_handle: str
    day: str
    session_id: str
    at: datetime
    delivered_ms: int
    black_ms: int
    silent_ms: int


class ApiToken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An integrator's token; the token itself is not kept."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def rooms(tx: Session) -> tuple[Room, ...]:
    """Rooms that are not closed, the latest first."""
    creator, fan = aliased(PersonRow), aliased(PersonRow)
    found = tx.execute(
        select(RoomRow, StreamRow.title, SessionRow, creator.handle, fan.handle)
        .outerjoin(StreamRow, StreamRow.room_id == RoomRow.id)
        .outerjoin(SessionRow, SessionRow.room_id == RoomRow.id)
        .join(creator, creator.id == RoomRow.creator_id)
        .outerjoin(fan, fan.id == SessionRow.fan_id)
        .where(RoomRow.status != "closed")
        .order_by(RoomRow.created_at.desc(), RoomRow.id)
        .limit(MOST)
    ).all()
    bars: dict[str, list[str]] = {}
    for room_id, user_id in tx.execute(
        select(RoomBarRow.room_id, RoomBarRow.user_id).where(RoomBarRow.room_id.in_([row[0].id for row in found]))
    ):
        bars.setdefault(room_id, []).append(user_id)
    return tuple(
        Room(
            room_id=room.id,
            kind=room.kind,
            status=room.status,
            node_id=room.node_id,
            title=title or "",
            viewers=room.viewers,
            opened_at=room.created_at,
            left_ms=max(0, session.acknowledged_ms - session.delivered_ms) if session else None,
            parties=_parties(room, session, creator_handle, fan_handle),
            barred=tuple(sorted(bars.get(room.id, ()))),
            session_id=session.id if session else None,
        )
        for room, title, session, creator_handle, fan_handle in found
    )


def _parties(room: RoomRow, session: SessionRow | None, creator: str, fan: str | None) -> tuple[Party, ...]:
    sides = [Party(user_id=room.creator_id, handle=creator, side="creator")]
    if session is not None and fan is not None:
        sides.append(Party(user_id=session.fan_id, handle=fan, side="fan"))
    return tuple(sides)


def sessions(tx: Session) -> tuple[LiveSession, ...]:
    """Sessions that have not ended, the latest first."""
    creator, fan = aliased(PersonRow), aliased(PersonRow)
    found = tx.execute(
        select(SessionRow, creator.handle, fan.handle)
        .join(creator, creator.id == SessionRow.creator_id)
        .join(fan, fan.id == SessionRow.fan_id)
        .where(SessionRow.status != "ended")
        .order_by(SessionRow.start_time.desc(), SessionRow.id)
        .limit(MOST)
    )
    return tuple(
        LiveSession(
            session_id=row.id,
            request_id=row.request_id,
            cause_id=row.cause_id,
            room_id=row.room_id,
            node_id=row.node_id,
            status=row.status,
            pause_cause=row.pause_cause,
            payment_mode=row.payment_mode,
            fan_id=row.fan_id,
            fan_handle=fan_handle,
            creator_id=row.creator_id,
            creator_handle=creator_handle,
            rate_per_minute=row.rate_per_minute,
            total_held=row.total_held,
            paid_ms=row.paid_ms,
            acknowledged_ms=row.acknowledged_ms,
            delivered_ms=row.delivered_ms,
            started_at=row.start_time,
            live_at=row.live_at,
            reported_at=row.reported_at,
            deadline_kind=row.deadline_kind,
            deadline_at=row.deadline_at,
        )
        for row, creator_handle, fan_handle in found
    )


def flags(tx: Session, limit: int = 100) -> tuple[Flag, ...]:
    """The latest flags."""
    creator, fan = aliased(PersonRow), aliased(PersonRow)
    found = tx.execute(
        select(FlagRow, creator.handle, fan.handle, SessionRow)
        .join(SessionRow, SessionRow.id == FlagRow.session_id)
        .join(creator, creator.id == FlagRow.creator_id)
        .join(fan, fan.id == FlagRow.fan_id)
        .order_by(FlagRow.created_at.desc())
        .limit(limit)
    )
    return tuple(
        Flag(
            kind=row.kind,
            creator_handle=creator_handle,
            fan_handle=fan_handle,
            day=row.day,
            session_id=row.session_id,
            at=row.created_at,
            delivered_ms=session.delivered_ms,
            black_ms=session.black_ms,
            silent_ms=session.silent_ms,
        )
        for row, creator_handle, fan_handle, session in found
    )


def api_tokens(tx: Session) -> tuple[ApiToken, ...]:
    """Integrators' tokens, the latest first."""
    rows = tx.scalars(select(ApiTokenRow).order_by(ApiTokenRow.created_at.desc(), ApiTokenRow.id).limit(MOST))
    return tuple(
        ApiToken(
            token_id=row.id,
            name=row.name,
            scopes=tuple(row.scopes.split()),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )
        for row in rows
    )
