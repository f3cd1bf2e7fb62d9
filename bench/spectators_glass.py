"""What a visitor's Chromium sees: how old each picture is when it is on the screen, and how often it stands still.

Opens the creator's page as anybody would. What hls.js believes (``playingDate``) and what the picture itself
says (the number in it) are told apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from playwright.async_api import Page, async_playwright

from bench.chromium_flags import FLAGS
from bench.spectators_clip import BITS, CELL, LEFT, TOP, age, frame_number
from models.ladder import WIDTH

PATIENCE_SECONDS = 60.0
SETTLING_SECONDS = 4.0
"""hls.js begins where it may and moves to where it wants to be."""

_CELL_PIXELS = 8
_WATCH = """async ({ left, top, cell, bits, width, pixels }) => {
  // The very module that the page's player imports, beside the page's own script.
  const script = document.querySelector("script[src*='/js/pages/creator.js']").src;
  const { default: Hls } = await import(new URL("../../vendor/hls/hls.mjs", script).href);
  const seen = (window.bench = {
    pictures: [], stalls: [], frames: 0, longestGapMs: 0, dropped: 0, startedMs: null,
  });
  // The page keeps its player to itself, but asks it once a second how late it is.
  let hls = null;
  const dated = Object.getOwnPropertyDescriptor(Hls.prototype, "playingDate");
  const get = function () { hls = this; return dated.get.call(this); };
  Object.defineProperty(Hls.prototype, "playingDate", { ...dated, get });
  const video = document.getElementById("public-video");
  let since = null;
  // A picture that stands still when the time is up has stood still.
  window.benchStill = () => (since === null ? [] : [performance.now() - since]);
  video.addEventListener("waiting", () => {
    if (seen.startedMs !== null) since ??= performance.now();
  });
  video.addEventListener("playing", () => {
    seen.startedMs ??= performance.now();
    if (since !== null) seen.stalls.push(performance.now() - since);
    since = null;
  });
  const canvas = document.createElement("canvas");
  canvas.width = bits * pixels;
  canvas.height = 2 * pixels;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let last = null;
  const look = (now, frame) => {
    video.requestVideoFrameCallback(look);
    seen.frames += 1;
    if (last !== null) seen.longestGapMs = Math.max(seen.longestGapMs, frame.expectedDisplayTime - last);
    last = frame.expectedDisplayTime;
    if (seen.frames % 10 || !hls) return;
    const scale = video.videoWidth / width;
    const box = [left, top, bits * cell, 2 * cell].map((number) => number * scale);
    context.drawImage(video, ...box, 0, 0, canvas.width, canvas.height);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const brightness = [];
    for (let row = 0; row < 2; row += 1)
      for (let bit = 0; bit < bits; bit += 1)
        brightness.push(data[4 * ((row + 0.5) * pixels * canvas.width + (bit + 0.5) * pixels) + 1]);
    const shownAt = Date.now() + frame.expectedDisplayTime - performance.now();
    const date = dated.get.call(hls)?.getTime() ?? 0;
    seen.pictures.push({ brightness, shownAt, date, height: video.videoHeight });
  };
  video.requestVideoFrameCallback(look);
}"""
_RESET = """() => Object.assign(window.bench, { pictures: [], stalls: [], frames: 0, longestGapMs: 0 })"""
_RESULT = """() => {
  window.bench.stalls.push(...window.benchStill());
  window.bench.dropped = document.getElementById("public-video").getVideoPlaybackQuality().droppedVideoFrames;
  return JSON.stringify(window.bench);
}"""


class Picture(msgspec.Struct, frozen=True, rename="camel"):
    """One picture on the screen; Unix milliseconds. ``date`` is hls.js's, 0 if it has none."""

    brightness: list[float]
    shown_at: float
    date: float
    height: int


class Seen(msgspec.Struct, frozen=True, rename="camel"):
    """Everything a viewer saw; ``stalls`` and ``longest_gap_ms`` in milliseconds, since it had settled."""

    pictures: list[Picture]
    stalls: list[float]
    frames: int
    longest_gap_ms: float
    dropped: int
    started_ms: float
    """From opening the page to the first picture."""

    def by_date(self) -> list[float]:
        """Capture → glass in seconds, as hls.js has it from EXT-X-PROGRAM-DATE-TIME."""
        return [(one.shown_at - one.date) / 1000 for one in self.pictures if one.date]

    def by_number(self, started_at: float) -> list[float]:
        """Capture → glass in seconds, as the pictures say; ``started_at``: when frame 0 was first sent."""
        ages = []
        for one in self.pictures:
            number = frame_number(one.brightness)
            if number is not None and one.date:
                shown_at = one.shown_at / 1000
                ages.append(age(number, started_at, shown_at, shown_at - one.date / 1000))
        return ages


async def watch(address: str, seconds: float, settled: Callable[[], None]) -> Seen:
    """Watch ``address`` for ``seconds`` after it has settled. Raises TimeoutError without a picture."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        try:
            page = await browser.new_page()
            await page.goto(address)
            where = {"left": LEFT, "top": TOP, "cell": CELL, "bits": BITS, "width": WIDTH, "pixels": _CELL_PIXELS}
            await page.evaluate(_WATCH, where)
            await _playing(page)
            await asyncio.sleep(SETTLING_SECONDS)
            await page.evaluate(_RESET)
            settled()
            await asyncio.sleep(seconds)
            return msgspec.json.decode(await page.evaluate(_RESULT), type=Seen)
        finally:
            await browser.close()


async def _playing(page: Page) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not await page.evaluate("() => window.bench.frames > 0 && window.bench.startedMs !== null"):
        if time.monotonic() > until:
            raise TimeoutError("no picture in Chromium")
        await asyncio.sleep(0.2)
