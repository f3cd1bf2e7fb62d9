"""Lips match, a clock may drift or be set, and whatever a stranger reports no time runs backwards."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.capture_times import BUCKET_US, LONGEST_US, STEP_US, Floor, SenderClock, TrackTimes, ntp_us, signed
from media.rtp import SenderInfo

UNIX_US = 1_800_000_000_000_000
SECOND = 1_000_000


def ntp(unix_us: int) -> int:
    seconds, us = divmod(unix_us, SECOND)
    return (seconds + 2_208_988_800) << 32 | (us << 32) // SECOND


class Sender:
    """A participant: one wall clock, tracks with timestamps of their own, and a network that only delays."""

    def __init__(self, *, ahead_us: int = 0, seed: int = 1) -> None:
        self.clock = SenderClock()
        self.ahead_us = ahead_us
        self.random = random.Random(seed)
        self.now_us = UNIX_US
        self.tracks: dict[str, TrackTimes] = {"audio": self.clock.track(48_000), "video": self.clock.track(90_000)}
        self.rate = {"audio": 48_000, "video": 90_000}
        self.start = {"audio": 0xFFFFF000, "video": 0xFFFF0000}
        self.slow = {"audio": 5_000, "video": 60_000}
        """Between capture and arrival, at least; a picture is encoded longer."""

    def timestamp(self, kind: str, at_us: int) -> int:
        return (self.start[kind] + (at_us - UNIX_US) * self.rate[kind] // SECOND) & 0xFFFFFFFF

    def report(self, kind: str) -> None:
        info = SenderInfo(1, ntp(self.now_us + self.ahead_us), self.timestamp(kind, self.now_us))
        self.tracks[kind].report(info, self.now_us + 1_000 + self.random.randrange(2_000))

    def frame(self, kind: str) -> int:
        """How late the time is that we give to what is captured now."""
        arrival = self.now_us + self.slow[kind] + self.random.randrange(3_000)
        return self.tracks[kind].capture_us(self.timestamp(kind, self.now_us), arrival) - self.now_us

    def run(self, seconds: float, reports: bool = True) -> dict[str, int]:
        """Twenty frames of each a second; the lateness of the last ones."""
        late: dict[str, int] = {}
        for step in range(int(seconds * 20)):
            self.now_us += 50_000
            for kind in self.tracks:
                if reports and step % 20 == (7 if kind == "audio" else 13):
                    self.report(kind)
                late[kind] = self.frame(kind)
        return late


def test_ntp_times_are_unix_times() -> None:
    assert ntp_us(ntp(UNIX_US + 250_000)) == UNIX_US + 250_000
    assert ntp_us(2_208_988_800 << 32) == 0


@pytest.mark.parametrize(("difference", "expected"), [(1, 1), (-1, -1), (0xFFFFFFFF, -1), (1 << 31, -(1 << 31))])
def test_timestamps_differ_across_the_wrap(difference: int, expected: int) -> None:
    assert signed(difference) == expected


@pytest.mark.parametrize("ahead_us", [0, 3_600 * SECOND, -86_400 * SECOND])
def test_sound_and_picture_of_one_moment_get_the_same_time_in_our_clock(ahead_us: int) -> None:
    late = Sender(ahead_us=ahead_us).run(20)
    assert abs(late["video"] - late["audio"]) <= 100
    assert 0 <= late["audio"] <= 5_000


def test_before_a_report_each_track_has_its_smallest_delay() -> None:
    late = Sender().run(5, reports=False)
    assert 5_000 <= late["audio"] <= 6_000
    assert 60_000 <= late["video"] <= 61_000


def test_a_first_report_brings_them_together_and_nothing_runs_backwards() -> None:
    sender = Sender()
    sender.run(2, reports=False)
    last = dict.fromkeys(sender.tracks, 0)
    for _ in range(100):
        sender.now_us += 10_000
        if sender.now_us == UNIX_US + 2_500_000:
            sender.report("video")
            sender.report("audio")
        for kind in sender.tracks:
            at = sender.now_us + sender.frame(kind)
            assert at > last[kind]
            last[kind] = at
    assert abs(sender.frame("video") - sender.frame("audio")) <= 100


@pytest.mark.parametrize("by_us", [3_600 * SECOND, -3_600 * SECOND, 700_000, -700_000])
def test_a_clock_that_was_set_moves_no_time_of_ours(by_us: int) -> None:
    sender = Sender()
    sender.run(20)
    sender.ahead_us += by_us
    sender.now_us += 10_000
    sender.report("video")
    at_once = {kind: sender.frame(kind) for kind in sender.tracks}
    later = sender.run(20)
    for late in (at_once, later):
        assert abs(late["video"] - late["audio"]) <= 5_000
        assert 0 <= late["audio"] <= 10_000


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_timestamps_that_jump_are_right_again_with_their_next_report(kind: str) -> None:
    sender = Sender()
    sender.run(20)
    sender.start[kind] += 100 * sender.rate[kind]
    sender.now_us += 10_000
    assert -5_000 <= sender.frame(kind) <= STEP_US + 70_000, "by arrival meanwhile"
    sender.now_us += 10_000
    sender.report(kind)
    sender.now_us += STEP_US
    late = {which: sender.frame(which) for which in sender.tracks}
    assert abs(late["video"] - late["audio"]) <= 5_000


@pytest.mark.parametrize("parts_per_million", [100, -100])
def test_a_sender_whose_clock_drifts_is_followed(parts_per_million: int) -> None:
    sender = Sender()
    for _ in range(60):
        sender.run(10)
        sender.ahead_us += 10 * parts_per_million
    late = sender.run(1)
    assert abs(late["audio"]) <= 10_000
    assert abs(late["video"] - late["audio"]) <= 1_000


def test_reports_that_are_a_little_off_are_averaged() -> None:
    sender = Sender()
    differences = []
    for _ in range(60):
        off_us = sender.random.randrange(-20_000, 20_000)
        info = SenderInfo(1, ntp(sender.now_us + off_us), sender.timestamp("video", sender.now_us))
        sender.tracks["video"].report(info, sender.now_us + 20_000)
        sender.report("audio")
        late = sender.run(1, reports=False)
        differences.append(abs(late["video"] - late["audio"]))
    assert max(differences[10:]) < 12_000


def test_tracks_that_report_two_clocks_each_keep_their_own_smallest_delay() -> None:
    sender = Sender()
    for _ in range(20):
        sender.run(1, reports=False)
        sender.report("audio")
        sender.ahead_us += 3_600 * SECOND
        sender.report("video")
        sender.ahead_us -= 3_600 * SECOND
    late = [sender.run(0.05, reports=False) for _ in range(20)]
    assert max(found["audio"] for found in late) - min(found["audio"] for found in late) < 500
    assert max(found["video"] for found in late) - min(found["video"] for found in late) < 500


def test_a_floor_rises_when_nothing_comes_near_it_any_more() -> None:
    floor = Floor()
    for at in range(0, 3 * BUCKET_US, 20_000):
        floor.sample(1_000, at)
    for at in range(3 * BUCKET_US, 5 * BUCKET_US + 1, 20_000):
        value = floor.sample(1_000_000, at)
    assert value == 1_000_000


def test_a_floor_follows_slowly_what_may_be_chance() -> None:
    floor = Floor()
    for at in range(0, 2 * BUCKET_US, 20_000):
        floor.sample(100_000, at)
    assert floor.sample(0, 2 * BUCKET_US) == 100_000 - 200
    assert floor.sample(0, 2 * BUCKET_US + SECOND) == 100_000 - 200 - 10_000


reports = st.tuples(st.just("report"), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
frames = st.tuples(st.just("frame"), st.integers(0, 2**32 - 1), st.integers(0, 5_000_000))


@given(st.lists(st.tuples(st.booleans(), reports | frames), max_size=60))
def test_whatever_is_reported_times_increase_and_stay_near_arrival(events: list[tuple[bool, tuple]]) -> None:  # type: ignore[type-arg]
    clock = SenderClock()
    tracks = (clock.track(90_000), clock.track(48_000))
    last, now = [0, 0], UNIX_US
    for which, (what, first, second) in events:
        if what == "report":
            tracks[which].report(SenderInfo(1, first, second), now)
            continue
        now += second
        at = tracks[which].capture_us(first, now)
        assert at > last[which]
        assert now - LONGEST_US <= at <= now + STEP_US + len(events)
        last[which] = at


def test_a_clock_without_tracks_is_done() -> None:
    clock = SenderClock()
    times = clock.track(90_000)
    assert clock.in_use
    clock.forget(times)
    assert not clock.in_use
