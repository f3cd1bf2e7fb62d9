"""Requests for private streams: asking, answering, taking back, letting expire.

Settings and prices are in ``offers``, accepting in ``acceptance``, how each side sees a request in
``request_views``; all are named here too, so that web and workers find all of it in one place.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from models import ids, ledger, pricing
from models.config import Settings
from models.errors import Conflict, Forbidden, NotFound, RateLimited
from models.people import BlockRow
from models.requests import OPEN, PaymentMode, RequestRow
from models.services import engaged, queueing, subscriptions
from models.services.acceptance import AcceptedView, accept, apply_rule
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.closing import close_request, open_requests
from models.services.locks import lock_people, locked, one_by_one
from models.services.offers import (
    PrivateSettings,
    Quote,
    get_options,
    get_settings,
    price_for,
    put_settings,
    quote,
    unlock_price_for,
)
from models.services.request_views import (
    AskingFan,
    CreatorRequestView,
    RequestView,
    no_such_request,
    open_request_of,
    request_view,
    requests_for,
    view,
)
from models.streams import StreamRow
from models.timing import MINUTE_MS

__all__ = [
    "AcceptedView",
    "AskingFan",
    "CreatorRequestView",
    "PrivateSettings",
    "Quote",
    "RequestView",
    "accept",
    "apply_rule",
    "cancel",
    "decline",
    "expire_due",
    "get_settings",
    "open_request_of",
    "put_settings",
    "quote",
    "request",
    "request_view",
    "requests_for",
]

OPEN_PER_FAN = 3
IN_A_ROW = 2
COOLDOWN_MS = 300_000
MOST_AT_ONCE = 100

# Built once: the clock asks each round, and building it took longer than executing it.
_EXPIRED = (
    select(RequestRow)
    .where(RequestRow.status.in_(OPEN), RequestRow.expires_at <= bindparam("now"))
    .order_by(RequestRow.expires_at, RequestRow.id)
    .limit(MOST_AT_ONCE)
    .with_for_update(skip_locked=True, key_share=True)
    .execution_options(populate_existing=True)
)


def request(
    tx: Session,
    *,
    fan: Person,
    creator_id: str,
    stream_id: str,
    minutes: int,
    max_total_cost: int | None = None,
    payment_mode: PaymentMode = "prepaid",
    instant_unlock: bool = False,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> RequestView:
    """Ask for a private stream: the whole price is held in the same transaction, included minutes first.

    By the minute that is the creator's minimum, whatever ``minutes`` says. An instant unlock never waits: a
    creator who is busy or booked refuses it. Raises Invalid, NotFound, Forbidden (NOT_A_FAN, OWN_STREAM,
    BLOCKED, SPENDING_FROZEN, SPENDING_CAP), Conflict (NOT_OFFERED, STREAM_NOT_LIVE, PRIVATE_DISABLED,
    CREATOR_BUSY, CREATOR_UNAVAILABLE, FAN_BOOKED, FAN_BUSY, REQUEST_PENDING, TOO_MANY_REQUESTS,
    PRICE_CHANGED), RateLimited COOLDOWN, PaymentRequired.
    """
    offer = get_settings(tx, creator_id)
    if payment_mode == "per_minute":
        minutes = offer.min_minutes
    paid_minutes = price_for(tx, fan.user_id, offer, minutes, now).paid_minutes
    _may_ask(tx, fan, creator_id)
    unlock = _way_to_pay(tx, fan.user_id, offer, payment_mode, instant_unlock, now)
    lock_people(tx, fan.user_id)
    place = _place(tx, creator_id, stream_id, offer, now, settings.minute_ms, at_once=unlock > 0)
    _is_free(tx, fan.user_id, creator_id, now, settings.minute_ms)
    if place.status == "pending":
        engaged.require_unbooked(
            tx,
            creator_id=creator_id,
            fan_id=fan.user_id,
            now=now,
            minutes=paid_minutes,
            minute_ms=settings.minute_ms,
        )
    request_id = ids.new_id(ids.REQUEST)
    included = subscriptions.reserve_minutes(tx, fan.user_id, creator_id, paid_minutes, request_id, now)
    price = price_for(
        tx, fan.user_id, offer, minutes, now, included_minutes=included, unlock_price=unlock
    )
    if max_total_cost is not None and price.total_cost > max_total_cost:
        raise Conflict(
            "The price has changed.",
            code="PRICE_CHANGED",
            total_cost=price.total_cost,
            rate_per_minute=price.rate_per_minute,
        )
    row = _write(
        tx, request_id, fan.user_id, offer, stream_id, price, payment_mode, place, now, settings, cause_id
    )
    if row.total_cost > 0:
        ledger.hold(
            tx, fan.user_id, row.total_cost, key=f"hold:{row.id}", reference=row.id, cause_id=cause_id, now=now
        )
    if place.status == "pending":
        queueing.ask_rules(tx, row, now)
    tell(
        tx,
        creator_id,
        "PRIVATE_REQUESTED",
        now,
        requestId=row.id,
        handle=fan.handle,
        minutes=row.requested_minutes,
        totalCost=row.total_cost,
    )
    balance_changed(tx, fan.user_id, now)
    return view(tx, row, now)


def decline(tx: Session, request_id: str, *, creator_id: str, now: datetime) -> None:
    """The creator says no; the tokens are free in the same transaction. Raises NotFound, Conflict."""
    row = _open_request(tx, request_id)
    if row.creator_id != creator_id:
        raise no_such_request()
    close_request(tx, _still_open(row, now), "declined", now)
    queueing.tell_positions(tx, row.creator_id, now)


def cancel(tx: Session, request_id: str, *, fan_id: str, now: datetime) -> None:
    """The fan takes it back; the tokens are free in the same transaction. Raises NotFound, Conflict."""
    row = _open_request(tx, request_id)
    if row.fan_id != fan_id:
        raise no_such_request()
    close_request(tx, _still_open(row, now), "cancelled", now)
    queueing.tell_positions(tx, row.creator_id, now)


def expire_due(tx: Session, now: datetime) -> int:
    """Let requests expire whose time is up; how many."""
    due = tx.scalars(_EXPIRED, {"now": now}).all()
    return one_by_one(tx, due, lambda row: close_request(tx, row, "expired", now, queueing.why_expired(row)))


# --- what asking requires ----------------------------------------------------------------------------


def _may_ask(tx: Session, fan: Person, creator_id: str) -> None:
    if fan.user_id == creator_id:
        raise Forbidden("This is your own stream.", code="OWN_STREAM")
    if "fan" not in fan.roles:
        raise Forbidden("Only fans ask for private streams.", code="NOT_A_FAN")
    if tx.get(BlockRow, (creator_id, fan.user_id)) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")


def _way_to_pay(
    tx: Session, fan_id: str, offer: PrivateSettings, mode: PaymentMode, instant_unlock: bool, now: datetime
) -> int:
    """What the instant unlock costs, 0 for none; Conflict NOT_OFFERED for a way that the creator does not take."""
    if mode == "per_minute" and not get_options(tx, offer.creator_id).per_minute:
        raise Conflict(
            "The creator does not take payment by the minute.", code="NOT_OFFERED", field="paymentMode"
        )
    if not instant_unlock:
        return 0
    price = unlock_price_for(tx, fan_id, offer, now)
    if price is None:
        raise Conflict("The creator does not offer instant unlock.", code="NOT_OFFERED", field="instantUnlock")
    return price


def _place(
    tx: Session,
    creator_id: str,
    stream_id: str,
    offer: PrivateSettings,
    now: datetime,
    minute_ms: int,
    *,
    at_once: bool,
) -> queueing.Place:
    # Shared: requests do not wait for one another, an acceptance waits for them and they for it.
    stream = tx.scalar(
        select(StreamRow)
        .where(StreamRow.id == stream_id, StreamRow.creator_id == creator_id)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    if stream is None:
        raise NotFound("There is no such stream.")
    place = queueing.place(tx, stream, now=now, minute_ms=minute_ms, at_once=at_once)
    if not offer.enabled:
        raise Conflict("The creator takes no private streams now.", code="PRIVATE_DISABLED")
    return place


def _is_free(tx: Session, fan_id: str, creator_id: str, now: datetime, minute_ms: int) -> None:
    if engaged.in_session(tx, fan_id):
        raise Conflict("You are in a private stream.", code="FAN_BUSY")
    mine = open_requests(tx, fan_id=fan_id)
    for row in mine:
        if row.creator_id == creator_id:
            raise Conflict(
                "You already have a request open with this creator.", code="REQUEST_PENDING", request_id=row.id
            )
    if len(mine) >= OPEN_PER_FAN:
        raise Conflict(
            f"You have {OPEN_PER_FAN} requests open already.", code="TOO_MANY_REQUESTS", limit=OPEN_PER_FAN
        )
    _not_cooling_down(tx, fan_id, creator_id, now, minute_ms)


def _not_cooling_down(tx: Session, fan_id: str, creator_id: str, now: datetime, minute_ms: int) -> None:
    """After two cancels or declines in a row this pair waits; endings by circumstances do not count."""
    last = tx.scalars(
        select(RequestRow)
        .where(
            RequestRow.fan_id == fan_id, RequestRow.creator_id == creator_id, RequestRow.answered_at.is_not(None)
        )
        .order_by(RequestRow.answered_at.desc(), RequestRow.created_at.desc())
        .limit(IN_A_ROW)
    ).all()
    refused = [row for row in last if row.status in ("cancelled", "declined") and row.close_reason is None]
    if len(refused) < IN_A_ROW or refused[0].answered_at is None:
        return
    until = refused[0].answered_at + timedelta(milliseconds=COOLDOWN_MS * minute_ms // MINUTE_MS)
    if until > now:
        seconds = -(-(until - now) // timedelta(seconds=1))
        raise RateLimited("Wait a little before you ask again.", code="COOLDOWN", retry_after_seconds=seconds)


def _write(
    tx: Session,
    request_id: str,
    fan_id: str,
    offer: PrivateSettings,
    stream_id: str,
    price: pricing.Price,
    payment_mode: PaymentMode,
    place: queueing.Place,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> RequestRow:
    row = RequestRow(
        id=request_id,
        fan_id=fan_id,
        creator_id=offer.creator_id,
        stream_id=stream_id,
        minimum_minutes=price.min_minutes,
        requested_minutes=price.minutes,
        list_rate=offer.rate_per_minute,
        rate_per_minute=price.rate_per_minute,
        discount_percent=price.discount_percent,
        commission_percent=settings.commission_percent,
        minute_ms=settings.minute_ms,
        payment_mode=payment_mode,
        included_minutes=price.included_minutes,
        unlock_price=price.unlock_price,
        total_cost=price.total_cost,
        status=place.status,
        cause_id=cause_id,
        created_at=now,
        expires_at=place.expires_at,
    )
    tx.add(row)
    tx.flush()
    return row


def _open_request(tx: Session, request_id: str) -> RequestRow:
    row = locked(tx, RequestRow, request_id)
    if row is None:
        raise no_such_request()
    return row


def _still_open(row: RequestRow, now: datetime) -> RequestRow:
    if row.status not in OPEN or row.expires_at <= now:
        status = "expired" if row.status in OPEN else row.status
        raise Conflict("The request is not pending any more.", code="REQUEST_NOT_PENDING", status=status)
    return row
