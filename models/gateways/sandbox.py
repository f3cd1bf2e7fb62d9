"""The gateway without money: four cards that behave as real ones do. For tests, demo and development.

Its memory is a table, in place of a provider's own servers, so that web and workers ask the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from models.clock import utc_now
from models.db import Database, insert_into
from models.errors import Invalid, NotFound
from models.gateways.base import Payment, PaymentStatus
from models.payments import SandboxPaymentRow
from models.timing import MINUTE_MS

CARDS = ("succeeds", "fails", "fails-later", "disputed")
"""Charged · declined at once · charged, and found failed 40 s later · charged, and disputed 40 s later."""

TURNS_BAD_MS = 40_000
_TURNS: dict[str, PaymentStatus] = {"fails-later": "failed", "disputed": "disputed"}


class SandboxGateway:
    """A PaymentGateway. The 40 s shrink with the minute's length, as every timer of a session does."""

    name = "sandbox"

    def __init__(self, db: Database, minute_ms: int, now: Callable[[], datetime] = utc_now) -> None:
        self._db = db
        self._turns_bad_after = timedelta(milliseconds=TURNS_BAD_MS * minute_ms / MINUTE_MS)
        self._now = now

    def checkout(self, purchase_id: str, *, amount_minor: int, currency: str, card: str) -> Payment:
        """See PaymentGateway. Raises Invalid for a card that is none of CARDS."""
        if card not in CARDS:
            raise Invalid("The sandbox has no such card.", field="card")
        reference = f"sandbox_{purchase_id}"
        now = self._now()

        def remember(tx: Session) -> None:
            tx.execute(
                insert_into(tx, SandboxPaymentRow)
                .values(
                    reference=reference,
                    card=card,
                    amount_minor=amount_minor,
                    currency=currency,
                    created_at=now,
                )
                .on_conflict_do_nothing()
            )

        self._db.run(remember)
        return self.status(reference)

    def status(self, reference: str) -> Payment:
        """See PaymentGateway. Raises NotFound for a reference that the sandbox never gave."""
        with self._db.reading() as tx:
            row = tx.get(SandboxPaymentRow, reference)
            if row is None:
                raise NotFound("The sandbox knows no such payment.")
            status = self._status_of(row.card, row.created_at)
        return Payment(reference=reference, status=status)

    def _status_of(self, card: str, created_at: datetime) -> PaymentStatus:
        if card == "fails":
            return "failed"
        if card in _TURNS and self._now() - created_at >= self._turns_bad_after:
            return _TURNS[card]
        return "succeeded"
