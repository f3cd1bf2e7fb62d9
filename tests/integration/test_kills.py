"""kill -9 of any one process in the middle of a session: settled once, nothing unpaid beyond what we owe.

Outside clients play both sides and come back to the room by themselves, as browsers do.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import PASSWORD
from demo.media_file import FRAMES_PER_SECOND, media_file
from demo.peer import Peer
from demo.side import PATIENCE_SECONDS, Side
from models.timing import timers_for
from ops.house import ROOT, House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode
from tests.conftest import MakeHouse

# Long enough for the pauses of a call to reach over the restart of any part on a slow machine.
MINUTE_SECONDS = 12
MINUTES = 1
VICTIMS = ("web", "worker", "clock", "media", "rabbitmq")
# A frame that was on its way when the node was killed, decoded late, and the clip's own jitter.
STRAY_FRAMES = 15


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.prove)])
def house(request: pytest.FixtureRequest, make_house: MakeHouse, servers_directory: Path) -> Iterator[House]:
    """A house whose broker is its own to lose."""
    broker = RabbitNode(servers_directory / f"rabbitmq-{request.param}", free_port(PORT_OFFSETS))
    environment = {}
    if request.param == "postgresql":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres").create("kills")
    made = make_house(minute_seconds=MINUTE_SECONDS, demo=True, broker=broker, **environment)
    yield made
    broker.discard()
    made.stop()


async def a_call(house: House, clip: Path, victim: str) -> tuple[dict[str, Any], int, int]:
    """Play one call during which ``victim`` is killed; the receipt, the fan's decoded frames, its balance drop."""
    url = house.environment["PUBLIC_URL"]
    async with Peer(url) as creator, Peer(url) as fan:
        await creator.sign_in("creator_a@demo.test", PASSWORD)
        await fan.sign_in("fan_a@demo.test", PASSWORD)
        terms = {"enabled": True, "ratePerMinute": 100, "minMinutes": 1, "autoAccept": "manual"}
        await creator.call("PUT", "/api/streaming/private-settings", terms)
        before = (await fan.call("GET", "/api/wallet"))["available"]
        stream = await creator.call("POST", "/api/streaming/streams", {})
        wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": MINUTES}
        request = await fan.call("POST", "/api/streaming/private-request", wish)
        accepted = await creator.call("POST", "/api/streaming/private-accept", {"requestId": request["requestId"]})

        sides = (Side(creator, accepted["roomId"], clip), Side(fan, accepted["roomId"], None))
        staying = [asyncio.create_task(side.stay()) for side in sides]
        try:
            await asyncio.wait_for(sides[1].running.wait(), PATIENCE_SECONDS)
            kill(house, victim)

            reasons = await asyncio.wait_for(asyncio.gather(*staying), 2 * PATIENCE_SECONDS)
            assert set(reasons) <= {"TIME_EXPIRED", "GONE"}
            receipt = await signed_receipt(fan, accepted["sessionId"])
            assert receipt == await signed_receipt(creator, accepted["sessionId"])
            after = (await fan.call("GET", "/api/wallet"))["available"]
        finally:
            # Whatever became of this call, the next victim's begins with a creator who is off the air.
            await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
        return receipt, sides[1].frames, before - after


async def signed_receipt(person: Peer, session_id: str) -> dict[str, Any]:
    """The clock, which may be the one that was killed, signs it some time after the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "signature" not in (receipt := await person.receipt(session_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return receipt


def kill(house: House, victim: str) -> None:
    if victim == "rabbitmq":
        assert house.broker is not None
        house.broker.kill()
        # The watcher revives only what died by itself; this one is ours to start.
        threading.Thread(target=house.broker.start).start()
    else:
        house.children[victim].signal(signal.SIGKILL)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_in_the_middle_of_a_call_costs_nobody_a_token(house: House, victim: str) -> None:
    # Given a call of a minute, and when the victim dies in it
    clip = media_file(ROOT / "var")
    receipt, frames, spent = asyncio.run(a_call(house, clip, victim))

    # Then the call ran to its paid end, and was settled once
    assert (receipt["status"], receipt["endReason"]) == ("ended", "TIME_EXPIRED")
    assert [transfer["kind"] for transfer in receipt["transfers"]].count("settle") == 1
    assert receipt["billedMinutes"] == MINUTES
    assert spent == receipt["earnings"] + receipt["commission"] == 100 * MINUTES

    # And nobody watched longer than was paid, but for what the node had not reported when it died
    unreported_ms = timers_for(MINUTE_SECONDS * 1000).report_ms if victim == "media" else 0
    assert frames <= (receipt["paidMs"] + unreported_ms) * FRAMES_PER_SECOND / 1000 + STRAY_FRAMES

    # And the ledger is whole
    assert "clean" in house.command("-m", "flask", "--app", "web", "ledger", "audit")
