"""What a creator asks for a private stream, and what that comes to for one fan."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy.orm import Session

from models import ledger, pricing
from models.db import insert_into
from models.errors import Invalid, NotFound
from models.people import PersonRow, SubscriptionRow
from models.streams import AUTO_ACCEPT, CreatorSettingsRow

AutoAccept = Literal["manual", "all", "subscribers"]


class PrivateSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A creator's settings; rate in tokens per minute."""

    creator_id: str
    enabled: bool
    rate_per_minute: int
    min_minutes: int
    auto_accept: AutoAccept
    subscriber_discount_percent: int = 0


class Quote(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The price for one fan; ``rate_per_minute`` after the discount, amounts in tokens."""

    rate_per_minute: int
    minutes: int
    total_cost: int
    discount_percent: int
    balance: int
    affordable: bool


def get_settings(tx: Session, creator_id: str) -> PrivateSettings:
    """The creator's settings, or the defaults; raises NotFound when that is no creator."""
    person = tx.get(PersonRow, creator_id)
    if person is None or not person.is_creator:
        raise NotFound("There is no such creator.")
    row = tx.get(CreatorSettingsRow, creator_id, populate_existing=True)
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
        .values(creator_id=creator_id, private_stream_queue=False, subscriber_discount_percent=0, **values)
        .on_conflict_do_update(index_elements=["creator_id"], set_=values)
    )
    return get_settings(tx, creator_id)


def is_subscriber(tx: Session, fan_id: str, creator_id: str) -> bool:
    """Whether the fan has an active subscription to the creator."""
    row = tx.get(SubscriptionRow, (fan_id, creator_id), populate_existing=True)
    return row is not None and row.active


def price_for(tx: Session, fan_id: str, settings: PrivateSettings, minutes: int) -> pricing.Price:
    """What the fan would pay; the discount is for subscribers. Raises Invalid for minutes outside 1–240."""
    subscriber = settings.subscriber_discount_percent > 0 and is_subscriber(tx, fan_id, settings.creator_id)
    return pricing.price(
        rate_per_minute=settings.rate_per_minute,
        min_minutes=settings.min_minutes,
        minutes=minutes,
        discount_percent=settings.subscriber_discount_percent if subscriber else 0,
    )


def quote(tx: Session, fan_id: str, creator_id: str, minutes: int | None = None) -> Quote:
    """The fan's price for ``minutes`` (the creator's minimum when None); raises NotFound, Invalid."""
    settings = get_settings(tx, creator_id)
    price = price_for(tx, fan_id, settings, settings.min_minutes if minutes is None else minutes)
    balance = ledger.balance(tx, ledger.account_id("wallet", fan_id))
    return Quote(
        rate_per_minute=price.rate_per_minute,
        minutes=price.minutes,
        total_cost=price.total_cost,
        discount_percent=price.discount_percent,
        balance=balance,
        affordable=balance >= price.total_cost,
    )
