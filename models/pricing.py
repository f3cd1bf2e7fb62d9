"""What a private stream costs: the only arithmetic between a creator's rate and a number of tokens.

Pure: whole tokens in, whole tokens out. It must not know of databases, people or time.
docs/money.md, "Price": a session's rate is rounded up once; commission is rounded down once; nothing else is.
"""

from __future__ import annotations

import msgspec

from models.errors import Invalid

RATES = range(1, 100_001)
REQUESTED_MINUTES = range(1, 241)
MINIMUM_MINUTES = range(1, 61)
DISCOUNT_PERCENTS = range(91)
COMMISSION_PERCENTS = range(101)
SESSION_MINUTES = range(1, 481)
"""What a session may come to with its extensions."""
UNLOCK_PRICES = range(1_000_001)
"""Tokens for being accepted at once; 0: not asked for."""
# The largest amount that a signed 64-bit column holds.
LARGEST_AMOUNT = 2**63 - 1


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of one request, as it is copied onto it and never changes for it."""

    minutes: int
    """What was asked for."""
    min_minutes: int
    paid_minutes: int
    """What is paid for, and may be used: the larger of the two."""
    rate_per_minute: int
    """Tokens, after the discount."""
    discount_percent: int
    included_minutes: int = 0
    """Of ``paid_minutes``: paid by the subscription."""
    unlock_price: int = 0
    total_cost: int


def session_rate(rate_per_minute: int, discount_percent: int) -> int:
    """Tokens per minute after the discount, rounded up, at least 1; raises Invalid."""
    _within(rate_per_minute, RATES, "rate", "a rate of {} to {} tokens per minute")
    _within(discount_percent, DISCOUNT_PERCENTS, "discountPercent", "a discount of {} to {} percent")
    return max(1, -(-rate_per_minute * (100 - discount_percent) // 100))


def price(
    *,
    rate_per_minute: int,
    min_minutes: int,
    minutes: int,
    discount_percent: int = 0,
    included_minutes: int = 0,
    unlock_price: int = 0,
) -> Price:
    """The price of ``minutes`` at a creator's rate and minimum; raises Invalid, which names the field.

    ``included_minutes`` is how many a subscription has left; no more are used than are needed.
    """
    _within(minutes, REQUESTED_MINUTES, "minutes", "{} to {} minutes")
    _within(min_minutes, MINIMUM_MINUTES, "minMinutes", "a minimum of {} to {} minutes")
    rate = session_rate(rate_per_minute, discount_percent)
    _within(unlock_price, UNLOCK_PRICES, "instantUnlock", "an unlock price of {} to {:,} tokens")
    paid_minutes = max(minutes, min_minutes)
    included = min(max(0, included_minutes), paid_minutes)
    return Price(
        minutes=minutes,
        min_minutes=min_minutes,
        paid_minutes=paid_minutes,
        rate_per_minute=rate,
        discount_percent=discount_percent,
        included_minutes=included,
        unlock_price=unlock_price,
        total_cost=checked_amount(rate * (paid_minutes - included) + unlock_price),
    )


def checked_amount(amount: int) -> int:
    """``amount``, if a ledger can hold it; raises Invalid."""
    if not 0 <= amount <= LARGEST_AMOUNT:
        raise Invalid("That is more than can be counted.", field="totalCost")
    return amount


def split(amount: int, commission_percent: int) -> tuple[int, int]:
    """``amount`` as (the creator's earnings, the platform's commission, rounded down)."""
    _within(commission_percent, COMMISSION_PERCENTS, "commissionPercent", "a commission of {} to {} percent")
    commission = checked_amount(amount) * commission_percent // 100
    return amount - commission, commission


def _within(value: int, allowed: range, field: str, words: str) -> None:
    # bool is an int to Python, and no number to anybody else.
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise Invalid(f"Choose {words.format(allowed[0], allowed[-1])}.", field=field)
