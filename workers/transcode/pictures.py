"""A publisher's decoded pictures on the clock of capture, and which of them a moment shows.

Knows nothing of codecs, connections or where in the picture they go.
"""

from __future__ import annotations

import threading
from collections import deque

from av import VideoFrame

from models.ladder import FRAMES_PER_SECOND

FREEZE_SECONDS = 3.0
"""How long the last picture stands when no other comes."""
ENDED_FREEZE_SECONDS = 0.3
"""The same, after its owner stopped publishing: as long as the same camera may take to come back otherwise."""
HALF_TICK = 0.5 / FRAMES_PER_SECOND
SLACK_SECONDS = 0.005
"""How far a picture may be shown from its own tick so that none is shown twice and the next one never."""
HELD_PICTURES = 45


class PictureTrack:
    """One publisher's pictures, under the name that people know. One thread adds, another looks."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._lock = threading.Lock()
        self._coming: deque[tuple[float, VideoFrame]] = deque(maxlen=HELD_PICTURES)
        self._shown: tuple[float, VideoFrame] | None = None
        self._off = False
        self._ended = False
        self.over = False
        """Nothing will be shown of it again, unless it is taken up."""

    def end(self) -> None:
        """Nothing follows; what waits is still shown."""
        with self._lock:
            self._ended = True

    def take_up(self) -> None:
        """The same person's pictures come again."""
        with self._lock:
            self._ended = self.over = self._off = False

    def add(self, captured_at: float, frame: VideoFrame) -> None:
        """The next picture; ``captured_at`` is Unix seconds."""
        with self._lock:
            self._coming.append((captured_at, frame))

    def switch(self, off: bool) -> None:
        """Its owner switched the camera off, or on again."""
        with self._lock:
            self._off = off
            if off:
                self._coming.clear()
                self._shown = None

    def first_at(self) -> float | None:
        """When the oldest picture that waits was captured."""
        with self._lock:
            return self._coming[0][0] if self._coming else None

    def look(self, moment: float) -> VideoFrame | None:
        """The picture that ``moment`` (Unix seconds of capture) shows; None when there is none, or an old one.

        The nearest tick shows a picture. At the same rate as ours but another phase, jitter would now and then
        show one twice and skip the next: one that is just early, or just due, is moved by a tick.
        """
        with self._lock:
            if self._off:
                self.over = self._ended
                return None
            until = moment + HALF_TICK
            due = 0
            while due < len(self._coming) and self._coming[due][0] <= until:
                due += 1
            just_early = due == 0 and self._coming and self._coming[0][0] <= until + SLACK_SECONDS
            just_due = due == 2 and self._coming[1][0] > until - SLACK_SECONDS
            if just_early or just_due:
                due = 1
            for _ in range(due):
                self._shown = self._coming.popleft()
            freeze = ENDED_FREEZE_SECONDS if self._ended else FREEZE_SECONDS
            if self._shown is None or moment - self._shown[0] > freeze:
                self.over = self._ended and not self._coming
                return None
            return self._shown[1]
