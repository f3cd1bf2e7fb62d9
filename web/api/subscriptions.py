"""Subscriptions of the caller to creators: what is offered, beginning, ending, taking the end back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from flask import Response
from sqlalchemy.orm import Session

from models import idempotency, ledger
from models.errors import Conflict, Unavailable
from models.idempotency import StoredResponse
from models.months import next_month
from models.services import accounts, payments, purchases, subscriptions
from models.services.payments import BuyerLimits
from models.services.subscriptions import PaidBy, SubscriptionView
from web import limits
from web.api.schema import CREATOR, FAN, SIGNED_IN, Api, Call, Nothing, answer_json
from web.api.streaming import Id, Tokens

api = Api("subscriptions")
_ROUTE = "POST /api/streaming/subscriptions"


class Subscribe(msgspec.Struct, frozen=True, rename="camel"):
    """To whom; ``maxPrice`` and ``minMinutes`` are what the fan saw. ``gateway`` pays with the saved card."""

    creator_id: Id
    pay_with: Literal["tokens", "gateway"] = "tokens"
    max_price: Tokens | None = None
    min_minutes: Annotated[int, msgspec.Meta(ge=0, le=600)] | None = None


class OfferAnswer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a creator offers now (prices in tokens a month), and the caller's own subscription.

    Without ``priceTokens`` the creator offers none. ``cardPriceMinor`` is what the caller's saved card would
    be charged, in the currency's minor unit; left out without a saved card.
    """

    creator_id: str
    balance: int
    price_tokens: int | None = None
    included_minutes: int = 0
    discount_percent: int = 0
    card_price_minor: int | None = None
    currency: str = ""
    renews_at: datetime | None = None
    """When the next month is paid, for who subscribes this instant; left out where nothing is offered."""
    subscription: SubscriptionView | None = None


class Subscriptions(msgspec.Struct, frozen=True, rename="camel"):
    """Those that have not ended first, then the latest ended."""

    subscriptions: tuple[SubscriptionView, ...]


class Subscribers(msgspec.Struct, frozen=True):
    """How many have the benefits now."""

    count: int


@api.read("/api/streaming/subscription-offer/<creator_id>", access=SIGNED_IN, answer=OfferAnswer,
          errors=("NOT_FOUND",))  # fmt: skip
def subscription_offer(tx: Session, call: Call[Nothing]) -> OfferAnswer:
    """What a month's subscription to a creator costs and gives, and the caller's own."""
    creator_id, person_id = call.path["creator_id"], call.person.user_id
    accounts.require_creator(tx, creator_id)
    offer = subscriptions.offer_of(tx, creator_id)
    by_card = offer is not None and payments.saved_customer(tx, person_id, call.house.gateway.name) is not None
    return OfferAnswer(
        creator_id=creator_id,
        balance=ledger.balance(tx, ledger.account_id("wallet", person_id)),
        price_tokens=offer.price_tokens if offer else None,
        included_minutes=offer.included_minutes if offer else 0,
        discount_percent=offer.discount_percent if offer else 0,
        card_price_minor=_card_price(offer.price_tokens) if offer and by_card else None,
        currency=call.house.settings.currency if by_card else "",
        renews_at=next_month(call.now, call.now) if offer else None,
        subscription=subscriptions.between(tx, person_id, creator_id, call.now),
    )


@api.read("/api/streaming/subscriptions", access=SIGNED_IN, answer=Subscriptions)
def list_subscriptions(tx: Session, call: Call[Nothing]) -> Subscriptions:
    """The caller's subscriptions."""
    return Subscriptions(subscriptions.of_fan(tx, call.person.user_id, call.now))


@api.read("/api/streaming/subscribers", access=CREATOR, answer=Subscribers)
def subscribers(tx: Session, call: Call[Nothing]) -> Subscribers:
    """How many subscribe to the caller."""
    return Subscribers(subscriptions.subscriber_count(tx, call.person.user_id, call.now))


@api.own("POST", "/api/streaming/subscriptions", access=FAN, body=Subscribe, answer=SubscriptionView, status=201,
         idempotency="required", limits=(limits.SUBSCRIBE,),
         errors=("INSUFFICIENT_TOKENS", "CARD_DECLINED", "NO_SAVED_CARD", "PURCHASE_LIMIT", "SPENDING_CAP",
                 "SPENDING_FROZEN", "NOT_A_FAN", "OWN_STREAM", "BLOCKED", "NOT_FOUND", "SUBSCRIPTION_NOT_OFFERED",
                 "ALREADY_SUBSCRIBED", "PRICE_CHANGED", "UNAVAILABLE"))  # fmt: skip
def subscribe(call: Call[Subscribe]) -> Response:
    """Subscribe: the first month is paid now, the next ones by themselves until it is cancelled.

    Safe to repeat with the same key: it pays once. With the saved card exactly the price is bought first.
    """
    if call.body.pay_with == "tokens":
        return _paid(call, "tokens", claimed=False)
    stored = _claimed(call)
    if stored is not None:
        return answer_json(stored.status, stored.body, replayed=True)
    _charge(call)
    return _paid(call, "gateway", claimed=True)


@api.write("DELETE", "/api/streaming/subscriptions/<subscription_id>", access=FAN, answer=SubscriptionView,
           limits=(limits.SUBSCRIBE,), errors=("NOT_FOUND", "SUBSCRIPTION_ENDED"))  # fmt: skip
def cancel_subscription(tx: Session, call: Call[Nothing]) -> SubscriptionView:
    """Cancel: it is not renewed, its benefits last until the paid month is over."""
    return subscriptions.cancel(
        tx, call.path["subscription_id"], fan_id=call.person.user_id, now=call.now
    )


@api.write("POST", "/api/streaming/subscriptions/<subscription_id>/resume", access=FAN, answer=SubscriptionView,
           limits=(limits.SUBSCRIBE,), errors=("NOT_FOUND", "SUBSCRIPTION_ENDED"))  # fmt: skip
def resume_subscription(tx: Session, call: Call[Nothing]) -> SubscriptionView:
    """Take a cancellation back before the paid month is over; nothing is paid now."""
    return subscriptions.resume(
        tx, call.path["subscription_id"], fan_id=call.person.user_id, now=call.now
    )


def _card_price(tokens: int) -> int:
    return purchases.exact_price(purchases.chargeable(tokens))


def _claimed(call: Call[Subscribe]) -> StoredResponse | None:
    """The stored answer. None: the work is ours, or was begun under this key and goes on with its purchase."""
    try:
        return call.house.database.run(lambda tx: _claim(tx, call))
    except Conflict as error:
        if error.code != "IN_PROGRESS":
            raise
        return None


def _charge(call: Call[Subscribe]) -> None:
    """Buy the price with the saved card. Raises what subscribing would, before any card is charged."""
    house, user_id = call.house, call.person.user_id

    def price(tx: Session) -> int:
        person = accounts.find_person(tx, user_id)
        assert person is not None  # signed in
        tokens = subscriptions.check_offer(
            tx, fan=person, creator_id=call.body.creator_id, now=call.now,
            max_price=call.body.max_price, min_minutes=call.body.min_minutes,
        ).price_tokens  # fmt: skip
        ledger.check_allowed(tx, user_id, tokens, call.now)
        return tokens

    with house.database.reading() as tx:
        tokens = price(tx)
    purchase = payments.charge_saved(
        house.database,
        house.gateway,
        user_id=user_id,
        tokens=tokens,
        key=f"subscribe:{call.key}",
        cause_id=call.cause_id,
        now=call.now,
        currency=house.settings.currency,
        limits=BuyerLimits(
            days=house.settings.new_buyer_days, daily_minor=house.settings.new_buyer_daily_minor
        ),
    )
    if purchase.status != "succeeded":
        raise Unavailable("Your bank has not answered yet. Try again in a moment; you are charged once.")


def _paid(call: Call[Subscribe], paid_by: PaidBy, *, claimed: bool) -> Response:
    """Subscribe and remember the answer, in one transaction."""
    person_id, key = call.person.user_id, call.key
    assert key is not None

    def work(tx: Session) -> tuple[int, bytes, bool]:
        if not claimed and (stored := _claim(tx, call)) is not None:
            return stored.status, stored.body, True
        view = subscriptions.subscribe(
            tx,
            fan=call.person,
            creator_id=call.body.creator_id,
            paid_by=paid_by,
            max_price=call.body.max_price,
            min_minutes=call.body.min_minutes,
            now=call.now,
            settings=call.house.settings,
            cause_id=call.cause_id,
        )
        body = msgspec.json.encode(view)
        idempotency.store(tx, person_id=person_id, route=_ROUTE, key=key, status=201, body=body)
        return 201, body, False

    status, body, replayed = call.house.database.run(work)
    return answer_json(status, body, replayed=replayed)


def _claim(tx: Session, call: Call[Subscribe]) -> StoredResponse | None:
    assert call.key is not None
    return idempotency.claim(
        tx, person_id=call.person.user_id, route=_ROUTE, key=call.key, body=call.raw_body, now=call.now
    )
