"""What forwarding must know of encoded pictures: where decoding can begin, and VP8's running numbers.

VP8 RFC 7741, H.264 RFC 6184, VP9 RFC 9628, AV1 "RTP Payload Format For AV1" 1.0 (its dependency descriptor is
a header extension and is not passed on). Nothing is decoded. Packets come from hostile networks: nothing here
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Codec = Literal["VP8", "H264", "VP9", "AV1", "opus"]
VIDEO: tuple[Codec, ...] = ("VP8", "H264", "VP9", "AV1")
"""What is forwarded, in the order in which we offer it to subscribers."""
FORWARDED: dict[Codec, str] = {
    "VP8": "VP8",
    "H264": "H264 (packetization-mode 1)",
    "VP9": "VP9 (profile 0)",
    "AV1": "AV1 (profile 0)",
    "opus": "opus",
}
"""What is carried from one to others, in words for whoever offers none of it."""
PICTURE_MASK = 0x7FFF
_AV1_SEQUENCE_HEADER, _AV1_TEMPORAL_DELIMITER = 1, 2


# --- where decoding can begin ---------------------------------------------------------------------------


def vp8_keyframe(payload: bytes) -> bool:
    """Whether the payload begins a VP8 key frame (RFC 7741 sections 4.2 and 4.3)."""
    at = vp8_start(payload)
    return 0 < at < len(payload) and not payload[at] & 0x01


def vp8_start(payload: bytes) -> int:
    """Where the frame begins, behind the payload descriptor; 0 if this packet does not begin a frame."""
    if len(payload) < 2 or payload[0] & 0x17 != 0x10:  # S set, partition 0
        return 0
    at = 1
    if payload[0] & 0x80:
        flags = payload[1]
        at = 2
        if flags & 0x80:
            if at >= len(payload):
                return 0
            at += 2 if payload[at] & 0x80 else 1
        at += (1 if flags & 0x40 else 0) + (1 if flags & 0x30 else 0)
    return at


def h264_keyframe(payload: bytes) -> bool:
    """Whether the payload begins what a decoder can start at: an SPS or an IDR slice (RFC 6184 section 5)."""
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == 28:  # FU-A
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F in (5, 7)
    if kind != 24:  # not STAP-A
        return kind in (5, 7)
    at = 1
    while at + 2 < len(payload):
        if payload[at + 2] & 0x1F in (5, 7):
            return True
        at += 2 + int.from_bytes(payload[at : at + 2], "big")
    return False


def vp9_keyframe(payload: bytes) -> bool:
    """Whether the payload begins a VP9 key picture (RFC 9628 section 4.2): begins a frame (B) that is not
    predicted from earlier pictures (not P), of the lowest spatial layer."""
    if not payload or payload[0] & 0x48 != 0x08:
        return False
    if not payload[0] & 0x20:  # L: layer indices
        return True
    at = 1
    if payload[0] & 0x80:  # I: picture id
        if at >= len(payload):
            return False
        at += 2 if payload[at] & 0x80 else 1
    return at < len(payload) and not payload[at] & 0x0E


def av1_keyframe(payload: bytes) -> bool:
    """Whether the payload begins a coded video sequence: its N bit says so, or its first OBU is a sequence header
    (aggregation header: section 4.4)."""
    if len(payload) < 2 or payload[0] & 0x80:  # Z: goes on with an OBU of the packet before
        return False
    if payload[0] & 0x08:
        return True
    at, single = 1, payload[0] & 0x30 == 0x10
    while at < len(payload):
        size = 0
        if not single:
            size, at = _leb128(payload, at)
        kind = payload[at] >> 3 & 0x0F if at < len(payload) else 0
        if kind != _AV1_TEMPORAL_DELIMITER or single:
            return kind == _AV1_SEQUENCE_HEADER
        at += size
    return False


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most eight octets, and where it ends (AV1 section 4.10.5)."""
    value = 0
    for place in range(8):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << 7 * place
        at += 1
        if not data[at - 1] & 0x80:
            break
    return value, at


KEYFRAME: dict[str, Callable[[bytes], bool]] = {
    "VP8": vp8_keyframe, "H264": h264_keyframe, "VP9": vp9_keyframe, "AV1": av1_keyframe,
}  # fmt: skip


# --- VP8's running numbers ------------------------------------------------------------------------------


def vp8_widened(payload: bytes) -> bytes:
    """The payload with its picture id in 15 bits: one of seven could not run on after another layer's."""
    if len(payload) > 2 and payload[0] & 0x80 and payload[1] & 0x80 and not payload[2] & 0x80:
        return payload[:2] + b"\x80" + payload[2:]
    return payload


def vp8_numbers(packet: bytes, at: int) -> tuple[int | None, int | None]:
    """The picture id, widened, and TL0PICIDX of a payload that begins at ``at``; None where there is none."""
    if len(packet) < at + 2 or not packet[at] & 0x80:
        return None, None
    flags = packet[at + 1]
    at += 2
    picture = base = None
    if flags & 0x80:
        if len(packet) < at + 2:
            return None, None
        picture = int.from_bytes(packet[at : at + 2], "big") & PICTURE_MASK
        at += 2
    if flags & 0x40 and at < len(packet):
        base = packet[at]
    return picture, base


def vp8_shift(packet: memoryview, at: int, shift: tuple[int, int]) -> None:
    """Add to picture id and TL0PICIDX of the widened payload at ``at``, in place; ``packet`` is longer than it."""
    if not packet[at] & 0x80:
        return
    flags = packet[at + 1]
    at += 2
    if flags & 0x80:
        picture = (packet[at] << 8 | packet[at + 1]) + shift[0] & PICTURE_MASK
        packet[at], packet[at + 1] = 0x80 | picture >> 8, picture & 0xFF
        at += 2
    if flags & 0x40:
        packet[at] = packet[at] + shift[1] & 0xFF
