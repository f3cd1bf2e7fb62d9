"""What a spectator in Chromium sees while parts of the house are killed, and while the line is poor."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import BrowserContext, Page

from demo import PASSWORD
from demo.media_file import media_file
from demo.peer import ApiError, Peer
from demo.seat import Refused
from ops.house import House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode
from tests.conftest import MakeHouse

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

PATIENCE_MS = 90_000
VICTIMS = ("child", "ffmpeg", "transcode", "web", "rabbitmq", "media")
STEADY_MS = 8_000
"""Played so long without a stop, it goes on."""
SAMPLER = """() => {
  const video = document.getElementById('public-video');
  const began = performance.now();
  const seen = {stalls: [], ends: [], reloads: 0, errors: 0, last: video.currentTime, moved: began, since: began};
  window.seen = seen;
  video.addEventListener('emptied', () => { seen.reloads += 1; });
  video.addEventListener('error', () => { seen.errors += 1; });
  setInterval(() => {
    const now = performance.now();
    if (video.currentTime !== seen.last && !video.paused) {
      if (now - seen.moved > 250) {
        seen.stalls.push(Math.round(now - seen.moved));
        seen.ends.push(Date.now() / 1000);
        seen.since = now;
      }
      seen.last = video.currentTime;
      seen.moved = now;
    }
  }, 50);
}"""
SEEN = """() => {
  const now = performance.now();
  return {...window.seen, still: now - window.seen.moved, steady: now - window.seen.since};
}"""
HEIGHT = "() => document.getElementById('public-video').videoHeight"


@pytest.fixture(scope="module")
def house(make_house: MakeHouse, servers_directory: Path) -> Iterator[House]:
    """A house that transcodes, whose broker is its own to lose."""
    broker = RabbitNode(servers_directory / "rabbitmq-spectators", free_port(PORT_OFFSETS))
    names = ("media", "worker", "transcode", "clock", "web")
    made = make_house(demo=True, names=names, broker=broker, TRANSCODE_PRESET="ultrafast")
    yield made
    broker.discard()
    made.stop()


class Publisher:
    """A creator on the air in a thread of its own, who takes the seat again whenever it is lost."""

    def __init__(self, house: House, clip: Path) -> None:
        self._url, self._clip = house.environment["PUBLIC_URL"], clip
        self._enough = threading.Event()
        self.seats: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), name="publisher")

    def __enter__(self) -> Publisher:
        self._thread.start()
        self.seats.get(timeout=PATIENCE_MS / 1000)
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    async def _play(self) -> None:
        async with Peer(self._url) as creator:
            await creator.sign_in("creator_a@demo.test", PASSWORD)
            stream = await creator.go_live()
            while not self._enough.is_set():
                try:
                    seat = await creator.join(stream["roomId"], publish=self._clip)
                except (ApiError, Refused, OSError, TimeoutError):
                    await asyncio.sleep(0.2)
                    continue
                self.seats.put(stream["roomId"])
                while not (seat.ended.done() or self._enough.is_set()):  # noqa: ASYNC110 (set by another thread)
                    await asyncio.sleep(0.1)
            await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")


@pytest.fixture
def watching(house: House, servers_directory: Path, new_context: Callable[..., BrowserContext]) -> Iterator[Page]:
    """A visitor's page that plays the broadcast."""
    clip = media_file(servers_directory / "clip")
    with Publisher(house, clip):
        page = new_context().new_page()
        page.goto(f"{house.environment['PUBLIC_URL']}/models/creator_a")
        page.evaluate(SAMPLER)
        steady(page)
        yield page


def until(page: Page, holds: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE_MS // 200):
        if holds():
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"not within {PATIENCE_MS} ms: {what}")


def steady(page: Page) -> None:
    """It has played for a while without a stop."""

    def is_steady() -> bool:
        seen = page.evaluate(SEEN)
        return bool(seen["last"] > 0 and seen["still"] < 250 and seen["steady"] > STEADY_MS)

    until(page, is_steady, "a picture that plays on")


def child_of(house: House) -> dict[str, Any]:
    newest = max((house.var / "hls").glob("brd_*/child.json"), key=lambda path: path.stat().st_mtime)
    found: dict[str, Any] = msgspec.json.decode(newest.read_bytes())
    return found


def back(house: House, killed_at: float) -> str:
    """When the newest epoch began to write, and when its first segment was there; seconds after the kill."""
    try:
        return told(house.var / "hls", killed_at)
    except FileNotFoundError:
        return "what another child wrote went while it was looked at"


def told(hls: Path, killed_at: float) -> str:
    epoch = max(hls.glob("brd_*/epoch"), key=lambda path: path.stat().st_mtime, default=None)
    if epoch is None:
        return "no epoch is there"
    if epoch.stat().st_mtime < killed_at:
        return "the child went on"
    segments = epoch.parent.glob(f"480p/s?????_{epoch.read_text()}.m4s")
    first = min((path.stat().st_mtime for path in segments), default=None)
    there = "no segment of its is there" if first is None else f"its first segment after {first - killed_at:.1f} s"
    return f"another child after {epoch.stat().st_mtime - killed_at:.1f} s, {there}"


def kill(house: House, victim: str) -> None:
    if victim == "rabbitmq":
        assert house.broker is not None
        house.broker.kill()
        # The watcher revives only what died by itself; this one is ours to start.
        house.broker.start()
    elif victim in ("child", "ffmpeg"):
        pid = child_of(house)["pid"]
        if victim == "ffmpeg":
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = next(int(one) for one in children if "ffmpeg" in Path(f"/proc/{one}/cmdline").read_text())
        os.kill(pid, signal.SIGKILL)
    else:
        house.children[victim].signal(signal.SIGKILL)


def test_a_spectator_goes_on_through_every_kill(house: House, watching: Page) -> None:
    before = watching.evaluate(SEEN)
    for victim in VICTIMS:
        # when, and long enough for what was buffered to be played
        killed_at = time.time()
        kill(house, victim)
        watching.wait_for_timeout(12_000)
        steady(watching)
        # then the picture moves on, on the same page, without an error
        seen = watching.evaluate(SEEN)
        stalls = seen["stalls"][len(before["stalls"]) :]
        ends = [f"{at - killed_at:.1f}" for at in seen["ends"][len(before["ends"]) :]]
        reloads = seen["reloads"] - before["reloads"]
        print(
            f"{victim} killed: stalls of {stalls} ms, over after {ends} s; {reloads} reloads, "
            f"{seen['errors']} errors; {back(house, killed_at)}; load {os.getloadavg()[0]:.0f}"
        )
        assert seen["errors"] == 0, victim
        before = seen


@contextmanager
def throttled(page: Page, bits_per_second: int) -> Iterator[None]:
    """A line that carries no more than that."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    line = {"offline": False, "latency": 20, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", {**line, "downloadThroughput": bits_per_second / 8})
    yield
    session.send("Network.emulateNetworkConditions", {**line, "latency": 0, "downloadThroughput": -1})


def test_the_quality_follows_the_line_down_and_up(watching: Page) -> None:
    # given a free viewer at the best that is free
    until(watching, lambda: watching.evaluate(HEIGHT) == 480, "480 lines")
    with throttled(watching, 800_000):
        until(watching, lambda: watching.evaluate(HEIGHT) == 240, "240 lines over a poor line")
        steady(watching)
    until(watching, lambda: watching.evaluate(HEIGHT) == 480, "480 lines again")
