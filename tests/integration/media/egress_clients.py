"""A reader of egress like a transcode worker, a clip whose flashes and beeps coincide, and its publisher."""

from __future__ import annotations

import asyncio
import fractions
import math
from pathlib import Path
from typing import TypeVar

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from aiortc.contrib.media import MediaPlayer
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from media_clients import until
from seats import SECRET, Seat, media_settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from models import egress_tickets
from models.clock import utc_now
from models.messages import egress
from models.messages.egress import EncodedFrame

RATE, FPS, FLASH_FRAMES = 48_000, 30, 4
Message = TypeVar("Message", bound=egress.Message)
DECODERS = {"VP8": "vp8", "H264": "h264", "OPUS": "opus"}


def ticket(room_id: str, *, key: bytes | None = None, age: float = 0.0) -> str:
    assert SECRET
    key = key or media_settings().key(egress_tickets.KEY_PURPOSE)
    return egress_tickets.sign(room_id, egress_tickets.room_key(key, room_id), utc_now().timestamp() - age)


async def open_socket(port: int, room_id: str, bearer: str | None = None, **options: int) -> ClientConnection:
    headers = {"Authorization": f"Bearer {ticket(room_id) if bearer is None else bearer}"}
    url = f"ws://127.0.0.1:{port}{egress.PATH}{room_id}"
    return await connect(
        url, additional_headers=headers, compression=None, max_size=None, ping_interval=None, **options
    )


class EgressClient:
    """Collects everything; ``resume`` cleared makes it one that does not read."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[egress.ServerMessage] = []
        self.frames: list[EncodedFrame] = []
        self.order: list[str] = []
        self.close_code: int | None = None
        self.resume = asyncio.Event()
        self.resume.set()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port: int, room_id: str, **options: int) -> EgressClient:
        return cls(await open_socket(port, room_id, **options))

    async def _read(self) -> None:
        try:
            while True:
                await self.resume.wait()
                data = await self.socket.recv()
                if isinstance(data, str):
                    self.messages.append(egress.decode_server(data))
                    self.order.append(type(self.messages[-1]).__name__)
                else:
                    self.frames.append(egress.unpack(data))
                    self.order.append("frame")
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.messages if isinstance(message, kind)]

    def source(self, kind: str) -> egress.Source:
        """The latest of that kind."""
        return [source for source in self.of(egress.Source) if source.kind == kind][-1]

    def frames_of(self, kind: str) -> list[EncodedFrame]:
        source_id = self.source(kind).source_id
        return [frame for frame in self.frames if frame.source_id == source_id]

    async def reads(self, kind: str, more: int) -> None:
        """Wait for a source of that kind, and for ``more`` of its frames."""
        await until(lambda: any(source.kind == kind for source in self.of(egress.Source)), "a source")
        target = len(self.frames_of(kind)) + more
        await until(lambda: len(self.frames_of(kind)) >= target, f"{more} frames of {kind}")

    async def closed(self) -> int:
        await until(lambda: self.close_code is not None, "closed")
        assert self.close_code is not None
        return self.close_code

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.socket.close()


def decode(codec: str, frames: list[EncodedFrame]) -> list[tuple[int, VideoFrame | AudioFrame]]:
    """Every frame through a decoder of its own: capture time and what came out. Raises on what is broken."""
    context = av.CodecContext.create(DECODERS[codec], "r")
    context.thread_count = 1
    out: list[tuple[int, VideoFrame | AudioFrame]] = []
    for frame in frames:
        packet = av.Packet(frame.payload)
        packet.pts, packet.time_base = frame.capture_us, fractions.Fraction(1, 1_000_000)
        out += [(found.pts, found) for found in context.decode(packet)]
    return out + [(found.pts, found) for found in context.decode(None)]


def flashes(pictures: list[tuple[int, VideoFrame | AudioFrame]]) -> list[int]:
    """When the picture became bright."""
    found, bright = [], True
    for at, picture in pictures:
        luma = bytes(memoryview(picture.planes[0]))[picture.planes[0].line_size * 40 + 40]
        if luma > 128 and not bright:
            found.append(at)
        bright = luma > 128
    return found


def beeps(sounds: list[tuple[int, VideoFrame | AudioFrame]]) -> list[int]:
    """When the sound began, to the sample."""
    found, loud_until = [], 0
    for at, sound in sounds:
        samples = sound.to_ndarray()[0]
        loud = [number for number, sample in enumerate(samples) if abs(float(sample)) > 0.1]
        if loud:
            began = at + loud[0] * 1_000_000 // RATE
            if loud_until and began - loud_until > 500_000:
                found.append(began)
            loud_until = at + loud[-1] * 1_000_000 // RATE
        loud_until = loud_until or at
    return found


def make_clip(path: Path, seconds: int) -> None:
    """A black picture that flashes, and silence that beeps, in the same moment of every second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libvpx", rate=FPS, options={"deadline": "realtime", "cpu-used": "8"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        audio = out.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        block = RATE // FPS
        for number in range(seconds * FPS):
            on = number % FPS < FLASH_FRAMES
            picture = VideoFrame(320, 240, "yuv420p")
            for plane, value in zip(picture.planes, (235 if on else 16, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            picture.pts, picture.time_base = number, fractions.Fraction(1, FPS)
            sound = AudioFrame(format="s16", layout="stereo", samples=block)
            sound.pts, sound.sample_rate = number * block, RATE
            sound.time_base = fractions.Fraction(1, RATE)
            wave = b"".join(
                int(12_000 * math.sin(2 * math.pi * 1_000 * at / RATE) * on).to_bytes(2, "little", signed=True) * 2
                for at in range(block)
            )
            sound.planes[0].update(wave)
            out.mux(video.encode(picture))
            out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


async def publish_file(seat: Seat, path: Path, codec: str) -> MediaPlayer:
    """A stock publisher of a real file."""
    player = MediaPlayer(str(path))
    pc = seat.publishing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver(player.audio, direction="sendonly")
    transceiver = pc.addTransceiver(player.video, direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([found for found in known if found.name in (codec, "rtx")])
    await pc.setLocalDescription(await pc.createOffer())
    await seat.send(type="OFFER", pc="publish", sdp=pc.localDescription.sdp)
    return player
