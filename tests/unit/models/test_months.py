"""Calendar months from an anchor: every day of the month, over years, leap days among them."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.months import months_after, next_month

moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


def day(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}T09:30:00+00:00")


@pytest.mark.parametrize(
    ("anchor", "months"),
    [
        ("2026-01-31", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2028-01-31", ["2028-02-29", "2028-03-31"]),
        ("2028-01-30", ["2028-02-29", "2028-03-30"]),
        ("2026-11-15", ["2026-12-15", "2027-01-15"]),
        ("2026-12-31", ["2027-01-31", "2027-02-28", "2027-03-31"]),
    ],
)
def test_a_month_keeps_the_day_that_it_began_on(anchor: str, months: list[str]) -> None:
    moment, found = day(anchor), []
    for _ in months:
        moment = next_month(day(anchor), moment)
        found.append(moment)
    assert found == [day(text) for text in months]


@given(anchor=moments, count=st.integers(1, 400))
def test_each_renewal_is_one_month_after_the_last(anchor: datetime, count: int) -> None:
    """However many months have passed, the next one is exactly the next, and its day the anchor's or the last."""
    before, after = months_after(anchor, count), next_month(anchor, months_after(anchor, count))
    assert after == months_after(anchor, count + 1)
    assert (after.year * 12 + after.month) - (before.year * 12 + before.month) == 1
    assert after.day == min(anchor.day, calendar.monthrange(after.year, after.month)[1])
    assert timedelta(days=28) <= after - before <= timedelta(days=31)
    assert after.timetz() == anchor.timetz()


@given(anchor=moments, seconds=st.integers(0, 400 * 86_400))
def test_the_next_month_is_the_first_one_later(anchor: datetime, seconds: int) -> None:
    after = anchor + timedelta(seconds=seconds)
    found = next_month(anchor, after)
    assert found > after
    count = (found.year - anchor.year) * 12 + found.month - anchor.month
    assert count == 1 or months_after(anchor, count - 1) <= after


def test_another_zone_is_the_same_moment() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert next_month(day("2026-01-31").astimezone(tokyo), day("2026-01-31")) == day("2026-02-28")
