"""How large a picture is, read from the header of its key frame: nothing is decoded.

VP8: RFC 7741 section 4.3 and RFC 6386 section 9.1. H.264: the sequence parameter set, ITU-T H.264 section
7.3.2.1.1, in the packets of RFC 6184. Packets come from hostile networks: 0 stands for "not known", and nothing
is raised.
"""

from __future__ import annotations

from collections.abc import Iterator

from media import codecs

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
MOST = 1 << 16
"""Macroblocks: sixteen million pixels."""


def macroblocks(codec: str, payload: bytes) -> int:
    """The blocks of 16×16 that the picture has, by a packet that begins a key frame; 0: not known."""
    read = _READERS.get(codec)
    count = read(payload) if read is not None else 0
    return count if 0 < count <= MOST else 0


def _vp8(payload: bytes) -> int:
    start = codecs.vp8_start(payload)
    header = payload[start : start + 10]
    if start == 0 or len(header) < 10 or header[3:6] != b"\x9d\x01\x2a":
        return 0
    width = int.from_bytes(header[6:8], "little") & 0x3FFF
    height = int.from_bytes(header[8:10], "little") & 0x3FFF
    return -(-width // 16) * -(-height // 16)


def _h264(payload: bytes) -> int:
    for unit in _units(payload):
        if unit[0] & 0x1F == 7:
            try:
                return _parameter_set(_Bits(unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")))
            except IndexError:
                return 0
    return 0


def _units(payload: bytes) -> Iterator[bytes]:
    """The whole NAL units of a packet: one, or several in a STAP-A. A parameter set is never in parts."""
    if not payload:
        return
    if payload[0] & 0x1F != 24:
        yield payload
        return
    at = 1
    while at + 2 < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        if size:
            yield payload[at + 2 : at + 2 + size]
        at += 2 + size


class _Bits:
    """Reads bits and Exp-Golomb codes (ITU-T H.264 section 9.1); raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def ue(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _parameter_set(bits: _Bits) -> int:
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level
    bits.ue()  # id
    if profile in _HIGH_PROFILES:
        if bits.ue() == 3:  # chroma format
            bits.take(1)
        bits.ue(), bits.ue(), bits.take(1)  # depths, bypass
        if bits.take(1):
            return 0  # scaling matrices: nobody sends them here
    bits.ue()  # frame numbers
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.take(1), bits.ue(), bits.ue()
        for _ in range(min(bits.ue(), 255)):
            bits.ue()
    bits.ue(), bits.take(1)  # reference frames, gaps allowed
    width, height = bits.ue() + 1, bits.ue() + 1
    return width * height * (1 if bits.take(1) else 2)


_READERS = {"VP8": _vp8, "H264": _h264}
