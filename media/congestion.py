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

from media.losses import Losses
from media.send_history import LONGEST_US, Feedback
from media.trend import SILENT_MS, Arrived, Trend

START = 3_000_000
"""Bits a second before anything is known: one picture of the best layer. Too much is seen within half a second."""
LEAST, MOST = 50_000, 100_000_000
BACKOFF = 0.85
"""Of what arrives, when the queue grows."""
GROWTH = 1.08
"""A second, while the line's limit is not known."""
NEAR_GROWTH = 0.05
"""A second at most, once it is."""
AHEAD = 1.5
"""Who sends little learns little: the estimate rises no further than this share of what arrives."""
HIGH_LOSS, LOW_LOSS = 0.10, 0.02
LOSS_WINDOW_MS = 500
LOSS_PACKETS = 20
FLOOD_LOSS = 0.3
"""So much is judged as soon as there are enough packets."""
EXCESS_MS, LONG_EXCESS_MS = 30.0, 80.0
"""What is so much later than luck explains, at a queue that grows fast, is believed at once: if less than ..."""
CLIFF = 0.6
"""... of what came until now comes, or whatever comes."""
PAUSE_STEPS = 3
"""Groups in a feedback from which a pause of the line can be told from a narrow one."""
CLEAN_MS = 1_000
LASTING = 2
"""Feedbacks in a row that see a queue grow: a receiver's own hiccup is seen by one."""
STANDING_MS = 1_000
"""Who sends just what fits keeps a queue for ever: after so long less is sent, ..."""
SHRINKS = 0.8
"""... if it has not shrunk so far meanwhile, ..."""
MOST_DRAINS = 2
"""... so many times; what stays even so is no queue."""
SOUND_LOSS = 0.05
"""Beyond that of the pictures, and half as much again: bursts of pictures crowd out the sound."""
OLD_NEWS_MS = 2_000
"""So long reports may still be on what was sent before."""
FORGOTTEN_MS = 10_000
"""Receiver reports come every five seconds at most: a loss that none confirmed for so long is none any more."""
PLUNGE = 0.5
"""What falls so far falls off a cliff: what was lost on the way ..."""
REPORT_MS = 5_200
"""... is in the next report, which comes so late (Chromium's on sound), and is no news."""
LOSSY_GROWTH = 1.04
"""A second, of who says nothing but losses, where some are usual."""
NEAR_LIMIT, LIMIT_MS = 0.9, 15_000
"""Where it was too much for such a one, so much is enough for so long."""
CATCH_UP_MS = 30_000
"""From 5 kbit/s, its least, Chromium's REMB takes so long to a small picture's rate."""
HUSH = 0.6
HUSH_MS = 20_000
PACKET_BITS = 1_200 * 8


class Estimator:
    """One subscriber's. ``bitrate`` is None as long as nothing was ever heard that tells."""

    def __init__(self, start: float = START) -> None:
        self.bitrate: float | None = None
        """Bits a second."""
        self.loss = 0.0
        """Share of packets, over the last half second that had enough of them."""
        self.arrived = Arrived()
        self.plain = False
        """Whether nothing is numbered transport-wide: REMB or losses are all that is known."""
        self.whole = False
        """Whether it covers the whole connection, sound included."""
        self._start = start
        self._trend = Trend()
        self._limit: float | None = None
        """What arrived when the queue last grew: about the line's rate."""
        self._at_ms: int | None = None
        self._troubled_ms: int | None = None
        self._told_ms: int | None = None
        self._remb: float | None = None
        self._lost = self._told = 0
        self._reports = Losses()
        self._lost_since_ms: int | None = None
        self._grown = 0
        self._hushed: tuple[float, int] | None = None
        self._fell_ms: int | None = None
        """When the estimate last fell: what was sent before says nothing of what is sent now."""
        self._plunged_ms: int | None = None
        self._stood: tuple[int, float] | None = None
        """Since when a queue stands, and how long it was then."""
        self._drains = 0

    def clean(self, now_ms: int) -> bool:
        """Whether the line showed no sign of trouble lately."""
        quiet = self._troubled_ms is None or now_ms - self._troubled_ms >= CLEAN_MS
        silent = self._at_ms is not None and now_ms - self._at_ms >= SILENT_MS
        return quiet and (silent or not self._trend.stands)

    def feedback(self, said: Feedback, now_ms: int, rtt_ms: float, *, probing: bool = False) -> bool:
        """Transport-wide feedback came; whether the estimate fell: then what was sent before is to be counted as
        lost no more. ``probing``: we fill the queue ourselves, it says nothing of the rest."""
        before_ms = self._fell_ms
        if self.bitrate is None or self.plain:
            self.bitrate, self.plain, self.whole = self._start, False, False
        before = self.bitrate
        took_ms = 0 if self._at_ms is None else min(1_000, max(0, now_ms - self._at_ms))
        if self._at_ms is not None and now_ms - self._at_ms >= SILENT_MS:
            self._trend, self._grown = Trend(), 0
        self._at_ms = now_ms
        if said.received:
            self.arrived.add(said.arrived_us, said.octets)
        settled = self._fell_ms is None or said.sent_us >= self._fell_ms * 1_000
        verdict = self._follow(said)
        came = self._cliff(said) if said.received else None
        if probing:
            came = None
        if said.steps:
            self._grown = self._grown + 1 if verdict > 0 and not probing else 0
        if self._grown or came is not None:
            self._troubled_ms = now_ms
        if came is not None:
            self._fall(now_ms, came)
        elif self._grown:
            if settled and self._grown >= LASTING:
                self._fall(now_ms, self.arrived.bitrate)
        elif settled and not probing and self._stands(now_ms):
            # What flows may be kept although it needs a little more than there is: then by a step.
            self._fall(now_ms, (self.arrived.bitrate or self.bitrate) * BACKOFF ** (self._drains - 1))
        elif verdict == 0 and self.loss < LOW_LOSS and not probing and said.steps and not self._trend.stands:
            self._rise(took_ms, rtt_ms)
        self._count(said.received + said.lost - said.recovered, said.lost - said.recovered, now_ms)
        self.bitrate = max(LEAST, min(MOST, self.bitrate))
        if self.bitrate < PLUNGE * before:
            self._plunged_ms = now_ms
        self.hush(now_ms)
        return self._fell_ms != before_ms

    def _follow(self, said: Feedback) -> int:
        """The trend's word on the steps."""
        begins = 0
        for at, step in enumerate(said.steps):
            if step.sent_us >= SILENT_MS * 1_000 or step.arrived_us >= LONGEST_US:
                self._trend, begins = Trend(), at + 1
        return self._trend.follow(said.steps[begins:]) if begins < len(said.steps) else 0

    def _cliff(self, said: Feedback) -> float | None:
        """Bits a second that come out of a queue that is there without doubt: the line's own rate, whenever it was
        sent. None: it grows slowly, or the line carries what is sent and had only paused, or has become longer."""
        excess_ms = self._trend.excess_ms(said.sent_us / 1_000, said.arrived_us / 1_000)
        usual, came = self.arrived.bitrate, self.arrived.in_last()
        if usual is None or came is None:
            return None
        if excess_ms < LONG_EXCESS_MS and (excess_ms < EXCESS_MS or came > CLIFF * usual):
            return None
        if len(said.steps) < PAUSE_STEPS:
            return came
        longest = max(range(len(said.steps)), key=lambda at: said.steps[at].arrived_us)
        rest = said.steps[:longest] + said.steps[longest + 1 :]
        took_us = sum(step.arrived_us for step in rest)
        paused = took_us - sum(step.sent_us for step in rest) <= Trend.FAST * took_us
        return None if paused else came

    def _stands(self, now_ms: int) -> bool:
        """Whether a queue stands that does not grow, and does not empty either: what fits exactly keeps it."""
        queue_ms = self._trend.queue_ms
        if not self._trend.stands:
            self._stood, self._drains = None, 0
        elif self._stood is None or queue_ms < SHRINKS * self._stood[1]:
            self._stood = now_ms, queue_ms
        elif now_ms - self._stood[0] >= STANDING_MS:
            self._stood = now_ms, queue_ms
            self._drains += 1
            if self._drains <= MOST_DRAINS:
                return True
            # It is as long whatever is sent: the way has become longer, or it is others who fill it.
            self._trend.accept_queue()
        return False

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
        if self._plunged_ms is not None and now_ms - self._plunged_ms < REPORT_MS:
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

    def told(self, bitrate: float, now_ms: int, pictured_ms: int | None, *, whole: bool) -> None:
        """The receiver's own estimate (REMB), of who has no transport-wide feedback; ``pictured_ms``: since when
        it is sent pictures, None: it is sent none; ``whole``: it speaks of sound as well.

        Browsers judge by pictures, and say the same for ever while none come: that is no news, else none would
        ever come again. When they do, what it says begins where it was, and rises as slowly as ours: until it has
        caught up, only less counts.
        """
        bitrate = max(LEAST, min(MOST, bitrate))
        before, self._remb = self._remb, bitrate
        if pictured_ms is None and not whole:
            return
        catches_up = pictured_ms is not None and now_ms - pictured_ms < CATCH_UP_MS
        self.plain, self.whole, self._told_ms = True, whole, now_ms
        if before is None or self.bitrate is None or bitrate < before or not catches_up:
            self.bitrate = bitrate
        else:
            self.bitrate = max(self.bitrate, bitrate)
        self._at_ms = now_ms

    def reported(self, expected: int, lost: int, bitrate: float, now_ms: int) -> None:
        """Receiver reports, of who says nothing more; ``bitrate``: what is being sent to it."""
        fresh = self._fell_ms is not None and now_ms - self._fell_ms < OLD_NEWS_MS
        if self._told_ms is not None or fresh or not self._reports.add(expected, lost, now_ms):
            return
        self.loss, self._lost_since_ms = self._reports.loss, now_ms
        if self.loss <= HIGH_LOSS and not (self.plain and self._reports.excessive):
            return
        came = BACKOFF * bitrate * (1 - self.loss)
        if not self.plain:
            self.plain, self.whole, self._at_ms = True, True, now_ms
            self.bitrate = came if self.bitrate is None else self.bitrate
        if self.bitrate is None or not self._reports.excessive:
            return
        self._fell_ms = self._troubled_ms = self._at_ms = now_ms
        flooded = self.loss > FLOOD_LOSS
        self._limit = None if flooded else self.bitrate
        less = came if flooded else max(came, self.bitrate * (1 - self.loss))
        self.bitrate = max(LEAST, min(MOST, self.bitrate, less))

    def recover(self, now_ms: int) -> None:
        """Of who has no transport-wide feedback: what is not heard of rises again, as nothing else would show that
        the line has."""
        if self._lost_since_ms is not None and now_ms - self._lost_since_ms >= FORGOTTEN_MS:
            self.loss, self._lost_since_ms = 0.0, now_ms
        if not self.plain or self.bitrate is None or self._at_ms is None:
            return
        took_ms = min(1_000, max(0, now_ms - self._at_ms))
        self._at_ms = now_ms
        if self.loss > LOW_LOSS and self._reports.excessive:
            return
        if self._told_ms is None or now_ms - self._told_ms > OLD_NEWS_MS:
            most: float = MOST
            if self._limit is not None and self._fell_ms is not None and now_ms - self._fell_ms < LIMIT_MS:
                most = max(self.bitrate, NEAR_LIMIT * self._limit)
            growth = GROWTH if self.loss <= LOW_LOSS else LOSSY_GROWTH
            self.bitrate = min(most, self.bitrate * growth ** (took_ms / 1_000))

    def _fall(self, now_ms: int, came: float | None) -> None:
        assert self.bitrate is not None
        self._fell_ms = now_ms
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
            # Near what the line carries: a packet in each round trip, and what it takes to notice; of a narrow
            # line that would be a fifth in a second.
            share = self.bitrate * NEAR_GROWTH * took_ms / 1_000
            more = self.bitrate + min(share, PACKET_BITS * took_ms / (rtt_ms + 100))
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
