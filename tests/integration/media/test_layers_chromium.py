"""Real Chromium sends three sizes of one camera, and takes each; repairs go under an SSRC of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import pytest
from playwright.async_api import Page, async_playwright

from bench.chromium_flags import FLAGS
from media import forwarding
from media.layers import Kept, Layer
from media.plane import Peer, Slot
from media.port import Port
from tests.integration.media.media_clients import open_port
from tests.integration.media.test_chromium import SUBSCRIBE, blank, reaches, value

PUBLISH = """async ([codec, width, height, encodings]) => {
  const stream = await navigator.mediaDevices.getUserMedia({video: {width, height, frameRate: 10}});
  const pc = window.pc = new RTCPeerConnection();
  const transceiver = pc.addTransceiver(stream.getTracks()[0], {direction: 'sendonly', sendEncodings: encodings});
  transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities('video').codecs
    .filter((c) => c.mimeType === 'video/' + codec || c.mimeType === 'video/rtx'));
  // A busy machine sends fewer pictures, not smaller ones.
  const parameters = transceiver.sender.getParameters();
  parameters.degradationPreference = 'maintain-resolution';
  await transceiver.sender.setParameters(parameters);
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await acceptPublish(pc.localDescription.sdp)});
}"""
LAYERS = [
    {"rid": "l", "scaleResolutionDownBy": 4, "maxBitrate": 150_000},
    {"rid": "m", "scaleResolutionDownBy": 2, "maxBitrate": 500_000},
    {"rid": "h", "maxBitrate": 1_500_000},
]


class Show:
    """One publisher, one viewer, each a page of one browser."""

    def __init__(self, port: Port, creator: Peer, fan: Peer, publisher: Page, viewer: Page) -> None:
        self.port = port
        self.creator, self.fan, self.publisher, self.viewer = creator, fan, publisher, viewer

    async def begin(self, codec: str, width: int, height: int, encodings: list[dict[str, Any]]) -> Slot:
        """Publish, and be sent it."""
        await self.publisher.evaluate(PUBLISH, [codec, width, height, encodings])
        (track,) = self.creator.published.values()
        slot = self.fan.subscribe(track)
        await self.viewer.evaluate(SUBSCRIBE)
        return slot

    async def shows(self, height: int) -> None:
        """Wait until pictures of this height are decoded, and go on being decoded."""
        async with asyncio.timeout(120):
            while await value(self.viewer, "inbound-rtp", "frameHeight", kind="video") != height:  # noqa: ASYNC110
                await asyncio.sleep(0.25)
        decoded = await value(self.viewer, "inbound-rtp", "framesDecoded", kind="video")
        await reaches(self.viewer, decoded + 5, "inbound-rtp", "framesDecoded", kind="video")


async def estimated(fan: Peer) -> None:
    """Wait until feedback on transport-wide numbers has come, and says at what rate they arrive."""
    assert fan._egress is not None
    assert fan._egress.downlink is not None
    async with asyncio.timeout(120):
        while fan._egress.downlink.bandwidth.estimator.arrived.bitrate is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@asynccontextmanager
async def show() -> AsyncIterator[Show]:
    port = open_port()
    async with async_playwright() as playwright:
        creator, fan = (
            Peer(user_id=name, port=port, on_connected=lambda pc: None, on_lost=lambda pc: None)
            for name in ("usr_creator", "usr_fan")
        )
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        pages = [await browser.new_page() for _ in range(2)]
        for page in pages:
            await page.route("**/*", blank)
            await page.goto("http://localhost:9/")
        await pages[0].expose_function("acceptPublish", creator.accept_publish)
        await pages[1].expose_function("offerSubscribe", fan.offer_subscribe)
        await pages[1].expose_function("acceptAnswer", fan.accept_subscribe_answer)
        try:
            yield Show(port, creator, fan, *pages)
        finally:
            await browser.close()
            await creator.close()
            await fan.close()
            port.close()


@contextmanager
def losing(every: int, port: Port) -> Iterator[Callable[[], int]]:
    """One packet in so many is kept for whoever asks for it, but not sent; how many were not."""
    if port.native is not None:
        engine = port.native.engine
        engine.lose(every)
        try:
            yield lambda: engine.lost
        finally:
            engine.lose(0)
        return
    count, lost = 0, [0]
    send = forwarding.fan_out

    def lossy(layer: Layer, kept: Kept) -> int:
        nonlocal count
        count += 1
        if count % every:
            return send(layer, kept)
        lost[0] += 1
        return 0

    with mock.patch.object(forwarding, "fan_out", lossy):
        yield lambda: lost[0]


def test_a_viewer_gets_the_layer_that_it_selects_and_what_it_lost_again() -> None:
    async def scenario() -> None:
        async with show() as stage:
            # given a camera in three sizes
            slot = await stage.begin("VP8", 960, 540, LAYERS)
            track = slot.track
            assert track is not None
            assert [layer.rid for layer in track.layers] == ["l", "m", "h"]
            # when nothing is asked for, then the best that flows is shown
            await stage.shows(540)
            assert track.feed.rid == "h"
            # and the viewer says when each numbered packet came, for the estimate of its line
            await estimated(stage.fan)
            # when a layer is selected, then it is shown, and the sound of nobody stutters: numbers go on
            for quality, height in (("low", 135), ("medium", 270), ("high", 540)):
                stage.fan.prefer(slot, quality)  # type: ignore[arg-type]
                await stage.shows(height)
            assert slot.switches >= 3
            assert {layer.rid: layer.size for layer in track.layers} == {"l": 135, "m": 510, "h": 2040}
            # when packets are lost, then they are sent again, under another SSRC
            with losing(20, stage.port) as lost:
                await reaches(stage.viewer, 5, "inbound-rtp", "retransmittedPacketsReceived", kind="video")
                assert lost() >= 5
                assert await value(stage.viewer, "inbound-rtp", "rtxSsrc", kind="video") == slot.repair_ssrc
                await stage.shows(540)

    asyncio.run(scenario())


@pytest.mark.parametrize("codec", ["VP9", "AV1"])
def test_other_codecs_pass(codec: str) -> None:
    async def scenario() -> None:
        async with show() as stage:
            slot = await stage.begin(codec, 320, 180, [{"maxBitrate": 300_000}])
            assert slot.track is not None
            assert slot.track.codec == codec
            await stage.shows(180)
            # A late joiner's key frame is recognised: without one nothing would have gone live.
            assert slot.live

    asyncio.run(scenario())
