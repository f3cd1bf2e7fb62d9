"""What one subscriber is sent, decided by what its line carries: the estimate, its division, trying for more.

Pure: feedback and wishes come in, limits come out; time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.allocation import MOST_TIMES, Division, Want, divide
from media.congestion import Estimator
from media.probing import Prober
from media.send_history import Feedback

LEAST_PROBE = 300_000
"""Bits a second: what tells nothing is not tried."""
CAREFUL_TIMES = 2.0
"""In place of ``MOST_TIMES`` after a failure: what does not get through waits, and the sound behind it."""
SPARE = 1.15
"""What is measured falls a little short of what was tried."""


class Bandwidth:
    """One subscriber's line and what it is used for."""

    def __init__(self) -> None:
        self.estimator = Estimator()
        self.prober = Prober()
        self._said: Feedback | None = None

    def feedback(self, said: Feedback, now_ms: int, rtt_ms: float) -> bool:
        """Transport-wide feedback came; whether the estimate fell (``Estimator.feedback``)."""
        self._said = said
        return self.estimator.feedback(said, now_ms, rtt_ms, probing=self.prober.waiting())

    def decide(self, wants: Sequence[Want], sound: float, now_ms: int) -> Division | None:
        """Who gets what now; ``sound``: bits a second that are sent in any case. None: nothing is known that would
        limit anybody."""
        through = self.prober.judge(self._said, now_ms)
        if through is not None:
            self.estimator.probed(through)
            self.estimator.hush(now_ms)
        self.estimator.recover(now_ms)
        bitrate = self.estimator.bitrate
        if bitrate is None:
            return None
        return divide(bitrate - (sound if self.estimator.whole else 0.0), wants)

    def try_more(self, division: Division, now_ms: int, rtt_ms: float) -> bool:
        """Whether a probe begins: somebody wants more, and the line looks as if it might carry it."""
        bitrate = self.estimator.bitrate
        if bitrate is None or self.estimator.plain or division.more is None or division.more <= bitrate:
            return False
        if not self.estimator.clean(now_ms):
            self.prober.later(now_ms)
            return False
        times = CAREFUL_TIMES if self.prober.careful() else MOST_TIMES
        target = min(SPARE * division.more, max(times * bitrate, LEAST_PROBE))
        return self.prober.begin(target, bitrate, now_ms, rtt_ms)
