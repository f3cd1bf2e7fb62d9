"""Bugs in messages and in what follows from them alone."""

from __future__ import annotations

from typing import Any

from models import inbox
from models.messages import codec
from models.services import receipt_chain, sessions
from models.sessions import SessionRow
from simulation.planting import Patches, bug
from workers import broker, events, relay


@bug("A message that met an outage is not tried again.")
def lost_retry(patches: Patches) -> None:
    patches.replace(broker, "worth_retrying", lambda _worth: lambda *_args: False)


@bug("A media event is noted as done before it is done.")
def acknowledged_before_done(patches: Patches) -> None:
    def make(_on_media_event: Any) -> Any:
        def early(db: Any, body: str, now: Any) -> bool:
            event = codec.decode_event(body)
            if not db.run(lambda tx: inbox.first_time(tx, event.message_id, now)):
                return False
            db.run(lambda tx: sessions.on_event(tx, event, now))
            return True

        return early

    patches.replace(events, "on_media_event", make)


@bug("The relay marks messages as published before it publishes them.")
def marked_before_published(patches: Patches) -> None:
    def make(carry: Any) -> Any:
        def early(self: Any, rows: Any) -> None:
            self._db.run(lambda tx: relay._mark(tx, [row.seq for row in rows]))
            for row in rows:
                self._publish(row)

        return early

    patches.replace(relay.Relay, "_carry", make)


@bug("A receipt is forgotten where nothing was billed.")
def receipt_forgotten(patches: Patches) -> None:
    def make(issue: Any) -> Any:
        def forgets(tx: Any, key: Any, now: Any) -> int:
            for session in tx.query(SessionRow).filter(
                SessionRow.billed_minutes == 0, SessionRow.receipt_at.is_(None)
            ):
                session.receipt_at = now
            tx.flush()
            return int(issue(tx, key, now))

        return forgets

    patches.replace(receipt_chain, "issue_due", make)
