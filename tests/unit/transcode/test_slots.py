"""The arithmetic of slots, parts, windows and gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ladder import PARTS_PER_SLOT, SLOT_SECONDS
from workers.transcode.segments import (
    GRACE,
    WINDOW,
    Rendition,
    Segment,
    State,
    gap,
    missed_slots,
    part_of,
    slot_of,
)

TIMESCALES = st.sampled_from([48_000, 90_000])


@given(st.integers(0, 10**12), TIMESCALES)
def test_a_sample_is_in_the_part_whose_time_it_is(time: int, timescale: int) -> None:
    seconds = slot_of(time, timescale) * SLOT_SECONDS
    seconds += part_of(time, timescale, PARTS_PER_SLOT) * SLOT_SECONDS / PARTS_PER_SLOT
    assert 0 <= time - round(seconds * timescale) < timescale * SLOT_SECONDS // PARTS_PER_SLOT


@given(st.integers(0, 10_000))
def test_sound_and_picture_cut_within_a_frame_of_each_other(slot: int) -> None:
    """The first frame of sound of a slot begins less than its own length after the first picture."""
    near = slot * 96_000 // 1024
    first = next(number for number in range(near, near + 3) if slot_of(number * 1024, 48_000) == slot)
    assert 0 <= first * 1024 / 48_000 - slot * SLOT_SECONDS < 1024 / 48_000


@pytest.mark.parametrize(("last", "begins", "missed"), [(10.0, 10.5, 0), (10, 12, 1), (10, 15.9, 2), (10, 9, 0)])
def test_whole_slots_that_nobody_captured_are_gaps(last: float, begins: float, missed: int) -> None:
    assert missed_slots(last, begins) == missed


def test_a_long_silence_is_no_longer_than_a_playlist_can_show() -> None:
    assert missed_slots(0, 1e6) == WINDOW + GRACE


def segment(slot: int, *, epoch: int = 1, size: int = 1000, discontinuity: bool = False) -> Segment:
    return Segment(
        slot=slot, epoch=epoch, seconds=2.0, captured_at=slot * 2.0, size=size, discontinuity=discontinuity
    )


def test_only_the_next_slot_follows() -> None:
    rendition = Rendition()
    rendition.append(segment(5))
    with pytest.raises(ValueError, match="slot 7 after 5"):
        rendition.append(segment(7))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_discontinuity_sequence_counts_those_that_have_left_the_window(marks: list[bool]) -> None:
    rendition = Rendition()
    for slot, mark in enumerate(marks):
        rendition.append(segment(slot, discontinuity=mark))
        rendition.pop_old()
    shown = len(rendition.window())
    assert rendition.discontinuity_sequence() == sum(marks[: len(marks) - shown])
    assert len(rendition.segments) <= WINDOW + GRACE


def test_peak_and_average_are_of_real_segments() -> None:
    rendition = Rendition()
    for slot, size in enumerate((1000, 4000, 1000)):
        rendition.append(segment(slot, size=size))
    rendition.append(gap(3, 1, 6.0))
    assert rendition.peak_bits == 16_000
    assert rendition.average_bits() == 8_000


def test_the_next_slot_is_after_the_newest_of_any_rung() -> None:
    state = State()
    assert state.next_slot() == 0
    state.renditions["720p"].append(segment(3))
    state.renditions["audio"].append(segment(4))
    assert state.next_slot() == 5
