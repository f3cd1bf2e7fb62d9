"""Are the payments behind a running session still good? Asked of the gateway, never inside a transaction."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from models import log
from models.db import Database
from models.errors import Unavailable
from models.gateways.base import PaymentGateway
from models.services import payments, termination
from models.services.payments import BadStatus


def poll_session_payments(db: Database, gateway: PaymentGateway, session_id: str, now: datetime) -> int:
    """Look at each payment that a session is paid from; how many were found bad.

    An unreachable gateway is not a failure of the payment: the next poll asks again. Safe to repeat: a
    purchase is marked once, and a session that is ending already goes on ending for its first cause.
    """
    with db.reading() as tx:
        behind = payments.payments_behind(tx, session_id)
    bad = 0
    for reference in behind:
        try:
            payment = gateway.status(reference)
        except Unavailable:
            log.event("gateway_unreachable", level=logging.WARNING, session_id=session_id)
            continue
        if payment.status == "succeeded":
            continue
        bad += 1
        db.run(partial(_fail, reference=reference, status=payment.status, session_id=session_id, now=now))
        log.event("payment_failed", session_id=session_id, cause_id=session_id, status=payment.status)
    return bad


def _fail(tx: Session, *, reference: str, status: BadStatus, session_id: str, now: datetime) -> None:
    """Both or neither: once marked, the payment is no longer among those that a poll asks about."""
    payments.mark_bad(tx, reference, now, status=status)
    termination.payment_failed(tx, session_id, now)
