"""Buying tokens: what is asked of a gateway, and what its answers change.

A purchase is a row before the gateway is asked and is completed after, so no transaction waits for a
network. Whatever tells us of a payment (an answer, a webhook, a poll) ends in ``apply``, which brings the
purchase to what the gateway says is true now: late, twice and out of order are the same to it. An answer
that was overtaken by another while it was on its way says nothing any more, and is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from models import ledger, outbox
from models.db import Database
from models.errors import DomainError, NotFound, PaymentRequired, Unavailable
from models.gateways.base import PAY_WITHIN, Order, Payment, PaymentGateway
from models.payments import BAD, PaymentAttemptRow, PurchaseRow
from models.services import disputes, outside_refunds, purchases
from models.services.disputes import BadStatus, mark_bad
from models.services.paid_from import bookings_paid, open_requests_paid, paid_from, payments_behind
from models.services.purchases import (
    BuyerLimits,
    Package,
    Purchase,
    Wanted,
    begin_purchase,
    complete_purchase,
    fail_purchase,
    packages,
    saved_customer,
)

__all__ = [
    "BadStatus",
    "BuyerLimits",
    "Package",
    "Purchase",
    "apply",
    "ask",
    "bad_tokens_in",
    "begin_purchase",
    "bookings_paid",
    "charge_saved",
    "complete_purchase",
    "fail_purchase",
    "is_news",
    "known",
    "mark_bad",
    "open_requests_paid",
    "order_of",
    "packages",
    "paid_from",
    "payments_behind",
    "purchase_of",
    "reconcile",
    "reconcile_due",
    "saved_customer",
    "seen",
    "top_up",
    "was_paid",
]

ABANDONED_AFTER = 2 * PAY_WITHIN
"""The provider never heard of it by then, so nobody can pay it any more."""
MOST_QUESTIONS = 3
"""How often an answer may be overtaken before the asking waits for its next turn."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer changed. ``turned_bad``: a payment that had been good is bad now.

    ``overtaken``: nothing, since something else was taken in after the question had been asked.
    """

    purchase: Purchase
    turned_bad: bool = False
    overtaken: bool = False


def top_up(
    db: Database,
    gateway: PaymentGateway,
    *,
    user_id: str,
    package_id: str,
    card: str | None = None,
    key: str,
    cause_id: str,
    now: datetime,
    return_url: Callable[[str], str] | None = None,
    currency: str = "USD",
    save_card: bool = False,
    limits: BuyerLimits | None = None,
) -> Purchase:
    """Buy a package: recorded, charged, credited. Called again with the same ``key`` it goes on, and charges once.

    A purchase that comes back ``pending`` has a ``checkout_url``: the buyer pays there, and is sent to
    ``return_url(purchase id)`` afterwards. Raises NotFound for no such package, PaymentRequired
    CARD_DECLINED, Invalid for a card that the gateway does not know, Forbidden PURCHASE_LIMIT, Unavailable
    when the gateway cannot be reached: the purchase stays pending and the same call tries it again.
    """
    wanted = Wanted(
        user_id=user_id,
        package_id=package_id,
        gateway=gateway.name,
        key=key,
        currency=currency,
        save_card=save_card,
    )
    order, purchase, before = db.run(lambda tx: _begin(tx, wanted, cause_id, now, limits))
    if purchase.status in ("created", "pending") and purchase.checkout_url is None:
        try:
            checkout = gateway.create_checkout(
                order, return_url=return_url(order.purchase_id) if return_url else "", card=card
            )
        except Unavailable:
            _unknown(db, order)
            raise
        except DomainError:
            _refused(db, order, now)
            raise
        if checkout.payment is not None:
            purchase = _take(db, order, checkout.payment, now, before)
        else:
            purchase = db.run(
                lambda tx: purchases.await_payment(
                    tx, order.purchase_id, reference=checkout.reference, url=checkout.url
                )
            )
    return _or_declined(purchase)


def charge_saved(
    db: Database,
    gateway: PaymentGateway,
    *,
    user_id: str,
    tokens: int,
    key: str,
    cause_id: str,
    now: datetime,
    currency: str = "USD",
    limits: BuyerLimits | None = None,
) -> Purchase:
    """Buy ``tokens`` tokens with the buyer's saved card, without the buyer; once a ``key``.

    A few more when so few cost less than a card is charged at least. The answer is ``succeeded``, or
    ``pending`` when the provider has not decided: the same call asks again. Raises PaymentRequired
    CARD_DECLINED or NO_SAVED_CARD, Forbidden PURCHASE_LIMIT, Unavailable (outcome unknown: the same call asks
    again).
    """
    wanted = Wanted(
        user_id=user_id,
        package_id=purchases.EXACT,
        tokens=tokens,
        gateway=gateway.name,
        key=key,
        currency=currency,
        way="saved",
    )
    order, purchase, before = db.run(lambda tx: _begin(tx, wanted, cause_id, now, limits))
    if purchase.status in ("created", "pending"):
        if order.customer_ref is None:
            _refused(db, order, now)
            raise _no_saved_card(order.purchase_id)
        try:
            payment = gateway.charge_saved(order)
        except Unavailable:
            _unknown(db, order)
            raise
        except NotFound as error:
            _refused(db, order, now)
            raise _no_saved_card(order.purchase_id) from error
        purchase = _take(db, order, payment, now, before)
    return _or_declined(purchase)


_SEEN = select(func.count()).where(PaymentAttemptRow.purchase_id == bindparam("purchase"))
"""Built once: nearly every question to a gateway asks it, and building it took longer than executing it."""


def seen(tx: Session, purchase_id: str) -> int:
    """How much was taken in about a purchase; a question remembers it, so that its answer is not applied late."""
    return tx.scalar(_SEEN, {"purchase": purchase_id}) or 0


def apply(tx: Session, purchase_id: str, payment: Payment, now: datetime, *, before: int | None = None) -> Applied:
    """Bring a purchase to what the gateway says is true. Raises NotFound.

    ``before``: what ``seen`` said before the gateway was asked; without it only a dispute that was won since
    ``now``, the time of the question, is not opened again. A dispute that is heard of before the success it
    disputes credits the tokens first, so that the books show both. Money that came although we had given the
    purchase up is credited too.
    """
    disputes.lock_parties(tx, purchase_id)
    row = purchases.locked_purchase(tx, purchase_id)
    if before is None:
        overtaken = payment.dispute is not None and disputes.won_since(tx, row, payment.dispute, now)
    else:
        overtaken = before != seen(tx, purchase_id)
    if overtaken:
        return Applied(purchase=purchases.view(row), overtaken=True)
    if payment.status == "pending":
        view = purchases.await_payment(tx, row.id, reference=payment.reference, url=None)
        return Applied(purchase=view)
    if row.succeeded_at is None:
        if payment.status == "failed":
            view = purchases.fail_purchase(
                tx, row.id, gateway_ref=payment.reference, detail=payment.detail or "failed", now=now
            )
            return Applied(purchase=view)
        purchases.complete_purchase(tx, row.id, gateway_ref=payment.reference, now=now)
        tx.refresh(row)
    if payment.customer_ref is not None and row.save_card:
        purchases.remember_customer(tx, row, payment.customer_ref, now)
    if payment.flagged and row.flagged_at is None:
        row.flagged_at = now
        purchases.note(tx, row.id, "flagged", "early_fraud_warning", now)
    if payment.dispute is not None:
        disputes.note_dispute(tx, row.id, payment.dispute, now)
    turned_bad = False
    if payment.status in ("failed", "disputed"):
        turned_bad = mark_bad(tx, row.id, now, status=payment.status)
    else:
        if row.status == "disputed" and payment.dispute is not None:
            # Won; and first, for only of a good purchase it is known which tokens are unspent.
            disputes.good_again(tx, row.id, now)
            tx.refresh(row)
        if outside_refunds.take_in(tx, row, payment.refunded_outside_minor, now):
            turned_bad = mark_bad(tx, row.id, now)
        elif row.status == "failed":
            disputes.good_again(tx, row.id, now)
    tx.refresh(row)
    if row.status not in BAD:
        outside_refunds.settle(tx, row, now)
        tx.refresh(row)
    return Applied(purchase=purchases.view(row), turned_bad=turned_bad)


class Known(msgspec.Struct, frozen=True):
    """What we know of a purchase before a question: its answer is news, or it is not."""

    row: PurchaseRow
    seen: int
    """See ``seen``: an answer that was overtaken is not applied."""
    customer: str | None


def known(tx: Session, row: PurchaseRow) -> Known:
    """To be read just before the gateway is asked."""
    customer = purchases.saved_customer(tx, row.user_id, row.gateway) if row.save_card else None
    return Known(row, seen(tx, row.id), customer)


def is_news(before: Known, payment: Payment) -> bool:
    """Whether ``apply`` has to look. Nearly every answer says what was known: then nothing is read or written.

    What others have taken in meanwhile is at least as new as an answer that knows no more than we knew.
    """
    row = before.row
    if row.status == payment.status == "pending" and row.gateway_ref is not None:
        return False
    if row.status != "succeeded" or payment.status != "succeeded" or payment.dispute is not None:
        return True
    if payment.refunded_outside_minor or row.refunded_outside_minor:
        return True
    if payment.flagged and row.flagged_at is None:
        return True
    return row.save_card and payment.customer_ref is not None and payment.customer_ref != before.customer


def ask(db: Database, gateway: PaymentGateway, before: Known, reference: str, now: datetime) -> Applied:
    """Ask how a payment stands and apply the answer; asked again when something was taken in meanwhile.

    ``before``: what was ``known`` just now. Raises NotFound, Unavailable.
    """
    for _ in range(MOST_QUESTIONS):
        applied = _taken(db, before, gateway.status(reference), now)
        if not applied.overtaken:
            return applied
        with db.reading() as tx:
            before = known(tx, tx.get_one(PurchaseRow, before.row.id))
    raise Unavailable("Others are hearing of this payment at the same time.")


def reconcile(db: Database, gateway: PaymentGateway, purchase_id: str, now: datetime) -> Purchase:
    """Ask what became of a purchase and apply the answer: what is not known yet, or has turned bad since.

    Closes the gap of a crash between the charge and the credit, and that of a webhook which never came.
    Raises NotFound, Unavailable.
    """
    with db.reading() as tx:
        row = tx.get(PurchaseRow, purchase_id)
        if row is None:
            raise NotFound("There is no such purchase.")
        view, before = purchases.view(row), known(tx, row)
        order = order_of(tx, row) if row.gateway_ref is None else None
    unknown = row.status in ("created", "pending")
    if row.gateway != gateway.name or not (unknown or row.succeeded_at):
        return view
    if row.gateway_ref is not None:
        return ask(db, gateway, before, row.gateway_ref, now).purchase
    if order is not None and (payment := gateway.recall(order)) is not None:
        return _taken(db, before, payment, now).purchase
    if now - row.created_at < ABANDONED_AFTER:
        if row.status == "pending":
            return view
        return db.run(lambda tx: purchases.await_payment(tx, purchase_id, reference=None, url=None))
    return db.run(lambda tx: fail_purchase(tx, purchase_id, gateway_ref=None, detail="abandoned", now=now))


def reconcile_due(tx: Session, now: datetime, limit: int = 100) -> int:
    """Have workers ask about the purchases whose time for it has come, the longest due first; how many."""
    query = select(PurchaseRow).where(PurchaseRow.ask_at <= now)
    rows = tx.scalars(query.order_by(PurchaseRow.ask_at, PurchaseRow.id).limit(limit)).all()
    for row in rows:
        outbox.actor(tx, "payments", "reconcile_purchase", row.id, cause_id=row.cause_id, now=now)
    # Afterwards, so that it is one statement for all: each message writes what is pending first.
    for row in rows:
        row.ask_at = purchases.next_ask(row, now)
    tx.flush()
    return len(rows)


def purchase_of(tx: Session, purchase_id: str, user_id: str) -> Purchase:
    """A person's own purchase. Raises NotFound, also for somebody else's."""
    row = tx.get(PurchaseRow, purchase_id)
    if row is None or row.user_id != user_id:
        raise NotFound("There is no such purchase.")
    return purchases.view(row)


def was_paid(tx: Session, purchase_id: str) -> bool:
    """Whether its tokens were ever credited."""
    row = tx.get(PurchaseRow, purchase_id)
    return row is not None and row.succeeded_at is not None


def order_of(tx: Session, row: PurchaseRow) -> Order:
    """What is put before the gateway for a purchase: the same each time."""
    return Order(
        purchase_id=row.id,
        buyer_id=row.user_id,
        title=f"{row.tokens:,} tokens",
        amount_minor=row.price_minor,
        currency=row.currency,
        created_at=row.created_at,
        customer_ref=saved_customer(tx, row.user_id, row.gateway),
        save_card=row.save_card,
    )


def bad_tokens_in(tx: Session, reference: str) -> int:
    """How many of the tokens that are held for ``reference`` (a request's id) come from bad payments."""
    return ledger.bad_tokens_in(tx, reference)


def _begin(
    tx: Session, wanted: Wanted, cause_id: str, now: datetime, limits: BuyerLimits | None
) -> tuple[Order, Purchase, int]:
    row = purchases.begin(tx, wanted, cause_id=cause_id, now=now, limits=limits)
    return order_of(tx, row), purchases.view(row), seen(tx, row.id)


def _take(db: Database, order: Order, payment: Payment, now: datetime, before: int) -> Purchase:
    """An answer that was overtaken changes nothing: what overtook it says how the purchase stands."""
    return db.run(lambda tx: apply(tx, order.purchase_id, payment, now, before=before)).purchase


def _taken(db: Database, before: Known, payment: Payment, now: datetime) -> Applied:
    if not is_news(before, payment):
        return Applied(purchase=purchases.view(before.row))
    return db.run(lambda tx: apply(tx, before.row.id, payment, now, before=before.seen))


def _unknown(db: Database, order: Order) -> None:
    db.run(lambda tx: purchases.await_payment(tx, order.purchase_id, reference=None, url=None))


def _refused(db: Database, order: Order, now: datetime) -> None:
    db.run(lambda tx: fail_purchase(tx, order.purchase_id, gateway_ref=None, detail="refused", now=now))


def _or_declined(purchase: Purchase) -> Purchase:
    if purchase.status == "failed":
        raise PaymentRequired(
            "The card was declined.", code="CARD_DECLINED", purchaseId=purchase.purchase_id
        )
    return purchase


def _no_saved_card(purchase_id: str) -> PaymentRequired:
    return PaymentRequired("There is no saved card.", code="NO_SAVED_CARD", purchaseId=purchase_id)
