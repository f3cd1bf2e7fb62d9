"""What runs inside the browsers of ``bench-impaired``: joins with our own modules, and reads getStats all along.

The page is our site's; nothing of it is changed but what the camera gives (a picture that two busy cores
encode), and without repair, what the browser believes was negotiated: neither NACK nor RTX nor Opus' own
correction. Lips: the camera's picture flashes about once a second as the microphone beeps; the publisher's page
sees how far apart the two are at the source, the viewer's how far apart they come. A flash is known as exactly
as a screen has turns (17 ms, which the pace of the flashes evens out; see ``bench.impaired_camera``), and if its
page was late for the picture, it is not counted; a beep is known by the sample, in the clock of the sound's
output, which is known to about 5 ms.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec

from bench.impaired_browsers import Page, until

LONGEST_OFFSET_MS = 480.0
"""Half a second is another flash's."""
LONGEST_WAY_MS = 900.0
CLOCKS_MS = 20.0
"""Two pages of one machine agree so well when it is."""
_WATCH = """
const RealConnection = RTCPeerConnection;
window.connections = [];
window.shownAt = [];
window.RTCPeerConnection = class extends RealConnection {
  constructor(...all) { super(...all); connections.push({ pc: this, last: {} }); }
};
const open = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
const asItIs = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
if (open) navigator.mediaDevices.getUserMedia = (wish) => open({
  audio: wish.audio && asItIs, video: wish.video && { width: 640, height: 360, frameRate: 20 } });
const FIELDS = ["framesDecoded", "freezeCount", "totalFreezesDuration", "concealedSamples",
  "silentConcealedSamples", "totalSamplesReceived", "nackCount", "pliCount", "retransmittedPacketsReceived",
  "retransmittedPacketsSent", "bytesReceived", "jitterBufferDelay", "jitterBufferEmittedCount",
  "fecPacketsReceived", "fecPacketsDiscarded"];
// A connection that is closed tells nothing any more: what it said last goes on to count.
window.readStats = async () => {
  const states = connections.map(({ pc }) => pc.connectionState).join(" ");
  const sum = { connections: connections.length, states };
  const played = {};
  for (const each of connections) {
    if (each.pc.connectionState !== "closed") {
      const said = {};
      for (const row of (await each.pc.getStats()).values()) {
        if (row.type !== "inbound-rtp" && row.type !== "outbound-rtp") continue;
        if (row.estimatedPlayoutTimestamp) played[row.kind] = row.estimatedPlayoutTimestamp;
        for (const field of FIELDS) if (field in row) {
          const name = row.type.split("-")[0] + "_" + row.kind + "_" + field;
          said[name] = (said[name] ?? 0) + row[field];
        }
      }
      if (Object.keys(said).length) each.last = said;
    }
    for (const [name, value] of Object.entries(each.last)) sum[name] = (sum[name] ?? 0) + value;
  }
  if (played.audio && played.video) beliefs.push([Date.now(), played.video - played.audio]);
  return { sum, at: Date.now() };
};
setInterval(() => window.readStats(), 300);
// Lips: when the band at the bottom turned white, and when it became loud; milliseconds of this page's clock.
// What the browser itself takes to lie between them (the sender's time of what is due now): beliefs.
window.flashes = [];
window.beeps = [];
window.beliefs = [];
window.watchLips = (video, stream) => {
  const pen = Object.assign(document.createElement("canvas"), { width: 8, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  let [white, presented] = [true, 0];
  const look = (now, frame) => {
    video.requestVideoFrameCallback(look);
    shownAt.push(Date.now());
    const top = video.videoHeight * 0.85;
    pen.drawImage(video, 0, top, video.videoWidth, video.videoHeight - top - 8, 0, 0, 8, 1);
    const data = pen.getImageData(0, 0, 8, 1).data;
    const bright = data.reduce((sum, value, at) => sum + (at % 4 < 3 ? value : 0), 0) / 24;
    const late = frame.presentedFrames - presented > 1;
    if (bright > 170 && !white && !late) flashes.push(frame.expectedDisplayTime ?? now);
    [white, presented] = [bright > 130, frame.presentedFrames];
  };
  video.requestVideoFrameCallback(look);
  window.listenTo(stream, beeps);
};
window.listenTo = (stream, beeps) => {
  const context = new AudioContext();
  const rate = context.sampleRate / 1000;
  const ear = context.createAnalyser();
  // A third of a second: a page that is busy for so long still hears where a beep began.
  const heard = new Float32Array((ear.fftSize = 16384));
  let [source, listenedTo, loudUntil] = [null, null, 0];
  setInterval(() => {
    const track = stream().getAudioTracks()[0] ?? null;
    if (track !== listenedTo) {
      source?.disconnect();
      source = track && context.createMediaStreamSource(new MediaStream([track]));
      source?.connect(ear);
      listenedTo = track;
    }
    ear.getFloatTimeDomainData(heard);
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    const end = performanceTime + (context.currentTime - contextTime) * 1000;
    const began = end - heard.length / rate;
    heard.forEach((value, at) => {
      const moment = began + at / rate;
      if (Math.abs(value) < 0.25 || moment <= loudUntil) return;
      if (moment - loudUntil > 300) beeps.push(moment);
      loudUntil = moment;
    });
  }, 50);
};
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
  const { CameraService } = await import(location.origin + "/static/js/camera_service.js");
  const { SFUClient } = await import(location.origin + "/static/js/sfu_client.js");
  window.camera = publish ? new CameraService() : null;
  if (publish) await camera.startCamera("user");
  window.client = new SFUClient(roomId, null, camera);
  window.states = [];
  client.onConnectionState = (state) => states.push([Date.now(), state]);
  client.onLost = (error) => states.push([Date.now(), "lost " + error.code]);
  const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true, playsInline: true });
  const audio = Object.assign(document.createElement("audio"), { autoplay: true });
  document.body.prepend(video, audio);
  window.watched = camera?.stream ?? new MediaStream();
  if (publish) video.srcObject = camera.stream;
  client.onRemoteStream = (stream) => {
    if (publish) return;
    window.watched = video.srcObject = audio.srcObject = stream;
  };
  watchLips(video, () => watched);
  await client.joinAsParticipant({ publish });
}"""
_LIPS = """() => {
  const sinceEpoch = (moment) => performance.timeOrigin + moment;
  return [flashes.map(sinceEpoch), beeps.map(sinceEpoch)];
}"""
_SIGN_IN = """async ([email, password]) => {
  const body = new FormData(document.querySelector("form[action='/login']"));
  body.set("email", email);
  body.set("password", password);
  const answer = await fetch("/login", { method: "POST", body });
  return new URL(answer.url).pathname;
}"""


class Reading(msgspec.Struct, frozen=True):
    """What getStats had counted, over all connections of a page, at one moment (Unix seconds)."""

    at: float
    counts: dict[str, float]
    states: str

    def since(self, before: Reading, name: str) -> float:
        """How much was counted since ``before``."""
        return self.counts.get(name, 0.0) - before.counts.get(name, 0.0)


def script(*, repair: bool) -> str:
    """What runs before everything else in a page."""
    return f"() => {{ {_WATCH if repair else _WATCH + _WITHOUT_REPAIR} }}"


async def sign_in(page: Page, url: str, email: str, password: str) -> None:
    """Be somebody. RuntimeError when refused."""
    await page.goto(f"{url}/login")
    if await page.evaluate(_SIGN_IN, [email, password]) == "/login":
        raise RuntimeError(f"{email} was not let in")
    await page.goto(url)


async def join(page: Page, room_id: str, *, publish: bool) -> None:
    """Take a seat with our own modules."""
    await page.evaluate(_JOIN, [room_id, publish])
    if not publish:
        await until(page, "shownAt.length > 10")


async def read(page: Page) -> Reading:
    """What getStats says now."""
    said: dict[str, Any] = await page.evaluate("() => readStats()")
    counts = {name: float(value) for name, value in said["sum"].items() if name != "states"}
    return Reading(at=said["at"] / 1000, counts=counts, states=said["sum"]["states"])


async def shown(page: Page) -> list[float]:
    """When each picture was shown, Unix seconds."""
    return [at / 1000 for at in await page.evaluate("() => shownAt")]


async def forget_lips(*pages: Page) -> None:
    """Flashes and beeps count from now on."""
    await asyncio.gather(*(page.evaluate("() => { flashes.length = beeps.length = 0; }") for page in pages))


async def flashes_and_beeps(page: Page) -> list[tuple[float, float]]:
    """When each flash was, in milliseconds since 1970, and by how many its beep came after it."""
    return offsets(*await page.evaluate(_LIPS))


async def beliefs(page: Page) -> list[tuple[float, float]]:
    """By how many milliseconds sound came after picture, as the browser believes, with when that was (milliseconds
    since 1970); nothing from who does not say."""
    return [(at, apart) for at, apart in await page.evaluate("() => beliefs")]


def offsets(flashes: list[float], beeps: list[float]) -> list[tuple[float, float]]:
    """Each flash with the nearest beep, if it is the same second's."""
    nearest = ((flash, min((beep - flash for beep in beeps), key=abs, default=math.inf)) for flash in flashes)
    return [(flash, offset) for flash, offset in nearest if abs(offset) < LONGEST_OFFSET_MS]


def added(source: list[tuple[float, float]], came: list[tuple[float, float]]) -> list[float]:
    """By how many milliseconds more sound came after picture than it was sent: each flash against the latest one
    that was not later at the source."""
    found = []
    for flash, offset in came:
        sent = [(at, there) for at, there in source if flash - LONGEST_WAY_MS < at <= flash + CLOCKS_MS]
        if sent:
            found.append(offset - max(sent)[1])
    return found
