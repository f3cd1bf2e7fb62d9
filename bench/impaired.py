"""``make bench-impaired``: real browser to real browser through the node, over lines that are bad on purpose.

A house in one network namespace, a publisher and a viewer in two others, each behind a line of its own
(``bench.impaired_link``); one of the two lines is made bad. Measured with getStats of both: pictures decoded a
second, freezes, the share of sound that was made up (of what was not silence), NACKs, repeats and key frames asked
for; after an outage or another address, when the picture is back. *lips*: by how much sound comes after picture at
the viewer, less what it does in the publisher's own page; the median over the scenario's flashes. Chromium to
Chromium, and each with Debian's firefox-esr on the other side, if that is installed. Needs root. SEED= chooses
other losses, SECONDS=10 is how long each scenario is watched, ONLY= takes those whose name holds it,
BROWSERS=chromium-firefox that pair alone (publisher first).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Playwright, async_playwright

from bench import cut
from bench.impaired_browsers import FIREFOX, Browser, Chromium, Firefox, Page
from bench.impaired_camera import camera_files
from bench.impaired_link import Condition, Passed
from bench.impaired_net import NODE_ADDRESS, Client, Net
from bench.impaired_page import (
    Reading,
    added,
    flashes_and_beeps,
    forget_lips,
    join,
    read,
    script,
    shown,
    sign_in,
)
from demo.peer import Peer
from demo.run import environment
from ops.house import Child, House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

SEED = int(os.environ.get("SEED", "20260101"))
SECONDS = float(os.environ.get("SECONDS", "10"))
ONLY = os.environ.get("ONLY", "")
BROWSERS = os.environ.get("BROWSERS", "")
WARM_SECONDS = 6.0
"""A sender's estimate of its bandwidth begins low, and a receiver keeps sound for long at first."""
MOVE_SECONDS = 18.0
"""Longer than signaling takes to find out by itself that it hears nothing any more."""
FEWEST_FLASHES = 3
GAP_SECONDS = 0.4
"""A picture that is so late is missed."""
SIDES = ("publisher", "viewer")
HANDLES = {"publisher": "bench_creator_0", "viewer": "bench_fan_0"}
PAIRS = {
    "chromium-chromium": SIDES,
    "chromium-firefox": ("viewer",),
    "firefox-chromium": ("publisher",),
}
"""Publisher and viewer, and whose line is made bad."""


Measure = Callable[[House, dict[str, Client], Path], Coroutine[Any, Any, float]]


class Scenario(msgspec.Struct, frozen=True):
    """What happens to the line."""

    name: str
    line: Condition = Condition()
    repair: bool = True
    outage: float = 0.0
    """Seconds after which the line is good again."""
    moves: bool = False
    seconds: float = SECONDS
    """For so long it is watched."""


SCENARIOS = (
    Scenario("clean"),
    Scenario("5 % loss", Condition(loss=0.05)),
    Scenario("5 % loss, no repair", Condition(loss=0.05), repair=False),
    Scenario("50 ms jitter", Condition(jitter=0.05)),
    Scenario("50 ms jitter, shuffled", Condition(jitter=0.05, shuffled=True)),
    Scenario("50 ms jitter, shuffled, no repair", Condition(jitter=0.05, shuffled=True), repair=False),
    Scenario("300 kbit/s", Condition(rate=300_000)),
    Scenario("300 kbit/s, no repair", Condition(rate=300_000), repair=False),
    Scenario("1 s outage", Condition(down=True), outage=1.0),
    Scenario("3 s outage", Condition(down=True), outage=3.0),
    Scenario("3 s outage, no repair", Condition(down=True), outage=3.0, repair=False),
    Scenario("another address", moves=True, seconds=MOVE_SECONDS),
    Scenario("NAT forgets", Condition(rebound=0x0A50)),
)


class Result(msgspec.Struct, frozen=True):
    """What was seen of one scenario."""

    fps: float
    kbits: float
    """Kilobits of picture a second, repeats included."""
    freezes: int
    frozen: float
    longest: float
    """Seconds of the longest gap between two pictures shown: getStats counts no freeze that lasts to the end."""
    concealed: float | None
    """None: this browser does not say."""
    corrected: int
    """Packets of sound that brought a copy of an earlier one that was wanting (Opus' in-band FEC)."""
    nacks: tuple[int, int]
    """Of the node to the publisher, and of the viewer to the node; so are the next."""
    sound_nacks: tuple[int, int]
    sound_delay: float
    """Milliseconds that the viewer's browser keeps sound, so that what is late is not missed."""
    repeats: tuple[int, int]
    plis: int
    line_lost: float
    back: float | None
    """Seconds from the event (an outage: from its end) until pictures go on; nan: they did not."""
    lips: list[float]
    """Milliseconds by which sound came later than picture, of each flash with its beep that was seen."""
    note: str


def main() -> int:
    """Measure, print."""
    ratio = on_bad_lines(measure)
    if ratio is not None and not ONLY and not BROWSERS:
        print(f"ratio: {ratio:.2f}")
    return 1 if ratio is None else 0


def on_bad_lines(measure: Measure) -> float | None:
    """Start net and house, and measure; None without the right to."""
    if os.geteuid():
        print("this needs root: network namespaces and TUN devices")
        return None
    # SIGTERM unwinds too, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    net = Net()
    os.environ["no_proxy"] = "*"
    clients = {side: net.client(number, SEED + 10 * number) for number, side in enumerate(SIDES, 1)}
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        var = Path(directory)
        own = environment(var)
        house = House(
            {
                **own,
                "DEMO": "0",
                "MINUTE_SECONDS": "60",
                "HOST": NODE_ADDRESS,
                "PUBLIC_URL": f"http://{NODE_ADDRESS}:{own['PORT']}",
                "MEDIA_ADDRESSES": NODE_ADDRESS,
            },
            var=var,
            names=("media", "worker", "clock", "web"),
            broker=RabbitNode(var / "rabbitmq", free_port(PORT_OFFSETS)),
            say=lambda text: None,
        )
        node = house.children["media"]
        house.children["media"] = Child("media", "python -m bench.impaired_node", house.environment, node.log)
        try:
            house.start()
            threading.Thread(target=house.watch, daemon=True).start()
            cut.make_people(house)
            return asyncio.run(measure(house, clients, var))
        finally:
            for client in clients.values():
                client.close()
            house.stop()


async def measure(house: House, clients: dict[str, Client], var: Path) -> float:
    """Every scenario with either line bad; pictures a second at 5 % loss over clean, the worse side."""
    url = house.environment["PUBLIC_URL"]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, seed {SEED}, {SECONDS:.0f} s each")
    print(HEADER, flush=True)
    fps: dict[tuple[str, str], float] = {}
    async with Peer(url) as creator, async_playwright() as playwright:
        await creator.sign_in(f"{HANDLES['publisher']}@bench.test", cut.PASSWORD, feed=False)
        media = await asyncio.to_thread(camera_files, var)
        for repair in (True, False):
            if not repair:
                house.children["media"].signal(signal.SIGUSR1)
            for pair, sides in PAIRS.items():
                names = dict(zip(SIDES, pair.split("-"), strict=True))
                wanted = [each for each in SCENARIOS if each.repair is repair and ONLY in each.name]
                if BROWSERS not in ("", pair) or not wanted:
                    continue
                if "firefox" in pair and not shutil.which(FIREFOX):
                    print(f"{pair}: needs {FIREFOX} (apt-get install firefox-esr)")
                    continue
                print(f"{pair}:", flush=True)
                start = functools.partial(browser, playwright, var=var, url=url, repair=repair, media=media)
                async with opened(start, names, clients, url) as pages:
                    for scenario, side in itertools.product(wanted, sides):
                        result = await one(scenario, clients[side], creator, pages)
                        if pair == "chromium-chromium":
                            fps[scenario.name, side] = result.fps
                        print(row(scenario.name, side, result), flush=True)
        load = os.getloadavg()[0]
    print(f"load {load:.1f} at the end")
    return min(fps.get(("5 % loss", side), 0.0) / max(1.0, fps.get(("clean", side), 0.0)) for side in SIDES)


@contextlib.asynccontextmanager
async def opened(
    start: Callable[[str, Client], Coroutine[Any, Any, Browser]],
    names: dict[str, str],
    clients: dict[str, Client],
    url: str,
) -> AsyncIterator[dict[str, Page]]:
    """Both sides' pages, signed in."""
    pages: dict[str, Page] = {}
    async with contextlib.AsyncExitStack() as stack:
        for side in SIDES:
            one_of = await start(names[side], clients[side])
            stack.push_async_callback(one_of.close)
            pages[side] = one_of.page
            await sign_in(one_of.page, url, f"{HANDLES[side]}@bench.test", cut.PASSWORD)
        yield pages


async def browser(
    playwright: Playwright, name: str, client: Client, *, var: Path, url: str, repair: bool, media: dict[str, Path]
) -> Browser:
    """That browser at the client's place."""
    if name == "firefox":
        return await Firefox.start(client, var, script(repair=repair))
    return await Chromium.start(playwright, client, var, url, script(repair=repair), media)


async def one(scenario: Scenario, client: Client, creator: Peer, pages: dict[str, Page]) -> Result:
    """A fresh public stream over good lines, of which one then becomes bad."""
    stream = await creator.go_live()
    publisher, viewer = pages["publisher"], pages["viewer"]
    for page in pages.values():
        await page.reload()
    await join(publisher, stream["roomId"], publish=True)
    await join(viewer, stream["roomId"], publish=False)
    await asyncio.sleep(WARM_SECONDS)
    before = [await read(page) for page in (viewer, publisher)]
    await forget_lips(viewer, publisher)
    client.set(Condition())
    event = time.time()
    if scenario.moves:
        await asyncio.to_thread(client.move)
    client.set(scenario.line)
    if scenario.outage:
        await asyncio.sleep(scenario.outage)
        client.set(Condition())
        event = time.time()
    await asyncio.sleep(scenario.seconds)
    passed = client.set(Condition())
    end = time.time()
    after = [await read(page) for page in (viewer, publisher)]
    lips = added(await flashes_and_beeps(publisher), await flashes_and_beeps(viewer))
    gap, until = longest_gap(await shown(viewer), event, end)
    back = None
    if scenario.outage or scenario.moves or scenario.line.rebound:
        back = 0.0 if gap < GAP_SECONDS else math.nan if until == end else until - event
    await asyncio.to_thread(client.reset)
    await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
    return result_of(before, after, passed, gap, back, lips, said(before, after))


def result_of(
    before: list[Reading],
    after: list[Reading],
    passed: tuple[Passed, Passed],
    gap: float,
    back: float | None,
    lips: list[float],
    note: str,
) -> Result:
    """The figures of a scenario from what the viewer and the publisher had counted before and after."""

    def viewer(name: str) -> float:
        return after[0].since(before[0], f"inbound_{name}")

    def publisher(name: str) -> float:
        return after[1].since(before[1], f"outbound_{name}")

    packets = sum(each.packets for each in passed)
    heard = viewer("audio_totalSamplesReceived") - viewer("audio_silentConcealedSamples")
    made_up = viewer("audio_concealedSamples") - viewer("audio_silentConcealedSamples")
    return Result(
        fps=viewer("video_framesDecoded") / (after[0].at - before[0].at),
        kbits=viewer("video_bytesReceived") * 8 / 1000 / (after[0].at - before[0].at),
        freezes=int(viewer("video_freezeCount")),
        frozen=viewer("video_totalFreezesDuration"),
        longest=gap,
        concealed=made_up / heard if heard > 0 else None,
        corrected=int(viewer("audio_fecPacketsReceived") - viewer("audio_fecPacketsDiscarded")),
        nacks=(int(publisher("video_nackCount")), int(viewer("video_nackCount"))),
        sound_nacks=(int(publisher("audio_nackCount")), int(viewer("audio_nackCount"))),
        sound_delay=1000 * viewer("audio_jitterBufferDelay") / max(1.0, viewer("audio_jitterBufferEmittedCount")),
        repeats=(
            int(publisher("video_retransmittedPacketsSent")),
            int(viewer("video_retransmittedPacketsReceived")),
        ),
        plis=int(viewer("video_pliCount") + publisher("video_pliCount")),
        line_lost=sum(each.lost + each.overflowed for each in passed) / max(1, packets),
        back=back,
        lips=lips,
        note=note,
    )


def said(before: list[Reading], after: list[Reading]) -> str:
    """Who had to open new connections, or has none at the end."""
    words = []
    for name, was, is_ in zip(("viewer", "publisher"), before, after, strict=True):
        new = int(is_.since(was, "connections"))
        if new:
            words.append(f"{name}: {new} new connections")
        if "connected" not in is_.states.split():
            words.append(f"{name}: {is_.states}")
    return ", ".join(words)


def longest_gap(pictures: list[float], begin: float, end: float) -> tuple[float, float]:
    """The longest time without a new picture that ended after ``begin``, and when it did: ``end`` if it lasts."""
    before = max((at for at in pictures if at <= begin), default=begin)
    later = [before, *(at for at in pictures if begin < at < end), end]
    return max((at - last, at) for last, at in itertools.pairwise(later))


HEADER = (
    f"{'scenario':34}{'bad line':11}{'fps':>6}{'kbit/s':>8}{'freezes':>9}{'frozen':>8}{'longest':>9}{'made up':>9}"
    f"{'FEC':>5}{'kept':>8}{'lips':>8}{'NACK':>9}{'sound':>9}{'RTX':>10}{'PLI':>5}{'lost':>7}{'back':>8}"
)


def row(name: str, side: str, is_: Result) -> str:
    """A line of the table."""
    back = "" if is_.back is None else "never" if math.isnan(is_.back) else f"{is_.back:.2f} s"
    concealed = "" if is_.concealed is None else f"{is_.concealed:.1%}"
    lips = f"{statistics.median(is_.lips):+.0f} ms" if len(is_.lips) >= FEWEST_FLASHES else ""
    return (
        f"{name:34}{side:11}{is_.fps:6.1f}{is_.kbits:8.0f}{is_.freezes:9}{is_.frozen:6.1f} s{is_.longest:7.1f} s"
        f"{concealed:>9}{is_.corrected:5}{is_.sound_delay:5.0f} ms{lips:>8}"
        f"{both(is_.nacks):>9}{both(is_.sound_nacks):>9}{both(is_.repeats):>10}{is_.plis:5}"
        f"{is_.line_lost:7.1%}{back:>8}  {is_.note}"
    ).rstrip()


def both(ways: tuple[int, int]) -> str:
    """To the node, and from it."""
    return f"{ways[0]}+{ways[1]}"


if __name__ == "__main__":
    sys.exit(main())
