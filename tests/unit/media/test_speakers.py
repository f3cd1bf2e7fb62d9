"""Who speaks: the loud and lasting, not the short; never in a flicker; silence changes nobody, DTX or not."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from media.speakers import GRACE_MS, HELD_MS, OVERTAKES_MS, QUIETEST, SPEAKING, Loudness, Speakers

LOUD, QUIET, SILENT = QUIETEST - 20.0, QUIETEST - 45.0, 0.0
EVERY_MS = 200
STEPS = st.lists(st.dictionaries(st.sampled_from("abcd"), st.floats(0, QUIETEST)), max_size=60)


def speech(track: Loudness, since_ms: int, until_ms: int, *, level: int = 20, every_ms: int = 20) -> None:
    for now_ms in range(since_ms, until_ms, every_ms):
        track.heard(level, now_ms)


def test_speech_is_loud_within_a_syllable_and_a_click_is_not() -> None:
    track = Loudness()
    track.heard(20, 0)
    assert track.at(0) < QUIETEST - SPEAKING
    speech(track, 20, 300)
    assert track.at(300) > QUIETEST - 30
    # the flag of the voice detector is no part of the level
    flagged = Loudness()
    speech(flagged, 0, 300, level=20 | 0x80)
    assert abs(flagged.at(300) - track.at(300)) < 3


def test_a_pause_between_words_is_speech_and_two_seconds_are_not() -> None:
    track = Loudness()
    speech(track, 0, 1_000)
    speech(track, 1_000, 1_400, level=QUIETEST)
    assert track.at(1_400) > QUIETEST - SPEAKING
    speech(track, 1_400, 3_000, level=QUIETEST)
    assert track.at(3_000) < QUIETEST - SPEAKING


def test_packets_that_stop_are_silence_as_packets_that_say_so() -> None:
    stopped, dtx = Loudness(), Loudness()
    speech(stopped, 0, 1_000)
    speech(dtx, 0, 1_000)
    # one packet in 400 ms, as Opus sends in silence
    speech(dtx, 1_000, 4_000, level=QUIETEST, every_ms=400)
    assert stopped.at(1_000 + GRACE_MS) > QUIETEST - 30  # a lost packet is no silence
    assert stopped.at(4_000) < QUIETEST - 2 * SPEAKING
    assert dtx.at(4_000) < QUIETEST - 2 * SPEAKING


def test_the_first_who_speaks_is_the_speaker_and_silence_leaves_it() -> None:
    speakers = Speakers()
    assert speakers.look({"a": SILENT, "b": SILENT}, 0) is None
    assert speakers.look({"a": SILENT, "b": LOUD}, 200) == "b"
    assert speakers.look({"a": SILENT, "b": SILENT}, 60_000) is None
    assert speakers.active == "b"


def test_who_is_a_little_louder_takes_nothing_over() -> None:
    speakers = Speakers()
    speakers.look({"a": LOUD}, 0)
    for now_ms in range(0, 20_000, EVERY_MS):
        assert speakers.look({"a": LOUD, "b": LOUD + 3}, now_ms) is None


def test_who_is_clearly_louder_for_a_while_takes_over() -> None:
    speakers = Speakers()
    speakers.look({"a": QUIET}, 0)
    took = next(
        now_ms for now_ms in range(5_000, 20_000, 100) if speakers.look({"a": QUIET, "b": LOUD}, now_ms) == "b"
    )
    assert took == 5_000 + OVERTAKES_MS
    assert speakers.recent == ["b", "a"]
    # and a shout that is over before that does not
    assert speakers.look({"a": LOUD + 15, "b": LOUD}, took + HELD_MS) is None
    assert speakers.look({"a": SILENT, "b": LOUD}, took + HELD_MS + OVERTAKES_MS) is None


def test_who_left_speaks_no_more() -> None:
    speakers = Speakers()
    speakers.look({"a": LOUD}, 0)
    speakers.gone("a")
    assert speakers.active is None
    assert speakers.look({"b": LOUD}, HELD_MS) == "b"


@given(STEPS)
def test_changes_are_never_close_together_and_always_to_one_who_speaks(steps: list[dict[str, float]]) -> None:
    speakers, changes = Speakers(), []
    for number, levels in enumerate(steps):
        before = speakers.active
        changed = speakers.look(levels, number * EVERY_MS)
        assert (changed is not None) == (speakers.active != before)
        if changed is not None:
            assert levels[changed] >= QUIETEST - SPEAKING
            assert changed == speakers.active
            changes.append(number * EVERY_MS)
    assert all(later - earlier >= HELD_MS for earlier, later in itertools.pairwise(changes))
    assert len(set(speakers.recent)) == len(speakers.recent)


@given(STEPS, st.lists(st.sampled_from("abcdef"), unique=True), st.integers(0, 5))
def test_the_last_who_spoke_come_first_and_change_only_with_the_speaker(
    steps: list[dict[str, float]], here: list[str], most: int
) -> None:
    speakers = Speakers()
    before = speakers.foremost(here, most)
    assert before == here[:most]
    for number, levels in enumerate(steps):
        changed = speakers.look(levels, number * EVERY_MS)
        now = speakers.foremost(here, most)
        assert len(now) == min(most, len(here))
        assert set(now) <= set(here)
        # at most one comes in for one that goes out, and only because the speaker changed
        assert len(set(now) - set(before)) <= (changed in here)
        if changed in here and most:
            assert now[0] == changed
        before = now


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2_000)), max_size=50))
def test_a_level_never_leaves_its_range(packets: list[tuple[int, int]]) -> None:
    track, now_ms = Loudness(), 0
    for level, pause_ms in packets:
        now_ms += pause_ms
        track.heard(level, now_ms)
        assert 0 <= track.at(now_ms) <= QUIETEST
        assert track.at(now_ms + 10_000) <= track.at(now_ms)
