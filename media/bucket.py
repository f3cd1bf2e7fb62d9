"""How often something may be had: a token bucket (RFC 2697's idea, counted in events). Knows no packets."""

from __future__ import annotations

from collections.abc import Callable


class Bucket:
    """Tokens: ``most`` at first, and so many more a second, up to ``most``."""

    def __init__(self, most: int, per_second: float, clock: Callable[[], float]) -> None:
        self._most, self._per_second, self._clock = most, per_second, clock
        self._left, self._at = float(most), clock()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
