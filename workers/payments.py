"""What a gateway has to be asked: payments behind held tokens, webhooks' hints, lost answers, refunds.

Asked here, never inside a transaction; what the answers mean is the services' part. An unreachable gateway
is no failure of anything: polls ask again at the next round, the rest is tried again by the broker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from models import log
from models.db import Database
from models.errors import NotFound, Unavailable
from models.gateways.base import PaymentGateway
from models.services import payments, purchase_refunds
from models.services.purchases import find_purchase


def poll_session_payments(db: Database, gateway: PaymentGateway, session_id: str, now: datetime) -> int:
    """Look at each payment that a session is paid from; how many were found bad.

    Safe to repeat: a purchase is marked once, and a session that is ending already goes on ending for its
    first cause.
    """
    with db.reading() as tx:
        behind = payments.payments_behind(tx, session_id)
    return _look_at(db, gateway, behind, session_id, now)


def poll_request_payments(db: Database, gateway: PaymentGateway, request_id: str, now: datetime) -> int:
    """The same for an open request or a booking: nobody should accept what is going to be taken back."""
    with db.reading() as tx:
        behind = payments.paid_from(tx, request_id)
    return _look_at(db, gateway, behind, request_id, now)


def reconcile_purchase(db: Database, gateway: PaymentGateway, purchase_id: str, now: datetime) -> None:
    """Find out how a purchase stands; while the gateway is away the clock has it asked again."""
    try:
        payments.reconcile(db, gateway, purchase_id, now)
    except (Unavailable, NotFound) as error:
        log.event("gateway_unreachable", level=logging.WARNING, code=error.code, cause_id=purchase_id)


def send_refund(db: Database, gateway: PaymentGateway, refund_id: str, now: datetime) -> None:
    """Put a refund before the gateway, or ask about it; again each minute until there is an answer."""
    try:
        purchase_refunds.send(db, gateway, refund_id, now)
    except Unavailable as error:
        log.event("gateway_unreachable", level=logging.WARNING, code=error.code, cause_id=refund_id)


def _look_at(
    db: Database, gateway: PaymentGateway, references: Sequence[str], cause_id: str, now: datetime
) -> int:
    return sum(_is_bad(db, gateway, reference, cause_id, now) for reference in references)


def _is_bad(db: Database, gateway: PaymentGateway, reference: str, cause_id: str, now: datetime) -> bool:
    with db.reading() as tx:
        purchase = find_purchase(tx, reference)
        if purchase is None:
            return False
        before = payments.known(tx, purchase)
    try:
        applied = payments.ask(db, gateway, before, reference, now)
    except (Unavailable, NotFound) as error:
        # Not to be found is as little a verdict: another gateway's, from before the setting changed.
        log.event("gateway_unreachable", level=logging.WARNING, code=error.code, cause_id=cause_id)
        return False
    if applied.turned_bad:
        log.event("payment_failed", cause_id=cause_id, status=applied.purchase.status)
    return applied.turned_bad
