"""The forwarding bench's clients of the peer: twenty by aiortc over real ICE and DTLS, then packets by ``load.c``.

Whoever is measured only has to answer three questions. Ours is asked over its own signaling (``full_room``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bench.callers import no_media_by_aiortc, receiving_of, sending_of
from bench.load import Counts, Load, Receiving, Sending
from media.aiortc_seam import Path, path_of

CONNECT_SECONDS = 30

Ask = Callable[[str, int, str], Awaitable[str]]
"""``("publish", who, offer)``: an answer; ``("subscribe", who, "")``: an offer; ``("answer", who, answer)``."""


class Clients:
    """They, once connected, and what they count."""

    def __init__(self) -> None:
        self._load = Load()
        self._kept: list[tuple[RTCPeerConnection, Path]] = []
        self._sending: list[dict[str, Sending]] = []
        self._receiving: list[Receiving] = []

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
            path = await self._connected(pc)
            self._sending.append(sending_of(transceivers))
            self._load.sends(path, self._sending[-1])
        for who in range(participants):
            pc = RTCPeerConnection(configuration)
            offer = await ask("subscribe", who, "")
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await pc.setLocalDescription(await pc.createAnswer())
            await ask("answer", who, pc.localDescription.sdp)
            self._receiving.append(receiving_of(pc, await self._connected(pc)))
            self._load.receives(self._receiving[-1])

    def negotiated(self) -> str:
        """What was agreed upon, in words."""
        numbered = sum(bool(lines["video"].number_id) for lines in self._sending)
        levels = sum(bool(lines["audio"].level_id) for lines in self._sending)
        told = sum(bool(one.number_id) for one in self._receiving)
        repairs = sum(bool(one.repair_types) for one in self._receiving)
        return (
            f"of {len(self._sending)} publish {numbered} with transport-wide numbers, {levels} with levels; "
            f"{told} are sent such numbers, {repairs} repeats by RTX"
        )

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
