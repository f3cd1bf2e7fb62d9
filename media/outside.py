"""A room seen from outside: who does how well, told to the people themselves, to operators and to Prometheus.

Samples each participant once a second, grades its connection and says CONNECTION_QUALITY when the grade has
changed for good. Changes nothing that is forwarded. A participant that left is remembered in sums alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from media.participants import Participant
from media.quality import Facts, Quality, Steady, grade
from media.stats import MEANINGS, SAMPLE_MS, WINDOW_SAMPLES, Meter, add
from models import log
from models.messages.figures import Figures, Seat
from models.messages.signaling import ConnectionQuality

MOST_A_TICK = 2
"""Of twenty seats with forty slots, each look takes a tenth of a millisecond, in which no packet moves."""
FAILED_MS = 60_000
"""Until somebody whom a defect of ours kept from being measured is looked at again."""


class View:
    """One participant's meter and grade."""

    def __init__(self, now_ms: int, number: int = 0) -> None:
        """``number``: what it is called where nobody is named."""
        self.number = number
        self.meter = Meter()
        self.steady = Steady()
        self.since_ms = self.next_ms = now_ms
        self.samples_up = 0
        """Since its first connection stood: before there is a window, nothing is graded."""


class Outside:
    """All participants of one room. ``everybody``: the room's own mapping, read at each look."""

    def __init__(self, everybody: Mapping[str, Participant], *, private: bool) -> None:
        """``private``: both parties are told of each other, whether they publish or not."""
        self._everybody = everybody
        self._private = private
        self._views: dict[Participant, View] = {}
        self._departed = dict.fromkeys(MEANINGS, 0)

    def tick(self, now_ms: int, awake_since_ms: int) -> None:
        """As often as the room ticks; each participant once a second, a full room's never in one tick."""
        looked = 0
        for participant in tuple(self._everybody.values()):
            view = self._views.get(participant)
            if view is None:
                view = self._views[participant] = View(now_ms, self._free_number())
            if now_ms < view.next_ms or looked == MOST_A_TICK:
                continue
            looked += 1
            view.next_ms = now_ms + SAMPLE_MS
            try:
                self._look(participant, view, now_ms, awake_since_ms)
            except Exception:
                # Nobody's call ends because it could not be measured.
                view.next_ms = now_ms + FAILED_MS
                log.failure("look_failed", user_id=participant.user_id)

    def _free_number(self) -> int:
        taken = {view.number for view in self._views.values()}
        return next(number for number in count(1) if number not in taken)

    def _look(self, participant: Participant, view: View, now_ms: int, awake_since_ms: int) -> None:
        view.meter.take(participant.peer.sample(), now_ms)
        if participant.up or view.samples_up:
            view.samples_up += 1
        if view.samples_up <= WINDOW_SAMPLES:
            return
        heard_ms = max(participant.peer.last_heard_ms, awake_since_ms)
        facts = _facts(participant, view.meter.figures(), now_ms - heard_ms)
        changed = view.steady.take(grade(facts), now_ms)
        if changed is not None:
            self._tell(participant, changed)

    def welcome(self, newcomer: Participant) -> None:
        """Tell somebody who comes how the others are."""
        for other, view in self._views.items():
            if view.steady.told is not None and self._concerns(newcomer, other):
                newcomer.send(ConnectionQuality(user_id=other.user_id, quality=view.steady.told))

    def gone(self, participant: Participant) -> None:
        """It is about to lose its seat: count it for the last time."""
        view = self._views.pop(participant, None)
        if view is not None:
            view.meter.take(participant.peer.sample(), view.next_ms)
            add(self._departed, view.meter.totals)

    def totals(self) -> dict[str, int]:
        """Every counter of all who are or were here."""
        summed = dict(self._departed)
        for view in self._views.values():
            add(summed, view.meter.totals)
        return summed

    def grades(self) -> list[Quality | None]:
        """How everybody is connected, as it was told."""
        return [view.steady.told for view in self._views.values()]

    def seats(self, now_ms: int) -> tuple[Seat, ...]:
        """Who is here, as of the last sample."""
        return tuple(
            _seat(each, self._views.get(each) or View(now_ms), now_ms) for each in self._everybody.values()
        )

    def _tell(self, participant: Participant, quality: Quality) -> None:
        message = ConnectionQuality(user_id=participant.user_id, quality=quality)
        for other in tuple(self._everybody.values()):
            if other is participant or self._concerns(other, participant):
                other.send(message)

    def _concerns(self, reader: Participant, other: Participant) -> bool:
        """A viewer's bad network is nobody's business but its own."""
        return reader is not other and (self._private or bool(other.peer.published))


def _facts(participant: Participant, figures: Figures | None, silent_ms: int) -> Facts:
    if figures is None:
        return Facts(silent_ms)
    pictures, smaller, none = figures.pictures
    return Facts(
        silent_ms, figures.loss_in, figures.loss_out, figures.rtt_ms,
        None if "video" in participant.muted else figures.frames,
        smaller=smaller + none > 0, none=0 < pictures == none,
    )  # fmt: skip


def _seat(participant: Participant, view: View, now_ms: int) -> Seat:
    return Seat(
        user_id=participant.user_id,
        display_name=participant.display_name,
        publishes=participant.publishes,
        up=tuple(sorted(participant.up)),
        muted=tuple(sorted(participant.muted)),
        here_ms=now_ms - view.since_ms,
        quality=view.steady.told,
        figures=view.meter.figures(),
        totals=view.meter.totals,
        number=view.number,
    )
