"""Whether a private room's media may be recorded: given once by both parties, taken for good by either.

The node's own memory of two consents that the control plane keeps. Knows no rooms and no sockets.
"""

from __future__ import annotations

from models.clock import monotonic_ms
from models.messages import signaling as say


class Permission:
    """Of one room. Once it was taken nothing gives it back in this room's life."""

    def __init__(self) -> None:
        self.recording_id = ""
        """What may be recorded now; empty: nothing."""
        self._epoch = 0
        self._since_ms = 0
        self._over = False

    def give(self, recording_id: str, epoch: int) -> bool:
        """True when that is new; whether it holds now says ``recording_id``."""
        self._epoch = max(self._epoch, epoch)
        if self._over or self.recording_id:
            return False
        self.recording_id, self._since_ms = recording_id, monotonic_ms()
        return True

    def is_younger(self, epoch: int) -> bool:
        """Whether something may be recorded that was permitted after ``epoch``."""
        return bool(self.recording_id) and self._epoch > epoch

    def take(self) -> bool:
        """From now on, for good; True when something could have been recorded till now."""
        had, self.recording_id, self._over = bool(self.recording_id), "", True
        return had

    @property
    def word(self) -> say.Recording:
        """What both parties are told."""
        if not self.recording_id:
            return say.Recording(state="off")
        return say.Recording(state="on", elapsed_ms=monotonic_ms() - self._since_ms)
