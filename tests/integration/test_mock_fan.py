"""Demo mode's mock fan: asks by itself, is marked, really comes, with moving pictures and sound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from demo import PASSWORD
from demo.media_file import media_file
from demo.peer import Peer
from ops.house import ROOT, House
from ops.postgres import PostgresServer


def test_the_mock_fan_asks_comes_and_pays(make_house: Callable[..., House], postgres: PostgresServer) -> None:
    # given a house in demo mode, on PostgreSQL
    house = make_house(
        minute_seconds=10,
        demo=True,
        names=("media", "worker", "clock", "web", "demo"),
        DATABASE_URL=postgres.create("mock_fan"),
    )
    clip = media_file(ROOT / "var")

    async def play() -> None:
        async with Peer(house.environment["PUBLIC_URL"]) as creator:
            await creator.sign_in("creator_a@demo.test", PASSWORD)
            terms = {"enabled": True, "ratePerMinute": 100, "minMinutes": 1, "autoAccept": "manual"}
            await creator.call("PUT", "/api/streaming/private-settings", terms)
            # when a creator goes live
            stream = await creator.call("POST", "/api/streaming/streams", {})
            # and stays, for a stream without its creator would end before a slow machine's mock fan is up
            await creator.join(stream["roomId"], publish=clip)
            # then a request comes by itself, marked
            asked = await creator.told("PRIVATE_REQUESTED", seconds=300)
            listed = await creator.call("GET", "/api/streaming/private-requests")
            [request] = listed["requests"]
            assert request["requestId"] == asked.message["requestId"]
            assert request["fan"]["isMock"]
            # and when it is accepted, somebody is really there until the paid second
            accepted = await creator.call(
                "POST", "/api/streaming/private-accept", {"requestId": request["requestId"]}
            )
            seat = await creator.join(accepted["roomId"], publish=clip)
            ended = await asyncio.wait_for(seat.ended, 120)
            assert (ended.reason, ended.code) == ("TIME_EXPIRED", 4001)
            assert seat.seen.frames > 10
            assert (seat.seen.width, seat.seen.height) == (1280, 720)
            assert seat.seen.samples > 0
            receipt = await creator.receipt(accepted["sessionId"])
            assert (receipt["endReason"], receipt["billedMinutes"], receipt["earnings"]) == ("TIME_EXPIRED", 1, 80)

    asyncio.run(play())
