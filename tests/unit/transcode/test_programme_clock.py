"""Time: ticks left out are known of, far jumps are not played over, other machines' clocks are fitted to ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.composer import Buffers
from workers.transcode.program import DELAY_SECONDS, FAR_BEHIND_SECONDS, LATE_SECONDS, Behind, Program, Timeline
from workers.transcode.source import CLOCKS_AGREE_SECONDS, ClockFit, Room

BEGAN = 1_700_000_000.0


class Clock:
    """Stands where it is put; ``late`` is added to every wait from that tick's on."""

    def __init__(self) -> None:
        self.at = BEGAN
        self.late: dict[int, float] = {}
        self.waits = 0

    def now(self) -> float:
        return self.at

    def wait(self, until: float) -> None:
        self.at = max(self.at, until) + self.late.pop(self.waits, 0.0)
        self.waits += 1


class Encoders:
    """Takes what ``busy`` does not forbid."""

    def __init__(self, busy: range = range(0)) -> None:
        self.busy = busy
        self.offered = self.taken = self.bytes = 0

    def offer(self, picture: Buffers, sound: bytes) -> bool:
        taken = self.offered not in self.busy
        self.offered += 1
        self.taken += taken
        self.bytes += len(sound) * taken
        return taken


class Drawer:
    def __init__(self) -> None:
        self.drawn = 0

    def offer(self, picture: Buffers, captured_at: float) -> None:
        self.drawn += 1


def play(clock: Clock, encoders: Encoders, ticks: int) -> Program:
    program = Program(Room(), clock)
    assert program.begin(lambda: False) is not None
    program.run(encoders, Drawer(), lambda: encoders.offered >= ticks)
    return program


def test_an_empty_room_is_played_all_the_same() -> None:
    encoders = Encoders()
    play(Clock(), encoders, 90)
    assert encoders.taken >= 90
    assert encoders.bytes == encoders.taken * 1600 * 4


def test_what_is_over_before_it_began_is_not_begun() -> None:
    assert Program(Room(), Clock()).begin(lambda: True) is None


def test_ticks_that_the_encoders_cannot_take_are_left_out_and_known_of() -> None:
    clock, encoders = Clock(), Encoders(range(30, 36))
    program = play(clock, encoders, 90)
    assert program.dropped == 6
    begins = program.capture_time(0.0)
    assert program.capture_time(29 / 30) - begins == pytest.approx(29 / 30)
    # The picture after those left out is of six ticks later than the media time says.
    assert program.capture_time(30 / 30) - begins == pytest.approx(36 / 30)
    assert program.capture_time(60 / 30) - begins == pytest.approx(66 / 30)


def test_a_moment_is_caught_up_with_a_hang_left_out_and_a_long_one_not_played_over() -> None:
    clock = Clock()
    clock.late = {150: LATE_SECONDS / 2}
    assert play(clock, Encoders(), 90).dropped == 0
    clock = Clock()
    clock.late = {150: LATE_SECONDS + 1.01}
    program = play(clock, Encoders(), 90)
    assert program.dropped == 31
    assert program.capture_time(80 / 30) - program.capture_time(0) == pytest.approx((80 + 31) / 30)
    clock = Clock()
    clock.late = {150: FAR_BEHIND_SECONDS + 1}
    with pytest.raises(Behind):
        play(clock, Encoders(), 90)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_capture_time_never_goes_back_and_counts_every_slip(slips: list[int]) -> None:
    timeline = Timeline()
    timeline.begin(BEGAN)
    expected = []
    lost = 0
    for tick, count in enumerate(slips):
        for _ in range(count):
            timeline.slip(tick)
        lost += count
        expected.append(BEGAN + (tick + lost) / 30)
    assert [timeline.capture_time(tick / 30) for tick in range(len(slips))] == pytest.approx(expected)


def test_clocks_that_agree_are_let_alone() -> None:
    fit = ClockFit()
    for step in range(100):
        captured = BEGAN + step / 30
        assert fit.fit(captured, captured + 0.05 + 0.1 * (step % 3)) == captured


@given(st.floats(-3600, 3600))
def test_a_clock_that_is_off_is_fitted_to_ours(off: float) -> None:
    fit = ClockFit()
    for step in range(100):
        captured = BEGAN + step / 30
        fitted = fit.fit(captured + off, captured + 0.02 + 0.08 * (step % 2))
        assert abs(fitted - captured) <= CLOCKS_AGREE_SECONDS + 0.1


def test_a_clock_that_is_set_is_followed() -> None:
    fit = ClockFit()
    for step in range(900):
        captured = BEGAN + step / 30
        off = 100.0 if step >= 100 else 0.0
        fitted = fit.fit(captured - off, captured + 0.02)
    assert fitted == pytest.approx(captured + 0.02)
    assert DELAY_SECONDS > CLOCKS_AGREE_SECONDS
