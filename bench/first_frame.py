"""``make bench-first-frame``: how soon a late joiner's Chromium shows something, and how old what it shows is.

A Chromium with our own browser modules publishes 1280×720 in three sizes, as in any room of several, through a
whole media node; others join one after the other. *answer → first picture*: from the sending of the answer on
signaling to the first picture that is presented, which is later than the first that is decoded. *join*: the same
from the call of ``joinAsParticipant``. *camera → glass*: each picture carries the millisecond in which it was
drawn as 24 squares, white for a one, and their opposites below; how much later it is presented, by the same clock.
Bounds: 300 ms for the first, at p95, and 500 ms for the last. Encoder, node and decoders share one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import statistics
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
from playwright.async_api import Browser, Page, async_playwright

from bench.chromium_flags import ALWAYS_AWAKE, FLAGS
from bench.node_process import NodeProcess, fields, grant, running_node
from models.messages.commands import OpenRoom, RoomSpec

ROOM, CREATOR = "live-str_first", "usr_creator"
STATIC = Path(__file__).resolve().parent.parent / "web" / "static"
FIRST_BOUND_MS, GLASS_BOUND_MS = 300.0, 500.0
PATIENCE_MS = 60_000
SETTLING_SECONDS = 5.0
"""The encoder's bandwidth estimate rises from its start; joiners come later than that."""
WATCH_SECONDS = 10.0
BITS = 24
PUBLISH = """async ([room, user, grant, url, bits]) => {
  const { CameraService } = await import("/js/camera_service.js");
  const { SFUClient } = await import("/js/sfu_client.js");
  const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
  const pen = canvas.getContext("2d");
  const cell = 48;
  setInterval(() => {
    const now = Date.now();
    pen.fillStyle = `hsl(${(now / 50) % 360} 60% 50%)`;
    pen.fillRect(0, 0, 1280, 720);
    for (let ball = 0; ball < 30; ball += 1) {
      pen.fillStyle = `hsl(${ball * 12} 80% 60%)`;
      pen.fillRect((now / (3 + ball) + ball * 97) % 1280, 200 + ball * 16, 120, 40);
    }
    for (let bit = 0; bit < bits; bit += 1) {
      const one = Math.floor(now / 2 ** bit) % 2 === 1;
      pen.fillStyle = one ? "#fff" : "#000";
      pen.fillRect(bit * cell, 0, cell, cell);
      pen.fillStyle = one ? "#000" : "#fff";
      pen.fillRect(bit * cell, cell, cell, cell);
    }
  }, 1000 / 30);
  const real = navigator.mediaDevices;
  const mediaDevices = {
    enumerateDevices: () => real.enumerateDevices(),
    getUserMedia: async ({ audio, video }) => {
      const stream = await real.getUserMedia({ audio: audio ?? true });
      for (const track of audio ? [] : stream.getAudioTracks()) stream.removeTrack(track);
      if (video) stream.addTrack(canvas.captureStream(30).getVideoTracks()[0]);
      return stream;
    },
  };
  const camera = new CameraService({ mediaDevices });
  await camera.startCamera("user");
  window.client = new SFUClient(room, user, camera, { grant, signalingUrl: url });
  await client.joinAsParticipant();
}"""
LAYERS = """async () => {
  const stats = await client.peerConnections[0].getStats();
  return [...stats.values()].filter((one) => one.type === "outbound-rtp" && one.framesSent > 0 && one.rid).length;
}"""
JOIN = """async ([room, user, grant, url, bits]) => {
  const seen = (window.seen = {
    calledAt: null, answeredAt: null, connectedAt: null, shownAt: null, height: 0, ages: [], frames: 0,
  });
  const { SFUClient } = await import("/js/sfu_client.js");
  if (!window.sendOfSocket) {
    const send = (window.sendOfSocket = WebSocket.prototype.send);
    WebSocket.prototype.send = function (text) {
      if (JSON.parse(text).type === "ANSWER") window.seen.answeredAt ??= performance.now();
      return send.call(this, text);
    };
    const describe = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
      this.addEventListener("connectionstatechange", () => {
        if (this.connectionState === "connected") window.seen.connectedAt ??= performance.now();
      });
      return describe.call(this, description);
    };
  }
  const video = document.createElement("video");
  video.muted = video.autoplay = true;
  document.body.replaceChildren(video);
  const reading = Object.assign(document.createElement("canvas"), { width: bits, height: 2 });
  const pen = reading.getContext("2d", { willReadFrequently: true });
  const look = (_now, frame) => {
    video.requestVideoFrameCallback(look);
    seen.shownAt ??= frame.presentationTime;
    seen.height = video.videoHeight;
    seen.frames += 1;
    const cell = (48 * video.videoWidth) / 1280;
    // The middle of each square, so that what a small layer blurs is left out.
    for (let bit = 0; bit < bits; bit += 1)
      for (const row of [0, 1])
        pen.drawImage(video, (bit + 0.4) * cell, (row + 0.4) * cell, cell / 5, cell / 5, bit, row, 1, 1);
    const data = pen.getImageData(0, 0, bits, 2).data;
    let stamp = 0;
    for (let bit = 0; bit < bits; bit += 1) {
      const [one, other] = [data[4 * bit], data[4 * (bits + bit)]];
      if (Math.abs(one - other) < 100) return;
      if (one > other) stamp += 2 ** bit;
    }
    const shown = Date.now() + frame.expectedDisplayTime - performance.now();
    const span = 2 ** bits;
    seen.ages.push((((shown - stamp) % span) + span) % span);
  };
  video.requestVideoFrameCallback(look);
  window.client = new SFUClient(room, user, null, { grant, signalingUrl: url });
  client.onRemoteStream = (stream) => {
    video.srcObject ??= stream;
  };
  seen.calledAt = performance.now();
  await client.joinAsParticipant({ publish: false });
}"""


class Seen(msgspec.Struct, frozen=True, rename="camel"):
    """What one joiner saw; milliseconds of its page."""

    called_at: float
    answered_at: float
    connected_at: float
    shown_at: float
    height: int
    ages: list[float]
    frames: int


class Pages(SimpleHTTPRequestHandler):
    """Our browser modules as they are, and an empty page."""

    def do_GET(self) -> None:
        """Anything but modules is the empty page."""
        if self.path.startswith("/js/"):
            super().do_GET()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>bench</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def site() -> Iterator[str]:
    """Where a page may open cameras and sockets of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=str(STATIC))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()


async def a_page(browser: Browser, address: str) -> Page:
    """An empty page."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(address)
    return page


async def join(page: Page, node: NodeProcess, number: int, watch_seconds: float = 0.0) -> Seen:
    """Join, see something, watch for so long, leave."""
    user = f"usr_fan_{number}"
    await page.evaluate(JOIN, [ROOM, user, grant(ROOM, user), node.url, BITS])
    await page.wait_for_function("() => seen.shownAt !== null && seen.answeredAt !== null")
    if watch_seconds:
        await asyncio.sleep(watch_seconds)
    seen = msgspec.json.decode(await page.evaluate("() => JSON.stringify(seen)"), type=Seen)
    await page.evaluate("() => client.leave()")
    return seen


async def measure(joins: int) -> tuple[list[Seen], Seen, int]:
    """So many late joiners, one who stays for a while, and how many sizes were published."""
    with site() as address:
        return await _measure(joins, address)


async def _measure(joins: int, address: str) -> tuple[list[Seen], Seen, int]:
    async with running_node() as node, async_playwright() as playwright:
        await node.order(OpenRoom(room=RoomSpec(room_id=ROOM, creator_id=CREATOR), **fields()))
        launch = functools.partial(
            playwright.chromium.launch, executable_path="/usr/bin/chromium", args=[*FLAGS, *ALWAYS_AWAKE]
        )
        browsers = [await launch(), await launch()]
        publisher, viewer = [await a_page(browser, address) for browser in browsers]
        await publisher.evaluate(PUBLISH, [ROOM, CREATOR, grant(ROOM, CREATOR), node.url, BITS])
        await asyncio.sleep(SETTLING_SECONDS)
        # The first loads the modules and the decoder: it is not counted.
        await join(viewer, node, 0)
        late = [await join(viewer, node, number) for number in range(1, joins + 1)]
        layers = int(await publisher.evaluate(LAYERS))
        watched = await join(viewer, node, joins + 1, WATCH_SECONDS)
        for browser in browsers:
            await browser.close()
    return late, watched, layers


def at(values: list[float], share: float) -> float:
    """The percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def spread(values: list[float]) -> str:
    """In words."""
    return (
        f"p50 {statistics.median(values):6.0f} ms   p95 {at(values, 0.95):6.0f} ms   "
        f"worst {max(values):6.0f} ms   n={len(values)}"
    )


def main() -> None:
    """Measure and print; the last line is the bound over the p95 of the first picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joins", type=int, default=20)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    late, watched, layers = asyncio.run(measure(arguments.joins))
    first = [one.shown_at - one.answered_at for one in late]
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {load:.1f}; sizes published: {layers}")
    print(f"answer → first picture   {spread(first)}")
    print(f"answer → DTLS complete   {spread([one.connected_at - one.answered_at for one in late])}")
    print(f"join → first picture     {spread([one.shown_at - one.called_at for one in late])}")
    ages = watched.ages[len(watched.ages) // 5 :]
    if ages:
        print(f"camera → glass           {spread(ages)}   at {watched.height} lines")
    print(f"{watched.frames / WATCH_SECONDS:.0f} pictures a second shown, {len(watched.ages)} of them read")
    print(f"bounds: {FIRST_BOUND_MS:.0f} ms from answer to first picture, {GLASS_BOUND_MS:.0f} ms camera to glass")
    print(f"ratio: {FIRST_BOUND_MS / at(first, 0.95):.2f}")


if __name__ == "__main__":
    main()
