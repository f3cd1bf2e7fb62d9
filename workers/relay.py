"""Carries the outbox to RabbitMQ: what a transaction announced is published, in order, at least once.

Each round reads the oldest rows, publishes them with no transaction open, and then marks them. Killed
between publishing and marking it publishes again; every consumer takes an id once (inbox, the node's
memory of command ids), and the feed only says "look again". Two relays at once double the traffic and
nothing else; the first copy of each message still comes in order, which leases with SKIP LOCKED would
not keep. Why, and what was measured: docs/decisions/0004-queues.md.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import msgspec
import pika
import pika.exceptions
from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from models import log
from models.clock import utc_now
from models.db import Database
from models.messages.routing import COMMANDS_EXCHANGE, FEED_EXCHANGE, dramatiq_envelope, feed_key
from models.plumbing import OutboxRow
from workers.broker import QUEUES, declare_all, parameters

BATCH = 200
IDLE_SECONDS = 0.05

# Built once: each round asks, and building them took longer than executing them.
_OLDEST = (
    select(
        OutboxRow.seq,
        OutboxRow.message_id,
        OutboxRow.kind,
        OutboxRow.destination,
        OutboxRow.actor,
        OutboxRow.body,
        OutboxRow.cause_id,
    )
    .where(OutboxRow.published_at.is_(None))
    .order_by(OutboxRow.seq)
    .limit(BATCH)
)
_MARK = (
    update(OutboxRow)
    .where(OutboxRow.seq.in_(bindparam("done", expanding=True)))
    .values(published_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)
_decode_arguments = msgspec.json.Decoder(tuple[str, ...]).decode


class Waiting(NamedTuple):
    """A row of the outbox, free of its transaction."""

    seq: int
    message_id: str
    kind: str
    destination: str | None
    actor: str | None
    body: str
    cause_id: str


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
            rows = _oldest(tx)
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

    def _carry(self, rows: list[Waiting]) -> None:
        done: list[int] = []
        try:
            for row in rows:
                try:
                    self._publish(row)
                except (pika.exceptions.AMQPError, OSError):
                    raise
                except Exception:
                    # A row that cannot be turned into a message is a defect; it must not stop all others.
                    log.failure("outbox_row_dropped", message_id=row.message_id, cause_id=row.cause_id)
                done.append(row.seq)
        finally:
            # What got through before a failure is not sent again after it.
            if done:
                self._db.run(lambda tx: _mark(tx, done))

    def _publish(self, row: Waiting) -> None:
        if row.kind == "feed":
            self._publish_feed(row)
        elif row.kind == "command":
            self._publish_command(row)
        else:
            self._publish_actor(row)

    def _publish_feed(self, row: Waiting) -> None:
        """Not confirmed: a lost notification is made good by the RESYNC of the next connection."""
        self._transient.basic_publish(
            FEED_EXCHANGE,
            feed_key(row.destination),
            row.body.encode(),
            pika.BasicProperties(content_type="application/json"),
        )

    def _publish_command(self, row: Waiting) -> None:
        """To a node that is there; one that is not is told the desired state when it comes (SyncRooms)."""
        try:
            self._confirmed.basic_publish(
                COMMANDS_EXCHANGE, row.destination, row.body.encode(), _persistent(row.message_id), mandatory=True
            )
        except pika.exceptions.UnroutableError:
            log.event(
                "command_dropped",
                level=logging.WARNING,
                node_id=row.destination,
                message_id=row.message_id,
                cause_id=row.cause_id,
            )

    def _publish_actor(self, row: Waiting) -> None:
        queue, actor = row.destination or "", row.actor or ""
        if queue not in self._declared:
            self._declare(queue)
        body = dramatiq_envelope(queue, actor, row.message_id, *_decode_arguments(row.body))
        try:
            self._confirmed.basic_publish("", queue, body, _persistent(row.message_id), mandatory=True)
        except pika.exceptions.UnroutableError:
            # Somebody deleted the queue: the next round declares it, and the row is still there.
            self._declared.discard(queue)
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


def _oldest(tx: Session) -> list[Waiting]:
    return [Waiting(*row) for row in tx.execute(_OLDEST)]


def _mark(tx: Session, done: list[int]) -> None:
    tx.execute(_MARK, {"done": done, "now": utc_now()})
