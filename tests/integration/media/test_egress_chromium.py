"""Real Chromium publishes flashes and beeps into a room; what egress hands out of it is whole and in step."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from egress_clients import EgressClient, beeps, decode, flashes
from media_clients import until
from playwright.async_api import async_playwright
from seats import CREATOR, Seat, live_spec, running_stage

from bench.chromium_flags import FLAGS
from tests.integration.media.test_chromium import blank

PUBLISH = """async (codec) => {
  const context = new AudioContext({sampleRate: 48000});
  await context.resume();
  const out = context.createMediaStreamDestination();
  const tone = new OscillatorNode(context, {frequency: 1000});
  const volume = new GainNode(context, {gain: 0});
  tone.connect(volume).connect(out);
  tone.start();
  for (let second = 1; second < 120; second++) {
    volume.gain.setValueAtTime(0.8, second);
    volume.gain.setValueAtTime(0, second + 0.15);
  }
  const canvas = Object.assign(document.createElement('canvas'), {width: 640, height: 360});
  const paint = canvas.getContext('2d');
  setInterval(() => {
    paint.fillStyle = context.currentTime >= 1 && context.currentTime % 1 < 0.15 ? 'white' : 'black';
    paint.fillRect(0, 0, 640, 360);
    paint.fillStyle = 'gray';
    paint.fillRect(300 + 300 * Math.sin(performance.now() / 500), 300, 20, 20);
  }, 8);
  const pc = window.pc = new RTCPeerConnection();
  pc.addTransceiver(out.stream.getAudioTracks()[0], {direction: 'sendonly'});
  const video = pc.addTransceiver(canvas.captureStream(30).getVideoTracks()[0], {direction: 'sendonly'});
  video.setCodecPreferences(RTCRtpReceiver.getCapabilities('video').codecs
    .filter((c) => c.mimeType === 'video/' + codec || c.mimeType === 'video/rtx'));
  await pc.setLocalDescription();
  await pc.setRemoteDescription({type: 'answer', sdp: await publish(pc.localDescription.sdp)});
}"""


async def publish(seat: Seat, sdp: str) -> str:
    await seat.send(type="OFFER", pc="publish", sdp=sdp)
    await until(lambda: bool(seat.of("ANSWER")), "answered")
    return str(seat.of("ANSWER")[-1]["sdp"])


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_what_chromium_publishes_is_read_whole(codec: str) -> None:
    async def scenario() -> None:
        async with running_stage() as stage, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            page = await browser.new_page()
            await page.route("**/*", blank)
            await page.goto("http://localhost:9/")
            room_id = stage.open(live_spec())
            creator = await stage.join(room_id, CREATOR)
            reader = await EgressClient.open(stage.port, room_id)
            await page.expose_function("publish", lambda sdp: publish(creator, sdp))
            await page.evaluate(PUBLISH, codec)
            await reader.reads("video", 10)
            late = await EgressClient.open(stage.port, room_id)
            # Reports of sound come every five seconds.
            async with asyncio.timeout(60):
                await until(lambda: len(reader.frames_of("audio")) > 350, "some seconds of sound")
                await until(lambda: len(reader.frames_of("audio")) > 700, "more seconds of sound")
            await asyncio.gather(reader.close(), late.close())
            await browser.close()
        for client in (reader, late):
            pictures, sounds = client.frames_of("video"), client.frames_of("audio")
            assert pictures[0].key_frame
            for frames in (pictures, sounds):
                assert all(a.capture_us < b.capture_us for a, b in itertools.pairwise(frames))
            assert all(frame.key_frame for frame in pictures[1:] if frame.after_loss)
            assert len(decode(codec, pictures)) == len(pictures)
            assert len(decode("OPUS", sounds)) == len(sounds)
        heard = beeps(decode("OPUS", reader.frames_of("audio")))
        offsets = [
            (flash - min(heard, key=lambda at: abs(at - flash))) / 1000
            for flash in flashes(decode(codec, reader.frames_of("video")))
        ]
        keys = sum(frame.key_frame for frame in late.frames_of("video"))
        print(f"Chromium {codec}: picture behind sound, ms: {offsets}; key frames for a late reader: {keys}")
        # Between a canvas and an audio graph Chromium promises nothing.
        assert all(abs(offset) < 300 for offset in offsets[-3:])

    asyncio.run(scenario())
