"""``make bench-lips``: how far apart lips and voice come at a viewer, over good lines and bad ones.

The publisher's Chromium plays a picture that flashes and a microphone that beeps at the same moment, once a
second; its own page sees and hears them as they leave, the viewer's as they come (when a picture is due on the
screen, and when a sample is due at the loudspeaker). What lies between them, less what lay between them at the
source, is ours. Bound: 40 ms, for the median of each line, either way. Needs root; SECONDS=20 is how long each
line is watched.
"""

from __future__ import annotations

import asyncio
import functools
import os
import statistics
import sys
import time
from pathlib import Path

from playwright.async_api import async_playwright

from bench import cut
from bench.impaired import FEWEST_FLASHES, HANDLES, SIDES, Scenario, browser, on_bad_lines, one, opened
from bench.impaired_camera import camera_files
from bench.impaired_link import Condition
from bench.impaired_net import Client
from demo.peer import Peer
from ops.house import House

SECONDS = float(os.environ.get("SECONDS", "20"))
BOUND_MS = 40.0
LINES = (
    Scenario("clean", seconds=SECONDS),
    Scenario("5 % loss", Condition(loss=0.05), seconds=SECONDS),
    Scenario("50 ms jitter", Condition(jitter=0.05), seconds=SECONDS),
    Scenario("50 ms jitter, shuffled", Condition(jitter=0.05, shuffled=True), seconds=SECONDS),
)


async def measure(house: House, clients: dict[str, Client], var: Path) -> float:
    """Every line, on either side; the bound over the worst median."""
    url = house.environment["PUBLIC_URL"]
    names = dict.fromkeys(SIDES, "chromium")
    worst = 0.0
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    async with Peer(url) as creator, async_playwright() as playwright:
        await creator.sign_in(f"{HANDLES['publisher']}@bench.test", cut.PASSWORD, feed=False)
        media = await asyncio.to_thread(camera_files, var)
        start = functools.partial(browser, playwright, var=var, url=url, repair=True, media=media)
        async with opened(start, names, clients, url) as pages:
            for line in LINES:
                for side in SIDES:
                    lips = (await one(line, clients[side], creator, pages)).lips
                    print(f"{line.name:24}{side:11}{in_words(lips)}", flush=True)
                    seen = len(lips) >= FEWEST_FLASHES
                    worst = max(worst, abs(statistics.median(lips)) if seen else float("inf"))
    print(f"load {os.getloadavg()[0]:.1f} at the end; bound: {BOUND_MS:.0f} ms either way")
    return BOUND_MS / max(1.0, worst)


def in_words(lips: list[float]) -> str:
    """The median and the middle half."""
    if len(lips) < FEWEST_FLASHES:
        return f"only {len(lips)} flashes were seen with their beeps"
    low, middle, high = statistics.quantiles(lips, n=4)
    return f"sound after picture {middle:+4.0f} ms   half of them {low:+4.0f} to {high:+4.0f}   n={len(lips)}"


def main() -> int:
    """Measure, print."""
    ratio = on_bad_lines(measure)
    if ratio is not None:
        print(f"ratio: {ratio:.2f}")
    return 1 if ratio is None else 0


if __name__ == "__main__":
    sys.exit(main())
