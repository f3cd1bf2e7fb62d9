"""Both histories of what was sent, native and in Python: the same answers, whatever a client says it received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import rtp
from media.fastpath import engine
from media.send_history import LONGEST_US, MOST_STEPS, OVERHEAD, RING, Feedback, SendHistory, Step

MS = 1_000
SPACING_US = 10 * MS


class NativeHistory:
    """The engine's, of a connection that is given numbers by hand."""

    def __init__(self) -> None:
        ffi, self._library = engine._library()
        self._history: Any = ffi.gc(self._library.twcc_new(), self._library.twcc_free)
        self._report: Any = ffi.new("twcc_report *")

    def stamp_at(self, now_us: int, size: int) -> int:
        return int(self._library.twcc_stamp(self._history, now_us, size))

    def probe(self, probe: int) -> None:
        self._library.twcc_probe(self._history, probe)

    def feedback(self, body: bytes) -> Feedback | None:
        made_sense = self._library.twcc_feedback(self._history, body, len(body), self._report)
        return engine.read_report(self._report) if made_sense else None


Make = Callable[[], NativeHistory | SendHistory]


@pytest.fixture(params=[NativeHistory, SendHistory], ids=["native", "python"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def body(base: int, arrivals: list[tuple[int, int]], count: int = 0) -> bytes:
    """What a receiver says: ``arrivals`` are numbers and microseconds of its clock."""
    return rtp.transport_feedback(1, 2, count, base, arrivals)[4:]


def sent(history: NativeHistory | SendHistory, count: int, size: int = 1_000) -> None:
    for number in range(count):
        history.stamp_at(number * SPACING_US, size)


def test_says_what_came_what_did_not_and_how_it_drew_apart(make: Make) -> None:
    history = make()
    sent(history, 6)
    # The third is missing, and each takes two milliseconds longer than the one before
    said = history.feedback(body(0, [(n, 64_000_000 + n * (SPACING_US + 2 * MS)) for n in (0, 1, 3, 4, 5)]))
    assert said is not None
    assert (said.received, said.lost, said.recovered, said.octets) == (5, 1, 0, 5_000)
    assert (said.sent_us, said.arrived_us) == (5 * SPACING_US, 64_000_000 + 5 * 12 * MS)
    assert said.steps == (Step(10_000, 12_000, 1_000), Step(20_000, 24_000, 1_000), Step(10_000, 12_000, 1_000))
    # What came late is no loss any more; what is told twice came once
    later = history.feedback(body(2, [(2, 64_100_000), (3, 64_100_000)]))
    assert later is not None
    assert (later.received, later.lost, later.recovered, later.octets) == (1, 0, 1, 1_000)


def test_a_burst_is_one_group(make: Make) -> None:
    history = make()
    for frame in range(4):
        for packet in range(5):
            history.stamp_at(frame * 50 * MS + packet * MS, 1_000)
    arrivals = [(n, 1_000_000 + (n // 5) * 60 * MS + (n % 5) * 2 * MS) for n in range(20)]
    said = history.feedback(body(0, arrivals))
    assert said is not None
    assert said.steps == (Step(50_000, 60_000, 5_000), Step(50_000, 60_000, 5_000))


def test_a_probe_is_measured_by_itself_over_several_feedbacks(make: Make) -> None:
    history = make()
    sent(history, 3)
    history.probe(7)
    for number in range(3, 7):
        history.stamp_at(number * SPACING_US, 500)
    history.probe(0)
    history.stamp_at(8 * SPACING_US, 1_000)
    first = history.feedback(body(0, [(n, 1_000_000 + n * SPACING_US) for n in range(5)]))
    second = history.feedback(body(5, [(n, 1_000_000 + n * SPACING_US) for n in range(5, 8)]))
    assert first is not None
    assert second is not None
    assert (first.probe_packets, first.probe_octets) == (2, 500)
    assert (second.probe_packets, second.probe_octets) == (4, 1_500)
    assert (second.probe_sent_us, second.probe_arrived_us) == (3 * SPACING_US, 3 * SPACING_US)


def test_what_was_never_sent_or_long_ago_is_nothing(make: Make) -> None:
    history = make()
    sent(history, RING + 10)
    for base in (0, RING + 10, 40_000):
        said = history.feedback(body(base, [(base + n, 1_000_000) for n in range(10)]))
        assert said is not None
        assert (said.received, said.lost) == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        bytes(15),
        body(0, [(0, 0)])[:17],
        body(0, [(0, 0), (9, 0)])[:-4],
        bytes(10) + b"\xff\xff" + bytes(4) + b"\x20\x00" * 40,
        bytes(10) + b"\x00\x01" + bytes(4) + b"\x60\x01\x01\x01",
        bytes(10) + b"\x00\x01" + bytes(4) + b"\x20\x00\x01\x01",
    ],
)
def test_what_makes_no_sense_changes_nothing(make: Make, wrong: bytes) -> None:
    history = make()
    sent(history, 3)
    assert history.feedback(wrong) is None
    said = history.feedback(body(0, [(n, 1_000_000) for n in range(3)]))
    assert said is not None
    assert said.received == 3


def test_the_clock_of_the_receiver_wraps(make: Make) -> None:
    history = make()
    sent(history, 4)
    wrap = (1 << 24) * 64_000
    history.feedback(body(0, [(0, wrap - SPACING_US)]))
    said = history.feedback(body(1, [(n, wrap + (n - 1) * SPACING_US) for n in (1, 2, 3)]))
    assert said is not None
    assert said.arrived_us >= wrap + 2 * SPACING_US
    assert [step.arrived_us for step in said.steps] == [SPACING_US, SPACING_US]


def test_a_silence_is_a_step_of_its_own(make: Make) -> None:
    history = make()
    for at_us in (0, 10 * MS, 8_000 * MS, 8_010 * MS):
        history.stamp_at(at_us, 1_000)
    first = history.feedback(body(0, [(0, 1_000 * MS), (1, 1_010 * MS)]))
    later = history.feedback(body(2, [(2, 8_000 * MS), (3, 8_010 * MS)]))
    assert first is not None
    assert later is not None
    history.stamp_at(8_020 * MS, 1_000)
    last = history.feedback(body(4, [(4, 8_020 * MS)]))
    assert last is not None
    assert later.steps == (Step(10 * MS, 10 * MS, 1_000), Step(LONGEST_US, LONGEST_US, 1_000))
    assert last.steps == (Step(10 * MS, 10 * MS, 1_000),)


def test_what_was_overtaken_leaves_no_delay_behind(make: Make) -> None:
    history = make()
    sent(history, 100)
    # Every other packet takes 25 ms longer: it comes behind the next one
    told = [(n, 1_000 * MS + n * SPACING_US + (n % 2) * 25 * MS) for n in range(100)]
    steps: list[Step] = []
    for base in range(0, 100, 10):
        said = history.feedback(body(base, told[base : base + 10]))
        assert said is not None
        steps += said.steps
    delays = [sum(step.arrived_us - step.sent_us for step in steps[:end]) for end in range(len(steps) + 1)]
    assert max(delays) <= 25 * MS
    assert min(delays) >= 0
    # A receiver whose clock begins anew is followed there
    history = make()
    sent(history, 5)
    told = [(n, (900_000 - 800_000 * (n > 1)) * MS + n * SPACING_US) for n in range(5)]
    said, again = history.feedback(body(0, told[:2])), history.feedback(body(2, told[2:]))
    assert said is not None
    assert again is not None
    assert [step.arrived_us for step in again.steps] == [SPACING_US, SPACING_US]


events = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.integers(0, 30 * MS), st.integers(50, 1_300)),
        st.tuples(st.just("probe"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("feedback"), st.integers(-5, 40), st.integers(0, 2**32)),
        st.tuples(st.just("noise"), st.binary(max_size=60), st.integers(0, 40)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(happened=events)
def test_both_say_the_same(happened: list[tuple[str, int | bytes, int]]) -> None:
    native, python = NativeHistory(), SendHistory()
    now_us = 1_000_000
    for what, first, second in happened:
        if what == "noise":
            assert isinstance(first, bytes)
            text = bytes(8) + (python.next - second & 0xFFFF).to_bytes(2, "big") + b"\x00" + first
            _agree(native.feedback(text), python.feedback(text))
            continue
        assert isinstance(first, int)
        if what == "sent":
            now_us += first
            assert native.stamp_at(now_us, second + OVERHEAD) == python.stamp_at(now_us, second + OVERHEAD)
        elif what == "probe":
            native.probe(first)
            python.probe(first)
        else:
            base = python.next - first
            told = [(base + n, now_us + 40 * MS + n * (second >> 20)) for n in range(40) if second >> n % 32 & 1]
            text = body(base, told or [(base, now_us)])
            _agree(native.feedback(text), python.feedback(text))


def _agree(one: Feedback | None, other: Feedback | None) -> None:
    assert one == other
    if one is not None:
        assert len(one.steps) <= MOST_STEPS
        assert one.recovered <= one.received
        assert 0 <= one.probe_arrived_us <= LONGEST_US
