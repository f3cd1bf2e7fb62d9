"""The outbox: a message commits with the change that it announces, and the clock's relay publishes it after.

Three kinds: a command to a media node, a call of a worker's actor, a notification for people's feeds.
Delivery is at least once; receivers tell repeats by ``message_id``. Knows no broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

import msgspec
from sqlalchemy import Executable, delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from models import ids
from models.clock import rfc3339, utc_now
from models.messages import codec
from models.messages.commands import Command
from models.plumbing import OutboxRow

Json = str | int | float | bool | None | Mapping[str, "Json"] | Sequence["Json"]


def command(tx: Session, node_id: str, command: Command, *, now: datetime | None = None) -> None:
    """Send a command to a media node. The same command again is the same message: one row."""
    body = codec.encode(command).decode()
    _write(tx, command.message_id, "command", node_id, None, body, command.cause_id, now)


def actor(tx: Session, queue: str, actor: str, *args: str, cause_id: str, now: datetime | None = None) -> str:
    """Have a worker call ``actor(*args)`` from ``queue``; the message's id."""
    message_id = ids.new_id(ids.MESSAGE)
    _write(tx, message_id, "actor", queue, actor, msgspec.json.encode(args).decode(), cause_id, now)
    return message_id


def again(
    tx: Session,
    message_id: str,
    queue: str,
    actor: str,
    arguments: str,
    *,
    cause_id: str,
    now: datetime,
) -> None:
    """Send a message that was delivered before once more, under its own id. ``arguments`` are JSON.

    One that still waits here is going to be sent anyway.
    """
    tx.execute(
        delete(OutboxRow).where(OutboxRow.message_id == message_id, OutboxRow.published_at.is_not(None))
    )
    _write(tx, message_id, "actor", queue, actor, arguments, cause_id, now)


def notify(
    tx: Session,
    user_id: str | None,
    message: Mapping[str, Json],
    *,
    cause_id: str = "",
    now: datetime | None = None,
) -> None:
    """Tell one person, or everybody (None), through the event feed. ``at`` is added where it is missing."""
    moment = now or utc_now()
    body = msgspec.json.encode({"at": rfc3339(moment), **message}).decode()
    _write(tx, ids.new_id(ids.MESSAGE), "feed", user_id, None, body, cause_id, moment)


def command_waits(tx: Session, cause_id: str, since: datetime) -> bool:
    """Whether a command of that cause, written after ``since``, has not been published yet: the broker is away."""
    waiting = select(OutboxRow.seq).where(
        OutboxRow.published_at.is_(None),
        OutboxRow.kind == "command",
        OutboxRow.cause_id == cause_id,
        OutboxRow.created_at > since,
    )
    return tx.scalar(waiting.limit(1)) is not None


def _write(
    tx: Session,
    message_id: str,
    kind: str,
    destination: str | None,
    actor: str | None,
    body: str,
    cause_id: str,
    now: datetime | None,
) -> None:
    tx.execute(
        _insert(tx.get_bind().dialect.name),
        {
            "message_id": message_id,
            "kind": kind,
            "destination": destination,
            "actor": actor,
            "body": body,
            "cause_id": cause_id,
            "created_at": now or utc_now(),
        },
    )


@cache
def _insert(dialect: str) -> Executable:
    """Built once: nearly every transaction writes here, and building it took longer than executing it."""
    table = OutboxRow.metadata.tables[OutboxRow.__tablename__]
    statement = postgres_insert(table) if dialect == "postgresql" else sqlite_insert(table)
    return statement.inline().on_conflict_do_nothing(index_elements=["message_id"])
