"""What is said back to a publisher: receiver reports, NACKs, key-frame requests, transport-wide arrival times.

Each class keeps the arithmetic of one kind of feedback; the time is an argument and nothing here sends.
"""

from __future__ import annotations

from media import rtp

KEYFRAME_INTERVAL_MS = 300
"""Every key frame costs all subscribers; requests of many late joiners become one."""
NACK_WINDOW = 256
"""Missing packets remembered for a track; a longer hole is for a key frame to mend."""
NACK_TRIES = 6
"""Each waits half as long again as the one before: a sender that is busy, or far, ignores the early ones."""
BACKOFF = 1.5
NACK_RETRY_MS = 60
"""Until the round trip has been measured, by an answer to the first request of a packet; and at least
``SHORTEST_RETRY_MS``."""
SHORTEST_RETRY_MS = 20
LONGEST_RETRY_MS = 400
REORDER_MS = 15
"""A packet that is missing may only have been overtaken: it is waited for so long at first."""
LONGEST_REORDER_MS = 60
"""On a line where packets do overtake each other, for as long as the latest of them came late, but no longer."""
REPEAT_MS = 200
"""What was asked for and came by itself comes a second time within this: the answer."""
FEEDBACK_SPAN = 1_000
"""Packets that one transport-wide feedback may span (they come every 100 ms)."""


class KeyframeThrottle:
    """At most one request an interval; one that comes too early is kept for ``due``."""

    def __init__(self) -> None:
        self._last_ms: int | None = None
        self._wanted = False
        self.sent = 0

    def ask(self, now_ms: int) -> bool:
        """Want a key frame; True: send the request now."""
        self._wanted = True
        return self.due(now_ms)

    def answered(self) -> None:
        """A key frame came: what was asked or kept before it has been met."""
        self._wanted = False

    def due(self, now_ms: int) -> bool:
        """Whether a kept request may go out now."""
        if not self._wanted or (self._last_ms is not None and now_ms - self._last_ms < KEYFRAME_INTERVAL_MS):
            return False
        self._wanted, self._last_ms = False, now_ms
        self.sent += 1
        return True


class Reception:
    """Loss and jitter of one RTP source, for receiver reports (RFC 3550 section 6.4.1, appendices A.3, A.8)."""

    def __init__(self, clock_rate: int) -> None:
        self._per_ms = clock_rate // 1000
        self._base = -1
        self._highest = -1
        self._received = 0
        self._expected_before = 0
        self._received_before = 0
        self._transit: int | None = None
        self._jitter = 0.0
        self._sr_middle = 0
        self._sr_at_ms = 0

    def packet(self, sequence: int, timestamp: int, now_ms: int) -> None:
        """A packet of the source itself (not of its retransmission stream) arrived."""
        if self._base < 0:
            self._base = sequence
        if sequence > self._highest:
            self._highest = sequence
        self._received += 1
        transit = (now_ms * self._per_ms - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            change = (transit - self._transit) & 0xFFFFFFFF
            if change > 0x80000000:
                change = 0x100000000 - change
            self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def sender_report(self, ntp: int, now_ms: int) -> None:
        """Remember a sender report, so that its sender can tell the round trip."""
        self._sr_middle, self._sr_at_ms = (ntp >> 16) & 0xFFFFFFFF, now_ms

    @property
    def lost(self) -> int:
        """Expected less received, since the beginning."""
        return self._highest - self._base + 1 - self._received if self._base >= 0 else 0

    @property
    def expected(self) -> int:
        """Packets that were due, since the beginning."""
        return self._highest - self._base + 1 if self._base >= 0 else 0

    def resume(self, sequence: int) -> None:
        """The next packet is this one: what was not taken before it, behind a closed gate, is no loss."""
        skipped = sequence - 1 - self._highest
        if self._base >= 0 and skipped > 0:
            self._base += skipped
            self._highest += skipped

    @property
    def received(self) -> int:
        """Packets that came, since the beginning."""
        return self._received

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter now."""
        return self._jitter / self._per_ms

    def block(self, ssrc: int, now_ms: int) -> rtp.ReportBlock | None:
        """The report block since the last one; None before the first packet."""
        if self._base < 0:
            return None
        expected = self._highest - self._base + 1
        expected_now, received_now = expected - self._expected_before, self._received - self._received_before
        self._expected_before, self._received_before = expected, self._received
        lost_now = max(0, expected_now - received_now)
        fraction = min(255, 256 * lost_now // expected_now) if expected_now > 0 else 0
        delay = (now_ms - self._sr_at_ms) * 65536 // 1000 & 0xFFFFFFFF if self._sr_middle else 0
        highest = self._highest - 0x10000  # the unwrapper began one cycle up
        return rtp.ReportBlock(ssrc, fraction, self.lost, highest, int(self._jitter), self._sr_middle, delay)


class _Missing:
    """One number that did not come in its turn."""

    __slots__ = ("asked_ms", "filled_ms", "first_ms", "since_ms", "tries")

    def __init__(self, now_ms: int) -> None:
        self.since_ms = now_ms
        self.tries = 0
        self.asked_ms = self.first_ms = 0
        self.filled_ms = 0


class Gaps:
    """Which sequence numbers a publisher should send again, and when to ask.

    A hole is asked for a little after it opened, as packets overtake each other on many lines. How long that is
    follows what comes late unasked, and what comes twice as it was asked for too soon; how long an answer is
    waited for follows how soon answers come.
    """

    def __init__(self, patience_ms: int = REORDER_MS) -> None:
        """``patience_ms``: the least; of sound, whose packets are 20 ms apart and small, none."""
        self._missing: dict[int, _Missing] = {}
        self._answered: dict[int, _Missing] = {}
        """Asked for once, and there: an answer, or the packet itself and the answer is still to come."""
        self._round_trip_ms: float | None = None
        self._gave_up = False
        self._least_ms = patience_ms
        self._reorder_ms = float(patience_ms)

    def __len__(self) -> int:
        return len(self._missing)

    @property
    def news(self) -> bool:
        """Whether there is something to ask for, or that was given up."""
        return bool(self._missing) or self._gave_up

    @property
    def patience_ms(self) -> float:
        """For so long a number is waited for before it is asked for."""
        return self._reorder_ms

    @property
    def retry_ms(self) -> float:
        """For so long an answer is waited for before it is asked for again."""
        if self._round_trip_ms is None:
            return NACK_RETRY_MS
        return min(LONGEST_RETRY_MS, max(SHORTEST_RETRY_MS, 1.5 * self._round_trip_ms))

    def opened(self, after: int, before: int, now_ms: int) -> None:
        """Everything between two neighbours did not come (yet)."""
        if before - after > NACK_WINDOW:
            self._missing.clear()
            self._gave_up = True
            return
        for sequence in range(after + 1, before):
            self._missing[sequence] = _Missing(now_ms)
        while len(self._missing) > NACK_WINDOW:
            del self._missing[next(iter(self._missing))]

    def filled(self, sequence: int, now_ms: int) -> None:
        """A late packet came after all."""
        missing = self._missing.pop(sequence, None)
        if missing is None:
            return
        if missing.tries == 0:
            self._was_overtaken(now_ms - missing.since_ms)
        elif missing.tries == 1:
            missing.filled_ms = now_ms
            self._answered[sequence] = missing
        else:
            self._answered_late(now_ms - missing.first_ms)

    def repeated(self, sequence: int, now_ms: int) -> None:
        """A packet came that had come before. If it was asked for just now, then for nothing."""
        missing = self._answered.pop(sequence, None)
        if missing is not None and now_ms - missing.filled_ms < REPEAT_MS:
            self._was_overtaken(missing.filled_ms - missing.since_ms)

    def due(self, now_ms: int) -> list[int]:
        """What to ask for now, ascending; gives a number up after some tries."""
        self._settle(now_ms)
        asked = []
        # Once for all: whoever wants to keep us busy leaves hundreds of holes.
        waits = [self.retry_ms * BACKOFF**tries for tries in range(NACK_TRIES)]
        for sequence, missing in sorted(self._missing.items()):
            if missing.tries == 0:
                if now_ms - missing.since_ms < self._reorder_ms:
                    continue
            elif now_ms - missing.asked_ms < waits[missing.tries - 1]:
                continue
            if missing.tries >= NACK_TRIES:
                del self._missing[sequence]
                self._gave_up = True
                continue
            missing.tries += 1
            missing.asked_ms = now_ms
            missing.first_ms = missing.first_ms or now_ms
            asked.append(sequence)
        return asked

    def gave_up(self) -> bool:
        """Whether something will not come any more, since this was asked last."""
        gave_up, self._gave_up = self._gave_up, False
        return gave_up

    def _answered_late(self, took_ms: int) -> None:
        """Perhaps the first request was answered, and the others were too soon: so long it may take. Who asks on
        as if the line had no queue has everything sent several times, and the queue grows by it."""
        if self._round_trip_ms is not None and took_ms > self._round_trip_ms:
            self._round_trip_ms += (min(took_ms, LONGEST_RETRY_MS) - self._round_trip_ms) / 4

    def _was_overtaken(self, late_ms: int) -> None:
        """Up at once; what was really lost takes it down slowly."""
        self._reorder_ms = max(self._reorder_ms, min(LONGEST_REORDER_MS, 1.25 * late_ms))

    def _settle(self, now_ms: int) -> None:
        """What was answered a while ago and did not come a second time was lost indeed."""
        while self._answered:
            sequence, missing = next(iter(self._answered.items()))
            if now_ms - missing.filled_ms < REPEAT_MS:
                return
            del self._answered[sequence]
            took = missing.filled_ms - missing.asked_ms
            before = self._round_trip_ms
            self._round_trip_ms = took if before is None else before + (took - before) / 8
            self._reorder_ms = max(self._least_ms, 0.9 * self._reorder_ms)


class Arrivals:
    """Arrival times of all packets of a connection, for its transport-wide feedback."""

    def __init__(self) -> None:
        self._unwrap = rtp.SequenceUnwrapper()
        self._seen: dict[int, int] = {}
        self._next = -1
        self._count = 0

    def packet(self, sequence: int, now_us: int) -> None:
        """The packet with this transport-wide sequence number arrived; the first arrival counts."""
        extended = self._unwrap.extend(sequence)
        if len(self._seen) < FEEDBACK_SPAN:
            self._seen.setdefault(extended, now_us)

    def feedback(self, ssrc: int, media: int) -> bytes | None:
        """The feedback packet since the last one, or None if nothing came."""
        if not self._seen:
            return None
        arrivals = sorted(self._seen.items())
        self._seen.clear()
        newest = arrivals[-1][0]
        arrivals = [pair for pair in arrivals if pair[0] > newest - FEEDBACK_SPAN]
        # Begin where the last one ended, so that a loss between two reports is reported too.
        base = arrivals[0][0]
        if newest - FEEDBACK_SPAN < self._next < base:
            base = self._next
        self._next = newest + 1
        self._count += 1
        return rtp.transport_feedback(ssrc, media, self._count - 1, base, arrivals)
