"""Passes of the caller: a day of a creator's best picture without a subscription."""

from __future__ import annotations

import msgspec
from sqlalchemy.orm import Session

from models import ledger
from models.services import accounts, passes
from models.services.passes import PassView
from web import limits
from web.api.schema import FAN, SIGNED_IN, Api, Call, Nothing
from web.api.streaming import Id, Tokens

api = Api("passes")


class PassOffer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a day costs now, in tokens; without ``priceTokens`` the creator sells no passes.

    ``current``: the caller's pass that is valid now.
    """

    creator_id: str
    balance: int
    hours: int
    price_tokens: int | None = None
    current: PassView | None = None


class PassBody(msgspec.Struct, frozen=True, rename="camel"):
    """For whose picture; ``maxPrice`` is the price that the fan saw."""

    creator_id: Id
    max_price: Tokens


@api.read("/api/streaming/pass-offer/<creator_id>", access=SIGNED_IN, answer=PassOffer,
          errors=("NOT_FOUND",))  # fmt: skip
def pass_offer(tx: Session, call: Call[Nothing]) -> PassOffer:
    """What a pass for a creator costs, and the caller's own that is valid now."""
    creator_id, person_id = call.path["creator_id"], call.person.user_id
    accounts.require_creator(tx, creator_id)
    return PassOffer(
        creator_id=creator_id,
        balance=ledger.balance(tx, ledger.account_id("wallet", person_id)),
        hours=int(passes.LASTS.total_seconds() // 3600),
        price_tokens=passes.price_of(tx, creator_id),
        current=passes.between(tx, person_id, creator_id, call.now),
    )


@api.write("POST", "/api/streaming/passes", access=FAN, body=PassBody, answer=PassView, status=201,
           idempotency="required", limits=(limits.PASS,),
           errors=("INSUFFICIENT_TOKENS", "SPENDING_CAP", "SPENDING_FROZEN", "NOT_A_FAN", "OWN_STREAM", "BLOCKED",
                   "NOT_FOUND", "PASS_NOT_OFFERED", "PASS_ACTIVE", "ALREADY_SUBSCRIBED", "STREAM_NOT_LIVE",
                   "PRICE_CHANGED", "UNAVAILABLE"))  # fmt: skip
def buy_pass(tx: Session, call: Call[PassBody]) -> PassView:
    """Buy a pass while the creator's picture is broadcast: 24 hours in 720p, paid at once and final.

    The next answer of ``POST /api/streaming/spectate`` is of the tier ``premium``.
    """
    assert call.key is not None  # required
    return passes.buy(
        tx,
        fan=call.person,
        creator_id=call.body.creator_id,
        max_price=call.body.max_price,
        key=call.key,
        now=call.now,
        settings=call.house.settings,
        cause_id=call.cause_id,
    )
