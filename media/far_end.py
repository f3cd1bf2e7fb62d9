"""What receiver reports say of one subscriber's slot: loss, jitter and the round trip (RFC 3550 section 6.4.1).

Pure arithmetic, the time is an argument. Reports come from hostile clients: any numbers are taken, none is trusted
further than to be shown and graded.
"""

from __future__ import annotations

from media.rtp import ReportBlock

REMEMBERED = 4
"""Sender reports that a receiver may still refer to; they are a second to five apart."""
LONGEST_ROUND_TRIP_MS = 60_000
_CLOCK_RATE = {"audio": 48_000, "video": 90_000}


class FarEnd:
    """One slot as its subscriber receives it."""

    __slots__ = ("_highest", "_lost", "_per_ms", "_sent", "expected", "jitter_ms", "lost", "reported_ms", "rtt_ms")

    def __init__(self, kind: str) -> None:
        self._per_ms = _CLOCK_RATE[kind] / 1000
        self._sent: dict[int, int] = {}
        self._highest: int | None = None
        self._lost = 0
        self.expected = self.lost = 0
        """Packets that were due and that did not come, since the first report; both only grow."""
        self.jitter_ms: float | None = None
        self.rtt_ms: float | None = None
        """Smoothed; None until a report has answered one of ours."""
        self.reported_ms: int | None = None

    def sent(self, ntp: int, now_ms: int) -> None:
        """A sender report with this NTP time went out in this slot."""
        self._sent[ntp >> 16 & 0xFFFFFFFF] = now_ms
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def reported(self, block: ReportBlock, now_ms: int) -> None:
        """Its subscriber reported."""
        self.reported_ms = now_ms
        self.jitter_ms = block.jitter / self._per_ms
        due = (block.highest - self._highest) & 0xFFFFFFFF if self._highest is not None else 0
        missing = block.lost - self._lost
        # Numbers that go back are another receiver's first ones.
        if 0 < due < 0x10000 and missing <= due:
            self.expected += due
            # What came twice, or late, makes the count fall: that is no negative loss.
            self.lost += max(0, missing)
        self._highest, self._lost = block.highest, block.lost
        at_ms = self._sent.get(block.last_sr)
        if at_ms is not None:
            self._round_trip(now_ms - at_ms - block.delay * 1000 / 65536)

    def _round_trip(self, took_ms: float) -> None:
        if not -1 <= took_ms <= LONGEST_ROUND_TRIP_MS:
            return
        took_ms = max(0.0, took_ms)
        self.rtt_ms = took_ms if self.rtt_ms is None else self.rtt_ms + (took_ms - self.rtt_ms) / 4
