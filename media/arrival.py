"""Which of the creator's frames prove that media arrives now, and which had only been waiting for us.

Pure, like the meter that it belongs to. While this process stood still, datagrams heaped up in the kernel:
frames of a time that nobody pays for. However slowly they are read, they are not taken for arrivals: from
the moment at which we were late until the receive queue has been seen empty (:meth:`Arrival.caught_up`), no
frame counts.
"""

from __future__ import annotations

from collections import deque

FRAMES_NEEDED = 5
FRAME_WINDOW_MS = 1_000
LATE_MS = 250
"""Facts come every 50 ms (ticks) or more often; this late, we are behind. While media runs, up to ``gap_ms``
of it is paid for and passes; while the clock stands nobody pays, and it must not pass."""


class Arrival:
    """The last frames of the creator, and whether we are behind the socket."""

    def __init__(self, *, audio_only: bool) -> None:
        self._frames: deque[int] = deque(maxlen=1 if audio_only else FRAMES_NEEDED)
        self.behind = False
        """What is read now may have waited in the kernel: whoever reads should empty the receive queue, then
        say :meth:`caught_up`."""

    def stood_still(self) -> None:
        """We were away for so long that a gap is certain: nothing from before it counts either."""
        self.behind = True
        self._frames.clear()

    def late(self) -> None:
        """We were away for a moment while the clock stood."""
        self.behind = True

    def caught_up(self) -> None:
        """The receive queue was just empty: what comes from here on arrives from here on."""
        self.behind = False

    def frame(self, now_ms: int) -> bool:
        """A frame (audio only: a packet) was read; whether it counts."""
        if not self.behind:
            self._frames.append(now_ms)
        return not self.behind

    def is_healthy(self, now_ms: int) -> bool:
        """Whether frames come often enough, as far as the last five tell."""
        frames = self._frames
        return len(frames) == frames.maxlen and now_ms - frames[0] < FRAME_WINDOW_MS
