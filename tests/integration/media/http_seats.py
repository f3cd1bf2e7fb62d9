"""WHIP encoders and WHEP players as their programs are: one connection, one offer, one answer."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from media_clients import Picture, Tone, until
from OpenSSL import SSL


class HttpSeat:
    """One peer connection, and what it decoded."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.frames = {"audio": 0, "video": 0}
        self._tasks: list[asyncio.Task[None]] = []
        self.pc.on("track", self._watch)

    async def publish(self, codec: str = "H264") -> str:
        """An encoder's offer: one sound, one picture."""
        self.pc.addTransceiver(Tone(), direction="sendonly")
        self._prefer(self.pc.addTransceiver(Picture(), direction="sendonly"), codec)
        return await self._offer()

    async def play(self, *kinds: str) -> str:
        """A player's offer."""
        for kind in kinds or ("video", "audio"):
            self.pc.addTransceiver(kind, direction="recvonly")
        return await self._offer()

    async def answered(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def connected(self) -> None:
        await until(lambda: self.pc.connectionState == "connected", "the connection stands")

    async def decodes(self, *kinds: str, more: int = 5) -> None:
        """Wait until so many further frames of each kind were decoded."""
        target = {kind: self.frames[kind] + more for kind in kinds or ("audio", "video")}
        await until(lambda: all(self.frames[kind] >= target[kind] for kind in target), "frames are decoded")

    async def ended(self) -> None:
        """Wait until the other side has hung up: it says so, silence is not enough."""
        await until(lambda: self.pc.connectionState in ("closed", "failed"), "the node has hung up")
        dtls = self.pc.getTransceivers()[0].receiver.transport
        assert dtls._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN, "ICE noticed, nobody said anything"

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pc.close()

    async def _offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    @staticmethod
    def _prefer(transceiver: Any, codec: str) -> None:
        known = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([each for each in known if each.name == codec])

    def _watch(self, track: MediaStreamTrack) -> None:
        async def watch() -> None:
            try:
                while True:
                    await track.recv()
                    self.frames[track.kind] += 1
            except MediaStreamError:
                return

        self._tasks.append(asyncio.create_task(watch()))


def as_obs_sends_it(offer: str) -> str:
    """The offer as libdatachannel writes it, which OBS uses: ICE and DTLS once, for the session."""
    once = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:")
    lines = [line for line in offer.splitlines() if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    shared = [next(line for line in lines if line.startswith(start)) for start in once]
    kept = [line for line in lines if not line.startswith(once)]
    head = next(number for number, line in enumerate(kept) if line.startswith("m="))
    return "\r\n".join([*kept[:head], *shared, "a=ice-options:ice2,trickle", *kept[head:]]) + "\r\n"
