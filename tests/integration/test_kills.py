"""kill -9 of any one process in the middle of a session: settled once, nothing unpaid beyond what we owe."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from played import RATE, STRAY_FRAMES, played

from demo.media_file import FRAMES_PER_SECOND, media_file
from models.timing import timers_for
from ops.house import ROOT, House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode
from tests.books import assert_clean
from tests.conftest import MakeHouse

# Long enough for the pauses of a call to reach over the restart of any part on a slow machine.
MINUTE_SECONDS = 12
VICTIMS = ("web", "worker", "clock", "media", "rabbitmq")


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
    receipt, frames, spent, reasons = asyncio.run(
        played(house, media_file(ROOT / "var"), lambda session_id: kill(house, victim))
    )

    # Then the call ran to its paid end, and was settled once
    assert reasons <= {"TIME_EXPIRED", "GONE"}
    assert (receipt["status"], receipt["endReason"]) == ("ended", "TIME_EXPIRED")
    assert [transfer["kind"] for transfer in receipt["transfers"]].count("settle") == 1
    assert receipt["billedMinutes"] == 1
    assert spent == receipt["earnings"] + receipt["commission"] == RATE

    # And nobody watched longer than was paid, but for what the node had not reported when it died
    unreported_ms = timers_for(MINUTE_SECONDS * 1000).report_ms if victim == "media" else 0
    assert frames <= (receipt["paidMs"] + unreported_ms) * FRAMES_PER_SECOND / 1000 + STRAY_FRAMES

    # And the ledger is whole
    assert_clean(house)
