"""How an open request ends without a session: state, tokens and everybody's notice, in one transaction."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Literal

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from models import ledger
from models.machine import move
from models.requests import OPEN, RequestRow
from models.services import subscriptions
from models.services.announcements import balance_changed, tell

Ending = Literal["declined", "cancelled", "expired"]
Because = Literal["stream_ended", "fan_busy", "creator_busy", "payment_failed", "turn_missed", "wait_over"]


def close_request(
    tx: Session, request: RequestRow, to: Ending, now: datetime, because: Because | None = None
) -> None:
    """Move a request out of ``queued`` or ``pending``: tokens and included minutes come back.

    Raises Conflict if it moved on. ``because`` tells endings by circumstances from those by somebody's choice:
    they are not held against the fan.
    """
    move(tx, RequestRow, request.id, request.status, to, answered_at=now, close_reason=because)
    if request.total_cost:
        ledger.release(tx, request.id, key=f"release:{request.id}", cause_id=request.cause_id, now=now)
    subscriptions.return_minutes(tx, request.id, 0, now)
    balance_changed(tx, request.fan_id, now)
    reason = because.upper() if because else None
    if to == "cancelled":
        tell(tx, request.creator_id, "PRIVATE_REQUEST_CANCELLED", now, requestId=request.id)
    elif to == "expired" and because != "stream_ended":
        for user_id in (request.creator_id, request.fan_id):
            tell(tx, user_id, "PRIVATE_REQUEST_EXPIRED", now, requestId=request.id, reason=reason)
        return
    if to != "cancelled" or because == "payment_failed":
        tell(tx, request.fan_id, "PRIVATE_DECLINED", now, requestId=request.id, reason=reason)


def open_requests(
    tx: Session, *, fan_id: str | None = None, creator_id: str | None = None
) -> tuple[RequestRow, ...]:
    """The open requests of a fan, of a creator, or of both; oldest first, taken for oneself."""
    wanted = {"fan_id": fan_id, "creator_id": creator_id}
    whose = {name: value for name, value in wanted.items() if value is not None}
    return tuple(tx.scalars(_open_requests(*whose), whose))


@cache
def _open_requests(*whose: str) -> Select[RequestRow]:
    """Built once for each: building it took longer than executing it."""
    columns = RequestRow.__mapper__.columns
    wanted = select(RequestRow).where(RequestRow.status.in_(OPEN))
    wanted = wanted.where(*(columns[name] == bindparam(name) for name in whose))
    ordered = wanted.order_by(RequestRow.created_at, RequestRow.id).with_for_update(key_share=True)
    return ordered.execution_options(populate_existing=True)
