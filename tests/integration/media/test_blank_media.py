"""Real black and real silence, through real encoders and rooms: reported as such, and nothing else is."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from media_clients import Picture, Tone, open_port, until
from playwright.async_api import async_playwright
from seats import CREATOR, FAN, Stage, plays, private_spec
from test_chromium import PUBLISH
from test_chromium import blank as empty_page

from bench.chromium_flags import FLAGS
from media import blank
from media.plane import Peer, PublishedTrack
from media.port import Port
from models.clock import monotonic_ms
from models.messages import events

PAID_MS = 9_000


class Black(Picture):
    """Nothing to be seen."""

    async def recv(self) -> av.VideoFrame:
        frame = await super().recv()
        for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        return frame


class Silence(Tone):
    """Nothing to be heard."""

    async def recv(self) -> av.AudioFrame:
        frame = await super().recv()
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        return frame


async def call(stage: Stage, picture: type[Picture], sound: type[Tone]) -> tuple[events.CallEnded, int]:
    """A call to its paid end, and for how many ms it had a room; the fan's media are as ever."""
    # Silence counts from the room's beginning: nobody was heard before.
    begun = monotonic_ms()
    room_id = stage.open(private_spec("blank", PAID_MS))
    creator = await stage.join(room_id, CREATOR)
    fan = await stage.join(room_id, FAN)
    await creator.publish(picture=picture, sound=sound)
    await fan.publish()
    await fan.clock("running")
    assert await fan.closed() == 4001
    lasted = monotonic_ms() - begun
    [ended] = stage.of_type(events.CallEnded)
    assert isinstance(ended, events.CallEnded)
    assert ended.delivered_ms == PAID_MS
    return ended, lasted


@plays
async def test_black_and_silence_are_reported(stage: Stage) -> None:
    ended, lasted = await call(stage, Black, Silence)
    # Certain only when they have lasted a while, however long the creator sent before the clock ran.
    most = min(PAID_MS, lasted - blank.STILL_MS)
    assert 0 < ended.black_ms <= most
    assert 0 < ended.silent_ms <= most
    # And in the reports on the way, rising
    on_the_way = [report.black_ms for report in stage.of_type(events.MediaDelivered)]
    assert on_the_way == sorted(on_the_way)


@plays
async def test_a_picture_that_moves_and_a_tone_are_neither(stage: Stage) -> None:
    ended, _ = await call(stage, Picture, Tone)
    assert (ended.black_ms, ended.silent_ms) == (0, 0)


# --- what Chromium's encoders make of it -------------------------------------------------------------


def made(directory: Path, picture: str, sound: str) -> tuple[Path, Path]:
    """What a camera and a microphone are to show and say, from ffmpeg's sources of these names."""
    video, audio = directory / "camera.y4m", directory / "microphone.wav"
    for source, path, more in (
        (picture, video, ("-frames:v", "15", "-pix_fmt", "yuv420p")),
        (sound, audio, ("-t", "2", "-c:a", "pcm_s16le")),
    ):
        command = ("ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source, *more, str(path))
        subprocess.run(command, check=True, timeout=60)
    return video, audio


def _nothing(pc: str) -> None:
    """Connections come and go."""


class Judge:
    """A peer's tracks, judged as a call judges them; a still picture is asked for a key frame."""

    def __init__(self, port: Port) -> None:
        self.peer = Peer(user_id=CREATOR, port=port, on_connected=_nothing, on_lost=_nothing)
        self.picture: blank.Picture | None = None
        self.sound = blank.Sound(monotonic_ms())
        self.heard = self.seen = 0

    async def accept(self, sdp: str) -> str:
        answer = await self.peer.accept_publish(sdp)
        for track in self.peer.published.values():
            track.on_packet = self._picture(track) if track.kind == "video" else self._hear
        return answer

    def _picture(self, track: PublishedTrack) -> Callable[[int, int, bytes, bool], None]:
        picture = self.picture = blank.Picture(track.codec)

        def packet(now_ms: int, timestamp: int, payload: bytes, key: bool) -> None:
            self.seen += 1
            picture.packet(now_ms, timestamp, payload, key)
            if picture.wants_key_frame(now_ms):
                track.request_keyframe(now_ms)

        return packet

    def _hear(self, now_ms: int, timestamp: int, payload: bytes, key: bool) -> None:
        self.heard += 1
        self.sound.packet(now_ms, timestamp, payload, key)

    @property
    def black(self) -> bool:
        return self.picture is not None and self.picture.black_ms(monotonic_ms()) > 0

    @property
    def silent(self) -> bool:
        return self.sound.silent_ms(monotonic_ms()) > 0


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize(
    ("picture", "sound", "empty"),
    [
        ("color=black:s=1280x720:r=30", "anullsrc=r=48000:cl=mono", True),
        # As still as black, and not black; as quiet as a room is.
        ("smptebars=s=1280x720:r=30", "anoisesrc=r=48000:a=0.0005:c=pink", False),
    ],
)
def test_chromiums_black_and_silence_are_told_from_a_still_picture_in_a_quiet_room(
    codec: str, picture: str, sound: str, empty: bool, tmp_path: Path
) -> None:
    video, audio = made(tmp_path, picture, sound)
    files = [f"--use-file-for-fake-video-capture={video}", f"--use-file-for-fake-audio-capture={audio}"]

    async def scenario() -> None:
        port = open_port()
        judge = Judge(port)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*FLAGS, *files])
            page = await browser.new_page()
            await page.route("**/*", empty_page)
            await page.goto("http://localhost:9/")
            await page.expose_function("acceptPublish", judge.accept)
            await page.evaluate(PUBLISH, codec)
            if empty:
                await until(lambda: judge.black and judge.silent, "black and silence are found")
            else:
                # For thrice the time that black and silence take.
                await until(lambda: judge.heard > 3 * blank.STILL_MS // 20, "it was listened to")
                assert (judge.black, judge.silent) == (False, False)
                assert judge.seen > 100
            await browser.close()
        await judge.peer.close()
        port.close()

    asyncio.run(scenario())
