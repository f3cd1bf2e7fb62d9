"""A purchase as a row: what is for sale, who may buy how much, and the purchase's steps, each repeatable.

Knows no gateway beyond its name; ``payments`` asks gateways and moves purchases with what is here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import BindParameter, Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from models import ids, ledger
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.machine import move
from models.payments import PaymentAttemptRow, PaymentCustomerRow, PurchaseRow
from models.people import PersonRow
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people

Way = Literal["checkout", "saved"]

# Built once: each question to a gateway passes here, and building them took longer than executing them.
_PURCHASE: BindParameter[str] = bindparam("purchase")
_FIND = select(PurchaseRow).where(or_(PurchaseRow.id == _PURCHASE, PurchaseRow.gateway_ref == _PURCHASE))
_LOCKED = (
    select(PurchaseRow)
    .where(PurchaseRow.id == _PURCHASE)
    .with_for_update()
    .execution_options(populate_existing=True)
)
_CUSTOMER = select(PaymentCustomerRow.customer_ref).where(
    PaymentCustomerRow.user_id == bindparam("user_id"), PaymentCustomerRow.gateway == bindparam("gateway")
)

EXACT = "exact"
"""The package of a purchase by saved card: as many tokens as were wanted."""
SMALLEST_CHARGE_MINOR = 50
"""What a card is charged at least; providers refuse less."""

ASK_AFTER = timedelta(minutes=1)
"""Nobody has said by then what became of a purchase: the gateway is asked, and again each minute."""
REVIEW_AFTER = timedelta(seconds=30)
REVIEW_FOR = timedelta(days=180)
"""A good payment is looked at again after this, then ever more rarely, for as long as one may be disputed."""


class Package(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens at a price; ``price_minor`` in cents."""

    package_id: str
    tokens: int
    price_minor: int
    currency: str


class Purchase(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One purchase, as its buyer sees it. While it is pending, ``checkout_url`` is where to pay, if anywhere."""

    purchase_id: str
    package_id: str
    tokens: int
    price_minor: int
    currency: str
    status: str
    checkout_url: str | None = None


class BuyerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a new buyer may spend in 24 hours. New: the first good payment is not ``days`` days ago yet."""

    days: int
    daily_minor: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to buy, before there is a row for it."""

    user_id: str
    package_id: str
    gateway: str
    key: str
    currency: str = "USD"
    tokens: int | None = None
    """For ``EXACT`` alone."""
    way: Way = "checkout"
    save_card: bool = False


_PRICES = ((200, 1_000), (500, 2_500), (1_000, 4_800), (2_500, 11_500))


def packages(currency: str = "USD") -> tuple[Package, ...]:
    """What is for sale, the smallest first; the same numbers in whichever currency the house sells in."""
    return tuple(
        Package(package_id=f"tokens-{tokens}", tokens=tokens, price_minor=price_minor, currency=currency)
        for tokens, price_minor in _PRICES
    )


def exact_price(tokens: int) -> int:
    """What exactly ``tokens`` tokens cost, in cents: the smallest package's price of a token, rounded up."""
    smallest, price_minor = _PRICES[0]
    return -(-tokens * price_minor // smallest)


def chargeable(tokens: int) -> int:
    """The fewest tokens, at least ``tokens``, whose price a card may be charged."""
    smallest, price_minor = _PRICES[0]
    return max(tokens, -(-SMALLEST_CHARGE_MINOR * smallest // price_minor))


def begin(
    tx: Session, wanted: Wanted, *, cause_id: str, now: datetime, limits: BuyerLimits | None = None
) -> PurchaseRow:
    """The row that is there before any gateway is asked; the same one again for the same key.

    Raises NotFound for no such package, Conflict when the key was used for another one, Forbidden
    PURCHASE_LIMIT (``limit_minor``, ``spent_minor``) for a new buyer in a hurry, SPENDING_FROZEN for one whose
    payment is disputed.
    """
    package = _package(wanted)
    lock_people(tx, wanted.user_id)
    mine = (PurchaseRow.user_id == wanted.user_id, PurchaseRow.idempotency_key == wanted.key)
    row = tx.scalar(select(PurchaseRow).where(*mine))
    if row is not None:
        if (row.package_id, row.tokens) != (package.package_id, package.tokens):
            raise Conflict("This key was used for another purchase.", code="IDEMPOTENCY_KEY_REUSED")
        return row
    if tx.scalar(_frozen(wanted.user_id)) is not None:
        raise Forbidden("Nothing is bought until a payment is cleared up.", code="SPENDING_FROZEN")
    if limits is not None:
        _check_limits(tx, wanted.user_id, package.price_minor, limits, now)
    row = PurchaseRow(
        id=ids.new_id(ids.PURCHASE),
        user_id=wanted.user_id,
        idempotency_key=wanted.key,
        package_id=package.package_id,
        tokens=package.tokens,
        price_minor=package.price_minor,
        currency=package.currency,
        gateway=wanted.gateway,
        way=wanted.way,
        save_card=wanted.save_card,
        status="created",
        cause_id=cause_id,
        created_at=now,
        ask_at=now + ASK_AFTER,
    )
    tx.add(row)
    tx.flush()
    return row


def begin_purchase(
    tx: Session, *, user_id: str, package_id: str, gateway: str, key: str, cause_id: str, now: datetime
) -> Purchase:
    """``begin`` without limits, for whoever needs no more than a package."""
    wanted = Wanted(user_id=user_id, package_id=package_id, gateway=gateway, key=key)
    return view(begin(tx, wanted, cause_id=cause_id, now=now))


def complete_purchase(tx: Session, purchase_id: str, *, gateway_ref: str, now: datetime) -> Purchase:
    """The gateway has the money: credit the tokens. Again is no harm, nor after we had given it up.

    Raises NotFound, Conflict when it had succeeded before and has turned bad since.
    """
    row = locked_purchase(tx, purchase_id)
    if row.status == "succeeded":
        return view(row)
    if row.succeeded_at is not None:
        raise Conflict("The payment has turned bad.", status=row.status)
    values = {"gateway_ref": gateway_ref, "succeeded_at": now, "ask_at": now + REVIEW_AFTER}
    move(tx, PurchaseRow, row.id, row.status, "succeeded", **values)
    ledger.top_up(
        tx,
        purchase_id=row.id,
        user_id=row.user_id,
        tokens=row.tokens,
        gateway=row.gateway,
        cause_id=row.cause_id,
        now=now,
    )
    note(tx, row.id, "succeeded", "", now)
    balance_changed(tx, row.user_id, now)
    tx.refresh(row)
    tell(tx, row.user_id, "PURCHASE_CHANGED", now, purchaseId=row.id, status=row.status)
    return view(row)


def fail_purchase(
    tx: Session, purchase_id: str, *, gateway_ref: str | None, detail: str, now: datetime
) -> Purchase:
    """The gateway refused. Again is no harm. Raises NotFound, Conflict if it had succeeded."""
    row = locked_purchase(tx, purchase_id)
    if row.status == "failed":
        return view(row)
    if row.status not in ("created", "pending"):
        raise Conflict("The purchase has succeeded.", status=row.status)
    reference = gateway_ref or row.gateway_ref
    move(tx, PurchaseRow, row.id, row.status, "failed", gateway_ref=reference, bad_at=now, ask_at=None)
    note(tx, row.id, "failed", detail, now)
    tx.refresh(row)
    tell(tx, row.user_id, "PURCHASE_CHANGED", now, purchaseId=row.id, status=row.status)
    return view(row)


def await_payment(tx: Session, purchase_id: str, *, reference: str | None, url: str | None) -> Purchase:
    """The buyer is paying, or the answer was lost: pending until the gateway says what became of it."""
    row = locked_purchase(tx, purchase_id)
    if row.status == "created":
        move(tx, PurchaseRow, purchase_id, "created", "pending")
        tx.refresh(row)
    if row.status == "pending":
        row.gateway_ref = row.gateway_ref or reference
        row.checkout_url = url or row.checkout_url
        tx.flush()
    return view(row)


def next_ask(row: PurchaseRow, now: datetime) -> datetime | None:
    """When the gateway is asked next: each minute while nothing is known, then at 1.5 times its age."""
    if row.succeeded_at is None:
        return now + ASK_AFTER if row.status in ("created", "pending") else None
    age = now - row.succeeded_at
    return now + max(REVIEW_AFTER, age / 2) if age < REVIEW_FOR else None


def remember_customer(tx: Session, row: PurchaseRow, customer_ref: str, now: datetime) -> None:
    """The buyer let the card be saved; the latest one counts."""
    known = tx.get(PaymentCustomerRow, (row.user_id, row.gateway))
    if known is None:
        tx.add(
            PaymentCustomerRow(user_id=row.user_id, gateway=row.gateway, customer_ref=customer_ref, saved_at=now)
        )
    else:
        known.customer_ref, known.saved_at = customer_ref, now
    tx.flush()


def saved_customer(tx: Session, user_id: str, gateway: str) -> str | None:
    """Whom a gateway may charge without asking; None when the buyer has saved no card there."""
    return tx.scalar(_CUSTOMER, {"user_id": user_id, "gateway": gateway})


def find_purchase(tx: Session, purchase: str) -> PurchaseRow | None:
    """By its own id or the gateway's reference."""
    return tx.scalar(_FIND, {"purchase": purchase})


def locked_purchase(tx: Session, purchase_id: str) -> PurchaseRow:
    """The row, nobody else's to change until the transaction ends. Raises NotFound."""
    row = tx.scalar(_LOCKED, {"purchase": purchase_id})
    if row is None:
        raise NotFound("There is no such purchase.")
    return row


def note(tx: Session, purchase_id: str, outcome: str, detail: str, now: datetime) -> None:
    """Keep what the gateway answered, for whoever asks later."""
    tx.add(PaymentAttemptRow(purchase_id=purchase_id, outcome=outcome, detail=detail, at=now))
    tx.flush()


def view(row: PurchaseRow) -> Purchase:
    """As its buyer sees it."""
    return Purchase(
        purchase_id=row.id,
        package_id=row.package_id,
        tokens=row.tokens,
        price_minor=row.price_minor,
        currency=row.currency,
        status=row.status,
        checkout_url=row.checkout_url if row.status == "pending" else None,
    )


def _frozen(user_id: str) -> Select[datetime | None]:
    return select(PersonRow.spending_frozen_at).where(PersonRow.id == user_id)


def _package(wanted: Wanted) -> Package:
    if wanted.package_id == EXACT:
        if wanted.tokens is None or wanted.tokens < 1:
            raise Invalid("How many tokens?", field="tokens")
        tokens = chargeable(wanted.tokens)
        return Package(
            package_id=EXACT, tokens=tokens, price_minor=exact_price(tokens), currency=wanted.currency
        )
    for package in packages(wanted.currency):
        if package.package_id == wanted.package_id:
            return package
    raise NotFound("There is no such package.")


def _check_limits(tx: Session, user_id: str, price_minor: int, limits: BuyerLimits, now: datetime) -> None:
    """Stolen cards are tried fast and in full: a buyer whom time has not tested yet goes slowly."""
    proven = select(PurchaseRow.id).where(
        PurchaseRow.user_id == user_id,
        PurchaseRow.status == "succeeded",
        PurchaseRow.succeeded_at <= now - timedelta(days=limits.days),
    )
    if tx.scalar(proven.limit(1)) is not None:
        return
    # What is still being paid counts as well: ten checkouts at once are no way around.
    query = select(func.coalesce(func.sum(PurchaseRow.price_minor), 0)).where(
        PurchaseRow.user_id == user_id,
        PurchaseRow.created_at > now - timedelta(days=1),
        or_(PurchaseRow.status != "failed", PurchaseRow.succeeded_at.is_not(None)),
    )
    spent = int(tx.scalar(query) or 0)
    if spent + price_minor > limits.daily_minor:
        raise Forbidden(
            "New buyers may spend only so much in a day.",
            code="PURCHASE_LIMIT",
            limit_minor=limits.daily_minor,
            spent_minor=spent,
        )
