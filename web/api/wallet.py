"""Tokens: the wallet, its statement, and buying more."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Response
from sqlalchemy.orm import Session

from models import idempotency
from models.errors import Conflict, Unavailable
from models.idempotency import StoredResponse
from models.services import payments, purchase_refunds, wallet
from models.services.payments import BuyerLimits, Package, Purchase
from models.services.purchase_refunds import BoughtView, RefundView
from models.services.wallet import StatementLine, WalletView
from web import limits
from web.api.schema import ANYONE, SIGNED_IN, Access, Api, Call, Nothing, Query, answer_json

api = Api("wallet")
PAYER = Access("fan; creator, whose battles have entry fees", roles=frozenset({"fan", "creator"}))


class TopUp(msgspec.Struct, frozen=True, rename="camel"):
    """Which package. ``card``: one of the sandbox's, by name or number. ``save_card``: it may be charged later."""

    package_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    card: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    save_card: bool = False


class RefundWish(msgspec.Struct, frozen=True, rename="camel"):
    """Which purchase, and how many of its unspent tokens; all of them when left out."""

    purchase_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    tokens: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None


class Bought(msgspec.Struct, frozen=True):
    """Purchases that were paid, newest first."""

    purchases: tuple[BoughtView, ...]


class Statement(msgspec.Struct, frozen=True):
    """Transfers in words."""

    lines: tuple[StatementLine, ...]


class Packages(msgspec.Struct, frozen=True):
    """What is for sale, the smallest first."""

    packages: tuple[Package, ...]


@api.read("/api/wallet", access=SIGNED_IN, answer=WalletView)
def wallet_of_caller(tx: Session, call: Call[Nothing]) -> WalletView:
    """The caller's balances, in whole tokens."""
    return wallet.wallet(tx, call.person.user_id)


@api.read("/api/wallet/statement", access=SIGNED_IN, answer=Statement,
          query=(Query("limit", "How many of the latest transfers; 50 when left out.", 1, 500),))  # fmt: skip
def statement(tx: Session, call: Call[Nothing]) -> Statement:
    """The caller's latest transfers in words, newest first."""
    return Statement(wallet.statement(tx, call.person.user_id, call.query.get("limit", 50)))


@api.own("GET", "/api/wallet/packages", access=ANYONE, answer=Packages)
def packages(call: Call[Nothing]) -> Packages:
    """What tokens cost; prices in cents."""
    return Packages(payments.packages(call.house.settings.currency))


@api.own("POST", "/api/wallet/top-up", access=PAYER, body=TopUp, answer=Purchase, status=201,
         idempotency="required", limits=(limits.TOP_UP,),
         errors=("CARD_DECLINED", "NOT_FOUND", "PURCHASE_LIMIT", "SPENDING_FROZEN", "GATEWAY_REFUSED",
                 "UNAVAILABLE"))  # fmt: skip
def top_up(call: Call[TopUp]) -> Response:
    """Buy a package of tokens. Safe to repeat with the same key: it charges once.

    A purchase that is `pending` is paid at its `checkoutUrl`, from where the browser comes back here.
    """
    house, key, user_id = call.house, call.key, call.person.user_id
    assert key is not None
    route = "POST /api/wallet/top-up"

    def claim(tx: Session) -> StoredResponse | None:
        return idempotency.claim(
            tx, person_id=user_id, route=route, key=key, body=call.raw_body, now=call.now
        )

    try:
        stored = house.database.run(claim)
    except Conflict as error:
        if error.code != "IN_PROGRESS":
            raise
        # Begun before and not finished: the service goes on with the purchase of that key.
        stored = None
    if stored is not None:
        return answer_json(stored.status, stored.body, replayed=True)
    purchase = payments.top_up(
        house.database,
        house.gateway,
        user_id=user_id,
        package_id=call.body.package_id,
        card=call.body.card,
        key=key,
        cause_id=call.cause_id,
        now=call.now,
        return_url=lambda purchase_id: f"{house.settings.public_url}/wallet/purchases/{purchase_id}",
        currency=house.settings.currency,
        save_card=call.body.save_card,
        limits=BuyerLimits(
            days=house.settings.new_buyer_days, daily_minor=house.settings.new_buyer_daily_minor
        ),
    )
    body = msgspec.json.encode(purchase)
    house.database.run(
        lambda tx: idempotency.store(tx, person_id=user_id, route=route, key=key, status=201, body=body)
    )
    return answer_json(201, body)


@api.read("/api/wallet/purchases", access=SIGNED_IN, answer=Bought)
def purchases_of_caller(tx: Session, call: Call[Nothing]) -> Bought:
    """The caller's purchases, with what is unspent of each and what that would be given back for."""
    return Bought(purchase_refunds.bought(tx, call.person.user_id))


@api.read("/api/wallet/purchases/<purchase_id>", access=SIGNED_IN, answer=Purchase, errors=("NOT_FOUND",))
def purchase(tx: Session, call: Call[Nothing]) -> Purchase:
    """One of the caller's purchases; while it is `pending`, nobody knows yet whether it was paid."""
    return payments.purchase_of(tx, call.path["purchase_id"], call.person.user_id)


@api.own("POST", "/api/wallet/purchases/<purchase_id>/refresh", access=SIGNED_IN, answer=Purchase,
         limits=(limits.PURCHASE_REFRESH,), errors=("NOT_FOUND",))  # fmt: skip
def refresh_purchase(call: Call[Nothing]) -> Purchase:
    """Ask the payment provider now; `pending` is answered as well when it cannot be reached."""
    house, purchase_id, user_id = call.house, call.path["purchase_id"], call.person.user_id
    with house.database.reading() as tx:
        known = payments.purchase_of(tx, purchase_id, user_id)
    if known.status not in ("created", "pending"):
        return known
    try:
        return payments.reconcile(house.database, house.gateway, purchase_id, call.now)
    except Unavailable:
        return known


@api.write("POST", "/api/wallet/refunds", access=SIGNED_IN, body=RefundWish, answer=RefundView, status=202,
           idempotency="required", limits=(limits.REFUND,),
           errors=("NOT_FOUND", "NOT_REFUNDABLE", "NOT_UNSPENT", "SPENDING_FROZEN"))  # fmt: skip
def refund_unused(tx: Session, call: Call[RefundWish]) -> RefundView:
    """Give unspent tokens of a purchase back for money, to the card that paid for them.

    The tokens leave at once; when the payment provider refuses, they come back.
    """
    return purchase_refunds.request(
        tx,
        user_id=call.person.user_id,
        purchase_id=call.body.purchase_id,
        tokens=call.body.tokens,
        cause_id=call.cause_id,
        now=call.now,
    )
