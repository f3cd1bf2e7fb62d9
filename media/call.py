"""A private call: ties the pure meter to a room's packets, clocks, people and reports.

Owns one ``SessionMeter``, sets gates and frame hooks on tracks, wakes up on the paid millisecond, tells both
sides the time and the control plane the figures. Knows no connection; the room carries out its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from media.blank import Picture, Sound
from media.budget import Ending, Figures, SessionMeter
from media.participants import Watch
from media.plane import PublishedTrack
from media.reports import Reporter
from models.clock import monotonic_ms
from models.messages import events
from models.messages.commands import Budget, Reason, SpentReason
from models.messages.signaling import SessionClock, SessionInfo

TICK_MS = 50

REASON_OF: dict[events.EndFact, Reason] = {
    "time_expired": "TIME_EXPIRED",
    "fan_left": "ENDED_BY_FAN",
    "fan_absent": "ENDED_BY_FAN",
    "fan_never_connected": "NO_SHOW",
    "creator_left": "ENDED_BY_CREATOR",
    "creator_pause_used_up": "ENDED_BY_CREATOR",
    "creator_never_connected": "NO_SHOW",
    "node_pause_used_up": "MEDIA_FAILURE",
    "closed": "MEDIA_FAILURE",
}
"""What the clients are told; for ``closed`` the command's own reason goes instead, for ``time_expired`` the
reason that came with the last grant."""


class Call:
    """The session of one private room."""

    def __init__(
        self,
        budget: Budget,
        *,
        room_id: str,
        epoch: int,
        creator_id: str,
        reporter: Reporter,
        read_what_waits: Callable[[], bool],
        announce: Callable[[SessionClock], None],
        on_end: Callable[[Reason], None],
    ) -> None:
        """``read_what_waits`` handles what the kernel holds of the creator's datagrams, or a part of it; whether
        nothing is left."""
        now_ms = monotonic_ms()
        self.budget = budget
        self._spent_reason = budget.spent_reason
        self.meter = SessionMeter(budget, now_ms)
        self._room_id, self._epoch = room_id, epoch
        self._creator_id = creator_id
        self._reporter = reporter
        self._read_what_waits = read_what_waits
        self._announce = announce
        self._on_end = on_end
        self._sequence = 0
        self._spoken: tuple[str, str | None] | None = None
        self._spoken_at = now_ms
        self._video: dict[PublishedTrack, Picture] = {}
        self._gated: list[PublishedTrack] = []
        self._sound = Sound(now_ms)
        self._black_ms = self._silent_ms = 0
        self._judged_ms = budget.delivered_ms
        self._cut: asyncio.TimerHandle | None = None
        self._over = False
        self._close_reason: Reason | None = None

    # --- facts from the room ------------------------------------------------------------------------

    def attach(self, track: PublishedTrack, watch: Watch) -> None:
        """Put gate and meter on a track that was just published, before its first packet."""
        self._attach(track, watch)
        track.sync_gate()

    def _attach(self, track: PublishedTrack, watch: Watch) -> None:
        self._gated = [known for known in self._gated if not known.closed] + [track]
        if track.user_id != self._creator_id:
            track.gate, track.on_frame = self.meter.may_return, watch.frame
            track.gate_until = self.meter.return_until
            return
        track.gate, track.gate_until = self.meter.may_forward, self.meter.forward_until
        track.on_late = self._late
        if track.kind == "video":
            picture = Picture(track.codec)
            self._video = {known: seen for known, seen in self._video.items() if not known.closed}
            self._video[track] = picture
            track.on_packet = picture.packet
        else:
            track.on_packet = self._sound.packet

        def frame(now_ms: int, keyframe: bool, size: int) -> None:
            watch.last_ms = now_ms
            before = (self.meter.state, self.meter.behind)
            if track.kind == "video":
                self.meter.video_frame(now_ms, key=keyframe)
            else:
                self.meter.audio_packet(now_ms)
            self._sync_gates()
            if (self.meter.state, self.meter.behind) != before:
                # Not here: we are in the middle of a packet. The gate has acted already.
                asyncio.get_running_loop().call_soon(self.look)

        track.on_frame = frame

    def _late(self, now_ms: int, late_ms: int) -> None:
        """What the native engine tells us of next came so long ago."""
        before = (self.meter.state, self.meter.behind)
        self.meter.waited(now_ms, late_ms)
        self._sync_gates()
        if (self.meter.state, self.meter.behind) != before:
            asyncio.get_running_loop().call_soon(self.look)

    def seated(self, user_id: str) -> None:
        """A party took its seat."""
        if user_id == self._creator_id:
            self.meter.creator_seated(monotonic_ms(), here=True)
            # A new connection declares its camera anew.
            self.meter.declare_camera(monotonic_ms(), off=False)
        else:
            self.meter.fan_back(monotonic_ms())
        self.look()

    def connected(self, user_id: str) -> None:
        """DTLS is complete. The creator's connection shows in its key frame."""
        if user_id != self._creator_id:
            self.meter.fan_connected(monotonic_ms())
            self.look()

    def gone(self, user_id: str) -> None:
        """A party's seat is empty, maybe for a while."""
        if user_id == self._creator_id:
            self.meter.creator_seated(monotonic_ms(), here=False)
        else:
            self.meter.fan_gone(monotonic_ms())
        self.look()

    def left(self, user_id: str) -> None:
        """A party left for good."""
        if user_id == self._creator_id:
            self.meter.creator_left(monotonic_ms())
        else:
            self.meter.fan_gone(monotonic_ms())
            self.meter.fan_left(monotonic_ms())
        self.look()

    def camera(self, user_id: str, *, off: bool) -> None:
        """A party declared its camera; only the creator's moves the clock."""
        if user_id == self._creator_id:
            self.meter.declare_camera(monotonic_ms(), off=off)
            self.look()

    def grant(self, paid_ms: int, spent_reason: SpentReason = "TIME_EXPIRED") -> bool:
        """More paid time, or why there will be none; False when it is over.

        Grants may come in any order: the highest counts, and of two alike the one that names a failure.
        """
        news = self._is_news(paid_ms, spent_reason)
        granted = self.meter.grant(paid_ms, monotonic_ms())
        if granted and news:
            self._spent_reason = spent_reason
        self.look()
        if granted:
            self._say(self.meter.figures)
        return granted

    def _is_news(self, paid_ms: int, spent_reason: SpentReason) -> bool:
        known_ms = self.meter.figures.paid_ms
        return paid_ms > known_ms or (paid_ms == known_ms and spent_reason != "TIME_EXPIRED")

    def update(self, budget: Budget) -> None:
        """A newer wish for a call that is open already: more paid time, figures not lower than these."""
        if self._is_news(budget.paid_ms, budget.spent_reason):
            self.grant(budget.paid_ms, budget.spent_reason)
        self.meter.catch_up(budget, monotonic_ms())
        self.look()

    def close(self, reason: Reason) -> None:
        """The control plane's wish. Forwarding has stopped when this returns."""
        self._close_reason = reason
        self.meter.close(monotonic_ms())
        self.look()

    def abandon(self) -> None:
        """The session goes on elsewhere: nothing is counted or said here any more."""
        self._over = True
        if self._cut is not None:
            self._cut.cancel()

    # --- time ---------------------------------------------------------------------------------------

    def _sync_gates(self) -> None:
        """Packets ask the meter themselves, but for those that a native engine forwards: it is told."""
        for track in self._gated:
            track.sync_gate()

    def look(self) -> None:
        """Bring the meter up to now and act on what it says; harmless to repeat."""
        try:
            if not self._over:
                self._look()
        finally:
            self._sync_gates()

    def _look(self) -> None:
        now_ms = monotonic_ms()
        self.meter.tick(now_ms)
        if self.meter.behind:
            self._catch_up()
            now_ms = monotonic_ms()
        if self.meter.ending is not None:
            self._finish(self.meter.ending)
            return
        if self.meter.wants_key_frame(now_ms):
            for track in self._video:
                track.request_keyframe(now_ms)
        self._set_alarm(now_ms)
        figures = self.meter.figures
        self._judge(figures, now_ms)
        if (figures.state, figures.cause) != self._spoken or self._report_due(now_ms):
            self._say(figures)

    def _judge(self, figures: Figures, now_ms: int) -> None:
        """Of the time that was delivered since the last look: was there anything to see and to hear?"""
        since_ms, self._judged_ms = figures.delivered_ms - self._judged_ms, figures.delivered_ms
        if since_ms <= 0:
            return
        pictures = [picture for track, picture in self._video.items() if not track.closed]
        black_ms = min((picture.black_ms(now_ms) for picture in pictures), default=0)
        # Of a look that comes late only what is certain.
        self._black_ms += min(since_ms, black_ms)
        self._silent_ms += min(since_ms, self._sound.silent_ms(now_ms))
        for track, picture in self._video.items():
            if picture.wants_key_frame(now_ms):
                track.request_keyframe(now_ms)

    def _catch_up(self) -> None:
        """We were late: what queued up in the kernel is read before anything is taken for an arrival."""
        if self._read_what_waits():
            self.meter.caught_up(monotonic_ms())
        if self.meter.behind:
            # The rest after everybody else's turn.
            asyncio.get_running_loop().call_soon(self.look)

    def clock(self) -> SessionClock:
        """The clock as both sides are shown it."""
        figures = self.meter.figures
        return SessionClock(
            state=_shown(figures),
            delivered_ms=figures.delivered_ms,
            paid_ms=figures.paid_ms,
            rate_per_minute=self.budget.rate_per_minute,
            cause=figures.cause,
        )

    def info(self) -> SessionInfo:
        """What a party is told when it joins."""
        figures = self.meter.figures
        return SessionInfo(
            session_id=self.budget.session_id,
            paid_ms=figures.paid_ms,
            delivered_ms=figures.delivered_ms,
            rate_per_minute=self.budget.rate_per_minute,
            minute_ms=self.budget.timers.minute_ms,
        )

    def report(self) -> None:
        """Say the figures now: the node is about to stop, or reached the broker again."""
        if not self._over:
            self.meter.tick(monotonic_ms())
            self._sync_gates()
            self._say(self.meter.figures)

    def _report_due(self, now_ms: int) -> bool:
        return now_ms - self._spoken_at >= self.budget.timers.report_ms

    def _set_alarm(self, now_ms: int) -> None:
        """Ticks are 50 ms apart; the cut is on the millisecond. (The gate closes by itself either way.)"""
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
        due_ms = self.meter.cut_due_in_ms(now_ms)
        if due_ms is not None and due_ms <= 2 * TICK_MS:
            self._cut = asyncio.get_running_loop().call_later(due_ms / 1000, self.look)

    def _say(self, figures: Figures) -> None:
        self._spoken = (figures.state, figures.cause)
        self._spoken_at = monotonic_ms()
        self._announce(self.clock())
        self._sequence += 1
        self._reporter.say(
            events.MediaDelivered,
            self.budget.session_id,
            sequence=self._sequence,
            session_id=self.budget.session_id,
            room_id=self._room_id,
            epoch=self._epoch,
            state=_shown(figures),
            cause=figures.cause,
            delivered_ms=figures.delivered_ms,
            paid_ms=figures.paid_ms,
            creator_pause_ms=figures.creator_pause_ms,
            node_pause_ms=figures.node_pause_ms,
            black_ms=self._black_ms,
            silent_ms=self._silent_ms,
        )

    def _finish(self, ending: Ending) -> None:
        self._over = True
        if self._cut is not None:
            self._cut.cancel()
        reason = REASON_OF[ending.fact]
        if ending.fact == "time_expired":
            reason = self._spent_reason
        if ending.fact == "closed" and self._close_reason is not None:
            reason = self._close_reason
        self._on_end(reason)
        figures = self.meter.figures
        self._sequence += 1
        self._reporter.say(
            events.CallEnded,
            self.budget.session_id,
            sequence=self._sequence,
            session_id=self.budget.session_id,
            room_id=self._room_id,
            epoch=self._epoch,
            fact=ending.fact,
            delivered_ms=figures.delivered_ms,
            paid_ms=figures.paid_ms,
            creator_pause_ms=figures.creator_pause_ms,
            node_pause_ms=figures.node_pause_ms,
            pause_cause=ending.pause_cause,
            paused_for_ms=ending.paused_for_ms,
            creator_connected=ending.creator_connected,
            fan_connected=ending.fan_connected,
            black_ms=self._black_ms,
            silent_ms=self._silent_ms,
        )


def _shown(figures: Figures) -> Literal["waiting", "running", "paused"]:
    return "paused" if figures.state == "ended" else figures.state
