"""What has to be true once the kills are over and everything was left to drain."""

from __future__ import annotations

import time

import pika
from dramatiq.common import xq_name
from sqlalchemy import text

from models.audit import audit
from models.db import Database
from workers.broker import QUEUES

DRAIN_SECONDS = 180.0
LOOK_EVERY_SECONDS = 0.5

# What must come to nothing by itself, and the question that finds what has not.
_WAITING = {
    "sessions that have not ended": "SELECT COUNT(*) FROM private_stream_sessions WHERE status <> 'ended'",
    "requests that are open": (
        "SELECT COUNT(*) FROM private_stream_requests WHERE status IN ('queued', 'pending')"
    ),
    "messages that have not left": "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL",
    "purchases without an outcome": "SELECT COUNT(*) FROM purchases WHERE status IN ('created', 'pending')",
}
_SETTLED_TWICE = (
    "SELECT reference, COUNT(*) FROM transfers WHERE kind = 'settle' GROUP BY reference HAVING COUNT(*) > 1"
)
_DEAD = "SELECT queue, actor, id, why, error FROM dead_letters ORDER BY died_at"


def drain(db: Database, amqp_url: str, seconds: float = DRAIN_SECONDS) -> list[str]:
    """Wait until nothing waits any more; what still does, in words."""
    deadline = time.monotonic() + seconds
    while True:
        with db.reading() as tx:
            left = {words: int(tx.execute(text(query)).scalar_one()) for words, query in _WAITING.items()}
        left["messages in queues"] = _queued(amqp_url)
        if not any(left.values()) or time.monotonic() > deadline:
            return [f"{count} {words} after {seconds:.0f} s" for words, count in left.items() if count]
        time.sleep(LOOK_EVERY_SECONDS)


def _queued(amqp_url: str) -> int:
    """Ready messages in all queues, and dead letters that have not been taken down yet."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    try:
        channel = connection.channel()
        names = [name for queue in QUEUES for name in (queue, xq_name(queue))]
        return sum(channel.queue_declare(name, passive=True).method.message_count for name in names)
    finally:
        connection.close()


def problems(db: Database) -> list[str]:
    """The audit, and settlements that happened twice."""
    with db.reading() as tx:
        report = audit(tx)
        twice = [f"{reference} was settled {count} times" for reference, count in tx.execute(text(_SETTLED_TWICE))]
    return [*report.problems, *twice]


def dead_letters(db: Database) -> list[str]:
    """Each dead letter with its last error. Kills alone should make none: what is transient is tried again."""
    with db.reading() as tx:
        rows = tx.execute(text(_DEAD)).all()
    return [
        f"{queue} {actor} {message_id}: {why}: {error or 'no worker lived to tell'}"
        for queue, actor, message_id, why, error in rows
    ]


def figures(db: Database) -> dict[str, int]:
    """How much there was to go wrong."""
    queries = {
        "sessions": "SELECT COUNT(*) FROM private_stream_sessions",
        "requests": "SELECT COUNT(*) FROM private_stream_requests",
        "transfers": "SELECT COUNT(*) FROM transfers",
    }
    with db.reading() as tx:
        return {name: int(tx.execute(text(query)).scalar_one()) for name, query in queries.items()}
