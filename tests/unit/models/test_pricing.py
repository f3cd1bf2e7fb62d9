"""The price of a private stream: docs/money.md, "Price"."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import pricing
from models.errors import Invalid

rates = st.integers(1, 100_000)
discounts = st.integers(0, 90)
minutes = st.integers(1, 240)
minimums = st.integers(1, 60)
percents = st.integers(0, 100)


@pytest.mark.parametrize(
    ("rate", "discount", "session_rate"),
    [(100, 0, 100), (100, 15, 85), (99, 10, 90), (1, 90, 1), (10, 90, 1), (11, 90, 2), (100_000, 90, 10_000)],
)
def test_a_sessions_rate_is_discounted_and_rounded_up(rate: int, discount: int, session_rate: int) -> None:
    assert pricing.session_rate(rate, discount) == session_rate


def test_the_total_is_for_the_larger_of_requested_and_minimum() -> None:
    short = pricing.price(rate_per_minute=100, min_minutes=5, minutes=3)
    long = pricing.price(rate_per_minute=100, min_minutes=5, minutes=10)
    assert (short.total_cost, short.paid_minutes, short.minutes) == (500, 5, 3)
    assert (long.total_cost, long.paid_minutes, long.minutes) == (1000, 10, 10)


@pytest.mark.parametrize(
    ("minutes", "left", "unlock", "included", "total"),
    [
        (10, 0, 0, 0, 850),
        (10, 4, 0, 4, 510),
        (10, 10, 0, 10, 0),
        (10, 99, 0, 10, 0),
        (3, 4, 0, 4, 85),
        (10, 4, 250, 4, 760),
        (10, 99, 250, 10, 250),
        (10, -1, 0, 0, 850),
    ],
)
def test_included_minutes_come_off_and_the_unlock_goes_on(
    minutes: int, left: int, unlock: int, included: int, total: int
) -> None:
    """A discount of 15 % on 100 tokens, minimum 5; the unlock price is not discounted."""
    price = pricing.price(
        rate_per_minute=100,
        min_minutes=5,
        minutes=minutes,
        discount_percent=15,
        included_minutes=left,
        unlock_price=unlock,
    )
    assert (price.included_minutes, price.unlock_price, price.total_cost) == (included, unlock, total)


@given(rates, minimums, minutes, discounts, st.integers(0, 600), st.integers(0, 1_000_000))
def test_the_total_is_what_is_not_included_and_the_unlock(
    rate: int, minimum: int, asked: int, discount: int, left: int, unlock: int
) -> None:
    price = pricing.price(
        rate_per_minute=rate,
        min_minutes=minimum,
        minutes=asked,
        discount_percent=discount,
        included_minutes=left,
        unlock_price=unlock,
    )
    assert price.paid_minutes == max(asked, minimum)
    assert 0 <= price.included_minutes <= min(left, price.paid_minutes)
    assert price.total_cost - unlock == (price.paid_minutes - price.included_minutes) * price.rate_per_minute
    assert price.included_minutes == left or price.total_cost == unlock


@given(rates, discounts)
def test_a_sessions_rate_is_never_zero_and_less_than_one_token_above_the_exact_one(
    rate: int, discount: int
) -> None:
    exact = Fraction(rate * (100 - discount), 100)
    assert pricing.session_rate(rate, discount) >= 1
    assert exact <= pricing.session_rate(rate, discount) < exact + 1


@given(rates, minimums, minutes, discounts)
def test_more_minutes_never_cost_less(rate: int, minimum: int, asked: int, discount: int) -> None:
    def cost(asked: int) -> int:
        return pricing.price(
            rate_per_minute=rate, min_minutes=minimum, minutes=asked, discount_percent=discount
        ).total_cost

    assert cost(asked) <= cost(min(240, asked + 1)) <= pricing.LARGEST_AMOUNT
    assert cost(asked) % pricing.session_rate(rate, discount) == 0


@given(st.integers(0, pricing.LARGEST_AMOUNT), percents)
def test_earnings_and_commission_are_the_whole_amount(amount: int, percent: int) -> None:
    earnings, commission = pricing.split(amount, percent)
    assert earnings + commission == amount
    assert min(earnings, commission) >= 0
    assert commission == amount * percent // 100


@pytest.mark.parametrize("asked", [0, -1, 241, 1.5, "5", True, None, 2**64])
def test_minutes_outside_1_to_240_are_refused_and_the_field_is_named(asked: int) -> None:
    with pytest.raises(Invalid) as refusal:
        pricing.price(rate_per_minute=100, min_minutes=5, minutes=asked)
    assert refusal.value.fields["field"] == "minutes"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"rate_per_minute": 0}, "rate"),
        ({"rate_per_minute": 100_001}, "rate"),
        ({"min_minutes": 0}, "minMinutes"),
        ({"min_minutes": 61}, "minMinutes"),
        ({"discount_percent": 91}, "discountPercent"),
        ({"discount_percent": -1}, "discountPercent"),
        ({"unlock_price": -1}, "instantUnlock"),
        ({"unlock_price": 1_000_001}, "instantUnlock"),
    ],
)
def test_what_a_creator_cannot_have_set_is_refused(changed: dict[str, int], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        pricing.price(**{"rate_per_minute": 100, "min_minutes": 5, "minutes": 5} | changed)
    assert refusal.value.fields["field"] == field


@pytest.mark.parametrize("amount", [-1, 2**63])
def test_amounts_beyond_63_bits_are_refused(amount: int) -> None:
    with pytest.raises(Invalid):
        pricing.split(amount, 20)


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_commission_is_a_percentage(percent: int) -> None:
    with pytest.raises(Invalid):
        pricing.split(100, percent)
