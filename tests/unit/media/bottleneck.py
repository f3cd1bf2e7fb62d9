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
PLAIN_REPORT_MS = 1_000
PACKET = 1_100
SOUND_PACKET = 160
SOUND_EVERY_MS = 20
FRAME_MS = 40
PACE = 2.5
"""Browsers send a picture at so many times its rate, and then nothing until the next one."""
HELD_MS = 20
"""For so long jitter stays as it is, where order is kept (as in ``bench.impaired_link``)."""
HICCUP_EVERY_MS = 700
STALL_EVERY_MS = 3_000
RATES = (150_000.0, 500_000.0, 2_500_000.0)


class Line:
    """A bottleneck of ``rate`` bits a second."""

    def __init__(
        self, rate: float, *, delay_ms: int = 20, queue_ms: int = 300, loss: float = 0.0, jitter_ms: int = 0,
        shuffled: bool = False, hiccup_ms: int = 0, stall_ms: int = 0, seed: int = 1,
    ):  # fmt: skip
        """``jitter_ms``: up to so much more; drawn for each packet if ``shuffled``, else for some time, and in
        order. ``hiccup_ms``: for up to so long its receiver reads nothing, and then all at once. ``stall_ms``:
        for so long it carries nothing, every three seconds, and then what waited, as radio does."""
        self.rate = rate
        self.loss = loss
        self.jitter_ms, self.hiccup_ms, self.stall_ms = jitter_ms, hiccup_ms, stall_ms
        self._shuffled = shuffled
        self.delay_ms, self._queue_us = delay_ms, queue_ms * 1_000
        self._free_us = self._jitter_us = 0.0
        self._held_until_us = self._last_us = 0
        self._stuck_us = self._awake_us = 0
        self._stalls_us = STALL_EVERY_MS * 1_000
        self._random = random.Random(seed)

    def arrival(self, size: int, now_us: int) -> int | None:
        """When what is sent now arrives; None: never."""
        if self._random.random() < self.loss:
            return None
        begins = max(float(now_us), self._free_us)
        if self.stall_ms and now_us >= self._stalls_us:
            self._stalls_us = now_us + round(self._random.uniform(0.5, 1.5) * STALL_EVERY_MS * 1_000)
            begins += self.stall_ms * 1_000
        if begins - now_us > self._queue_us:
            return None
        self._free_us = begins + size * 8_000_000 / self.rate
        at = round(self._free_us) + self.delay_ms * 1_000
        if self.jitter_ms:
            at = self._late(at, now_us)
        return self.awake(at) if self.hiccup_ms else at

    def waits_ms(self, now_ms: int) -> float:
        """For so long what is sent now would wait."""
        return max(0.0, self._free_us / 1_000 - now_ms)

    def awake(self, at_us: int) -> int:
        """When the receiver reads what is there at that moment."""
        while at_us >= self._awake_us:
            self._stuck_us = self._awake_us + round(self._random.expovariate(1 / HICCUP_EVERY_MS) * 1_000)
            self._awake_us = self._stuck_us + round(self._random.random() * self.hiccup_ms * 1_000)
        return at_us if at_us < self._stuck_us else self._awake_us

    def _late(self, at: int, now_us: int) -> int:
        if self._shuffled:
            return at + round(self._random.random() * self.jitter_ms * 1_000)
        if now_us >= self._held_until_us:
            self._held_until_us = now_us + HELD_MS * 1_000
            self._jitter_us = self._random.random() * self.jitter_ms * 1_000
        self._last_us = max(self._last_us, at + round(self._jitter_us))
        return self._last_us


class Street:
    """``pictures`` publishers with three layers each, and their sound; one that publishes a single size follows
    what it is told (``single``)."""

    def __init__(self, line: Line, *, pictures: int = 1, single: bool = False, plain: bool = False) -> None:
        """``plain``: the subscriber has no transport-wide feedback, and says what was lost once a second."""
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
        self._plain = plain
        self._sent = self._came = 0
        self._history = SendHistory()
        self._debts = [0.0] * pictures
        self._paced = [0.0] * pictures
        self._probe_debt = 0.0
        self._padding = 0
        self._under_way: list[tuple[int, int]] = []
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
            if self._plain and self.now_ms % PLAIN_REPORT_MS == 0:
                self._say_losses()
            if self.now_ms % REPORT_MS == 0 and not self._plain:
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
            came = self.line.arrival(SOUND_PACKET, self.now_ms * 1_000) is not None
            self.sound_sent += 1
            self.sound_came += came
            self._sent += 1
            self._came += came

    def _send_pictures(self) -> None:
        for at, limit in enumerate(self.limits):
            if limit == NONE:
                self._debts[at] = self._paced[at] = 0.0
                continue
            rate = self.capped if self.single else RATES[limit]
            if self.now_ms % FRAME_MS == 0:
                self._debts[at] += rate * FRAME_MS / 8_000
            self._paced[at] = min(PACKET, self._paced[at]) + PACE * rate * SLICE_MS / 8_000
            while self._debts[at] >= PACKET and self._paced[at] >= PACKET:
                self._debts[at] -= PACKET
                self._paced[at] -= PACKET
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
        self._sent += 1
        if arrived is not None:
            self._came += 1
            self.picture_octets += size
            if not self._plain:
                self._under_way.append((number, arrived))

    def _report(self) -> None:
        now_us = self.now_ms * 1_000
        came = sorted(each for each in self._under_way if each[1] <= now_us)
        if not came:
            return
        self._under_way = [each for each in self._under_way if each[1] > now_us]
        base = min(self._told or came[0][0], came[0][0])
        self._told = came[-1][0] + 1
        body = rtp.transport_feedback(1, 2, 0, base, came)[4:]
        self._feedbacks.append((self.now_ms + 20, body))

    def _hear(self) -> None:
        """The subscriber's receiver report on sound."""
        sent, came = self.sound_sent - self._heard[0], self.sound_came - self._heard[1]
        self._heard = self.sound_sent, self.sound_came
        self.policy.estimator.heard(sent, sent - came, self.now_ms)

    def _say_losses(self) -> None:
        rates = (self.capped,) * 3 if self.single else RATES
        flows = sum(rates[limit] for limit in self.limits if limit > NONE) + self._sound()
        self.policy.estimator.reported(self._sent, self._sent - self._came, flows, self.now_ms)
        self._sent = self._came = 0

    def _sound(self) -> float:
        return len(self.limits) * SOUND_PACKET * 8_000 / SOUND_EVERY_MS

    def _decide(self) -> None:
        rates = (self.capped,) * 3 if self.single else RATES
        full = RATES[HIGH] if self.single and self.capped < RATES[HIGH] else 0.0
        wants = [Want(0, HIGH, (rates[0], rates[1], rates[2]), limit, self.single, full) for limit in self.limits]
        division = self.policy.decide(wants, self._sound(), self.now_ms)
        if division is None:
            return
        self.changes += list(division.limits) != self.limits
        self.limits = list(division.limits)
        if self.single:
            self.capped = max(100_000.0, min(RATES[HIGH], 0.85 * division.rooms[0]))
        self.policy.try_more(division, self.now_ms, 40.0)
