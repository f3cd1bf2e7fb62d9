"""Battles: creators compete for side tips in one room; the pot is split as was said before."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from sqlalchemy.orm import Session

from models import ledger
from models.services import battle_views, battles, tips
from models.services.battle_views import BattleList, BattleView
from web import limits
from web.api.schema import CREATOR, FAN, SIGNED_IN, Api, Call, Nothing
from web.api.streaming import Id

api = Api("battles")
Fee = Annotated[int, msgspec.Meta(ge=0, le=battles.HIGHEST_FEE)]
_PAYING = ("INSUFFICIENT_TOKENS", "SPENDING_CAP", "SPENDING_FROZEN")


class BattleBody(msgspec.Struct, frozen=True, rename="camel"):
    """A battle to open. ``winnerPercent``: the highest score's part of the pot, the others share the rest equally;
    null: equal shares. ``beginsAt``: RFC 3339 with its offset; with two creators in, its host may begin it before.
    """

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=battles.LONGEST_TITLE)]
    begins_at: Annotated[datetime, msgspec.Meta(tz=True)]
    entry_fee: Fee = 0
    winner_percent: Annotated[int, msgspec.Meta(ge=50, le=100)] | None = None
    most_creators: Annotated[int, msgspec.Meta(ge=2, le=4)] = 2
    limit_minutes: Annotated[int, msgspec.Meta(ge=1, le=120)] = 10


class EnterBody(msgspec.Struct, frozen=True, rename="camel"):
    """``maxEntryFee`` is the fee that the creator saw."""

    max_entry_fee: Fee


class SideTipBody(msgspec.Struct, frozen=True, rename="camel"):
    """Whose side gets how many tokens."""

    creator_id: Id
    amount: Annotated[int, msgspec.Meta(ge=tips.LOWEST, le=tips.HIGHEST)]
    message: Annotated[str, msgspec.Meta(max_length=tips.LONGEST_MESSAGE)] = ""


class SideTipGiven(msgspec.Struct, frozen=True, rename="camel"):
    """The tip is in the pot; ``balance`` is what the fan has left."""

    amount: int
    balance: int
    battle: BattleView


@api.read("/api/streaming/battles", access=SIGNED_IN, answer=BattleList)
def list_battles(tx: Session, call: Call[Nothing]) -> BattleList:
    """Running battles first, then those that will begin, then the latest that are over."""
    return battle_views.listed(tx, call.person.user_id, call.now)


@api.read("/api/streaming/battles/<battle_id>", access=SIGNED_IN, answer=BattleView, errors=("NOT_FOUND",))
def battle(tx: Session, call: Call[Nothing]) -> BattleView:
    """One battle: terms, sides, score, pot, and how it ended."""
    return battle_views.find(tx, call.path["battle_id"], call.person.user_id, call.now)


@api.write("POST", "/api/streaming/battles", access=CREATOR, body=BattleBody, answer=BattleView, status=201,
           idempotency="required", limits=(limits.BATTLE,),
           errors=(*_PAYING, "IN_BATTLE", "CREATOR_UNAVAILABLE"))  # fmt: skip
def open_battle(tx: Session, call: Call[BattleBody]) -> BattleView:
    """Open a battle and enter it: the entry fee goes into its pot, and comes back if the battle never begins."""
    body = call.body
    return battles.open_battle(
        tx,
        call.person,
        title=body.title,
        entry_fee=body.entry_fee,
        winner_percent=body.winner_percent,
        most_creators=body.most_creators,
        limit_minutes=body.limit_minutes,
        begins_at=body.begins_at,
        now=call.now,
        settings=call.house.settings,
        cause_id=call.cause_id,
    )


@api.write("POST", "/api/streaming/battles/<battle_id>/enter", access=CREATOR, body=EnterBody, answer=BattleView,
           idempotency="required", limits=(limits.BATTLE,),
           errors=(*_PAYING, "BLOCKED", "NOT_FOUND", "BATTLE_CLOSED", "BATTLE_FULL", "IN_BATTLE",
                   "CREATOR_UNAVAILABLE", "PRICE_CHANGED"))  # fmt: skip
def enter_battle(tx: Session, call: Call[EnterBody]) -> BattleView:
    """Enter a battle for its entry fee. Who is in it already pays nothing more."""
    return battles.enter(
        tx,
        call.path["battle_id"],
        call.person,
        max_entry_fee=call.body.max_entry_fee,
        now=call.now,
        cause_id=call.cause_id,
    )


@api.write("POST", "/api/streaming/battles/<battle_id>/leave", access=CREATOR, answer=BattleView,
           limits=(limits.BATTLE,), errors=("NOT_FOUND", "BATTLE_CLOSED"))  # fmt: skip
def leave_battle(tx: Session, call: Call[Nothing]) -> BattleView:
    """Leave before it begins: fee and tips for that side go back. The host's leaving calls the battle off."""
    return battles.leave(tx, call.path["battle_id"], call.person.user_id, call.now)


@api.write("POST", "/api/streaming/battles/<battle_id>/start", access=CREATOR, answer=BattleView,
           limits=(limits.BATTLE,),
           errors=("NOT_FOUND", "BATTLE_CLOSED", "TOO_FEW_CREATORS", "CREATOR_UNAVAILABLE",
                   "NO_MEDIA_NODE"))  # fmt: skip
def start_battle(tx: Session, call: Call[Nothing]) -> BattleView:
    """The host begins it now. The creators' public streams end; whoever is away for a minute is out of it."""
    return battles.start(tx, call.path["battle_id"], call.person, call.now)


@api.write("POST", "/api/streaming/battles/<battle_id>/end", access=CREATOR, answer=BattleView,
           limits=(limits.BATTLE,), errors=("NOT_FOUND", "BATTLE_CLOSED"))  # fmt: skip
def end_battle(tx: Session, call: Call[Nothing]) -> BattleView:
    """The host ends it: the score of this moment counts, and the pot is split."""
    return battles.end(tx, call.path["battle_id"], call.person, call.now)


@api.write("POST", "/api/streaming/battles/<battle_id>/tips", access=FAN, body=SideTipBody, answer=SideTipGiven,
           status=201, idempotency="required", limits=(limits.TIP,),
           errors=(*_PAYING, "NOT_A_FAN", "OWN_STREAM", "BLOCKED", "NOT_FOUND", "BATTLE_CLOSED",
                   "SIDE_GONE"))  # fmt: skip
def tip_side(tx: Session, call: Call[SideTipBody]) -> SideTipGiven:
    """Tip a side. The tokens are in the pot until the battle is over; everybody sees the caller's handle."""
    assert call.key is not None  # required
    view = battles.tip(
        tx,
        call.path["battle_id"],
        fan=call.person,
        creator_id=call.body.creator_id,
        amount=call.body.amount,
        message=call.body.message,
        key=call.key,
        now=call.now,
        cause_id=call.cause_id,
    )
    balance = ledger.balance(tx, ledger.account_id("wallet", call.person.user_id))
    return SideTipGiven(amount=call.body.amount, balance=balance, battle=view)
