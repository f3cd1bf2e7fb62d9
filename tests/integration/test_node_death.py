"""Two real media nodes, and the one that carries a live call is lost: both are back on the other, billed once.

How quickly is measured by ``make bench-node-death``; here it is only waited for.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from played import RATE, STRAY_FRAMES, played
from sqlalchemy import select

from demo.media_file import FRAMES_PER_SECOND, media_file
from models.db import Database
from models.sessions import SessionRow
from models.streams import MediaNodeRow
from models.timing import timers_for
from ops.house import ROOT, House
from ops.ports import free_port
from tests.books import assert_clean
from tests.conftest import MakeHouse

# Long enough for the pauses of a call to reach over what a slow machine takes to notice a death.
MINUTE_SECONDS = 20
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


def node_of(database: Database, session_id: str) -> str:
    """The node that the call is on now."""
    with database.reading() as tx:
        return tx.scalar(select(SessionRow.node_id).where(SessionRow.id == session_id)) or ""


def ready(database: Database) -> set[str]:
    """The nodes that answer."""
    with database.reading() as tx:
        return set(tx.scalars(select(MediaNodeRow.id).where(MediaNodeRow.lost_at.is_(None))))


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.prove)])
def test_a_call_whose_node_is_lost_goes_on_on_the_other(
    house: House, database: Database, how: str, request: pytest.FixtureRequest
) -> None:
    proving = request.config.getoption("--prove")
    # Given a live call on one of two nodes
    until(lambda: ready(database) == set(CHILD_OF))
    lost = session = ""

    # When that node is killed and stays away, or stands still until its rooms are somewhere else
    def lose(session_id: str) -> None:
        nonlocal lost, session
        session, lost = session_id, node_of(database, session_id)
        child = house.children[CHILD_OF[lost]]
        child.wanted = False
        child.signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        if how == "stopped":
            until(lambda: node_of(database, session_id) != lost)
            child.signal(signal.SIGCONT)

    try:
        receipt, frames, spent, reasons = asyncio.run(played(house, media_file(ROOT / "var"), lose))
    finally:
        if how == "killed" and lost:
            # The house's watcher starts it again.
            house.children[CHILD_OF[lost]].wanted = True

    # Then the call went on on the other node, to its paid end unless the machine took too long over that, and what
    # was delivered was billed, once
    assert reasons <= {"TIME_EXPIRED", "MEDIA_FAILURE", "GONE"}
    assert node_of(database, session) in set(CHILD_OF) - {lost}
    assert receipt["status"] == "ended"
    assert receipt["endReason"] in ("TIME_EXPIRED", "MEDIA_FAILURE")
    assert receipt["billedMinutes"] == receipt["deliveredMs"] // receipt["minuteMs"]
    assert [transfer["kind"] for transfer in receipt["transfers"]].count("settle") <= 1
    assert spent == receipt["earnings"] + receipt["commission"] == RATE * receipt["billedMinutes"]

    if proving:
        # On a quiet machine it is the paid end, and nobody watched longer than was paid, but for what the node had
        # not reported when it was lost
        assert (receipt["endReason"], receipt["billedMinutes"]) == ("TIME_EXPIRED", 1)
        unreported_ms = timers_for(MINUTE_SECONDS * 1000).report_ms
        assert frames <= (receipt["paidMs"] + unreported_ms) * FRAMES_PER_SECOND / 1000 + STRAY_FRAMES

    # And the ledger is whole
    assert_clean(house)
