"""Buying tokens, and what follows when a payment turns out bad.

A purchase is a row before the gateway is asked and is completed after, so no transaction waits for a
network. Knows gateways by their protocol alone; a session that a bad payment was behind is ended by
whoever found it (``termination.payment_failed``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models import ids, ledger
from models.db import Database
from models.errors import Conflict, DomainError, NotFound, PaymentRequired, Unavailable
from models.gateways.base import PaymentGateway
from models.machine import move
from models.payments import BAD, PaymentAttemptRow, PurchaseRow
from models.people import PersonRow
from models.requests import OPEN, RequestRow
from models.services.announcements import balance_changed
from models.services.closing import close_request
from models.services.locks import lock_people
from models.sessions import SessionRow

BadStatus = Literal["failed", "disputed"]


class Package(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens at a price; ``price_minor`` in cents."""

    package_id: str
    tokens: int
    price_minor: int
    currency: str


class Purchase(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One purchase, as its buyer sees it."""

    purchase_id: str
    package_id: str
    tokens: int
    price_minor: int
    currency: str
    status: str


_PACKAGES = tuple(
    Package(package_id=f"tokens-{tokens}", tokens=tokens, price_minor=price_minor, currency="USD")
    for tokens, price_minor in ((200, 1_000), (500, 2_500), (1_000, 4_800), (2_500, 11_500))
)


def packages() -> tuple[Package, ...]:
    """What is for sale, the smallest first."""
    return _PACKAGES


def top_up(
    db: Database,
    gateway: PaymentGateway,
    *,
    user_id: str,
    package_id: str,
    card: str,
    key: str,
    cause_id: str,
    now: datetime,
) -> Purchase:
    """Buy a package: recorded, charged, credited. Called again with the same ``key`` it goes on, and charges once.

    Raises NotFound for no such package, PaymentRequired CARD_DECLINED, Invalid for a card that the gateway
    does not know, Unavailable when the gateway cannot be reached: the purchase stays pending and the same
    call tries it again.
    """
    purchase = db.run(
        lambda tx: begin_purchase(
            tx, user_id=user_id, package_id=package_id, gateway=gateway.name, key=key, cause_id=cause_id, now=now
        )
    )
    purchase_id = purchase.purchase_id
    if purchase.status in ("created", "pending"):
        try:
            payment = gateway.checkout(
                purchase_id, amount_minor=purchase.price_minor, currency=purchase.currency, card=card
            )
        except Unavailable:
            db.run(lambda tx: _set_pending(tx, purchase_id))
            raise
        except DomainError:
            db.run(lambda tx: fail_purchase(tx, purchase_id, gateway_ref=None, detail="refused", now=now))
            raise
        if payment.good:
            purchase = db.run(
                lambda tx: complete_purchase(tx, purchase_id, gateway_ref=payment.reference, now=now)
            )
        else:
            purchase = db.run(
                lambda tx: fail_purchase(
                    tx, purchase_id, gateway_ref=payment.reference, detail=payment.status, now=now
                )
            )
    if purchase.status == "failed":
        raise PaymentRequired("The card was declined.", code="CARD_DECLINED", purchaseId=purchase_id)
    return purchase


def begin_purchase(
    tx: Session, *, user_id: str, package_id: str, gateway: str, key: str, cause_id: str, now: datetime
) -> Purchase:
    """The row that is there before any gateway is asked; the same one again for the same ``key``.

    Raises NotFound for no such package, Conflict when the key was used for another one.
    """
    package = next((package for package in _PACKAGES if package.package_id == package_id), None)
    if package is None:
        raise NotFound("There is no such package.")
    lock_people(tx, user_id)
    row = tx.scalar(select(PurchaseRow).where(PurchaseRow.user_id == user_id, PurchaseRow.idempotency_key == key))
    if row is None:
        row = PurchaseRow(
            id=ids.new_id(ids.PURCHASE),
            user_id=user_id,
            idempotency_key=key,
            package_id=package_id,
            tokens=package.tokens,
            price_minor=package.price_minor,
            currency=package.currency,
            gateway=gateway,
            status="created",
            cause_id=cause_id,
            created_at=now,
        )
        tx.add(row)
        tx.flush()
    elif row.package_id != package_id:
        raise Conflict("This key was used for another purchase.", code="IDEMPOTENCY_KEY_REUSED")
    return _view(row)


def complete_purchase(tx: Session, purchase_id: str, *, gateway_ref: str, now: datetime) -> Purchase:
    """The gateway has the money: credit the tokens. Again is no harm. Raises NotFound, Conflict if it failed."""
    row = _locked(tx, purchase_id)
    if row.status == "succeeded":
        return _view(row)
    move(tx, PurchaseRow, row.id, row.status, "succeeded", gateway_ref=gateway_ref, succeeded_at=now)
    ledger.top_up(
        tx,
        purchase_id=row.id,
        user_id=row.user_id,
        tokens=row.tokens,
        gateway=row.gateway,
        cause_id=row.cause_id,
        now=now,
    )
    _note(tx, row.id, "succeeded", "", now)
    balance_changed(tx, row.user_id, now)
    return _view(row)


def fail_purchase(
    tx: Session, purchase_id: str, *, gateway_ref: str | None, detail: str, now: datetime
) -> Purchase:
    """The gateway refused. Again is no harm. Raises NotFound, Conflict if it had succeeded."""
    row = _locked(tx, purchase_id)
    if row.status == "failed":
        return _view(row)
    if row.status not in ("created", "pending"):
        raise Conflict("The purchase has succeeded.", status=row.status)
    move(tx, PurchaseRow, row.id, row.status, "failed", gateway_ref=gateway_ref, bad_at=now)
    _note(tx, row.id, "failed", detail, now)
    return _view(row)


def payments_behind(tx: Session, session_id: str) -> tuple[str, ...]:
    """The gateway's references of the good payments whose tokens a session holds, oldest first."""
    request_id = tx.scalar(select(SessionRow.request_id).where(SessionRow.id == session_id))
    if request_id is None:
        return ()
    lots = ledger.lots_behind(tx, request_id)
    good = tx.scalars(
        select(PurchaseRow)
        .where(PurchaseRow.id.in_(lots), PurchaseRow.status == "succeeded")
        .order_by(PurchaseRow.created_at, PurchaseRow.id)
    )
    return tuple(row.gateway_ref for row in good if row.gateway_ref is not None)


def bad_tokens_in(tx: Session, reference: str) -> int:
    """How many of the tokens that are held for ``reference`` (a request's id) come from bad payments."""
    return ledger.bad_tokens_in(tx, reference)


def mark_bad(tx: Session, purchase: str, now: datetime, *, status: BadStatus = "failed") -> bool:
    """A payment that had succeeded is bad: freeze its buyer's spending, take back what can be.

    ``purchase`` is its id or the gateway's reference. Open requests are closed; free tokens go back now,
    held ones when their session is settled, spent ones come from who was paid. False when that was done
    before. Raises NotFound, Conflict for a purchase that never succeeded.
    """
    found = tx.execute(
        select(PurchaseRow.id, PurchaseRow.user_id).where(
            or_(PurchaseRow.id == purchase, PurchaseRow.gateway_ref == purchase)
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such purchase.")
    purchase_id, user_id = found
    lock_people(tx, user_id)
    row = _locked(tx, purchase_id)
    if row.status in BAD and row.succeeded_at is not None:
        return False
    move(tx, PurchaseRow, row.id, "succeeded", status, bad_at=now)
    _note(tx, row.id, status, "", now)
    person = tx.get_one(PersonRow, user_id, populate_existing=True)
    person.spending_frozen_at = person.spending_frozen_at or now
    tx.flush()
    _close_requests(tx, user_id, now)
    ledger.mark_lot_bad(tx, row.id, cause_id=row.cause_id, now=now)
    balance_changed(tx, user_id, now)
    return True


def _close_requests(tx: Session, fan_id: str, now: datetime) -> None:
    """Nothing may be accepted on a frozen account, whichever tokens are behind it."""
    query = select(RequestRow).where(RequestRow.fan_id == fan_id, RequestRow.status.in_(OPEN))
    rows = tx.scalars(query.order_by(RequestRow.id).with_for_update().execution_options(populate_existing=True))
    for row in rows.all():
        close_request(tx, row, "cancelled", now, "payment_failed")


def _set_pending(tx: Session, purchase_id: str) -> None:
    row = _locked(tx, purchase_id)
    if row.status == "created":
        move(tx, PurchaseRow, purchase_id, "created", "pending")


def _locked(tx: Session, purchase_id: str) -> PurchaseRow:
    row = tx.get(PurchaseRow, purchase_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("There is no such purchase.")
    return row


def _note(tx: Session, purchase_id: str, outcome: str, detail: str, now: datetime) -> None:
    tx.add(PaymentAttemptRow(purchase_id=purchase_id, outcome=outcome, detail=detail, at=now))
    tx.flush()


def _view(row: PurchaseRow) -> Purchase:
    return Purchase(
        purchase_id=row.id,
        package_id=row.package_id,
        tokens=row.tokens,
        price_minor=row.price_minor,
        currency=row.currency,
        status=row.status,
    )
