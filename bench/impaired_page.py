"""What runs inside the browsers of ``bench-impaired``: joins with our own modules, and reads getStats all along.

The page is our site's; nothing of it is changed but what the camera gives (a picture that two busy cores encode),
and without repair, what the browser believes was negotiated: neither NACK nor RTX nor Opus' own correction.
"""

from __future__ import annotations

from typing import Any

import msgspec
from playwright.async_api import Browser, Page

PATIENCE_SECONDS = 60.0
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_WATCH = """
const RealConnection = RTCPeerConnection;
window.connections = [];
window.shownAt = [];
window.RTCPeerConnection = class extends RealConnection {
  constructor(...all) { super(...all); connections.push({ pc: this, last: {} }); }
};
const open = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
if (open) navigator.mediaDevices.getUserMedia = (wish) => open({
  audio: wish.audio, video: wish.video && { width: 640, height: 360, frameRate: 20 } });
const FIELDS = ["framesDecoded", "freezeCount", "totalFreezesDuration", "concealedSamples",
  "silentConcealedSamples", "totalSamplesReceived", "nackCount", "pliCount", "retransmittedPacketsReceived",
  "retransmittedPacketsSent", "bytesReceived", "fecPacketsReceived", "fecPacketsDiscarded"];
// A connection that is closed tells nothing any more: what it said last goes on to count.
window.readStats = async () => {
  const states = connections.map(({ pc }) => pc.connectionState).join(" ");
  const sum = { connections: connections.length, states };
  for (const each of connections) {
    if (each.pc.connectionState !== "closed") {
      const said = {};
      for (const row of (await each.pc.getStats()).values()) {
        if (row.type !== "inbound-rtp" && row.type !== "outbound-rtp") continue;
        for (const field of FIELDS) if (field in row) {
          const name = row.type.split("-")[0] + "_" + row.kind + "_" + field;
          said[name] = (said[name] ?? 0) + row[field];
        }
      }
      if (Object.keys(said).length) each.last = said;
    }
    for (const [name, value] of Object.entries(each.last)) sum[name] = (sum[name] ?? 0) + value;
  }
  return { sum, at: Date.now() };
};
setInterval(() => window.readStats(), 300);
"""
_WITHOUT_REPAIR = """
const believe = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  const repeats = [...sdp.matchAll(/a=rtpmap:(\\d+) rtx\\//g)].map(([, payload]) => payload);
  const sources = [...sdp.matchAll(/a=ssrc-group:FID \\d+ (\\d+)/g)].map(([, source]) => source);
  const gone = [/^a=rtcp-fb:\\S+ nack$/, /^a=ssrc-group:FID/,
    ...repeats.map((payload) => new RegExp("^a=(rtpmap|fmtp|rtcp-fb):" + payload + " ")),
    ...sources.map((source) => new RegExp("^a=ssrc:" + source + " "))];
  const lines = sdp.split("\\r\\n").filter((line) => !gone.some((pattern) => pattern.test(line)));
  const without = lines.map((line) => line.startsWith("m=video")
    ? line.split(" ").filter((word, at) => at < 3 || !repeats.includes(word)).join(" ")
    : line.replace("useinbandfec=1", "useinbandfec=0"));
  return believe.call(this, { type, sdp: without.join("\\r\\n") });
};
"""
_JOIN = """async ([roomId, publish]) => {
  const { CameraService } = await import("/static/js/camera_service.js");
  const { SFUClient } = await import("/static/js/sfu_client.js");
  window.camera = publish ? new CameraService() : null;
  if (publish) await camera.startCamera("user");
  window.client = new SFUClient(roomId, null, camera);
  window.states = [];
  client.onConnectionState = (state) => states.push([Date.now(), state]);
  client.onLost = (error) => states.push([Date.now(), "lost " + error.code]);
  const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true, playsInline: true });
  const audio = Object.assign(document.createElement("audio"), { autoplay: true });
  document.body.prepend(video, audio);
  const look = () => { video.requestVideoFrameCallback(look); shownAt.push(Date.now()); };
  video.requestVideoFrameCallback(look);
  client.onRemoteStream = (stream) => { video.srcObject = stream; audio.srcObject = stream; };
  await client.joinAsParticipant({ publish });
}"""


class Reading(msgspec.Struct, frozen=True):
    """What getStats had counted, over all connections of a page, at one moment (Unix seconds)."""

    at: float
    counts: dict[str, float]
    states: str

    def since(self, before: Reading, name: str) -> float:
        """How much was counted since ``before``."""
        return self.counts.get(name, 0.0) - before.counts.get(name, 0.0)


async def person(browser: Browser, url: str, email: str, password: str, *, repair: bool) -> Page:
    """A signed-in page that is ready to join."""
    context = await browser.new_context(permissions=["camera", "microphone"])
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    await context.add_init_script(f"(() => {{ {_WATCH if repair else _WATCH + _WITHOUT_REPAIR} }})();")
    page = await context.new_page()
    await page.goto(f"{url}/login")
    await page.get_by_label("Email", exact=True).fill(email)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url(lambda there: not there.endswith("/login"))
    return page


async def join(page: Page, room_id: str, *, publish: bool) -> None:
    """Take a seat with our own modules."""
    await page.evaluate(_JOIN, [room_id, publish])


async def read(page: Page) -> Reading:
    """What getStats says now."""
    said: dict[str, Any] = await page.evaluate("() => readStats()")
    counts = {name: float(value) for name, value in said["sum"].items() if name != "states"}
    return Reading(at=said["at"] / 1000, counts=counts, states=said["sum"]["states"])


async def shown(page: Page) -> list[float]:
    """When each picture was shown, Unix seconds."""
    return [at / 1000 for at in await page.evaluate("() => shownAt")]
