"""Seats taken as a stranger's client would: a WebSocket, two aiortc connections, and no undue courtesy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import av
import msgspec
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from media_clients import Picture, Tone, loopback_gathering, the_port, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from media.control import CommandDesk
from media.node import Node
from media.signaling import SignalingServer
from models import grants, ids
from models.clock import utc_now
from models.config import Settings, load_settings
from models.messages import codec, commands, events
from models.messages.commands import Budget, OpenRoom, Reply, RoomSpec
from models.timing import timers_for

CREATOR, FAN = "usr_creator", "usr_fan"
SECRET = "s" * 32
JSON = dict[str, Any]
MARK = 240


def media_settings(**environment: str) -> Settings:
    return load_settings({"SECRET_KEY": SECRET, "TESTING": "1", "MEDIA_ADDRESSES": "127.0.0.1", **environment})


def signed_grant(
    room_id: str, user_id: str, *, publish: bool = True, jti: str | None = None, age: float = 0.0, **other: Any
) -> str:
    now = utc_now().timestamp() - age
    grant = grants.Grant(
        jti=jti or ids.new_id("jti"),
        room_id=room_id,
        user_id=user_id,
        display_name=user_id.removeprefix("usr_"),
        role=other.get("role", "participant"),
        publish=publish,
        issued_at=now,
        expires_at=now + 60,
        stream_url=other.get("stream_url", ""),
    )
    return grants.sign(grant, media_settings().key("grants"))


def fields() -> dict[str, Any]:
    """What every command carries."""
    return {"message_id": ids.new_id("msg"), "cause_id": "test", "deadline_at": utc_now().timestamp() + 30}


def private_spec(name: str, paid_ms: int = 600_000, *, connecting_ms: int = 30_000, **other: Any) -> RoomSpec:
    timers = msgspec.structs.replace(timers_for(60_000), connecting_ms=connecting_ms)
    budget = Budget(session_id=f"ses_{name}", paid_ms=paid_ms, rate_per_minute=100, timers=timers, **other)
    return RoomSpec(room_id=f"private-ses_{name}", creator_id=CREATOR, parties=(CREATOR, FAN), budget=budget)


def live_spec(name: str = "one") -> RoomSpec:
    return RoomSpec(room_id=f"live-str_{name}", creator_id=CREATOR)


class Unmarked(Picture):
    """Its brightness moves, its colour does not."""

    colour = 128

    async def recv(self) -> av.VideoFrame:
        frame = await super().recv()
        for plane in frame.planes[1:]:
            plane.update(bytes([self.colour]) * plane.buffer_size)
        return frame


class Marked(Unmarked):
    """A picture whose colour says which room it was meant for."""

    colour = MARK


class Stage:
    """A node with its signaling server, and a notebook of what it said."""

    def __init__(self, **environment: str) -> None:
        self.said: list[events.AnyEvent] = []
        self.node = Node(media_settings(**environment), self.said.append, the_port())
        self.desk = CommandDesk(self.node.carry_out)
        self.server = SignalingServer(self.node)
        self.port = 0
        self.seats: list[Seat] = []

    def order(self, command: commands.Command) -> Reply:
        return self.desk.handle(codec.encode(command), utc_now().timestamp())

    def open(self, spec: RoomSpec) -> str:
        assert self.order(OpenRoom(room=spec, **fields())).ok
        return spec.room_id

    def of_type(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.said if isinstance(event, kind)]

    async def connect(self) -> Seat:
        seat = Seat(await connect(f"ws://127.0.0.1:{self.port}/signaling", compression=None))
        self.seats.append(seat)
        return seat

    async def join(self, room_id: str, user_id: str, *, publish: bool = True, grant: str | None = None) -> Seat:
        seat = await self.connect()
        await seat.join(room_id, user_id, grant or signed_grant(room_id, user_id, publish=publish))
        return seat


@asynccontextmanager
async def running_stage(**environment: str) -> AsyncIterator[Stage]:
    async with loopback_gathering():
        stage = Stage(**environment)
        stage.port = await stage.server.start("127.0.0.1", 0)
        stage.node.start()
        try:
            yield stage
        finally:
            await asyncio.gather(*(seat.close() for seat in stage.seats))
            stage.node.suspend()
            await stage.server.stop()
            await stage.node.close()


class Seat:
    """One client. ``answering = False`` makes it one that never answers an offer."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.answering = True
        self.messages: list[JSON] = []
        self.frames = {"audio": 0, "video": 0}
        self.marks = 0
        self.packets = 0
        self.close_code: int | None = None
        self.publishing: RTCPeerConnection | None = None
        self.subscribing: RTCPeerConnection | None = None
        self._tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._read())]

    # --- signaling

    async def send(self, **message: Any) -> None:
        await self.socket.send(msgspec.json.encode(message).decode())

    async def join(self, room_id: str, user_id: str, grant: str, **other: Any) -> None:
        await self.send(type="JOIN_ROOM", roomId=room_id, userId=user_id, grant=grant, **other)
        await self.hears("JOINED", "ERROR", "SPECTATOR_URL")

    def of(self, kind: str) -> list[JSON]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def errors(self) -> list[str]:
        return [message["code"] for message in self.of("ERROR")]

    @property
    def terminated(self) -> str | None:
        found = self.of("TERMINATE_CALL")
        return found[-1]["reason"] if found else None

    async def hears(self, *kinds: str) -> None:
        await until(lambda: any(self.of(kind) for kind in kinds) or self.close_code is not None, str(kinds))
        assert any(self.of(kind) for kind in kinds), (kinds, self.close_code, self.messages)

    async def closed(self) -> int:
        await until(lambda: self.close_code is not None, "closed")
        assert self.close_code is not None
        return self.close_code

    async def clock(self, state: str) -> None:
        def shows() -> bool:
            clocks = self.of("SESSION_CLOCK")
            return bool(clocks) and clocks[-1]["state"] == state

        await until(shows, f"the clock shows {state}")

    async def _read(self) -> None:
        try:
            while True:
                message = msgspec.json.decode(await self.socket.recv())
                self.messages.append(message)
                if message["type"] == "OFFER" and self.answering:
                    await self._answer(message)
                elif message["type"] == "ANSWER" and self.publishing is not None:
                    await self.publishing.setRemoteDescription(RTCSessionDescription(message["sdp"], "answer"))
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006

    # --- media

    async def publish(self, *, picture: type[Picture] = Unmarked, sound: type[Tone] = Tone) -> None:
        pc = self.publishing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        pc.addTransceiver(sound(), direction="sendonly")
        transceiver = pc.addTransceiver(picture(), direction="sendonly")
        known = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name in ("VP8", "rtx")])
        await pc.setLocalDescription(await pc.createOffer())
        await self.send(type="OFFER", pc="publish", sdp=pc.localDescription.sdp)

    async def _answer(self, offer: JSON) -> None:
        if self.subscribing is None:
            self.subscribing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            self.subscribing.on("track", self._watch)
        pc = self.subscribing
        await pc.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        self._count_packets(pc)
        await self.send(
            type="ANSWER", pc="subscribe", sdp=pc.localDescription.sdp, revision=offer["revision"]
        )

    def _count_packets(self, pc: RTCPeerConnection) -> None:
        transport = pc.getTransceivers()[0].receiver.transport
        if "_handle_rtp_data" in vars(transport):
            return
        handle = transport._handle_rtp_data

        async def counting(data: bytes, arrival_time_ms: int) -> None:
            self.packets += 1
            await handle(data, arrival_time_ms)

        transport._handle_rtp_data = counting

    def _watch(self, track: MediaStreamTrack) -> None:
        async def watch() -> None:
            try:
                while True:
                    frame = await track.recv()
                    self.frames[track.kind] += 1
                    if isinstance(frame, av.VideoFrame):
                        self.marks += abs(bytes(frame.planes[1])[1000] - MARK) < 20
            except MediaStreamError:
                return

        self._tasks.append(asyncio.create_task(watch()))

    async def decodes(self, more: int = 5) -> None:
        """Wait for both kinds."""
        target = {kind: count + more for kind, count in self.frames.items()}
        await until(lambda: all(self.frames[kind] >= target[kind] for kind in target), "both are decoded")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pc in (self.publishing, self.subscribing):
            if pc is not None:
                await pc.close()
        await self.socket.close()


def plays(scene: Callable[[Stage], Any], **environment: str) -> Callable[[], None]:
    """Make a test of an async scene: runs it on a stage of its own, with these settings."""

    async def play() -> None:
        async with asyncio.timeout(240), running_stage(**environment) as stage:
            await scene(stage)

    def test() -> None:
        asyncio.run(play())

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


def plays_with(**environment: str) -> Callable[[Callable[[Stage], Any]], Callable[[], None]]:
    """``plays`` on a node with these settings."""
    return lambda scene: plays(scene, **environment)
