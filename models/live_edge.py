"""What a low-latency playlist has so far, and whether that is what a player waits for (rfc8216bis, 6.2.5.2).

Pure; shared by the app's blocking reload and its tests. nginx has the same in deploy/nginx, tested side by side.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from models.ladder import SLOT_SECONDS

LONGEST_WAIT_SECONDS = 3.0 * SLOT_SECONDS
"""For a playlist: then something is wrong, and the player is told so."""
PART_WAIT_SECONDS = 1.5
"""For a part that a playlist promised: three times its length."""
MOST_AHEAD = 1
"""A player may ask for the slot that is being written, and for the next one."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_SEQUENCE = re.compile(r"^#EXT-X-MEDIA-SEQUENCE:([0-9]+)", re.MULTILINE)


class Wish(NamedTuple):
    """What a player waits for: a segment (its media sequence number), or a part of it, or anything later."""

    segment: int
    part: int | None


class Edge(NamedTuple):
    """How far a playlist is: the segment being written, how many parts of it are there, and whether it is all."""

    segment: int
    parts: int
    ended: bool

    def has(self, wish: Wish) -> bool:
        """Whether there is no more to wait for."""
        written = wish.part is not None and self.segment == wish.segment and self.parts > wish.part
        return self.ended or self.segment > wish.segment or written


def wish_of(segment: str | None, part: str | None) -> Wish | None:
    """From ``_HLS_msn`` and ``_HLS_part``; None: nothing to wait for. Raises ValueError for what is no wish."""
    if segment is None:
        if part is not None:
            raise ValueError("a part of no segment")
        return None
    if _NUMBER.fullmatch(segment) is None or (part is not None and _NUMBER.fullmatch(part) is None):
        raise ValueError("not a number")
    return Wish(int(segment), int(part) if part is not None else None)


def edge_of(playlist: str) -> Edge:
    """How far ``playlist`` is; raises ValueError for what is no media playlist."""
    first = _SEQUENCE.search(playlist)
    if first is None:
        raise ValueError("no media playlist")
    whole, _, rest = playlist.rpartition("#EXTINF:")
    segments = whole.count("#EXTINF:") + 1 if whole else 0
    return Edge(int(first[1]) + segments, rest.count("#EXT-X-PART:"), "#EXT-X-ENDLIST" in rest)
