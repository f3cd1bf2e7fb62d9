"""Fragmented MP4 (ISO/IEC 14496-12): reading what ffmpeg writes, sample by sample, and writing CMAF chunks.

Why our own chunks: ffmpeg fragments sound where its frames happen to end. Taking its samples out and
putting them into chunks of our own cuts every rung at the same half seconds. Knows nothing of playlists.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SYNC_SAMPLE = 0x0200_0000
OTHER_SAMPLE = 0x0101_0000
_NOT_SYNC = 0x0001_0000
_LARGEST_BOX = 64 * 1024 * 1024


class BrokenStream(Exception):
    """Not the fragmented MP4 that we asked for."""


class Init(NamedTuple):
    """An initialisation segment: file type and movie box, as they came."""

    data: bytes
    timescale: int
    """Ticks a second of every decode time that follows."""
    codec: str
    """As in a CODECS attribute (RFC 6381), read from avcC or esds."""


class Sample(NamedTuple):
    """One coded picture, or one coded frame of sound; times in ticks."""

    decode_time: int
    duration: int
    key: bool
    data: bytes


class Span(NamedTuple):
    """What a chunk covers, in ticks."""

    decode_time: int
    duration: int
    key: bool


class Reader:
    """Takes a stream as it arrives from a pipe and gives its samples."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._file_type = b""
        self._fragment: list[tuple[int, int, int, bool]] = []

    def feed(self, data: bytes) -> Iterator[Init | Sample]:
        """What is complete with ``data``; raises BrokenStream."""
        self._buffer += data
        while len(self._buffer) >= 8:
            size, kind = struct.unpack_from(">I4s", self._buffer)
            if not 8 <= size <= _LARGEST_BOX:
                raise BrokenStream(f"a box of {size} bytes")
            if len(self._buffer) < size:
                return
            box = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield from self._box(kind, box)

    def _box(self, kind: bytes, box: bytes) -> Iterator[Init | Sample]:
        if kind == b"ftyp":
            self._file_type = box
        elif kind == b"moov":
            yield Init(self._file_type + box, _timescale(box[8:]), _codec(box[8:]))
        elif kind == b"moof":
            self._fragment = list(_samples(box[8:]))
        elif kind == b"mdat":
            place = 8
            for decode_time, duration, size, key in self._fragment:
                yield Sample(decode_time, duration, key, box[place : place + size])
                place += size
            self._fragment = []


def chunk(sequence: int, samples: list[Sample]) -> bytes:
    """A movie fragment with its media: ``moof`` and ``mdat`` of one track whose samples last equally long."""
    first = samples[0]
    rows = b"".join(
        struct.pack(">II", len(sample.data), SYNC_SAMPLE if sample.key else OTHER_SAMPLE) for sample in samples
    )
    header = _full_box(b"mfhd", 0, 0, struct.pack(">I", sequence))
    # default-base-is-moof and a default duration.
    track = _full_box(b"tfhd", 0, 0x020008, struct.pack(">II", 1, first.duration))
    track += _full_box(b"tfdt", 1, 0, struct.pack(">Q", first.decode_time))
    # Box headers and fixed fields: moof 8, traf 8, trun 12 + 8, and mdat's 8.
    offset = 8 + len(header) + 8 + len(track) + 20 + len(rows) + 8
    run = _full_box(b"trun", 0, 0x000601, struct.pack(">Ii", len(samples), offset) + rows)
    media = b"".join(sample.data for sample in samples)
    return _make(b"moof", header + _make(b"traf", track + run)) + _make(b"mdat", media)


def span(data: bytes) -> Span:
    """What the chunks in ``data`` cover together; raises BrokenStream when there is no whole one."""
    samples = [item for item in Reader().feed(data) if isinstance(item, Sample)]
    if not samples:
        raise BrokenStream("no whole chunk")
    return Span(samples[0].decode_time, sum(sample.duration for sample in samples), samples[0].key)


def _make(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, version: int, flags: int, body: bytes) -> bytes:
    return _make(kind, struct.pack(">I", version << 24 | flags) + body)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8 or place + size > len(data):
            raise BrokenStream(f"a {kind!r} box of {size} bytes")
        yield kind, data[place + 8 : place + size]
        place += size


def _find(data: bytes, *path: bytes) -> bytes:
    for name in path:
        found = next((body for kind, body in _boxes(data) if kind == name), None)
        if found is None:
            raise BrokenStream(f"no {name!r} box")
        data = found
    return data


def _timescale(movie: bytes) -> int:
    header = _find(movie, b"trak", b"mdia", b"mdhd")
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


def _codec(movie: bytes) -> str:
    entries = _find(movie, b"trak", b"mdia", b"minf", b"stbl", b"stsd")[8:]
    kind, entry = next(_boxes(entries), (b"", b""))
    if kind == b"avc1":
        # VisualSampleEntry: 78 bytes before its boxes. AVCDecoderConfigurationRecord: profile, constraints, level.
        return f"avc1.{_find(entry[78:], b'avcC')[1:4].hex().upper()}"
    if kind == b"mp4a":
        # AudioSampleEntry: 28 bytes before its boxes.
        return f"mp4a.{_audio_object(_find(entry[28:], b'esds')[4:])}"
    raise BrokenStream(f"a sample entry {kind!r}")


def _audio_object(descriptor: bytes) -> str:
    """Object type and audio object type out of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6)."""
    tag, body = _descriptor(descriptor)
    if tag != 0x03:
        raise BrokenStream("no elementary stream descriptor")
    tag, config = _descriptor(body[3:])
    specific_tag, specific = _descriptor(config[13:])
    if tag != 0x04 or specific_tag != 0x05:
        raise BrokenStream("no decoder configuration")
    return f"{config[0]:x}.{specific[0] >> 3}"


def _descriptor(data: bytes) -> tuple[int, bytes]:
    """Tag and body; the size is written in sevens of bits."""
    size, place = 0, 1
    while True:
        size = size << 7 | data[place] & 0x7F
        place += 1
        if not data[place - 1] & 0x80:
            return data[0], data[place : place + size]


def _samples(fragment: bytes) -> Iterator[tuple[int, int, int, bool]]:
    """Decode time, duration, size and whether decoding can begin there, of each sample of a ``moof``."""
    track = _find(fragment, b"traf")
    duration, size, flags = _defaults(_find(track, b"tfhd"))
    time_box = _find(track, b"tfdt")
    decode_time = int(struct.unpack_from(">Q" if time_box[0] == 1 else ">I", time_box, 4)[0])
    run = _find(track, b"trun")
    has, count = struct.unpack_from(">II", run)
    place = 8 + 4 * bool(has & 0x1)
    first_flags = flags
    if has & 0x4:
        first_flags = struct.unpack_from(">I", run, place)[0]
        place += 4
    for index in range(count):
        its_duration, its_size, its_flags = duration, size, first_flags if index == 0 else flags
        if has & 0x100:
            its_duration = struct.unpack_from(">I", run, place)[0]
            place += 4
        if has & 0x200:
            its_size = struct.unpack_from(">I", run, place)[0]
            place += 4
        if has & 0x400:
            its_flags = struct.unpack_from(">I", run, place)[0]
            place += 4
        place += 4 * bool(has & 0x800)
        yield decode_time, its_duration, its_size, not its_flags & _NOT_SYNC
        decode_time += its_duration


def _defaults(header: bytes) -> tuple[int, int, int]:
    """Duration, size and flags that a track fragment header gives to samples without their own."""
    has = struct.unpack_from(">I", header)[0] & 0xFFFFFF
    place = 8 + 8 * bool(has & 0x1) + 4 * bool(has & 0x2)
    values = []
    for flag in (0x8, 0x10, 0x20):
        values.append(struct.unpack_from(">I", header, place)[0] if has & flag else 0)
        place += 4 * bool(has & flag)
    return values[0], values[1], values[2]
