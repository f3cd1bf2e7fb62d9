"""Blocking reload of low-latency playlists, where no nginx does it: a few requests wait, and no more than a few.

Each that waits holds a thread. Whoever finds no place is answered at once with what there is, as a server does
that cannot block; players then ask again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from models.errors import Unavailable
from models.live_edge import LONGEST_WAIT_SECONDS, MOST_AHEAD, PART_WAIT_SECONDS, Wish, edge_of

MOST_WAITING = 64
"""Of the process's threads; a player has two requests that wait nearly all the time."""
LOOK_SECONDS = 0.02


class TooFarAhead(ValueError):
    """A player asks for what is not about to be written."""


class Waiting:
    """Who waits in this process. Called from any thread."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._places = threading.BoundedSemaphore(most)

    def for_playlist(self, path: Path, wish: Wish) -> None:
        """Return when the playlist has it, or at once when there is no place to wait.

        Raises TooFarAhead; Unavailable when it did not come; OSError when there is no playlist.
        """
        edge = edge_of(path.read_text())
        if wish.segment > edge.segment + MOST_AHEAD:
            raise TooFarAhead
        if edge.has(wish) or not self._places.acquire(blocking=False):
            return
        try:
            self._wait(path, wish)
        finally:
            self._places.release()

    @staticmethod
    def _wait(path: Path, wish: Wish) -> None:
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        seen = 0
        while time.monotonic() < until:
            written = path.stat().st_mtime_ns
            if written != seen:
                seen = written
                if edge_of(path.read_text()).has(wish):
                    return
            time.sleep(LOOK_SECONDS)
        raise Unavailable("The playlist has not grown.", code="UNAVAILABLE")

    def for_part(self, path: Path) -> None:
        """Return when the part that a playlist promised is there, or will not be."""
        if path.exists() or not self._places.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + PART_WAIT_SECONDS
            while not path.exists() and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
        finally:
            self._places.release()
