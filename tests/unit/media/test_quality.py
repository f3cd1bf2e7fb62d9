"""A connection in four words: each fact counts, the worst wins, and nothing flickers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.quality import BETTER_AFTER_MS, ORDER, WORSE_AFTER_MS, Facts, Quality, Steady, grade

GOOD = Facts(silent_ms=100, loss_in=0.5, loss_out=1.0, rtt_ms=60.0, frames=25.0)
GRADES = st.lists(st.sampled_from(ORDER), max_size=60)


@pytest.mark.parametrize(
    ("facts", "quality"),
    [
        (GOOD, "good"),
        (Facts(silent_ms=0), "good"),  # who is sent nothing and sends nothing is at least there
        (GOOD._replace(loss_in=4.0), "fair"),
        (GOOD._replace(loss_out=12.0), "poor"),
        (GOOD._replace(rtt_ms=350.0), "fair"),
        (GOOD._replace(rtt_ms=900.0), "poor"),
        (GOOD._replace(frames=5.0), "fair"),
        (GOOD._replace(frames=0.3), "poor"),
        (GOOD._replace(frames=None), "good"),  # the camera is off
        (GOOD._replace(smaller=True), "fair"),
        (GOOD._replace(none=True), "poor"),
        (GOOD._replace(loss_in=50.0, silent_ms=4_000), "lost"),
    ],
)
def test_the_worst_fact_is_the_grade(facts: Facts, quality: Quality) -> None:
    assert grade(facts) == quality


def test_a_short_drop_is_not_told_and_a_lasting_one_is() -> None:
    steady = Steady()
    assert steady.take("good", 0) == "good"
    assert steady.take("poor", 1_000) is None
    assert steady.take("good", 2_000) is None
    assert steady.take("fair", 3_000) is None
    assert steady.take("poor", 3_000 + WORSE_AFTER_MS) == "poor"
    # and it takes longer to be believed that it is good again
    assert steady.take("good", 10_000) is None
    assert steady.take("good", 10_000 + WORSE_AFTER_MS) is None
    assert steady.take("good", 10_000 + BETTER_AFTER_MS) == "good"


def test_who_is_lost_is_told_at_once_and_stays_so_until_it_is_well() -> None:
    steady = Steady()
    steady.take("good", 0)
    assert steady.take("lost", 1_000) == "lost"
    assert steady.take("lost", 2_000) is None
    assert steady.take("fair", 3_000) is None
    assert steady.take("fair", 3_000 + BETTER_AFTER_MS) == "fair"


@given(GRADES)
def test_what_is_told_changes_rarely_and_is_what_was_graded_last(grades: list[Quality]) -> None:
    steady, told = Steady(), []
    for number, graded in enumerate(grades):
        said = steady.take(graded, number * 1_000)
        if said is not None:
            assert said == graded == steady.told
            told.append((number * 1_000, said))
    for (earlier_ms, before), (later_ms, after) in pairwise(told):
        assert after != before
        assert after == "lost" or later_ms - earlier_ms >= WORSE_AFTER_MS
