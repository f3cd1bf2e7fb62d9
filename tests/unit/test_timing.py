"""Every timer shrinks with the minute, but not below what cameras and people need."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.timing import MINUTE_MS, SHORTEST_WAIT_MS, SMALLEST_GAP_MS, timers_for

MONEY = {
    "answer_ms": 120_000,
    "connecting_ms": 30_000,
    "pause_ms": 120_000,
    "pause_leave_ms": 10_000,
    "fan_absent_ms": 60_000,
    "settle_ms": 60_000,
    "report_ms": 5_000,
    "poll_ms": 30_000,
    "gap_ms": 2_000,
    "camera_off_ms": 10_000,
    "feed_gone_ms": 15_000,
    "creator_absent_ms": 60_000,
    "warn_first_ms": 60_000,
    "warn_last_ms": 15_000,
    "next_minute_ms": 20_000,
}
FLOORS = {"gap_ms": SMALLEST_GAP_MS} | dict.fromkeys(
    ("answer_ms", "connecting_ms", "feed_gone_ms", "creator_absent_ms"), SHORTEST_WAIT_MS
)


def test_a_real_minute_has_the_promised_timers() -> None:
    timers = msgspec.structs.asdict(timers_for(MINUTE_MS))
    assert {name: timers[name] for name in MONEY} == MONEY


@given(st.integers(1_000, MINUTE_MS))
def test_a_shorter_minute_shrinks_all_in_proportion_down_to_their_floors(minute_ms: int) -> None:
    timers = msgspec.structs.asdict(timers_for(minute_ms))
    for name, full in MONEY.items():
        expected = full * minute_ms // MINUTE_MS
        assert timers[name] == max(FLOORS.get(name, 1), expected), name
