"""Real clients over loopback: stock aiortc peer connections that publish moving pictures and decode what comes."""

from __future__ import annotations

import asyncio
import fractions
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import av
import pylibsrtp
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
)

from media.plane import Peer
from media.port import Port

LOOPBACK = ("127.0.0.1",)
FAMILIES = [socket.AF_INET, socket.AF_INET6] if Path("/proc/net/if_inet6").exists() else [socket.AF_INET]
"""What this machine's kernel speaks: some containers have no IPv6."""
WAIT_SECONDS = 60


class Picture(VideoStreamTrack):
    """320×240 whose brightness moves."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(320, 240, "yuv420p")
        self._count += 1
        for plane in frame.planes:
            plane.update(bytes([(self._count * 5 + 64) & 0xFF]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(MediaStreamTrack):
    """20 ms frames of a square wave, in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._pts = 0
        self._began = 0.0

    async def recv(self) -> av.AudioFrame:
        loop = asyncio.get_running_loop()
        self._began = self._began or loop.time()
        await asyncio.sleep(max(0.0, self._began + self._pts / 48000 - loop.time()))
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update((b"\x00\x10" * 48 + b"\x00\xf0" * 48) * 10)
        frame.pts, frame.sample_rate, frame.time_base = self._pts, 48000, fractions.Fraction(1, 48000)
        self._pts += 960
        return frame


_ports: list[Port] = []


def wanted_engine() -> bool:
    """Whether ``MEDIA_ENGINE`` leaves the port to the native engine, as a node reads it."""
    return os.environ.get("MEDIA_ENGINE", "native") == "native"


def open_port() -> Port:
    """A node's port on loopback, whose packets are forwarded by who is to forward them."""
    port = Port(LOOPBACK, native=wanted_engine())
    assert (port.native is not None) == wanted_engine()
    return port


def the_port() -> Port:
    """The port of the innermost ``loopback_gathering``."""
    return _ports[-1]


@asynccontextmanager
async def loopback_gathering() -> AsyncIterator[None]:
    """A port of a node, on loopback. The client's ICE agent skips 127.0.0.1 by itself."""
    _ports.append(open_port())
    try:
        with mock.patch("aioice.ice.get_host_addresses", return_value=["127.0.0.1"]):
            yield
    finally:
        _ports.pop().close()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for ``condition``; a bound, not a synchronisation."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 (many kinds of conditions, and a bound)
            await asyncio.sleep(0.01)
    assert condition(), what


def held() -> dict[str, int]:
    """What this process holds, without what only waits to be collected: of an earlier test's, too."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "srtp sessions": sum(1 for thing in gc.get_objects() if isinstance(thing, pylibsrtp.Session)),
    }


async def given_back(before: dict[str, int]) -> None:
    """Wait until nothing is held that was not held then: a cancelled task takes turns of the loop to go."""

    def more() -> dict[str, int]:
        return {what: count - before[what] for what, count in held().items() if count > before[what]}

    try:
        await until(lambda: not more(), "no more is held than before")
    except TimeoutError:
        raise AssertionError(f"more is held than before: {more()}") from None


class Client:
    """One participant as a browser would be: a publish and a subscribe connection to its ``Peer``."""

    def __init__(self, user_id: str = "usr_test", port: Port | None = None) -> None:
        self.connected: list[str] = []
        self.lost: list[str] = []
        self.peer = Peer(
            user_id=user_id, port=port or the_port(), on_connected=self.connected.append, on_lost=self.lost.append
        )
        self.publishing: RTCPeerConnection | None = None
        self.subscribing: RTCPeerConnection | None = None
        self.frames: dict[str, int] = {"audio": 0, "video": 0}
        self._readers: set[asyncio.Task[None]] = set()

    async def publish(
        self, *, video: str | None = "VP8", audio: bool = True, connection: RTCPeerConnection | None = None
    ) -> None:
        """Offer, be answered, and wait until media may flow."""
        pc = self.publishing = connection or RTCPeerConnection(RTCConfiguration(iceServers=[]))
        if audio:
            pc.addTransceiver(Tone(), direction="sendonly")
        if video:
            transceiver = pc.addTransceiver(Picture(), direction="sendonly")
            known = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([codec for codec in known if codec.name in (video, "rtx")])
        await pc.setLocalDescription(await pc.createOffer())
        answer = await self.peer.accept_publish(pc.localDescription.sdp)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        # For both sides: a stock connection that is closed before that may leave what it was about to start.
        await until(
            lambda: "publish" in self.connected and pc.connectionState == "connected",
            "the publish connection stands",
        )

    async def subscribe(self, *others: Client, connect: bool = True) -> None:
        """Take every track of ``others``."""
        for other in others:
            for track in other.peer.published.values():
                self.peer.subscribe(track)
        await self.negotiate(connect=connect)

    async def negotiate(self, *, connect: bool = True) -> None:
        """One round of offer and answer on the subscribe connection."""
        if self.subscribing is None:
            self.subscribing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            self.subscribing.on("track", self._read)
        pc = self.subscribing
        await pc.setRemoteDescription(RTCSessionDescription(await self.peer.offer_subscribe(), "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        await self.peer.accept_subscribe_answer(pc.localDescription.sdp)
        if connect:
            await until(
                lambda: "subscribe" in self.connected and pc.connectionState == "connected",
                "the subscribe connection stands",
            )

    def _read(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            while True:
                await track.recv()
                self.frames[track.kind] += 1

        self._readers.add(asyncio.ensure_future(read()))

    async def decodes(self, kind: str, more: int = 5) -> None:
        """Wait until ``more`` further frames were decoded."""
        target = self.frames[kind] + more
        await until(lambda: self.frames[kind] >= target, f"{kind} is decoded")

    async def close(self) -> None:
        """Both sides."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for pc in (self.publishing, self.subscribing):
            if pc is not None:
                await pc.close()
        await self.peer.close()


@asynccontextmanager
async def room(size: int) -> AsyncIterator[list[Client]]:
    """``size`` clients, closed at the end."""
    async with loopback_gathering():
        clients = [Client(f"usr_{number}") for number in range(size)]
        try:
            yield clients
        finally:
            await asyncio.gather(*(client.close() for client in clients))
