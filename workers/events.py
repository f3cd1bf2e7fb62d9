"""Facts from the media nodes, each given to the control plane exactly once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models import inbox, log
from models.db import Database
from models.messages import codec
from models.services import sessions


def on_media_event(db: Database, body: str, now: datetime) -> bool:
    """Take in one event; False when it was taken in before.

    Raises codec.UnknownMessage for what this release cannot read: it belongs in the dead letters.
    """
    event = codec.decode_event(body)

    def take(tx: Session) -> bool:
        if not inbox.first_time(tx, event.message_id, now):
            return False
        sessions.on_event(tx, event, now)
        return True

    first = db.run(take)
    if not first:
        log.event("media_event_repeated", message_id=event.message_id, cause_id=event.cause_id)
    return first
