"""The media file as two tracks whose encoded packets are sent as they are, in a loop, at their own pace.

Nothing is decoded or encoded, so publishing costs next to nothing. For aiortc's senders; knows no room.
"""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from aiortc import MediaStreamTrack
from av.packet import Packet

from demo.media_file import FRAMES_PER_SECOND, KEY_FRAME_EVERY

AUDIO_PACKETS_PER_SECOND = 50
# Later than this (a stopped process, a busy machine): what was missed is skipped, not sent in a burst.
LATE_SECONDS = 0.5


class Clip:
    """One playing of the file. Both tracks share a clock, which starts with the first packet sent."""

    def __init__(self, path: Path) -> None:
        video, audio = _read(path)
        self._started: float | None = None
        self.video = PacketTrack("video", video, FRAMES_PER_SECOND, 90_000, KEY_FRAME_EVERY, self)
        self.audio = PacketTrack("audio", audio, AUDIO_PACKETS_PER_SECOND, 48_000, 1, self)

    def elapsed(self) -> float:
        """Seconds since the first packet."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        return now - self._started

    def stop(self) -> None:
        """End both tracks."""
        self.video.stop()
        self.audio.stop()


class PacketTrack(MediaStreamTrack):
    """A track of encoded packets that come at an even pace."""

    def __init__(
        self, kind: str, packets: list[bytes], per_second: int, clock_rate: int, key_every: int, clip: Clip
    ) -> None:
        super().__init__()
        self.kind = kind
        self._packets = packets
        self._per_second = per_second
        self._clock_rate = clock_rate
        self._key_every = key_every
        self._clip = clip
        self._next = 0

    async def recv(self) -> Packet[Any]:
        """The next packet, when it is due."""
        early = self._next / self._per_second - self._clip.elapsed()
        if early > 0:
            await asyncio.sleep(early)
        elif early < -LATE_SECONDS:
            missed = int(self._clip.elapsed() * self._per_second)
            self._next = -(-missed // self._key_every) * self._key_every
        packet: Packet[Any] = Packet(self._packets[self._next % len(self._packets)])
        packet.pts = self._next * self._clock_rate // self._per_second
        packet.time_base = Fraction(1, self._clock_rate)
        self._next += 1
        return packet


def _read(path: Path) -> tuple[list[bytes], list[bytes]]:
    found: dict[str, list[bytes]] = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                found[packet.stream.type].append(bytes(packet))
    # Both loops have to be equally long, or picture and sound drift apart.
    seconds = min(len(found["video"]) // FRAMES_PER_SECOND, len(found["audio"]) // AUDIO_PACKETS_PER_SECOND)
    return found["video"][: FRAMES_PER_SECOND * seconds], found["audio"][: AUDIO_PACKETS_PER_SECOND * seconds]
