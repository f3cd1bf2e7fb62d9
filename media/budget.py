"""The meter of a private session: how much was delivered, when it pauses, when and why it ends.

Pure: every call is given ``now_ms`` of a monotonic clock, and nothing here does I/O, reads a clock or
knows of packets, peers, tokens and prices. docs/money.md ("The life of a session") is the specification.

Decisions that docs/money.md leaves to the code:

* **The clock starts** at the first key frame of the creator that can be forwarded once both sides are
  connected, and it resumes at a key frame too: what could not be decoded is nobody's minute. It starts
  whether or not the fan takes the frame, as nothing that the fan lacks may stop it.
* **Media arrives** in the union of all intervals that span five consecutive video frames in less than a
  second. What lies between two such intervals is a gap. Up to ``gap_ms`` it counts, a longer one counts
  nothing from its first ms, so a trickle of lone frames is one long gap. With ``audio_only`` every audio
  packet keeps the media arriving.
* **Provisional time**: an open gap, or a camera declared off, counts for the cut (never a free packet)
  but is not reported before it is known to count. A figure that was reported is never taken back.
* **While paused nothing is forwarded** from creator to fan, so that a pause cannot be had for free.
* **Our own stall** (two calls further apart than ``gap_ms``) is a gap by cause ``node``; deadlines of people
  shift by it. Which frames count after it, :mod:`media.arrival` knows.
* **After a restart** the pause stays ours until the creator's media is back, and for at most
  ``connecting_ms`` also until the fan is; then the fan's absence stops nothing. A fan who never comes back
  left in that pause.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from media.arrival import FRAME_WINDOW_MS, LATE_MS, Arrival
from media.pauses import Pauses
from media.presence import Presence
from models.messages.commands import Budget
from models.messages.events import EndFact, PauseCause

State = Literal["waiting", "running", "paused", "ended"]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides may be told now. Milliseconds."""

    state: State
    cause: PauseCause | None
    delivered_ms: int
    paid_ms: int
    creator_pause_ms: int
    node_pause_ms: int


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why it ended, and in which pause if any. Milliseconds."""

    fact: EndFact
    pause_cause: PauseCause | None
    paused_for_ms: int
    creator_connected: bool
    fan_connected: bool


class SessionMeter:
    """One session's state machine: waiting → running ⇄ paused → ended."""

    def __init__(self, budget: Budget, now_ms: int, *, audio_only: bool = False) -> None:
        self._timers = budget.timers
        self._paid = budget.paid_ms
        self._delivered = min(budget.delivered_ms, budget.paid_ms)
        self._pauses = Pauses(budget, now_ms)
        self._audio_only = audio_only
        self._resumed = False
        self.ending: Ending | None = None
        self._state: State = "waiting"
        self._alive_at = now_ms
        self._live_at: int | None = None
        self._people = Presence(budget.timers, now_ms)
        self._arrival = Arrival(audio_only=audio_only)
        self._stood_still = False  # and what queued up meanwhile has not been read to its end
        self._covered_until = self._gap_known_at = now_ms
        self._camera_off_at: int | None = None
        self._undo_at, self._undo_delivered = now_ms, self._delivered
        if budget.resumed:
            self._resume(budget, now_ms)

    # --- what the room is told ----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def figures(self) -> Figures:
        """The figures to report; none of them ever falls."""
        delivered = self._delivered
        if self._state == "running" and self._camera_off_at is not None:
            delivered = self._undo_delivered
        return Figures(
            state=self._state,
            cause=self._cause(self._alive_at) if self._state == "paused" else None,
            delivered_ms=delivered,
            paid_ms=self._paid,
            creator_pause_ms=self._pauses.ms["creator"],
            node_pause_ms=self._pauses.ms["node"],
        )

    def may_forward(self, now_ms: int) -> bool:
        """Whether a packet of the creator may go to the fan at this very moment. Asked for every packet."""
        return (
            self._state == "running"
            and now_ms < self._covered_until + self._paid - self._delivered
            and now_ms <= self._gap_known_at
        )

    def may_return(self, now_ms: int) -> bool:
        """Whether a packet of the fan may go to the creator: not sold, but over when the paid time is."""
        if self._state == "running":
            return now_ms < self._covered_until + self._paid - self._delivered
        return self._state != "ended"

    def forward_until(self) -> int:
        """Until when :meth:`may_forward` holds if nothing else happens, for whoever cannot ask for every packet:
        the first ms in which it does not. A camera that is off for too long ends it on the millisecond."""
        if self._state != "running":
            return 0
        until = min(self._covered_until + self._paid - self._delivered, self._gap_known_at + 1)
        if self._camera_off_at is not None:
            until = min(until, self._camera_off_at + self._timers.camera_off_ms + 1)
        return until

    def return_until(self) -> int | None:
        """The same for :meth:`may_return`; None: it holds."""
        if self._state == "running":
            return self._covered_until + self._paid - self._delivered
        return None if self._state != "ended" else 0

    def cut_due_in_ms(self, now_ms: int) -> int | None:
        """How long until the paid time is used up if media goes on; None while the clock stands."""
        if self._state != "running":
            return None
        return max(0, self._covered_until + self._paid - self._delivered - now_ms)

    def wants_key_frame(self, now_ms: int) -> bool:
        """Whether only a key frame keeps the clock from starting or resuming."""
        if self._audio_only or self._live_at is None:
            return False
        if self._state == "waiting":
            return True
        return self._state == "paused" and self._arrival.is_healthy(now_ms) and self._may_resume(now_ms)

    @property
    def behind(self) -> bool:
        """Read what waits of the creator's datagrams by the usual path, then say :meth:`caught_up`."""
        return self._arrival.behind

    # --- facts in -----------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Time passed. Call it every 50 to 100 ms and after :meth:`cut_due_in_ms`."""
        self._step(now_ms)

    def caught_up(self, now_ms: int) -> None:
        """The creator's receive queue was just seen empty. Late even with that, we are still behind."""
        if now_ms - self._alive_at <= LATE_MS:
            self._arrival.caught_up()
            if self._stood_still:
                self._stood_still = False
                self._pauses.ours_for_a_gap(now_ms)
        self._step(now_ms)

    def waited(self, now_ms: int, late_ms: int) -> None:
        """What is told next of the creator came so long ago: not the kernel, we had it all the time. As if we had
        been late ourselves: while the clock stands it is no arrival, and while it runs, a gap of it is our own."""
        self._step(now_ms)
        if self._state == "running" and late_ms > self._timers.gap_ms:
            self._break_off()
            self._ours(now_ms)
            self._count_pause(now_ms)
            self._look_for_end(now_ms)
        elif self._state != "running" and late_ms > LATE_MS:
            self._arrival.late()

    def video_frame(self, now_ms: int, *, key: bool) -> None:
        """A video frame of the creator began to arrive."""
        self._step(now_ms)
        if not self._audio_only:
            self._frame(now_ms, key)

    def audio_packet(self, now_ms: int) -> None:
        """Sound of the creator arrived; it matters in an audio-only session."""
        if self._audio_only:
            self._step(now_ms)
            self._frame(now_ms, True)

    def fan_connected(self, now_ms: int) -> None:
        """The fan's DTLS is complete, for the first time or again."""
        self._step(now_ms)
        if self._creator_waits(now_ms):
            self._pauses.fan_is_back(now_ms)
        self._people.fan_came()
        self._go_live(now_ms)

    def fan_gone(self, now_ms: int) -> None:
        """The fan's seat is empty, maybe for a while only."""
        self._step(now_ms)
        self._people.fan_went(now_ms)

    def fan_back(self, now_ms: int) -> None:
        """The fan took the seat again; media may follow."""
        self._step(now_ms)
        self._people.fan_gone_at = None

    def fan_left(self, now_ms: int) -> None:
        """The fan said that it leaves for good."""
        self._step(now_ms)
        self._people.fan_gave_up = True
        if self._live_at is not None:
            self._end("fan_left", now_ms)
        elif self._people.creator_connected:
            self._end(self._people.how_the_fan_gave_up(), now_ms)

    def creator_seated(self, now_ms: int, *, here: bool) -> None:
        """The creator took its seat or lost it. Its media moves the clock; this only says who was missing."""
        self._step(now_ms)
        self._people.creator_seated = here

    def creator_left(self, now_ms: int) -> None:
        """The creator said that it leaves for good."""
        self._step(now_ms)
        self._end("creator_left" if self._people.creator_connected else "creator_never_connected", now_ms)

    def declare_camera(self, now_ms: int, *, off: bool) -> None:
        """The creator declared its camera off or on."""
        self._step(now_ms)
        if off and self._camera_off_at is None:
            self._camera_off_at = now_ms
            self._remember()
        elif not off:
            self._camera_off_at = None

    def grant(self, paid_ms: int, now_ms: int) -> bool:
        """Raise the paid time to ``paid_ms`` in all; a late, lower figure changes nothing. False once ended."""
        self._step(now_ms)
        if self._state == "ended":
            return False
        self._paid = max(self._paid, paid_ms)
        return True

    def catch_up(self, reported: Budget, now_ms: int) -> None:
        """What an earlier boot reported counts here too: figures rise to it, none falls.

        A repeated ``OpenRoom`` from before a restart may have opened this session without it.
        """
        self._step(now_ms)
        if self._state == "ended":
            return
        self._delivered = min(self._paid, max(self._delivered, reported.delivered_ms))
        self._undo_delivered = max(self._undo_delivered, min(self._paid, reported.delivered_ms))
        self._pauses.catch_up(reported)
        if reported.resumed and self._live_at is None:
            self._resume(reported, now_ms)
        self._look_for_end(now_ms)

    def close(self, now_ms: int) -> None:
        """The control plane ends the session."""
        self._step(now_ms)
        self._end("closed", now_ms)

    def _resume(self, reported: Budget, now: int) -> None:
        """Go on where an earlier boot was interrupted: live, and paused by our cause."""
        self._resumed = True
        self._live_at = now
        self._people.both_were_here(now)
        self._pause_from(now)
        self._pauses.resume(now, reported.paused_for_ms)

    # --- the rules ----------------------------------------------------------------------------------

    def _step(self, now: int) -> None:
        """Bring the state up to ``now``; the first thing that every fact does."""
        if self._state == "ended" or now < self._alive_at:
            return
        last, self._alive_at = self._alive_at, now
        if now - last > self._timers.gap_ms:
            self._stalled(last, now)
        elif now - last > LATE_MS and self._state != "running":
            self._arrival.late()
        if self._state == "paused":
            self._count_pause(now)
        elif self._live_at is not None:
            self._look_for_gap(now)
        self._look_for_end(now)

    def _stalled(self, last: int, now: int) -> None:
        """We ourselves stood still from ``last`` to ``now``: our gap, and nobody's deadline."""
        late = now - last
        self._people.shift(late)
        if self._camera_off_at is not None:
            self._camera_off_at += late
        if self._state == "paused":
            self._count_pause(last)
        elif self._state == "running":
            self._break_off()
        elif self._live_at is not None:
            self._live_at = now
        self._ours(now)

    def _ours(self, now: int) -> None:
        """The gap that begins is our own, until what queued up has been read."""
        self._pauses.ours_for_a_gap(now)
        self._stood_still = True
        self._arrival.stood_still()

    def _look_for_gap(self, now: int) -> None:
        gap_ms = self._timers.gap_ms
        if self._state == "waiting":
            if self._live_at is not None and now - self._live_at > gap_ms:
                self._pause_from(self._live_at)
        elif self._covered_until + self._paid - self._delivered <= min(now, self._covered_until + gap_ms):
            # It was used up within a gap that still counted, however late this look is.
            self._delivered = self._paid
            self._end("time_expired", now)
        elif now > self._gap_known_at or self._camera_off_too_long(now):
            self._break_off()
        if self._state == "paused":
            self._count_pause(now)

    def _look_for_end(self, now: int) -> None:
        if self._live_at is not None and self._delivered >= self._paid:
            self._end("time_expired", now)
        if self._state == "paused" and (used_up := self._pauses.used_up()) is not None:
            self._end(used_up, now)
        if self._live_at is not None:
            if self._people.fan_absent_too_long(now):
                self._end("fan_absent", now)
        elif now >= self._people.connecting_until():
            self._end(self._people.who_never_connected(), now)

    def _frame(self, now: int, key: bool) -> None:
        if self._state == "ended" or not self._arrival.frame(now):
            return
        if key:
            self._creator_arrived(now)
        if self._state == "running":
            self._cover(now)
        elif self._state == "waiting":
            if key and self._live_at is not None:
                self._run(now)
        elif self._state == "paused" and key and self._arrival.is_healthy(now) and self._may_resume(now):
            self._run(now)

    def _creator_arrived(self, now: int) -> None:
        if not self._people.creator_here:
            self._pauses.creator_is_back(now)
        self._people.creator_came(now)
        if self._live_at is None and self._people.fan_gave_up:
            self._end(self._people.how_the_fan_gave_up(), now)
        self._go_live(now)

    def _go_live(self, now: int) -> None:
        if self._live_at is None and self._people.both_connected and self._state == "waiting":
            self._live_at = now

    def _may_resume(self, now: int) -> bool:
        return not self._camera_off_too_long(now) and not self._waits_for_fan(now)

    def _waits_for_fan(self, now: int) -> bool:
        """After a restart the fan gets the time to come back that it had to come."""
        return self._resumed and self._people.time_to_come_back(now)

    def _camera_off_too_long(self, now: int) -> bool:
        return self._camera_off_at is not None and now - self._camera_off_at > self._timers.camera_off_ms

    def _run(self, now: int) -> None:
        self._state = "running"
        self._covered_until = now
        self._pauses.all_is_well(now)
        self._gap_known_at = now + self._timers.gap_ms
        self._resumed = False
        self._remember()

    def _remember(self) -> None:
        """Should the camera be off for too long, nothing from here on counts."""
        self._undo_at, self._undo_delivered = self._covered_until, self._delivered

    def _cover(self, now: int) -> None:
        """Count up to this frame if it proves that media arrives."""
        if self._arrival.is_healthy(now):
            self._delivered = min(self._paid, self._delivered + now - self._covered_until)
            self._covered_until = now
            self._gap_known_at = now + self._timers.gap_ms
            self._look_for_end(now)
        elif now <= self._covered_until + self._timers.gap_ms:
            # The gap may end with this frame; that is known when four more have come, or not, in its second.
            self._gap_known_at = max(self._gap_known_at, now + FRAME_WINDOW_MS - 1)

    def _break_off(self) -> None:
        """A gap that is too long: nothing since its first ms counts. With the camera off, that began it."""
        start = self._covered_until
        if self._camera_off_at is not None:
            start, self._delivered = self._undo_at, self._undo_delivered
        self._pause_from(start)

    def _pause_from(self, start: int) -> None:
        self._state = "paused"
        self._pauses.begin(start)

    def _cause(self, now: int) -> PauseCause:
        ours = self._stood_still or self._pauses.is_ours(now) or self._creator_waits(now)
        return "node" if ours else "creator"

    def _creator_waits(self, now: int) -> bool:
        """Whether the creator's media is there and the clock stands only because a restart lost the fan."""
        return self._waits_for_fan(now) and self._arrival.is_healthy(now)

    def _count_pause(self, until: int) -> None:
        self._pauses.count(until, self._cause(until))

    def _end(self, fact: EndFact, now: int) -> None:
        if self._state == "ended":
            return
        paused = self._state == "paused"
        cause = self._cause(now) if paused else None
        paused_for_ms = self._pauses.for_ms(now) if paused else 0
        if fact == "fan_absent" and not self._people.fan_here:
            # Not seen since the restart: it left in the pause that the restart was.
            cause, paused_for_ms = "node", now - self._people.opened_at
        if self._state == "running" and now - self._covered_until <= self._timers.gap_ms:
            self._delivered = min(self._paid, self._delivered + now - self._covered_until)
        self.ending = Ending(
            fact=fact,
            pause_cause=cause,
            paused_for_ms=paused_for_ms,
            creator_connected=self._people.creator_connected,
            fan_connected=self._people.fan_connected,
        )
        self._state = "ended"
