"""The load of the forwarding bench: twenty clients by aiortc over real ICE and DTLS, then packets by ``load.c``.

Whoever is measured only has to answer three questions, as the media process and the peer do.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from cffi import FFI

from media.aiortc_seam import Path as Transport
from media.aiortc_seam import address_in_memory, context_in_memory, path_of
from media.fastpath.build import compile_c

HERE = Path(__file__).resolve().parent
VIDEO_BYTES, AUDIO_BYTES = 1200, 120
FRAMES, PACKETS_A_FRAME, SOUNDS = 30, 5, 50
PACKETS_IN = FRAMES * PACKETS_A_FRAME + SOUNDS
"""Of one participant, a second."""
CONNECT_SECONDS = 30

Ask = Callable[[str, int, str], Awaitable[str]]
"""``("publish", who, offer)``: an answer; ``("subscribe", who, "")``: an offer; ``("answer", who, answer)``."""


class Counts(NamedTuple):
    """Packets, and milliseconds from the client's send to another's receive."""

    sent: int
    received: int
    failed: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Load:
    """The clients, once connected, and what they count."""

    def __init__(self) -> None:
        self._ffi: Any = FFI()
        self._ffi.cdef((HERE / "load.h").read_text())
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory) / "load.so"
            compile_c(library, "-O2", "-fPIC", "-shared", sources=(HERE / "load.c",))
            self._library: Any = self._ffi.dlopen(str(library))
        functions = (self._pointer(address_in_memory(f"srtp_{name}")) for name in ("protect", "unprotect"))
        self._library.load_use(*functions)
        self._clients: list[RTCPeerConnection] = []
        self._transports: list[Transport] = []

    def _pointer(self, address: int) -> Any:
        return self._ffi.cast("void *", address)

    async def connect(self, participants: int, ask: Ask) -> None:
        """Let everybody publish, then subscribe to all others."""

        async def ignore(self: Any, parameters: Any) -> None:
            """The load sends and receives by itself."""

        RTCRtpSender.send = RTCRtpReceiver.receive = ignore  # type: ignore[method-assign]
        configuration = RTCConfiguration(iceServers=[])
        for who in range(participants):
            pc = RTCPeerConnection(configuration)
            audio = pc.addTransceiver("audio", direction="sendonly")
            video = pc.addTransceiver("video", direction="sendonly")
            await pc.setLocalDescription(await pc.createOffer())
            answer = await ask("publish", who, pc.localDescription.sdp)
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            path = await self._connected(pc)
            host, port = path.address[:2]
            for transceiver, burst, size, step, rate in (
                (audio, 1, AUDIO_BYTES, 48_000 // SOUNDS, SOUNDS),
                (video, PACKETS_A_FRAME, VIDEO_BYTES, 90_000 // FRAMES, FRAMES),
            ):
                self._library.load_stream(
                    self._pointer(context_in_memory(path.protect_context)), path.socket.fileno(),
                    host.encode(), port,
                    transceiver.sender._ssrc, transceiver._codecs[0].payloadType or 0, burst, size, step,
                    1_000_000_000 // rate,
                )  # fmt: skip
        for who in range(participants):
            pc = RTCPeerConnection(configuration)
            offer = await ask("subscribe", who, "")
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await pc.setLocalDescription(await pc.createAnswer())
            await ask("answer", who, pc.localDescription.sdp)
            path = await self._connected(pc)
            self._library.load_sink(self._pointer(context_in_memory(path.unprotect_context)), path.socket.fileno())

    async def _connected(self, pc: RTCPeerConnection) -> Transport:
        done = asyncio.Event()
        pc.on("connectionstatechange", lambda: done.set() if pc.connectionState == "connected" else None)
        if pc.connectionState != "connected":
            await asyncio.wait_for(done.wait(), CONNECT_SECONDS)
        path = path_of(pc)
        # aiortc would read from the same socket. Checks of the connection stop: the run is shorter than patience.
        asyncio.get_running_loop().remove_reader(path.socket.fileno())
        self._clients.append(pc)
        self._transports.append(path)
        return path

    def run(self, seconds: float) -> Counts:
        """Load for so long. Nothing else runs in this process meanwhile."""
        self._library.load_run(seconds)
        counts = self._ffi.new("load_counts *")
        self._library.load_read(counts)
        shares = [self._library.load_percentile_us(share) / 1000 for share in (0.5, 0.99, 0.999)]
        return Counts(counts.sent, counts.received, counts.failed + counts.unreadable, *shares)
