"""Carries the outbox to RabbitMQ: what a transaction announced is published, in order, at least once.

Each round reads the oldest rows, publishes them with no transaction open, and then deletes them. Killed
between publishing and deleting it publishes again; every consumer takes an id once (inbox, the node's
memory of command ids), and the feed only says "look again". Two relays at once double the traffic and
nothing else; the first copy of each message still comes in order, which leases with SKIP LOCKED would
not keep. Why, and what was measured: docs/decisions/0006-queues.md.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import pika
import pika.exceptions

from models import log, outbox
from models.db import Database
from models.messages.routing import COMMANDS_EXCHANGE, FEED_EXCHANGE
from workers.broker import QUEUES, declare_all, parameters

BATCH = 200
IDLE_SECONDS = 0.05


class Relay:
    """One connection, used by the thread that calls ``step``."""

    def __init__(self, db: Database, amqp_url: str) -> None:
        self._db = db
        self._parameters = parameters(amqp_url)
        self._connection: Any = None
        self._confirmed: Any = None
        self._transient: Any = None
        self._declared: set[str] = set()

    def step(self) -> float:
        """Publish a batch; seconds until the next is worth trying. Raises when broker or database is away."""
        if self._connection is None:
            self._connect()
        with self._db.reading() as tx:
            rows = outbox.oldest(tx, BATCH)
        if not rows:
            # Answers heartbeats, and notices a broker that went away while there was nothing to say.
            self._connection.process_data_events(0)
            return IDLE_SECONDS
        self._carry(rows)
        return 0.0 if len(rows) == BATCH else IDLE_SECONDS

    def close(self) -> None:
        """Let go of the connection, dead or alive; the next step opens another."""
        connection, self._connection = self._connection, None
        self._declared.clear()
        if connection is None or not connection.is_open:
            return
        try:
            connection.close()
        except pika.exceptions.AMQPError:
            log.event("relay_connection_lost", level=logging.DEBUG)

    def _connect(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        self._confirmed = connection.channel()
        self._confirmed.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        self._confirmed.exchange_declare(FEED_EXCHANGE, exchange_type="topic", durable=True)
        for queue in QUEUES:
            self._declare(queue)
        self._confirmed.confirm_delivery()
        self._transient = connection.channel()
        self._connection = connection

    def _carry(self, rows: tuple[outbox.Row, ...]) -> None:
        done: list[int] = []
        try:
            for row in rows:
                self._publish(row)
                done.append(row.id)
        finally:
            if done:
                self._db.run(lambda tx: outbox.delete(tx, done))

    def _publish(self, row: outbox.Row) -> None:
        if row.kind == "feed":
            self._publish_feed(row)
        elif row.kind == "command":
            self._publish_command(row)
        else:
            self._publish_actor(row)

    def _publish_feed(self, row: outbox.Row) -> None:
        """Not confirmed: a lost notification is made good by the RESYNC of the next connection."""
        self._transient.basic_publish(
            FEED_EXCHANGE, row.routing_key, row.body, pika.BasicProperties(content_type="application/json")
        )

    def _publish_command(self, row: outbox.Row) -> None:
        """To a node that is there; one that is not is told the desired state when it comes (SyncRooms)."""
        try:
            self._confirmed.basic_publish(
                COMMANDS_EXCHANGE, row.routing_key, row.body, _persistent(row.message_id), mandatory=True
            )
        except pika.exceptions.UnroutableError:
            log.event(
                "command_dropped",
                level=logging.WARNING,
                node_id=row.routing_key,
                message_id=row.message_id,
                cause_id=row.cause_id,
            )

    def _publish_actor(self, row: outbox.Row) -> None:
        if row.routing_key not in self._declared:
            self._declare(row.routing_key)
        try:
            self._confirmed.basic_publish(
                "", row.routing_key, row.body, _persistent(row.message_id), mandatory=True
            )
        except pika.exceptions.UnroutableError:
            # Somebody deleted the queue: the next round declares it, and the row is still there.
            self._declared.discard(row.routing_key)
            raise

    def _declare(self, queue: str) -> None:
        declare_all(self._confirmed, queue)
        self._declared.add(queue)


def _persistent(message_id: str) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        timestamp=int(time.time()),
    )
