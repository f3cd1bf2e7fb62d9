"""The load of the forwarding bench: twenty clients by aiortc over real ICE and DTLS, then packets by ``load.c``.

Whoever is measured only has to answer three questions, as the media process and the peer do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bench.callers import no_media_by_aiortc
from bench.load import Counts, Load, Sending
from media.aiortc_seam import Path, path_of

CONNECT_SECONDS = 30

Ask = Callable[[str, int, str], Awaitable[str]]
"""``("publish", who, offer)``: an answer; ``("subscribe", who, "")``: an offer; ``("answer", who, answer)``."""


class Clients:
    """They, once connected, and what they count."""

    def __init__(self) -> None:
        self._load = Load()
        self._kept: list[tuple[RTCPeerConnection, Path]] = []

    async def connect(self, participants: int, ask: Ask) -> None:
        """Let everybody publish, then subscribe to all others."""
        no_media_by_aiortc()
        configuration = RTCConfiguration(iceServers=[])
        for who in range(participants):
            pc = RTCPeerConnection(configuration)
            transceivers = [pc.addTransceiver(kind, direction="sendonly") for kind in ("audio", "video")]
            await pc.setLocalDescription(await pc.createOffer())
            answer = await ask("publish", who, pc.localDescription.sdp)
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            lines = {one.kind: Sending(one.sender._ssrc, one._codecs[0].payloadType or 0) for one in transceivers}
            self._load.sends(await self._connected(pc), lines)
        for who in range(participants):
            pc = RTCPeerConnection(configuration)
            offer = await ask("subscribe", who, "")
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await pc.setLocalDescription(await pc.createAnswer())
            await ask("answer", who, pc.localDescription.sdp)
            self._load.receives(await self._connected(pc))

    async def _connected(self, pc: RTCPeerConnection) -> Path:
        done = asyncio.Event()
        pc.on("connectionstatechange", lambda: done.set() if pc.connectionState == "connected" else None)
        if pc.connectionState != "connected":
            await asyncio.wait_for(done.wait(), CONNECT_SECONDS)
        # The loop stands still while packets flow: aiortc, which has the same socket, reads none of them. Checks
        # of the connection stop, too: the run is shorter than patience.
        path = path_of(pc)
        self._kept.append((pc, path))
        return path

    def run(self, seconds: float) -> Counts:
        """Load for so long. Nothing else runs in this process meanwhile."""
        return self._load.run(seconds)
