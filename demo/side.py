"""One side of a private call that comes back by itself: it rejoins whenever its seat is lost without a reason."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from demo.peer import ApiError, Peer
from demo.seat import Refused, Seat

PATIENCE_SECONDS = 60.0
AGAIN_AFTER_SECONDS = 0.2


class Side:
    """A person in a private room, as a browser would be: publishing ``clip`` if there is one."""

    def __init__(self, peer: Peer, room_id: str, clip: Path | None, *, decode: bool = True) -> None:
        self.peer = peer
        self.room_id = room_id
        self.clip = clip
        self.seats: list[Seat] = []
        self.running = asyncio.Event()
        self._decode = decode

    async def stay(self) -> str:
        """Sit in the room until told why to go; ``GONE`` when the room is not there (any more)."""
        while True:
            try:
                seat = await self.peer.join(self.room_id, publish=self.clip, decode=self._decode)
                self.seats.append(seat)
            except (ApiError, Refused, OSError, TimeoutError) as refusal:
                if getattr(refusal, "code", "") in ("NOT_FOUND", "ROOM_NOT_FOUND", "FORBIDDEN", "BARRED"):
                    return "GONE"
                await asyncio.sleep(AGAIN_AFTER_SECONDS)
                continue
            watch = asyncio.create_task(self._watch(seat))
            ended = await seat.ended
            watch.cancel()
            if ended.reason is not None:
                return ended.reason

    async def _watch(self, seat: Seat) -> None:
        # Whether a call must run is for those to say who wait for it: some are killed before.
        with contextlib.suppress(TimeoutError):
            await seat.wait_for_clock("running", PATIENCE_SECONDS)
            self.running.set()

    @property
    def frames(self) -> int:
        """Video frames decoded on all seats together."""
        return sum(seat.seen.frames for seat in self.seats)
