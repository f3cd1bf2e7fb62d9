"""A room's clients as benches need them: real signaling, ICE, DTLS and SRTP by aiortc, and no codec.

Packets go round aiortc: it would spend more on each than what is measured. What ``Line`` makes says of itself that
it begins a VP8 key frame, so that it is forwarded at once. Descriptions name what browsers' name: levels of sound,
transport-wide numbers, repeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpTransceiver, RTCSessionDescription
from aiortc.codecs import HEADER_EXTENSIONS, is_rtx
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.load import Receiving, Sending
from media.aiortc_seam import TRANSPORT_CC_URI, Path, lengths, path_of, srtp, workspace
from media.sdp_rules import AUDIO_LEVEL_URI

CONNECT_SECONDS = 60
HEARD_SECONDS = 2.0
"""The node takes a seat back from whom it does not hear for eight."""
_NUMBERS_ID = 5
"""Free in aiortc's own offers."""
_buffer, _view = workspace(2048)
_length = lengths()
_rtp_header = struct.Struct("!BBHII")

JSON = dict[str, Any]


class Refused(Exception):
    """The room did not let us in; the text is its code."""


def no_media_by_aiortc() -> None:
    """Its senders and receivers only hold their places. Call it before anything else.

    They are replaced for the whole process: aiortc has no switch for it, and two who seal with the same SRTP
    contexts, one of them a thread of C, would ruin each other's numbers.
    """

    async def ignore(self: Any, parameters: Any) -> None:
        """Packets go round it."""

    RTCRtpSender.send = RTCRtpReceiver.receive = ignore  # type: ignore[method-assign]
    for extensions in HEADER_EXTENSIONS.values():
        if all(each.uri != TRANSPORT_CC_URI for each in extensions):
            extensions.append(RTCRtpHeaderExtensionParameters(id=_NUMBERS_ID, uri=TRANSPORT_CC_URI))


def sending_of(transceivers: Iterable[RTCRtpTransceiver]) -> dict[str, Sending]:
    """How what goes out on these lines looks, once they are answered; by kind."""
    lines = {}
    for one in transceivers:
        ids = {each.uri: each.id for each in one._headerExtensions}
        level = ids.get(AUDIO_LEVEL_URI, 0)
        lines[one.kind] = Sending(
            one.sender._ssrc, one._codecs[0].payloadType or 0, ids.get(TRANSPORT_CC_URI, 0), level
        )
    return lines


def receiving_of(pc: RTCPeerConnection, path: Path) -> Receiving:
    """What comes over a connection that we have answered."""
    lines = pc.getTransceivers()
    numbers = {each.id for one in lines for each in one._headerExtensions if each.uri == TRANSPORT_CC_URI}
    repairs = {codec.payloadType or 0 for one in lines for codec in one._codecs if is_rtx(codec)}
    assert len(numbers) <= 1, "one connection, one id"
    return Receiving(path, numbers.pop() if numbers else 0, frozenset(repairs))


class Line:
    """One m-line that we send: its numbers, and how its packets look."""

    def __init__(self, ssrc: int, payload_type: int) -> None:
        self.ssrc, self.payload_type = ssrc, payload_type
        self._sequence = self._timestamp = 0

    def packet(self, size: int, step: int) -> bytes:
        """The next one; ``step`` is added to its timestamp."""
        self._sequence, self._timestamp = (self._sequence + 1) & 0xFFFF, (self._timestamp + step) & 0xFFFFFFFF
        header = _rtp_header.pack(0x80, 0x80 | self.payload_type, self._sequence, self._timestamp, self.ssrc)
        return header + b"\x10" + bytes(size - len(header) - 1)


class _Sending(asyncio.DatagramTransport):
    """What aioice sends through once the socket is ours: it goes on with its checks, and reads nothing."""

    def __init__(self, path: Path, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__()
        self._path, self._protocol = path, protocol

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Lost if the socket is full, or closed already."""
        with contextlib.suppress(OSError):
            self._path.socket.sendto(data, addr)

    def close(self) -> None:
        """Whoever waits for the end is told of it; the socket is closed by whose it is."""
        self._protocol.connection_lost(None)


class Transport:
    """A connected pc, of which we read the socket ourselves."""

    def __init__(self, pc: RTCPeerConnection) -> None:
        self.path: Path = path_of(pc)
        self.received = 0
        pair = pc.getTransceivers()[0].receiver.transport.transport._connection._nominated[1]
        self.protocol: Any = pair.protocol
        # The path has a descriptor of its own: asyncio's may go, and aioice does not hear of it.
        asyncios, self.protocol.transport = self.protocol.transport, _Sending(self.path, self.protocol)
        asyncios.set_protocol(asyncio.DatagramProtocol())
        asyncios.close()
        self._loop = asyncio.get_running_loop()
        self._reading = True
        self._loop.add_reader(self.path.socket.fileno(), self._read)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                data, address = self.path.socket.recvfrom(2048)
                if data and 128 <= data[0] < 192:
                    self.received += 1
                else:
                    self.protocol.datagram_received(data, address)

    def send(self, packet: bytes) -> None:
        """Seal and send; lost if the socket is full."""
        size = len(packet)
        _view[:size] = packet
        _length[0] = size
        if not srtp.protect(self.path.protect_context, _buffer, _length):
            with contextlib.suppress(OSError):
                self.path.socket.sendto(_view[: _length[0]], self.path.address)

    def hand_over(self) -> Path:
        """Somebody else reads from here on."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.path.socket.fileno())
        return self.path

    def close(self) -> None:
        """Our part of it; the pc is closed by itself."""
        self.hand_over()
        self.path.close()


class Caller:
    """One seat; ``join`` takes it. ``hears`` waits for what the room says."""

    def __init__(self, room_id: str, user_id: str) -> None:
        self.room_id, self.user_id = room_id, user_id
        self.messages: list[JSON] = []
        self.lines: dict[str, Line] = {}
        self._sending: dict[str, Sending] = {}
        self.publishing: Transport | None = None
        self.subscribing: Transport | None = None
        self._socket: ClientConnection | None = None
        self._pcs: dict[str, RTCPeerConnection] = {}
        self._offered = ""
        self.tracks: JSON = {}
        """Whose track each m-line carries now."""
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, url: str, grant: str) -> None:
        """Take the seat; raises Refused, TimeoutError."""
        self._socket = await connect(url, proxy=None, max_size=1 << 20, open_timeout=CONNECT_SECONDS)
        self._tasks.append(asyncio.create_task(self._read()))
        await self.say("JOIN_ROOM", roomId=self.room_id, userId=self.user_id, grant=grant, takesTracks=True)
        await self.until(lambda: bool(self.of("JOINED") or self.of("ERROR")))
        if refusals := self.of("ERROR"):
            raise Refused(refusals[0]["code"])
        self._tasks.append(asyncio.create_task(self._be_heard()))

    async def publish(self) -> None:
        """Connect our sound and picture; ``lines`` say how their packets look. Raises TimeoutError."""
        pc = self._pcs["publish"] = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceivers = [pc.addTransceiver(kind, direction="sendonly") for kind in ("audio", "video")]
        await pc.setLocalDescription(await pc.createOffer())
        await self.say("OFFER", pc="publish", sdp=pc.localDescription.sdp)
        await self.until(lambda: pc.connectionState == "connected")
        self.publishing = Transport(pc)
        self._sending = sending_of(transceivers)
        self.lines = {kind: Line(one.ssrc, one.payload_type) for kind, one in self._sending.items()}

    def sends(self) -> tuple[Path, dict[str, Sending]]:
        """For a load generator that takes over what we send: where it goes, and how it looks."""
        assert self.publishing is not None
        return self.publishing.hand_over(), self._sending

    def receives(self) -> Receiving:
        """For a load generator that takes over what we are sent."""
        assert self.subscribing is not None
        return receiving_of(self._pcs["subscribe"], self.subscribing.hand_over())

    async def subscribed(self) -> None:
        """Wait until what others send may come. Raises TimeoutError."""
        await self.until(lambda: self.subscribing is not None)

    def of(self, kind: str) -> list[JSON]:
        """What the room said of that type."""
        return [message for message in self.messages if message["type"] == kind]

    async def say(self, kind: str, **message: Any) -> None:
        """Tell the room; nothing happens once the socket is closed."""
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(msgspec.json.encode({"type": kind, **message}).decode())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what messages and connections change. Raises TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def leave(self) -> None:
        """For good, politely."""
        await self.say("LEAVE_ROOM")
        await self.close()

    async def close(self) -> None:
        """Without a word."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in (self.publishing, self.subscribing):
            if transport is not None:
                transport.close()
        await asyncio.gather(*(pc.close() for pc in self._pcs.values()))
        if self._socket is not None:
            await self._socket.close()

    # --- what comes

    async def _be_heard(self) -> None:
        while True:
            await asyncio.sleep(HEARD_SECONDS)
            await self.say("ICE_CANDIDATE", pc="publish", candidate=None)

    async def _read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            async for text in self._socket:
                await self._take(msgspec.json.decode(text))

    async def _take(self, message: JSON) -> None:
        self.messages.append(message)
        if message["type"] == "OFFER":
            await self._answer(message)
        if message["type"] in ("OFFER", "TRACKS"):
            self.tracks = message["tracks"]
        if message["type"] == "ANSWER":
            pc = self._pcs["publish"]
            pc.on("connectionstatechange", self._notify)
            await pc.setRemoteDescription(RTCSessionDescription(message["sdp"], "answer"))
        await self._notify()

    async def _notify(self) -> None:
        pc = self._pcs.get("subscribe")
        if self.subscribing is None and pc is not None and pc.connectionState == "connected":
            self.subscribing = Transport(pc)
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, offer: JSON) -> None:
        """Take what is offered, as our page does (``subscriber.js``): an offer whose description was answered only
        says anew who is where, as TRACKS does, and is not answered."""
        if offer["sdp"] == self._offered:
            return
        self._offered = offer["sdp"]
        pc = self._pcs.get("subscribe")
        if pc is None:
            pc = self._pcs["subscribe"] = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            pc.on("connectionstatechange", self._notify)
        await pc.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        await self.say("ANSWER", pc="subscribe", sdp=pc.localDescription.sdp, revision=offer["revision"])
