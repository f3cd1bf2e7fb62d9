"""Sound is where it was captured, whatever the packets' order of arrival, drift or loss."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.sound import STEADY_SAMPLES, Samples, SoundTrack, mix, position

PACKET = 960
TICK = 1600
BEGAN_US = 1_700_000_000_000_000
BEGAN = position(BEGAN_US)


def packet(value: int, count: int = PACKET) -> Samples:
    return np.full((count, 2), value, np.int16)


def at(seconds: float) -> int:
    return BEGAN_US + round(seconds * 1e6)


def read(track: SoundTrack, seconds: float, ticks: int) -> Samples:
    start = position(at(seconds))
    heard = [track.read(start + tick * TICK, TICK) for tick in range(ticks)]
    return np.concatenate([np.zeros((TICK, 2), np.int16) if one is None else one for one in heard])


def test_packets_follow_each_other_without_a_seam() -> None:
    track = SoundTrack()
    for number in range(50):
        track.write(at(number * 0.02 + 0.0003 * (number % 2)), packet(number + 1))
    heard = read(track, 0, 25)
    assert [int(heard[number * PACKET, 0]) for number in range(40)] == list(range(1, 41))
    assert not (heard[: 40 * PACKET] == 0).any()


def test_a_lost_packet_is_silence_in_its_place() -> None:
    track = SoundTrack()
    for number in (0, 1, 3, 4):
        track.write(at(number * 0.02), packet(number + 1))
    heard = read(track, 0, 3)
    assert [int(heard[number * PACKET + PACKET // 2, 0]) for number in range(5)] == [1, 2, 0, 4, 5]


@given(st.floats(-0.008, 0.008))
def test_a_clock_that_drifts_is_followed_without_a_gap(drift: float) -> None:
    track = SoundTrack()
    heard = []
    for number in range(600):
        track.write(at(number * 0.02 * (1 + drift)), packet(number % 100 + 1))
        if number >= 25 and number % 5 == 0:
            heard.append(read(track, (number - 25) * 0.02, 3))
    sound = np.concatenate(heard)[:, 0]
    assert not (sound == 0).any()
    # Where every hundredth packet is heard, against when it was captured.
    marks = np.flatnonzero((sound[1:] == 1) & (sound[:-1] == 100)) + 1
    captured = [number * PACKET * (1 + drift) for number in range(100, 600, 100)][: len(marks)]
    assert len(marks) >= 4
    assert np.abs(marks - captured).max() < 3 * STEADY_SAMPLES


def test_what_comes_too_late_is_left_out_and_what_follows_is_heard() -> None:
    track = SoundTrack()
    track.write(at(0.5), packet(1))
    assert read(track, 0.5, 1)[0, 0] == 1
    track.write(at(0.2), packet(9))
    track.write(at(0.6), packet(2))
    heard = read(track, 0.5 + 1 / 30, 4)
    assert set(heard[:, 0]) == {0, 2}


def test_a_time_from_nowhere_silences_nobody() -> None:
    track = SoundTrack()
    track.write(at(0.0), packet(1))
    read(track, 0.0, 1)
    track.write(at(500.0), packet(9))
    track.write(at(0.1), packet(2))
    assert 2 in read(track, 1 / 30, 4)[:, 0]


def test_nothing_old_is_heard_after_a_pause() -> None:
    track = SoundTrack()
    for number in range(60):
        track.write(at(number * 0.02), packet(7))
    # The reader skips a second, and comes round the whole ring.
    assert not read(track, 1.3, 90).any()
    assert track.over


def test_silence_costs_nothing() -> None:
    track = SoundTrack()
    assert track.read(BEGAN, TICK) is None
    track.write(at(0), packet(1))
    assert track.read(BEGAN, TICK) is not None
    assert track.read(BEGAN + TICK, TICK) is None


def test_voices_add_up_and_never_overflow() -> None:
    loud = packet(30_000, 4)
    assert mix([], 4) == bytes(16)
    assert mix([loud], 4) == loud.tobytes()
    assert np.frombuffer(mix([loud, loud], 4), "<i2").tolist() == [32767] * 8
    assert np.frombuffer(mix([loud, -loud], 4), "<i2").tolist() == [0] * 8
