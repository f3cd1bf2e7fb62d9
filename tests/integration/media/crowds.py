"""Rooms in which many come and go: publishers who only say what they would send. More no offer depends on."""

from __future__ import annotations

from unittest import mock

from aiortc import RTCConfiguration, RTCPeerConnection
from media_clients import Picture, Tone, until
from seats import CREATOR, Seat, Stage

from media import signaling
from models.messages.commands import RoomSpec

CAST = [CREATOR, *(f"usr_{number}" for number in range(18))]
"""With one who watches, twenty in a room."""
AT_ONCE = 3
"""Descriptions that a client may send by itself; here for its whole life, however long this machine takes."""
NO_MORE = mock.patch.object(signaling, "DESCRIPTIONS", (AT_ONCE, 0.0))


def owners(seat: Seat) -> set[str]:
    """Whose tracks it was told last that it is sent."""
    told = [message for message in seat.messages if message["type"] in ("OFFER", "TRACKS")]
    return {slot["userId"] for slot in told[-1]["tracks"].values()} if told else set()


async def heard_out(seat: Seat) -> None:
    """Wait until the node has taken everything that this seat sent."""
    pongs = len(seat.of("PONG"))
    await seat.send(type="PING")
    await until(lambda: len(seat.of("PONG")) > pongs or seat.close_code is not None, "answered")
    assert seat.close_code is None, seat.errors


def room_of(publishers: list[str]) -> RoomSpec:
    return RoomSpec(room_id="battle-many", creator_id=CREATOR, publishers=tuple(publishers))


class Crowd:
    """They come and leave; those who watch are waited for."""

    def __init__(self, stage: Stage, room_id: str, offer: str) -> None:
        self.here: dict[str, Seat] = {}
        self._stage, self._room_id, self._offer = stage, room_id, offer

    async def comes(self, user_id: str, *viewers: Seat) -> None:
        seat = self.here[user_id] = await self._stage.join(self._room_id, user_id)
        seat.answering = False
        await seat.send(type="OFFER", pc="publish", sdp=self._offer)
        for viewer in viewers:
            await until(lambda viewer=viewer: user_id in owners(viewer) or viewer.close_code, f"{user_id} is told")
            await heard_out(viewer)

    async def leaves(self, user_id: str, *viewers: Seat) -> None:
        await self.here.pop(user_id).send(type="LEAVE_ROOM")
        for viewer in viewers:
            await until(lambda viewer=viewer: user_id not in owners(viewer), f"{user_id} is gone")
            await heard_out(viewer)


async def crowd(stage: Stage, room_id: str) -> Crowd:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for track in (Tone(), Picture()):
        pc.addTransceiver(track, direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    await pc.close()
    return Crowd(stage, room_id, offer)
