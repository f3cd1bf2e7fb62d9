"""What is said back to a publisher: receiver reports, NACKs, key-frame requests, transport-wide arrival times.

Each class keeps the arithmetic of one kind of feedback; the time is an argument and nothing here sends.
"""

from __future__ import annotations

from media import rtp

KEYFRAME_INTERVAL_MS = 300
"""Every key frame costs all subscribers; requests of many late joiners become one."""
NACK_WINDOW = 256
"""Missing packets remembered for a track; a longer hole is for a key frame to mend."""
NACK_TRIES = 4
NACK_RETRY_MS = 60
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
        self._highest = max(self._highest, sequence)
        self._received += 1
        transit = (now_ms * self._per_ms - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            change = (transit - self._transit) & 0xFFFFFFFF
            self._jitter += (min(change, 0x100000000 - change) - self._jitter) / 16
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


class Gaps:
    """Which sequence numbers a publisher should send again, and when to ask."""

    def __init__(self) -> None:
        self._missing: dict[int, tuple[int, int]] = {}  # extended sequence number -> (tries, last asked)

    def __len__(self) -> int:
        return len(self._missing)

    def opened(self, after: int, before: int) -> None:
        """Everything between two neighbours did not come (yet)."""
        if before - after > NACK_WINDOW:
            self._missing.clear()
            return
        for sequence in range(after + 1, before):
            self._missing[sequence] = (0, 0)
        while len(self._missing) > NACK_WINDOW:
            del self._missing[next(iter(self._missing))]

    def filled(self, sequence: int) -> None:
        """A late packet came after all."""
        self._missing.pop(sequence, None)

    def due(self, now_ms: int) -> list[int]:
        """What to ask for now, ascending; gives a number up after some tries."""
        asked = []
        for sequence, (tries, last_ms) in sorted(self._missing.items()):
            if tries and now_ms - last_ms < NACK_RETRY_MS:
                continue
            if tries >= NACK_TRIES:
                del self._missing[sequence]
                continue
            self._missing[sequence] = (tries + 1, now_ms)
            asked.append(sequence)
        return asked


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
