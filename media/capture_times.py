"""When a frame was captured, by the node's clock: RTP timestamps to the sender's NTP clock to ours.

A sender report ties a track's RTP timestamps to the sender's wall clock (RFC 3550 section 6.4.1). All tracks of
a participant share that clock, so one offset, the smallest delay seen, brings them to ours: lips match, and
the time in the air is left in, as nobody can measure it one way. Before a track's first report its own
smallest delay takes the place. Senders are strangers: what they report can make their own times useless
but never later than ``STEP_US`` after arrival, earlier than ``LONGEST_US`` before it, or going backwards.
Knows no frames and reads no clock.
"""

from __future__ import annotations

from collections import deque

from media.rtp import SenderInfo

STEP_US = 250_000
"""A clock that is off by more was set, or another took its place: follow at once. Less: follow slowly."""
LONGEST_US = 3_000_000
BUCKET_US = 5_000_000
BUCKETS = 6
SETTLE_US = 2_000_000
"""After a beginning or a step the first samples are poor ones: follow the better ones at once."""
SLEW = 100
"""One part in so many: how fast a settled offset moves."""
SMOOTHING = 8
"""Reports whose differences are averaged."""
_NTP_TO_UNIX_SECONDS = 2_208_988_800


class Floor:
    """The smallest of the samples of about half a minute, followed slowly: delay varies, clocks drift."""

    def __init__(self) -> None:
        self.value: int | None = None
        self._buckets: deque[tuple[int, int]] = deque(maxlen=BUCKETS)
        self._settled_us = 0
        self._at_us = 0

    def sample(self, sample_us: int, now_us: int) -> int:
        """Take a sample in; the offset to use now."""
        self._keep(sample_us, now_us // BUCKET_US)
        target = min(smallest for _, smallest in self._buckets)
        if self.value is None or abs(target - self.value) > STEP_US:
            self.value, self._settled_us = target, now_us + SETTLE_US
        elif now_us < self._settled_us:
            self.value = target
        else:
            most = max(0, now_us - self._at_us) // SLEW
            self.value += max(-most, min(most, target - self.value))
        # A slew of less than a microsecond is kept for the next sample.
        if abs(target - self.value) == 0 or now_us - self._at_us >= SLEW:
            self._at_us = now_us
        return self.value

    def shift(self, by_us: int) -> None:
        """What is measured was set by that much."""
        if self.value is not None:
            self.value += by_us
        self._buckets = deque(((number, low + by_us) for number, low in self._buckets), maxlen=BUCKETS)

    def _keep(self, sample_us: int, number: int) -> None:
        if self._buckets and self._buckets[-1][0] == number:
            self._buckets[-1] = (number, min(self._buckets[-1][1], sample_us))
            return
        while self._buckets and self._buckets[0][0] <= number - BUCKETS:
            self._buckets.popleft()
        if self._buckets:
            # Nothing in a whole bucket came near the floor: the clocks moved apart, this is the floor now.
            latest = self._buckets[-1]
            if latest[1] > min(low for _, low in self._buckets) + STEP_US:
                self._buckets.clear()
                self._buckets.append(latest)
        self._buckets.append((number, sample_us))


def signed(difference: int) -> int:
    """A difference of two 32 bit timestamps, across the wrap."""
    difference &= 0xFFFFFFFF
    return difference - 0x100000000 if difference & 0x80000000 else difference


def ntp_us(ntp: int) -> int:
    """A 64 bit NTP time as microseconds of Unix time (in its first era, until 2036)."""
    return ((ntp >> 32) - _NTP_TO_UNIX_SECONDS) * 1_000_000 + ((ntp & 0xFFFFFFFF) * 1_000_000 >> 32)


class TrackTimes:
    """One track's timestamps. ``SenderClock.track`` makes them."""

    def __init__(self, clock: SenderClock, clock_rate: int) -> None:
        self._clock = clock
        self._rate = clock_rate
        self._reference: tuple[int, int] | None = None
        """An RTP timestamp, and the sender's time then."""
        self._reports = 0
        self._own = Floor()
        self._latest: int | None = None
        self._elapsed = 0
        self._last_us = 0

    def report(self, info: SenderInfo, arrival_us: int) -> None:
        """A sender report of this track."""
        sent_us = ntp_us(info.ntp)
        late_us = arrival_us - sent_us
        if self._reference is not None:
            error_us = sent_us - self._sender_us(info.timestamp)
            if abs(error_us) <= STEP_US:
                self._reports = min(self._reports + 1, SMOOTHING)
                sent_us -= error_us - error_us // self._reports
            else:
                self._reports = 1
                self._clock.stepped(error_us, late_us, self)
        else:
            self._reports = 1
        self._reference = (info.timestamp, sent_us)
        self._clock.floor.sample(late_us, arrival_us)

    def shift(self, by_us: int) -> None:
        """The sender's clock was set by that much."""
        if self._reference is not None:
            self._reference = (self._reference[0], self._reference[1] + by_us)

    def capture_us(self, timestamp: int, arrival_us: int) -> int:
        """When the frame with this timestamp, which arrived then, was captured; always after the one before."""
        own_us = self._own_us(timestamp, arrival_us)
        captured_us = own_us
        if self._reference is not None:
            sender_us, floor = self._sender_us(timestamp), self._clock.floor
            late_us = arrival_us - sender_us
            # Much too early: these timestamps have jumped. Only a report may say so of the clock itself.
            if floor.value is None or late_us >= floor.value - STEP_US:
                captured_us = sender_us + floor.sample(late_us, arrival_us)
            if not _plausible(captured_us, arrival_us):
                captured_us = own_us
        if not _plausible(captured_us, arrival_us):
            captured_us = arrival_us
        self._last_us = max(captured_us, self._last_us + 1)
        return self._last_us

    def _sender_us(self, timestamp: int) -> int:
        assert self._reference is not None
        return self._reference[1] + signed(timestamp - self._reference[0]) * 1_000_000 // self._rate

    def _own_us(self, timestamp: int, arrival_us: int) -> int:
        """By the track's own smallest delay."""
        self._elapsed += 0 if self._latest is None else signed(timestamp - self._latest)
        self._latest = timestamp
        elapsed_us = self._elapsed * 1_000_000 // self._rate
        return elapsed_us + self._own.sample(arrival_us - elapsed_us, arrival_us)


def _plausible(captured_us: int, arrival_us: int) -> bool:
    return arrival_us - LONGEST_US <= captured_us <= arrival_us + STEP_US


class SenderClock:
    """One participant's clock, and how far ours is from it."""

    def __init__(self) -> None:
        self.floor = Floor()
        self._tracks: list[TrackTimes] = []

    def track(self, clock_rate: int) -> TrackTimes:
        """Times of one more track of this participant."""
        times = TrackTimes(self, clock_rate)
        self._tracks.append(times)
        return times

    def forget(self, times: TrackTimes) -> None:
        """That track is gone."""
        self._tracks.remove(times)

    @property
    def in_use(self) -> bool:
        """Whether it has any track."""
        return bool(self._tracks)

    def stepped(self, by_us: int, late_us: int, reporter: TrackTimes) -> None:
        """A report contradicts the ones before by ``by_us``: was the clock set, or did timestamps jump?

        If the clock was set, the report comes late by as much less; then it was set for every track.
        """
        known_us = self.floor.value
        if known_us is None or abs(late_us - known_us) <= abs(late_us - (known_us - by_us)):
            return
        self.floor.shift(-by_us)
        for times in self._tracks:
            if times is not reporter:
                times.shift(by_us)
