"""A publisher that sends far more than its line carries: what it is told before its browser has found out.

Its own estimate falls in steps, over seconds, in which the line loses its sound with its pictures; here it shows
within some tenths of a second how much comes through. The cap is taken back soon: then the browser knows more than
we do. Pure; time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections import deque

WINDOW_MS = 300
ENOUGH = 20
"""Packets of pictures that were due in that time."""
FLOOD = 0.3
"""Of them missing: radio loses less."""
SHARE = 0.85
"""Of what comes through."""
LEAST = 100_000
HOLD_MS = 2_000
"""So long it holds from the last flood on, ..."""
DOUBLES_MS = 1_000
"""... and is given back so fast."""
WIDE = 3_000_000
"""Bits a second with which nobody is held back any more."""


class Uplink:
    """Of one publish connection."""

    def __init__(self) -> None:
        self.bitrate: float | None = None
        """The most that it is to send in all, bits a second; None: there is no such limit."""
        self._window: deque[tuple[int, int, int, int]] = deque()
        self._until_ms = 0

    def look(self, due: int, came: int, octets: int, now_ms: int) -> bool:
        """So many packets of pictures were due and came by themselves up to now, so many bytes in all, since the
        beginning; whether the publisher has to know at once."""
        window = self._window
        window.append((now_ms, due, came, octets))
        while len(window) > 2 and now_ms - window[1][0] >= WINDOW_MS:
            window.popleft()
        since_ms, due_before, came_before, _ = window[0]
        told, full = due - due_before, len(window) > 2 and now_ms - since_ms >= WINDOW_MS
        if full and told >= ENOUGH and told - (came - came_before) > FLOOD * told:
            # Of the last two looks: what came before the flood is in the window, too.
            lately_ms, _, _, octets_before = window[-3]
            cap = max(LEAST, SHARE * (octets - octets_before) * 8_000 / (now_ms - lately_ms))
            self.bitrate = cap if self.bitrate is None else min(self.bitrate, cap)
            self._until_ms = now_ms + HOLD_MS
            window.clear()
            return True
        if self.bitrate is not None and now_ms >= self._until_ms:
            self.bitrate *= 2
            self._until_ms = now_ms + DOUBLES_MS
            if self.bitrate >= WIDE:
                self.bitrate = None
        return False
