"""The creator's standing rule about new requests: accept all, accept subscribers, or wait for the creator."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models import inbox, log
from models.db import Database
from models.services import private_streams


def apply_auto_accept(db: Database, request_id: str, message_id: str, now: datetime) -> bool:
    """Accept a pending request if the creator's rule says so; whether it did.

    A request that may not be accepted any more (cancelled, expired, the fan gone) is left as it is. Raises
    Unavailable while there is no media node: the message is tried again.
    """

    def apply(tx: Session) -> bool:
        return inbox.first_time(tx, message_id, now) and private_streams.apply_rule(tx, request_id, now)

    accepted = db.run(apply)
    if accepted:
        log.event("request_accepted_by_rule", request_id=request_id, cause_id=request_id)
    return accepted
