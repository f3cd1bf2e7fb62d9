"""How much one subscriber's line carries, by its own feedback: delay, loss, or the receiver's estimate.

After draft-ietf-rmcat-gcc-02 and Carlucci, De Cicco, Holmer, Mascolo: "Analysis and Design of the Google
Congestion Control for Web Real-time Communication" (2016): packets that draw apart on their way show a queue
that grows (a trend over arrival times, against a threshold that follows it); then the rate falls below what
arrives, else it rises, by shares while nothing is known of the line and by packets once it is. Loss of more than a
tenth lowers it too.

An estimate covers what carries transport-wide numbers: pictures and their repairs. Sound has none, fills the same
queue, and so comes first by itself. Everything here is a hostile client's word: it moves that client's own
estimate, within bounds, and nothing else. Pure: time is an argument, in milliseconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque

from media.send_history import LONGEST_US, Feedback

START = 3_000_000
"""Bits a second before anything is known: one picture of the best layer. Too much is seen within half a second."""
LEAST, MOST = 50_000, 100_000_000
BACKOFF = 0.85
"""Of what arrives, when the queue grows."""
GROWTH = 1.08
"""A second, while the line's limit is not known."""
AHEAD = 1.5
"""Who sends little learns little: the estimate rises no further than this share of what arrives."""
HIGH_LOSS, LOW_LOSS = 0.10, 0.02
LOSS_WINDOW_MS = 500
LOSS_PACKETS = 20
FLOOD_LOSS = 0.3
"""So much is judged as soon as there are enough packets."""
CLEAN_MS = 1_000
LASTING = 2
"""Feedbacks in a row that see a queue grow: a receiver's own hiccup is seen by one."""
SHORT_QUEUE_MS = 50.0
"""Whose queue is longer is tried nothing on."""
SOUND_LOSS = 0.05
"""Beyond that of the pictures, and half as much again: bursts of pictures crowd out the sound."""
OLD_NEWS_MS = 2_000
"""So long reports may still be on what was sent before."""
SILENT_MS = 2_000
"""Of whom nothing was heard for so long, no queue is known: pictures have stopped, and it is empty by now."""
FORGOTTEN_MS = 10_000
"""Receiver reports come every five seconds at most: a loss that none confirmed for so long is none any more."""
HUSH = 0.6
HUSH_MS = 20_000
PACKET_BITS = 1_200 * 8


class Trend:
    """Whether packets draw apart: the slope of the one-way delay over the last groups (section 5.3 and 5.4)."""

    WINDOW = 20
    ENOUGH = 8
    """Groups before the slope means something."""
    SMOOTHING = 0.9
    GAIN = 4.0
    MOST_DELTAS = 60
    OVERUSE_MS = 10.0
    LOWEST, HIGHEST = 6.0, 600.0
    UP, DOWN = 0.0087, 0.039
    TOO_FAR = 15.0

    def __init__(self) -> None:
        self._threshold = 12.5
        self._now_ms = 0.0
        self._delay = self._smoothed = 0.0
        self._window: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)
        self._floor = 0.0
        self._deltas = 0
        self._over_ms: float | None = None
        self._before = 0.0

    def step(self, sent_us: int, arrived_us: int) -> int:
        """One group to the next; 1: the queue grows, -1: it empties, 0: neither."""
        took_ms = arrived_us / 1000
        self._now_ms += took_ms
        self._delay += took_ms - sent_us / 1000
        self._smoothed = self.SMOOTHING * self._smoothed + (1 - self.SMOOTHING) * self._delay
        # Clocks run apart: what was the shortest way long ago is none any more.
        self._floor = min(self._delay, self._floor + took_ms / 1000)
        self._window.append((self._now_ms, self._smoothed))
        self._deltas = min(self.MOST_DELTAS, self._deltas + 1)
        trend = _slope(self._window) if len(self._window) >= self.ENOUGH else 0.0
        modified = self._deltas * trend * self.GAIN
        verdict = self._verdict(modified, trend, sent_us / 1000)
        self._adapt(abs(modified), took_ms)
        return verdict

    @property
    def queue_ms(self) -> float:
        """About what waits before the line."""
        return self._smoothed - self._floor

    def _verdict(self, modified: float, trend: float, sent_ms: float) -> int:
        before, self._before = self._before, trend
        if modified <= self._threshold:
            self._over_ms = None
            return -1 if modified < -self._threshold else 0
        if self._over_ms is None:
            self._over_ms = sent_ms / 2
            return 0
        self._over_ms += sent_ms
        if self._over_ms > self.OVERUSE_MS and trend >= before:
            self._over_ms = 0.0
            return 1
        return 0

    def _adapt(self, modified: float, took_ms: float) -> None:
        if modified > self._threshold + self.TOO_FAR:
            return
        by = self.DOWN if modified < self._threshold else self.UP
        self._threshold += by * (modified - self._threshold) * min(took_ms, 100.0)
        self._threshold = max(self.LOWEST, min(self.HIGHEST, self._threshold))


def _slope(points: deque[tuple[float, float]]) -> float:
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


class Arrived:
    """Bits a second that arrive, by the receiver's clock."""

    WINDOW_US = 500_000
    LEAST_US = 150_000
    SILENCE_US = 500_000
    """Who was sent nothing for so long begins anew."""
    MOST = 64
    """Feedbacks in the window, twice what is read of them in its time: a receiver whose clock stands still would
    have us add up all that it ever said."""

    def __init__(self) -> None:
        self._window: deque[tuple[int, int]] = deque(maxlen=self.MOST)
        self.bitrate: float | None = None

    def latest(self) -> float | None:
        """Of the last moments alone, whatever came before."""
        newest_us = self._window[-1][0] if self._window else 0
        since_us, octets = newest_us, 0
        for arrived_us, size in reversed(self._window):
            since_us = arrived_us
            if newest_us - arrived_us >= self.LEAST_US:
                return octets * 8_000_000 / (newest_us - since_us)
            octets += size
        return self.bitrate

    def add(self, arrived_us: int, octets: int) -> None:
        """So many bytes came up to this moment."""
        window = self._window
        if window and not 0 <= arrived_us - window[-1][0] < self.SILENCE_US:
            window.clear()
        window.append((arrived_us, octets))
        while len(window) > 2 and arrived_us - window[1][0] >= self.WINDOW_US:
            window.popleft()
        took_us = arrived_us - window[0][0]
        if took_us >= self.LEAST_US:
            self.bitrate = (sum(size for _, size in window) - window[0][1]) * 8_000_000 / took_us


class Estimator:
    """One subscriber's. ``bitrate`` is None as long as nothing was ever heard that tells."""

    def __init__(self, start: float = START) -> None:
        self.bitrate: float | None = None
        """Bits a second."""
        self.loss = 0.0
        """Share of packets, over the last half second that had enough of them."""
        self.arrived = Arrived()
        self.whole = False
        """Whether it covers the whole connection, sound included: where numbers are not transport-wide."""
        self._start = start
        self._trend = Trend()
        self._limit: float | None = None
        """What arrived when the queue last grew: about the line's rate."""
        self._at_ms: int | None = None
        self._troubled_ms: int | None = None
        self._told_ms: int | None = None
        self._lost = self._told = 0
        self._lost_since_ms: int | None = None
        self._grown = 0
        self._hushed: tuple[float, int] | None = None
        self._fell_ms: int | None = None
        """When the estimate last fell: what was sent before says nothing of what is sent now."""

    def clean(self, now_ms: int) -> bool:
        """Whether the line showed no sign of trouble lately."""
        quiet = self._troubled_ms is None or now_ms - self._troubled_ms >= CLEAN_MS
        silent = self._at_ms is not None and now_ms - self._at_ms >= SILENT_MS
        return quiet and (silent or self._trend.queue_ms < SHORT_QUEUE_MS)

    def feedback(self, said: Feedback, now_ms: int, rtt_ms: float, *, probing: bool = False) -> bool:
        """Transport-wide feedback came; whether the estimate fell: then what was sent before is to be counted as
        lost no more. ``probing``: we fill the queue ourselves, it says nothing of the rest."""
        before_ms = self._fell_ms
        if self.bitrate is None or self.whole:
            self.bitrate, self.whole = self._start, False
        took_ms = 0 if self._at_ms is None else min(1_000, max(0, now_ms - self._at_ms))
        if self._at_ms is not None and now_ms - self._at_ms >= SILENT_MS:
            self._trend, self._grown = Trend(), 0
        self._at_ms = now_ms
        if said.received:
            self.arrived.add(said.arrived_us, said.octets)
        settled = self._fell_ms is None or said.sent_us >= self._fell_ms * 1_000
        verdict = self._follow(said)
        if said.steps:
            self._grown = self._grown + 1 if verdict > 0 and not probing else 0
        if self._grown:
            self._troubled_ms = now_ms
            if settled and self._grown >= LASTING:
                self._fall(now_ms)
        elif verdict == 0 and self.loss < LOW_LOSS and not probing and said.steps:
            self._rise(took_ms, rtt_ms)
        self._count(said.received + said.lost - said.recovered, said.lost - said.recovered, now_ms)
        self.bitrate = max(LEAST, min(MOST, self.bitrate))
        self.hush(now_ms)
        return self._fell_ms != before_ms

    def _follow(self, said: Feedback) -> int:
        """The trend's last word on the steps."""
        verdict = 0
        for sent_us, arrived_us, _ in said.steps:
            if sent_us >= SILENT_MS * 1_000 or arrived_us >= LONGEST_US:
                self._trend, verdict = Trend(), 0
            else:
                verdict = self._trend.step(sent_us, arrived_us) or verdict
        return verdict

    def probed(self, bitrate: float) -> None:
        """So much got through when it was tried."""
        if self.bitrate is not None and bitrate > self.bitrate:
            self.bitrate = min(MOST, bitrate)
            self._limit = None

    def heard(self, expected: int, lost: int, now_ms: int) -> None:
        """What receiver reports say of the sound beside numbered pictures: it comes first, so they give way."""
        usual = SOUND_LOSS + 1.5 * min(self.loss, SOUND_LOSS)
        if self.bitrate is None or expected < LOSS_PACKETS or lost < expected * usual:
            return
        came = self.arrived.bitrate
        if came is not None:
            self._troubled_ms = now_ms
            self._hushed = HUSH * came, now_ms + HUSH_MS
            self.hush(now_ms)

    def hush(self, now_ms: int) -> None:
        """For some time after the sound had suffered, no estimate is higher than what it suffers not from."""
        if self.bitrate is not None and self._hushed is not None and now_ms < self._hushed[1]:
            self.bitrate = max(LEAST, min(self.bitrate, self._hushed[0]))

    def told(self, bitrate: float, now_ms: int) -> None:
        """The receiver's own estimate (REMB), of who has no transport-wide feedback."""
        self.whole = True
        self.bitrate = max(LEAST, min(MOST, bitrate))
        self._at_ms = self._told_ms = now_ms

    def reported(self, expected: int, lost: int, bitrate: float, now_ms: int) -> None:
        """Receiver reports, of who says nothing more; ``bitrate``: what is being sent to it."""
        fresh = self._fell_ms is not None and now_ms - self._fell_ms < OLD_NEWS_MS
        if self._told_ms is not None or fresh:
            return
        # Who is silent is sent a few packets a second: they are added up.
        self._told += expected
        self._lost += lost
        if self._told < LOSS_PACKETS:
            return
        self.loss = max(0.0, min(1.0, self._lost / self._told))
        self._told = self._lost = 0
        self._lost_since_ms = now_ms
        if self.loss <= HIGH_LOSS:
            return
        self.whole = True
        self._fell_ms = self._troubled_ms = self._at_ms = now_ms
        came = BACKOFF * bitrate * (1 - self.loss)
        before = came if self.bitrate is None else self.bitrate
        self.bitrate = max(LEAST, min(MOST, before, max(came, before * (1 - 0.5 * self.loss))))
        if self.loss > FLOOD_LOSS:
            self.bitrate = max(LEAST, min(self.bitrate, came))

    def recover(self, now_ms: int) -> None:
        """Of who has no transport-wide feedback: what is not heard of rises again, as nothing else would show that
        the line has."""
        if self._lost_since_ms is not None and now_ms - self._lost_since_ms >= FORGOTTEN_MS:
            self.loss, self._lost_since_ms = 0.0, now_ms
        if not self.whole or self.bitrate is None or self._at_ms is None or self.loss > LOW_LOSS:
            return
        took_ms = min(1_000, max(0, now_ms - self._at_ms))
        if self._told_ms is None or now_ms - self._told_ms > OLD_NEWS_MS:
            self.bitrate = min(MOST, self.bitrate * GROWTH ** (took_ms / 1_000))
        self._at_ms = now_ms

    def _fall(self, now_ms: int) -> None:
        assert self.bitrate is not None
        self._fell_ms = now_ms
        came = self.arrived.bitrate
        if came is None:
            self.bitrate *= BACKOFF
            return
        self._limit = came
        self.bitrate = min(self.bitrate, BACKOFF * came)

    def _rise(self, took_ms: int, rtt_ms: float) -> None:
        assert self.bitrate is not None
        came = self.arrived.bitrate
        if came is None:
            return
        if self._limit is not None and came > 1.3 * self._limit:
            self._limit = None
        if self._limit is not None and self.bitrate > BACKOFF * self._limit:
            # Near what the line carries: a packet in each round trip, and what it takes to notice.
            more = self.bitrate + PACKET_BITS * took_ms / (rtt_ms + 100)
        else:
            more = self.bitrate * GROWTH ** (took_ms / 1000)
        self.bitrate = max(self.bitrate, min(more, AHEAD * came + 10_000))

    def _count(self, told: int, lost: int, now_ms: int) -> None:
        self._told += told
        self._lost += lost
        if self._lost_since_ms is None:
            self._lost_since_ms = now_ms
        flooded = self._lost > FLOOD_LOSS * self._told
        if self._told < LOSS_PACKETS or not (flooded or now_ms - self._lost_since_ms >= LOSS_WINDOW_MS):
            return
        assert self.bitrate is not None
        self.loss = max(0.0, min(1.0, self._lost / self._told))
        self._told = self._lost = 0
        self._lost_since_ms = now_ms
        if self.loss > HIGH_LOSS:
            self._troubled_ms = self._fell_ms = now_ms
            # No lower than a full queue would say: what is lost may have been sent before anybody knew.
            came = BACKOFF * ((self.arrived.latest() if flooded else self.arrived.bitrate) or 0.0)
            less = came if flooded and came else max(came, self.bitrate * (1 - 0.5 * self.loss))
            self.bitrate = max(LEAST, min(self.bitrate, less))
