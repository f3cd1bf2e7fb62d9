"""A publisher, a node's policy and one subscriber behind a narrow line, all on one virtual clock.

The line is a queue that drops what it does not hold, with a delay and losses of its own; the subscriber says by
real feedback what came, every 100 ms. Pictures are numbered, sound is not, and both go through the same queue.
"""

from __future__ import annotations

import random
from collections import deque

from media import rtp
from media.allocation import Want
from media.bandwidth import Bandwidth
from media.layers import HIGH, NONE
from media.send_history import SendHistory

SLICE_MS = 5
FEEDBACK_MS = 100
DECIDE_MS = 200
REPORT_MS = 5_000
"""Chromium's, for sound."""
PACKET = 1_100
SOUND_PACKET = 160
SOUND_EVERY_MS = 20
FRAME_MS = 40
RATES = (150_000.0, 500_000.0, 2_500_000.0)


class Line:
    """A bottleneck of ``rate`` bits a second."""

    def __init__(self, rate: float, *, delay_ms: int = 20, queue_ms: int = 300, loss: float = 0.0, seed: int = 1):
        self.rate = rate
        self.loss = loss
        self._delay_us, self._queue_us = delay_ms * 1_000, queue_ms * 1_000
        self._free_us = 0.0
        self._random = random.Random(seed)

    def arrival(self, size: int, now_us: int) -> int | None:
        """When what is sent now arrives; None: never."""
        if self._random.random() < self.loss:
            return None
        begins = max(float(now_us), self._free_us)
        if begins - now_us > self._queue_us:
            return None
        self._free_us = begins + size * 8_000_000 / self.rate
        return round(self._free_us) + self._delay_us


class Street:
    """``pictures`` publishers with three layers each, and their sound; one that publishes a single size follows
    what it is told (``single``)."""

    def __init__(self, line: Line, *, pictures: int = 1, single: bool = False) -> None:
        self.line = line
        self.now_ms = 0
        self.policy = Bandwidth()
        self.limits = [HIGH] * pictures
        self.single = single
        self.capped = RATES[HIGH]
        self.sound_sent = self.sound_came = 0
        self.late_sounds = 0
        self.picture_octets = 0
        self.changes = 0
        self._history = SendHistory()
        self._debts = [0.0] * pictures
        self._probe_debt = 0.0
        self._padding = 0
        self._under_way: deque[tuple[int, int]] = deque()
        self._told = 0
        self._heard = 0, 0
        self._feedbacks: deque[tuple[int, bytes]] = deque()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now_ms + round(seconds * 1_000)
        while self.now_ms < end:
            self.now_ms += SLICE_MS
            self._send_sound()
            self._send_pictures()
            self._send_probe()
            if self.now_ms % FEEDBACK_MS == 0:
                self._report()
            while self._feedbacks and self._feedbacks[0][0] <= self.now_ms:
                said = self._history.feedback(self._feedbacks.popleft()[1])
                assert said is not None
                if self.policy.feedback(said, self.now_ms, 40.0):
                    self._history.settle()
                    self._decide()
            if self.now_ms % REPORT_MS == 0:
                self._hear()
            if self.now_ms % DECIDE_MS == 0:
                self._decide()

    @property
    def estimate(self) -> float:
        return self.policy.estimator.bitrate or 0.0

    def watch(self, seconds: float) -> float:
        """Share of sound that came in time while so much time passed."""
        sent, came = self.sound_sent, self.sound_came
        self.run(seconds)
        return (self.sound_came - came) / (self.sound_sent - sent)

    def _send_sound(self) -> None:
        if self.now_ms % SOUND_EVERY_MS:
            return
        for _ in self.limits:
            self.sound_sent += 1
            self.sound_came += self.line.arrival(SOUND_PACKET, self.now_ms * 1_000) is not None

    def _send_pictures(self) -> None:
        if self.now_ms % FRAME_MS:
            return
        for at, limit in enumerate(self.limits):
            if limit == NONE:
                continue
            rate = self.capped if self.single else RATES[limit]
            self._debts[at] += rate * FRAME_MS / 8_000
            while self._debts[at] >= PACKET:
                self._debts[at] -= PACKET
                self._send(PACKET)

    def _send_probe(self) -> None:
        prober = self.policy.prober
        if not prober.running(self.now_ms):
            self._history.probe(0)
            self._probe_debt = 0.0
            return
        self._history.probe(prober.number)
        rates = (self.capped,) * 3 if self.single else RATES
        flows = sum(rates[limit] for limit in self.limits if limit > NONE)
        self._probe_debt += max(0.0, prober.target - flows) * SLICE_MS / 8_000
        while self._probe_debt >= 320:
            self._probe_debt -= 320
            self._padding += 320
            self._send(320)

    def _send(self, size: int) -> None:
        now_us = self.now_ms * 1_000
        number = self._history.next
        self._history.stamp_at(now_us, size)
        arrived = self.line.arrival(size, now_us)
        if arrived is not None:
            self.picture_octets += size
            self._under_way.append((number, arrived))

    def _report(self) -> None:
        came = []
        while self._under_way and self._under_way[0][1] <= self.now_ms * 1_000:
            came.append(self._under_way.popleft())
        if not came:
            return
        base = self._told or came[0][0]
        self._told = came[-1][0] + 1
        body = rtp.transport_feedback(1, 2, 0, base, came)[4:]
        self._feedbacks.append((self.now_ms + 20, body))

    def _hear(self) -> None:
        """The subscriber's receiver report on sound."""
        sent, came = self.sound_sent - self._heard[0], self.sound_came - self._heard[1]
        self._heard = self.sound_sent, self.sound_came
        self.policy.estimator.heard(sent, sent - came, self.now_ms)

    def _decide(self) -> None:
        rates = (self.capped,) * 3 if self.single else RATES
        full = RATES[HIGH] if self.single and self.capped < RATES[HIGH] else 0.0
        wants = [Want(0, HIGH, (rates[0], rates[1], rates[2]), limit, self.single, full) for limit in self.limits]
        division = self.policy.decide(wants, 0.0, self.now_ms)
        if division is None:
            return
        self.changes += list(division.limits) != self.limits
        self.limits = list(division.limits)
        if self.single:
            self.capped = max(100_000.0, min(RATES[HIGH], 0.85 * division.rooms[0]))
        self.policy.try_more(division, self.now_ms, 40.0)
