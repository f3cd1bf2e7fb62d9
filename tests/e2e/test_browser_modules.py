"""The browser modules in real Chromium with a fake camera, against a small node of real ICE and DTLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from bench.chromium_flags import with_camera
from models import settlement
from models.timing import timers_for
from tests.e2e.conftest import PATIENCE_MS
from tests.e2e.small_node import SmallNode

CHROMIUM = "/usr/bin/chromium"
FLAGS = with_camera("device-count=3,fps=10")
# What a browser does at the end of a call, in the order in which it does it.
WATCH_THE_END = """
window.seen = [];
const note = (word) => window.seen.push(word);
const wrap = (prototype, name, word) => {
  const original = prototype[name];
  prototype[name] = function (...args) { note(word(this)); return original.apply(this, args); };
};
wrap(MediaStreamTrack.prototype, "stop", (track) => "released " + track.kind);
wrap(RTCPeerConnection.prototype, "close", () => "closed connection");
const source = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
Object.defineProperty(HTMLMediaElement.prototype, "srcObject", {
  ...source,
  set(value) {
    if (!value && this.id) note("black " + this.id + (this.muted ? " muted" : ""));
    source.set.call(this, value);
  },
});
const append = Element.prototype.append;
Element.prototype.append = function (...nodes) {
  for (const node of nodes) if (node.role === "alert") note("said " + node.textContent);
  append.apply(this, nodes);
};
undefined;
"""
JOIN = """
async ([roomId, userId, publish]) => {
  document.cookie = "user=" + userId;
  const { CameraService } = await import("/js/camera_service.js");
  const { PrivateCallClient } = await import("/js/private_call_client.js");
  document.body.innerHTML = '<main><video id="video" width="320"></video><audio id="audio"></audio></main>';
  window.camera = new CameraService();
  if (publish) await camera.startCamera("user");
  window.client = new PrivateCallClient(roomId, userId, camera);
  window.said = { clocks: [], states: [], terminated: [] };
  client.onClock = (clock) => said.clocks.push(clock);
  client.onConnectionState = (state) => said.states.push(state);
  client.onTerminated = (...all) => said.terminated.push(all);
  client.onRemoteStream = (stream) => { said.tracks = stream.getTracks().length; };
  client.attachStreamElements(document.getElementById("video"), document.getElementById("audio"));
  await client.joinAsParticipant({ publish });
}
"""
PICTURE_SUM = """
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 18 });
  const pen = canvas.getContext("2d");
  pen.drawImage(document.getElementById("video"), 0, 0, 32, 18);
  return pen.getImageData(0, 0, 32, 18).data.filter((_, at) => at % 4 < 3).reduce((sum, each) => sum + each, 0);
}
"""
DECODED = "document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames"
# An hls.js that plays nothing, and notes what it is told.
STILL_HLS = """
const policy = { default: {} };
export default class Hls {
  static isSupported() { return true; }
  static Events = { MANIFEST_PARSED: "parsed", LEVEL_SWITCHED: "level", FRAG_BUFFERED: "part", ERROR: "error" };
  static ErrorTypes = { MEDIA_ERROR: "media" };
  static DefaultConfig = { manifestLoadPolicy: policy, playlistLoadPolicy: policy, fragLoadPolicy: policy };
  levels = [{ height: 480 }];
  heard = {};
  constructor() { window.hls = this; }
  on(name, call) { this.heard[name] = call; }
  loadSource(url) { done.push(url); }
  attachMedia() { this.heard.parsed(); }
  startLoad() { done.push("goes on"); }
  destroy() {}
}
"""
WATCH = """
async () => {
  const { SpectatorPlayer } = await import("/js/spectator_player.js");
  const video = document.createElement("video");
  video.play = async () => {};
  Object.defineProperties(video, { paused: { value: false }, readyState: { value: 4 } });
  Object.assign(window, { done: [], said: [], player: new SpectatorPlayer(video) });
  player.onState = (state) => said.push(state);
  player.onRefused = (error) => said.push(error.code);
  await player.play("live-1");
}
"""
DOWN = {"code": "UNAVAILABLE", "detail": "The database does not answer."}
HLS_GIVES_UP = "hls.heard.error('error', { fatal: true, type: 'network' })"


@pytest.fixture(scope="module")
def three_cameras(chromium: Browser) -> Iterator[Browser]:
    """A Chromium with three fake cameras; the second shows depth, which no encoder takes."""
    browser = launch(chromium)
    yield browser
    browser.close()


def launch(chromium: Browser, *flags: str) -> Browser:
    return chromium.browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


@pytest.fixture
def node() -> Iterator[SmallNode]:
    started = SmallNode()
    started.start()
    yield started
    started.stop()


@pytest.fixture
def open_page(three_cameras: Browser, node: SmallNode) -> Iterator[Callable[[], Page]]:
    """A page of a person of its own; one that throws anything unexpected fails the test."""
    contexts = []
    thrown: list[Any] = []

    def make() -> Page:
        context = three_cameras.new_context()
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(error))
        page.goto(node.url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert thrown == []


def start_camera(page: Page) -> dict[str, Any]:
    settings: dict[str, Any] = page.evaluate(
        """async () => {
          const { CameraService } = await import("/js/camera_service.js");
          window.camera = new CameraService();
          await camera.startCamera("environment");
          const { width, height } = camera.videoTrack.getSettings();
          return { width, height, audio: camera.audioTrack?.readyState };
        }"""
    )
    return settings


def refuse_with(page: Page, name: str) -> dict[str, str]:
    """How the service explains a browser that refuses with ``name``."""
    told: dict[str, str] = page.evaluate(
        """async (name) => {
          const { CameraService } = await import("/js/camera_service.js");
          const mediaDevices = { getUserMedia: async () => { throw new DOMException("no", name); } };
          try { await new CameraService({ mediaDevices }).startCamera("user"); }
          catch (error) { return { type: error.name, code: error.code, words: error.words, help: error.help }; }
        }""",
        name,
    )
    return told


def picture(page: Page) -> int:
    total: int = page.evaluate(PICTURE_SUM)
    return total


def call_of_two(open_page: Callable[[], Page]) -> tuple[Page, Page]:
    """Creator and fan in one private room, the creator's picture moving at the fan."""
    creator, fan = open_page(), open_page()
    creator.evaluate(JOIN, ["private-s1", "creator", True])
    fan.evaluate(WATCH_THE_END)
    fan.evaluate(JOIN, ["private-s1", "fan", True])
    fan.wait_for_function(f"{DECODED} > 10")
    return creator, fan


def until(page: Page, holds: Callable[[], bool], what: str) -> None:
    """Wait for what the node has heard."""
    for _ in range(1_200):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError(what)


class TestCameraService:
    def test_a_device_without_that_camera_gives_another_in_720p(self, open_page: Callable[[], Page]) -> None:
        # given fake cameras that face nowhere, when the back one is asked for, then one opens all the same
        assert start_camera(open_page()) == {"width": 1280, "height": 720, "audio": "live"}

    def test_toggling_keeps_the_stream_and_tells_of_the_new_track(self, open_page: Callable[[], Page]) -> None:
        page = open_page()
        start_camera(page)
        seen = page.evaluate(
            """async () => {
              const stream = camera.stream, old = camera.videoTrack, device = old.getSettings().deviceId;
              const told = [];
              camera.ontrackchange = (kind, track) => told.push([kind, track === camera.videoTrack]);
              await camera.toggleCamera();
              const now = camera.videoTrack;
              return { told, sameStream: stream === camera.stream, old: old.readyState, now: now.readyState,
                otherDevice: now.getSettings().deviceId !== device, tracks: stream.getTracks().length };
            }"""
        )
        assert seen == {
            "told": [["video", True]],
            "sameStream": True,
            "old": "ended",
            "now": "live",
            "otherDevice": True,
            "tracks": 2,
        }

    def test_a_frame_is_a_jpeg_of_the_camera_s_size(self, open_page: Callable[[], Page]) -> None:
        page = open_page()
        start_camera(page)
        frame = page.evaluate(
            """async () => {
              const blob = await camera.captureFrame();
              const bitmap = await createImageBitmap(blob);
              return { type: blob.type, width: bitmap.width, height: bitmap.height };
            }"""
        )
        assert frame == {"type": "image/jpeg", "width": 1280, "height": 720}

    def test_stopping_releases_everything_also_what_is_only_opening(self, open_page: Callable[[], Page]) -> None:
        page = open_page()
        start_camera(page)
        seen = page.evaluate(
            """async () => {
              const tracks = camera.stream.getTracks();
              camera.stopCamera();
              const opening = camera.startCamera("user").catch((error) => error.name);
              camera.stopCamera();
              const active = camera.active, again = (await camera.startCamera("user")).getTracks().length;
              return { tracks: tracks.map((track) => track.readyState), active, opening: await opening, again };
            }"""
        )
        assert seen == {"tracks": ["ended", "ended"], "active": False, "opening": "CameraError", "again": 2}

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("NotAllowedError", "CAMERA_REFUSED"),
            ("NotFoundError", "CAMERA_NOT_FOUND"),
            ("NotReadableError", "CAMERA_BUSY"),
            ("TypeError", "CAMERA_FAILED"),
        ],
    )
    def test_each_refusal_of_the_browser_has_a_code_and_words(
        self, open_page: Callable[[], Page], name: str, code: str
    ) -> None:
        told = refuse_with(open_page(), name)
        assert (told["type"], told["code"]) == ("CameraError", code)
        assert told["words"].endswith(".")

    def test_without_https_that_is_what_it_says(self, chromium: Browser, node: SmallNode) -> None:
        # given a name that no browser takes for local, when the camera is asked for, then HTTPS is named
        browser = launch(chromium, "--host-resolver-rules=MAP plain.test 127.0.0.1")
        page = browser.new_page()
        page.goto(node.url.replace("localhost", "plain.test"))
        assert refuse_with(page, "NotAllowedError")["code"] == "NO_HTTPS"
        browser.close()

    def test_no_microphone_gives_the_picture_alone(self, open_page: Callable[[], Page]) -> None:
        kinds = open_page().evaluate(
            """async () => {
              const { CameraService } = await import("/js/camera_service.js");
              const mediaDevices = { getUserMedia: async (wish) => {
                if (wish.audio) throw new DOMException("none", "NotFoundError");
                return navigator.mediaDevices.getUserMedia(wish);
              } };
              const camera = new CameraService({ mediaDevices });
              return (await camera.startCamera("user")).getTracks().map((track) => track.kind);
            }"""
        )
        assert kinds == ["video"]


class TestCallBill:
    """What the call page says that ending now costs is what the server would bill."""

    def test_it_is_the_servers_bill(self, open_page: Callable[[], Page]) -> None:
        cases = [
            (role, state, paused_for_ms, minimum, delivered_ms, included, unlock)
            for role in ("fan", "creator")
            for state, paused_for_ms in (("running", 0), ("paused", 9_999), ("paused", 10_000), ("waiting", 0))
            for minimum in (1, 5)
            for delivered_ms in (0, 1, 59_999, 60_000, 60_001, 322_000, 599_999, 600_000)
            for included, unlock in ((0, 0), (3, 0), (10, 0), (0, 11), (3, 11))
        ]
        seen = open_page().evaluate(
            """async (cases) => {
              const { endNow } = await import("/js/call_bill.js");
              const same = { minuteMs: 60_000, ratePerMinute: 7, commissionPercent: 20 };
              return cases.map((given) => {
                const [role, state, pausedForMs, minMinutes, deliveredMs, includedMinutes, unlockPrice] = given;
                const clock = { state, deliveredMs, paidMs: 600_000, pausedForMs };
                const session = { ...same, role, minMinutes, includedMinutes, unlockPrice };
                session.totalHeld = (10 - includedMinutes) * 7 + unlockPrice;
                const { minutes, tokens, back, included } = endNow(session, clock);
                return [minutes, tokens, back, included];
              });
            }""",
            cases,
        )
        assert seen == [server_bill(*case) for case in cases]


    def test_minutes_of_a_subscription_are_part_of_it_in_words(self, open_page: Callable[[], Page]) -> None:
        said = open_page().evaluate(
            """async () => {
              const price = { priceTokens: 200, priceMinor: 1000, currency: "USD" };
              Object.assign(document.documentElement.dataset, price);
              const { endNow } = await import("/js/call_bill.js");
              const { aheadWords, endNowWords, thirdRow } = await import("/js/call_words.js");
              const same = { minuteMs: 60_000, ratePerMinute: 90, commissionPercent: 20, minMinutes: 5,
                             unlockPrice: 0, includedMinutes: 5, counterpart: { displayName: "Creator A" } };
              const clock = { state: "running", deliveredMs: 4_000, paidMs: 360_000, pausedForMs: 0 };
              const said = (role, totalHeld) => {
                const session = { ...same, role, totalHeld, paidMinutes: 5 + totalHeld / 90 };
                const now = endNowWords(session, endNow(session, clock), clock);
                return [aheadWords(session), now.title, now.words, now.short, thirdRow(session, 7).value];
              };
              return [said("fan", 90), said("fan", 0), said("creator", 0)];
            }"""
        )
        assert said == [
            [
                "6 min: 5 of your subscription, and 90 tokens",
                "5 minutes of your subscription",
                "0:04 delivered; the minimum is 5 minutes. 90 tokens ($4.50) come back.",
                "End now: 5 minutes of your subscription. 90 tokens come back.",
                "7 tokens",
            ],
            [
                "5 min, all of your subscription",
                "5 minutes of your subscription",
                "0:04 delivered; the minimum is 5 minutes. Nothing comes back.",
                "End now: 5 minutes of your subscription. Nothing comes back.",
                "7 tokens",
            ],
            [
                "5 min, all of the subscription",
                "You earn nothing",
                "0:04 delivered, whole minutes only, no minimum. The fan gets all included minutes back.",
                "End now: you earn nothing.",
                "paid by the subscription",
            ],
        ]


def server_bill(
    role: str, state: str, paused_for_ms: int, minimum: int, delivered_ms: int, included: int, unlock: int
) -> list[int]:
    row = settlement.FAN_LEFT if role == "fan" else settlement.CREATOR_LEFT
    if role == "fan" and state == "waiting":
        row = settlement.CREATOR_NO_SHOW
    elif role == "fan" and state == "paused" and paused_for_ms >= timers_for(60_000).pause_leave_ms:
        row = settlement.CREATOR_LEFT
    bill = settlement.bill(
        row,
        total_held=(10 - included) * 7 + unlock,
        included_minutes=included,
        unlock_price=unlock,
        live=state != "waiting",
        min_minutes=minimum,
        paid_ms=600_000,
        delivered_ms=delivered_ms,
        rate=7,
        commission_percent=20,
        minute_ms=60_000,
    )
    tokens = bill.charged if role == "fan" else bill.earnings
    return [bill.billed_minutes, tokens, bill.refunded, bill.included_used]


class TestSFUClient:
    def test_two_see_each_other(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        creator, fan = call_of_two(open_page)
        creator.wait_for_function(f"{DECODED} > 10")
        assert picture(fan) > 0
        offers = [each["sdp"] for each in node.seats["creator"].heard if each["type"] == "OFFER"]
        assert offers
        assert not any("a=simulcast:" in sdp for sdp in offers), "one viewer needs one size"

    def test_a_stream_is_shown_before_its_tracks_come(self, open_page: Callable[[], Page]) -> None:
        # Else Chromium plays its sound later, and lips no longer match.
        _, fan = call_of_two(open_page)
        assert fan.evaluate("said.tracks") == 0
        assert fan.evaluate("[...client.streams.values()].map((stream) => stream.getTracks().length)") == [2]

    def test_a_large_camera_goes_out_in_three_sizes(self, open_page: Callable[[], Page]) -> None:
        offered = """async ([width, height, simulcast]) => {
          const { Publisher } = await import("/js/publisher.js");
          const stream = await navigator.mediaDevices.getUserMedia({ video: { width, height } });
          const offers = [];
          const publisher = new Publisher([], (message) => offers.push(message), { simulcast });
          publisher.publish(stream.getTracks());
          const said = () => offers.some(({ type }) => type === "OFFER");
          while (!said()) await new Promise((resolve) => setTimeout(resolve, 50));
          const encodings = publisher.pc.getSenders()[0].getParameters().encodings;
          publisher.close();
          stream.getTracks().forEach((track) => track.stop());
          return encodings.map(({ rid, scaleResolutionDownBy }) => [rid ?? "", scaleResolutionDownBy]);
        }"""
        page = open_page()
        assert page.evaluate(offered, [1280, 720, True]) == [["l", 4], ["m", 2], ["h", 1]]
        assert [rid for rid, _ in page.evaluate(offered, [640, 480, True])] == [""]
        assert [rid for rid, _ in page.evaluate(offered, [1280, 720, False])] == [""]

    def test_on_another_network_both_ways_are_looked_for_again(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        creator, _ = call_of_two(open_page)
        creator.wait_for_function(f"{DECODED} > 10")
        heard = node.seats["creator"].heard
        # when the browser says that it is back on a network
        creator.evaluate("dispatchEvent(new Event('online'))")
        # then it offers its own tracks anew, under another name, and asks for the others' offer
        until(creator, lambda: {"type": "RESTART_ICE", "pc": "subscribe"} in heard, "it asks")
        until(creator, lambda: [each["type"] for each in heard].count("OFFER") >= 2, "it offers")
        names = [re.findall("a=ice-ufrag:(.*)", each["sdp"])[0] for each in heard if each["type"] == "OFFER"]
        assert names[0] != names[1]

    def test_lost_sound_is_offered_to_be_sent_again(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        creator, _ = call_of_two(open_page)
        creator.wait_for_function(f"{DECODED} > 10")
        (said,) = {re.findall(r"a=rtpmap:(\d+) opus.*\r\na=rtcp-fb:\1 nack\r", each["sdp"] + "\r")[0]
                   for each in node.seats["creator"].heard if each["type"] == "OFFER"}  # fmt: skip
        # Chromium has no such line by itself, and took it as its own.
        described = creator.evaluate("client.peerConnections[0].localDescription.sdp")
        assert f"a=rtcp-fb:{said} nack\r\n" in described

    def test_both_channels_of_an_encoders_sound_are_to_be_heard(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        creator, _ = call_of_two(open_page)
        creator.wait_for_function(f"{DECODED} > 10")
        answers = [each["sdp"] for each in node.seats["creator"].heard if each["type"] == "ANSWER"]
        described = creator.evaluate("client.peerConnections[1].localDescription.sdp")
        for sdp in (*answers, described):
            (opus,) = re.findall(r"a=rtpmap:(\d+) opus/", sdp)
            assert re.search(rf"a=fmtp:{opus} .*\bstereo=1\b", sdp), "Chromium took it as its own"

    def test_what_another_parameter_is_called_is_not_what_it_hears(self, open_page: Callable[[], Page]) -> None:
        add = """async (parameters) => {
          const { withStereo } = await import("/js/sound_repair.js");
          const sdp = (each) => `a=rtpmap:111 opus/48000/2\\r\\na=fmtp:111 ${each}\\r\\n`;
          return parameters.map((each) => withStereo(sdp(each)).includes(`${each};stereo=1\\r`));
        }"""
        said = ["minptime=10", "sprop-stereo=1", "stereo=0", "minptime=10;stereo=1", "sprop-stereo=1; stereo=1"]
        assert open_page().evaluate(add, said) == [True, True, False, False, False]

    def test_a_description_that_nobody_changed_is_not_tried_twice(self, open_page: Callable[[], Page]) -> None:
        describe = """async (made) => {
          const { describe } = await import("/js/sound_repair.js");
          const tried = [];
          const refuse = async ({ sdp }) => {
            tried.push(sdp);
            if (tried.length === 1) throw new DOMException("closed", "InvalidStateError");
          };
          const pc = { createOffer: async () => ({ type: "offer", sdp: made }), setLocalDescription: refuse };
          const told = await describe(pc, "offer").then(() => "set", (error) => error.name);
          return [told, tried.length, tried.at(-1) === made];
        }"""
        page = open_page()
        # given no sound, there is nothing to say: what the browser refuses then is for the caller
        assert page.evaluate(describe, "v=0\r\n") == ["InvalidStateError", 1, True]
        # given sound, then the browser's own words are tried after ours
        assert page.evaluate(describe, "a=rtpmap:111 opus/48000/2\r\n") == ["set", 2, True]

    def test_silence_is_noticed_where_packets_flowed_and_not_where_they_came_rarely(
        self, open_page: Callable[[], Page]
    ) -> None:
        alarms = """async (counts) => {
          const { LinkWatch } = await import("/js/link_watch.js");
          const watch = new LinkWatch(() => []);
          const [seen, connection] = [[], {}];
          let now = 0;
          watch.onSilence = () => seen.push(now);
          for (const count of counts) {
            if (count === null) watch.excuse();
            else watch.looked(connection, count, (now += 200));
          }
          return [seen, watch.hasHeard(1000)];
        }"""
        page = open_page()
        flow = [100, 200, 300, 400, 500]
        # packets that stop after the look at 1,000 ms are missed at 1,600, and again every 1.5 s, thrice at most
        assert page.evaluate(alarms, flow + [500] * 40) == [[1600, 3200, 4600], False]
        # a hiccup is none, and paths that are given up are no packets; after one there is more patience
        assert page.evaluate(alarms, [*flow, 500, 500, 600, 700]) == [[], True]
        assert page.evaluate(alarms, [*flow, 500, 500, 600, *[50] * 8]) == [[3200], True]
        # a microphone that falls silent sends every 400 ms, and one of those may be lost
        assert page.evaluate(alarms, [*flow, 500, 501, 501, 502, 502, 503, 503, 503, 503, 504])[0] == []
        # what comes now and then, and what stops as somebody left, is not missed
        assert page.evaluate(alarms, [1, 1, 2, 2, 3, 3] + [3] * 20)[0] == []
        assert page.evaluate(alarms, [*flow, None, *[500] * 20])[0] == []

    def test_where_neither_packets_nor_signaling_come_the_seat_is_taken_over_another_socket(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        creator, _ = call_of_two(open_page)
        creator.wait_for_function(f"{DECODED} > 30")
        # when the node hears its socket no more, and nothing is counted as received any more
        node.turn_away("creator")
        creator.evaluate("""() => {
          const count = RTCPeerConnection.prototype.getStats;
          const last = new WeakMap();
          RTCPeerConnection.prototype.getStats = async function () {
            if (!last.has(this)) last.set(this, await count.call(this));
            return last.get(this);
          };
        }""")
        # then it makes sure that another socket is heard, and comes back over that one
        until(creator, lambda: "creator" in node.asked_first, "it comes back")
        creator.wait_for_function("said.states.at(-1) === 'connected' && said.states.includes('reconnecting')")
        creator.wait_for_function("client.peerConnections.every((pc) => pc.connectionState === 'connected')")

    def test_a_doubt_is_settled_by_whichever_socket_answers(self, open_page: Callable[[], Page]) -> None:
        settle = """async ([lives, heard, spares, roundTrip = 0]) => {
          const { settleDoubt } = await import("/js/link_watch.js");
          const [never, now] = [new Promise(() => {}), Promise.resolve(true)];
          let bringLate;
          const later = new Promise((resolve) => (bringLate = resolve));
          const closed = [];
          let tries = 0;
          let quiet = true;
          const openSpare = async () => {
            const name = spares[tries++];
            if (name === undefined) quiet = false;
            if (name === "refused" || name === undefined) throw new Error(name);
            if (name === "late") await later;
            if (heard) quiet = false;
            const ping = () => (name === "mute" ? never : now);
            return { name, socket: { ping, close: () => closed.push(name) } };
          };
          // No wait takes any time here, and the shortest ends first.
          const wait = window.setTimeout;
          const waits = [];
          window.setTimeout = (then, ms) => (waits.push(ms), wait(then, 0));
          const socket = { roundTrip, ping: () => (lives ? now : never) };
          const { answered, spare } = await settleDoubt(socket, () => quiet, openSpare);
          window.setTimeout = wait;
          bringLate();
          await new Promise((resolve) => wait(resolve, 0));
          window.waits = waits;
          return [answered, spare?.name ?? null, tries, closed];
        }"""
        page = open_page()
        # a socket that answers: no other is even tried
        assert page.evaluate(settle, [True, False, ["spare"]]) == [True, None, 0, []]
        # one that does not: the first other one that lives is taken
        assert page.evaluate(settle, [False, False, ["refused", "mute", "spare"]]) == [False, "spare", 3, ["mute"]]
        # one that hangs is not waited for, and closed when it comes after all
        assert page.evaluate(settle, [False, False, ["late", "spare"]]) == [False, "spare", 2, ["late"]]
        # on a long line an answer is waited for before another socket is tried
        assert [page.evaluate(settle, [False, False, ["spare"], trip]) and page.evaluate("waits[0]")
                for trip in (0, 90, 400)] == [150, 150, 600]  # fmt: skip
        # what comes on any other way meanwhile ends the doubt, and nothing has happened
        assert page.evaluate(settle, [False, True, ["spare"]]) == [False, None, 1, ["spare"]]

    def test_switching_the_camera_keeps_the_sender(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        # given the third camera, on air
        creator, fan = call_of_two(open_page)
        creator.evaluate("camera.listDevices().then(({ cameras }) => camera.chooseCamera(cameras[2].deviceId))")
        before = fan.evaluate(DECODED)
        fan.wait_for_function(f"{DECODED} > {before} + 20")
        # when the next one is taken, then pictures go on from the same sources
        before = fan.evaluate(DECODED)
        creator.evaluate("camera.toggleCamera()")
        fan.wait_for_function(f"{DECODED} > {before} + 20")
        # A machine that stood still may have made the page look for another way: the sources stay all the same.
        offers = [each["sdp"] for each in node.seats["creator"].heard if each["type"] == "OFFER"]
        assert len({tuple(re.findall(r"a=ssrc:(\d+) cname", sdp)) for sdp in offers}) == 1
        assert creator.evaluate(
            "client.peerConnections[0].getSenders().some(({ track }) => track === camera.videoTrack)"
        )

    def test_watching_only_publishes_nothing(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        creator, fan = open_page(), open_page()
        creator.evaluate(JOIN, ["private-s1", "creator", True])
        fan.evaluate(JOIN, ["private-s1", "fan", False])
        fan.wait_for_function(f"{DECODED} > 10")
        assert "OFFER" not in {each["type"] for each in node.seats["fan"].heard}

    def test_a_lost_socket_is_joined_again_with_a_fresh_grant(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        creator, _ = call_of_two(open_page)
        creator.evaluate("client.setMuted('audio', true)")
        node.refuse_next = ["UNAVAILABLE", "ROOM_NOT_FOUND"]
        node.drop("creator")
        creator.wait_for_function("said.states.at(-1) === 'connected' && said.states.includes('reconnecting')")
        assert [join["userId"] for join in node.joins].count("creator") == 4
        creator.wait_for_function("client.peerConnections.every((pc) => pc.connectionState === 'connected')")
        muted = {"type": "MUTE_TRACK", "kind": "audio", "muted": True}
        assert muted in node.seats["creator"].heard

    def test_a_refused_seat_is_not_asked_for_again(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        node.refuse_next = ["FORBIDDEN"]
        page = open_page()
        code = page.evaluate(f"(args) => ({JOIN})(args).catch((error) => error.code)", ["live-1", "x", False])
        assert (code, len(node.joins)) == ("FORBIDDEN", 1)

    def test_spectators_are_told_that_there_is_nothing_yet(self, open_page: Callable[[], Page]) -> None:
        code = open_page().evaluate(
            """async () => {
              document.cookie = "user=fan";
              const { SFUClient } = await import("/js/sfu_client.js");
              return new SFUClient("live-1", "fan").joinAsSpectator().catch((error) => error.code);
            }"""
        )
        assert code == "UNAVAILABLE"

    def test_the_quality_of_both_ways_is_handed_on_and_goes_no_further_than_is_known(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        # given a page that notes what it shows and what it says
        page = open_page()
        page.evaluate(JOIN, ["private-s1", "fan", False])
        page.evaluate(
            """async () => {
              const { CallQuality } = await import("/js/quality.js");
              window.quality = new CallQuality();
              window.shown = [];
              window.news = [];
              quality.onChange = (side, grade) => shown.push(side + " " + grade);
              quality.onNews = (side, grade) => news.push(side + " " + grade);
              const side = (userId) => (userId === "fan" ? "own" : "theirs");
              client.onConnectionQuality = (userId, grade) => quality.told(side(userId), grade, 0);
            }"""
        )
        # when the node grades both sides
        for user_id, grade in (("fan", "good"), ("creator", "good")):
            node.tell("fan", type="CONNECTION_QUALITY", userId=user_id, quality=grade)
        page.wait_for_function("shown.length === 2")
        # then that is shown, and good is no news
        assert page.evaluate("[shown, news]") == [["own good", "theirs good"], []]
        # when one gets worse and better and worse within seconds
        seen = page.evaluate(
            """() => {
              shown.length = 0;
              quality.told("theirs", "poor", 1000);
              quality.told("theirs", "fair", 2000);
              quality.told("theirs", "poor", 3000);
              return [shown, news];
            }"""
        )
        # then each is shown, and one is said
        assert seen == [["theirs poor", "theirs fair", "theirs poor"], ["theirs poor"]]
        # when a picture comes and is not decoded for four seconds, then that is our own side, until it moves
        seen = page.evaluate(
            """() => {
              shown.length = 0;
              const looks = [[1, 100], [1, 200], [1, 300], [9, 400]];
              const look = (frames, packets, at) => quality.looked({ id: "v", frames, packets }, at);
              looks.forEach(([frames, packets], at) => look(frames, packets, 20000 + 2000 * at));
              return shown;
            }"""
        )
        assert seen == ["own poor", "own good"]
        # when signaling is away, then the way is unknown while the picture comes, and lost when it does not
        seen = page.evaluate(
            """() => {
              shown.length = 0;
              quality.reached(false, 30000);
              quality.looked({ id: "v", frames: 9, packets: 400 }, 32000);
              quality.reached(true, 40000);
              return shown;
            }"""
        )
        assert seen == ["own null", "theirs null", "own lost", "own null"]

    def test_the_clock_is_handed_on(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        page = open_page()
        page.evaluate(JOIN, ["private-s1", "fan", False])
        clock = {"type": "SESSION_CLOCK", "state": "paused", "cause": "creator", "deliveredMs": 5, "paidMs": 9}
        node.tell("fan", **clock, ratePerMinute=100)
        page.wait_for_function("said.clocks.length === 1")
        assert page.evaluate("said.clocks[0].cause") == "creator"

    def test_leaving_says_so_and_lets_everything_go(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        _, fan = call_of_two(open_page)
        seat = node.seats["fan"]
        fan.evaluate("client.leave()")
        fan.wait_for_function("client.state === 'closed' && !camera.active && client.peerConnections.length === 0")
        node.run(seat.socket.wait_closed())
        assert seat.heard[-1] == {"type": "LEAVE_ROOM"}


def watched(page: Page, *answers: dict[str, Any]) -> Page:
    """A spectator's player whose picture moves, and what its next requests for an address are answered."""
    left = [address("A"), *answers]

    def answer(route: Route) -> None:
        given = left.pop(0) if len(left) > 1 else left[0]
        route.fulfill(json=given, status=503 if "code" in given else 200)

    script = {"body": STILL_HLS, "content_type": "text/javascript"}
    page.route("**/vendor/hls/hls.mjs", lambda route: route.fulfill(**script))
    page.route("**/api/streaming/spectate", answer)
    page.evaluate(WATCH)
    return page


def address(broadcast: str, *, ready: bool = True) -> dict[str, Any]:
    here = {"streamUrl": f"/live/live-1/{broadcast}/x/master.m3u8", "broadcastId": broadcast, "ready": ready}
    return {**here, "posterUrl": "", "tier": "free", "lowLatency": False, "expiresAt": "2100-01-01T00:00:00Z"}


class TestSpectatorPlayer:
    def test_a_renewal_without_an_answer_leaves_the_picture_alone(self, open_page: Callable[[], Page]) -> None:
        page = watched(open_page(), DOWN, address("A"))
        page.evaluate("player.renew()")
        assert page.evaluate("[said, done.length]") == [["loading"], 1]

    def test_what_never_stopped_is_said_to_play_when_it_goes_on(self, open_page: Callable[[], Page]) -> None:
        # given no answer when hls.js gives up, when there is one again, then it goes on and the page hears of it
        page = watched(open_page(), DOWN, address("A"))
        page.evaluate(HLS_GIVES_UP)
        page.wait_for_function("done.includes('goes on')")
        assert page.evaluate("said") == ["loading", "playing"]

    def test_another_broadcast_is_loaded_once_it_is_ready(self, open_page: Callable[[], Page]) -> None:
        page = watched(open_page(), address("B", ready=False), address("B"))
        page.evaluate(HLS_GIVES_UP)
        page.wait_for_function("done.length > 1")
        assert page.evaluate("done.slice(1)") == [address("B")["streamUrl"]]


class TestPrivateCallClient:
    def test_the_end_comes_in_the_order_of_the_contract(
        self, open_page: Callable[[], Page], node: SmallNode
    ) -> None:
        # given a call whose picture moves
        _, fan = call_of_two(open_page)
        assert picture(fan) > 0
        # when the server ends it
        fan.evaluate("seen.length = 0")
        node.terminate("fan", "PAYMENT_FAILED")
        fan.wait_for_function("said.terminated.length === 1")
        # then black and mute, released, closed, said: in this order
        seen = fan.evaluate("seen.filter((word, at) => seen.indexOf(word) === at)")
        assert seen == [
            "black video muted",
            "black audio muted",
            "released audio",
            "released video",
            "closed connection",
            "said Your private call has ended. Reason: PAYMENT FAILED",
        ]
        assert picture(fan) == 0
        state = fan.evaluate("[video.videoWidth, video.muted, audio.muted, camera.active]")
        assert state == [0, True, True, False]
        # and after a second the page goes where it is sent, with what /models needs to say it again
        fan.wait_for_url("**/models?ended=PAYMENT_FAILED&session=s1")

    def test_the_creator_keeps_the_camera(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        creator, _ = call_of_two(open_page)
        creator.evaluate("client.options.keepCamera = true; client.options.redirect = false")
        node.terminate("creator", "TIME_EXPIRED")
        creator.wait_for_function("said.terminated.length === 1")
        state = creator.evaluate("[camera.active, camera.videoTrack.readyState, client.state]")
        assert state == [True, "live", "closed"]
        assert picture(creator) == 0

    def test_it_never_goes_to_another_site(self, open_page: Callable[[], Page], node: SmallNode) -> None:
        page = open_page()
        page.evaluate(JOIN, ["private-s1", "fan", False])
        node.tell("fan", type="TERMINATE_CALL", reason="MODERATION", redirectUrl="https://elsewhere.test/")
        page.wait_for_url("**/models?ended=MODERATION&session=s1")
