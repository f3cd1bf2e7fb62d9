"""What a native engine did with packets, in a track's books; and when its gates are told to open and to shut."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import call as call_module
from media import codecs
from media.call import Call
from media.layers import Layer, Told
from media.participants import Watch
from media.reports import Reporter
from media.tracks import PublishedTrack, Slot
from models.messages.commands import Budget
from models.timing import timers_for

KEY, DELTA = b"\x90\x80\x80\x01\x10" + b"k" * 20, b"\x90\x80\x80\x01\x11" + b"d" * 20
FOREVER = 1 << 62
FIRST = 70_000


class Engine:
    """The engine's half: it holds packets up to the millisecond that it was told, and knows nothing else."""

    def __init__(self, track: PublishedTrack) -> None:
        self.track = track
        self.until: dict[Layer, int] = dict.fromkeys(track.layers, 0)
        self.newest: dict[Layer, int] = dict.fromkeys(track.layers, -1)
        self.sent: list[int] = []
        self.held: list[int] = []
        self.queue: list[tuple[Told, bytes, Layer]] = []
        self.said: list[int | None] = []
        self.remembers = 256
        track.begin(self)

    def open_until(self, layer: Layer, until_ms: int | None) -> None:
        self.until[layer] = FOREVER if until_ms is None else until_ms
        self.said.append(until_ms)

    def replay(self, layer: Layer, until_ms: int | None, sequence: int) -> int:
        self.open_until(layer, until_ms)
        self.sent += [held for held in self.held if held >= sequence]
        self.held = [held for held in self.held if held < sequence]
        return self.newest[layer]

    def holds(self, layer: Layer, sequence: int) -> bool:
        return self.newest[layer] - sequence < self.remembers

    def drop(self, layer: Layer) -> None:
        self.until[layer] = 0

    def came(self, sequence: int, now_ms: int, payload: bytes = DELTA, layer: Layer | None = None) -> None:
        layer = layer or self.track.layers[0]
        passed, repeated = now_ms < self.until[layer], sequence in (*self.sent, *self.held)
        if not repeated:
            (self.sent if passed else self.held).append(sequence)
        self.newest[layer] = max(self.newest[layer], sequence)
        self.queue.append((Told(sequence, passed, repeated, codecs.vp8_keyframe(payload)), payload, layer))

    def tell(self, now_ms: int) -> None:
        """What it did, some time later."""
        queue, self.queue = self.queue, []
        for told, payload, layer in queue:
            timestamp = told.sequence * 3_000
            self.track.accept(told.sequence & 0xFFFF, timestamp, 0, payload, now_ms, layer, told)


def camera(*rids: str) -> PublishedTrack:
    return PublishedTrack(
        track_id="trk", user_id="usr_creator", kind="video", codec="VP8", clock_rate=90_000, rids=rids or ("",)
    )


def gated(until: list[int]) -> tuple[PublishedTrack, Engine]:
    track = camera()
    track.gate, track.gate_until = (lambda now_ms: now_ms < until[0]), (lambda: until[0])
    engine = Engine(track)
    track.sync_gate()
    return track, engine


def test_nothing_passes_before_somebody_says_so() -> None:
    track = camera()
    engine = Engine(track)
    engine.came(FIRST, 0, KEY)
    assert engine.sent == []
    # Without a gate it is open, and what came before that was known goes out with what is told first
    engine.tell(5)
    assert engine.sent == [FIRST]
    engine.came(FIRST + 1, 6)
    assert engine.sent == [FIRST, FIRST + 1]
    assert track.packets == 1


def test_what_passed_is_booked_also_if_the_gate_is_shut_by_then() -> None:
    until = [1_000]
    track, engine = gated(until)
    for number in range(4):
        engine.came(FIRST + number, 999 + number // 2, KEY)
    engine.tell(1_010)
    assert (track.packets, track.gated) == (2, 2)
    assert engine.sent == [FIRST, FIRST + 1]


def test_the_packet_that_opens_the_gate_is_the_first_that_passes_and_nothing_is_sent_twice() -> None:
    until = [0]
    track, engine = gated(until)

    def frame(now_ms: int, keyframe: bool, size: int) -> None:
        if keyframe:
            until[0] = now_ms + 1_000
        track.sync_gate()

    track.on_frame = frame
    for number, payload in enumerate((DELTA, DELTA, KEY, DELTA, DELTA)):
        engine.came(FIRST + number, 10, payload)
    engine.tell(20)
    assert engine.sent == [FIRST + 2, FIRST + 3, FIRST + 4]
    assert (track.packets, track.gated) == (3, 2)
    # And what comes from there on passes by itself
    engine.came(FIRST + 5, 30)
    engine.came(FIRST + 4, 31)
    engine.tell(40)
    assert engine.sent == [FIRST + 2, FIRST + 3, FIRST + 4, FIRST + 5]
    assert (track.packets, track.repeated) == (4, 1)


def test_a_key_frame_that_is_forgotten_opens_nothing() -> None:
    until = [0]
    track, engine = gated(until)
    keys: list[bool] = []

    def frame(now_ms: int, keyframe: bool, size: int) -> None:
        keys.append(keyframe)
        if keyframe:
            until[0] = now_ms + 1_000
        track.sync_gate()

    track.on_frame = frame
    engine.remembers = 3
    for number, payload in enumerate((KEY, DELTA, DELTA, DELTA)):
        engine.came(FIRST + number, 10, payload)
    engine.tell(20)
    assert (keys, track.packets, track.gated, engine.sent) == ([False] * 4, 0, 4, [])
    # The next one is there still
    engine.came(FIRST + 4, 30, KEY)
    engine.tell(40)
    assert (keys[-1], engine.sent) == (True, [FIRST + 4])


def test_what_the_engine_forgot_between_two_questions_has_not_passed() -> None:
    until = [1_000]
    track, engine = gated(until)
    engine.open_until(track.layers[0], 0)
    engine.came(FIRST, 10, KEY)
    engine.newest[track.layers[0]] = FIRST + 512
    engine.remembers = 1_000
    engine.tell(20)
    assert (track.packets, track.gated) == (0, 1)


def test_a_gate_that_cannot_say_until_when_stays_shut() -> None:
    track = camera()
    track.gate = lambda now_ms: True
    engine = Engine(track)
    track.sync_gate()
    engine.came(FIRST, 1, KEY)
    engine.tell(1)
    assert engine.sent == []


def test_a_pause_of_one_layer_is_a_pause_of_all() -> None:
    until = [100]
    track = camera("l", "h")
    track.gate, track.gate_until = (lambda now_ms: now_ms < until[0]), (lambda: until[0])
    engine = Engine(track)
    track.sync_gate()
    engine.came(FIRST, 1, KEY, track.layers[0])
    engine.came(FIRST + 9, 200, KEY, track.layers[1])
    engine.tell(200)
    assert set(engine.until.values()) == {0}
    # A source that is no more has no gate
    track.close(300)
    assert track.engine is None


def test_a_slot_has_the_numbers_that_the_engine_gave_it() -> None:
    track = camera()
    engine = Engine(track)
    slot = Slot(kind="video", ssrc=7, seat=0, payload_types={"VP8": 96}, wire=Wire())  # type: ignore[arg-type]
    slot.lane_id = 5
    track.add(slot, 0)
    track.sync_gate()
    engine.came(FIRST, 0)
    engine.tell(0)
    assert not slot.live, "nobody here decides when"
    slot.entered(track.layers[0], FIRST + 1, (1 - FIRST - 1, 77), 5)
    engine.came(FIRST + 1, 5, KEY)
    engine.came(FIRST + 2, 5)
    engine.tell(5)
    assert slot.live
    assert slot.lane() is None, "fan-out here has nothing to do"
    assert slot.sent() == (2, 2 * len(KEY))
    found = track.find(slot, 2)
    assert found is not None
    assert found.sequence == FIRST + 2
    assert track.find(slot, 0) is None


def test_payloads_are_kept_here_only_for_who_reads_them() -> None:
    track = camera()
    engine = Engine(track)
    track.sync_gate()
    engine.came(FIRST, 0, KEY)
    engine.tell(0)
    layer = track.layers[0]
    kept = layer.find(FIRST)
    assert kept is not None
    assert (kept.size, kept.payload) == (12 + len(KEY), b"")
    track.tap = lambda kept: None
    engine.came(FIRST + 1, 1, DELTA)
    engine.tell(1)
    kept = layer.find(FIRST + 1)
    assert kept is not None
    assert (kept.size, kept.payload) == (12 + len(DELTA), DELTA)


class Wire:
    """A subscriber's, with a lane in the engine."""

    history = None

    def aim(self, slot: Slot) -> None:
        """Whatever."""


# --- a call: what the meter says, the engine knows ----------------------------------------------------------


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 3_000)),
        st.tuples(st.just("packet"), st.booleans()),
        st.tuples(
            st.sampled_from(["look", "tell", "off", "on", "gone", "seated", "grant", "left", "close"]),
            st.integers(1, 20),
        ),
    ),
    max_size=60,
)


@given(acts=ACTS)
def test_the_engine_never_passes_what_the_meter_would_not(acts: list[tuple[str, Any]]) -> None:
    """Whatever happens in whatever order, and however late it is told: at any moment, the engine's gate is open
    only if the meter, asked at that moment about what it has heard, says so."""
    with pytest.MonkeyPatch.context() as patch:
        now = [10_000]
        patch.setattr(call_module, "monotonic_ms", lambda: now[0])

        async def scene() -> None:
            track, call = camera(), a_call()
            engine = Engine(track)
            call.attach(track, Watch("video", now[0]))
            call.seated("usr_creator")
            call.seated("usr_fan")
            call.connected("usr_fan")
            numbers = itertools.count(FIRST)
            for act, amount in [("packet", True), ("tell", 0), *acts]:
                if act == "wait":
                    now[0] += amount
                elif act == "packet":
                    engine.came(next(numbers), now[0], KEY if amount else DELTA)
                else:
                    do(call, engine, act, amount, now[0])
                until = engine.until[track.layers[0]]
                for moment in (now[0], now[0] + 1, until - 1):
                    if now[0] <= moment < until:
                        assert call.meter.may_forward(moment)
            call.abandon()

        asyncio.run(scene())


def test_what_waited_to_be_told_starts_no_clock() -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = [10_000]
        patch.setattr(call_module, "monotonic_ms", lambda: now[0])

        async def scene() -> None:
            empty = [False]
            track, call = camera(), a_call(read_what_waits=lambda: empty[0])
            engine = Engine(track)
            call.attach(track, Watch("video", now[0]))
            assert track.on_late is not None
            call.seated("usr_creator")
            call.seated("usr_fan")
            call.connected("usr_fan")
            # Given a key frame that came 251 ms ago
            now[0] += 40
            engine.came(FIRST, now[0] - 251, KEY)
            track.on_late(now[0], 251)
            engine.tell(now[0])
            assert (call.meter.state, engine.sent) == ("waiting", [])
            # When nothing waits any more, then the next one counts
            empty[0] = True
            await asyncio.sleep(0)
            engine.came(FIRST + 1, now[0], KEY)
            engine.tell(now[0])
            assert (call.meter.state, engine.sent) == ("running", [FIRST + 1])
            call.abandon()

        asyncio.run(scene())


def test_gates_are_told_whatever_happens_and_as_soon_as_a_call_has_a_track() -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = [10_000]
        patch.setattr(call_module, "monotonic_ms", lambda: now[0])

        async def scene() -> None:
            track, call = camera(), a_call()
            engine = Engine(track)
            # Given a track whose gate was open, as nobody had one for it
            track.sync_gate()
            assert engine.until[track.layers[0]] == FOREVER
            call.attach(track, Watch("video", now[0]))
            assert engine.until[track.layers[0]] == 0
            call.seated("usr_creator")
            call.seated("usr_fan")
            call.connected("usr_fan")
            engine.came(FIRST, now[0], KEY)
            engine.tell(now[0])
            assert engine.until[track.layers[0]] > now[0]
            await asyncio.sleep(0)  # the look that this led to

            # When the call ends in a look that fails, then nothing passes
            def defect() -> None:
                call.meter.close(now[0])
                raise ZeroDivisionError

            patch.setattr(call, "_look", defect)
            with pytest.raises(ZeroDivisionError):
                call.look()
            assert engine.until[track.layers[0]] == 0
            call.abandon()

        asyncio.run(scene())


def a_call(read_what_waits: Callable[[], bool] = lambda: True) -> Call:
    return Call(
        Budget(session_id="ses_1", paid_ms=5_000, rate_per_minute=100, timers=timers_for(60_000)),
        room_id="private-ses_1", epoch=1, creator_id="usr_creator",
        reporter=Reporter("media-1", "boot_1", lambda event: None),
        read_what_waits=read_what_waits, announce=lambda clock: None, on_end=lambda reason: None,
    )  # fmt: skip


def do(call: Call, engine: Engine, act: str, amount: int, now_ms: int) -> None:
    if act == "tell":
        engine.tell(now_ms)
    elif act in ("off", "on"):
        call.camera("usr_creator", off=act == "off")
    elif act == "grant":
        call.grant(5_000 + 1_000 * amount)
    elif act == "close":
        call.close("MODERATION")
    elif act == "look":
        call.look()
    else:
        {"gone": call.gone, "seated": call.seated, "left": call.left}[act](
            "usr_fan" if amount % 2 else "usr_creator"
        )
