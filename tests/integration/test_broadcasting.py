"""A creator's room becomes HLS and DASH, through every kill, until it goes private: real processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from demo import PASSWORD
from demo.media_file import media_file
from demo.peer import ApiError, Peer
from demo.seat import Refused, Seat
from ops.house import ROOT, House
from tests.conftest import MakeHouse

PATIENCE_SECONDS = 60.0
RENDITIONS = ("720p", "480p", "240p", "audio")
VICTIMS = ("child", "ffmpeg", "transcode", "media")
"""``media`` last: its restart takes the creator's seat along."""


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """A house that transcodes, cheaply."""
    made = make_house(
        demo=True, names=("media", "worker", "transcode", "clock", "web"), TRANSCODE_PRESET="ultrafast"
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def clip() -> Path:
    return media_file(ROOT / "var")


@asynccontextmanager
async def on_air(house: House, clip: Path) -> AsyncIterator[tuple[Peer, dict[str, Any], Seat]]:
    """A creator who publishes in public: the creator, the stream and the seat."""
    async with Peer(house.environment["PUBLIC_URL"]) as creator:
        await creator.sign_in("creator_a@demo.test", PASSWORD)
        stream = await creator.go_live()
        seat = await creator.join(stream["roomId"], publish=clip)
        yield creator, stream, seat
        await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")


def broadcasts(house: House) -> list[Path]:
    return sorted((house.var / "hls").glob("brd_*"), key=lambda path: path.stat().st_mtime)


def playlist(directory: Path, name: str = "720p") -> str:
    path = directory / name / "index.m3u8"
    return path.read_text() if path.exists() else ""


def newest(directory: Path, name: str = "720p") -> int:
    """The number of the newest segment; -1 before the first."""
    text = playlist(directory, name)
    begins = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
    return int(begins[1]) + text.count("#EXTINF") - 1 if begins else -1


def epoch(directory: Path) -> int:
    return int((directory / "epoch").read_text())


async def rejoin(creator: Peer, room_id: str, clip: Path) -> Seat:
    """As a browser does when its node was restarted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await creator.join(room_id, publish=clip)
            except (ApiError, Refused, OSError, TimeoutError):
                await asyncio.sleep(0.2)


async def until(condition: Callable[[], object]) -> float:
    """Seconds until it was so."""
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (what is waited for is a file of another process)
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


def child_pid(directory: Path) -> int:
    pid: int = msgspec.json.decode((directory / "child.json").read_bytes())["pid"]
    return pid


def ffmpeg_of(pid: int) -> int:
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    children = [each for each in found if "ffmpeg" in Path(f"/proc/{each}/cmdline").read_text()]
    return children[0]


def kill(house: House, directory: Path, victim: str) -> None:
    if victim in ("transcode", "media"):
        house.children[victim].signal(signal.SIGKILL)
        return
    pid = child_pid(directory)
    os.kill(pid if victim == "child" else ffmpeg_of(pid), signal.SIGKILL)


def test_a_broadcast_goes_on_through_kills_and_ends_when_it_goes_private(house: House, clip: Path) -> None:
    async def play() -> None:
        before = set(broadcasts(house))
        async with on_air(house, clip) as (creator, stream, seat):
            await until(lambda: set(broadcasts(house)) - before)
            [directory] = set(broadcasts(house)) - before
            await until(lambda: all(newest(directory, name) >= 0 for name in RENDITIONS))
            for victim in VICTIMS:
                was, life = newest(directory), epoch(directory)
                kill(house, directory, victim)
                if victim == "media":
                    seat = await rejoin(creator, stream["roomId"], clip)
                took = await until(lambda: newest(directory) > was + 1)  # noqa: B023
                print(f"after {victim} was killed: two more segments after {took:.1f} s")
                # then the numbers go on, what changed is said, and a node's restart is bridged without a break
                assert epoch(directory) == life + (victim != "media"), victim
                assert "#EXT-X-ENDLIST" not in playlist(directory)
            assert playlist(directory).count("#EXT-X-DISCONTINUITY\n") >= 1
            # when a fan is accepted
            async with Peer(house.environment["PUBLIC_URL"]) as fan:
                await fan.sign_in("fan_a@demo.test", PASSWORD)
                wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": 5}
                request = await fan.call("POST", "/api/streaming/private-request", wish)
                await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})
            # then the public picture is over, on every rung, and its process with it
            pid = child_pid(directory)
            await until(lambda: all("#EXT-X-ENDLIST" in playlist(directory, name) for name in RENDITIONS))
            await until(lambda: not Path(f"/proc/{pid}").exists())
            await seat.ended

    asyncio.run(play())
