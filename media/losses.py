"""Losses of who says nothing else of its line: which are its own, and which come of what it is sent.

Radio loses some whatever is sent; such a line would never be given more by who only looks at the share. So what
is usual is learnt, and only what clearly exceeds it counts, as far as so few packets can tell. Pure; time is an
argument, in milliseconds.
"""

from __future__ import annotations

import math

ENOUGH, WHOLE = 20, 100
"""Packets: fewer say nothing; so many are a sum, ..."""
LONGEST_MS = 5_000
"""... or what came in so long."""
FLOOD = 0.3
"""So much is judged as soon as there are enough packets."""
MOST_USUAL = 0.10
"""What is beyond is never taken for the line's own."""
MOST = 0.2
"""And so much is too much of any."""
UP, UP_EXCESS, DOWN = 1 / 16, 1 / 32, 1 / 8
"""What is usual rises slowly, and falls soon: it is what remains when less is sent."""
CLEARLY = 0.02
"""Above what is usual, and ..."""
DEVIATIONS = 2.5
"""... what luck may do to a sum."""


class Losses:
    """One subscriber's."""

    def __init__(self) -> None:
        self.loss = 0.0
        """Share of packets, of the last sum."""
        self.usual = 0.0
        self.excessive = False
        """Whether the last sum is clearly more than usual."""
        self._told = self._lost = 0
        self._since_ms: int | None = None

    def add(self, told: int, lost: int, now_ms: int) -> bool:
        """So many packets were due, and did not come; whether there is a new sum."""
        if self._since_ms is None:
            self._since_ms = now_ms
        self._told += told
        self._lost += lost
        if self._told < ENOUGH:
            return False
        flooded = self._lost > FLOOD * self._told
        if not flooded and self._told < WHOLE and now_ms - self._since_ms < LONGEST_MS:
            return False
        self._judge(max(0.0, min(1.0, self._lost / self._told)), self._told)
        self._told = self._lost = 0
        self._since_ms = None
        return True

    def _judge(self, loss: float, packets: int) -> None:
        spread = math.sqrt(max(self.usual, 1 / WHOLE) / packets)
        self.loss = loss
        self.excessive = loss > min(MOST, self.usual + CLEARLY + DEVIATIONS * spread)
        towards = min(loss, MOST_USUAL)
        step = DOWN if towards < self.usual else UP_EXCESS if self.excessive else UP
        self.usual += step * (towards - self.usual)
