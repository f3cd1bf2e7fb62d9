"""What has been written of a broadcast: slots, segments, parts. Kept in ``state.json``, survives a kill.

Pure arithmetic and names; knows nothing of files' contents. A slot is two seconds of a broadcast and the
media sequence number of its segment, the same on every rung and continuous over restarts; an epoch is one
life of a transcode child, and is in every name, so that two lives never write the same file.
"""

from __future__ import annotations

import msgspec

from models.ladder import RENDITIONS, SLOT_SECONDS

WINDOW = 6
"""Segments that a playlist names."""
GRACE = 8
"""Segments kept after that: as long as the longest playlist that named them (RFC 8216, 6.2.2), and a slot more."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a slot, for low latency and for recovery."""

    name: str
    seconds: float
    independent: bool


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A slot of one rung. ``decode_time`` in ticks from the epoch's beginning; 0 bytes in a gap."""

    slot: int
    epoch: int
    seconds: float
    captured_at: float
    """Unix time at which its first picture or sound was captured."""
    decode_time: int = 0
    ticks: int = 0
    size: int = 0
    discontinuity: bool = False
    gap: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """Its file's name within the rung's directory."""
        return segment_name(self.slot, self.epoch)

    @property
    def ends_at(self) -> float:
        """Unix time of capture at which it ends."""
        return self.captured_at + self.seconds

    def without_parts(self) -> Segment:
        """The same, when its parts are no longer there."""
        return msgspec.structs.replace(self, parts=())


class Rendition(msgspec.Struct, kw_only=True):
    """One rung's segments that are still there, oldest first, and what is known of all it ever had."""

    segments: list[Segment] = msgspec.field(default_factory=list)
    discontinuities_gone: int = 0
    """Of segments that are in ``segments`` no longer."""
    codecs: dict[int, str] = msgspec.field(default_factory=dict)
    """By epoch."""
    timescale: int = 0
    peak_bits: int = 0
    """Bits a second of its largest segment."""
    bits: int = 0
    seconds: float = 0.0
    counted: int = 0

    def window(self) -> list[Segment]:
        """The segments that a playlist names."""
        return self.segments[-WINDOW:]

    def discontinuity_sequence(self) -> int:
        """How many discontinuities have left the window (RFC 8216, 4.3.3.3)."""
        return self.discontinuities_gone + sum(segment.discontinuity for segment in self.segments[:-WINDOW])

    def append(self, segment: Segment) -> None:
        """Take the next slot; raises ValueError if it is not the next."""
        if self.segments and segment.slot != self.segments[-1].slot + 1:
            raise ValueError(f"slot {segment.slot} after {self.segments[-1].slot}")
        self.segments.append(segment)
        if segment.gap:
            return
        self.bits += segment.size * 8
        self.seconds += segment.seconds
        self.counted += 1
        # The rest of a segment that was cut short says nothing about the rate.
        if segment.seconds > SLOT_SECONDS / 2:
            self.peak_bits = max(self.peak_bits, round(segment.size * 8 / segment.seconds))

    def average_bits(self) -> int:
        """Bits a second over the whole broadcast."""
        return round(self.bits / self.seconds) if self.seconds else 0

    def pop_old(self) -> list[Segment]:
        """The segments that nobody may ask for any more, taken out."""
        count = max(0, len(self.segments) - WINDOW - GRACE)
        old, self.segments = self.segments[:count], self.segments[count:]
        self.discontinuities_gone += sum(segment.discontinuity for segment in old)
        return old


class Thumbnail(msgspec.Struct, frozen=True, kw_only=True):
    """A small picture inside a sprite; ``at`` is seconds since the broadcast began."""

    at: float
    sprite: int
    index: int


class State(msgspec.Struct, kw_only=True):
    """All that a child needs to go on where another was killed."""

    origin: float = 0.0
    """Unix time of capture of the very first picture; 0 until there was one."""
    epochs: dict[int, float] = msgspec.field(default_factory=dict)
    """Unix time of capture at which each epoch's media time is 0."""
    renditions: dict[str, Rendition] = msgspec.field(
        default_factory=lambda: {name: Rendition() for name in RENDITIONS}
    )
    thumbnails: list[Thumbnail] = msgspec.field(default_factory=list)
    ended: bool = False

    def next_slot(self) -> int:
        """The first slot that no rung has."""
        return max((r.segments[-1].slot + 1 for r in self.renditions.values() if r.segments), default=0)


def segment_name(slot: int, epoch: int) -> str:
    """``s00012_3.m4s``."""
    return f"s{slot:05d}_{epoch}.m4s"


def part_name(slot: int, epoch: int, index: int) -> str:
    """``s00012_3.p2.m4s``."""
    return f"s{slot:05d}_{epoch}.p{index}.m4s"


def init_name(epoch: int) -> str:
    """``init_3.mp4``."""
    return f"init_{epoch}.mp4"


def missed_slots(last_end: float, begins: float) -> int:
    """How many whole slots nobody captured between two lives of a child; at most what a playlist can show."""
    return max(0, min(int((begins - last_end) / SLOT_SECONDS), WINDOW + GRACE))


def slot_of(decode_time: int, timescale: int) -> int:
    """Which slot of its epoch, from 0, a sample of sound or picture begins in."""
    return decode_time // (timescale * SLOT_SECONDS)


def part_of(decode_time: int, timescale: int, parts: int) -> int:
    """Which part of its slot, from 0, a sample begins in."""
    return decode_time * parts // (timescale * SLOT_SECONDS) % parts


def gap(slot: int, epoch: int, captured_at: float) -> Segment:
    """A slot that nobody has."""
    return Segment(slot=slot, epoch=epoch, seconds=float(SLOT_SECONDS), captured_at=captured_at, gap=True)


def gap_like(other: Segment) -> Segment:
    """A slot that a rung has not and another has. As long, and as much of a discontinuity, as that one is:
    players that change rungs count and add up."""
    return Segment(
        slot=other.slot,
        epoch=other.epoch,
        seconds=other.seconds,
        captured_at=other.captured_at,
        discontinuity=other.discontinuity,
        gap=True,
    )
