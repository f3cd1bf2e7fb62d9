"""One seat in one room: signaling and WebRTC as a stranger's client would do it, with a stop-watch.

Knows docs/contract.md §4 and nothing of tokens, requests or sessions. All instants are ``time.monotonic`` seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aioice.ice
import msgspec
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from demo.clip import Clip

JSON = dict[str, Any]
PATIENCE_SECONDS = 15.0
VIDEO_CODEC = "video/VP8"


class Refused(Exception):
    """The room answered ERROR; the text is its code."""


class Ended(msgspec.Struct, frozen=True):
    """How a seat ended: the reason that TERMINATE_CALL gave (None without one), the socket's close code."""

    reason: str | None
    code: int
    at: float


class Seen(msgspec.Struct):
    """What arrived, from whomever. Packets are counted before they are decoded."""

    packets: int = 0
    frames: int = 0
    samples: int = 0
    width: int = 0
    height: int = 0
    first_frame_at: float | None = None
    last_frame_at: float | None = None
    last_packet_at: float | None = None


class Seat:
    """Made by ``take``. ``ended`` resolves when the server closed the seat or the socket was lost."""

    def __init__(self, socket: ClientConnection, joined: JSON, decode: bool) -> None:
        self._socket = socket
        self.joined = joined
        self._decodes = decode
        self.seen = Seen()
        self.clocks: list[JSON] = []
        self.messages: list[JSON] = []
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.first_frame = asyncio.Event()
        self.published = asyncio.Event()
        self._changed = asyncio.Condition()
        self._reason: str | None = None
        self._candidates: dict[str, list[JSON]] = {"publish": [], "subscribe": []}
        self._clip: Clip | None = None
        self._publish: RTCPeerConnection | None = None
        self._subscribe: RTCPeerConnection | None = None
        self._tasks = [asyncio.create_task(self._read(), name="seat-signaling")]

    @classmethod
    async def take(cls, url: str, room_id: str, user_id: str, grant: str, *, decode: bool = True) -> Seat:
        """Join; raises Refused. Without ``decode`` packets are counted and thrown away."""
        # Programs carry the grant in the handshake, browsers in JOIN_ROOM.
        socket = await connect(
            url,
            additional_headers={"Authorization": f"Bearer {grant}"},
            proxy=None,
            max_size=256 * 1024,
            open_timeout=PATIENCE_SECONDS,
        )
        join = {"type": "JOIN_ROOM", "roomId": room_id, "userId": user_id, "isSpectator": False}
        await socket.send(json.dumps(join))
        try:
            answer = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))
        except ConnectionClosed as closed:
            raise Refused(f"closed {closed.rcvd.code if closed.rcvd else 1006}") from closed
        if answer["type"] != "JOINED":
            await socket.close()
            raise Refused(answer.get("code", answer.get("reason", answer["type"])))
        return cls(socket, answer, decode)

    async def publish(self, clip: Clip) -> None:
        """Send the clip; returns when the connection is up."""
        self._clip = clip
        self._publish = peer = self._connection()
        for track, codec in ((clip.audio, "audio/opus"), (clip.video, VIDEO_CODEC)):
            transceiver = peer.addTransceiver(track, direction="sendonly")
            codecs = RTCRtpSender.getCapabilities(track.kind).codecs
            transceiver.setCodecPreferences([one for one in codecs if one.mimeType == codec])
        await peer.setLocalDescription(await peer.createOffer())
        await self._send({"type": "OFFER", "pc": "publish", "sdp": peer.localDescription.sdp})
        await asyncio.wait_for(self.published.wait(), PATIENCE_SECONDS)

    async def wait_for_clock(self, state: str, seconds: float = PATIENCE_SECONDS) -> JSON:
        """The first SESSION_CLOCK of that state."""

        def found() -> JSON | None:
            return next((clock for clock in self.clocks if clock["state"] == state), None)

        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: found() is not None), seconds)
        clock = found()
        assert clock is not None
        return clock

    async def leave(self) -> None:
        """Leave for good, politely, and let go of everything."""
        await self._send({"type": "LEAVE_ROOM"})
        await self.close()

    async def close(self) -> None:
        """Let go of everything without a word to the room."""
        for peer in (self._publish, self._subscribe):
            if peer is not None:
                await peer.close()
        if self._clip is not None:
            self._clip.stop()
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.ended.done():
            self.ended.set_result(Ended(self._reason, 1000, time.monotonic()))

    def _connection(self) -> RTCPeerConnection:
        servers = [RTCIceServer(**server) for server in self.joined.get("iceServers", [])]
        return RTCPeerConnection(RTCConfiguration(iceServers=servers))

    async def _send(self, message: JSON) -> None:
        try:
            await self._socket.send(json.dumps(message))
        except ConnectionClosed:
            # The reader sees it as well, and says how the seat ended.
            return

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                await self._on_message(json.loads(text))
        except ConnectionClosed:
            # An end like any other; its code says which.
            pass
        except Exception as error:
            # A message that this client cannot take: whoever waits for the end hears of it.
            if not self.ended.done():
                self.ended.set_exception(error)
            await self._socket.close()
        code = self._socket.close_code or 1006
        if not self.ended.done():
            self.ended.set_result(Ended(self._reason, code, time.monotonic()))

    async def _on_message(self, message: JSON) -> None:
        kind, pc = message["type"], message.get("pc")
        self.messages.append(message)
        if kind == "OFFER":
            await self._answer(message)
        elif kind == "ANSWER" and self._publish is not None:
            await self._publish.setRemoteDescription(RTCSessionDescription(message["sdp"], "answer"))
            await self._add_candidates("publish")
            self._tasks.append(asyncio.create_task(self._watch_publish(self._publish)))
        elif kind == "ICE_CANDIDATE" and pc in self._candidates:
            self._candidates[pc].append(message["candidate"])
            await self._add_candidates(pc)
        elif kind == "SESSION_CLOCK":
            self.clocks.append({**message, "heardAt": time.monotonic()})
        elif kind == "TERMINATE_CALL":
            self._reason = message["reason"]
        async with self._changed:
            self._changed.notify_all()

    async def _watch_publish(self, peer: RTCPeerConnection) -> None:
        changed = asyncio.Event()
        peer.on("connectionstatechange", lambda: changed.set())
        while peer.connectionState not in ("connected", "failed", "closed"):
            await changed.wait()
            changed.clear()
        if peer.connectionState == "connected":
            self.published.set()

    async def _answer(self, offer: JSON) -> None:
        """Take what the room offers, whoever it is from."""
        if self._subscribe is None:
            self._subscribe = self._connection()
            self._subscribe.on("track", self._on_track)
        peer = self._subscribe
        await peer.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
        await self._add_candidates("subscribe")
        await peer.setLocalDescription(await peer.createAnswer())
        await self._send(
            {
                "type": "ANSWER",
                "pc": "subscribe",
                "sdp": peer.localDescription.sdp,
                "revision": offer["revision"],
            }
        )

    async def _add_candidates(self, pc: str) -> None:
        """Hand over the candidates that came; they may come before the description that they belong to."""
        peer = self._publish if pc == "publish" else self._subscribe
        if peer is None or peer.remoteDescription is None or peer.signalingState == "closed":
            return
        waiting, self._candidates[pc] = self._candidates[pc], []
        for described in waiting:
            text = (described or {}).get("candidate", "")
            if not text:
                continue
            candidate = candidate_from_sdp(text.removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = described.get("sdpMid"), described.get("sdpMLineIndex")
            await peer.addIceCandidate(candidate)

    def _on_track(self, track: MediaStreamTrack) -> None:
        assert self._subscribe is not None
        receiver = next(one.receiver for one in self._subscribe.getTransceivers() if one.receiver.track is track)
        _count_packets(receiver, self.seen, self._decodes)
        if not self._decodes:
            return
        self._tasks.append(asyncio.create_task(self._decode(track), name=f"seat-{track.kind}"))

    async def _decode(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            if track.kind == "audio":
                self.seen.samples += frame.samples
                continue
            now = time.monotonic()
            self.seen.frames += 1
            self.seen.width, self.seen.height = frame.width, frame.height
            self.seen.last_frame_at = now
            if self.seen.first_frame_at is None:
                self.seen.first_frame_at = now
                self.first_frame.set()


def _count_packets(receiver: RTCRtpReceiver, seen: Seen, decode: bool) -> None:
    """Count what arrives off the wire; aiortc's statistics don't say when the last packet came."""
    handle = receiver._handle_rtp_packet

    async def counted(packet: Any, arrival_time_ms: int) -> None:
        seen.packets += 1
        seen.last_packet_at = time.monotonic()
        if decode:
            await handle(packet, arrival_time_ms)

    receiver._handle_rtp_packet = counted  # type: ignore[method-assign]


def use_loopback() -> None:
    """Gather 127.0.0.1 as well, which aioice leaves out: for a house that is on this very machine."""
    found = aioice.ice.get_host_addresses
    if getattr(found, "with_loopback", False):
        return

    def with_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return ["127.0.0.1"] if use_ipv4 else found(use_ipv4, use_ipv6)

    with_loopback.with_loopback = True  # type: ignore[attr-defined]
    aioice.ice.get_host_addresses = with_loopback
