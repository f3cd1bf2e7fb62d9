"""Hostile clients and a frozen node in the running house: nothing is sent, watched or billed beyond what was paid.

Each has its close-up in tests/integration/media; here it is every process, over the public contract alone.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import PASSWORD
from demo.media_file import FRAMES_PER_SECOND, media_file
from demo.peer import ApiError, Peer
from demo.seat import Seat
from ops.house import ROOT, House
from tests.books import assert_clean
from tests.conftest import MakeHouse

# An encoder, as the media node's own tests have it.
sys.path.insert(0, str(Path(__file__).parent / "media"))
from http_seats import HttpSeat, as_obs_sends_it

ASK = "/api/streaming/private-request"
# Long enough for a slow machine to open a room (half a minute) and to report its end (a whole one).
MINUTE_SECONDS = 10
RATE = 100
FROZEN_SECONDS = 14
PATIENCE_SECONDS = 60
# Frames on their way when the node froze, and the clip's own jitter.
STRAY_FRAMES = 15
QUIET_SECONDS = 2


@pytest.fixture(scope="module", autouse=True)
def clip() -> Path:
    """Made before anything is timed."""
    return media_file(ROOT / "var")


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> Iterator[House]:
    """Short minutes."""
    made = make_house(minute_seconds=MINUTE_SECONDS, demo=True)
    yield made
    made.stop()


class Scene:
    """A private call of one minute in which both sides send a clip."""

    def __init__(self, url: str) -> None:
        self.creator, self.fan = Peer(url), Peer(url)
        self.session_id = self.room_id = self.stream_id = ""
        self.before = 0

    async def begin(self) -> tuple[Seat, Seat]:
        clip = media_file(ROOT / "var")
        creator, fan = self.creator, self.fan
        await creator.sign_in("creator_a@demo.test", PASSWORD)
        await fan.sign_in("fan_a@demo.test", PASSWORD)
        terms = {"enabled": True, "ratePerMinute": RATE, "minMinutes": 1, "autoAccept": "manual"}
        await creator.call("PUT", "/api/streaming/private-settings", terms)
        self.before = (await fan.call("GET", "/api/wallet"))["available"]
        self.stream_id = (await creator.call("POST", "/api/streaming/streams", {}))["streamId"]
        wish = {"creatorId": creator.user_id, "streamId": self.stream_id, "minutes": 1}
        request = await fan.call("POST", ASK, wish)
        accepted = await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})
        self.session_id, self.room_id = accepted["sessionId"], accepted["roomId"]
        seats = (await creator.join(self.room_id, publish=clip), await fan.join(self.room_id, publish=clip))
        await seats[1].wait_for_clock("running", PATIENCE_SECONDS)
        return seats

    async def bill(self) -> tuple[dict[str, Any], int]:
        """The receipt, the same for both, and what the fan has less."""
        receipt = await signed_receipt(self.fan, self.session_id)
        assert receipt == await signed_receipt(self.creator, self.session_id)
        after = (await self.fan.call("GET", "/api/wallet"))["available"]
        await self.creator.call("DELETE", f"/api/streaming/streams/{self.stream_id}")
        return receipt, self.before - after

    async def close(self) -> None:
        await asyncio.gather(self.creator.close(), self.fan.close())


async def signed_receipt(person: Peer, session_id: str) -> dict[str, Any]:
    """The clock signs it some time after the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "signature" not in (receipt := await person.receipt(session_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return receipt


async def nothing_more(*seats: Seat) -> None:
    """What the node had sent before it stopped may still be in a socket, and a slow machine reads it late: at
    last there is nothing, for as long as would have brought dozens of packets, and it was little."""
    at_the_end = [seat.seen.frames for seat in seats]
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (now := [seat.seen.packets for seat in seats]) != seen:
            seen = now
            await asyncio.sleep(QUIET_SECONDS)
    stray = [seat.seen.frames - before for seat, before in zip(seats, at_the_end, strict=True)]
    assert max(stray) <= STRAY_FRAMES


def test_who_ignores_the_end_of_a_call_gets_nothing_and_is_heard_by_nobody(house: House) -> None:
    async def play() -> None:
        scene = Scene(house.environment["PUBLIC_URL"])
        creator, fan = await scene.begin()

        # Given two clients that are told of the end and keep their connections and their cameras open
        ended = await asyncio.wait_for(asyncio.gather(creator.ended, fan.ended), PATIENCE_SECONDS)
        assert {(end.reason, end.code) for end in ended} == {("TIME_EXPIRED", 4001)}
        # When they go on sending and waiting, then nothing more comes, to either
        await nothing_more(creator, fan)
        for seat in (creator, fan):
            assert seat._publish is not None
            assert seat._publish.connectionState == "connected", "the client did not hang up"

        # And no way leads back in
        with pytest.raises(ApiError) as refused:
            await scene.fan.join(scene.room_id)
        assert refused.value.status == 404
        receipt, spent = await scene.bill()
        assert (receipt["endReason"], receipt["billedMinutes"], spent) == ("TIME_EXPIRED", 1, RATE)
        await scene.close()

    asyncio.run(play())
    assert_clean(house)


def test_a_node_that_stood_still_gives_no_free_media_and_bills_once(house: House) -> None:
    async def play() -> None:
        scene = Scene(house.environment["PUBLIC_URL"])
        creator, fan = await scene.begin()

        # Given a call under way, and when its node is frozen and thawed
        await asyncio.wait_for(fan.first_frame.wait(), PATIENCE_SECONDS)
        house.children["media"].signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        house.children["media"].signal(signal.SIGCONT)
        ended = await asyncio.wait_for(asyncio.gather(creator.ended, fan.ended), PATIENCE_SECONDS)
        frames = fan.seen.frames
        receipt, spent = await scene.bill()
        await scene.close()

        # Then it ended by the clock, or as our fault where the thaw took too long; who was told a reason, was told
        # that one (a pipe to a node that stands still for long is closed without a word)
        reasons = {end.reason for end in ended} - {None}
        assert receipt["endReason"] in ("TIME_EXPIRED", "MEDIA_FAILURE")
        assert reasons <= {receipt["endReason"]}
        # And nobody watched more than was paid, nobody paid for more than was sent, and once
        assert frames <= receipt["paidMs"] * FRAMES_PER_SECOND / 1000 + STRAY_FRAMES
        assert receipt["billedMinutes"] == receipt["deliveredMs"] // receipt["minuteMs"]
        assert spent == receipt["earnings"] + receipt["commission"] == RATE * receipt["billedMinutes"]
        assert [transfer["kind"] for transfer in receipt["transfers"]].count("settle") <= 1

    asyncio.run(play())
    assert_clean(house)


def whip(url: str, key: str, sdp: str) -> tuple[int, str]:
    """Status and body of an offer; one for a room that is not open yet is made again, as encoders do."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
    offer = urllib.request.Request(url, data=sdp.encode(), headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            with opener.open(offer, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                if refusal.code != 503:
                    return refusal.code, refusal.read().decode()
        # As its Retry-After says.
        time.sleep(1)
    raise AssertionError("the room never opened")


def test_a_thief_of_a_stream_key_is_off_the_air_when_it_is_revoked(house: House) -> None:
    async def play() -> None:
        url = house.environment["PUBLIC_URL"]
        encoder = HttpSeat()
        async with Peer(url) as creator, Peer(url) as fan:
            await creator.sign_in("creator_b@demo.test", PASSWORD)
            await fan.sign_in("fan_b@demo.test", PASSWORD)
            made = await creator.call("POST", "/api/streaming/stream-keys", {"name": "OBS"})
            # Given somebody on the air with that key, seen by a fan
            sdp = as_obs_sends_it(await encoder.publish("VP8"))
            status, answer = await asyncio.to_thread(whip, f"{url}/api/rtc/whip", made["key"], sdp)
            assert status == 201, answer
            await encoder.answered(answer)
            await encoder.connected()
            live = (await creator.call("GET", "/api/streaming/streams"))["streams"]
            [stream] = [each for each in live if each["creatorId"] == creator.user_id]
            seat = await fan.join(stream["roomId"])
            await asyncio.wait_for(seat.first_frame.wait(), PATIENCE_SECONDS)
            # When the key is revoked, then the encoder is hung up on and its key opens nothing
            await creator.call("DELETE", f"/api/streaming/stream-keys/{made['keyId']}")
            await encoder.ended()
            again = await asyncio.to_thread(whip, f"{url}/api/rtc/whip", made["key"], sdp)
            assert again[0] == 401
            assert not seat.ended.done(), "the room goes on"
            await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
        await encoder.close()

    asyncio.run(play())
