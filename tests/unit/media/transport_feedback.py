"""Reads what we write, independently: transport-wide feedback after the draft's section 3.1."""

import struct

from media import rtp


def read_transport_feedback(packet: bytes) -> tuple[int, dict[int, int]]:
    """A reader after the draft's section 3.1: (base, {offset from base: arrival in microseconds})."""
    (parsed,) = rtp.compound(packet)
    body = parsed.body[: -parsed.body[-1]] if packet[0] & 0x20 else parsed.body
    assert parsed.fmt & 0x0F == rtp.FMT_TRANSPORT_CC
    base, count = struct.unpack_from("!HH", body, 8)
    reference = int.from_bytes(body[12:15], "big")
    at, symbols = 16, list[int]()
    while len(symbols) < count:
        (chunk,) = struct.unpack_from("!H", body, at)
        at += 2
        if chunk & 0x8000:
            assert chunk & 0x4000
            symbols += [chunk >> shift & 3 for shift in range(12, -2, -2)]
        else:
            symbols += [chunk >> 13] * (chunk & 0x1FFF)
    clock, arrivals = reference * 64_000, {}
    for offset, symbol in enumerate(symbols[:count]):
        size = {0: 0, 1: 1, 2: 2}[symbol]
        if size:
            clock += 250 * int.from_bytes(body[at : at + size], "big", signed=size == 2)
            arrivals[offset] = clock
        at += size
    assert at == len(body)
    return base, arrivals
