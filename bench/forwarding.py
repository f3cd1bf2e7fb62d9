"""Packets per CPU second of the media plane, and how long a packet stays in it, against floor and peer.

A room of ten: every participant sends 150 packets of 1,200 bytes and 50 of 120 bytes a second over real
ICE, DTLS and SRTP, and receives the other nine. The media process has one core, the load generator the
other. In the same run: the floor, a bare loop of protect and sendto of the same mix, and the peer, aiortc's
own MediaRelay, which decodes and encodes. The last line is ours divided by the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import multiprocessing
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import av
import pylibsrtp
import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.contrib.media import MediaRelay
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender

from media.aiortc_seam import Path, lengths, path_of, srtp, workspace
from media.plane import Peer
from media.port import Port

LOOPBACK = "127.0.0.1"
PARTICIPANTS = 10
WARM_SECONDS = 1.5
MEDIA_CORE, LOAD_CORE = 0, 1
VIDEO_BYTES, AUDIO_BYTES = 1200, 120
FRAMES, PACKETS_A_FRAME, SOUNDS = 30, 5, 50
STAMP = struct.Struct("!Q")
STAMP_AT = 14
LATENCY_SAMPLE = 16
"""One received packet in so many is decrypted for its time stamp."""


def pin(core: int) -> None:
    """Keep this process on one core, if the machine has as many."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


# --- the media process --------------------------------------------------------------------------------


def media_process(pipe: Connection) -> None:
    """Serve ``(method, participant, text)`` from the load generator until it says ``end``."""
    pin(MEDIA_CORE)
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    peers: dict[int, Peer] = {}
    port = Port((LOOPBACK,))
    while True:
        method, who, text = await loop.run_in_executor(None, pipe.recv)
        answer: Any = None
        if method == "publish":
            peers[who] = Peer(
                user_id=str(who), port=port, on_connected=lambda pc: None, on_lost=lambda pc: None
            )
            answer = await peers[who].accept_publish(text)
        elif method == "subscribe":
            for other, peer in peers.items():
                if other != who:
                    for track in peer.published.values():
                        peers[who].subscribe(track)
            answer = await peers[who].offer_subscribe()
        elif method == "answer":
            await peers[who].accept_subscribe_answer(text)
        elif method == "cpu":
            answer = time.process_time()
        else:
            await asyncio.gather(*(peer.close() for peer in peers.values()))
            port.close()
            pipe.send(None)
            return
        pipe.send(answer)


# --- the load generator -------------------------------------------------------------------------------


class Stream:
    """One synthetic RTP stream of one publisher."""

    def __init__(self, path: Path, ssrc: int, payload_type: int, video: bool) -> None:
        self.path, self.ssrc, self.payload_type = path, ssrc, payload_type
        self.period = 1 / FRAMES if video else 1 / SOUNDS
        self.burst = PACKETS_A_FRAME if video else 1
        self.step = 90_000 // FRAMES if video else 48_000 // SOUNDS
        size = VIDEO_BYTES if video else AUDIO_BYTES
        # Every packet looks like the start of a VP8 key frame, so that slots go live at any of them.
        self.body = b"\x10\x00" + bytes(size - 14)
        self.sequence = random.randrange(30_000)
        self.timestamp = 0


class Load:
    """Sends every stream on time and counts what arrives, with no event loop in between."""

    def __init__(self, streams: list[Stream], sinks: list[Path]) -> None:
        self._buffer, self._view = workspace(2048)
        self._length = lengths()
        self._due = [(random.random() * stream.period, number) for number, stream in enumerate(streams)]
        heapq.heapify(self._due)
        self._streams, self._sinks = streams, sinks
        self._began = time.perf_counter()
        self.sent = self.received = 0
        self.latencies_us: list[float] = []

    def run(self, seconds: float) -> None:
        """Load for so long; counters begin at zero."""
        self.sent = self.received = 0
        self.latencies_us.clear()
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            while self._due[0][0] + self._began <= now:
                when, number = heapq.heappop(self._due)
                stream = self._streams[number]
                self._send(stream)
                heapq.heappush(self._due, (when + stream.period, number))
            self._drain()

    def _send(self, stream: Stream) -> None:
        stream.timestamp = (stream.timestamp + stream.step) & 0xFFFFFFFF
        for number in range(stream.burst):
            stream.sequence = (stream.sequence + 1) & 0xFFFF
            marker = 0x80 if number == stream.burst - 1 else 0
            size = 12 + len(stream.body)
            self._view[12:size] = stream.body
            struct.pack_into(
                "!BBHII", self._view, 0, 0x80, marker | stream.payload_type, stream.sequence,
                stream.timestamp, stream.ssrc,
            )  # fmt: skip
            STAMP.pack_into(self._view, STAMP_AT, time.perf_counter_ns())
            self._length[0] = size
            assert srtp.protect(stream.path.protect_context, self._buffer, self._length) == 0
            stream.path.sendto(self._view[: self._length[0]], stream.path.address)
            self.sent += 1

    def _drain(self) -> None:
        for sink in self._sinks:
            with contextlib.suppress(BlockingIOError):
                for _ in range(32):
                    size = sink.receive_into(self._view)
                    if 128 <= self._view[0] < 192 and not 192 <= self._view[1] <= 223:
                        self.received += 1
                        if self.received % LATENCY_SAMPLE == 0:
                            self._measure(sink, size)

    def _measure(self, sink: Path, size: int) -> None:
        arrived = time.perf_counter_ns()
        self._length[0] = size
        if srtp.unprotect(sink.unprotect_context, self._buffer, self._length) == 0:
            (sent,) = STAMP.unpack_from(self._view, STAMP_AT)
            self.latencies_us.append((arrived - sent) / 1000)


async def _connect_all(ask: Callable[..., Any]) -> tuple[list[Stream], list[Path]]:
    streams: list[Stream] = []
    sinks: list[Path] = []
    configuration = RTCConfiguration(iceServers=[])
    for who in range(PARTICIPANTS):
        pc = RTCPeerConnection(configuration)
        audio = pc.addTransceiver("audio", direction="sendonly")
        video = pc.addTransceiver("video", direction="sendonly")
        await pc.setLocalDescription(await pc.createOffer())
        answer = await ask("publish", who, pc.localDescription.sdp)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        path = await _connected(pc)
        for transceiver in (audio, video):
            codec = transceiver._codecs[0]
            streams.append(Stream(path, transceiver.sender._ssrc, codec.payloadType or 0, codec.name == "VP8"))
    for who in range(PARTICIPANTS):
        pc = RTCPeerConnection(configuration)
        await pc.setRemoteDescription(RTCSessionDescription(await ask("subscribe", who, ""), "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        await ask("answer", who, pc.localDescription.sdp)
        sinks.append(await _connected(pc))
    return streams, sinks


async def _connected(pc: RTCPeerConnection) -> Path:
    done = asyncio.Event()
    pc.on("connectionstatechange", lambda: done.set() if pc.connectionState == "connected" else None)
    if pc.connectionState != "connected":
        await asyncio.wait_for(done.wait(), 20)
    _keep.append(pc)
    return path_of(pc)


_keep: list[RTCPeerConnection] = []


@contextlib.contextmanager
def child(target: Callable[..., None], *rest: Any) -> Iterator[Connection]:
    """``target`` in a process of its own, with a pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *rest), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.join(timeout=10)
        process.kill()


def measure_ours(seconds: float) -> tuple[float, list[float], float]:
    """Packets out per CPU second, latencies in microseconds, share of expected packets that were lost."""

    async def ignore(self: Any, parameters: Any) -> None:
        """The load generator sends and receives by itself."""

    RTCRtpSender.send = RTCRtpReceiver.receive = ignore  # type: ignore[method-assign]
    with child(media_process) as pipe:
        loop = asyncio.new_event_loop()

        async def ask(*message: Any) -> Any:
            pipe.send(message)
            return await loop.run_in_executor(None, pipe.recv)

        streams, sinks = loop.run_until_complete(_connect_all(ask))
        load = Load(streams, sinks)
        load.run(WARM_SECONDS)
        before = loop.run_until_complete(ask("cpu", 0, ""))
        load.run(seconds)
        used = loop.run_until_complete(ask("cpu", 0, "")) - before
        expected = load.sent * (PARTICIPANTS - 1)
        result = load.received / used, sorted(load.latencies_us), max(0.0, 1 - load.received / expected)
        loop.run_until_complete(ask("end", 0, ""))
        return result


# --- the floor ----------------------------------------------------------------------------------------


def drain_process(pipe: Connection) -> None:
    """Take whatever arrives, until told to end."""
    pin(LOAD_CORE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((LOOPBACK, 0))
        sink.settimeout(0.2)
        pipe.send(sink.getsockname())
        while not pipe.poll():
            with contextlib.suppress(TimeoutError):
                for _ in range(1000):
                    sink.recv(2048)


def measure_floor(packets: int = 120_000) -> float:
    """Packets per CPU second of nothing but protect and sendto, in the same mix of sizes."""
    pin(MEDIA_CORE)
    policy = pylibsrtp.Policy(
        key=bytes(range(28)),
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    )
    session = pylibsrtp.Session(policy)
    context: Any = session._srtp[0]
    buffer, view = workspace(2048)
    length = lengths()
    with child(drain_process) as pipe, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        address = pipe.recv()
        out.setblocking(False)
        began = time.process_time()
        for number in range(packets):
            size = AUDIO_BYTES if number % 4 == 0 else VIDEO_BYTES
            struct.pack_into("!BBHII", view, 0, 0x80, 96, number & 0xFFFF, number, 7)
            length[0] = size
            srtp.protect(context, buffer, length)
            with contextlib.suppress(BlockingIOError):
                out.sendto(view[: length[0]], address)
        used = time.process_time() - began
        pipe.send(None)
    return packets / used


# --- the peer -----------------------------------------------------------------------------------------


class _Picture(VideoStreamTrack):
    """640×480 with something moving in it."""

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(640, 480, "yuv420p")
        for plane in frame.planes:
            row = bytes((place + pts // 300) & 0xFF for place in range(256))
            plane.update((row * (plane.buffer_size // 256 + 1))[: plane.buffer_size])
        frame.pts, frame.time_base = pts, time_base
        return frame


def relay_process(pipe: Connection, seconds: float) -> None:
    """aiortc's MediaRelay: one publisher, two subscribers; packets per CPU second through the pipe."""
    pin(MEDIA_CORE)
    asyncio.run(_relay(pipe, seconds))


async def _relay(pipe: Connection, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    relay = MediaRelay()
    source = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks: list[Any] = []
    source.on("track", tracks.append)
    await source.setRemoteDescription(await loop.run_in_executor(None, pipe.recv))
    await source.setLocalDescription(await source.createAnswer())
    pipe.send(source.localDescription)
    outs = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)]
    for out in outs:
        out.addTrack(relay.subscribe(tracks[0]))
        await out.setLocalDescription(await out.createOffer())
        pipe.send(out.localDescription)
        await out.setRemoteDescription(await loop.run_in_executor(None, pipe.recv))

    async def sent() -> int:
        reports = [report for out in outs for report in (await out.getStats()).values()]
        return sum(report.packetsSent for report in reports if report.type == "outbound-rtp")

    await asyncio.sleep(WARM_SECONDS)
    packets, used = await sent(), time.process_time()
    await asyncio.sleep(seconds)
    pipe.send((await sent() - packets) / (time.process_time() - used))
    await asyncio.gather(*(pc.close() for pc in (source, *outs)))


def measure_relay(seconds: float) -> float:
    """Packets per CPU second of aiortc's own relay, which decodes and encodes."""

    async def client(pipe: Connection) -> float:
        loop = asyncio.get_running_loop()
        configuration = RTCConfiguration(iceServers=[])
        source = RTCPeerConnection(configuration)
        source.addTrack(_Picture())
        await source.setLocalDescription(await source.createOffer())
        pipe.send(source.localDescription)
        await source.setRemoteDescription(await loop.run_in_executor(None, pipe.recv))
        sinks = [RTCPeerConnection(configuration) for _ in range(2)]
        for sink in sinks:
            await sink.setRemoteDescription(await loop.run_in_executor(None, pipe.recv))
            await sink.setLocalDescription(await sink.createAnswer())
            pipe.send(sink.localDescription)
        result: float = await loop.run_in_executor(None, pipe.recv)
        await asyncio.gather(*(pc.close() for pc in (source, *sinks)))
        return result

    with child(relay_process, seconds) as pipe:
        return asyncio.run(asyncio.wait_for(client(pipe), 60))


def percentile(ordered: list[float], share: float) -> float:
    """Of an ascending list; 0 if it is empty."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main() -> None:
    """Run all three and print them; the last line is the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each measurement lasts")
    arguments = parser.parse_args()
    whole = os.sched_getaffinity(0)
    pin(LOAD_CORE)
    relay = measure_relay(min(6.0, arguments.seconds))
    os.sched_setaffinity(0, whole)
    floor = measure_floor()
    os.sched_setaffinity(0, whole)
    pin(LOAD_CORE)
    packets, latencies, lost = measure_ours(arguments.seconds)
    print(f"room of {PARTICIPANTS}, {PARTICIPANTS * 200} packets/s in, {PARTICIPANTS * 200 * 9} packets/s out")
    print(f"media plane:        {packets:10,.0f} packets per CPU second, {100 * lost:.2f} % lost")
    print(f"forwarding latency: p50 {percentile(latencies, 0.5) / 1000:.2f} ms, "
          f"p99 {percentile(latencies, 0.99) / 1000:.2f} ms")  # fmt: skip
    print(f"floor (protect and sendto alone): {floor:10,.0f} packets per CPU second")
    print(f"aiortc MediaRelay:  {relay:10,.0f} packets per CPU second (ours is {packets / relay:.0f} times that)")
    print(f"ratio: {packets / floor:.2f}")


if __name__ == "__main__":
    main()
