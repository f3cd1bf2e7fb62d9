"""From RTP payloads to whole frames: VP8 (RFC 7741), H.264 (RFC 6184, packetization-mode 1), Opus (RFC 7587).

A frame comes out whole or not at all: what misses a packet is dropped, and so is every picture after it up to
the next key frame, as a decoder would show them broken. Packets may come in any order within ``HOLD_US``, the
time that the publisher has to send a lost one again. Knows no clock, no room and no socket; payloads come
from strangers, so nothing here raises over them and nothing grows without bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from media.tracks import Kind

HOLD_US: dict[Kind, int] = {"video": 250_000, "audio": 60_000}
"""How long a hole may keep later packets waiting. Sound is not asked for again, so it waits for disorder only."""
MOST_WAITING = 512
"""Packets that may wait behind a hole: what a track's ring holds."""
MOST_FRAME_BYTES = 1 << 20
MOST_PARAMETER_SETS = 8
_PACKET_COST = 256
"""Counted for each packet of a frame besides its bytes, so that tiny ones do not add up."""

START_CODE = b"\x00\x00\x00\x01"
_IDR, _SPS, _PPS, _DELIMITER, _STAP_A, _FU_A = 5, 7, 8, 9, 24, 28


class Frame(NamedTuple):
    """One encoded picture, or one packet of sound."""

    timestamp: int
    """RTP's."""
    arrival_us: int
    """When its first packet came, by the caller's clock."""
    key: bool
    after_loss: bool
    data: bytes


class _Whole(NamedTuple):
    """What an assembler completed."""

    timestamp: int
    arrival_us: int
    key: bool
    data: bytes


class _Packet(NamedTuple):
    timestamp: int
    marker: bool
    payload: bytes
    arrival_us: int


_Found = list[_Whole | None]
"""What packets brought to an end, in order; None stands for a frame that will never be whole."""


class Assembler(Protocol):
    """Joins payloads that come in order."""

    def push(self, packet: _Packet) -> _Found:
        """The next packet, right after the one before, or after ``lost``."""

    def lost(self) -> None:
        """Something is missing here: drop what has begun."""


class Vp8:
    """A frame is a run of packets of one timestamp, from the one that starts partition 0 to the marker."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._timestamp = 0
        self._arrival_us = 0
        self._size = 0

    def lost(self) -> None:
        self._parts.clear()

    def push(self, packet: _Packet) -> _Found:
        begins, payload = vp8_payload(packet.payload)
        found: _Found = []
        if self._parts and packet.timestamp != self._timestamp:
            # No marker, but nothing is missing between the two: the frame before ended here.
            found.append(self._finish())
        if not payload or begins == bool(self._parts):
            self.lost()  # unreadable, or the middle of something that did not begin, or a beginning within
            return [*found, None]
        if begins:
            self._timestamp, self._arrival_us, self._size = packet.timestamp, packet.arrival_us, 0
        self._parts.append(payload)
        self._size += len(payload) + _PACKET_COST
        if self._size > MOST_FRAME_BYTES:
            self.lost()
            return [*found, None]
        return [*found, self._finish()] if packet.marker else found

    def _finish(self) -> _Whole | None:
        data = b"".join(self._parts)
        self._parts.clear()
        key = not data[0] & 1
        # RFC 6386 section 9.1: the tag says how long the first partition is, a key frame has a start code.
        first = (data[0] | data[1] << 8 | data[2] << 16) >> 5 if len(data) >= 3 else len(data)
        head = 10 if key else 3
        if len(data) < head + first or (key and data[3:6] != b"\x9d\x01\x2a"):
            return None
        return _Whole(self._timestamp, self._arrival_us, key, data)


def vp8_payload(payload: bytes) -> tuple[bool, bytes]:
    """Whether a frame begins here, and what follows the descriptor (RFC 7741 section 4.2); empty: unreadable."""
    if not payload:
        return False, b""
    at = 1
    if payload[0] & 0x80:
        flags = payload[1] if len(payload) > 1 else 0
        at = 2
        if flags & 0x80:
            at += 2 if len(payload) > at and payload[at] & 0x80 else 1
        at += bool(flags & 0x40) + bool(flags & 0x30)
    return payload[0] & 0x17 == 0x10, payload[at:]


class H264:
    """An access unit is a run of packets of one timestamp, to the marker or to the next timestamp.

    A key frame leaves with its parameter sets, those of an earlier access unit if it has none itself.
    """

    def __init__(self) -> None:
        self._units: list[bytes] = []
        self._fragments: list[bytes] | None = None
        self._timestamp: int | None = None
        """None between two access units."""
        self._arrival_us = 0
        self._size = 0
        self._after_hole = True
        """Whether an access unit begins with the next packet has to be seen."""
        self._spoiled = False
        self._sets: dict[bytes, None] = {}
        """Parameter sets in the order in which they last came."""

    def lost(self) -> None:
        self._forget()
        self._after_hole, self._timestamp = True, None

    def push(self, packet: _Packet) -> _Found:
        found: _Found = []
        if self._timestamp is not None and packet.timestamp != self._timestamp:
            found += self._finish()
        if self._timestamp is None:
            self._timestamp, self._arrival_us = packet.timestamp, packet.arrival_us
            self._spoiled = self._after_hole and not _begins_access_unit(packet.payload)
            self._after_hole = False
        if not self._spoiled and not self._take(packet.payload):
            self._forget()
            self._spoiled = True
        return [*found, *self._finish()] if packet.marker else found

    def _take(self, payload: bytes) -> bool:
        """The NAL units of one payload; False if it cannot be what it says."""
        self._size += len(payload) + _PACKET_COST
        if len(payload) < 2 or self._size > MOST_FRAME_BYTES:
            return False
        kind = payload[0] & 0x1F
        if kind == _FU_A:
            return self._fragment(payload)
        if self._fragments is not None:
            return False
        if kind == _STAP_A:
            units = aggregated(payload)
            self._units += units
            return bool(units)
        if not 1 <= kind <= 23:
            return False
        self._units.append(payload)
        return True

    def _fragment(self, payload: bytes) -> bool:
        """RFC 6184 section 5.8: start, middle, end, in this order and each at least a byte long.

        A fragment that is both start and end must not be, but is sent, and misses nothing.
        """
        begins, ends = bool(payload[1] & 0x80), bool(payload[1] & 0x40)
        if len(payload) < 3 or begins == (self._fragments is not None):
            return False
        if self._fragments is None:
            self._fragments = [bytes(((payload[0] & 0xE0) | (payload[1] & 0x1F),))]
        self._fragments.append(payload[2:])
        if ends:
            self._units.append(b"".join(self._fragments))
            self._fragments = None
        return True

    def _forget(self) -> None:
        self._units.clear()
        self._fragments = None
        self._size = 0

    def _finish(self) -> _Found:
        """The access unit ends here, whole or not."""
        units, whole = list(self._units), self._fragments is None and not self._spoiled
        timestamp, self._timestamp = self._timestamp, None
        self._forget()
        if not whole or timestamp is None:
            return [None]
        self._remember(units)
        kinds = {unit[0] & 0x1F for unit in units}
        if not kinds & {1, 2, _IDR}:
            return []  # no picture: parameter sets that came ahead, or remarks
        if _IDR in kinds and not {_SPS, _PPS} <= kinds:
            if not {_SPS, _PPS} <= {known[0] & 0x1F for known in self._sets}:
                return [None]  # no decoder could begin here
            units = [*self._sets, *(unit for unit in units if unit[0] & 0x1F not in (_SPS, _PPS))]
        data = START_CODE + START_CODE.join(units)
        return [_Whole(timestamp, self._arrival_us, _IDR in kinds, data)]

    def _remember(self, units: list[bytes]) -> None:
        for unit in units:
            if unit[0] & 0x1F in (_SPS, _PPS):
                self._sets.pop(unit, None)
                self._sets[unit] = None
                if len(self._sets) > MOST_PARAMETER_SETS:
                    del self._sets[next(iter(self._sets))]


def _begins_access_unit(payload: bytes) -> bool:
    """Whether nothing of an access unit can precede this payload (ITU-T H.264 section 7.4.1.2.3)."""
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == _STAP_A and len(payload) > 3:
        kind = payload[3] & 0x1F
    return kind in (_SPS, _DELIMITER)


def aggregated(payload: bytes) -> list[bytes]:
    """The NAL units of a STAP-A (RFC 6184 section 5.7.1); none if one of them is cut off or no plain unit."""
    units = []
    at = 1
    while at + 2 < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        unit = payload[at + 2 : at + 2 + size]
        if not size or len(unit) < size or not 1 <= unit[0] & 0x1F <= 23:
            return []
        units.append(unit)
        at += 2 + size
    return units if at == len(payload) else []


class Opus:
    """Each packet is a frame, and each can be decoded."""

    def lost(self) -> None:
        """No packet needs another."""

    def push(self, packet: _Packet) -> _Found:
        if not packet.payload:
            return [None]
        return [_Whole(packet.timestamp, packet.arrival_us, True, packet.payload)]


_ASSEMBLERS: dict[str, tuple[Kind, Callable[[], Assembler]]] = {
    "VP8": ("video", Vp8),
    "H264": ("video", H264),
    "opus": ("audio", Opus),
}


READABLE = frozenset(_ASSEMBLERS)
"""Codecs that egress hands out, to spectators and to recordings."""


def depacketizer_for(codec: str) -> Depacketizer | None:
    """One for an RTP encoding name, or None: VP9, AV1 and the rest are not taken apart."""
    known = _ASSEMBLERS.get(codec)
    return None if known is None else Depacketizer(known[0], known[1]())


class Depacketizer:
    """One track: a bounded wait for what is missing, an assembler, and no picture whose predecessors miss."""

    def __init__(self, kind: Kind, assembler: Assembler) -> None:
        self._assembler = assembler
        self._hold_us = HOLD_US[kind]
        self._video = kind == "video"
        self._next = -1
        self._waiting: dict[int, _Packet] = {}
        self._after_loss = False
        self.needs_key = self._video
        """No picture comes out before a key frame."""

    def packet(
        self, sequence: int, timestamp: int, marker: bool, payload: bytes, arrival_us: int
    ) -> list[Frame]:
        """One packet by its extended sequence number; the frames that it completes, in order."""
        packet = _Packet(timestamp, marker, payload, arrival_us)
        if self._next < 0:
            self._next = sequence
        if sequence == self._next and not self._waiting:
            self._next += 1
            return self._assemble(packet)
        if sequence >= self._next:
            self._waiting.setdefault(sequence, packet)
        return self.due(arrival_us)

    def due(self, now_us: int) -> list[Frame]:
        """What can come out by now; a hole that is too old, or holds up too much, is given up."""
        frames: list[Frame] = []
        while self._waiting:
            packet = self._waiting.pop(self._next, None)
            if packet is not None:
                self._next += 1
                frames += self._assemble(packet)
                continue
            oldest_us = min(waiting.arrival_us for waiting in self._waiting.values())
            if now_us - oldest_us < self._hold_us and max(self._waiting) - self._next < MOST_WAITING:
                break
            self._next = min(self._waiting)
            self._assembler.lost()
            self._note_loss()
        return frames

    def _assemble(self, packet: _Packet) -> list[Frame]:
        frames = []
        for whole in self._assembler.push(packet):
            if whole is None:
                self._note_loss()
            elif self.needs_key and not whole.key:
                self._after_loss = True
            else:
                frames.append(Frame(whole.timestamp, whole.arrival_us, whole.key, self._after_loss, whole.data))
                self.needs_key = self._after_loss = False
        return frames

    def _note_loss(self) -> None:
        self._after_loss = True
        self.needs_key = self._video
