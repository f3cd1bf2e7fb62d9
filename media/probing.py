"""When more is tried than is sent, how much, and what it showed: a line that is not full does not tell its limit.

A probe adds repeats and padding to what flows for a tenth of a second; what gets through in that time, by the
receiver's clock, gets through. Whoever fails is asked more and more rarely: each attempt costs a full line a queue
of about as long as it took. Pure: time is an argument.
"""

from __future__ import annotations

from media.send_history import Feedback

PROBE_MS = 100
ANSWER_MS = 300
"""Besides the round trip, until feedback has said everything."""
NEXT_MS = 700
"""After one that got through."""
RETRY_MS, LONGEST_MS = 4_000, 20_000
"""After one that did not; doubled each time."""
PACKETS = 4
ENOUGH = 0.85
"""Of what was tried."""
LEAST_US = 30_000
"""What left in less time is one burst, which a line may take whole that carries no such rate."""
MOST_TIMES = 2.0
"""Pictures that come in the same tenth of a second may prove more than was tried, within bounds."""
WORTH = 1.15
"""Of what was known: with less it is not tried again so soon."""
MARGIN = 0.95


class Prober:
    """One subscriber's attempts."""

    def __init__(self) -> None:
        self.number = 0
        """Of the latest, 1 to 255."""
        self.target = self._known = 0.0
        """Bits a second in all."""
        self.count = self.failed = 0
        self._until_ms = self._answered_ms = 0
        self._next_ms = 0
        self._wait_ms = RETRY_MS
        self._open = False

    def running(self, now_ms: int) -> bool:
        """Whether something is being added now."""
        return self._open and now_ms < self._until_ms

    def careful(self) -> bool:
        """Whether the last one failed: the next is to cost less."""
        return self._wait_ms > RETRY_MS

    def waiting(self) -> bool:
        """Whether the latest has not been judged yet."""
        return self._open

    def begin(self, target: float, known: float, now_ms: int, rtt_ms: float) -> bool:
        """Try ``target`` bits a second where ``known`` get through, if it is time again."""
        if self._open or now_ms < self._next_ms:
            return False
        self.number = self.number % 255 + 1
        self.target, self._known = target, known
        self.count += 1
        self._open = True
        self._until_ms = now_ms + PROBE_MS
        self._answered_ms = self._until_ms + ANSWER_MS + round(min(rtt_ms, 1_000))
        return True

    def judge(self, said: Feedback | None, now_ms: int) -> float | None:
        """Once everything was said: bits a second that got through, if any figure came of it. ``said``: the last
        feedback."""
        if not self._open or now_ms < self._answered_ms:
            return None
        self._open = False
        through = _through(said) if said is not None else None
        if through is not None:
            through = min(through, MOST_TIMES * self.target)
        if through is not None and through >= max(WORTH * self._known, ENOUGH * self.target):
            self._wait_ms = RETRY_MS
            self._next_ms = now_ms + NEXT_MS
        else:
            self.failed += 1
            self._next_ms = now_ms + self._wait_ms
            self._wait_ms = min(LONGEST_MS, 2 * self._wait_ms)
        return through

    def later(self, now_ms: int) -> None:
        """The line is in trouble: not before it had time to recover."""
        self._next_ms = max(self._next_ms, now_ms + RETRY_MS // 2)


def _through(said: Feedback) -> float | None:
    if said.probe_packets < PACKETS or said.probe_sent_us < LEAST_US:
        return None
    took_us = max(said.probe_sent_us, said.probe_arrived_us)
    rate = said.probe_octets * 8_000_000 / took_us
    # What came apart on its way came at the line's own rate.
    return rate if said.probe_arrived_us <= said.probe_sent_us / ENOUGH else rate * MARGIN
