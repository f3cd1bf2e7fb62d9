"""Takes letters out of the broker's .XQ queues into the database, where they stay for good.

Committed first, acknowledged after: killed in between, the letter comes again and is known. While the
database is away the letters wait in the broker, which keeps them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pika
import pika.exceptions
from dramatiq.common import xq_name

from models import log
from models.clock import utc_now
from models.db import Database
from models.services import dead_letters
from models.services.dead_letters import Corpse
from workers.broker import QUEUES, declare_dead_letters, parameters

BATCH = 50
IDLE_SECONDS = 1.0


class Collector:
    """One connection, used by the thread that calls ``step``."""

    def __init__(self, db: Database, amqp_url: str, queues: Sequence[str] = QUEUES) -> None:
        self._db = db
        self._parameters = parameters(amqp_url)
        self._queues = tuple(queues)
        self._connection: Any = None
        self._channel: Any = None

    def step(self) -> float:
        """Take in what lies there; seconds until the next look. Raises when broker or database is away."""
        if self._connection is None:
            self._connect()
        taken = sum(self._empty(queue) for queue in self._queues)
        return 0.0 if taken else IDLE_SECONDS

    def close(self) -> None:
        """Let go of the connection; what was not acknowledged goes back to where it was."""
        connection, self._connection = self._connection, None
        if connection is None or not connection.is_open:
            return
        try:
            connection.close()
        except pika.exceptions.AMQPError:
            log.event("collector_connection_lost")

    def _connect(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        self._channel = connection.channel()
        for queue in self._queues:
            declare_dead_letters(self._channel, queue)
        self._connection = connection

    def _empty(self, queue: str) -> int:
        """Take up to a batch of one queue's letters; how many there were."""
        tags: list[int] = []
        found: list[Corpse] = []
        while len(found) < BATCH:
            method, properties, body = self._channel.basic_get(xq_name(queue))
            if method is None:
                break
            tags.append(method.delivery_tag)
            found.append(corpse_of(queue, properties, body))
        if not found:
            return 0
        now = utc_now()
        self._db.run(lambda tx: [dead_letters.take_in(tx, corpse, now) for corpse in found])
        self._channel.basic_ack(tags[-1], multiple=True)
        return len(found)


def corpse_of(queue: str, properties: Any, body: bytes) -> Corpse:
    """What the broker's headers say of a letter's last death (RabbitMQ's ``x-death``, the latest first)."""
    deaths = (properties.headers or {}).get("x-death") or [{}]
    last = deaths[0] if isinstance(deaths[0], dict) else {}
    died_at = last.get("time")
    if not isinstance(died_at, datetime):
        died_at = None
    return Corpse(
        queue=queue,
        message_id=properties.message_id,
        body=body,
        why=str(last.get("reason", "unknown")),
        died_at=died_at.replace(tzinfo=UTC) if died_at and died_at.tzinfo is None else died_at,
    )
