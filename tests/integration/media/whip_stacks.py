"""``make bench-whip``: WHIP and WHEP with stacks that are too heavy to install for every run of the suite.

libdatachannel is OBS's engine, webrtcbin GStreamer's. Each goes on the air with its own ICE, DTLS and packets, is
decoded by aiortc, loses its key; each plays what the other one sends, and is cut. Installed by hand, on Debian 12:

    apt-get install --no-install-recommends nodejs npm python3-gi gstreamer1.0-nice gstreamer1.0-libav \
        gstreamer1.0-plugins-{base,good,bad,ugly} gir1.2-gst-plugins-bad-1.0
    npm install --prefix var/stacks node-datachannel@0.33.4

No ``test_`` before its name, so that nobody else runs it.
"""

from __future__ import annotations

import asyncio
import fractions
import json
import os
import shutil
import struct
import subprocess
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import media_clients
import numpy
import pytest
from flask import Flask
from media_clients import until
from test_whip_over_http import WHEP, WHIP, Caller, House, listening, running
from test_whip_over_http import app as app

from media.port import host_addresses
from models.clock import utc_now
from models.services import stream_keys, termination

STACKS = Path(__file__).parent / "stacks"
MODULES = Path(__file__).parents[3] / "var" / "stacks"
ENVIRONMENT = {**os.environ, "STACKS": str(MODULES)}
COMMANDS = {
    "libdatachannel": ("node", str(STACKS / "libdatachannel.mjs")),
    "webrtcbin": ("/usr/bin/python3", str(STACKS / "webrtcbin.py")),
}
SECONDS, FPS = 12, 30


class Program:
    """One client in a process of its own, and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.news: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, stack: str, *arguments: str) -> Program:
        command = (*COMMANDS[stack], *arguments)
        return cls(await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=ENVIRONMENT))

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"{"):
                self.news.append(json.loads(line))

    def heard(self, kind: str) -> list[Any]:
        return [each[kind] for each in self.news if kind in each]

    async def receives(self, more: int = 30) -> None:
        """Wait for so many packets, or frames, of both kinds."""
        await until(lambda: bool(self.heard("counts")), "it counts")
        before = self.heard("counts")[-1]
        await until(
            lambda: all(self.heard("counts")[-1][kind] >= before[kind] + more for kind in before), "it receives"
        )

    async def end(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await self._reading


def write_clip(path: Path) -> None:
    """H.264 of the Main profile with a key frame every two seconds, and Opus: kind, microseconds, size, bytes."""
    picture = av.CodecContext.create("libx264", "w")
    picture.width, picture.height, picture.pix_fmt = 320, 180, "yuv420p"
    picture.time_base, picture.framerate, picture.gop_size = fractions.Fraction(1, FPS), FPS, 2 * FPS
    picture.options = {"preset": "veryfast", "tune": "zerolatency", "profile": "main",
                       "x264-params": "bframes=0:scenecut=0:repeat-headers=1"}  # fmt: skip
    sound = av.CodecContext.create("libopus", "w")
    sound.sample_rate, sound.layout, sound.format, sound.bit_rate = 48_000, "stereo", "s16", 96_000
    frames: list[tuple[int, int, bytes]] = []
    for number in range(FPS * SECONDS):
        shades = numpy.full((270, 320), number * 5 & 0xFF, numpy.uint8)
        frame = av.VideoFrame.from_ndarray(shades, format="yuv420p")
        frame.pts = number
        frames += [(int(packet.pts * 1_000_000 / FPS), 1, bytes(packet)) for packet in picture.encode(frame)]
    for number in range(50 * SECONDS):
        silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 1920), numpy.int16), format="s16", layout="stereo")
        silence.sample_rate, silence.pts = 48_000, number * 960
        frames += [(max(0, int(p.pts * 1_000_000 / 48_000)), 0, bytes(p)) for p in sound.encode(silence)]
    frames.sort(key=lambda frame: frame[0])
    path.write_bytes(b"".join(struct.pack("!BQI", kind, us, len(data)) + data for us, kind, data in frames))


def missing(stack: str) -> str:
    """What is not there, and how to install it; nothing if all is."""
    if stack == "libdatachannel":
        module = MODULES / "node_modules" / "node-datachannel"
        wanted = {"node": shutil.which("node") is not None, str(module): module.exists()}
    else:
        python, *_ = COMMANDS[stack]
        asked = (python, "-c", "import gi; gi.require_version('GstWebRTC', '1.0')")
        found = shutil.which(python) is not None and subprocess.run(asked, capture_output=True).returncode == 0
        wanted = {"GStreamer's webrtcbin for Python": found}
    lacks = ", ".join(what for what, there in wanted.items() if not there)
    return lacks and f"{lacks}: not there. {__doc__}"


@pytest.mark.parametrize(
    ("encoding", "playing"), [("libdatachannel", "webrtcbin"), ("webrtcbin", "libdatachannel")]
)
def test_a_stack_encodes_another_plays_and_each_is_cut(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, playing: str
) -> None:
    for stack in (encoding, playing):
        assert not missing(stack), missing(stack)
    # libnice looks at no loopback address.
    monkeypatch.setattr(media_clients, "LOOPBACK", (host_addresses()[0],))
    clip = tmp_path / "clip"
    write_clip(clip)

    async def scenario() -> None:
        async with asyncio.timeout(240), running(app) as house:
            house.stage.server._desk._connect_seconds = 120
            with listening(house.app) as origin:
                await _scene(house, origin, clip, encoding, playing)

    asyncio.run(scenario())


async def _scene(house: House, origin: str, clip: Path, encoding: str, playing: str) -> None:
    encoder = await Program.start(encoding, "encode", origin + WHIP, house.key.key, str(clip))
    player: Program | None = None
    try:
        # When it goes on the air, then aiortc decodes it, and so does the other stack's player
        await until(lambda: house.live() is not None, "the creator is live")
        room_id = house.on_the_air().room_id
        watcher, token = house.person("fan")
        ours, _ = await house.playing(room_id, token)
        await ours.decodes()
        player = await Program.start(playing, "play", f"{origin}{WHEP}/{room_id}", house.fan_token)
        await player.receives()
        said = f"{encoding} is decoded by aiortc and received by {playing}"
        # When the player is cut, then nothing reaches it any more
        admin = Caller(person=house.person("admin")[0], integrator_id=None, scopes=frozenset(), sign_in_id="x")
        cut = {"room_id": room_id, "user_id": house.fan.user_id, "reason": "MODERATION", "label_by": admin}
        house.database.run(lambda tx: termination.terminate(tx, at_fault=None, now=utc_now(), **cut))
        seats = {house.creator.user_id, watcher.user_id}
        await until(lambda: house.seated(room_id) == seats, "the player is out")
        # And when the encoder's key is revoked, then it is off the air
        key = house.key.key_id
        house.database.run(lambda tx: stream_keys.revoke(tx, house.creator, key, utc_now()))
        await until(lambda: house.seated(room_id) == {watcher.user_id}, "the encoder is off the air")
        for program, stack in ((player, playing), (encoder, encoding)):
            if stack == "libdatachannel":
                await until(lambda program=program: program.process.returncode is not None, "it noticed")
        print(f"{said}; both were cut", file=sys.stderr)
    finally:
        for program in (encoder, player):
            if program is not None:
                await program.end()
