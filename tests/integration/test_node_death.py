"""Two real media nodes, and the one that carries a live call is lost: both are back on the other, billed once.

Outside clients play both sides and come back to the room by themselves, as browsers do. How quickly is measured by
``make bench-node-death``; here it is only waited for.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from demo import PASSWORD
from demo.media_file import FRAMES_PER_SECOND, media_file
from demo.peer import Peer
from demo.side import PATIENCE_SECONDS, Side
from models.db import Database
from models.sessions import SessionRow
from models.streams import MediaNodeRow
from models.timing import timers_for
from ops.house import ROOT, House
from ops.ports import free_port
from tests.conftest import MakeHouse

# Long enough for the pauses of a call to reach over what a slow machine takes to notice a death.
MINUTE_SECONDS = 20
# A frame that was on its way when the node was lost, decoded late, and the clip's own jitter.
STRAY_FRAMES = 15
LONGEST_SECONDS = 120
CHILD_OF = {"media-1": "media", "media-2": "media-2"}


@pytest.fixture(scope="module")
def house(make_house: MakeHouse) -> House:
    made = make_house(minute_seconds=MINUTE_SECONDS, demo=True, MEDIA_UDP_PORT="0")
    made.add("media-2", "media", MEDIA_NODE_ID="media-2", MEDIA_PORT=str(free_port()))
    return made


@pytest.fixture
def database(house: House) -> Iterator[Database]:
    opened = Database(f"sqlite:///{house.var / 'greenroom.db'}")
    yield opened
    opened.close()


def until(condition: Callable[[], bool]) -> None:
    """Look until it is so."""
    given_up_at = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < given_up_at, "it never came to be"
        threading.Event().wait(0.1)


class Call:
    """A call of a minute between two outside clients, in a house of two nodes."""

    def __init__(self, house: House, database: Database) -> None:
        self._house = house
        self._database = database
        self.session_id = ""

    def node(self) -> str:
        """The node that the call is on now."""
        with self._database.reading() as tx:
            return tx.scalar(select(SessionRow.node_id).where(SessionRow.id == self.session_id)) or ""

    def ready(self) -> set[str]:
        """The nodes that answer."""
        with self._database.reading() as tx:
            return set(tx.scalars(select(MediaNodeRow.id).where(MediaNodeRow.lost_at.is_(None))))

    async def play(self, clip: Path, lose: Callable[[str], Any]) -> tuple[dict[str, Any], int, int]:
        """During it ``lose`` is called with its node; the receipt, the fan's decoded frames, its balance drop."""
        url = self._house.environment["PUBLIC_URL"]
        async with Peer(url) as creator, Peer(url) as fan:
            await creator.sign_in("creator_a@demo.test", PASSWORD)
            await fan.sign_in("fan_a@demo.test", PASSWORD)
            terms = {"enabled": True, "ratePerMinute": 100, "minMinutes": 1, "autoAccept": "manual"}
            await creator.call("PUT", "/api/streaming/private-settings", terms)
            before = (await fan.call("GET", "/api/wallet"))["available"]
            stream = await creator.call("POST", "/api/streaming/streams", {})
            wish = {"creatorId": creator.user_id, "streamId": stream["streamId"], "minutes": 1}
            request = await fan.call("POST", "/api/streaming/private-request", wish)
            accepted = await creator.call(
                "POST", "/api/streaming/private-accept", {"requestId": request["requestId"]}
            )
            self.session_id = accepted["sessionId"]
            sides = (Side(creator, accepted["roomId"], clip), Side(fan, accepted["roomId"], None))
            staying = [asyncio.create_task(side.stay()) for side in sides]
            try:
                await asyncio.wait_for(sides[1].running.wait(), PATIENCE_SECONDS)
                await asyncio.to_thread(lose, self.node())
                reasons = await asyncio.wait_for(asyncio.gather(*staying), 2 * PATIENCE_SECONDS)
                assert set(reasons) <= {"TIME_EXPIRED", "MEDIA_FAILURE", "GONE"}
                receipt = await ended(fan, self.session_id)
                after = (await fan.call("GET", "/api/wallet"))["available"]
            finally:
                await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
        return receipt, sides[1].frames, before - after


async def ended(fan: Peer, session_id: str) -> dict[str, Any]:
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        while "earnings" not in (receipt := await fan.receipt(session_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return receipt


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.prove)])
def test_a_call_whose_node_is_lost_goes_on_on_the_other(
    house: House, database: Database, how: str, request: pytest.FixtureRequest
) -> None:
    proving = request.config.getoption("--prove")
    # Given a live call on one of two nodes
    call = Call(house, database)
    until(lambda: call.ready() == set(CHILD_OF))
    lost = ""

    # When that node is killed and stays away, or stands still until its rooms are somewhere else
    def lose(node_id: str) -> None:
        nonlocal lost
        lost = node_id
        child = house.children[CHILD_OF[node_id]]
        child.wanted = False
        child.signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        if how == "stopped":
            until(lambda: call.node() != node_id)
            child.signal(signal.SIGCONT)

    try:
        receipt, frames, spent = asyncio.run(call.play(media_file(ROOT / "var"), lose))
    finally:
        if how == "killed" and lost:
            # The house's watcher starts it again.
            house.children[CHILD_OF[lost]].wanted = True

    # Then the call went on on the other node, to its paid end unless the machine took too long over that, and what
    # was delivered was billed, once
    assert call.node() in set(CHILD_OF) - {lost}
    assert receipt["status"] == "ended"
    assert receipt["endReason"] in ("TIME_EXPIRED", "MEDIA_FAILURE")
    assert receipt["billedMinutes"] == receipt["deliveredMs"] // receipt["minuteMs"]
    assert [transfer["kind"] for transfer in receipt["transfers"]].count("settle") <= 1
    assert spent == receipt["earnings"] + receipt["commission"] == 100 * receipt["billedMinutes"]

    if proving:
        # On a quiet machine it is the paid end, and nobody watched longer than was paid, but for what the node had
        # not reported when it was lost
        assert (receipt["endReason"], receipt["billedMinutes"]) == ("TIME_EXPIRED", 1)
        unreported_ms = timers_for(MINUTE_SECONDS * 1000).report_ms
        assert frames <= (receipt["paidMs"] + unreported_ms) * FRAMES_PER_SECOND / 1000 + STRAY_FRAMES

    # And the ledger is whole
    assert "clean" in house.command("-m", "flask", "--app", "web", "ledger", "audit")
