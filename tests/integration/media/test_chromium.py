"""Real Chromium publishes to the plane and receives. How well is for the benches."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from playwright.async_api import Page, Route, async_playwright

from bench.chromium_flags import FLAGS
from media.plane import Peer
from tests.integration.media.media_clients import open_port

PUBLISH = """async (codec) => {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: true, video: {width: 1280, height: 720, frameRate: 30}});
  const pc = window.pc = new RTCPeerConnection();
  for (const track of stream.getTracks()) {
    const transceiver = pc.addTransceiver(track, {direction: 'sendonly', streams: [stream]});
    if (track.kind === 'video') {
      transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities('video').codecs
        .filter((c) => c.mimeType === 'video/' + codec || c.mimeType === 'video/rtx'));
    }
  }
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await acceptPublish(pc.localDescription.sdp)});
}"""
SUBSCRIBE = """async () => {
  const pc = window.pc = new RTCPeerConnection();
  window.streams = new Set();
  pc.ontrack = ({track, streams}) => {
    window.streams.add(streams[0].id);
    const element = document.createElement(track.kind);
    element.autoplay = true;
    element.srcObject = streams[0];
    document.body.append(element);
  };
  await pc.setRemoteDescription({type: 'offer', sdp: await offerSubscribe()});
  await pc.setLocalDescription();
  await acceptAnswer(pc.localDescription.sdp);
}"""
# The offer goes out late: by then Chromium uses its next port, under its new name and the node's old one.
RESTART_PUBLISH = """async () => {
  const used = async () => {
    const stats = await pc.getStats();
    const {selectedCandidatePairId} = [...stats.values()].find(({type}) => type === 'transport');
    return stats.get(selectedCandidatePairId).localCandidateId;
  };
  const before = await used();
  pc.restartIce();
  await pc.setLocalDescription();
  while (await used() === before) await new Promise((done) => setTimeout(done, 50));
  await pc.setRemoteDescription({type: 'answer', sdp: await acceptPublish(pc.localDescription.sdp)});
}"""
RESTART_SUBSCRIBE = """async () => {
  await pc.setRemoteDescription({type: 'offer', sdp: await offerSubscribe()});
  await pc.setLocalDescription();
  await acceptAnswer(pc.localDescription.sdp);
}"""
DTLS = """() => pc.getTransceivers()[0].receiver.transport.state + ' ' +
  pc.localDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]"""
NUMBERS = """() => pc.remoteDescription.sdp.includes(' transport-cc') && pc.getSenders().every((sender) =>
  sender.track.kind === 'audio' ||
  sender.getParameters().headerExtensions.some(({uri}) => uri.includes('transport-wide-cc')))"""
STATS = "async () => { const all = []; (await pc.getStats()).forEach((s) => all.push(s)); return all; }"


async def blank(route: Route) -> None:
    await route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>test</title>")


async def value(page: Page, kind: str, key: str, /, **match: Any) -> float:
    """A figure of ``getStats``, 0 while there is none."""
    for report in await page.evaluate(STATS):
        if report["type"] == kind and all(report.get(name) == wanted for name, wanted in match.items()):
            return float(report.get(key) or 0)
    return 0.0


async def reaches(page: Page, least: float, kind: str, key: str, /, **match: Any) -> None:
    async with asyncio.timeout(240):
        while await value(page, kind, key, **match) < least:  # noqa: ASYNC110 (only Chromium knows)
            await asyncio.sleep(0.25)


async def ice_restarts(sender: tuple[Page, Peer], receiver: tuple[Page, Peer]) -> None:
    """Both connections get other ICE credentials, and go over to other ports; tracks, DTLS and SRTP go on."""
    (publisher, creator), (viewer, fan) = sender, receiver
    tracks, before = set(creator.published), [await page.evaluate(DTLS) for page in (publisher, viewer)]

    def addresses() -> tuple[Any, Any]:
        assert creator._ingress is not None
        assert fan._egress is not None
        return creator._ingress.wire.address, fan._egress.wire.address

    old = addresses()
    async with asyncio.timeout(240):
        await publisher.evaluate(RESTART_PUBLISH)
    fan.restart_subscribe()
    assert fan.needs_offer
    await viewer.evaluate(RESTART_SUBSCRIBE)
    assert not fan.needs_offer
    async with asyncio.timeout(240):
        while set(addresses()) & set(old):  # noqa: ASYNC110 (only Chromium knows)
            await asyncio.sleep(0.05)
    decoded = await value(viewer, "inbound-rtp", "framesDecoded", kind="video")
    await reaches(viewer, decoded + 30, "inbound-rtp", "framesDecoded", kind="video")
    after = [await page.evaluate(DTLS) for page in (publisher, viewer)]
    assert all(text.startswith("connected ") for text in after)
    assert not set(after) & set(before)
    assert set(creator.published) == tracks


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_chromium_sends_and_receives_under_transport_wide_numbers(codec: str) -> None:
    async def scenario() -> None:
        port = open_port()
        creator, fan = (
            Peer(user_id=name, port=port, on_connected=lambda pc: None, on_lost=lambda pc: None)
            for name in ("usr_creator", "usr_fan")
        )
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            pages = [await browser.new_page() for _ in range(2)]
            for page in pages:
                await page.route("**/*", blank)
                await page.goto("http://localhost:9/")
            publisher, viewer = pages
            await publisher.expose_function("acceptPublish", creator.accept_publish)
            await viewer.expose_function("offerSubscribe", fan.offer_subscribe)
            await viewer.expose_function("acceptAnswer", fan.accept_subscribe_answer)
            await publisher.evaluate(PUBLISH, codec)
            for track in creator.published.values():
                fan.subscribe(track)
            await viewer.evaluate(SUBSCRIBE)
            await reaches(viewer, 20, "inbound-rtp", "framesDecoded", kind="video")
            await reaches(viewer, 50, "inbound-rtp", "packetsReceived", kind="audio")
            # Its packets are numbered, which is what our feedback is about. What it makes of that is the machine's
            # business: a starved one looks like a narrow line.
            assert await publisher.evaluate(NUMBERS), "transport-wide feedback was negotiated"
            await reaches(publisher, 1, "candidate-pair", "availableOutgoingBitrate", nominated=True)
            await reaches(viewer, 1, "remote-outbound-rtp", "packetsSent", kind="video")
            assert await viewer.evaluate("[...streams].length") == 1, "sound and picture are kept in step"
            if codec == "VP8":
                await ice_restarts((publisher, creator), (viewer, fan))
            # What is asserted has been: a browser too busy to end in time ends with its driver.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(browser.close(), 60)
        await creator.close()
        await fan.close()
        assert port.tables() == (0, 0, 0)
        port.close()

    asyncio.run(scenario())
