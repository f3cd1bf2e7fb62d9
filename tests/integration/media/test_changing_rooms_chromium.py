"""Our own modules in a room in which many come and go, in real Chromium."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from crowds import CAST, NO_MORE, crowd, room_of
from playwright.async_api import Page, Route, async_playwright
from seats import CREATOR, FAN, JSON, Stage, plays, signed_grant

from bench.chromium_flags import FLAGS
from media.seats import SEAT_BLOCK

STATIC = Path(__file__).parents[3] / "web" / "static"
WATCH = """async ([roomId, userId, grant, signalingUrl]) => {
  window.negotiated = 0;
  window.states = [];
  const apply = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (...args) {
    window.negotiated += 1;
    return apply.apply(this, args);
  };
  const { SFUClient } = await import("/js/sfu_client.js");
  window.client = new SFUClient(roomId, userId, null, { grant, signalingUrl });
  client.onConnectionState = (state) => states.push(state);
  await client.joinAsParticipant({ publish: false });
}"""
SEEN = """() => Object.fromEntries(
  [...client.streams].map(([userId, stream]) => [userId, stream.getTracks().length])
)"""
SHOWN = """async (userId) => {
  const [track] = client.streams.get(userId)?.getVideoTracks() ?? [];
  for (const row of track ? (await client.peerConnections[0].getStats(track)).values() : []) {
    if (row.type === "inbound-rtp") return row.framesDecoded;
  }
  return 0;
}"""


async def our_modules(route: Route) -> None:
    path = STATIC / route.request.url.partition("9/")[2]
    if path.suffix == ".js":
        await route.fulfill(path=path, content_type="text/javascript")
    else:
        await route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>test</title>")


async def sees(page: Page, user_ids: list[str]) -> None:
    """Wait until sound and picture of just these have a place in the page."""
    wanted: JSON = dict.fromkeys(user_ids, 2)
    async with asyncio.timeout(120):
        while (seen := await page.evaluate(SEEN)) != wanted:
            assert await page.evaluate("states.at(-1)") == "connected", seen
            await asyncio.sleep(0.05)


async def is_shown(page: Page, user_id: str) -> None:
    """Wait until more pictures of that one are decoded."""
    before = await page.evaluate(SHOWN, user_id)
    async with asyncio.timeout(120):
        while await page.evaluate(SHOWN, user_id) < before + 5:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@NO_MORE
@plays
async def test_a_page_sees_everybody_and_negotiates_only_for_more_lines(stage: Stage) -> None:
    room_id = stage.open(room_of(CAST))
    many = await crowd(stage, room_id)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        context = await browser.new_context(permissions=["local-network-access"])
        page = await context.new_page()
        await page.route("**/*", our_modules)
        await page.goto("http://localhost:9/")
        # Given a page that watches a creator
        grant = signed_grant(room_id, FAN, publish=False)
        await page.evaluate(WATCH, [room_id, FAN, grant, f"ws://127.0.0.1:{stage.port}/signaling"])
        creator = await stage.join(room_id, CREATOR)
        creator.answering = False
        await creator.publish()
        await is_shown(page, CREATOR)
        # When a full room comes, half of it leaves, and comes again
        others = CAST[1:]
        for number, user_id in enumerate(others, 1):
            await many.comes(user_id)
            await sees(page, [CREATOR, *others[:number]])
        for number, user_id in enumerate(others[:9], 1):
            await many.leaves(user_id)
            await sees(page, [CREATOR, *others[number:]])
        for user_id in others[:9]:
            await many.comes(user_id)
        await sees(page, [CREATOR, *others])
        # Then the page was never thrown out, shows the creator still, and has negotiated for new lines alone
        await is_shown(page, CREATOR)
        assert await page.evaluate("states") == ["connecting", "connected"]
        assert await page.evaluate("negotiated") == 1 + math.ceil(len(others) / SEAT_BLOCK)
        await browser.close()
