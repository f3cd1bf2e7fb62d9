"""Where decoding can begin, in the bytes of the payload formats; VP8's numbers, read, widened and shifted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import codecs


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x10\x00", True),  # S, no extension, P=0
        (b"\x10\x01", False),  # P=1: an inter frame
        (b"\x00\x00", False),  # not the start of a partition
        (b"\x11\x00", False),  # partition 1
        (b"\x90\x80\x81\x02\x00", True),  # 15 bit picture id
        (b"\x90\xe0\x05\x01\x20\x01", False),  # picture id, TL0PICIDX, TID: P=1
        (b"\x90\xe0\x05\x01\x20\x00", True),
        (b"\x90\x80", False),
    ],
)
def test_vp8_key_frames(payload: bytes, expected: bool) -> None:
    assert codecs.vp8_keyframe(payload) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x67\x42", True),  # SPS
        (b"\x65\x88", True),  # IDR
        (b"\x41\x9a", False),  # P slice
        (b"\x78\x00\x02\x67\x42\x00\x02\x68\xce", True),  # STAP-A: SPS, PPS
        (b"\x78\x00\x02\x41\x9a", False),
        (b"\x7c\x85", True),  # FU-A, start of an IDR slice
        (b"\x7c\x05", False),  # FU-A, not the start
        (b"\x7c\x81", False),  # FU-A, start of a P slice
        (b"", False),
    ],
)
def test_h264_key_frames(payload: bytes, expected: bool) -> None:
    assert codecs.h264_keyframe(payload) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x08\x00", True),  # begins a frame, not predicted
        (b"\x48\x00", False),  # P: predicted from earlier pictures
        (b"\x00\x00", False),  # not the beginning of a frame
        (b"\x8a\x80\x01\x00", True),  # picture id of 15 bits, scalability structure
        (b"\xa8\x05\x00\x00", True),  # layer indices: spatial layer 0
        (b"\xa8\x05\x02\x00", False),  # spatial layer 1: begins no picture
        (b"\xa8\x85\x01\x02\x00", False),
        (b"\xa8\x85", False),
        (b"", False),
    ],
)
def test_vp9_key_frames(payload: bytes, expected: bool) -> None:
    assert codecs.vp9_keyframe(payload) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x18\x32\x01", True),  # N: begins a coded video sequence
        (b"\x88\x0a\x01", False),  # Z: goes on with an OBU
        (b"\x10\x0a\x01", True),  # one OBU: a sequence header
        (b"\x10\x32\x01", False),  # one OBU: a frame
        (b"\x00\x01\x12\x02\x0a\x01", True),  # a temporal delimiter, then a sequence header
        (b"\x00\x01\x12\x02\x32\x01", False),
        (b"\x20\x02\x0a\x01\x32", True),  # two OBUs, the first is a sequence header
        (b"\x00\xff\xff\xff\xff", False),
        (b"\x18", False),
    ],
)
def test_av1_key_frames(payload: bytes, expected: bool) -> None:
    assert codecs.av1_keyframe(payload) is expected


@given(st.binary(max_size=60))
def test_no_payload_makes_a_reader_raise(payload: bytes) -> None:
    for is_keyframe in codecs.KEYFRAME.values():
        is_keyframe(payload)
    wide = codecs.vp8_widened(payload)
    codecs.vp8_numbers(wide, 0)
    room = memoryview(bytearray(wide + bytes(16)))
    codecs.vp8_shift(room, 0, (5, 6))
    assert len(wide) - len(payload) in (0, 1)


def descriptor(picture: int | None, base: int | None, body: bytes, *, narrow: bool = False) -> bytes:
    """A VP8 payload (RFC 7741 section 4.2)."""
    flags = (0x80 if picture is not None else 0) | (0x40 if base is not None else 0)
    head = bytes([0x90 if flags else 0x10, *([flags] if flags else [])])
    if picture is not None:
        head += bytes([picture]) if narrow else (0x8000 | picture).to_bytes(2, "big")
    return head + (bytes([base]) if base is not None else b"") + body


@given(
    picture=st.integers(0, 0x7FFF), base=st.none() | st.integers(0, 255), body=st.binary(min_size=1, max_size=20),
    by=st.integers(0, 0x7FFF), by_base=st.integers(0, 255),
)  # fmt: skip
def test_shifted_numbers_are_read_back_and_nothing_else_changes(
    picture: int, base: int | None, body: bytes, by: int, by_base: int
) -> None:
    payload = descriptor(picture, base, body)
    assert codecs.vp8_numbers(payload, 0) == (picture, base)
    packet = bytearray(12) + payload + bytes(16)
    codecs.vp8_shift(memoryview(packet), 12, (by, by_base))
    shifted = bytes(packet[12:-16])
    expected = (picture + by & 0x7FFF, None if base is None else base + by_base & 0xFF)
    assert codecs.vp8_numbers(shifted, 0) == expected
    assert shifted.endswith(body)
    assert codecs.vp8_keyframe(shifted) == codecs.vp8_keyframe(payload)


@given(picture=st.integers(0, 127), base=st.none() | st.integers(0, 255), body=st.binary(min_size=1, max_size=9))
def test_a_short_picture_id_is_widened(picture: int, base: int | None, body: bytes) -> None:
    narrow = descriptor(picture, base, body, narrow=True)
    assert codecs.vp8_widened(narrow) == descriptor(picture, base, body)
    assert codecs.vp8_widened(descriptor(None, base, body)) == descriptor(None, base, body)
