"""GStreamer's webrtcbin (libnice) as an encoder and as a player: ``encode URL KEY`` or ``play URL BEARER``.

Runs on Debian's Python, whose ``gi`` knows GStreamer, until SIGTERM. One JSON line for whatever happens.
"""

import json
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODER = (
    "webrtcbin name=peer bundle-policy=max-bundle "
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=30/1 ! videoconvert ! "
    "video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=60 bframes=0 ! "
    "video/x-h264,profile=main ! "
    "rtph264pay config-interval=-1 ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! peer. "
    "audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer."
)
BASELINE = "packetization-mode=(string)1,profile-level-id=(string)42e01f"
HEARD = (
    f"application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,{BASELINE}",
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000",
)


def say(**news: object) -> None:
    print(json.dumps(news), flush=True)


class Client:
    """One connection, offered by us once all candidates are known."""

    def __init__(self, role: str, url: str, bearer: str) -> None:
        self.url, self.bearer, self.resource = url, bearer, ""
        self.counts = {"audio": 0, "video": 0}
        self.loop = GLib.MainLoop()
        directions = GstWebRTC.WebRTCRTPTransceiverDirection
        if role == "encode":
            self.pipeline = Gst.parse_launch(ENCODER)
            self.peer = self.pipeline.get_by_name("peer")
            self.peer.connect("on-negotiation-needed", lambda peer: self.offer(directions.SENDONLY))
        else:
            self.pipeline, self.peer = Gst.Pipeline.new("player"), Gst.ElementFactory.make("webrtcbin", "peer")
            self.peer.set_property("bundle-policy", 3)
            self.pipeline.add(self.peer)
            for caps in HEARD:
                self.peer.emit("add-transceiver", directions.RECVONLY, Gst.Caps.from_string(caps))
            self.peer.connect("pad-added", self.decode)
        self.peer.connect("notify::ice-gathering-state", lambda *_: self.gathered())
        self.peer.connect("notify::connection-state", lambda *_: self.changed())
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: say(error=str(message.parse_error())))
        GLib.timeout_add(500, lambda: say(counts=self.counts) or True)
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, self.stop)
        self.pipeline.set_state(Gst.State.PLAYING)
        if role != "encode":
            self.offer(directions.RECVONLY)

    def offer(self, direction: object) -> None:
        for index in range(2):
            self.peer.emit("get-transceiver", index).set_property("direction", direction)

        def made(promise: Gst.Promise, _: object) -> None:
            promise.wait()
            reply = promise.get_reply()
            # The description cannot be handed back as it is: Python's copy of it is empty.
            offer = reply.get_value("offer")
            text = offer.sdp.as_text()
            self.peer.emit("set-local-description", described("OFFER", text), Gst.Promise.new())

        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(made, None))

    def gathered(self) -> None:
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if self.resource or self.peer.get_property("ice-gathering-state") != complete:
            return
        text = self.peer.get_property("local-description").sdp.as_text()
        with self.request(self.url, "POST", text.encode()) as answer:
            say(posted=answer.status)
            self.resource = urllib.parse.urljoin(self.url, answer.headers["Location"])
            reply = described("ANSWER", answer.read().decode())
        self.peer.emit("set-remote-description", reply, Gst.Promise.new())

    def request(self, url: str, method: str, body: bytes | None = None):
        headers = {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/sdp"}
        return urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))

    def changed(self) -> None:
        state = self.peer.get_property("connection-state").value_nick
        say(state=state)
        if state in ("failed", "closed", "disconnected"):
            self.stop()

    def decode(self, _: object, pad: Gst.Pad) -> None:
        decoder = Gst.ElementFactory.make("decodebin")
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        decoder.connect("pad-added", self.count)
        pad.link(decoder.get_static_pad("sink"))

    def count(self, _: object, pad: Gst.Pad) -> None:
        kind = "video" if "video/" in pad.get_current_caps().to_string() else "audio"
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)

        def one(*_: object) -> None:
            self.counts[kind] += 1

        sink.connect("handoff", one)
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def stop(self) -> bool:
        if self.resource:
            resource, self.resource = self.resource, ""
            try:
                with self.request(resource, "DELETE") as answer:
                    say(deleted=answer.status)
            except urllib.error.HTTPError as error:
                say(deleted=error.code)
        self.loop.quit()
        return False


def described(kind: str, text: str) -> GstWebRTC.WebRTCSessionDescription:
    _, message = GstSdp.SDPMessage.new_from_text(text)
    return GstWebRTC.WebRTCSessionDescription.new(getattr(GstWebRTC.WebRTCSDPType, kind), message)


Gst.init(None)
client = Client(*sys.argv[1:4])
client.loop.run()
client.pipeline.set_state(Gst.State.NULL)
