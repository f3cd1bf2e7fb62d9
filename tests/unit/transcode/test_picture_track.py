"""Which picture a moment shows: each once at our own rate, the newest at another, none that is too old."""

from __future__ import annotations

import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.pictures import ENDED_FREEZE_SECONDS, FREEZE_SECONDS, HALF_TICK, PictureTrack

BEGAN = 1_700_000_000.0
TICK = 1 / 30


def frame(number: int) -> VideoFrame:
    made = VideoFrame(16, 16, "yuv420p")
    made.pts = number
    return made


def shown(times: list[float], ticks: int) -> list[int | None]:
    """What each tick shows of pictures captured at those times."""
    track = PictureTrack()
    for number, captured in enumerate(times):
        track.add(BEGAN + captured, frame(number))
    pictures = [track.look(BEGAN + tick * TICK) for tick in range(ticks)]
    return [None if picture is None else picture.pts for picture in pictures]


@given(st.floats(-HALF_TICK, HALF_TICK), st.lists(st.floats(-0.002, 0.002), min_size=40, max_size=40))
def test_at_our_own_rate_every_picture_is_shown_once_whatever_its_phase_and_jitter(
    phase: float, jitter: list[float]
) -> None:
    times = [number * TICK + phase + late for number, late in enumerate(jitter)]
    numbers = [number for number in shown(times, 38) if number is not None]
    assert numbers[1:] == list(range(numbers[0] + 1, numbers[0] + len(numbers)))


def test_the_nearest_tick_shows_a_picture() -> None:
    assert shown([0.010, 0.043], 3) == [0, 1, 1]
    assert shown([0.024, 0.057], 3) == [None, 0, 1]


def test_a_slower_camera_is_shown_twice_and_a_faster_one_left_out() -> None:
    assert shown([number / 15 for number in range(5)], 8) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert shown([number / 60 for number in range(20)], 5)[1:] == pytest.approx([2, 4, 6, 8], abs=1)


def test_a_picture_stands_for_three_seconds_and_then_no_more() -> None:
    track = PictureTrack()
    track.add(BEGAN, frame(1))
    assert track.look(BEGAN) is not None
    assert track.look(BEGAN + FREEZE_SECONDS - 0.01) is not None
    assert track.look(BEGAN + FREEZE_SECONDS + 0.01) is None
    track.add(BEGAN + 4, frame(2))
    assert track.look(BEGAN + 4) is not None


def test_a_camera_that_was_switched_off_is_gone_at_once() -> None:
    track = PictureTrack()
    track.add(BEGAN, frame(1))
    assert track.look(BEGAN) is not None
    track.switch(off=True)
    assert track.look(BEGAN + TICK) is None
    track.switch(off=False)
    assert track.look(BEGAN + 2 * TICK) is None
    track.add(BEGAN + 3 * TICK, frame(2))
    assert track.look(BEGAN + 3 * TICK) is not None


def test_what_waits_is_shown_after_its_owner_left_and_then_it_is_over() -> None:
    track = PictureTrack()
    track.add(BEGAN, frame(1))
    track.add(BEGAN + 0.2, frame(2))
    track.end()
    assert track.look(BEGAN) is not None
    late = track.look(BEGAN + 0.2)
    assert late is not None
    assert late.pts == 2
    assert not track.over
    assert track.look(BEGAN + 0.2 + ENDED_FREEZE_SECONDS + TICK) is None
    assert track.over
    track.take_up()
    assert not track.over
