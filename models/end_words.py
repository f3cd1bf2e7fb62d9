"""The end table in words: what a fan reads before paying, and why a receipt comes to what it does.

Pure, and made from the rows that the bill is made from, so that words and bill cannot part.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from models.settlement import PAYMENT_REFUSED, RETURN_EXTRAS, ROWS, TIME_EXPIRED, PaidFor, Row
from models.timing import timers_for

PER_MINUTE_ALONE = (PAYMENT_REFUSED,)
"""Rows that a call which is paid ahead cannot end by."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """A row in the fan's words: "What you pay if …"."""

    cause: str
    pays: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What the words before paying depend on; amounts in tokens, ``rate_per_minute`` after the discount."""

    min_minutes: int
    rate_per_minute: int
    minute_ms: int = 60_000
    per_minute: bool = False
    included_minutes: int = 0
    unlock_price: int = 0
    money: Callable[[int], str] | None = None
    """What so many tokens are in money, where that is to be said."""


def terms(
    *,
    min_minutes: int,
    rate_per_minute: int,
    minute_ms: int = 60_000,
    per_minute: bool = False,
    included_minutes: int = 0,
    unlock_price: int = 0,
    money: Callable[[int], str] | None = None,
) -> tuple[Term, ...]:
    """The table in the fan's words, for the dialog before paying; ``rate_per_minute`` after the discount.

    ``included_minutes`` are those that this request would use of a subscription; ``money`` says tokens as money.
    """
    offer = Offer(
        min_minutes=min_minutes,
        rate_per_minute=rate_per_minute,
        minute_ms=minute_ms,
        per_minute=per_minute,
        included_minutes=included_minutes,
        unlock_price=unlock_price,
        money=money,
    )
    away = timers_for(minute_ms).fan_absent_ms / 1000
    return tuple(
        Term(cause=_cause(row, offer).format(away=away), pays=_pays(row.paid_for, offer))
        for row in ROWS.values()
        if per_minute or row not in PER_MINUTE_ALONE
    )


def _cause(row: Row, offer: Offer) -> str:
    if row is TIME_EXPIRED and offer.per_minute:
        return "The next minute is not held in time"
    return row.cause


def _pays(paid_for: PaidFor, offer: Offer) -> str:
    unlock, minimum = offer.unlock_price > 0, offer.min_minutes
    match paid_for:
        case PaidFor.ACKNOWLEDGED if offer.per_minute:
            words = f"The minutes paid so far{', and the unlock price' if unlock else ''}."
        case PaidFor.ACKNOWLEDGED:
            words = "All of it."
        case PaidFor.STARTED_OR_MINIMUM:
            once_live = ", and the unlock price if the call was live" if unlock else ""
            words = f"Minutes delivered, rounded up, at least {minimum}{once_live}. The rest comes back."
        case PaidFor.MINIMUM:
            words = f"{_minimum_cost(offer)} The rest comes back{', the unlock price too' if unlock else ''}."
        case PaidFor.WHOLE:
            no_unlock = ", no unlock price" if unlock else ""
            words = f"Whole minutes delivered, no minimum{no_unlock}. The rest comes back."
        case PaidFor.WHOLE_FROM_GOOD_TOKENS:
            and_unlock = ", then the unlock price" if unlock else ""
            words = f"Whole minutes delivered{and_unlock}, from good tokens. The good rest comes back."
        case PaidFor.NOTHING:
            words = "Nothing. All of it comes back."
    if offer.included_minutes and paid_for in RETURN_EXTRAS:
        return f"{words} So do all included minutes."
    return words


def _minimum_cost(offer: Offer) -> str:
    minutes = max(0, offer.min_minutes - offer.included_minutes)
    if minutes == 0:
        return "The minimum, which your subscription includes."
    cost = minutes * offer.rate_per_minute
    in_money = f" ({offer.money(cost)})" if offer.money else ""
    return f"The minimum, {cost:,} {'token' if cost == 1 else 'tokens'}{in_money}."


def in_words(
    row: Row,
    *,
    for_creator: bool,
    min_minutes: int,
    included_minutes: int = 0,
    included_used: int = 0,
    unlock_price: int = 0,
    unlock_earned: int = 0,
) -> str:
    """Why the bill is what it is, for the reader of the receipt."""
    said = [(row.creator_receipt if for_creator else row.fan_receipt).format(minimum=min_minutes)]
    if included_minutes:
        whose = "the fan's" if for_creator else "your"
        used = f"{included_used} included minute{' was' if included_used == 1 else 's were'} used"
        returned = included_minutes - included_used
        said.append(f"Of {whose} subscription {used}{f', {returned} came back' if returned else ''}.")
    if unlock_price:
        went = "came back" if not unlock_earned else "was paid"
        if 0 < unlock_earned < unlock_price:
            went = f"was paid as far as good tokens went, {unlock_earned:,}"
        said.append(f"The unlock price of {unlock_price:,} {'token' if unlock_price == 1 else 'tokens'} {went}.")
    return " ".join(said)

