"""Whose pauses a session has had, and for how long: what becomes of a call whose pauses are used up.

Pure bookkeeping for the meter: monotonic milliseconds in, answers out. docs/money.md ("paused") is the
specification. Whatever the tie, a fan whose session ends by its pauses pays delivered minutes rounded down.
"""

from __future__ import annotations

from models.messages.commands import Budget
from models.messages.events import EndFact, PauseCause


class Pauses:
    """The sums of both causes, and the pause that is going on, if one is."""

    def __init__(self, budget: Budget, now_ms: int) -> None:
        self._most_ms = budget.timers.pause_ms
        self._gap_ms = budget.timers.gap_ms
        self.ms: dict[PauseCause, int] = {"creator": budget.creator_pause_ms, "node": budget.node_pause_ms}
        self._began_at = self._counted_to = now_ms
        self._ours_until: int | None = now_ms
        """Until when what is broken is our fault; None: until the creator's media is back."""

    def begin(self, at: int) -> None:
        """A pause from ``at`` on."""
        self._began_at = self._counted_to = at

    def resume(self, now_ms: int, paused_for_ms: int) -> None:
        """Go on in our pause, the one in which an earlier process ended."""
        self._ours_until = None
        self._began_at, self._counted_to = now_ms - paused_for_ms, now_ms

    def count(self, until: int, cause: PauseCause) -> None:
        """Bring the sums up to ``until``."""
        self.ms[cause] += until - self._counted_to
        self._counted_to = until

    def for_ms(self, now_ms: int) -> int:
        """How long this pause has lasted."""
        return now_ms - self._began_at

    def catch_up(self, reported: Budget) -> None:
        """Figures rise to what was reported; none falls."""
        self.ms["creator"] = max(self.ms["creator"], reported.creator_pause_ms)
        self.ms["node"] = max(self.ms["node"], reported.node_pause_ms)

    def used_up(self) -> EndFact | None:
        """How the session ends by its pauses, if they are used up: the larger share names it, a tie is ours."""
        creator, node = self.ms["creator"], self.ms["node"]
        if creator + node < self._most_ms:
            return None
        return "creator_pause_used_up" if creator > node else "node_pause_used_up"

    # --- whose fault --------------------------------------------------------------------------------

    def is_ours(self, now_ms: int) -> bool:
        """Whether what is broken now is our fault."""
        return self._ours_until is None or now_ms < self._ours_until

    def all_is_well(self, now_ms: int) -> None:
        """Media flows: what breaks next is not our fault."""
        self._ours_until = now_ms

    def creator_is_back(self, now_ms: int) -> None:
        """After a restart: what is broken a gap later is no longer the restart's fault."""
        if self._ours_until is None:
            self._ours_until = now_ms + self._gap_ms

    def ours_for_a_gap(self, now_ms: int) -> None:
        """We stood still: the creator's media gets the time of a gap to be there again."""
        if self._ours_until is not None:
            self._ours_until = now_ms + self._gap_ms

    def fan_is_back(self, now_ms: int) -> None:
        """The fan whom a restart lost: the creator's key frame may take the time of a gap."""
        self._ours_until = now_ms + self._gap_ms
