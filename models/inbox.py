"""The inbox: a consumer's first act is to note the message, so that a repeat has no effect.

The note commits with the effect; if the effect fails, the note is gone too and the retry does the work.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

from sqlalchemy import bindparam
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from models.plumbing import InboxRow


def first_time(tx: Session, message_id: str, now: datetime) -> bool:
    """Whether nobody has acted on this message yet; whoever asks has to act now, in this transaction.

    While another transaction acts on the same message, this waits for it.
    """
    note = _note(tx.get_bind().dialect.name)
    return tx.connection().scalar(note, {"id": message_id, "at": now}) is not None


@cache
def _note(dialect: str) -> ReturningInsert[tuple[str]]:
    """Built once: each message of each consumer passes here."""
    table = InboxRow.metadata.tables[InboxRow.__tablename__]
    insert = postgres_insert if dialect == "postgresql" else sqlite_insert
    note = insert(table).values(message_id=bindparam("id"), received_at=bindparam("at"))
    # RETURNING, since the row count of such an insert says nothing on PostgreSQL.
    return note.on_conflict_do_nothing().returning(table.c.message_id)
