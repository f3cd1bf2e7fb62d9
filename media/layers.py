"""One encoding of a published track (a simulcast layer, or the only one), and which layer a subscriber gets.

A layer has its own SSRC, numbers, ring, gaps and reports; whoever publishes without simulcast has one. The choice
is policy and made ten times a second, or when a layer begins or stops to flow; nothing here runs per packet but
``Layer.is_new``, and what ``PublishedTrack.accept`` does with a layer's fields. Knows no socket, SDP and room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from media import rtp
from media.feedback import Gaps, KeyframeThrottle, Reception

if TYPE_CHECKING:
    from collections.abc import Callable

    from media.send_history import History
    from media.tracks import Slot

LOW, MEDIUM, HIGH = 0, 1, 2
"""What a subscriber may want, and what may be allowed to it: of fewer layers, counted from the highest."""
NONE = -1
"""As a limit: not even the lowest."""
MOST_LAYERS = 3
STOPPED_MS = 500
"""A layer that is silent for so long while another one flows was stopped by its publisher: encoders that lack
bandwidth drop the highest layer at once. Cameras in the dark still bring five frames a second."""
RING_SIZE = 512
"""Packets kept for retransmission: two to three seconds of 720p. A power of two, below SRTP's replay window."""
HEADER = 12
"""Bytes."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A packet in the ring: what a subscriber's copy is made from.

    Numbers and bytes are no part of any cycle: the collector of cycles need not know of the hundreds of thousands
    that a node keeps, nor of the tens of thousands that come in a second.
    """

    sequence: int
    timestamp: int
    marker: int
    size: int
    """Bytes, with a plain header."""
    payload: bytes
    """Empty where the engine has it, and nobody here reads it."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the native engine did with a packet, before anybody here heard of it."""

    sequence: int
    """Extended, as the engine counts."""
    passed: bool
    """The gate was open when it came."""
    repeated: bool
    """It came before, or too late: it was not forwarded."""
    keyframe: bool
    """A decoder can begin with it."""


Lane = tuple[
    int, int, int, int, object, "Callable[[memoryview, tuple[str, int]], int]", tuple[str, int],
    tuple[int, int] | None, int, "History | None",
]  # fmt: skip
"""What fan-out needs of a slot: payload type, sequence and timestamp offset, SSRC, SRTP context, send, address,
what to add to VP8's numbers (None: nothing), and the header extension under whose id (0: there is none) the
transport-wide number goes that the history gives."""


class Rate:
    """Bits a second of one layer as its subscribers get it, over the last second, or half of it if that is less: a
    key frame alone is no rate, and who was told to send less is believed soon. Measured ten times a second."""

    WINDOW_MS = 1_000
    OVERHEAD = 64
    """Bytes a packet on the line besides its payload: RTP with an extension, SRTP's tag, UDP, IPv4."""
    __slots__ = ("_window", "bitrate")

    def __init__(self) -> None:
        self._window: deque[tuple[int, int]] = deque()
        self.bitrate = 0.0

    def measure(self, packets: int, octets: int, now_ms: int) -> None:
        """So much was forwarded up to now, since the beginning."""
        window = self._window
        window.append((now_ms, octets + packets * self.OVERHEAD))
        while len(window) > 2 and now_ms - window[1][0] >= self.WINDOW_MS:
            window.popleft()
        half = next(entry for entry in window if now_ms - entry[0] <= self.WINDOW_MS // 2)
        self.bitrate = min(
            (window[-1][1] - since[1]) * 8_000 / max(least_ms, now_ms - since[0])
            for since, least_ms in ((window[0], self.WINDOW_MS), (half, self.WINDOW_MS // 2))
        )


class Layer:
    """One encoding: what arrives under one SSRC."""

    __slots__ = (
        "flowing", "gaps", "highest", "index", "keyframes", "lanes", "last_ms", "octets", "packets",
        "paused", "rank", "rate", "reception", "repaired", "repeated", "replayed", "report", "rid", "ring", "size",
        "source_id", "ssrc", "throttle", "timestamp", "unwrap", "waiting",
    )  # fmt: skip

    def __init__(self, index: int, rid: str, clock_rate: int) -> None:
        self.index = self.rank = index
        """Place in the publisher's description; and among the layers by picture size, 0 the smallest."""
        self.rid = rid
        """RFC 8851; empty if the publisher has no simulcast, or names its layers by SSRC."""
        self.size = 0
        """Macroblocks of its last key frame; 0: not known."""
        self.ssrc: int | None = None
        self.report: tuple[rtp.SenderInfo, int] | None = None
        """The publisher's latest sender report for it, and the monotonic millisecond in which it came."""
        self.flowing = False
        """Of several layers: packets come. Meaningless for the only one."""
        self.last_ms = 0
        """When its last packet arrived, gate or no gate."""
        self.paused = False
        self.unwrap = rtp.SequenceUnwrapper()
        self.highest = -1
        self.timestamp = 0
        self.packets = 0
        self.octets = 0
        self.ring: list[Kept | None] = [None] * RING_SIZE
        self.lanes: list[Lane] = []
        self.source_id = 0
        """What the native engine calls it; 0: nothing, or there is none."""
        self.replayed = (0, -1)
        """The first and the last number that the engine sent after it had held them back."""
        self.waiting: list[Slot] = []
        """Slots that go over to this layer with its next key frame (audio: packet)."""
        self.rate = Rate()
        self.throttle = KeyframeThrottle()
        self.reception = Reception(clock_rate)
        self.gaps = Gaps()
        self.repaired = 0
        """Packets that came out of order or were sent again by the publisher."""
        self.repeated = 0
        """Packets that were not forwarded: they had come before, or came too late."""
        self.keyframes = 0

    def is_new(self, sequence: int, now_ms: int) -> bool:
        """Whether this number did not come before; keeps the books of what is missing."""
        highest = self.highest
        if sequence > highest:
            if sequence > highest + 1 and highest >= 0 and not self.paused:
                self.gaps.opened(highest, sequence, now_ms)
            return True
        if sequence <= highest - RING_SIZE or self.find(sequence) is not None:
            self.repeated += 1
            self.gaps.repeated(sequence, now_ms)
            return False
        self.gaps.filled(sequence, now_ms)
        self.repaired += 1
        return True

    def find(self, sequence: int) -> Kept | None:
        """The packet of that number, if the ring has it still."""
        if sequence <= self.highest - RING_SIZE:
            return None
        kept = self.ring[sequence & (RING_SIZE - 1)]
        return kept if kept is not None and kept.sequence == sequence else None


class Gatekeeper(Protocol):
    """What forwards packets by itself, as far as a track needs it."""

    def open_until(self, layer: Layer, until_ms: int | None) -> None:
        """Packets of that layer may pass until then (monotonic ms), None: always."""

    def replay(self, layer: Layer, until_ms: int | None, sequence: int) -> int:
        """The same, beginning with what was held back from this extended number on; the last one that had come."""

    def holds(self, layer: Layer, sequence: int) -> bool:
        """Whether that packet can still be the one with which ``replay`` begins."""

    def drop(self, layer: Layer) -> None:
        """That layer is no more."""


def ranked(layers: Sequence[Layer]) -> list[Layer]:
    """Smallest picture first, and ``rank`` brought up to it. Publishers describe their layers in this order or in
    the opposite one: which, the sizes tell that are known."""
    sizes = [layer.size for layer in layers if layer.size]
    order = list(layers)
    if sizes != sorted(sizes):
        order.reverse()
    for rank, layer in enumerate(order):
        layer.rank = rank
    return order


def pick(order: Sequence[Layer], cap: int) -> Layer | None:
    """Of layers by rank: the best that flows and is within ``cap``, else the smallest that flows, else the one to
    wait for; None if not even the lowest is allowed."""
    if cap < LOW:
        return None
    most = max(0, len(order) - 1 - (HIGH - cap)) if cap > LOW else 0
    for layer in reversed(order[: most + 1]):
        if layer.flowing:
            return layer
    return next((layer for layer in order if layer.flowing), order[most])


def stop_silent(layers: Sequence[Layer]) -> bool:
    """Mark what no longer flows while another layer does; whether anything changed."""
    flowing = [layer for layer in layers if layer.flowing]
    newest_ms = max((layer.last_ms for layer in flowing), default=0)
    stopped = [layer for layer in flowing if newest_ms - layer.last_ms > STOPPED_MS]
    for layer in stopped:
        layer.flowing = False
    return bool(stopped)


def ticks_apart(before: Layer, layer: Layer, clock_rate: int) -> int | None:
    """What to add to a timestamp of ``layer`` to get that of ``before`` for the same moment, by both layers'
    sender reports (one publisher, one clock); None if one is missing."""
    if before is layer:
        return 0
    if before.report is None or layer.report is None:
        return None
    old, new = before.report[0], layer.report[0]
    return old.timestamp - new.timestamp + ((new.ntp - old.ntp) * clock_rate >> 32)
