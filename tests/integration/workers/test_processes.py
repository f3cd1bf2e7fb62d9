"""The clock and a worker as processes: from a row to its effect, once, and a stop when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from stage import Stage

from models.clock import utc_now
from models.config import Settings
from models.db import Database
from models.messages.routing import dramatiq_envelope
from models.plumbing import InboxRow, OutboxRow, ScheduledJobRow
from models.sessions import SessionRow
from workers.broker import declare_all

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(sys.executable)
CLOCK = [str(PYTHON), "-m", "workers.clock"]
WORKER = [str(PYTHON.with_name("dramatiq")), "workers.actors", "--processes", "1", "--threads", "2"]
Start = Callable[[list[str]], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a process of the house; killed with its family after the test."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "AMQP_URL": settings.amqp_url,
        "SECRET_KEY": settings.secret_key,
        "TESTING": "1",
    }

    def begin(command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def count(db: Database, query: Any) -> int:
    with db.reading() as tx:
        return tx.scalar(select(func.count()).select_from(query)) or 0


def test_a_rule_reaches_the_worker_and_its_repeat_changes_nothing(
    db: Database, channel: Any, start: Start, eventually: Callable[..., None]
) -> None:
    # given a request to a creator who accepts everybody
    stage = Stage(db)
    stage.now = utc_now()
    stage.node_ready()
    stage.heartbeat()
    _, stream = stage.live(auto_accept="all")
    request = stage.ask(stage.fan(), stream)
    # when the clock and a worker are there
    start(CLOCK)
    start(WORKER)
    eventually(lambda: count(db, SessionRow) == 1)
    # and the same message comes again
    with db.reading() as tx:
        [message_id] = tx.scalars(select(OutboxRow.message_id).where(OutboxRow.actor == "apply_auto_accept"))
    declare_all(channel, "rules")
    for copy in (message_id, "msg_last"):
        channel.basic_publish(
            "", "rules", dramatiq_envelope("rules", "apply_auto_accept", copy, request.request_id)
        )
    eventually(lambda: count(db, select(InboxRow).where(InboxRow.message_id == "msg_last").subquery()) == 1)
    # then there is one session and nothing among the dead
    assert count(db, SessionRow) == 1
    assert channel.queue_declare("rules.XQ", passive=True).method.message_count == 0
    stage.audit()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_clock_stops_when_told(
    db: Database, start: Start, eventually: Callable[..., None], number: signal.Signals
) -> None:
    # given a clock at work
    clock = start(CLOCK)
    eventually(lambda: count(db, ScheduledJobRow) >= 2)
    # when
    clock.send_signal(number)
    # then
    assert clock.wait(60) == 0


def test_the_clock_refuses_settings_that_do_not_fit() -> None:
    refused = subprocess.run(
        CLOCK,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 2
    assert "SECRET_KEY" in refused.stderr
