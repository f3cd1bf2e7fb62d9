"""What a creator asks for a private stream, in which ways it may be paid, and what that comes to for one fan."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from models import ledger, pricing
from models.clock import utc_now
from models.db import insert_into
from models.errors import Invalid, NotFound
from models.people import PersonRow
from models.services import subscriptions
from models.streams import AUTO_ACCEPT, REQUEST_PRIORITIES, CreatorSettingsRow

AutoAccept = Literal["manual", "all", "subscribers"]
Priority = Literal["first_come", "subscribers_first", "highest_total"]

DISCOUNTS = range(91)
PRICES = range(1, 1_000_001)
SUBSCRIPTION_MINUTES = range(601)

# Built once: whoever asks for a price asks for it, and building it took longer than executing it.
_SETTINGS = (
    select(PersonRow.is_creator, CreatorSettingsRow)
    .outerjoin(CreatorSettingsRow, CreatorSettingsRow.creator_id == PersonRow.id)
    .where(PersonRow.id == bindparam("creator_id"))
    .execution_options(populate_existing=True)
)


class PrivateSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A creator's settings; rate in tokens per minute."""

    creator_id: str
    enabled: bool
    rate_per_minute: int
    min_minutes: int
    auto_accept: AutoAccept
    subscriber_discount_percent: int = 0


class CreatorOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a creator offers beside the plain private stream. Prices in tokens; None: not offered."""

    queue: bool = False
    """Whether requests may wait while the creator is busy."""
    request_priority: Priority = "first_come"
    per_minute: bool = False
    instant_unlock_price: int | None = None
    subscription_price: int | None = None
    """A month's."""
    subscription_minutes: int = 0
    """Private minutes that a month's subscription includes."""
    subscriber_discount_percent: int = 0
    pass_price: int | None = None
    """For a day of the best picture without a subscription."""


class SubscriptionTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a month costs, in tokens, and the private minutes that it includes."""

    price: int
    minutes: int


class Quote(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The price for one fan; ``rate_per_minute`` after the discount, amounts in tokens.

    ``total_cost`` is what is held at once: by the minute that is the creator's minimum alone.
    """

    rate_per_minute: int
    minutes: int
    total_cost: int
    discount_percent: int
    balance: int
    affordable: bool
    included_minutes: int
    """Of the fan's subscription, those that this request would use."""
    included_left: int
    subscriber: bool
    per_minute: bool
    """Whether the creator takes payment minute by minute."""
    unlock_price: int | None
    """For being accepted at once; None where that is not offered, or happens without it."""
    subscription: SubscriptionTerms | None
    """What the creator offers; None: no subscriptions."""


def get_settings(tx: Session, creator_id: str) -> PrivateSettings:
    """The creator's settings, or the defaults; raises NotFound when that is no creator."""
    row = _row(tx, creator_id)
    if row is None:
        return PrivateSettings(
            creator_id=creator_id, enabled=True, rate_per_minute=100, min_minutes=5, auto_accept="manual"
        )
    return PrivateSettings(
        creator_id=creator_id,
        enabled=row.private_stream_enabled,
        rate_per_minute=row.private_stream_rate,
        min_minutes=row.private_stream_min_time,
        auto_accept=msgspec.convert(row.private_stream_auto_accept, AutoAccept),
        subscriber_discount_percent=row.subscriber_discount_percent,
    )


def put_settings(
    tx: Session,
    creator_id: str,
    *,
    enabled: bool,
    rate_per_minute: int,
    min_minutes: int,
    auto_accept: str,
    now: datetime,
) -> PrivateSettings:
    """Save the creator's settings; requests that exist keep theirs. Raises NotFound, Invalid (``field``)."""
    get_settings(tx, creator_id)
    # Names the first field that does not fit, in the words of the form.
    pricing.price(rate_per_minute=rate_per_minute, min_minutes=min_minutes, minutes=1)
    if auto_accept not in AUTO_ACCEPT:
        raise Invalid("Choose manual, all or subscribers.", field="autoAccept")
    values = {
        "private_stream_enabled": enabled,
        "private_stream_rate": rate_per_minute,
        "private_stream_min_time": min_minutes,
        "private_stream_auto_accept": auto_accept,
    }
    tx.execute(
        insert_into(tx, CreatorSettingsRow)
        .values(creator_id=creator_id, **values)
        .on_conflict_do_update(index_elements=["creator_id"], set_=values)
    )
    return get_settings(tx, creator_id)


def get_options(tx: Session, creator_id: str) -> CreatorOptions:
    """What the creator offers, or nothing beside the plain private stream; raises NotFound for no creator."""
    row = _row(tx, creator_id)
    if row is None:
        return CreatorOptions()
    return CreatorOptions(
        queue=row.private_stream_queue,
        request_priority=msgspec.convert(row.request_priority, Priority),
        per_minute=row.per_minute_enabled,
        instant_unlock_price=row.instant_unlock_price,
        subscription_price=row.subscription_price,
        subscription_minutes=row.subscription_minutes,
        subscriber_discount_percent=row.subscriber_discount_percent,
        pass_price=row.pass_price,
    )


def put_options(tx: Session, creator_id: str, options: CreatorOptions) -> CreatorOptions:
    """Save what the creator offers; requests and subscriptions that exist keep theirs.

    Raises NotFound, Invalid (``field``).
    """
    get_settings(tx, creator_id)
    _check_options(options)
    values = {
        "private_stream_queue": options.queue,
        "request_priority": options.request_priority,
        "per_minute_enabled": options.per_minute,
        "instant_unlock_price": options.instant_unlock_price,
        "subscription_price": options.subscription_price,
        "subscription_minutes": options.subscription_minutes,
        "subscriber_discount_percent": options.subscriber_discount_percent,
        "pass_price": options.pass_price,
    }
    tx.execute(
        insert_into(tx, CreatorSettingsRow)
        .values(creator_id=creator_id, **values)
        .on_conflict_do_update(index_elements=["creator_id"], set_=values)
    )
    return get_options(tx, creator_id)


def _row(tx: Session, creator_id: str) -> CreatorSettingsRow | None:
    found = tx.execute(_SETTINGS, {"creator_id": creator_id}).one_or_none()
    if found is None or not found[0]:
        raise NotFound("There is no such creator.")
    return found[1]


def _check_options(options: CreatorOptions) -> None:
    if options.request_priority not in REQUEST_PRIORITIES:
        raise Invalid("Choose first_come, subscribers_first or highest_total.", field="requestPriority")
    for value, allowed, field, what in (
        (options.instant_unlock_price, PRICES, "instantUnlockPrice", "tokens"),
        (options.subscription_price, PRICES, "subscriptionPrice", "tokens"),
        (options.pass_price, PRICES, "passPrice", "tokens"),
        (options.subscription_minutes, SUBSCRIPTION_MINUTES, "subscriptionMinutes", "minutes"),
        (options.subscriber_discount_percent, DISCOUNTS, "subscriberDiscountPercent", "percent"),
    ):
        if value is not None and value not in allowed:
            raise Invalid(f"Choose {allowed[0]:,} to {allowed[-1]:,} {what}.", field=field)


def is_subscriber(tx: Session, fan_id: str, creator_id: str, now: datetime | None = None) -> bool:
    """Whether the fan has the benefits of a subscription to the creator, now."""
    return subscriptions.is_active(tx, fan_id, creator_id, now or utc_now())


def accepts_at_once(tx: Session, fan_id: str, settings: PrivateSettings, now: datetime | None = None) -> bool:
    """Whether the creator's rule accepts this fan without being asked."""
    if settings.auto_accept == "subscribers":
        return is_subscriber(tx, fan_id, settings.creator_id, now)
    return settings.auto_accept == "all"


def unlock_price_for(
    tx: Session, fan_id: str, settings: PrivateSettings, now: datetime | None = None
) -> int | None:
    """What being accepted at once costs this fan; 0 where a rule does it anyway, None where it is not offered."""
    price = get_options(tx, settings.creator_id).instant_unlock_price
    return 0 if price is not None and accepts_at_once(tx, fan_id, settings, now) else price


def price_for(
    tx: Session,
    fan_id: str,
    settings: PrivateSettings,
    minutes: int,
    now: datetime | None = None,
    *,
    included_minutes: int = 0,
    unlock_price: int = 0,
) -> pricing.Price:
    """What the fan would pay; the discount is for subscribers. Raises Invalid for minutes outside 1–240."""
    subscriber = settings.subscriber_discount_percent > 0 and is_subscriber(tx, fan_id, settings.creator_id, now)
    return pricing.price(
        rate_per_minute=settings.rate_per_minute,
        min_minutes=settings.min_minutes,
        minutes=minutes,
        discount_percent=settings.subscriber_discount_percent if subscriber else 0,
        included_minutes=included_minutes,
        unlock_price=unlock_price,
    )


def quote(
    tx: Session,
    fan_id: str,
    creator_id: str,
    minutes: int | None = None,
    *,
    per_minute: bool = False,
    instant_unlock: bool = False,
    now: datetime | None = None,
) -> Quote:
    """The fan's price for ``minutes`` (the creator's minimum when None); raises NotFound, Invalid."""
    now = now or utc_now()
    settings, options = get_settings(tx, creator_id), get_options(tx, creator_id)
    unlock = unlock_price_for(tx, fan_id, settings, now)
    left = subscriptions.minutes_left(tx, fan_id, creator_id, now)
    price = price_for(
        tx,
        fan_id,
        settings,
        settings.min_minutes if minutes is None or per_minute else minutes,
        now,
        included_minutes=left,
        unlock_price=(unlock or 0) if instant_unlock else 0,
    )
    balance = ledger.balance(tx, ledger.account_id("wallet", fan_id))
    month = options.subscription_price
    return Quote(
        rate_per_minute=price.rate_per_minute,
        minutes=price.minutes,
        total_cost=price.total_cost,
        discount_percent=price.discount_percent,
        balance=balance,
        affordable=balance >= price.total_cost,
        included_minutes=price.included_minutes,
        included_left=left,
        subscriber=is_subscriber(tx, fan_id, creator_id, now),
        per_minute=options.per_minute,
        unlock_price=unlock or None,
        subscription=None
        if month is None
        else SubscriptionTerms(price=month, minutes=options.subscription_minutes),
    )
