"""How much a subscriber is sent again: a NACK of some bytes must not buy megabytes, nor hold the event loop. And
how often it may ask for a key frame, which everybody gets and pays for.

In every slot, and on the whole connection, a quarter of what goes out anyway, and a small burst: for a key frame
that was lost, and for slots in which little flows. Knows no socket and no SRTP; time is an argument.
"""

from __future__ import annotations

from media import rtp
from media.layers import RING_SIZE
from media.slots import Slot

MOST_NACKED = 64
"""Packets sent again at once in one slot; and a second slot's as many on the whole connection."""
SHARE = 4
"""One packet, and one byte, in so many that were forwarded."""
SLICE_MS = 100
PACKETS_A_SLICE = 4
"""Besides, so that slots in which little flows are repaired too."""
LOOKS_A_SLICE = 2 * RING_SIZE
"""Numbers that are looked up for one connection: looking costs, too."""
RETRANSMIT_EVERY_MS = 20
"""A client that repeats its NACK faster than a packet travels multiplies nothing."""
SKIP_EVERY_MS = 2_000
"""Who lacks more than is sent again gets a key frame instead, at most so often: everybody pays for it."""
KEYFRAMES_AT_ONCE = 3
KEYFRAME_EVERY_MS = 2_000
"""Key frames that one slot's subscriber may ask for, at once and from then on. What the node itself asks for, when
somebody comes or another layer is due, is not counted: nobody waits for a first picture because of this."""
PACKET_BYTES = 1_200


class _Allowance:
    """Packets and bytes that may be sent again now."""

    __slots__ = ("_at", "_most", "bytes", "packets")

    def __init__(self, most: int, at: int) -> None:
        self._most = most
        self._at = at
        self.packets: float = most
        self.bytes: float = most * PACKET_BYTES

    def grow(self, packets: int, octets: int, at: int) -> None:
        """So much was forwarded since; ``at``: slices of time."""
        more = PACKETS_A_SLICE * (at - self._at)
        self._at = at
        self.packets = min(self._most, self.packets + packets / SHARE + more)
        self.bytes = min(self._most * PACKET_BYTES, self.bytes + octets / SHARE + more * PACKET_BYTES)

    def covers(self, size: int) -> bool:
        return self.packets >= 1 and self.bytes >= size

    def take(self, size: int) -> None:
        self.packets -= 1
        self.bytes -= size


class Repairs:
    """What one subscriber's connection may be sent again, and what was, lately."""

    def __init__(self) -> None:
        self._all: _Allowance | None = None
        self._slots: dict[int, _Allowance] = {}
        self._forwarded: dict[int, tuple[int, int]] = {}
        self._looked_in = -1
        self._looks = 0
        self._again: dict[tuple[int, int], int] = {}
        self._skipped_ms: dict[int, int] = {}
        self._keyframes_ms: dict[int, int] = {}
        """When each slot's key frames will all have been earned (a virtual schedule: ITU-T I.371's GCRA)."""

    def wanted(self, slot: Slot, nack: bytes, now_ms: int) -> list[int]:
        """The numbers that a NACK's body asks for and that are worth looking up."""
        at = now_ms // SLICE_MS
        if at != self._looked_in:
            self._looked_in, self._looks = at, 0
        left = LOOKS_A_SLICE - self._looks
        if left <= 0:
            return []
        self._grow(slot, at)
        numbers = rtp.nacked(nack[: 8 + 4 * MOST_NACKED])[: min(left, MOST_NACKED)]
        self._looks += len(numbers)
        return numbers

    def was_just_sent(self, slot: Slot, outgoing: int, now_ms: int) -> bool:
        """Whether the packet may still be on its way."""
        sent_ms = self._again.get((slot.ssrc, outgoing))
        return sent_ms is not None and now_ms - sent_ms < RETRANSMIT_EVERY_MS

    def take(self, slot: Slot, outgoing: int, size: int, now_ms: int) -> bool:
        """Whether a packet of ``size`` bytes may be sent again; if so, it is counted as sent."""
        share = self._slots[slot.ssrc]
        if self._all is None or not (share.covers(size) and self._all.covers(size)):
            return False
        share.take(size)
        self._all.take(size)
        key = (slot.ssrc, outgoing)
        self._again.pop(key, None)
        if len(self._again) >= RING_SIZE:
            del self._again[next(iter(self._again))]
        self._again[key] = now_ms
        return True

    def may_skip(self, slot: Slot, now_ms: int) -> bool:
        """Whether a key frame is due in place of what was not sent again; if so, it is counted as asked for.

        A browser that lacks a second of packets asks for all of them, and after three seconds for a key frame.
        """
        before = self._skipped_ms.get(slot.ssrc)
        if before is not None and now_ms - before < SKIP_EVERY_MS:
            return False
        self._skipped_ms[slot.ssrc] = now_ms
        return True

    def may_refresh(self, slot: Slot, now_ms: int) -> bool:
        """Whether a key frame that the subscriber wants is asked for; if so, it is counted."""
        earned_ms = max(self._keyframes_ms.get(slot.ssrc, now_ms), now_ms)
        if earned_ms - now_ms > (KEYFRAMES_AT_ONCE - 1) * KEYFRAME_EVERY_MS:
            return False
        self._keyframes_ms[slot.ssrc] = earned_ms + KEYFRAME_EVERY_MS
        return True

    def _grow(self, slot: Slot, at: int) -> None:
        packets, octets = slot.sent()
        share = self._slots.get(slot.ssrc)
        if self._all is None:
            self._all = _Allowance(2 * MOST_NACKED, at)
        if share is None:
            share = self._slots[slot.ssrc] = _Allowance(MOST_NACKED, at)
            self._forwarded[slot.ssrc] = (packets, octets)
        before, octets_before = self._forwarded[slot.ssrc]
        self._forwarded[slot.ssrc] = (packets, octets)
        share.grow(packets - before, octets - octets_before, at)
        self._all.grow(packets - before, octets - octets_before, at)
