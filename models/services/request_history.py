"""A creator's answered requests, for the studio's Requests tab. Reads only; open ones are private_streams'."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.people import PersonRow
from models.requests import OPEN, RequestRow
from models.sessions import SessionRow


class PastRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request that is no longer open; ``total_cost`` is what was held, in tokens."""

    request_id: str
    fan_handle: str
    fan_name: str
    fan_avatar: str | None
    is_mock: bool
    minutes: int
    total_cost: int
    status: str
    close_reason: str | None
    asked_at: datetime
    accepted_by: str | None
    """``creator``, ``rule``, ``unlock`` or ``booking``."""
    session_id: str | None
    """Of a session that has ended, which has a receipt."""


def past_requests(tx: Session, creator_id: str, limit: int = 50) -> tuple[PastRequest, ...]:
    """The newest ``limit`` requests to a creator that are not open any more."""
    wanted = (
        select(RequestRow, PersonRow, SessionRow)
        .join(PersonRow, PersonRow.id == RequestRow.fan_id)
        .outerjoin(SessionRow, SessionRow.request_id == RequestRow.id)
        .where(RequestRow.creator_id == creator_id, RequestRow.status.not_in(OPEN))
        .order_by(RequestRow.created_at.desc(), RequestRow.id)
        .limit(limit)
    )
    return tuple(_past(*row) for row in tx.execute(wanted))


def _past(request: RequestRow, fan: PersonRow, session: SessionRow | None) -> PastRequest:
    return PastRequest(
        request_id=request.id,
        fan_handle=fan.handle,
        fan_name=fan.display_name,
        fan_avatar=fan.avatar_url,
        is_mock=fan.is_mock,
        minutes=request.requested_minutes,
        total_cost=request.total_cost,
        status=request.status,
        close_reason=request.close_reason,
        accepted_by=request.accepted_by,
        asked_at=request.created_at,
        session_id=session.id if session and session.status == "ended" else None,
    )
