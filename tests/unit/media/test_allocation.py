"""Dividing a line: everybody's smallest first, then by rank, and nothing that goes to and fro."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from media.allocation import KEEP, KEEP_SINGLE, Want, divide
from media.layers import HIGH, LOW, MEDIUM, NONE

RATES = (150e3, 500e3, 2_500e3)


def want(rank: int = 0, wanted: int = HIGH, limit: int = NONE, **more: float) -> Want:
    return Want(rank, wanted, RATES, limit, **more)  # type: ignore[arg-type]


def test_everybody_has_a_picture_before_anybody_has_a_better_one() -> None:
    assert divide(800e3, [want(), want(), want()]).limits == (LOW, LOW, LOW)
    assert divide(1_000e3, [want(), want(), want()]).limits == (MEDIUM, LOW, LOW)
    assert divide(1_000e3, [want(), want(rank=1), want()]).limits == (LOW, MEDIUM, LOW)


def test_the_first_by_rank_gets_the_best_of_it() -> None:
    assert divide(3_200e3, [want(), want(rank=2), want(rank=1)]).limits == (LOW, HIGH, LOW)
    assert divide(200e3, [want(), want(rank=2), want(rank=1)]).limits == (NONE, LOW, NONE)


def test_nobody_gets_more_than_it_wants() -> None:
    division = divide(1e9, [want(wanted=LOW), want(wanted=MEDIUM)])
    assert division.limits == (LOW, MEDIUM)
    assert division.more is None


def test_what_flows_is_kept_a_little_longer_than_it_would_be_begun() -> None:
    assert divide(500e3, [want(limit=LOW)]).limits == (LOW,)
    assert divide(500e3 / KEEP + 1, [want(limit=MEDIUM)]).limits == (MEDIUM,)
    assert divide(500e3 / KEEP - 1, [want(limit=MEDIUM)]).limits == (LOW,)
    single = Want(0, HIGH, (1e6, 1e6, 1e6), HIGH, True)
    assert divide(1e6 / KEEP_SINGLE + 1, [single]).limits == (HIGH,)
    assert divide(1e6 / KEEP_SINGLE - 1, [single]).limits == (NONE,)


def test_says_what_more_would_take() -> None:
    assert divide(200e3, [want()]).more == 500e3 * 1.1
    # One that was told to send less would send all of it
    held = Want(0, HIGH, (200e3, 200e3, 200e3), HIGH, True, 2_500e3)
    division = divide(300e3, [held])
    assert division.limits == (HIGH,)
    assert division.more == 2_500e3 * 1.1
    assert division.rooms == (300e3,)


wants = st.lists(
    st.builds(
        lambda rank, wanted, low, more, most, limit, single: Want(
            rank, wanted, (low, low + more, low + more + most), min(limit, wanted), single
        ),
        st.integers(0, 12), st.integers(LOW, HIGH), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 5e6),
        st.integers(NONE, HIGH), st.booleans(),
    ),
    max_size=20,
)  # fmt: skip


@given(budget=st.floats(0, 3e7), asked=wants)
def test_no_more_than_there_is_is_given(budget: float, asked: list[Want]) -> None:
    division = divide(budget, asked)
    least = sum(
        want.rates[limit] / KEEP_SINGLE for want, limit in zip(asked, division.limits, strict=True) if limit > NONE
    )
    assert least <= budget * (1 + 1e-9)
    assert all(NONE <= limit <= want.wanted for want, limit in zip(asked, division.limits, strict=True))
    assert all(room >= 0 for room in division.rooms)


@given(budget=st.floats(0, 3e7), asked=wants)
def test_the_same_line_comes_to_rest(budget: float, asked: list[Want]) -> None:
    for _ in range(3 * len(asked) + 1):
        division = divide(budget, asked)
        after = [each._replace(limit=limit) for each, limit in zip(asked, division.limits, strict=True)]
        if after == asked:
            break
        asked = after
    assert after == asked
