"""The inbox: a consumer's first act is to note the message, so that a repeat has no effect.

The note commits with the effect; if the effect fails, the note is gone too and the retry does the work.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models.db import insert_into
from models.plumbing import InboxRow


def first_time(tx: Session, message_id: str, now: datetime) -> bool:
    """Whether nobody has acted on this message yet; whoever asks has to act now, in this transaction.

    While another transaction acts on the same message, this waits for it.
    """
    note = insert_into(tx, InboxRow).values(message_id=message_id, received_at=now)
    # RETURNING, since the row count of such an insert says nothing on PostgreSQL.
    return tx.scalar(note.on_conflict_do_nothing().returning(InboxRow.message_id)) is not None
