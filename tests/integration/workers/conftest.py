"""A database, a virtual host, and hands to look into queues with."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.config import Settings, load_settings
from models.db import Database
from models.plumbing import OutboxRow
from workers.broker import parameters

# The stage of the models' tests serves here as well, when these tests are run by themselves too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    """SQLite: what differs between databases is tested where it differs."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(sqlite_url: str, amqp_url: str) -> Settings:
    return load_settings(
        {
            "DATABASE_URL": sqlite_url,
            "AMQP_URL": amqp_url,
            "SECRET_KEY": "x" * 32,
            "TESTING": "1",
            "MINUTE_SECONDS": "6",
        }
    )


@pytest.fixture
def eventually() -> Eventually:
    """Wait until something is so; fails after two minutes."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it never came to pass"
            pause.wait(0.02)

    return wait


@pytest.fixture
def channel(amqp_url: str) -> Iterator[Any]:
    """A channel of the test's own."""
    connection = pika.BlockingConnection(parameters(amqp_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def say(db: Database) -> Callable[..., None]:
    """Put one row into the outbox, as the services do."""

    def put(message_id: str, kind: str, destination: str | None, body: str, actor: str | None = None) -> None:
        def insert(tx: Session) -> None:
            tx.add(
                OutboxRow(
                    message_id=message_id,
                    kind=kind,
                    destination=destination,
                    actor=actor,
                    body=body,
                    cause_id="cause",
                    created_at=utc_now(),
                )
            )

        db.run(insert)

    return put
