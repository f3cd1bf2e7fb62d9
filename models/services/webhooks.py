"""A provider's webhooks: let in once, acted on by a worker, and never believed.

A verified event is stored by its id in the transaction that calls the worker, so that a repeat changes
nothing. What it says is a hint at what to ask about: the worker asks the gateway for the truth, which makes
late, doubled and reordered events the same. Knows no signatures.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy.orm import Session

from models import log, outbox
from models.db import Database, insert_into
from models.errors import NotFound
from models.gateways.base import GatewayEvent, PaymentGateway
from models.payments import GatewayEventRow, PurchaseRow
from models.services import payments, payouts, purchase_refunds
from models.services.purchases import find_purchase

NOT_OURS = "not_ours"
"""About something that we never asked for, such as another system that shares the provider's account."""


def receive(tx: Session, gateway: str, event: GatewayEvent, now: datetime) -> bool:
    """Store an event whose signature holds, and have a worker look; False when it had come before."""
    new = (
        insert_into(tx, GatewayEventRow)
        .values(
            gateway=gateway,
            event_id=event.event_id,
            kind=event.kind,
            type=event.type,
            reference=event.reference,
            status="ignored" if event.kind == "other" else "received",
            detail="",
            received_at=now,
            done_at=now if event.kind == "other" else None,
        )
        .on_conflict_do_nothing()
        .returning(GatewayEventRow.event_id)
    )
    # RETURNING, since the row count of such an insert says nothing on PostgreSQL.
    if tx.scalar(new) is None:
        return False
    if event.kind != "other":
        outbox.actor(
            tx, "payments", "on_gateway_event", gateway, event.event_id, cause_id=event.event_id, now=now
        )
    return True


def act_on(db: Database, gateway: PaymentGateway, name: str, event_id: str, now: datetime) -> str:
    """A worker's part: ask for the truth about what an event is about, and apply it; how that went.

    Safe to repeat at any point. Raises Unavailable, and the broker has it tried again.
    """
    with db.reading() as tx:
        row = tx.get(GatewayEventRow, (name, event_id))
    if row is None or row.status != "received":
        return "done"
    ours = name == gateway.name
    outcome = _LOOK[row.kind](db, gateway, row.reference, now) if ours else "other_gateway"
    db.run(lambda tx: _finish(tx, name, event_id, outcome, now))
    level = logging.INFO if outcome == "done" else logging.WARNING
    log.event("gateway_event", level=level, cause_id=event_id, type=row.type, outcome=outcome)
    return outcome


def _look_at_payment(db: Database, gateway: PaymentGateway, reference: str, now: datetime) -> str:
    with db.reading() as tx:
        found = find_purchase(tx, reference)
    try:
        if found is None:
            # By another id of the payment than the one that we keep.
            payment = gateway.status(reference)
            with db.reading() as tx:
                found = find_purchase(tx, payment.purchase_id or "") or find_purchase(tx, payment.reference)
        if found is None or found.gateway != gateway.name:
            return NOT_OURS
        with db.reading() as tx:
            before = payments.known(tx, tx.get_one(PurchaseRow, found.id))
        payments.ask(db, gateway, before, reference, now)
    except NotFound:
        return NOT_OURS
    return "done"


def _look_at_refund(db: Database, gateway: PaymentGateway, reference: str, now: datetime) -> str:
    with db.reading() as tx:
        refund_id = purchase_refunds.refund_of_reference(tx, gateway.name, reference)
    if refund_id is None:
        # Perhaps one of our payments, given back by hand on the provider's own pages.
        try:
            payment = gateway.refund_status(reference).payment
        except NotFound:
            return NOT_OURS
        return NOT_OURS if payment is None else _look_at_payment(db, gateway, payment, now)
    purchase_refunds.send(db, gateway, refund_id, now)
    return "done"


def _look_at_payout(db: Database, gateway: PaymentGateway, reference: str, now: datetime) -> str:
    with db.reading() as tx:
        payout_id = payouts.payout_of_reference(tx, gateway.name, reference)
    if payout_id is None:
        return NOT_OURS
    payouts.send(db, gateway, payout_id, now)
    return "done"


def _look_at_account(db: Database, gateway: PaymentGateway, reference: str, now: datetime) -> str:
    try:
        account = gateway.account_status(reference)
    except NotFound:
        return NOT_OURS
    db.run(lambda tx: payouts.account_changed(tx, gateway.name, account, now))
    return "done"


_LOOK = {
    "payment": _look_at_payment,
    "refund": _look_at_refund,
    "payout": _look_at_payout,
    "account": _look_at_account,
}


def _finish(tx: Session, name: str, event_id: str, outcome: str, now: datetime) -> None:
    row = tx.get(GatewayEventRow, (name, event_id), populate_existing=True, with_for_update=True)
    if row is not None and row.status == "received":
        row.status, row.done_at = ("done" if outcome == "done" else "ignored"), now
        row.detail = "" if outcome == "done" else outcome
        tx.flush()
