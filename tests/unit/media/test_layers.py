"""Which layer a subscriber gets, and that it sees one stream whatever happens to layers and packets."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import codecs
from media.layers import HIGH, LOW, MEDIUM, NONE, STOPPED_MS, Kept, Layer, pick, ranked, stop_silent
from media.rtp import SenderInfo, later
from media.tracks import PublishedTrack, Slot

RATE = 90_000
SIZES = {"l": (320, 180), "m": (640, 360), "h": (1280, 720)}


class WireStub:
    """Stands for a connected transport; only its presence matters here."""

    protect_context: Any = None
    sendto: Any = None
    address = ("192.0.2.1", 9)
    history = None


def vp8(picture: int, *, key: bool = False, rid: str = "h", tail: bytes = b"") -> bytes:
    """A packet that begins a VP8 frame, with picture id and TL0PICIDX, and a key frame's size."""
    width, height = SIZES.get(rid, (320, 180))
    head = bytes([0x90, 0xC0]) + (0x8000 | picture & 0x7FFF).to_bytes(2, "big") + bytes([picture & 0xFF])
    frame = bytes([0 if key else 1, 0, 0]) + b"\x9d\x01\x2a"
    return head + frame + width.to_bytes(2, "little") + height.to_bytes(2, "little") + tail


def camera(rids: str = "lmh", **extra: Any) -> PublishedTrack:
    return PublishedTrack(
        track_id="trk", user_id="usr", kind="video", codec="VP8", clock_rate=RATE, rids=list(rids), **extra
    )


def ready_slot() -> Slot:
    return Slot(kind="video", ssrc=7, seat=0, wire=cast(Any, WireStub()), payload_types={"VP8": 97})


def layers(*flowing: bool) -> list[Layer]:
    found = [Layer(index, str(index), RATE) for index in range(len(flowing))]
    for layer, flows in zip(found, flowing, strict=True):
        layer.flowing = flows
    return found


class Sender:
    """One layer's encoder: numbers of its own, from anywhere."""

    def __init__(self, track: PublishedTrack, layer: Layer, *, chance: random.Random) -> None:
        self.track, self.layer = track, layer
        self.sequence = chance.randrange(1 << 16)
        self.base = chance.randrange(1 << 32)
        self.picture = chance.randrange(1 << 15)

    def timestamp(self, now_ms: int) -> int:
        return self.base + now_ms * 90 & 0xFFFFFFFF

    def frame(self, now_ms: int, *, key: bool = False, tail: bytes = b"") -> Kept | None:
        self.sequence += 1
        self.picture += 1
        payload = vp8(self.picture, key=key, rid=self.layer.rid, tail=tail)
        return self.track.accept(
            self.sequence & 0xFFFF, self.timestamp(now_ms), 0x80, payload, now_ms, self.layer
        )

    def report(self, now_ms: int) -> None:
        info = SenderInfo(self.layer.index, (1 << 40) + (now_ms << 32) // 1000, self.timestamp(now_ms))
        self.track.reported(self.layer, info, now_ms)


def outgoing(slot: Slot, kept: Kept) -> tuple[int, int, bytes]:
    """Extended number, timestamp and payload as the subscriber gets them."""
    packet = bytearray(kept.payload + bytes(16))
    if slot.shift is not None:
        codecs.vp8_shift(memoryview(packet), 0, slot.shift)
    timestamp = kept.timestamp + slot.timestamp_offset & 0xFFFFFFFF
    return kept.sequence + slot.sequence_offset, timestamp, bytes(packet[:-16])


# --- policy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flowing", "cap", "expected"),
    [
        ((True, True, True), HIGH, 2),
        ((True, True, True), MEDIUM, 1),
        ((True, True, True), LOW, 0),
        ((True, True, False), HIGH, 1),
        ((False, True, True), LOW, 1),  # nothing so small: the smallest there is
        ((False, False, True), MEDIUM, 2),
        ((False, False, False), MEDIUM, 1),  # the one to wait for
        ((True, True), HIGH, 1),
        ((True, True), MEDIUM, 0),
        ((True,), LOW, 0),
        ((False,), HIGH, 0),
    ],
)
def test_the_best_that_flows_within_the_wish(flowing: tuple[bool, ...], cap: int, expected: int) -> None:
    found = layers(*flowing)
    assert pick(found, cap) is found[expected]


def test_nothing_is_picked_where_nothing_is_allowed() -> None:
    assert pick(layers(True, True), NONE) is None


def test_sizes_tell_the_order_of_layers() -> None:
    small, middle, large = layers(True, True, True)
    assert ranked([small, middle, large]) == [small, middle, large]
    small.size, middle.size = 510, 135
    assert ranked([small, middle, large]) == [large, middle, small]
    assert [small.rank, middle.rank, large.rank] == [2, 1, 0]


def test_silence_is_a_stop_only_while_another_layer_flows() -> None:
    found = layers(True, True, True)
    found[0].last_ms, found[1].last_ms, found[2].last_ms = 1_000, 1_000, 1_000 - STOPPED_MS - 1
    assert stop_silent(found)
    assert [layer.flowing for layer in found] == [True, True, False]
    assert not stop_silent(found)


# --- a track with layers ------------------------------------------------------------------------------


def test_a_wish_is_met_at_the_next_key_frame_of_its_layer_and_only_that_layer_is_asked() -> None:
    asked: list[str] = []
    track, slot = camera(ask_keyframe=lambda layer: asked.append(layer.rid)), ready_slot()
    low, _, high = (Sender(track, layer, chance=random.Random(layer.index)) for layer in track.layers)
    for sender in (low, high):
        sender.frame(0, key=True)
    track.add(slot, 1_000)
    assert asked[-1] == "h"
    high.frame(1_000, key=True)
    assert slot.layer is high.layer
    asked.clear()
    slot.wanted_layer = LOW
    track.choose(1_010)
    assert asked == ["l"]
    assert low.frame(1_020) is not None
    assert slot.layer is high.layer, "not in the middle of a picture that it has never seen"
    low.frame(1_030, key=True)
    assert slot.layer is low.layer
    assert not high.layer.lanes
    assert len(low.layer.lanes) == 1


def test_a_layer_that_stops_is_replaced_by_the_best_that_flows_and_taken_again() -> None:
    asked: list[str] = []
    track, slot = camera(ask_keyframe=lambda layer: asked.append(layer.rid)), ready_slot()
    track.add(slot, 0)
    low, middle, high = (Sender(track, layer, chance=random.Random(layer.index)) for layer in track.layers)
    for sender in (low, middle, high):
        sender.frame(0, key=True)
    assert slot.layer is high.layer
    for now_ms in range(33, 1_000, 33):
        low.frame(now_ms)
        middle.frame(now_ms)
    track.tick(1_000)
    assert asked[-1] == "m"
    middle.frame(1_010, key=True)
    assert slot.layer is middle.layer
    assert track.feed is middle.layer
    high.frame(1_040, key=True)
    assert slot.layer is high.layer
    assert track.feed is high.layer


def test_a_limit_holds_against_a_wish_and_stops_a_picture() -> None:
    track, slot = camera(), ready_slot()
    track.add(slot, 0)
    senders = [Sender(track, layer, chance=random.Random(layer.index)) for layer in track.layers]
    slot.limit_layer = MEDIUM
    for sender in senders:
        sender.frame(0, key=True)
    assert slot.layer is track.layers[1]
    slot.limit_layer = NONE
    track.choose(10)
    assert not slot.live
    assert all(not layer.lanes and not layer.waiting for layer in track.layers)
    slot.limit_layer = HIGH
    track.choose(20)
    senders[2].frame(30, key=True)
    assert slot.layer is track.layers[2]


def two_that_flow(seed: int) -> tuple[PublishedTrack, Slot, Sender, Sender]:
    """A camera of three sizes of which the lowest and the highest have begun, and a subscriber."""
    chance = random.Random(seed)
    track, slot = camera(), ready_slot()
    track.add(slot, 0)
    low, _, high = (Sender(track, layer, chance=chance) for layer in track.layers)
    for sender in (low, high):
        sender.frame(0, key=True)
    return track, slot, low, high


def test_layers_meet_in_time_by_their_sender_reports_and_do_not_drift_apart() -> None:
    track, slot, low, high = two_that_flow(seed=5)
    # Reports come when they come; their clock is one.
    low.report(0)
    high.report(20)
    kept = high.frame(33)
    assert kept is not None
    _, begin, _ = outgoing(slot, kept)
    for turn in range(1, 40):
        now_ms = 33 + 330 * turn
        slot.wanted_layer = LOW if turn % 2 else HIGH
        track.choose(now_ms)
        sender = low if turn % 2 else high
        # Encoders send all sizes of a picture, one after another: the old layer has shown this one.
        (high if turn % 2 else low).frame(now_ms)
        sender.frame(now_ms, key=True)
        kept = sender.frame(now_ms + 66)
        assert kept is not None
        _, timestamp, _ = outgoing(slot, kept)
        ahead = (timestamp - begin - (now_ms + 66 - 33) * 90) & 0xFFFFFFFF
        assert ahead <= 2 * turn, "a tick, so that time runs forward, and the rounding of a report"


def test_a_picture_that_comes_too_early_is_shifted_and_the_next_change_forgets_it() -> None:
    track, slot, low, high = two_that_flow(seed=6)
    for sender in (low, high):
        sender.report(0)
    before = high.frame(100)
    assert before is not None
    _, shown, _ = outgoing(slot, before)
    slot.wanted_layer = LOW
    track.choose(100)
    early = low.frame(50, key=True)
    assert early is not None
    assert outgoing(slot, early)[1] == (shown + 1) & 0xFFFFFFFF
    slot.wanted_layer = HIGH
    track.choose(200)
    after = high.frame(233, key=True)
    assert after is not None
    assert abs((outgoing(slot, after)[1] - shown & 0xFFFFFFFF) - 133 * 90) <= 2


def test_what_a_room_sees_runs_on_over_changes_of_the_layer_that_feeds() -> None:
    chance = random.Random(3)
    track = camera()
    frames: list[tuple[int, bool]] = []
    shown: list[Kept] = []
    times: list[int] = []
    track.on_frame = lambda now_ms, keyframe, size: frames.append((now_ms, keyframe))
    track.on_packet = lambda now_ms, timestamp, payload, keyframe: times.append(timestamp)
    low, middle, high = (Sender(track, layer, chance=chance) for layer in track.layers)

    def send(sender: Sender, now_ms: int, *, key: bool = False) -> None:
        kept = sender.frame(now_ms, key=key)
        if kept is not None and sender.layer is track.feed and (mapped := track.shown(kept)) is not None:
            shown.append(mapped)

    send(low, 0, key=True)
    for now_ms in range(33, 330, 33):
        send(low, now_ms)
    send(high, 330, key=True)
    send(low, 340)
    for now_ms in range(363, 660, 33):
        send(high, now_ms)
        send(low, now_ms)
        send(middle, now_ms)
    whole = [packet.sequence for packet in shown]
    assert whole == list(range(whole[0], whole[0] + len(whole))), "up at a key frame: nothing is missing"
    assert [now_ms for now_ms, _ in frames] == sorted({now_ms for now_ms, _ in frames}), "one layer feeds"
    for now_ms in range(660, 1_650, 33):
        send(middle, now_ms)
    track.tick(1_650)
    send(middle, 1_683)
    assert shown[-1].sequence == shown[-2].sequence + 2, "down at once: whoever reads must see that it lost track"
    assert track.feed is middle.layer
    assert all(later(after, before) for before, after in pairwise(times))


def test_a_gate_stops_every_layer_and_one_without_layers_for_ever_so_long() -> None:
    track, slot = camera(), ready_slot()
    track.add(slot, 0)
    senders = [Sender(track, layer, chance=random.Random(layer.index)) for layer in track.layers]
    for sender in senders:
        sender.frame(0, key=True)
    track.gate = lambda now_ms: now_ms > 1_000_000
    # More packets than a sequence number tells apart.
    for number in range(40_000):
        assert senders[2].frame(1 + number) is None
    assert not any(layer.lanes for layer in track.layers)
    senders[2].frame(1_000_100, key=True)
    assert slot.live
    kept = senders[2].frame(1_000_133)
    assert kept is not None
    assert outgoing(slot, kept)[0] == 5, "a key frame of each layer, and two since"


# --- one stream, whatever happens ---------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_switches_losses_and_disorder_leave_one_stream(seed: int) -> None:
    """Layers stop and start, packets are lost, late, repeated and forged; wishes and limits change; the gate
    closes; what was lost is asked for again. No outgoing number stands for two packets; changes leave no hole and
    no picture id out; time runs forward over each."""
    chance = random.Random(seed)
    track, slot = camera(), ready_slot()
    senders = [Sender(track, layer, chance=chance) for layer in track.layers]
    stopped = [False, False, False]
    closed_until = -1
    track.gate = lambda now_ms: now_ms > closed_until
    sent: dict[int, tuple[int, bytes]] = {}
    late: list[tuple[Layer, int, int, bytes]] = []
    track.add(slot, 0)

    def send(kept: Kept) -> None:
        number, timestamp, payload = outgoing(slot, kept)
        assert number > 0
        assert sent.setdefault(number, (timestamp, payload)) == (timestamp, payload)

    def took(layer: Layer, kept: Kept | None) -> None:
        if kept is not None and slot.live and slot.layer is layer and kept.sequence >= slot.first:
            send(kept)

    for step in range(400):
        now_ms = 1_000 + 11 * step
        action = chance.random()
        if action < 0.03:
            slot.wanted_layer = chance.choice((LOW, MEDIUM, HIGH))
            track.choose(now_ms)
        elif action < 0.04:
            slot.limit_layer = chance.choice((NONE, LOW, HIGH, HIGH))
            track.choose(now_ms)
        elif action < 0.06:
            stopped[chance.randrange(3)] ^= True
        elif action < 0.07:
            closed_until = now_ms + chance.randrange(100)
        elif action < 0.15 and sent:
            if (found := track.find(slot, chance.choice(sorted(sent)[-50:]) & 0xFFFF)) is not None:
                assert outgoing(slot, found)[0] in sent or found.sequence >= slot.first
                send(found)
            continue
        elif action < 0.2 and late:
            layer, sequence, timestamp, payload = chance.choice(late[-40:])
            forged = payload + b"!" if chance.random() < 0.3 else payload
            took(layer, track.accept(sequence, timestamp, 0, forged, now_ms, layer))
            continue
        if step % 9 == 0:
            track.tick(now_ms)
        for sender, is_stopped in zip(senders, stopped, strict=True):
            if is_stopped:
                continue
            if chance.random() < 0.05:
                sender.report(now_ms)
            key = bool(sender.layer.waiting) and chance.random() < 0.4
            if chance.random() < 0.1:  # lost, or late
                sender.sequence += 1
                sender.picture += 1
                payload = vp8(sender.picture, rid=sender.layer.rid, tail=step.to_bytes(2, "big"))
                late.append((sender.layer, sender.sequence & 0xFFFF, sender.timestamp(now_ms), payload))
                continue
            switches, top = slot.switches, max(sent, default=0)
            due = slot.layer.highest + slot.sequence_offset + 1 if slot.live and slot.layer is not None else 0
            kept = sender.frame(now_ms, key=key, tail=step.to_bytes(2, "big"))
            took(sender.layer, kept)
            if slot.switches != switches:
                assert kept is not None
                number, timestamp, payload = outgoing(slot, kept)
                old_time, old_payload = sent.get(number - 1, (None, b""))
                assert number == due > top
                if old_time is not None:
                    assert later(timestamp, old_time)
                    old, new = codecs.vp8_numbers(old_payload, 0), codecs.vp8_numbers(payload, 0)
                    assert ((old[0] or 0) + 1) & 0x7FFF == new[0]
                    assert ((old[1] or 0) + 1) & 0xFF == new[1]
