"""Who speaks in a room, from the levels that publishers put into their audio packets (RFC 6464).

Pure arithmetic; the time is an argument. A level is a claim of the publisher: a client that lies about it is shown
as the speaker, and that is all it gets. The voice flag is not looked at, as clients are free not to set it.

Levels are smoothed per track (a cough makes nobody the speaker), and the speaker changes only for somebody who
is clearly louder for a while, or once the speaker is silent: never twice within ``HELD_MS``. Nobody speaking is no
news: the last speaker stays. Under DTX a silent microphone sends next to nothing; no packets are silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

QUIETEST = 127
"""dB below overload: what RFC 6464 calls digital silence."""
SPEAKING = 50.0
"""Louder than -50 dBov is speech: rooms and laptop fans are below -60, people at arm's length above -40."""
RISES_MS, FALLS_MS = 100.0, 1_500.0
"""Time constants: a syllable is enough to be heard, a pause between two words (up to half a second) is none."""
GRACE_MS = 120
"""No packet for so long is silence: six packets lost in a row are rarer than DTX (one packet in 400 ms)."""
MARGIN_DB = 6.0
"""Twice as loud: what somebody has to be to be heard over the speaker."""
OVERTAKES_MS = 600
"""For how long."""
HELD_MS = 1_500
"""The least time between two changes of speaker: pictures that follow it must not flicker."""


class Loudness:
    """One track's smoothed level in dB above ``-127 dBov``: 0 is silence, 127 overload."""

    __slots__ = ("_at_ms", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at_ms: int | None = None

    def heard(self, level: int, now_ms: int) -> None:
        """A packet's level octet: the flag is its top bit, -dBov the other seven."""
        since_ms = self._gap(now_ms)
        self._level = _towards(self._level, float(QUIETEST - (level & 0x7F)), min(since_ms, GRACE_MS))
        self._at_ms = now_ms

    def at(self, now_ms: int) -> float:
        """The level now, silence since the last packet included."""
        if self._at_ms is None:
            return 0.0
        silent_ms = now_ms - self._at_ms - GRACE_MS
        return _towards(self._level, 0.0, silent_ms) if silent_ms > 0 else self._level

    def _gap(self, now_ms: int) -> int:
        if self._at_ms is None:
            return 20
        self._level = self.at(now_ms)
        return max(0, now_ms - self._at_ms)


def _towards(level: float, target: float, after_ms: float) -> float:
    constant = RISES_MS if target > level else FALLS_MS
    return target + (level - target) * math.exp(-after_ms / constant)


class Speakers:
    """Who speaks, and who spoke before: the room's order of attention."""

    def __init__(self) -> None:
        self.recent: list[str] = []
        """User ids, the present speaker first; who never spoke is not in it."""
        self._changed_ms: int | None = None
        self._challenger: tuple[str, int] | None = None

    @property
    def active(self) -> str | None:
        """Who speaks, or spoke last."""
        return self.recent[0] if self.recent else None

    def look(self, levels: Mapping[str, float], now_ms: int) -> str | None:
        """Take the levels by user id, some times a second; the new speaker, if that has just changed."""
        loudest = max(levels, key=lambda user_id: (levels[user_id], user_id), default=None)
        if loudest is None or levels[loudest] < QUIETEST - SPEAKING or loudest == self.active:
            self._challenger = None
            return None
        if self._challenger is None or self._challenger[0] != loudest:
            self._challenger = (loudest, now_ms)
        if not self._may_overtake(levels, loudest, now_ms):
            return None
        self._changed_ms, self._challenger = now_ms, None
        self.recent = [loudest, *(user_id for user_id in self.recent if user_id != loudest)]
        return loudest

    def _may_overtake(self, levels: Mapping[str, float], loudest: str, now_ms: int) -> bool:
        if self._changed_ms is not None and now_ms - self._changed_ms < HELD_MS:
            return False
        present = levels.get(self.active, 0.0) if self.active is not None else 0.0
        if present < QUIETEST - SPEAKING:
            return True
        if levels[loudest] < present + MARGIN_DB:
            self._challenger = (loudest, now_ms)
            return False
        return self._challenger is not None and now_ms - self._challenger[1] >= OVERTAKES_MS

    def foremost(self, user_ids: Iterable[str], most: int) -> list[str]:
        """Of these, those who spoke last; who never spoke comes behind, in the order given."""
        given = list(dict.fromkeys(user_ids))
        spoke = [user_id for user_id in self.recent if user_id in given]
        return [*spoke, *(user_id for user_id in given if user_id not in spoke)][:most]

    def gone(self, user_id: str) -> None:
        """That user left the room."""
        if user_id in self.recent:
            self.recent.remove(user_id)
