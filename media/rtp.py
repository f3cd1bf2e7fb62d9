"""RTP and RTCP arithmetic: bytes in, numbers out, and back. Pure: no socket, no clock, no state but in a class.

RTP is RFC 3550, header extensions RFC 8285, feedback RFC 4585, REMB draft-alvestrand-rmcat-remb, transport-wide
feedback draft-holmer-rmcat-transport-wide-cc-extensions-01.
Packets come from hostile networks: a parser here returns None or stops early, it never raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
FMT_NACK, FMT_TRANSPORT_CC = 1, 15
FMT_PLI, FMT_FIR, FMT_REMB = 1, 4, 15
NTP_MASK = (1 << 64) - 1
RTP_HEADER = Struct("!BBHII")
_RTCP_HEADER = Struct("!BBH")
_BLOCK = Struct("!IIIIII")
_TWO = Struct("!HH")


class SequenceUnwrapper:
    """Extends 16 bit sequence numbers to ever-growing ones (RFC 3550 appendix A.1, without validation)."""

    def __init__(self) -> None:
        self.highest = -1

    def extend(self, sequence: int) -> int:
        """The extended number nearest to the highest seen; ``highest`` follows forward moves only."""
        if self.highest < 0:
            # One cycle up, so that a packet from before the first one does not go below zero.
            self.highest = sequence + 0x10000
            return self.highest
        step = (sequence - self.highest) & 0xFFFF
        if step < 0x8000:
            self.highest += step
            return self.highest
        return self.highest + step - 0x10000


def later(timestamp: int, than: int) -> bool:
    """Whether a 32 bit timestamp is after another, across the wrap."""
    return 0 < (timestamp - than) & 0xFFFFFFFF < 0x80000000


def is_rtcp(packet: bytes) -> bool:
    """RFC 5761 section 4: the second byte tells RTCP from RTP on one port."""
    return len(packet) > 1 and 192 <= packet[1] <= 223


def payload_bounds(packet: bytes) -> tuple[int, int] | None:
    """Where the payload begins and ends, without CSRCs, extensions and padding; None if malformed."""
    end = len(packet)
    if end < 12 or packet[0] >> 6 != 2:
        return None
    start = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if start + 4 > end:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    if packet[0] & 0x20 and end > start:
        padding = packet[end - 1]
        if padding == 0:
            return None
        end -= padding
    return (start, end) if start <= end else None


def extension(packet: bytes, wanted: int) -> bytes | None:
    """The header extension element ``wanted`` (1–14 or two-byte form) of a packet that has sound bounds."""
    if not packet[0] & 0x10:
        return None
    at = 12 + 4 * (packet[0] & 0x0F)
    profile = int.from_bytes(packet[at : at + 2], "big")
    end = at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    at += 4
    one_byte = profile == 0xBEDE
    if not one_byte and profile & 0xFFF0 != 0x1000:
        return None
    while at < end:
        if packet[at] == 0:  # padding
            at += 1
            continue
        if one_byte:
            identifier, length, at = packet[at] >> 4, (packet[at] & 0x0F) + 1, at + 1
            if identifier == 15:
                return None
        elif at + 1 < end:
            identifier, length, at = packet[at], packet[at + 1], at + 2
        else:
            return None
        if at + length > end:
            return None
        if identifier == wanted:
            return packet[at : at + length]
        at += length
    return None


def transport_number(packet: bytes, wanted: int) -> int:
    """The transport-wide number in the extension of that id (0: there is none); -1: it has none."""
    value = extension(packet, wanted) if wanted else None
    return int.from_bytes(value, "big") if value is not None and len(value) == 2 else -1


# --- RTCP, reading ------------------------------------------------------------------------------------


class Rtcp(NamedTuple):
    """One packet of a compound: its count or format field, type, and everything after the first word."""

    fmt: int
    kind: int
    body: bytes


class SenderInfo(NamedTuple):
    """The sender's part of a sender report (RFC 3550 section 6.4.1)."""

    ssrc: int
    ntp: int
    timestamp: int


class ReportBlock(NamedTuple):
    """A reception report block (RFC 3550 section 6.4.1); ``fraction`` of 256, ``delay`` in 1/65536 s."""

    ssrc: int
    fraction: int
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay: int


def compound(data: bytes) -> Iterator[Rtcp]:
    """The packets of a compound; stops silently at the first that is malformed."""
    at = 0
    while at + 8 <= len(data):
        first, kind, words = _RTCP_HEADER.unpack_from(data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data) or words < 1:
            return
        yield Rtcp(first & 0x1F, kind, data[at + 4 : end])
        at = end


def sender_info(body: bytes) -> SenderInfo | None:
    """From the body of a sender report."""
    if len(body) < 24:
        return None
    return SenderInfo(
        int.from_bytes(body[:4], "big"), int.from_bytes(body[4:12], "big"), int.from_bytes(body[12:16], "big")
    )


def sender_info_later(info: SenderInfo, after_ms: int, clock_rate: int) -> SenderInfo:
    """What the same sender would report so much later: both of its clocks run on."""
    ntp = info.ntp + (after_ms << 32) // 1000 & NTP_MASK
    return info._replace(ntp=ntp, timestamp=info.timestamp + after_ms * clock_rate // 1000 & 0xFFFFFFFF)


def report_blocks(packet: Rtcp) -> list[ReportBlock]:
    """The reception report blocks of a sender or receiver report."""
    blocks = []
    for at in range(24 if packet.kind == SR else 4, len(packet.body) - 23, 24)[: packet.fmt]:
        ssrc, loss, highest, jitter, last_sr, delay = _BLOCK.unpack_from(packet.body, at)
        lost = loss & 0xFFFFFF
        blocks.append(
            ReportBlock(ssrc, loss >> 24, lost - (lost >> 23 << 24), highest, jitter, last_sr, delay)
        )
    return blocks


def media_ssrc(body: bytes) -> int:
    """The media SSRC of a feedback packet's body; 0 if it is too short."""
    return int.from_bytes(body[4:8], "big") if len(body) >= 8 else 0


def fir_ssrcs(body: bytes) -> list[int]:
    """Whom a full intra request asks (RFC 5104 section 4.3.1)."""
    return [int.from_bytes(body[at : at + 4], "big") for at in range(8, len(body) - 7, 8)]


def nacked(body: bytes) -> list[int]:
    """The sequence numbers that a generic NACK asks for (RFC 4585 section 6.2.1)."""
    wanted = []
    for at in range(8, len(body) - 3, 4):
        first, mask = _TWO.unpack_from(body, at)
        wanted.append(first)
        wanted += [(first + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1]
    return wanted


def told_bitrate(body: bytes) -> tuple[int, list[int]] | None:
    """What a REMB allows, in bits a second, and the SSRCs of which it speaks; None if it is none
    (draft-alvestrand-rmcat-remb-03 section 2.2)."""
    if len(body) < 16 or body[8:12] != b"REMB":
        return None
    word = int.from_bytes(body[13:16], "big")
    end = min(16 + 4 * body[12], len(body) - 3)
    return (word & 0x3FFFF) << (word >> 18), [int.from_bytes(body[at : at + 4], "big") for at in range(16, end, 4)]


# --- RTCP, writing ------------------------------------------------------------------------------------


def _packet(fmt: int, kind: int, body: bytes) -> bytes:
    return _RTCP_HEADER.pack(0x80 | fmt, kind, len(body) // 4) + body


def _ssrcs(*ssrcs: int) -> bytes:
    return b"".join(ssrc.to_bytes(4, "big") for ssrc in ssrcs)


def receiver_report(ssrc: int, blocks: Sequence[ReportBlock] = ()) -> bytes:
    """At most 31 blocks."""
    body = _ssrcs(ssrc)
    for block in blocks:
        lost = max(-0x800000, min(0x7FFFFF, block.lost)) & 0xFFFFFF
        body += _BLOCK.pack(
            block.ssrc, block.fraction << 24 | lost, block.highest & 0xFFFFFFFF, block.jitter,
            block.last_sr, block.delay,
        )  # fmt: skip
    return _packet(len(blocks), RR, body)


def sender_report(ssrc: int, ntp: int, timestamp: int, packets: int, octets: int) -> bytes:
    """A sender report without reception blocks."""
    words = (timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    return _packet(0, SR, _ssrcs(ssrc) + ntp.to_bytes(8, "big") + _ssrcs(*words))


def source_name(ssrc: int, cname: str) -> bytes:
    """An SDES with the CNAME that every compound has to carry (RFC 3550 section 6.5.1)."""
    name = cname.encode()[:255]
    body = _ssrcs(ssrc) + bytes((1, len(name))) + name
    return _packet(1, SDES, body + bytes(4 - len(body) % 4))


def picture_loss(ssrc: int, media: int) -> bytes:
    """A key-frame request (RFC 4585 section 6.3.1)."""
    return _packet(FMT_PLI, PSFB, _ssrcs(ssrc, media))


def negative_ack(ssrc: int, media: int, sequences: Iterable[int]) -> bytes:
    """A generic NACK for ascending extended sequence numbers."""
    fci = b""
    first, mask = -1, 0
    for sequence in sequences:
        if first >= 0 and 0 < sequence - first <= 16:
            mask |= 1 << (sequence - first - 1)
            continue
        if first >= 0:
            fci += _TWO.pack(first & 0xFFFF, mask)
        first, mask = sequence, 0
    if first >= 0:
        fci += _TWO.pack(first & 0xFFFF, mask)
    return _packet(FMT_NACK, RTPFB, _ssrcs(ssrc, media) + fci)


def max_bitrate(ssrc: int, bits_per_second: int, media: Sequence[int]) -> bytes:
    """REMB: what the sender of these SSRCs may use in all."""
    exponent = max(0, bits_per_second.bit_length() - 18)
    fci = b"REMB" + bytes((len(media),)) + (exponent << 18 | bits_per_second >> exponent).to_bytes(3, "big")
    return _packet(FMT_REMB, PSFB, _ssrcs(ssrc, 0) + fci + _ssrcs(*media))


def transport_feedback(
    ssrc: int, media: int, count: int, base: int, arrivals: Sequence[tuple[int, int]]
) -> bytes:
    """Transport-wide congestion control feedback from ``base`` to the last arrival.

    ``arrivals``: (extended sequence number, arrival in microseconds), ascending and unique, not empty,
    none before ``base``; arrivals that are further than 8 s from their neighbour are clamped. ``count``
    numbers the feedback.
    """
    reference = arrivals[0][1] // 64_000
    clock = reference * 256  # in units of 250 microseconds
    symbols: list[int] = []
    deltas = b""
    for sequence, arrival in arrivals:
        symbols += [0] * (sequence - base - len(symbols))
        delta = max(-0x8000, min(0x7FFF, arrival // 250 - clock))
        clock += delta
        small = 0 <= delta <= 0xFF
        symbols.append(1 if small else 2)
        deltas += delta.to_bytes(1, "big") if small else delta.to_bytes(2, "big", signed=True)
    body = _ssrcs(ssrc, media) + _TWO.pack(base & 0xFFFF, len(symbols))
    body += (reference & 0xFFFFFF).to_bytes(3, "big") + bytes((count & 0xFF,)) + _chunks(symbols) + deltas
    padding = -len(body) % 4
    if not padding:
        return _packet(FMT_TRANSPORT_CC, RTPFB, body)
    return _packet(FMT_TRANSPORT_CC | 0x20, RTPFB, body + bytes(padding - 1) + bytes((padding,)))


def _chunks(symbols: list[int]) -> bytes:
    """Run-length chunks for long runs, else vectors of seven two-bit symbols."""
    packed = b""
    at = 0
    while at < len(symbols):
        run = 1
        while at + run < len(symbols) and run < 0x1FFF and symbols[at + run] == symbols[at]:
            run += 1
        if run >= 7:
            packed += (symbols[at] << 13 | run).to_bytes(2, "big")
            at += run
            continue
        vector = 0xC000
        for place, symbol in enumerate(symbols[at : at + 7]):
            vector |= symbol << (12 - 2 * place)
        packed += vector.to_bytes(2, "big")
        at += 7
    return packed
