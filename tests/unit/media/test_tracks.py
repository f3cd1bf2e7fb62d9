"""One continuous stream in a slot, whoever is in it; no outgoing number ever stands for two packets."""

from __future__ import annotations

import random
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from media.layers import RING_SIZE, Kept
from media.tracks import PublishedTrack, Slot

KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"


class WireStub:
    """Stands for a connected transport; only its presence matters here."""

    protect_context: Any = None
    sendto: Any = None
    address = ("192.0.2.1", 9)
    history = None


def video_track(**extra: Any) -> PublishedTrack:
    return PublishedTrack(track_id="trk_a", user_id="usr_a", kind="video", codec="VP8", clock_rate=90_000, **extra)


def ready_slot(kind: Any = "video") -> Slot:
    return Slot(kind=kind, ssrc=7, seat=0, wire=cast(Any, WireStub()), payload_types={"VP8": 97, "opus": 96})


def outgoing(slot: Slot, kept: Kept) -> tuple[int, int]:
    return (kept.sequence + slot.sequence_offset) & 0xFFFF, (kept.timestamp + slot.timestamp_offset) & 0xFFFFFFFF


def test_a_video_slot_begins_at_a_key_frame() -> None:
    asked: list[int] = []
    track = video_track(ask_keyframe=lambda layer: asked.append(1))
    slot = ready_slot()
    track.add(slot, 0)
    assert asked == [1]
    assert track.accept(500, 0, 0, DELTA, 1) is not None
    assert track.layers[0].lanes == []
    track.accept(501, 3000, 0, KEY, 2)
    ((payload_type, offset, _, ssrc, *_),) = track.layers[0].lanes
    assert (payload_type, ssrc) == (97, 7)
    assert (track.layers[0].highest + offset) & 0xFFFF == 1


def test_a_sound_slot_begins_at_once() -> None:
    track = PublishedTrack(track_id="t", user_id="u", kind="audio", codec="opus", clock_rate=48_000)
    track.add(ready_slot("audio"), 0)
    track.accept(1, 0, 0, b"\xfc", 1)
    assert len(track.layers[0].lanes) == 1


def test_a_codec_that_the_subscriber_refused_is_not_sent() -> None:
    track, slot = video_track(), ready_slot()
    slot.payload_types = {"opus": 96}
    track.add(slot, 0)
    track.accept(1, 0, 0, KEY, 1)
    assert track.layers[0].lanes == []


def test_publishers_change_without_a_seam() -> None:
    slot = ready_slot()
    first, second = video_track(), video_track()
    first.add(slot, 0)
    for number in range(10):
        kept = first.accept(65530 + number & 0xFFFF, 0xFFFFF000 + 3000 * number & 0xFFFFFFFF, 0, KEY, 33 * number)
    assert kept is not None
    last_sequence, last_timestamp = outgoing(slot, kept)
    first.remove(slot, 297)
    second.add(slot, 397)
    kept = second.accept(40_000, 123_456, 0, KEY, 397)
    assert kept is not None
    sequence, timestamp = outgoing(slot, kept)
    assert sequence == last_sequence + 1
    assert (timestamp - last_timestamp) & 0xFFFFFFFF == 100 * 90


def test_the_gate_closes_without_a_hole_and_opens_at_a_key_frame() -> None:
    track, slot = video_track(), ready_slot()
    passing = True
    metered: list[tuple[int, bool, int]] = []
    track.gate = lambda now_ms: passing
    track.on_frame = lambda now_ms, keyframe, size: metered.append((now_ms, keyframe, size))
    track.add(slot, 0)
    before = track.accept(10, 0, 0, KEY, 0)
    assert before is not None
    last, _ = outgoing(slot, before)
    passing = False
    assert track.accept(11, 3000, 0, DELTA, 33) is None
    assert track.layers[0].lanes == []
    passing = True
    assert track.accept(12, 6000, 0, DELTA, 66) is not None
    assert track.layers[0].lanes == []
    after = track.accept(13, 9000, 0, KEY, 99)
    assert after is not None
    assert outgoing(slot, after)[0] == last + 1
    assert [now_ms for now_ms, _, _ in metered] == [0, 33, 66, 99], "the meter sees what arrives, gate or no gate"
    assert metered[-1] == (99, True, len(KEY))
    assert len(track.layers[0].gaps) == 0, "what the gate refused is not asked for again"


def test_video_is_metered_by_new_timestamps_and_sound_by_packets() -> None:
    metered: list[int] = []
    video = video_track()
    video.on_frame = lambda now_ms, keyframe, size: metered.append(now_ms)
    for number, timestamp in enumerate([0, 0, 3000, 0, 3000, 6000]):
        video.accept(number, timestamp, 0, DELTA, number)
    assert metered == [0, 2, 5]
    metered.clear()
    sound = PublishedTrack(track_id="t", user_id="u", kind="audio", codec="opus", clock_rate=48_000)
    sound.on_frame = lambda now_ms, keyframe, size: metered.append(now_ms)
    for number in range(3):
        sound.accept(number, 0, 0, b"\xfc", number)
    assert metered == [0, 1, 2]


def test_a_closed_track_leaves_nothing_behind() -> None:
    track, slot = video_track(), ready_slot()
    track.add(slot, 0)
    track.accept(1, 0, 0, KEY, 0)
    track.close(1)
    assert slot.track is None
    assert not track.layers[0].lanes
    assert track.accept(2, 3000, 0, KEY, 2) is None


@given(seed=st.integers(0, 10_000))
def test_an_outgoing_number_never_stands_for_two_packets(seed: int) -> None:
    """Loss, reordering, duplicates with forged content, pauses and changes of publisher; NACKs at random."""
    chance = random.Random(seed)
    slot = ready_slot()
    tracks = [video_track(), video_track()]
    sequences = [chance.randrange(65536), chance.randrange(65536)]
    sent: dict[int, bytes] = {}
    highest, now_ms, current = 0, 0, 0
    tracks[0].add(slot, 0)

    def send(kept: Kept) -> None:
        nonlocal highest
        extended = kept.sequence + slot.sequence_offset
        assert sent.setdefault(extended, kept.payload) == kept.payload
        highest = max(highest, extended)

    for step in range(300):
        now_ms += chance.choice([0, 5, 40])
        track = tracks[current]
        action = chance.random()
        if action < 0.03:
            track.remove(slot, now_ms)
            current = 1 - current
            tracks[current].add(slot, now_ms)
        elif action < 0.05:
            track.pause(now_ms)
        elif action < 0.25 and highest:
            kept = track.find(slot, chance.randrange(highest + 3) & 0xFFFF)
            if kept is not None:
                assert kept.sequence + slot.sequence_offset in sent or kept.sequence >= slot.first
                send(kept)
        else:
            sequences[current] += chance.choice([1, 1, 1, 2, 5])
            number = sequences[current] - (chance.randrange(RING_SIZE + 50) if chance.random() < 0.2 else 0)
            payload = (KEY if chance.random() < 0.2 else DELTA) + bytes([step & 0xFF, step >> 8])
            kept = track.accept(number & 0xFFFF, number * 3000 & 0xFFFFFFFF, 0, payload, now_ms)
            if kept is not None and slot.live and kept.sequence >= slot.first:
                send(kept)
