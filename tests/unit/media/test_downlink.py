"""What a line does to a subscriber's slots, to their publishers and to what we add: no socket, our own clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast
from unittest import mock

from media import rtp
from media.ceiling import FULL_PICTURE, LEAST_PICTURE, MAX_VIDEO_BITRATE, Ceiling
from media.downlink import FEEDBACKS_A_SECOND, FREE_PACE, LEAST_PACE, Downlink
from media.layers import HIGH, LOW, NONE, Kept
from media.send_history import OVERHEAD, SendHistory
from media.tracks import PublishedTrack, Slot

KEY, DELTA = b"\x10\x00\x9d\x01\x2a\x80\x02\xe0\x01", b"\x10\x01" + bytes(900)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def later(self, seconds: float, call: Callable[[], None]) -> Any:
        entry = (self.now_ms + round(1_000 * seconds), next(self._count), call)
        heapq.heappush(self._due, entry)
        return self

    def cancel(self) -> None:
        """A timer's; nothing here outlives the test."""

    def run(self, ms: int) -> None:
        end = self.now_ms + ms
        while self._due and self._due[0][0] <= end:
            self.now_ms, _, call = heapq.heappop(self._due)
            call()
        self.now_ms = end


class Out:
    """Stands for a connected transport; remembers what was sent by it, and when."""

    def __init__(self, clock: Clock, history: SendHistory) -> None:
        self.protect_context = self.sendto = None
        self.address = ("192.0.2.1", 9)
        self.history = history
        self.sent: list[tuple[int, str, int]] = []
        self.halted: list[Slot] = []
        self._clock = clock

    def halt(self, slot: Slot) -> None:
        self.halted.append(slot)

    def _note(self, kind: str, size: int) -> None:
        self.history.stamp_at(self._clock.now_ms * 1_000, size + OVERHEAD)
        self.sent.append((self._clock.now_ms, kind, size))

    def send_repair(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        self._note("repair", kept.size)

    def send_rtp(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        self._note("again", kept.size)

    def send_padding(self, slot: Slot, payload_type: int) -> None:
        self._note("padding", 275)


class Stage:
    """One subscriber of one camera."""

    def __init__(self, *, numbered: bool = True, layers: int = 1) -> None:
        self.clock = Clock()
        self.history = SendHistory()
        self.out = Out(self.clock, self.history)
        self.slot = Slot(
            kind="video", ssrc=7, seat=0, repair_ssrc=8, wire=cast(Any, self.out), payload_types={"VP8": 97},
            repair_types={"VP8": 98} if numbered else {}, transport_cc=1 if numbered else 0,
        )  # fmt: skip
        self.track = PublishedTrack(
            track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=90_000,
            rids=("l", "m", "h")[:layers],
        )  # fmt: skip
        self.track.add(self.slot, self.clock.now_ms)
        self.downlink = Downlink(
            {7: self.slot}, self.history, self.clock.later, lambda: self.clock.now_ms
        )  # fmt: skip
        self.downlink.begin()

    def send(self, packets: int = 60) -> None:
        for number in range(packets):
            kept = self.track.accept(number, 3_000 * number, 0, DELTA if number else KEY, self.clock.now_ms)
            assert kept is not None
            self.history.stamp_at(self.clock.now_ms * 1_000, kept.size + OVERHEAD)

    def told(self, bitrate: float) -> None:
        """The estimate is this one."""
        self.downlink.bandwidth.estimator.bitrate = bitrate
        self.downlink.look(self.clock.now_ms)


def test_what_is_known_of_nobody_limits_nothing() -> None:
    stage = Stage()
    stage.clock.run(5_000)
    assert stage.downlink.estimate is None
    assert (stage.slot.limit_layer, stage.slot.room) == (HIGH, None)
    assert not stage.out.sent


def test_a_picture_that_the_line_does_not_carry_is_left_out_and_comes_back() -> None:
    stage = Stage()
    stage.send()
    stage.track.rates = (2e6, 2e6, 2e6)
    assert stage.slot.live
    stage.told(300_000)
    assert (stage.slot.limit_layer, stage.slot.live, stage.downlink.limited) == (NONE, False, True)
    # Its publisher is told what fits, and once it keeps to it the picture goes on, with a key frame
    ceiling = Ceiling()
    stage.track.layers[0].ssrc = 5
    assert ceiling.fell([stage.track])
    assert 250_000 < ceiling.tell([stage.track]) < 350_000
    stage.track.rates = (230_000.0,) * 3
    stage.downlink.look(stage.clock.now_ms)
    assert stage.slot.limit_layer == HIGH
    assert stage.track.layers[0].waiting == [stage.slot]


def test_the_ceiling_is_that_of_the_best_line_and_goes_when_it_is_wide() -> None:
    ceiling, stage = Ceiling(), Stage()
    track, other = stage.track, Slot(kind="video", ssrc=9, seat=1, wire=cast(Any, stage.out))
    other.payload_types = {"VP8": 97}
    track.layers[0].ssrc = 5
    track.add(other, 0)
    track.rates = (2e6, 2e6, 2e6)
    # One of two is unlimited
    stage.slot.room = 100_000.0
    assert not ceiling.fell([track])
    assert ceiling.bitrate is None
    other.room = 1_000_000.0
    assert ceiling.fell([track])
    assert track.ceiling == 850_000.0
    ceiling.tell([track])
    # Less is said at once, more with the next report
    other.room = 20_000.0
    assert ceiling.fell([track])
    assert track.ceiling == LEAST_PICTURE or track.ceiling == 0.85 * 100_000
    ceiling.tell([track])
    other.room = 10.0 * FULL_PICTURE
    assert not ceiling.fell([track])
    assert ceiling.tell([track]) == MAX_VIDEO_BITRATE
    # Who sends little anyway is not held back
    track.rates = (100_000.0,) * 3
    other.room = stage.slot.room = 1_000_000.0
    ceiling.fell([track])
    assert track.ceiling is None
    # And nobody is for one viewer's sake where others see it by another way
    track.rates = (2e6, 2e6, 2e6)
    track.tap = lambda kept: None
    assert track.room() is None


def test_a_camera_of_which_no_packet_came_is_told_nothing() -> None:
    ceiling, stage = Ceiling(), Stage()
    stage.track.rates = (2e6, 2e6, 2e6)
    stage.slot.room = 300_000.0
    assert not ceiling.fell([stage.track])
    stage.track.layers[0].ssrc = 5
    assert ceiling.fell([stage.track])
    ceiling.tell([stage.track])
    # Another camera in its place
    assert not ceiling.fell([Stage().track])
    assert not ceiling.fell([])


def test_repeats_of_a_burst_leave_one_after_the_other() -> None:
    stage = Stage()
    stage.send()
    stage.downlink.bandwidth.estimator.bitrate = 300_000
    outgoing = stage.track.layers[0].highest + stage.slot.sequence_offset
    for back in range(20):
        stage.downlink.repair(stage.slot, outgoing - back & 0xFFFF)
    assert len(stage.out.sent) < 3
    stage.clock.run(1_000)
    repairs = [(at, size) for at, kind, size in stage.out.sent if kind == "repair"]
    assert len(repairs) == 20
    took_ms = repairs[-1][0] - repairs[0][0]
    assert took_ms >= sum(size for _, size in repairs[:-1]) * 8_000 / LEAST_PACE * 0.9
    # Where nothing limits, a burst takes some milliseconds
    stage = Stage()
    stage.send()
    for back in range(20):
        stage.downlink.repair(stage.slot, outgoing - back & 0xFFFF)
    stage.clock.run(20)
    assert len(stage.out.sent) == 20
    assert FREE_PACE > LEAST_PACE


def test_more_is_tried_while_the_line_is_quiet_and_what_gets_through_raises_the_estimate() -> None:
    stage = Stage(layers=1)
    stage.send()
    stage.track.rates = (200_000.0,) * 3
    stage.track.ceiling = 200_000.0
    stage.told(300_000)
    assert stage.downlink.bandwidth.prober.count == 1
    number = stage.history.next
    stage.clock.run(110)
    # A tenth of a second of three times as much, and not a byte more afterwards
    padding = [size for _, kind, size in stage.out.sent if kind in ("padding", "repair")]
    assert 0.5 * 90_000 < sum(size + OVERHEAD for size in padding) * 80 < 1.2 * 900_000
    sent = len(stage.out.sent)
    stage.clock.run(90)
    assert len(stage.out.sent) == sent
    arrivals = [
        (number + place, at * 1_000 + 20_000) for place, (at, _, _) in enumerate(stage.out.sent)
    ]  # fmt: skip
    stage.downlink.feedback(rtp.transport_feedback(1, 2, 0, number, arrivals)[4:], stage.clock.now_ms)
    stage.clock.run(600)
    assert stage.downlink.estimate is not None
    assert stage.downlink.estimate > 400_000
    assert stage.downlink.probed > 0


def test_nothing_is_tried_while_the_gate_is_closed() -> None:
    stage = Stage()
    open_: list[bool] = []
    stage.track.gate = lambda now_ms: bool(open_)
    stage.track.rates = (200_000.0,) * 3
    stage.track.ceiling = 200_000.0
    # Given a call that has not begun, and one that was interrupted, with packets or without
    stage.told(300_000)
    assert stage.track.accept(0, 0, 0, KEY, stage.clock.now_ms) is None
    stage.clock.run(5_000)
    assert (stage.downlink.bandwidth.prober.count, stage.out.sent) == (0, [])
    open_.append(True)
    stage.send()
    stage.told(300_000)
    assert stage.downlink.bandwidth.prober.count == 1
    stage.clock.run(20)
    sent = len(stage.out.sent)
    assert sent > 0
    open_.clear()
    stage.clock.run(5_000)
    assert len(stage.out.sent) == sent, "not even the rest of a probe"


def test_what_was_reported_long_ago_is_no_news_when_the_numbered_picture_leaves() -> None:
    stage = Stage()
    stage.slot.far_end.expected, stage.slot.far_end.lost = 10_000, 4_000
    stage.clock.run(1_000)
    stage.track.remove(stage.slot, stage.clock.now_ms)
    stage.clock.run(1_000)
    assert stage.downlink.estimate is None
    # What an answer without numbers makes of it
    stage.slot.transport_cc = 0
    stage.clock.run(1_000)
    assert stage.downlink.estimate is None
    stage.slot.far_end.expected, stage.slot.far_end.lost = 10_100, 4_050
    stage.clock.run(1_000)
    assert stage.downlink.estimate is not None


def test_feedback_on_what_was_never_numbered_and_too_much_of_it_say_nothing() -> None:
    stage = Stage()
    stage.downlink.feedback(b"nonsense", 0)
    stage.downlink.feedback(rtp.transport_feedback(1, 2, 0, 77, [(77, 1_000)])[4:], stage.clock.now_ms)
    assert stage.downlink.estimate is None
    read = []
    with mock.patch.object(stage.history, "feedback", lambda body: read.append(body)):
        for _ in range(500):
            stage.downlink.feedback(b"any", stage.clock.now_ms)
        assert len(read) < FEEDBACKS_A_SECOND
        stage.clock.now_ms += 1_000
        stage.downlink.feedback(b"more", stage.clock.now_ms)
    assert read[-1] == b"more"


def test_an_estimate_of_the_receiver_counts_only_where_nothing_is_numbered() -> None:
    numbered, plain = Stage(), Stage(numbered=False)
    for stage in (numbered, plain):
        stage.send()
        stage.downlink.told(200_000, [7], stage.clock.now_ms)
    assert numbered.downlink.estimate is None
    assert plain.downlink.estimate == 200_000


def test_who_was_left_without_a_picture_by_its_own_estimate_is_tried_again() -> None:
    stage = Stage(numbered=False)
    stage.send()
    stage.track.rates = (130_000.0,) * 3
    stage.downlink.told(75_000, [7], stage.clock.now_ms)
    stage.downlink.look(stage.clock.now_ms)
    assert (stage.slot.limit_layer, stage.slot.live) == (NONE, False)
    # Though it goes on to say so
    for _ in range(60):
        stage.clock.run(200)
        stage.downlink.told(75_000, [7], stage.clock.now_ms)
    assert stage.slot.limit_layer == HIGH


def test_of_several_sizes_the_one_that_fits() -> None:
    stage = Stage(layers=3)
    stage.track.rates = (150_000.0, 500_000.0, 2e6)
    stage.told(300_000)
    assert stage.slot.limit_layer == LOW
    assert stage.track.room() is None
    stage.told(3_000_000)
    assert stage.slot.limit_layer == HIGH


def test_what_is_far_too_much_does_not_go_on_until_a_smaller_one_comes() -> None:
    for estimate, goes_on in ((1_500_000, True), (400_000, False)):
        stage = Stage(layers=3)
        for layer in stage.track.layers:
            for number, payload in enumerate((KEY, DELTA)):
                stage.track.accept(number, 3_000 * number, 0, payload, stage.clock.now_ms, layer)
        stage.track.rates = (150_000.0, 500_000.0, 2e6)
        stage.track.layers[2].rate.bitrate = 2e6
        stage.told(3_000_000)
        stage.slot.lane_id = 1  # as where an engine forwards, which then is told
        assert (stage.slot.live, stage.slot.layer) == (True, stage.track.layers[2])
        # When its line carries less than half of it, or not much less
        stage.told(estimate)
        assert stage.slot.limit_layer < HIGH
        assert stage.slot.live is goes_on
        assert stage.out.halted == ([] if goes_on else [stage.slot])
        # Then it is sent the smaller one from that one's key frame on
        smaller = stage.slot.target
        assert smaller is not None
        stage.track.accept(2, 6_000, 0, KEY, stage.clock.now_ms, smaller)
        assert (stage.slot.live, stage.slot.layer) == (True, smaller)


def test_after_the_end_nothing_is_sent() -> None:
    stage = Stage()
    stage.send()
    stage.downlink.close()
    stage.downlink.repair(stage.slot, 1)
    stage.told(100_000)
    assert not stage.out.sent
    assert stage.slot.limit_layer == HIGH


def test_what_a_remb_says() -> None:
    body = rtp.max_bitrate(1, 234_000, [5])[4:]
    assert rtp.told_bitrate(body) == (234_000, [5])
    body = rtp.max_bitrate(1, 234_000, [5, 6, 7])[4:]
    assert rtp.told_bitrate(body) == (234_000, [5, 6, 7])
    assert rtp.told_bitrate(body[:-2]) == (234_000, [5, 6]), "it names three, and has two"
    assert rtp.told_bitrate(body[:15]) is None
    assert rtp.told_bitrate(bytes(20)) is None
