"""Unused tokens back for money: the tokens leave at once, the money follows, and a refusal undoes both.

Only what is unspent of a purchase, only to the card that paid for it, never more in sum than was paid. A
worker asks the gateway; the refund's id is the key under which money moves once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log, outbox
from models.books import LotRow
from models.db import Database
from models.errors import Conflict, Forbidden, NotFound
from models.gateways.base import PaymentGateway, Refund
from models.machine import move
from models.payments import PurchaseRow, RefundRow
from models.people import PersonRow
from models.services import outside_refunds
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people
from models.services.purchases import locked_purchase, note

ASK_AGAIN_AFTER = timedelta(minutes=1)
MOST_SHOWN = 50
_OPEN = ("requested", "sent")


class RefundView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One refund as its buyer sees it: requested or sent (on its way), succeeded, or refused."""

    refund_id: str
    purchase_id: str
    tokens: int
    amount_minor: int
    currency: str
    status: str
    created_at: datetime


class BoughtView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A purchase with what is left of it. ``refund_minor`` is what its unspent tokens are given back for."""

    purchase_id: str
    tokens: int
    price_minor: int
    currency: str
    status: str
    bought_at: datetime
    unspent: int
    refund_minor: int
    refunds: tuple[RefundView, ...]


def amount_for(price_minor: int, bought: int, tokens: int) -> int:
    """What ``tokens`` of ``bought`` tokens are given back for, in the minor unit, rounded down."""
    return price_minor * tokens // bought


def request(
    tx: Session, *, user_id: str, purchase_id: str, tokens: int | None, cause_id: str, now: datetime
) -> RefundView:
    """Give back ``tokens`` unspent tokens of a purchase, or all of them, for their price.

    Raises NotFound, Conflict NOT_REFUNDABLE (not paid, or its payment is bad) or NOT_UNSPENT (``unspent``),
    Forbidden SPENDING_FROZEN while a payment of the buyer is disputed.
    """
    lock_people(tx, user_id)
    person = tx.get_one(PersonRow, user_id, populate_existing=True)
    purchase = locked_purchase(tx, purchase_id)
    if purchase.user_id != user_id:
        raise NotFound("There is no such purchase.")
    if purchase.status != "succeeded" or purchase.gateway_ref is None:
        raise Conflict("This purchase is not one that can be given back.", code="NOT_REFUNDABLE")
    if person.spending_frozen_at is not None:
        raise Forbidden("Nothing moves until a payment is cleared up.", code="SPENDING_FROZEN")
    # What was given back without our asking comes first.
    outside_refunds.settle(tx, purchase, now)
    unspent = _free(tx, purchase_id)
    wanted = unspent if tokens is None else tokens
    amount = amount_for(purchase.price_minor, purchase.tokens, wanted)
    if not 0 < wanted <= unspent or amount < 1:
        raise Conflict("Fewer tokens of it are unspent.", code="NOT_UNSPENT", unspent=unspent)
    refund_id = ids.new_id(ids.REFUND)
    transfer = ledger.withdraw(
        tx, purchase_id, wanted, key=f"withdraw:{refund_id}", reference=refund_id, cause_id=cause_id, now=now
    )
    purchase.refunded_minor += amount
    row = RefundRow(
        id=refund_id,
        purchase_id=purchase_id,
        user_id=user_id,
        tokens=wanted,
        amount_minor=amount,
        currency=purchase.currency,
        transfer_id=transfer.transfer_id,
        gateway=purchase.gateway,
        status="requested",
        cause_id=cause_id,
        created_at=now,
        asked_at=now,
    )
    tx.add(row)
    tx.flush()
    outbox.actor(tx, "payments", "send_refund", refund_id, cause_id=cause_id, now=now)
    balance_changed(tx, user_id, now)
    return _view(row)


def send(db: Database, gateway: PaymentGateway, refund_id: str, now: datetime) -> str:
    """A worker's part: put a refund before the gateway, or ask what became of it; its status afterwards.

    Safe to repeat at any point. Raises NotFound, Unavailable: the clock has it asked again.
    """
    with db.reading() as tx:
        row = tx.get(RefundRow, refund_id)
        payment = tx.get(PurchaseRow, row.purchase_id) if row is not None else None
    if row is None or payment is None or payment.gateway_ref is None:
        raise NotFound("There is no such refund.")
    if row.status == "refused" or row.outside:
        return row.status
    if row.gateway != gateway.name:
        log.event("refund_of_other_gateway", level=logging.WARNING, cause_id=row.cause_id, refund_id=refund_id)
        return row.status
    if row.gateway_ref:
        answer = gateway.refund_status(row.gateway_ref)
    else:
        answer = gateway.refund(payment.gateway_ref, row.amount_minor, refund_id)
    return db.run(lambda tx: record(tx, refund_id, answer, now))


def record(tx: Session, refund_id: str, answer: Refund, now: datetime) -> str:
    """What the gateway answered; again is no harm. A refused refund puts the tokens back, also a late one."""
    user_id = tx.scalar(select(RefundRow.user_id).where(RefundRow.id == refund_id))
    if user_id is None:
        raise NotFound("There is no such refund.")
    lock_people(tx, user_id)
    row = tx.get_one(RefundRow, refund_id, with_for_update=True, populate_existing=True)
    to = {"pending": "sent", "succeeded": "succeeded", "failed": "refused"}[answer.status]
    # Once money has arrived, only a bank that sends it back is news.
    if row.status in (to, "refused") or (row.status == "succeeded" and to == "sent"):
        return row.status
    values = {"gateway_ref": answer.reference or row.gateway_ref, "detail": answer.detail}
    move(tx, RefundRow, refund_id, row.status, to, closed_at=None if to == "sent" else now, **values)
    if to == "refused":
        ledger.put_back(tx, row.transfer_id, cause_id=row.cause_id, now=now)
        locked_purchase(tx, row.purchase_id).refunded_minor -= row.amount_minor
        tx.flush()
        balance_changed(tx, user_id, now)
    note(tx, row.purchase_id, f"refund_{to}", answer.detail, now)
    log.event("refund_" + to, cause_id=row.cause_id, refund_id=refund_id)
    tell(tx, user_id, "REFUND_CHANGED", now, refundId=refund_id, status=to, tokens=row.tokens)
    return to


def ask_again(tx: Session, now: datetime, limit: int = 100) -> int:
    """Have workers ask about refunds that nobody has heard of for a minute; how many."""
    query = select(RefundRow).where(RefundRow.status.in_(_OPEN), RefundRow.asked_at <= now - ASK_AGAIN_AFTER)
    rows = tx.scalars(query.order_by(RefundRow.asked_at, RefundRow.id).limit(limit)).all()
    for row in rows:
        row.asked_at = now
        outbox.actor(tx, "payments", "send_refund", row.id, cause_id=row.cause_id, now=now)
    tx.flush()
    return len(rows)


def bought(tx: Session, user_id: str) -> tuple[BoughtView, ...]:
    """A person's latest purchases that were paid, newest first, with what is unspent and what was given back."""
    query = (
        select(PurchaseRow, LotRow.free)
        .join(LotRow, LotRow.id == PurchaseRow.id)
        .where(PurchaseRow.user_id == user_id)
        .order_by(PurchaseRow.created_at.desc(), PurchaseRow.id)
        .limit(MOST_SHOWN)
    )
    found = tx.execute(query).all()
    refunds = tx.scalars(
        select(RefundRow)
        .where(RefundRow.purchase_id.in_([row.id for row, _ in found]))
        .order_by(RefundRow.created_at.desc(), RefundRow.id)
    ).all()
    return tuple(_bought(row, free, [one for one in refunds if one.purchase_id == row.id]) for row, free in found)


def refund_of_reference(tx: Session, gateway: str, reference: str) -> str | None:
    """Our refund behind a gateway's reference: for its webhooks."""
    return tx.scalar(
        select(RefundRow.id).where(RefundRow.gateway == gateway, RefundRow.gateway_ref == reference)
    )


def _free(tx: Session, purchase_id: str) -> int:
    return tx.scalar(select(LotRow.free).where(LotRow.id == purchase_id)) or 0


def _bought(row: PurchaseRow, free: int, refunds: Sequence[RefundRow]) -> BoughtView:
    good = row.status == "succeeded"
    return BoughtView(
        purchase_id=row.id,
        tokens=row.tokens,
        price_minor=row.price_minor,
        currency=row.currency,
        status=row.status,
        bought_at=row.succeeded_at or row.created_at,
        unspent=free,
        refund_minor=amount_for(row.price_minor, row.tokens, free) if good else 0,
        refunds=tuple(_view(one) for one in refunds),
    )


def _view(row: RefundRow) -> RefundView:
    return RefundView(
        refund_id=row.id,
        purchase_id=row.purchase_id,
        tokens=row.tokens,
        amount_minor=row.amount_minor,
        currency=row.currency,
        status=row.status,
        created_at=row.created_at,
    )
