"""How good a participant's connection is, in four words, and when a change is worth telling.

The one place of the thresholds. Grades are of the way between the participant and this node, both directions,
so that each side of a call can be told "your connection" and "theirs" by the same measure. Pure.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Quality = Literal["good", "fair", "poor", "lost"]

ORDER: tuple[Quality, ...] = ("good", "fair", "poor", "lost")

FAIR_LOSS, POOR_LOSS = 3.0, 10.0
"""Percent. Repeats and Opus' own error correction hide a few; of every tenth packet speech breaks up, and each
picture waits for repeats."""
FAIR_RTT_MS, POOR_RTT_MS = 300.0, 800.0
"""Of this leg alone. ITU-T G.114: 150 ms one way are not noticed, with 400 a conversation falls apart."""
FAIR_FRAMES, POOR_FRAMES = 8.0, 1.0
"""A second. Below 8 movement is no longer one; below 1 the picture stands."""
LOST_MS = 4_000
"""A browser sends its ICE checks every 2.5 s, whatever else it has to say."""

WORSE_AFTER_MS = 2_000
"""So long a change has to last before it is told: a lost burst, or a key frame, is none."""
BETTER_AFTER_MS = 5_000


class Facts(NamedTuple):
    """What is known of the last seconds; None: nothing. Loss in percent, ``frames`` a second of a picture that is
    on; ``silent_ms``: since the last datagram that was authentic."""

    silent_ms: int
    loss_in: float | None = None
    loss_out: float | None = None
    rtt_ms: float | None = None
    frames: float | None = None
    smaller: bool = False
    """It is sent less than it wants, as its line carries no more."""
    none: bool = False
    """It is sent no picture at all, for the same reason."""


def grade(facts: Facts) -> Quality:
    """The worst of what each fact says."""
    if facts.silent_ms >= LOST_MS:
        return "lost"
    loss = max(facts.loss_in or 0.0, facts.loss_out or 0.0)
    rtt_ms = facts.rtt_ms or 0.0
    frames = FAIR_FRAMES if facts.frames is None else facts.frames
    if loss >= POOR_LOSS or rtt_ms >= POOR_RTT_MS or frames < POOR_FRAMES or facts.none:
        return "poor"
    if loss >= FAIR_LOSS or rtt_ms >= FAIR_RTT_MS or frames < FAIR_FRAMES or facts.smaller:
        return "fair"
    return "good"


class Steady:
    """The grade as it is told: the first one at once, every other only once it has lasted."""

    def __init__(self) -> None:
        self.told: Quality | None = None
        self._worse_since: int | None = None
        self._better_since: int | None = None

    def take(self, graded: Quality, now_ms: int) -> Quality | None:
        """A new grade; what is to be told now, if anything."""
        if self.told is None:
            return self._tell(graded)
        step = ORDER.index(graded) - ORDER.index(self.told)
        self._worse_since = _since(self._worse_since, now_ms) if step > 0 else None
        self._better_since = _since(self._better_since, now_ms) if step < 0 else None
        worse = self._worse_since is not None and now_ms - self._worse_since >= WORSE_AFTER_MS
        better = self._better_since is not None and now_ms - self._better_since >= BETTER_AFTER_MS
        # Silence has lasted for seconds already when it is graded so.
        return self._tell(graded) if worse or better or (step > 0 and graded == "lost") else None

    def _tell(self, graded: Quality) -> Quality:
        self.told = graded
        self._worse_since = self._better_since = None
        return graded


def _since(before: int | None, now_ms: int) -> int:
    return now_ms if before is None else before
