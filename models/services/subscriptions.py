"""Subscriptions to creators: beginning, ending, and what a month's payment gives.

A period is paid before it begins and exactly once (its payment's key names it); benefits are those of a
period that was paid for and is not over. The price and the included minutes are copied when the fan
subscribes and stay: a creator's new price is for those who subscribe after it. Renewing is in ``renewals``,
the minutes in ``included_minutes``, whose functions are named here too.

Locks: the fan, then the subscription, then accounts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.config import Settings
from models.errors import Conflict, Forbidden, NotFound
from models.machine import move
from models.months import next_month
from models.people import BlockRow, PersonRow
from models.services import accounts
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.included_minutes import (
    active_query,
    is_active,
    left,
    left_of,
    minutes_left,
    reserve_minutes,
    return_minutes,
    subscribers_among,
)
from models.services.locks import lock_people, locked
from models.streams import CreatorSettingsRow
from models.subscriptions import SubscriptionRow

__all__ = [
    "EndReason",
    "PaidBy",
    "SubscriptionOffer",
    "SubscriptionView",
    "between",
    "cancel",
    "changed",
    "check_offer",
    "end",
    "is_active",
    "minutes_left",
    "of_fan",
    "offer_of",
    "pay",
    "payment_good_again",
    "payment_taken_back",
    "reserve_minutes",
    "resume",
    "return_minutes",
    "subscribe",
    "subscriber_count",
    "subscribers_among",
    "view_of",
]

PaidBy = Literal["tokens", "gateway"]
EndReason = Literal["cancelled", "unpaid", "replaced", "blocked", "not_offered"]
Status = Literal["active", "ending", "unpaid", "ended"]

MOST_SHOWN = 100


class SubscriptionOffer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a creator offers now: tokens a month, and what a month gives."""

    price_tokens: int
    included_minutes: int
    discount_percent: int


class SubscriptionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A subscription as its fan sees it; ``creator`` fields name whom it is to.

    ``status``: ``active`` renews at ``periodEnd``, ``ending`` ends there, ``unpaid`` could not be renewed yet
    and has no benefits.
    """

    subscription_id: str
    creator_id: str
    handle: str
    display_name: str
    avatar_url: str | None
    status: Status
    price_tokens: int
    included_minutes: int
    minutes_left: int
    paid_by: str
    period_start: datetime
    period_end: datetime
    created_at: datetime
    next_try_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None


# --- what others ask --------------------------------------------------------------------------------


def offer_of(tx: Session, creator_id: str) -> SubscriptionOffer | None:
    """What the creator offers now; None: no subscriptions."""
    row = tx.get(CreatorSettingsRow, creator_id, populate_existing=True)
    if row is None or row.subscription_price is None:
        return None
    return SubscriptionOffer(
        price_tokens=row.subscription_price,
        included_minutes=row.subscription_minutes,
        discount_percent=row.subscriber_discount_percent,
    )


def subscriber_count(tx: Session, creator_id: str, now: datetime) -> int:
    """How many have the benefits now."""
    query = select(func.count()).where(
        SubscriptionRow.creator_id == creator_id,
        SubscriptionRow.status == "active",
        SubscriptionRow.period_end > now,
    )
    return tx.scalar(query) or 0


# --- subscribing ------------------------------------------------------------------------------------


def check_offer(
    tx: Session, *, fan: Person, creator_id: str, now: datetime, max_price: int | None, min_minutes: int | None
) -> SubscriptionOffer:
    """What subscribing now would cost and give.

    Raises NotFound, Forbidden (OWN_STREAM, NOT_A_FAN, BLOCKED), Conflict (SUBSCRIPTION_NOT_OFFERED,
    ALREADY_SUBSCRIBED, PRICE_CHANGED when it costs more than ``max_price`` or gives less than ``min_minutes``).
    """
    accounts.require_patron(tx, fan, creator_id, "Only fans subscribe.")
    if tx.get(BlockRow, (creator_id, fan.user_id)) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")
    offer = offer_of(tx, creator_id)
    if offer is None or accounts.is_locked(tx, creator_id):
        raise Conflict("This creator offers no subscription now.", code="SUBSCRIPTION_NOT_OFFERED")
    if is_active(tx, fan.user_id, creator_id, now):
        raise Conflict("You have a subscription to this creator.", code="ALREADY_SUBSCRIBED")
    dearer = max_price is not None and offer.price_tokens > max_price
    if dearer or (min_minutes is not None and offer.included_minutes < min_minutes):
        raise Conflict(
            "The subscription has changed.",
            code="PRICE_CHANGED",
            total_cost=offer.price_tokens,
            included_minutes=offer.included_minutes,
        )
    return offer


def subscribe(
    tx: Session,
    *,
    fan: Person,
    creator_id: str,
    paid_by: PaidBy = "tokens",
    max_price: int | None = None,
    min_minutes: int | None = None,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> SubscriptionView:
    """Begin a subscription and pay its first month, in one transaction.

    One that could not be renewed and waits for money is ended and replaced, at today's price. Raises as
    ``check_offer``, and as ``ledger.pay``: PaymentRequired, Forbidden (SPENDING_FROZEN, SPENDING_CAP).
    """
    lock_people(tx, fan.user_id)
    offer = check_offer(tx, fan=fan, creator_id=creator_id, now=now, max_price=max_price, min_minutes=min_minutes)
    if (lapsed := _active_row(tx, fan.user_id, creator_id)) is not None:
        end(tx, lapsed, "replaced", now)
    row = SubscriptionRow(
        id=ids.new_id(ids.SUBSCRIPTION),
        fan_id=fan.user_id,
        creator_id=creator_id,
        status="active",
        price_tokens=offer.price_tokens,
        included_minutes=offer.included_minutes,
        commission_percent=settings.commission_percent,
        paid_by=paid_by,
        anchor_at=now,
        period=1,
        period_start=now,
        period_end=next_month(now, now),
        next_try_at=next_month(now, now),
        cause_id=cause_id,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    pay(tx, row, 1, now)
    changed(tx, row, now)
    log.event("subscribed", subscription_id=row.id, paid_by=paid_by, cause_id=cause_id)
    return view_of(tx, row, now)


def cancel(tx: Session, subscription_id: str, *, fan_id: str, now: datetime) -> SubscriptionView:
    """It will not be renewed; its benefits last until the period ends. Again is no harm.

    One whose paid time is over already ends at once. Raises NotFound, Conflict SUBSCRIPTION_ENDED.
    """
    row = _own(tx, subscription_id, fan_id)
    if row.period_end <= now:
        end(tx, row, "cancelled", now)
    elif not row.cancel_at_period_end:
        row.cancel_at_period_end = True
        tx.flush()
        changed(tx, row, now)
    return view_of(tx, row, now)


def resume(tx: Session, subscription_id: str, *, fan_id: str, now: datetime) -> SubscriptionView:
    """Take a cancellation back before the period ends. Again is no harm. Raises NotFound, Conflict."""
    row = _own(tx, subscription_id, fan_id)
    if row.period_end <= now:
        raise Conflict("The paid month is over.", code="SUBSCRIPTION_ENDED")
    if row.cancel_at_period_end:
        row.cancel_at_period_end = False
        tx.flush()
        changed(tx, row, now)
    return view_of(tx, row, now)


def payment_taken_back(tx: Session, reference: str, now: datetime) -> None:
    """The payment ``reference`` was found bad: if it was of the running period, the subscription ends now.

    Harmless for any other reference.
    """
    subscription_id, _, period = reference.partition(":")
    row = locked(tx, SubscriptionRow, subscription_id)
    if row is not None and row.status == "active" and str(row.period) == period:
        end(tx, row, "unpaid", now)


def payment_good_again(tx: Session, reference: str, now: datetime) -> None:
    """The payment ``reference`` is good after all: the creator has it again, and the fan the rest of its month.

    Harmless for any other reference, once the month is over, and where the fan has subscribed anew.
    """
    subscription_id, _, period = reference.partition(":")
    row = locked(tx, SubscriptionRow, subscription_id)
    if row is None or (row.status, row.end_reason, str(row.period)) != ("ended", "unpaid", period):
        return
    blocked = tx.get(BlockRow, (row.creator_id, row.fan_id), populate_existing=True) is not None
    if row.period_end <= now or blocked or _active_row(tx, row.fan_id, row.creator_id) is not None:
        return
    move(tx, SubscriptionRow, row.id, "ended", "active", ended_at=None, end_reason=None)
    tx.refresh(row)
    changed(tx, row, now)
    log.event("subscription_resumed", subscription_id=row.id, cause_id=row.cause_id)


# --- views ------------------------------------------------------------------------------------------


def of_fan(tx: Session, fan_id: str, now: datetime) -> tuple[SubscriptionView, ...]:
    """The fan's subscriptions: those that have not ended first, then the latest ended."""
    found = tx.execute(
        select(SubscriptionRow, PersonRow)
        .join(PersonRow, PersonRow.id == SubscriptionRow.creator_id)
        .where(SubscriptionRow.fan_id == fan_id)
        .order_by(SubscriptionRow.status, SubscriptionRow.created_at.desc(), SubscriptionRow.id)
        .limit(MOST_SHOWN)
    ).all()
    minutes = left_of(tx, [row for row, _ in found])
    return tuple(_view(row, creator, minutes[row.id], now) for row, creator in found)


def between(tx: Session, fan_id: str, creator_id: str, now: datetime) -> SubscriptionView | None:
    """The fan's subscription to that creator that has not ended."""
    row = tx.scalar(active_query(fan_id, creator_id))
    return None if row is None else view_of(tx, row, now)


def view_of(tx: Session, row: SubscriptionRow, now: datetime) -> SubscriptionView:
    """The row as its fan sees it."""
    return _view(row, tx.get_one(PersonRow, row.creator_id), left(tx, row), now)


def _view(row: SubscriptionRow, creator: PersonRow, minutes: int, now: datetime) -> SubscriptionView:
    status: Status = "ended"
    if row.status == "active":
        status = "ending" if row.cancel_at_period_end else "active"
        status = "unpaid" if row.period_end <= now else status
    return SubscriptionView(
        subscription_id=row.id,
        creator_id=row.creator_id,
        handle=creator.handle,
        display_name=creator.display_name,
        avatar_url=creator.avatar_url,
        status=status,
        price_tokens=row.price_tokens,
        included_minutes=row.included_minutes,
        minutes_left=minutes if status in ("active", "ending") else 0,
        paid_by=row.paid_by,
        period_start=row.period_start,
        period_end=row.period_end,
        created_at=row.created_at,
        next_try_at=row.next_try_at if status == "unpaid" else None,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
    )


# --- shared with renewals ---------------------------------------------------------------------------


def pay(tx: Session, row: SubscriptionRow, period: int, now: datetime) -> None:
    """Pay one period, once whatever is repeated; what was given costs nothing. Raises as ``ledger.pay``."""
    if row.price_tokens == 0:
        return
    reference = f"{row.id}:{period}"
    ledger.pay(
        tx,
        row.fan_id,
        creator_id=row.creator_id,
        amount=row.price_tokens,
        commission_percent=row.commission_percent,
        kind="subscription",
        key=reference,
        reference=reference,
        cause_id=row.cause_id,
        now=now,
    )
    balance_changed(tx, row.fan_id, now)
    balance_changed(tx, row.creator_id, now)


def end(tx: Session, row: SubscriptionRow, reason: EndReason, now: datetime) -> None:
    """It is over; both are told."""
    move(tx, SubscriptionRow, row.id, "active", "ended", ended_at=now, end_reason=reason)
    tx.refresh(row)
    changed(tx, row, now)
    log.event("subscription_ended", subscription_id=row.id, reason=reason, cause_id=row.cause_id)


def changed(tx: Session, row: SubscriptionRow, now: datetime) -> None:
    """Both sides look again: the fan at the subscription, the creator at the number of subscribers."""
    status = view_of(tx, row, now).status
    for person_id, other_id in ((row.fan_id, row.creator_id), (row.creator_id, row.fan_id)):
        other = tx.get_one(PersonRow, other_id)
        tell(
            tx,
            person_id,
            "SUBSCRIPTION_CHANGED",
            now,
            subscriptionId=row.id,
            creatorId=row.creator_id,
            handle=other.handle,
            displayName=other.display_name,
            status=status,
            reason=row.end_reason,
            period=row.period,
        )


def _active_row(tx: Session, fan_id: str, creator_id: str) -> SubscriptionRow | None:
    found = tx.scalar(active_query(fan_id, creator_id))
    row = None if found is None else locked(tx, SubscriptionRow, found.id)
    return row if row is not None and row.status == "active" else None


def _own(tx: Session, subscription_id: str, fan_id: str) -> SubscriptionRow:
    row = locked(tx, SubscriptionRow, subscription_id)
    if row is None or row.fan_id != fan_id:
        raise NotFound("There is no such subscription.")
    if row.status == "ended":
        raise Conflict("The subscription has ended.", code="SUBSCRIPTION_ENDED")
    return row
