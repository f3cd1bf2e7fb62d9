"""A frame comes out byte for byte or not at all, and no picture comes out whose predecessor is missing."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import rtp
from media.codecs import vp8_keyframe
from media.depacketizing import (
    HOLD_US,
    MOST_FRAME_BYTES,
    MOST_WAITING,
    START_CODE,
    Depacketizer,
    Frame,
    aggregated,
    depacketizer_for,
    vp8_payload,
)

SPS, PPS, IDR, SLICE, SEI, AUD = 0x67, 0x68, 0x65, 0x41, 0x06, 0x09
MTU = 20


class Packet(NamedTuple):
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes


def machine(codec: str) -> Depacketizer:
    found = depacketizer_for(codec)
    assert found is not None
    return found


# --- an encoder's side --------------------------------------------------------------------------------


def vp8_frame(key: bool, body: bytes) -> bytes:
    """A frame whose tag tells the truth (RFC 6386 section 9.1)."""
    tag = (len(body) << 5 | 0x10 | (not key)).to_bytes(3, "little")
    return tag + (b"\x9d\x01\x2a\x40\x01\xf0\x00" if key else b"") + body


def vp8_packets(frame: bytes, picture: int) -> list[bytes]:
    """RFC 7741 with a long picture id, in small pieces."""
    pieces = [frame[at : at + MTU] for at in range(0, len(frame), MTU)]
    tail = b"\x80" + (0x8000 | picture & 0x7FFF).to_bytes(2, "big")
    return [bytes((0x90 if number == 0 else 0x80,)) + tail + piece for number, piece in enumerate(pieces)]


def h264_packets(units: list[bytes]) -> list[bytes]:
    """RFC 6184: the parameter sets in a STAP-A, small units alone, others as FU-A."""
    packets = []
    sets = [unit for unit in units if unit[0] & 0x1F in (7, 8)]
    if sets:
        packets.append(b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in sets))
    for unit in units:
        if unit in sets:
            continue
        if len(unit) <= MTU:
            packets.append(unit)
            continue
        pieces = [unit[at : at + MTU] for at in range(1, len(unit), MTU)]
        for number, piece in enumerate(pieces):
            flags = (0x80 if number == 0 else 0) | (0x40 if number == len(pieces) - 1 else 0)
            packets.append(bytes((unit[0] & 0xE0 | 28, flags | unit[0] & 0x1F)) + piece)
    return packets


def stream(codec: str, sizes: list[tuple[bool, int]], first: int) -> tuple[list[bytes], list[Packet]]:
    """What an encoder made, and what goes over the wire; every body says which frame it is of."""
    frames: list[bytes] = []
    packets: list[Packet] = []
    for number, (key, size) in enumerate(sizes):
        body = random.Random(number).randbytes(size)
        if codec == "VP8":
            frames.append(vp8_frame(key, body))
            payloads = vp8_packets(frames[-1], number)
        else:
            # Two slices: a picture that lost its first one still looks like a picture.
            kind, half = bytes((IDR if key else SLICE,)), (size + 1) // 2
            slices = [kind + piece for piece in (b"\x80" + body[:half], b"\x40" + body[half:])]
            units = [bytes((SPS, 1)), bytes((PPS, 2)), *slices] if key else slices
            frames.append(START_CODE + START_CODE.join(units))
            payloads = h264_packets(units)
        for place, payload in enumerate(payloads):
            packets.append(
                Packet(
                    first + len(packets), (0xFFFF0000 + number * 3000) & 0xFFFFFFFF,
                    place == len(payloads) - 1, payload,
                )
            )  # fmt: skip
    return frames, packets


def feed(track: Depacketizer, packets: list[Packet], every_us: int = 100) -> list[Frame]:
    out: list[Frame] = []
    for number, packet in enumerate(packets):
        out += track.packet(*packet, number * every_us)
    return out + track.due(len(packets) * every_us + 10 * HOLD_US["video"])


sizes = st.lists(st.tuples(st.booleans(), st.integers(1, 90)), min_size=1, max_size=12).map(
    lambda found: [(True, found[0][1]), *found[1:]]
)
codecs = st.sampled_from(["VP8", "H264"])


# --- properties ---------------------------------------------------------------------------------------


@given(codec=codecs, sizes=sizes, first=st.integers(0, 1 << 20), data=st.data())
def test_disorder_and_duplicates_change_nothing(
    codec: str, sizes: list[tuple[bool, int]], first: int, data: st.DataObject
) -> None:
    frames, packets = stream(codec, sizes, first)
    # The first packet is first: nobody can know of one before it.
    rest = packets[1:] + data.draw(st.lists(st.sampled_from(packets), max_size=5))
    shuffled = [packets[0], *data.draw(st.permutations(rest))]
    out = feed(machine(codec), shuffled)
    assert [frame.data for frame in out] == frames
    assert [frame.key for frame in out] == [key for key, _ in sizes]
    assert not any(frame.after_loss for frame in out)


@settings(max_examples=150)
@given(codec=codecs, sizes=sizes, first=st.integers(0, 1 << 20), data=st.data())
def test_whatever_is_lost_only_whole_frames_that_can_be_decoded_come_out(
    codec: str, sizes: list[tuple[bool, int]], first: int, data: st.DataObject
) -> None:
    frames, packets = stream(codec, sizes, first)
    places = st.integers(0, len(packets) - 1)
    lost = data.draw(st.sets(places, max_size=5))
    arrived = [packet for place, packet in enumerate(packets) if place not in lost]
    for place, by in data.draw(st.lists(st.tuples(places, st.integers(0, 4)), max_size=5)):
        arrived[place + by : place + by] = arrived[place : place + 1]  # twice, or later than it was sent
        if by % 2:
            del arrived[place : place + 1]
    out = feed(machine(codec), arrived, every_us=data.draw(st.sampled_from([100, 40_000])))
    numbers = [frames.index(frame.data) for frame in out]
    assert numbers == sorted(set(numbers))
    before = -1
    for number, frame in zip(numbers, out, strict=True):
        assert frame.key == sizes[number][0]
        if number != before + 1:
            assert frame.key, "after a hole the next picture is a key frame"
            assert frame.after_loss or before < 0
        before = number


@given(codec=codecs, sizes=sizes, lost=st.integers(0, 1000))
def test_a_stream_goes_on_with_the_key_frame_after_a_loss(
    codec: str, sizes: list[tuple[bool, int]], lost: int
) -> None:
    frames, packets = stream(codec, [*sizes, (True, 50), (False, 50)], 0)
    last = packets[-1].sequence - len([p for p in packets if p.timestamp in {packets[-1].timestamp}])
    key = next(p.sequence for p in packets if p.timestamp == packets[last].timestamp)
    gone = lost % key
    out = feed(machine(codec), [packet for packet in packets if packet.sequence != gone])
    assert [frame.data for frame in out[-2:]] == frames[-2:]


@given(codec=st.sampled_from(["VP8", "H264", "opus"]), payloads=st.lists(st.binary(max_size=40), max_size=40))
def test_strangers_bytes_raise_nothing(codec: str, payloads: list[bytes]) -> None:
    feed(machine(codec), [Packet(n, n // 3, n % 3 == 2, payload) for n, payload in enumerate(payloads)])


@given(st.binary(max_size=60))
def test_the_key_frame_parsers_agree_with_the_packet_path(payload: bytes) -> None:
    begins, frame = vp8_payload(payload)
    assert vp8_keyframe(payload) == (begins and bool(frame) and not frame[0] & 1)


# --- golden packets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("descriptor", "begins"),
    [
        ("10", True),
        ("00", False),
        ("11", False),  # partition 1 starts
        ("9080 05", True),  # 7 bit picture id
        ("9080 8005", True),  # 15 bit picture id
        ("90e0 8005 07 20", True),  # picture id, TL0PICIDX, TID
        ("9050 07 03", True),  # TL0PICIDX and key index
        ("9020 40", True),  # TID alone
        ("9000", True),
        ("b010 00", True),  # non-reference, key index alone
    ],
)
def test_vp8_descriptors(descriptor: str, begins: bool) -> None:
    assert vp8_payload(bytes.fromhex(descriptor) + b"DATA") == (begins, b"DATA")


@pytest.mark.parametrize("payload", ["", "90", "9080", "908080", "10"])
def test_a_vp8_descriptor_without_data_is_no_payload(payload: str) -> None:
    assert vp8_payload(bytes.fromhex(payload))[1] == b""


@pytest.mark.parametrize(
    "payloads",
    [
        [b"\x00" + vp8_frame(True, b"looks like a beginning")],
        [b"\x10" + vp8_frame(True, b"x"), b"\x10" + vp8_frame(True, b"a beginning within")],
        [b"\x10" + vp8_frame(True, b"x"), b"\x90"],
    ],
)
def test_a_vp8_frame_begins_once_and_at_its_beginning(payloads: list[bytes]) -> None:
    packets = [Packet(at, 0, at == len(payloads) - 1, payload) for at, payload in enumerate(payloads)]
    assert feed(machine("VP8"), packets) == []


@pytest.mark.parametrize(
    "frame",
    [
        vp8_frame(True, b"x" * 30)[:-1],  # the first partition is longer than what there is
        vp8_frame(True, b"x" * 30).replace(b"\x9d\x01\x2a", b"\x9d\x01\x2b"),
        b"\x01\x00",
    ],
)
def test_a_vp8_frame_that_contradicts_itself_is_dropped(frame: bytes) -> None:
    track = machine("VP8")
    track.packet(0, 0, True, b"\x10" + vp8_frame(True, b"first"), 0)
    assert track.packet(1, 3000, True, b"\x10" + frame, 1) == []
    assert track.needs_key


def test_single_units_aggregates_and_fragments_become_annex_b() -> None:
    packets = [
        Packet(0, 0, False, bytes.fromhex("78 0003 674200 0002 68ce")),
        Packet(1, 0, False, bytes.fromhex("06 05ff")),
        Packet(2, 0, False, bytes.fromhex("7c 85 aabb")),
        Packet(3, 0, False, bytes.fromhex("7c 05 cc")),
        Packet(4, 0, True, bytes.fromhex("7c 45 dd")),
        Packet(5, 3000, True, bytes.fromhex("41 9a01")),
    ]
    key, delta = feed(machine("H264"), packets)
    start = "00000001"
    assert key.data.hex() == f"{start}674200{start}68ce{start}0605ff{start}65aabbccdd"
    assert (key.key, key.timestamp, key.arrival_us) == (True, 0, 0)
    assert delta.data.hex() == f"{start}419a01"
    assert (delta.key, delta.after_loss) == (False, False)


def test_an_access_unit_without_a_marker_ends_with_the_next_timestamp() -> None:
    packets = [
        Packet(0, 0, False, bytes((SPS, 1))),
        Packet(1, 0, False, bytes((PPS, 1))),
        Packet(2, 0, False, bytes((IDR, 1))),
        Packet(3, 3000, False, bytes((SLICE, 1))),
        Packet(4, 6000, True, bytes((SLICE, 2))),
    ]
    assert [frame.timestamp for frame in feed(machine("H264"), packets)] == [0, 3000, 6000]


def test_a_key_frame_gets_the_parameter_sets_that_came_before() -> None:
    packets = [
        Packet(0, 0, True, bytes((SPS, 1))),
        Packet(1, 0, True, bytes((PPS, 2))),
        Packet(2, 3000, True, bytes((IDR, 3))),
        Packet(3, 6000, True, bytes((AUD, 0xF0))),
        Packet(4, 9000, True, bytes((IDR, 4))),
    ]
    sets = START_CODE + bytes((SPS, 1)) + START_CODE + bytes((PPS, 2)) + START_CODE
    assert [frame.data for frame in feed(machine("H264"), packets)] == [
        sets + bytes((IDR, 3)),
        sets + bytes((IDR, 4)),
    ]


def test_a_key_frame_whose_parameter_sets_nobody_saw_is_dropped() -> None:
    packets = [Packet(0, 0, True, bytes((AUD, 1))), Packet(1, 3000, True, bytes((IDR, 3)))]
    track = machine("H264")
    assert feed(track, packets) == []
    assert track.needs_key


@pytest.mark.parametrize(
    "payload",
    [
        "78 0003 6742",  # cut off
        "78 0000 41",  # an empty unit
        "78 0001 7c",  # a fragment in an aggregate
        "78 0002 6742 00",  # a byte too many
        "78",
        "7c 05 aa",  # a fragment that did not begin
        "7c 85",
        "79 0000 41",  # STAP-B
        "5d 85 0000",  # FU-B
        "7f",
        "60 00",
        "",
    ],
)
def test_what_packetization_mode_1_has_not_spoils_its_access_unit_only(payload: str) -> None:
    sets = [Packet(0, 0, False, bytes((SPS, 1))), Packet(1, 0, False, bytes((PPS, 2)))]
    packets = [
        *sets,
        Packet(2, 0, True, bytes((IDR, 3))),
        Packet(3, 3000, False, bytes((SLICE, 3))),
        Packet(4, 3000, True, bytes.fromhex(payload)),
        Packet(5, 6000, True, bytes((SLICE, 4))),
        Packet(6, 9000, True, bytes((IDR, 5))),
    ]
    out = feed(machine("H264"), packets)
    assert [(frame.timestamp, frame.after_loss) for frame in out] == [(0, False), (9000, True)]


def test_a_fragmented_unit_without_its_end_is_not_whole() -> None:
    packets = [
        Packet(0, 0, False, bytes.fromhex("78 0002 6742 0002 68ce")),
        Packet(1, 0, False, bytes.fromhex("65 8001")),
        Packet(2, 0, True, bytes.fromhex("7c 85 aa")),
    ]
    assert feed(machine("H264"), packets) == []


def test_an_aggregate_is_taken_apart() -> None:
    assert aggregated(bytes.fromhex("78 0002 6742 0001 68")) == [b"\x67\x42", b"\x68"]


def test_sound_needs_nothing_that_came_before() -> None:
    packets = [Packet(n, n * 960, n == 0, bytes((0xFC, n))) for n in (5, 6, 8, 9)]
    out = feed(machine("opus"), packets)
    assert [(frame.data, frame.key, frame.after_loss) for frame in out] == [
        (b"\xfc\x05", True, False),
        (b"\xfc\x06", True, False),
        (b"\xfc\x08", True, True),
        (b"\xfc\x09", True, False),
    ]


@pytest.mark.parametrize("codec", ["VP9", "AV1", "H265", "telephone-event", ""])
def test_other_codecs_are_not_taken_apart(codec: str) -> None:
    assert depacketizer_for(codec) is None


# --- bounds -------------------------------------------------------------------------------------------


def test_a_hole_waits_for_its_packet_and_no_longer() -> None:
    frames, packets = stream("VP8", [(True, 5), (False, 5), (False, 5)], 0)
    track = machine("VP8")
    assert len(track.packet(*packets[0], 0)) == 1
    assert track.packet(*packets[2], 1000) == []
    assert track.due(HOLD_US["video"]) == []
    assert [frame.data for frame in track.packet(*packets[1], HOLD_US["video"])] == frames[1:]
    late = machine("VP8")
    late.packet(*packets[0], 0)
    late.packet(*packets[2], 1000)
    assert late.due(HOLD_US["video"] + 1000) == []
    assert late.needs_key
    assert late.packet(*packets[1], HOLD_US["video"] + 2000) == [], "it is too late now"


def test_what_waits_behind_a_hole_is_bounded_in_number() -> None:
    track = machine("opus")
    track.packet(0, 0, False, b"\xfc", 0)
    out: list[Frame] = []
    for number in range(2, MOST_WAITING + 4):
        out += track.packet(number, number * 960, False, b"\xfc", 0)
    assert len(out) == MOST_WAITING + 2


def test_a_jump_of_the_numbers_is_a_loss() -> None:
    frames, packets = stream("VP8", [(True, 5), (True, 5)], 0)
    track = machine("VP8")
    track.packet(*packets[0], 0)
    (frame,) = track.packet(*packets[1]._replace(sequence=60_000), 1)
    assert (frame.data, frame.after_loss) == (frames[1], True)


@pytest.mark.parametrize(
    ("codec", "first", "more"),
    [("VP8", b"\x10\x11\x00\x00", b"\x00x"), ("H264", b"\x67\x01", b"\x06x")],
)
def test_a_frame_without_an_end_does_not_grow(codec: str, first: bytes, more: bytes) -> None:
    track = machine(codec)
    payloads = [first, *[more] * (MOST_FRAME_BYTES // 256 + 10)]
    for number, payload in enumerate(payloads):
        assert track.packet(number, 0, False, payload, number) == []
    (frame,) = track.packet(len(payloads), 3000, True, _whole_key(codec), 9)
    assert frame.after_loss


def _whole_key(codec: str) -> bytes:
    if codec == "VP8":
        return b"\x10" + vp8_frame(True, b"body")
    return bytes.fromhex("78 0002 6742 0002 68ce 0002 6588")


def test_numbers_may_wrap_where_a_track_unwraps_them() -> None:
    frames, packets = stream("VP8", [(True, 80)] + [(False, 80)] * 5, 65_530)
    unwrap = rtp.SequenceUnwrapper()
    wrapped = [p._replace(sequence=unwrap.extend(p.sequence & 0xFFFF)) for p in packets]
    assert [frame.data for frame in feed(machine("VP8"), wrapped)] == frames
