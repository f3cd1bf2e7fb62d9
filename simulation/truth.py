"""What really happened, kept apart from the house: media that arrived, who left, what was wished and promised.

From it each end is judged a second time, by a table written out here on its own. It shares no code with
``models.settlement``, ``models.pricing`` and the meter; where they agree, two pieces of work agree.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from media.budget import Ending, Figures
from models.messages import events

MINUTE_MS = 60_000
PAUSE_LEAVE_MS = 10_000
HEALTHY = 5
CAMERA_OFF_MS = 10_000
SURELY_SEEN = 20
"""After so many frames of a creator nobody may say that the creator was never there."""


class Violation(BaseException):
    """Something is true that must never be. No handler of an Exception may hide it."""

    step = 0
    """After how many commits."""


def require(holds: bool, sentence: str) -> None:
    """Violation unless ``holds``."""
    if not holds:
        raise Violation(sentence)


class Wish(msgspec.Struct, frozen=True):
    """Why the control plane asked for an end."""

    cause: str | None
    at_fault: str | None = None


class SessionTruth(msgspec.Struct):
    """One session, as an eye-witness would tell it. Milliseconds."""

    session_id: str
    physical_ms: int = 0
    """Time in which frames followed one another closely enough, over all lives of the node."""
    fan_connected: bool = False
    left: set[str] = set()
    said_ms: int = 0
    """The most that the node ever said was delivered."""
    paid_said_ms: int = 0
    """The most that the node ever said it holds a budget for."""
    lives: int = 0
    granted_ms: int = 0
    """What was paid for, by the control plane's rows."""
    heard_ms: int = 0
    """The most that the control plane took in of what the node said was delivered."""
    heard_paid_ms: int = 0
    wish: Wish | None = None
    settling_since: int | None = None
    opened: bool = False
    _streak: int = HEALTHY
    _life_said_ms: int = 0
    _frames: int = 0
    _camera_off_at: int | None = None
    _provisional_ms: int = 0

    def __str__(self) -> str:
        return f"{self.session_id}: {self.physical_ms} ms, said {self.said_ms}, heard {self.heard_ms}, {self.wish}"

    # --- what the node sees -------------------------------------------------------------------------

    def begin_life(self, *, resumed: bool) -> None:
        """The node opens the room, for the first time or after a restart."""
        self.lives += 1
        self._streak = 0 if resumed else HEALTHY
        self.fan_connected = resumed
        self._life_said_ms = self._frames = 0
        self._camera_off_at, self._provisional_ms = None, 0

    def frame(self, now: int, last: int | None, gap_ms: int) -> None:
        """A frame of the creator came in."""
        self._frames += 1
        if last is None or not self.fan_connected:
            return
        if now - last > gap_ms:
            # After a pause the clock goes on with the fifth frame, not with the first; it begins with the first.
            self._streak = 1 if self.physical_ms else HEALTHY
            return
        self._streak += 1
        if self._streak <= HEALTHY:
            return
        if self._camera_off_at is None:
            self.physical_ms += now - last
        else:
            self._provisional_ms += now - last

    def camera(self, now: int, *, off: bool) -> None:
        """The creator's camera is declared off or on; off for over ten seconds counts nothing."""
        if off:
            self._camera_off_at = now if self._camera_off_at is None else self._camera_off_at
            return
        if self._camera_off_at is not None and now - self._camera_off_at <= CAMERA_OFF_MS:
            self.physical_ms += self._provisional_ms
        elif self._camera_off_at is not None:
            # Black frames kept coming, so the very next one may be the first of the picture.
            self._streak = HEALTHY - 1
        self._camera_off_at, self._provisional_ms = None, 0

    def reported(self, figures: Figures, now: int) -> None:
        """The node says its figures."""
        self._said(figures, self.physical_ms + self._provisional_ms)
        del now

    def ended(self, figures: Figures, ending: Ending, now: int, last: int | None, gap_ms: int) -> None:
        """The node says that it is over, and why."""
        tail = now - last if last is not None and self.fan_connected else 0
        if tail > gap_ms:
            # Too long to count; but the paid time may have been used up before that was known.
            tail = gap_ms if ending.fact == "time_expired" else 0
        self._said(figures, self.physical_ms + self._provisional_ms + tail)
        self._require_reason(ending, figures)

    def _said(self, figures: Figures, most: int) -> None:
        name = self.session_id
        said, paid = figures.delivered_ms, figures.paid_ms
        require(said <= most, f"{name}: {said} ms said, {most} ms were delivered")
        require(said >= self._life_said_ms, f"{name}: the figure fell to {said} ms")
        require(said <= paid, f"{name}: more delivered than paid")
        require(paid <= self.granted_ms, f"{name}: {paid} ms of {self.granted_ms} were granted")
        self._life_said_ms = figures.delivered_ms
        self.said_ms = max(self.said_ms, figures.delivered_ms)
        self.paid_said_ms = max(self.paid_said_ms, figures.paid_ms)

    def _require_reason(self, ending: Ending, figures: Figures) -> None:
        """The fact that the node names is one that somebody saw."""
        fact, name = ending.fact, self.session_id
        seen = {
            "time_expired": figures.delivered_ms >= figures.paid_ms,
            "fan_left": "fan" in self.left,
            "creator_left": "creator" in self.left or not self.fan_connected,
            "fan_never_connected": not self.fan_connected,
            # The first frames may have been lost while the node stood still.
            "creator_never_connected": self._frames < SURELY_SEEN,
        }
        require(seen.get(fact, True), f"{name}: {fact} is said, and nobody saw it")

    # --- what the control plane hears ---------------------------------------------------------------

    def heard(self, event: events.MediaDelivered | events.CallEnded | events.RoomOpened) -> None:
        """A worker is being given this."""
        self.heard_paid_ms = max(self.heard_paid_ms, event.paid_ms)
        if not isinstance(event, events.RoomOpened):
            self.heard_ms = max(self.heard_ms, event.delivered_ms)


class Truth:
    """All sessions."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionTruth] = {}

    def session(self, session_id: str) -> SessionTruth:
        """The witness of one session."""
        found = self.sessions.get(session_id)
        if found is None:
            found = self.sessions[session_id] = SessionTruth(session_id, left=set())
        return found


# --- the end table, once more ------------------------------------------------------------------------

_WISHED = {
    "fan": "fan_left",
    "creator": "creator_left",
    "stream_deleted": "creator_left",
    "payment_failed": "payment_bad",
    "outside_cut": "our_fault",
}
_FAN_ROWS = ("fan_left", "fan_no_show", "moderation_fan")


def expected_row(final: events.CallEnded | None, wish: Wish | None, *, hold_refused: bool = False) -> str:
    """Which row of docs/money.md's end table applies."""
    if final is None:
        return "our_fault"
    row = _first_row(final, wish, hold_refused)
    if row in _FAN_ROWS and not final.creator_connected:
        return "creator_no_show"
    if row == "fan_left" and not final.fan_connected:
        return "fan_no_show"
    if row == "fan_left" and final.pause_cause is not None and final.paused_for_ms >= PAUSE_LEAVE_MS:
        return "creator_left" if final.pause_cause == "creator" else "our_fault"
    return row


def _first_row(final: events.CallEnded, wish: Wish | None, hold_refused: bool) -> str:
    match final.fact:
        case "time_expired":
            return "payment_refused" if hold_refused else "time_expired"
        case "fan_left" | "fan_absent":
            return "fan_left"
        case "fan_never_connected":
            return "fan_no_show"
        case "creator_left":
            return "creator_left"
        case "creator_never_connected":
            return "creator_no_show"
        case "creator_pause_used_up" | "node_pause_used_up":
            return "creator_left" if final.creator_pause_ms > final.node_pause_ms else "our_fault"
        case "closed":
            if wish is None or wish.cause is None:
                return "our_fault"
            if wish.cause == "moderation":
                return f"moderation_{wish.at_fault or 'none'}"
            return _WISHED[wish.cause]


class Expected(msgspec.Struct, frozen=True):
    """What an end comes to."""

    billed_minutes: int
    earnings: int
    commission: int
    refunded: int
    included_used: int
    unlock_earned: int


_FREE_ROWS = ("creator_left", "creator_no_show", "our_fault", "moderation_creator", "moderation_none")
Paid = Literal["acknowledged", "started", "minimum", "whole", "nothing"]
_PAYS: dict[str, Paid] = {
    "time_expired": "acknowledged",
    "payment_refused": "acknowledged",
    "fan_left": "started",
    "moderation_fan": "started",
    "fan_no_show": "minimum",
    "creator_left": "whole",
    "our_fault": "whole",
    "payment_bad": "whole",
    "moderation_creator": "whole",
    "moderation_none": "whole",
    "creator_no_show": "nothing",
}


def expected_bill(row: str, session: Any, bad_tokens: int) -> Expected:
    """The arithmetic of the end table. ``session`` has the columns of its table."""
    acknowledged = session.acknowledged_ms // MINUTE_MS
    whole, rest = divmod(session.delivered_ms, MINUTE_MS)
    minutes = {
        "acknowledged": acknowledged,
        "started": max(session.minimum_minutes, whole + (rest > 0)),
        "minimum": session.minimum_minutes,
        "whole": whole,
        "nothing": 0,
    }[_PAYS[row]]
    minutes = min(minutes, acknowledged)
    included = session.included_minutes
    live = session.live_at is not None or session.delivered_ms > 0
    unlock = session.unlock_price if live and row not in _FREE_ROWS else 0
    if row == "payment_bad":
        good = session.total_held - bad_tokens
        minutes = min(minutes, included + good // session.rate_per_minute)
        left = good - max(0, minutes - included) * session.rate_per_minute
        unlock = min(unlock, left)
    charged = max(0, minutes - included) * session.rate_per_minute + unlock
    commission = charged * session.commission_percent // 100
    return Expected(
        billed_minutes=minutes,
        earnings=charged - commission,
        commission=commission,
        refunded=session.total_held - charged,
        included_used=0 if row in _FREE_ROWS else min(minutes, included),
        unlock_earned=unlock,
    )
