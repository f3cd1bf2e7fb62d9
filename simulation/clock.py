"""Virtual time, and the one seam through which the simulation replaces what is random or reads a wall clock.

A heap of what is to happen at which virtual millisecond; between two events no time passes in the real world.
Knows nothing of what happens.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from models import clock as real_clock

START = datetime(2026, 1, 5, 18, 0, tzinfo=UTC)
_SEEN = ("models", "workers", "media")

Act = Callable[[], None]


class Timeline:
    """What is to happen, in order; ties in the order in which they were planned."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.now_ms = 0
        self._planned: list[tuple[int, int, Act]] = []
        self._count = 0
        self._utc = START
        self._utc_at = 0

    def at(self, when_ms: int, act: Act) -> None:
        """Let ``act`` happen at ``when_ms``, or now if that is past."""
        self._count += 1
        heapq.heappush(self._planned, (max(when_ms, self.now_ms), self._count, act))

    def after(self, delay_ms: float, act: Act) -> None:
        """Let ``act`` happen ``delay_ms`` from now."""
        self.at(self.now_ms + int(delay_ms), act)

    def step(self) -> bool:
        """Jump to the next event and let it happen; False when nothing is planned any more."""
        if not self._planned:
            return False
        self.now_ms, _, act = heapq.heappop(self._planned)
        act()
        return True

    def skip(self, milliseconds: int) -> None:
        """Let time pass in which nothing but what is planned happens."""
        end = self.now_ms + milliseconds
        while self._planned and self._planned[0][0] <= end:
            self.step()
        self.now_ms = end

    def next_at(self) -> int | None:
        """When the next event is."""
        return self._planned[0][0] if self._planned else None

    def utc(self) -> datetime:
        """Virtual wall time."""
        if self._utc_at != self.now_ms:
            self._utc, self._utc_at = START + timedelta(milliseconds=self.now_ms), self.now_ms
        return self._utc

    def monotonic_ms(self) -> int:
        """Virtual monotonic time."""
        return self.now_ms

    def time(self) -> float:
        """In place of ``time.time``."""
        return self.utc().timestamp()

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.random.random() < probability


class Entropy:
    """In place of ``secrets``: as many bytes as asked for, from the seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"entropy {seed}")  # noqa: S311

    def token_bytes(self, count: int) -> bytes:
        """Bytes that nobody else will see."""
        return self._random.randbytes(count)

    def token_urlsafe(self, count: int) -> str:
        """The same as text."""
        return self._random.randbytes(count).hex()


@contextmanager
def virtual(timeline: Timeline, seed: int) -> Iterator[None]:
    """Inside, no module of the house sees a wall clock or a random number that is not the seed's."""
    entropy = Entropy(seed)
    put_back: list[tuple[ModuleType, str, Any]] = []

    def replace(module: ModuleType, name: str, value: Any) -> None:
        put_back.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] not in _SEEN or module is real_clock:
            continue
        if getattr(module, "utc_now", None) is real_clock.utc_now:
            replace(module, "utc_now", timeline.utc)
        if getattr(module, "monotonic_ms", None) is real_clock.monotonic_ms:
            replace(module, "monotonic_ms", timeline.monotonic_ms)
        if getattr(module, "time", None) is sys.modules["time"]:
            replace(module, "time", timeline)
        if getattr(module, "secrets", None) is sys.modules["secrets"]:
            replace(module, "secrets", entropy)
    try:
        yield
    finally:
        for module, name, value in reversed(put_back):
            setattr(module, name, value)
