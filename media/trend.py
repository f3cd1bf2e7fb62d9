"""What arrival times say of a line: whether a queue grows before it, and how much comes out of it.

After draft-ietf-rmcat-gcc-02, sections 5.3 and 5.4, and with more doubt: a line whose delay dices, as radio has
it, and a receiver that is too busy to read, look like a queue to who only follows a slope. Pure; times are
milliseconds, of the receiver's clock where something arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from media.send_history import Step

SHORT_QUEUE_MS = 50.0
"""Whose queue is longer is tried nothing on."""
SILENT_MS = 2_000
"""Of whom nothing was heard for so long, no queue is known: pictures have stopped, and it is empty by now."""


class Trend:
    """Whether packets draw apart: the slope of the one-way delay over the last groups (section 5.3 and 5.4).

    A slope alone takes a line whose delay dices for a queue. Of a queue everything is late, also what was luckiest
    of the last moments: it has to have grown by its minima, too, and to stand out of what is usual.
    """

    WINDOW = 20
    ENOUGH = 8
    """Groups before the slope means something."""
    SMOOTHING = 0.9
    GAIN = 4.0
    MOST_DELTAS = 60
    LOWEST, HIGHEST = 6.0, 600.0
    UP, DOWN = 0.0087, 0.039
    TOO_FAR = 15.0
    RECENT_MS = 200.0
    """The luckiest group of so long ago shows the queue."""
    NOISE_MS = 2_000.0
    """Over so long it is learnt by how much the others usually come later than that one."""
    SMALL_MS = 12.0
    """And what is usual: less is no queue."""
    NOISES, LEAST_NOISE_MS = 3.0, 5.0
    """So many times what is usual is beyond doubt."""
    FAST = 0.4
    """A queue that grows by such a share of the time from feedback to feedback ..."""
    SPAN_MS = 40.0
    """... which are as far apart at least."""

    def __init__(self) -> None:
        self._threshold = 12.5
        self._now_ms = 0.0
        self._delay = self._smoothed = 0.0
        self._window: deque[tuple[float, float, float]] = deque(maxlen=self.WINDOW)
        """When a group came, its delay, and the smoothed one."""
        self._floor = self._noise = self._least = 0.0
        self._deltas = 0
        self._before = 0.0
        self._grows = False
        self._newest: tuple[float, float] | None = None
        """Arrival and delay of what was newest in the feedback before, by two clocks."""
        self._shortest = 0.0
        """The shortest such delay."""

    def excess_ms(self, sent_ms: float, arrived_ms: float) -> float:
        """How much longer than luck explains is what came last under way, if a queue grows fast; else 0.

        Not by groups: a picture may be one, and of those that a queue holds the first ends when it is too late.
        """
        before, delay = self._newest, arrived_ms - sent_ms
        took_ms = arrived_ms - before[0] if before is not None else -1.0
        self._newest = arrived_ms, delay
        if before is None or not 0 <= took_ms < SILENT_MS:
            self._shortest = delay
            return 0.0
        self._shortest = min(delay, self._shortest + took_ms / 1_000)
        if took_ms < self.SPAN_MS or delay - before[1] <= self.FAST * took_ms:
            return 0.0
        return max(0.0, delay - self._shortest - self.NOISES * max(self._noise, self.LEAST_NOISE_MS))

    def follow(self, steps: Sequence[Step]) -> int:
        """What one feedback says; 1: a queue grows, -1: it empties, 0: neither."""
        window, took_ms = self._window, 0.0
        for sent_us, arrived_us, _ in steps:
            took_ms += arrived_us / 1_000
            self._now_ms += arrived_us / 1_000
            self._delay += (arrived_us - sent_us) / 1_000
            self._smoothed = self.SMOOTHING * self._smoothed + (1 - self.SMOOTHING) * self._delay
            # Clocks run apart: what was the shortest way long ago is none any more.
            self._floor = min(self._delay, self._floor + arrived_us / 1_000_000)
            window.append((self._now_ms, self._delay, self._smoothed))
            if not self._grows:
                share = min(1.0, arrived_us / 1_000 / self.NOISE_MS)
                self._noise += share * (max(0.0, self._delay - self._least) - self._noise)
        if not window:
            return 0
        self._deltas = min(self.MOST_DELTAS, self._deltas + len(steps))
        self._least = min(delay for at, delay, _ in window if self._now_ms - at <= self.RECENT_MS)
        verdict = self._verdict()
        self._grows = verdict > 0
        return verdict

    @property
    def queue_ms(self) -> float:
        """About what waits before the line."""
        return self._least - self._floor

    def accept_queue(self) -> None:
        """It is none."""
        self._floor = self._least

    @property
    def stands(self) -> bool:
        """Whether it is too long to have it grow."""
        return self.queue_ms > SHORT_QUEUE_MS + self._noise

    def _verdict(self) -> int:
        window = self._window
        trend = _slope(window) if len(window) >= self.ENOUGH else 0.0
        if trend > 0:
            trend = max(0.0, min(trend, _minima_slope(window)))
        before, self._before = self._before, trend
        modified = self._deltas * trend * self.GAIN
        threshold = self._threshold
        self._adapt(abs(modified))
        if modified < -threshold:
            return -1
        grows = modified > threshold and trend >= before and self.queue_ms > self.SMALL_MS + self._noise
        return int(grows)

    def _adapt(self, modified: float) -> None:
        if modified > self._threshold + self.TOO_FAR:
            return
        by = self.DOWN if modified < self._threshold else self.UP
        self._threshold += by * (modified - self._threshold) * 100.0
        self._threshold = max(self.LOWEST, min(self.HIGHEST, self._threshold))


def _slope(points: deque[tuple[float, float, float]]) -> float:
    count = len(points)
    mean_x = sum(x for x, _, _ in points) / count
    mean_y = sum(y for _, _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, _, y in points) / spread if spread else 0.0


def _minima_slope(points: deque[tuple[float, float, float]]) -> float:
    """From the luckiest of the first third to that of the last."""
    third = len(points) // 3
    every = [(delay, at) for at, delay, _ in points]
    early, late = min(every[:third]), min(every[-third:])
    return (late[0] - early[0]) / (late[1] - early[1]) if late[1] > early[1] else 0.0


class Arrived:
    """Bits a second that arrive, by the receiver's clock."""

    WINDOW_US = 500_000
    LEAST_US = 150_000
    SHORT_US = 80_000
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

    def in_last(self) -> float | None:
        """Of the last feedback alone where that is far less, else of the last moments: few packets are no rate."""
        latest = self.latest()
        if latest is None or len(self._window) < 2:
            return latest
        (since_us, _), (until_us, octets) = self._window[-2], self._window[-1]
        took_us = until_us - since_us
        if took_us < self.SHORT_US:
            return latest
        last = octets * 8_000_000 / took_us
        return last if last < latest / 2 else latest

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
