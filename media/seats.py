"""The slots of one subscribe connection: which track gets which, and when more are wanted.

A slot is an m-line that we offer; two, sound and picture, are a seat, in which one person is heard in step with
what is seen. Slots are allocated in blocks, never recycled by renegotiation, and are mapped to tracks: whoever
joins while a slot is free costs no SDP at all. Knows no connection and no packet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from media.aiortc_seam import Line
from media.tracks import Codec, Kind, PublishedTrack, Slot

SEAT_BLOCK = 4
"""The first seat comes alone (a private stream needs one); after that they grow by so many."""
MOST_SEATS = 30
"""Sixty m-lines: within the limit of an SDP, and enough for nineteen others and eleven screens."""


class Seats:
    """One participant's slots, in the order of their m-lines."""

    def __init__(
        self, add_line: Callable[[Kind, int], tuple[int, int]], fixed: tuple[Kind, ...] | None = None
    ) -> None:
        """``add_line(kind, seat)`` makes an m-line and returns its SSRC and that of its repairs. ``fixed``: these
        are the client's own m-lines, and there are never more."""
        self.slots: list[Slot] = []
        self.by_ssrc: dict[int, Slot] = {}
        self._negotiated = 0
        self._add_line = add_line
        self._fixed = fixed is not None
        for kind in fixed or ():
            self._add(kind, 0)

    @property
    def negotiated(self) -> list[Slot]:
        """Those that the client knows."""
        return self.slots[: self._negotiated]

    @property
    def are_new(self) -> bool:
        """Whether there are slots that the client does not know."""
        return self._negotiated < len(self.slots)

    def slot_for(self, track: PublishedTrack) -> Slot | None:
        """A free slot, best next to the other track of the same publisher, else a new seat's if there is room."""
        free = [slot for slot in self.slots if slot.kind == track.kind and slot.track is None]
        taken = {slot.seat: slot.track.user_id for slot in self.slots if slot.track is not None}
        for slot in free:
            if taken.get(slot.seat) == track.user_id:
                return slot
        # An empty seat first; half of a stranger's seat would put two people's sound and picture in step.
        for slot in free:
            if slot.seat not in taken:
                return slot
        if self._fixed:
            return None
        before = len(self.slots)
        for _ in range(min(SEAT_BLOCK if before else 1, MOST_SEATS - before // 2)):
            self._add_seat()
        return next((slot for slot in self.slots[before:] if slot.kind == track.kind), None)

    def offered(self, mids: list[str]) -> None:
        """How an offer called them."""
        for slot, mid in zip(self.slots, mids, strict=False):
            slot.mid = mid

    def negotiate(self, lines: list[Line]) -> None:
        """The client knows these, and takes them so."""
        self._negotiated = len(lines)
        for slot, line in zip(self.slots, lines, strict=False):
            slot.mid = line.mid
            slot.take(
                cast("dict[Codec, int]", line.payload_types), cast("dict[Codec, int]", line.repair_types),
                line.transport_cc,
            )  # fmt: skip

    def mids(self) -> dict[str, PublishedTrack]:
        """What each carries now; not a track whose codec the client refused."""
        return {
            slot.mid: slot.track for slot in self.slots
            if slot.mid is not None and slot.track is not None
            and (slot.payload_types is None or slot.payload_type() is not None)
        }  # fmt: skip

    def clear(self) -> None:
        """There are none any more."""
        self.slots.clear()
        self.by_ssrc.clear()

    def _add_seat(self) -> None:
        seat = len(self.slots) // 2
        self._add("audio", seat)
        self._add("video", seat)

    def _add(self, kind: Kind, seat: int) -> None:
        ssrc, repair_ssrc = self._add_line(kind, seat)
        slot = Slot(kind=kind, ssrc=ssrc, seat=seat, repair_ssrc=repair_ssrc)
        self.slots.append(slot)
        self.by_ssrc[ssrc] = slot
