"""What the services tell people, browsers and workers: one place for the shape of every notification.

All of it goes through the outbox, so it commits with the change that it announces.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy.orm import Session

from models import ledger, outbox
from models.clock import rfc3339
from models.sessions import SessionRow

Notification = Literal[
    "PRIVATE_REQUESTED",
    "PRIVATE_REQUEST_CANCELLED",
    "PRIVATE_REQUEST_EXPIRED",
    "PRIVATE_ACCEPTED",
    "PRIVATE_DECLINED",
    "SESSION_CHANGED",
    "BALANCE_CHANGED",
    "STREAM_STARTED",
    "STREAM_ENDED",
    "STREAM_WENT_PRIVATE",
    "STREAM_WENT_PUBLIC",
    "PAYOUT_CHANGED",
    "COMPLAINT_CHANGED",
    "REFUND_GIVEN",
    "EXTENSION_RETURNED",
    "PRIVATE_UNLOCK_RETURNED",
    "RECEIPT_ISSUED",
    "PURCHASE_CHANGED",
    "REFUND_CHANGED",
    "SUBSCRIPTION_CHANGED",
    "PASS_CHANGED",
    "BATTLE_CHANGED",
    "BATTLE_BEGUN",
    "BATTLE_TIP",
    "TIP",
    "PRIVATE_TURN",
    "PRIVATE_QUEUE",
    "BOOKING_CHANGED",
    "TIMES_CHANGED",
    "BOOKING_REMINDER",
    "BOOKING_STARTED",
    "BROADCAST_READY",
    "RECORDING_CHANGED",
]


def tell(tx: Session, user_id: str | None, kind: Notification, now: datetime, **fields: str | int | None) -> None:
    """A notification to one person, or to everybody; ``fields`` are camelCase, as on the wire."""
    present = {name: value for name, value in fields.items() if value is not None}
    outbox.notify(tx, user_id, {"type": kind, "at": rfc3339(now), **present})


def balance_changed(tx: Session, user_id: str, now: datetime) -> None:
    """A person's tokens moved."""
    balances = ledger.balances(tx, user_id)
    tell(tx, user_id, "BALANCE_CHANGED", now, available=balances["wallet"], held=balances["held"])


def session_changed(tx: Session, session: SessionRow, now: datetime) -> None:
    """A session is in another state; both sides look again."""
    for user_id in (session.fan_id, session.creator_id):
        tell(
            tx,
            user_id,
            "SESSION_CHANGED",
            now,
            sessionId=session.id,
            roomId=session.room_id,
            status=session.status,
            cause=session.pause_cause if session.status == "paused" else None,
            reason=session.end_reason,
        )
