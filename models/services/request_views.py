"""How requests for private streams are seen: by the fan who asks, by the creator who is asked.

Reads only; asking and answering are ``private_streams``, which names these views too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ledger, pricing
from models.clock import utc_now
from models.errors import NotFound
from models.people import PersonRow
from models.requests import OPEN, RequestRow
from models.services import queueing, subscriptions
from models.services.accounts import Person
from models.sessions import SessionRow
from models.streams import RoomRow, StreamRow


class RequestView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A request as its fan sees it; amounts in tokens."""

    request_id: str
    status: str
    minutes: int
    rate_per_minute: int
    total_cost: int
    balance: int
    expires_at: datetime
    remaining_ms: int
    """Until ``expiresAt``, for whoever's clock differs from ours; 0 when it is answered."""
    position: int | None = None
    """Its place in the creator's queue, from 1, while it waits there."""
    turn: bool = False
    """Its turn has come: ``private-reconfirm`` until ``expiresAt``."""
    payment_mode: str = "prepaid"
    included_minutes: int = 0
    unlock_price: int = 0
    """Part of ``totalCost``; comes back where it cannot begin at once."""
    close_reason: str | None = None
    session_id: str | None = None
    room_id: str | None = None


class AskingFan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a creator learns about who asks."""

    handle: str
    avatar_url: str | None
    subscriber: bool
    is_mock: bool


class CreatorRequestView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request as its creator sees it. ``viewers`` would have to leave.

    ``earnings`` if all minutes are used and the creator accepts by hand, which unlocks nothing.
    """

    request_id: str
    fan: AskingFan
    minutes: int
    rate_per_minute: int
    total_cost: int
    earnings: int
    payment_mode: str
    included_minutes: int
    """Of ``minutes``: paid by the fan's subscription already."""
    unlock_price: int
    status: str
    created_at: datetime
    expires_at: datetime
    position: int
    turn: bool
    """Its fan was called and has not confirmed yet; ``expiresAt`` says until when."""
    viewers: int


def requests_for(tx: Session, creator_id: str, now: datetime) -> tuple[CreatorRequestView, ...]:
    """A creator's open requests: those that can be answered now, then the queue, each in the creator's order."""
    found = tx.execute(
        select(RequestRow, PersonRow, RoomRow.viewers)
        .join(PersonRow, PersonRow.id == RequestRow.fan_id)
        .join(StreamRow, StreamRow.id == RequestRow.stream_id)
        .outerjoin(RoomRow, RoomRow.id == StreamRow.room_id)
        .where(RequestRow.creator_id == creator_id, RequestRow.status.in_(OPEN), RequestRow.expires_at > now)
    ).all()
    rows = [row for row, _, _ in found]
    ordered = queueing.ahead_first(tx, creator_id, rows, now)
    subscribers = subscriptions.subscribers_among(tx, creator_id, {row.fan_id for row in rows}, now)
    asking = {
        row.id: (
            AskingFan(
                handle=fan.handle,
                avatar_url=fan.avatar_url,
                subscriber=fan.id in subscribers,
                is_mock=fan.is_mock,
            ),
            viewers or 0,
        )
        for row, fan, viewers in found
    }
    return tuple(
        _creator_view(row, *asking[row.id], position)
        for status in ("pending", "queued")
        for position, row in enumerate((row for row in ordered if row.status == status), start=1)
    )


def _creator_view(row: RequestRow, fan: AskingFan, viewers: int, position: int) -> CreatorRequestView:
    return CreatorRequestView(
        request_id=row.id,
        fan=fan,
        minutes=row.requested_minutes,
        rate_per_minute=row.rate_per_minute,
        total_cost=row.total_cost,
        earnings=pricing.split(row.total_cost - row.unlock_price, row.commission_percent)[0],
        payment_mode=row.payment_mode,
        included_minutes=row.included_minutes,
        unlock_price=row.unlock_price,
        status=row.status,
        created_at=row.created_at,
        expires_at=row.expires_at,
        position=position,
        turn=row.status == "queued" and row.turn_at is not None,
        viewers=viewers,
    )


def open_request_of(
    tx: Session, fan_id: str, creator_id: str, now: datetime | None = None
) -> RequestView | None:
    """The fan's open request to that creator, if any."""
    row = tx.scalar(
        select(RequestRow).where(
            RequestRow.fan_id == fan_id, RequestRow.creator_id == creator_id, RequestRow.status.in_(OPEN)
        )
    )
    return None if row is None else view(tx, row, now or utc_now())


def request_view(tx: Session, request_id: str, person: Person, now: datetime | None = None) -> RequestView:
    """One request for its fan or its creator; the balance is the fan's own. Raises NotFound."""
    row = tx.get(RequestRow, request_id, populate_existing=True)
    if row is None or person.user_id not in (row.fan_id, row.creator_id):
        raise no_such_request()
    seen = view(tx, row, now or utc_now())
    return seen if person.user_id == row.fan_id else msgspec.structs.replace(seen, balance=0)


def view(tx: Session, row: RequestRow, now: datetime) -> RequestView:
    """The request as its fan sees it now."""
    session = None
    if row.status == "accepted":
        session = tx.scalar(select(SessionRow).where(SessionRow.request_id == row.id))
    return RequestView(
        request_id=row.id,
        status=row.status,
        minutes=row.requested_minutes,
        rate_per_minute=row.rate_per_minute,
        total_cost=row.total_cost,
        balance=ledger.balance(tx, ledger.account_id("wallet", row.fan_id)),
        expires_at=row.expires_at,
        remaining_ms=max(0, (row.expires_at - now) // timedelta(milliseconds=1)) if row.status in OPEN else 0,
        position=queueing.position(tx, row, now),
        turn=row.status == "queued" and row.turn_at is not None,
        payment_mode=row.payment_mode,
        included_minutes=row.included_minutes,
        unlock_price=row.unlock_price,
        close_reason=row.close_reason,
        session_id=session.id if session else None,
        room_id=session.room_id if session else None,
    )


def no_such_request() -> NotFound:
    """What whoever has no part in a request is told."""
    return NotFound("There is no such request.")
