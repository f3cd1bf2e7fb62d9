"""Who of the two is there, who ever was, and how long a session waits for them before and after it is live.

Pure bookkeeping for the meter: monotonic milliseconds in, answers out. docs/money.md ("connecting", the end
table) is the specification. It leaves one thing open: a fan who gives up while the creator has not connected
waits on paper. If the creator connects within ``connecting_ms`` the fan left, else the creator never connected.
"""

from __future__ import annotations

from models.messages.events import EndFact
from models.timing import Timers


class Presence:
    """The two seats of a private session."""

    def __init__(self, timers: Timers, opened_at: int) -> None:
        self._timers = timers
        self.opened_at = opened_at
        self.creator_connected = self.fan_connected = False
        """Ever: the creator by a first key frame, the fan by DTLS."""
        self.creator_here = self.fan_here = False
        """The same since this process opened the session."""
        self.creator_seated = False
        self.fan_gave_up = False
        self.creator_arrived_at: int | None = None
        self.fan_gone_at: int | None = None

    def creator_came(self, now_ms: int) -> None:
        """A key frame of the creator."""
        self.creator_connected = self.creator_here = True
        if self.creator_arrived_at is None:
            self.creator_arrived_at = now_ms

    def fan_came(self) -> None:
        """The fan's DTLS is complete."""
        self.fan_connected = self.fan_here = True
        self.fan_gone_at = None
        self.fan_gave_up = False

    def fan_went(self, now_ms: int) -> None:
        """The fan's seat is empty since now, or since earlier."""
        if self.fan_gone_at is None:
            self.fan_gone_at = now_ms

    def both_were_here(self, now_ms: int) -> None:
        """An earlier process had both; the fan is away until it comes to this one."""
        self.creator_connected = self.fan_connected = True
        self.fan_gone_at = None if self.fan_here else now_ms

    def shift(self, late_ms: int) -> None:
        """We stood still for so long: nobody's deadline."""
        self.opened_at += late_ms
        if self.creator_arrived_at is not None:
            self.creator_arrived_at += late_ms
        if self.fan_gone_at is not None:
            self.fan_gone_at += late_ms

    def fan_absent_too_long(self, now_ms: int) -> bool:
        """Of a session that is live."""
        return self.fan_gone_at is not None and now_ms - self.fan_gone_at >= self._timers.fan_absent_ms

    def connecting_until(self) -> int:
        """Until when both may still connect.

        A fan is offered something to connect to only when the creator publishes: it gets a third of the
        time at least, counted from the creator's first key frame.
        """
        until = self.opened_at + self._timers.connecting_ms
        if self.creator_arrived_at is None:
            return until
        return max(until, self.creator_arrived_at + self._timers.connecting_ms // 3)

    def time_to_come_back(self, now_ms: int) -> bool:
        """Whether a fan whom a restart lost may still be on its way."""
        return not self.fan_here and now_ms - self.opened_at < self._timers.connecting_ms

    @property
    def both_connected(self) -> bool:
        """Each of them at some time."""
        return self.creator_connected and self.fan_connected

    def how_the_fan_gave_up(self) -> EndFact:
        """The creator has connected, the fan waits no longer."""
        return "fan_left" if self.fan_connected else "fan_never_connected"

    def who_never_connected(self) -> EndFact:
        """The creator's absence outranks the fan's, also that of a creator who came and went."""
        if not self.creator_connected:
            return "creator_never_connected"
        return "fan_never_connected" if self.creator_seated else "creator_left"
