"""Two browsers of ``bench-lips`` without us: connected to one another, over the lines that else lead to the node.

Same camera, same limits of bitrate, sound repaired as in our own pages; the two descriptions are carried by the
bench. What lies between sound and picture here is the browsers' own.
"""

from __future__ import annotations

from bench.impaired_browsers import Page, until

_OFFER = """async () => {
  const { CameraService } = await import(location.origin + "/static/js/camera_service.js");
  const { describe } = await import(location.origin + "/static/js/sound_repair.js");
  window.camera = new CameraService();
  await camera.startCamera("user");
  const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true, playsInline: true });
  document.body.prepend(video);
  video.srcObject = camera.stream;
  watchLips(video, () => camera.stream);
  window.pair = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const most = { audio: 64_000, video: 2_500_000 };
  for (const track of camera.stream.getTracks()) pair.addTransceiver(track, {
    direction: "sendonly", streams: [camera.stream],
    sendEncodings: [{ maxBitrate: most[track.kind], ...(track.kind === "video" && { maxFramerate: 30 }) }],
  });
  await describe(pair, "offer");
}"""
_ANSWER = """async (sdp) => {
  const { describe } = await import(location.origin + "/static/js/sound_repair.js");
  const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true, playsInline: true });
  const audio = Object.assign(document.createElement("audio"), { autoplay: true });
  document.body.prepend(video, audio);
  const stream = new MediaStream();
  video.srcObject = audio.srcObject = stream;
  watchLips(video, () => stream);
  window.pair = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  pair.addEventListener("track", ({ track }) => stream.addTrack(track));
  await pair.setRemoteDescription({ type: "offer", sdp });
  await describe(pair, "answer");
}"""


async def connect(publisher: Page, viewer: Page) -> None:
    """One sends, the other sees it."""
    await publisher.evaluate(_OFFER)
    await viewer.evaluate(_ANSWER, await _described(publisher))
    await publisher.evaluate(
        "async (sdp) => pair.setRemoteDescription({ type: 'answer', sdp })", await _described(viewer)
    )
    await until(viewer, "shownAt.length > 10")


async def _described(page: Page) -> str:
    """Its description, with every address that it has."""
    await until(page, "pair.iceGatheringState === 'complete'")
    sdp: str = await page.evaluate("() => pair.localDescription.sdp")
    return sdp
