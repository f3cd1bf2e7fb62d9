"""Tokens: the wallet, its statement, and buying more."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Response
from sqlalchemy.orm import Session

from models import idempotency
from models.errors import Conflict
from models.idempotency import StoredResponse
from models.services import payments, wallet
from models.services.payments import Package, Purchase
from models.services.wallet import StatementLine, WalletView
from web import limits
from web.api.schema import ANYONE, FAN, SIGNED_IN, Api, Call, Nothing, Query, answer_json

api = Api("wallet")


class TopUp(msgspec.Struct, frozen=True, rename="camel"):
    """Which package, paid with which of the gateway's cards."""

    package_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    card: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


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
def packages(_call: Call[Nothing]) -> Packages:
    """What tokens cost; prices in cents."""
    return Packages(payments.packages())


@api.own("POST", "/api/wallet/top-up", access=FAN, body=TopUp, answer=Purchase, status=201, idempotency="required",
         limits=(limits.TOP_UP,), errors=("CARD_DECLINED", "NOT_FOUND", "UNAVAILABLE"))  # fmt: skip
def top_up(call: Call[TopUp]) -> Response:
    """Buy a package of tokens. Safe to repeat with the same key: it charges once."""
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
    )
    body = msgspec.json.encode(purchase)
    house.database.run(
        lambda tx: idempotency.store(tx, person_id=user_id, route=route, key=key, status=201, body=body)
    )
    return answer_json(201, body)
