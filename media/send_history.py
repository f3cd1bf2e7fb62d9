"""What was sent to one subscriber under transport-wide numbers, and what its feedback says became of it.

draft-holmer-rmcat-transport-wide-cc-extensions-01: every numbered packet of a connection counts up one sequence,
and the receiver says of each number when it arrived. ``twcc.h`` of the native path is the same, and is used where
it was built; both give the same answers to the same packets. Knows no socket and no estimate.
Times are microseconds: of our monotonic clock where something is sent, of the receiver's where it arrives.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

RING = 1 << 12
"""Packets remembered: a second and more of the fullest room."""
MOST_STEPS = 32
"""In one feedback; what comes on top is taken as one group."""
BURST_US = 5_000
"""What is sent within so long is one group (draft-ietf-rmcat-gcc-02 section 5.2)."""
LONGEST_US = 5_000_000
"""No step is longer: it stands for a silence of any length."""
SHUFFLED_US = 500_000
"""What arrives so much before what was sent earlier was overtaken; by more: the receiver's clock has changed."""
OVERHEAD = 44
"""Bytes on the line besides a packet's own: SRTP's tag, UDP, IPv4."""
TICK_US, REFERENCE_US = 250, 64_000
_FCI, _CHUNKS = 8, 16
_UNDER_WAY, _LOST, _CAME = 1, 2, 3


class Step(NamedTuple):
    """From one group of packets to the next: how much later it was sent, how much later it arrived, its bytes."""

    sent_us: int
    arrived_us: int
    octets: int


class Feedback(NamedTuple):
    """What one feedback says."""

    received: int
    lost: int
    recovered: int
    """Of those received, counted as lost before."""
    octets: int
    sent_us: int
    """Of the packet that was sent last of those received; no time if none was."""
    arrived_us: int
    probe_packets: int
    probe_octets: int
    """Of the latest probe up to now, without its first packet."""
    probe_sent_us: int
    probe_arrived_us: int
    """From the probe's first packet to its last."""
    steps: tuple[Step, ...]


class History(Protocol):
    """One connection's numbers."""

    def stamp(self, size: int) -> int:
        """The number of a packet that is sent now; ``size``: as it leaves."""

    def probe(self, probe: int) -> None:
        """What is sent from now on belongs to a probe of this number, 1 to 255; 0: to none."""

    def settle(self) -> None:
        """What was sent up to now is not counted as lost any more: who sent too much knows it, and sends less."""

    def feedback(self, body: bytes) -> Feedback | None:
        """Take the body of a feedback (RTCP type 205, format 15); None: it makes no sense, nothing changed."""


class _Record:
    __slots__ = ("probe", "sent_us", "size", "state")

    def __init__(self, sent_us: int, size: int, probe: int) -> None:
        self.sent_us = sent_us
        self.size = size
        self.probe = probe
        self.state = _UNDER_WAY


class _Group(NamedTuple):
    first_us: int
    sent_us: int
    arrived_us: int
    octets: int


class SendHistory:
    """``History`` without a compiler."""

    def __init__(self) -> None:
        self.next = 1 << 16
        """As in C: extended, its lower 16 bits are what goes out."""
        self._ring: list[_Record | None] = [None] * RING
        self._settled = 0
        self._now: _Group | None = None
        self._before: _Group | None = None
        self._reference: int | None = None
        self._base = 0
        self._probing = self._watched = 0
        self._probe_packets = self._probe_octets = 0
        self._probe_sent = self._probe_arrived = (0, 0)

    def stamp(self, size: int) -> int:
        return self.stamp_at(time.monotonic_ns() // 1000, size)

    def stamp_at(self, now_us: int, size: int) -> int:
        """The number of a packet that is sent at this microsecond."""
        self._ring[self.next % RING] = _Record(now_us, size, self._probing)
        number = self.next & 0xFFFF
        self.next += 1
        return number

    def probe(self, probe: int) -> None:
        self._probing = probe
        if probe and probe != self._watched:
            self._watched = probe
            self._probe_packets = self._probe_octets = 0
            self._probe_sent = self._probe_arrived = (0, 0)

    def settle(self) -> None:
        self._settled = self.next

    def feedback(self, body: bytes) -> Feedback | None:
        symbols = _symbols(body)
        if symbols is None:
            return None
        reported, at = symbols
        clock = self._unwrap(int.from_bytes(body[12:15], "big"))
        base = int.from_bytes(body[8:10], "big")
        first = self.next - ((self.next - base) & 0xFFFF)
        received = lost = recovered = octets = 0
        newest: tuple[int, int] | None = None
        steps: list[Step] = []
        for number, symbol in enumerate(reported, first):
            if symbol:
                clock += int.from_bytes(body[at : at + symbol], "big", signed=symbol == 2) * TICK_US
                at += symbol
            if number >= self.next or self.next - number > RING:
                continue  # nobody sent it, or long ago
            known = self._ring[number % RING]
            if known is None or known.state == _CAME:
                continue
            counts = number >= self._settled
            if not symbol:
                lost += counts and known.state == _UNDER_WAY
                known.state = _LOST
                continue
            recovered += counts and known.state == _LOST
            known.state = _CAME
            received += 1
            octets += known.size
            if newest is None or known.sent_us >= newest[0]:
                newest = known.sent_us, clock
            self._take(known, clock, steps)
            if known.probe and known.probe == self._watched:
                self._probed(known, clock)
        return Feedback(
            received, lost, recovered, octets, *(newest or (0, 0)), self._probe_packets, self._probe_octets,
            _within(self._probe_sent), _within(self._probe_arrived), tuple(steps),
        )  # fmt: skip

    def _unwrap(self, reference: int) -> int:
        if self._reference is None:
            self._base = reference
        else:
            by = (reference - self._reference) & 0xFFFFFF
            self._base += by - 0x1000000 if by >= 0x800000 else by
        self._reference = reference
        return self._base * REFERENCE_US

    def _take(self, known: _Record, arrived_us: int, steps: list[Step]) -> None:
        now, before = self._now, self._before
        if now is not None:
            if known.sent_us < now.first_us:
                return  # overtaken: it says nothing of a queue
            if known.sent_us - now.first_us <= BURST_US or len(steps) == MOST_STEPS:
                self._now = _Group(
                    now.first_us, max(now.sent_us, known.sent_us), max(now.arrived_us, arrived_us),
                    now.octets + known.size,
                )  # fmt: skip
                return
            if before is not None:
                if 0 < before.arrived_us - now.arrived_us < SHUFFLED_US:
                    # If its step were left out, what it was early by would count as a queue.
                    now = now._replace(arrived_us=before.arrived_us)
                if now.arrived_us >= before.arrived_us:
                    sent, arrived = (before.sent_us, now.sent_us), (before.arrived_us, now.arrived_us)
                    steps.append(Step(_within(sent), _within(arrived), now.octets))
            self._before = now
        self._now = _Group(known.sent_us, known.sent_us, arrived_us, known.size)

    def _probed(self, known: _Record, arrived_us: int) -> None:
        self._probe_packets += 1
        if self._probe_packets == 1:
            self._probe_sent = known.sent_us, known.sent_us
            self._probe_arrived = arrived_us, arrived_us
            return
        self._probe_octets += known.size
        self._probe_sent = self._probe_sent[0], max(self._probe_sent[1], known.sent_us)
        self._probe_arrived = self._probe_arrived[0], max(self._probe_arrived[1], arrived_us)


def _within(span: tuple[int, int]) -> int:
    return max(0, min(LONGEST_US, span[1] - span[0]))


def _symbols(body: bytes) -> tuple[list[int], int] | None:
    """How many bytes of delta each packet has that is told of, and where the deltas begin; None: malformed."""
    count = int.from_bytes(body[10:12], "big")
    if len(body) < _CHUNKS or not 0 < count <= RING:
        return None
    symbols: list[int] = []
    at = _CHUNKS
    while len(symbols) < count:
        if at + 2 > len(body):
            return None
        chunk = int.from_bytes(body[at : at + 2], "big")
        at += 2
        if not chunk & 0x8000:
            if not chunk & 0x1FFF:
                return None
            symbols += [chunk >> 13 & 3] * (chunk & 0x1FFF)
        elif chunk & 0x4000:
            symbols += [chunk >> (12 - 2 * place) & 3 for place in range(7)]
        else:
            symbols += [chunk >> (13 - place) & 1 for place in range(14)]
    del symbols[count:]
    if 3 in symbols or at + sum(symbols) > len(body):
        return None
    return symbols, at
