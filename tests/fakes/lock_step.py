"""A clock that waits for nobody's processor: time passes when all that was due has been handed over.

Plays publishers straight into a room, so that a minute of media is the same on a fast and on a busy machine.
"""

from __future__ import annotations

import time

from models.messages import egress
from tests.fakes.egress_server import Publisher, Seat
from workers.transcode.composer import Buffers
from workers.transcode.ladder import Ladder
from workers.transcode.source import Room

# A minute ago, at a whole second: manifests speak of real time.
BEGAN = float(int(time.time()) - 60)


class LockStep:
    """Unix time that stands still between two waits."""

    def __init__(self, room: Room, publishers: list[Publisher], closes: float) -> None:
        self._room = room
        self._seats = [Seat(publisher, 2 * index + 1) for index, publisher in enumerate(publishers)]
        self._closes = closes
        self._now = BEGAN

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    def wait(self, until: float) -> None:
        """Let everything happen that is due until then."""
        self._now = max(self._now, until)
        elapsed = self._now - BEGAN
        if elapsed >= self._closes:
            self._room.told(egress.RoomClosed(reason="STREAM_ENDED"))
            return
        for seat in self._seats:
            seat.play(self._deliver, elapsed, BEGAN)

    def _deliver(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self._room.told(egress.decode_server(data))
        else:
            self._room.take(egress.unpack(data), self._now)


class Patient:
    """Encoders that are waited for."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self.taken = 0

    def offer(self, picture: Buffers, sound: bytes) -> bool:
        """Always True."""
        self._ladder.put(picture, sound)
        self.taken += 1
        return True
