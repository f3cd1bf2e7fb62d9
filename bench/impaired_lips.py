"""``make bench-lips``: how far apart lips and voice come at a viewer, and what of it is ours.

The publisher's Chromium plays a picture that flashes and a microphone that beeps at the same moment, about once
a second; its own page sees and hears them as they leave, the viewer's as they come (when a picture is due on the
screen, and when a sample is due at the loudspeaker). What lies between them, less what lay between them at the
source, is what was added on the way. Each line is measured twice, one after the other: through our node, and
with the two browsers connected to one another over the same lines (``bench.impaired_direct``): what node and
browsers add together, and what the browsers do by themselves. Beside both: what the viewer's browser takes it to
be, since when it can know (after two sender reports of each), and for how long it keeps sound and picture.

Error: the two pages each know a flash to one turn of the screen (17 ms), a beep to about 5 ms. Offsets come in
steps of 17 ms for that, and their median is one of the steps; as flashes keep no step with screens, the mean of
the middle half is good to about 5 ms. Chromium corrects nothing below 30 ms, so two connections over one and the
same line may lie up to 60 ms apart: one join says little of a line (RUNS=). On a busy machine it all says little:
the load is printed.

Bound: 40 ms either way for each line, over the flashes of all its joins, from SETTLE seconds after each join on.
Needs root; SECONDS=20 is how long each is watched then, ONLY= takes the lines whose name holds it, RUNS=1 how
often, RAW=<path> keeps every single offset.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path

import msgspec
from playwright.async_api import async_playwright

from bench import cut, impaired_direct
from bench.impaired import FEWEST_FLASHES, HANDLES, ONLY, SIDES, Scenario, browser, on_bad_lines, opened
from bench.impaired_browsers import Page
from bench.impaired_camera import camera_files
from bench.impaired_link import Condition
from bench.impaired_net import Client
from bench.impaired_page import added, beliefs, flashes_and_beeps, join, read
from demo.peer import Peer
from ops.house import House

SECONDS = float(os.environ.get("SECONDS", "20"))
SETTLE = float(os.environ.get("SETTLE", "12"))
RUNS = int(os.environ.get("RUNS", "1"))
RAW = os.environ.get("RAW", "")
BOUND_MS = 40.0
LINES = (
    Scenario("clean"),
    Scenario("5 % loss", Condition(loss=0.05)),
    Scenario("50 ms jitter", Condition(jitter=0.05)),
    Scenario("50 ms jitter, shuffled", Condition(jitter=0.05, shuffled=True)),
)
WAYS = ("node", "direct")


class Lips(msgspec.Struct, frozen=True):
    """Milliseconds by which sound came after picture over one line, one way."""

    first: list[float]
    """Of each flash until the browser had settled."""
    then: list[float]
    believed: list[float]
    """By the viewer's browser, of moments since then."""
    kept: tuple[float, float]
    """For how long its browser kept sound and picture."""
    known: float | None
    """Seconds from the first pictures on after which its browser knew sound and picture of one moment, and could
    bring them together; None: it never did."""


def middle(offsets: list[float]) -> float | None:
    """The mean of the middle half; None: too few flashes were seen with their beeps."""
    if len(offsets) < FEWEST_FLASHES:
        return None
    quarter = len(offsets) // 4
    return statistics.mean(sorted(offsets)[quarter : len(offsets) - quarter])


async def measure(house: House, clients: dict[str, Client], var: Path) -> float:
    """Every line, on either side, either way; the bound over the worst line through the node."""
    url = house.environment["PUBLIC_URL"]
    names = dict.fromkeys(SIDES, "chromium")
    found: dict[tuple[str, str, str], list[float]] = {}
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    async with Peer(url) as creator, async_playwright() as playwright:
        await creator.sign_in(f"{HANDLES['publisher']}@bench.test", cut.PASSWORD, feed=False)
        media = await asyncio.to_thread(camera_files, var)
        start = functools.partial(browser, playwright, var=var, url=url, repair=True, media=media)
        async with opened(start, names, clients, url) as pages:
            for _, line, side in itertools.product(range(RUNS), LINES, SIDES):
                if ONLY not in line.name:
                    continue
                for way in WAYS:
                    lips = await watched(way, line, clients[side], creator, pages)
                    print(f"{line.name:24}{side:11}{way:8}{in_words(lips)}", flush=True)
                    keep(line.name, side, way, lips)
                    found.setdefault((line.name, side, way), []).extend(lips.then)
    worst = dict.fromkeys(WAYS, 0.0)
    for (name, side, way), offsets in found.items():
        apart = middle(offsets)
        print(f"{name:24}{side:11}{way:8}{_signed(apart)}   n={len(offsets)}")
        worst[way] = max(worst[way], float("inf") if apart is None else abs(apart))
    print(f"load {os.getloadavg()[0]:.1f} at the end; bound: {BOUND_MS:.0f} ms either way")
    print(f"without the node, the ratio would be {BOUND_MS / max(1.0, worst['direct']):.2f}")
    return BOUND_MS / max(1.0, worst["node"])


async def watched(way: str, line: Scenario, client: Client, creator: Peer, pages: dict[str, Page]) -> Lips:
    """One fresh connection, that way, over that line."""
    publisher, viewer = pages["publisher"], pages["viewer"]
    for page in pages.values():
        await page.reload()
    stream = await creator.go_live() if way == "node" else None
    if stream is not None:
        await join(publisher, stream["roomId"], publish=True)
        await join(viewer, stream["roomId"], publish=False)
    else:
        await impaired_direct.connect(publisher, viewer)
    client.set(line.line)
    began = time.time() * 1000
    await asyncio.sleep(SETTLE)
    before, since = await read(viewer), time.time() * 1000
    await asyncio.sleep(SECONDS)
    after = await read(viewer)
    source, came = await flashes_and_beeps(publisher), await flashes_and_beeps(viewer)
    believed = await beliefs(viewer)
    client.set(Condition())
    if stream is not None:
        await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")

    def kept(kind: str) -> float:
        name = f"inbound_{kind}_jitterBuffer"
        return 1000 * after.since(before, f"{name}Delay") / max(1.0, after.since(before, f"{name}EmittedCount"))

    return Lips(
        first=added(source, [each for each in came if each[0] < since]),
        then=added(source, [each for each in came if each[0] >= since]),
        believed=[apart for at, apart in believed if at >= since],
        kept=(kept("audio"), kept("video")),
        known=max(0.0, believed[0][0] - began) / 1000 if believed else None,
    )


def in_words(lips: Lips) -> str:
    """One join."""
    if middle(lips.then) is None:
        return f"only {len(lips.then)} flashes were seen with their beeps"
    low, _, high = statistics.quantiles(lips.then, n=4)
    believed = f"{statistics.median(lips.believed):+4.0f} ms" if lips.believed else "nothing"
    return (
        f"sound after picture {_signed(middle(lips.then))}   half of them {low:+4.0f} to {high:+4.0f}"
        f"   n={len(lips.then):<3} at first {_signed(middle(lips.first))}"
        f"   known after {'never' if lips.known is None else f'{lips.known:.1f} s'}"
        f"   believed {believed}   kept {lips.kept[0]:4.0f} and {lips.kept[1]:4.0f} ms"
        f"   load {os.getloadavg()[0]:.1f}"
    )


def _signed(apart: float | None) -> str:
    return "    few" if apart is None else f"{apart:+4.0f} ms"


def keep(line: str, side: str, way: str, lips: Lips) -> None:
    """Every single figure, for who wants to look closer."""
    if RAW:
        figures = {"line": line, "side": side, "way": way, **msgspec.to_builtins(lips)}
        with Path(RAW).open("a") as file:
            file.write(json.dumps(figures) + "\n")


def main() -> int:
    """Measure, print."""
    ratio = on_bad_lines(measure)
    if ratio is not None and not ONLY:
        print(f"ratio: {ratio:.2f}")
    return 1 if ratio is None else 0


if __name__ == "__main__":
    sys.exit(main())
