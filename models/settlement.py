"""docs/money.md's end table as data, and the arithmetic that turns a row of it into a bill.

Pure: facts in, tokens out. It must not know of databases, ledgers or messages on the wire. The same
rows give the words that a fan reads before paying and the words on the receipt (``models.end_words``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from models import pricing
from models.messages.commands import Reason
from models.messages.events import EndFact, PauseCause

Wish = Literal["fan", "creator", "payment_failed", "moderation", "stream_deleted", "outside_cut"]
"""Why the control plane asked for an end; says nothing as long as media has a fact of its own."""

AtFault = Literal["fan", "creator", "none"]


class PaidFor(StrEnum):
    """What the creator is paid for. Never more than the acknowledged paid minutes."""

    ACKNOWLEDGED = "acknowledged"
    STARTED_OR_MINIMUM = "started_or_minimum"
    MINIMUM = "minimum"
    WHOLE = "whole"
    WHOLE_FROM_GOOD_TOKENS = "whole_from_good_tokens"
    NOTHING = "nothing"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the end table. The sentences may use ``{minimum}``, the minimum in minutes.

    ``cause`` is the row's line in the fan's dialog (``{away}``: seconds); what it pays is said by ``paid_for``.
    """

    key: str
    paid_for: PaidFor
    reason: Reason
    cause: str
    fan_receipt: str
    creator_receipt: str


TIME_EXPIRED = Row(
    key="time_expired",
    paid_for=PaidFor.ACKNOWLEDGED,
    reason="TIME_EXPIRED",
    cause="The time runs out",
    fan_receipt="The paid time ran out, so all of it counts.",
    creator_receipt="The paid time ran out, so all of it counts.",
)
PAYMENT_REFUSED = Row(
    key="payment_refused",
    paid_for=PaidFor.ACKNOWLEDGED,
    reason="PAYMENT_FAILED",
    cause="Your tokens run out",
    fan_receipt="The next minute could not be held, so the minutes that were paid for count.",
    creator_receipt="The fan's next minute could not be held, so the minutes that were paid for count.",
)
FAN_LEFT = Row(
    key="fan_left",
    paid_for=PaidFor.STARTED_OR_MINIMUM,
    reason="ENDED_BY_FAN",
    cause="You leave, or are away over {away:g} s",
    fan_receipt="You ended the call, so started minutes count, and at least the minimum of {minimum}.",
    creator_receipt="The fan ended the call, so started minutes count, and at least the minimum of {minimum}.",
)
FAN_NO_SHOW = Row(
    key="fan_no_show",
    paid_for=PaidFor.MINIMUM,
    reason="NO_SHOW",
    cause="You never connect",
    fan_receipt="You never connected, so the minimum of {minimum} counts.",
    creator_receipt="The fan never connected, so the minimum of {minimum} counts.",
)
CREATOR_LEFT = Row(
    key="creator_left",
    paid_for=PaidFor.WHOLE,
    reason="ENDED_BY_CREATOR",
    cause="The creator leaves",
    fan_receipt="The creator ended the call, so only whole minutes count, and there is no minimum.",
    creator_receipt="You ended the call, so only whole minutes count, and there is no minimum.",
)
CREATOR_NO_SHOW = Row(
    key="creator_no_show",
    paid_for=PaidFor.NOTHING,
    reason="NO_SHOW",
    cause="The creator never connects",
    fan_receipt="The creator never connected, so nothing counts.",
    creator_receipt="You never connected, so nothing counts.",
)
OUR_FAULT = Row(
    key="our_fault",
    paid_for=PaidFor.WHOLE,
    reason="MEDIA_FAILURE",
    cause="Something fails on our side",
    fan_receipt="Something failed on our side, so only whole minutes count, and there is no minimum.",
    creator_receipt="Something failed on our side, so only whole minutes count, and there is no minimum.",
)
PAYMENT_BAD = Row(
    key="payment_bad",
    paid_for=PaidFor.WHOLE_FROM_GOOD_TOKENS,
    reason="PAYMENT_FAILED",
    cause="Your payment turns out bad",
    fan_receipt="A payment turned out bad, so only whole minutes that good tokens cover count.",
    creator_receipt="The fan's payment turned out bad, so only whole minutes that good tokens cover count.",
)
MODERATION_FAN = Row(
    key="moderation_fan",
    paid_for=PaidFor.STARTED_OR_MINIMUM,
    reason="MODERATION",
    cause="A moderator ends it, your fault",
    fan_receipt="A moderator ended the call at your fault: it counts as if you had left.",
    creator_receipt="A moderator ended the call at the fan's fault: it counts as if the fan had left.",
)
MODERATION_CREATOR = Row(
    key="moderation_creator",
    paid_for=PaidFor.WHOLE,
    reason="MODERATION",
    cause="A moderator ends it, the creator’s fault",
    fan_receipt="A moderator ended the call at the creator's fault: it counts as if the creator had left.",
    creator_receipt="A moderator ended the call at your fault: it counts as if you had left.",
)
MODERATION_NONE = Row(
    key="moderation_none",
    paid_for=PaidFor.WHOLE,
    reason="MODERATION",
    cause="A moderator ends it, nobody’s fault",
    fan_receipt="A moderator ended the call at nobody's fault: only whole minutes count.",
    creator_receipt="A moderator ended the call at nobody's fault: only whole minutes count.",
)

ROWS = {
    row.key: row
    for row in (
        TIME_EXPIRED,
        PAYMENT_REFUSED,
        FAN_LEFT,
        FAN_NO_SHOW,
        CREATOR_LEFT,
        CREATOR_NO_SHOW,
        OUR_FAULT,
        PAYMENT_BAD,
        MODERATION_FAN,
        MODERATION_CREATOR,
        MODERATION_NONE,
    )
}

_BY_WISH: dict[Wish, Row] = {
    "fan": FAN_LEFT,
    "creator": CREATOR_LEFT,
    "stream_deleted": CREATOR_LEFT,
    "payment_failed": PAYMENT_BAD,
    "outside_cut": OUR_FAULT,
}
_BY_FAULT: dict[AtFault, Row] = {"fan": MODERATION_FAN, "creator": MODERATION_CREATOR, "none": MODERATION_NONE}
_BY_FACT: dict[EndFact, Row] = {
    "time_expired": TIME_EXPIRED,
    "fan_left": FAN_LEFT,
    "fan_absent": FAN_LEFT,
    "fan_never_connected": FAN_NO_SHOW,
    "creator_left": CREATOR_LEFT,
    "creator_never_connected": CREATOR_NO_SHOW,
}
_BY_PAUSE: dict[PauseCause, Row] = {"creator": CREATOR_LEFT, "node": OUR_FAULT}
RETURN_EXTRAS = (PaidFor.WHOLE, PaidFor.NOTHING)
"""Rows that are not the fan's: all included minutes and the unlock price return to the fan."""
_FANS_OWN = (FAN_LEFT, FAN_NO_SHOW, MODERATION_FAN)


class EndFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What media said at the end; durations in milliseconds. The part of ``CallEnded`` that decides."""

    fact: EndFact
    creator_connected: bool
    fan_connected: bool
    creator_pause_ms: int = 0
    node_pause_ms: int = 0
    pause_cause: PauseCause | None = None
    paused_for_ms: int = 0


def resolve_row(
    facts: EndFacts | None,
    *,
    wish: Wish | None,
    at_fault: AtFault | None = None,
    pause_leave_ms: int,
    hold_refused: bool = False,
) -> Row:
    """The row that applies. ``facts`` None: there was no final report, which is our fault whoever wished what.

    ``hold_refused``: the minute after the last paid one could not be held.
    """
    if facts is None:
        return OUR_FAULT
    row = _row_said(facts, wish, at_fault or "none")
    if row is TIME_EXPIRED and hold_refused:
        return PAYMENT_REFUSED
    # The creator's absence outranks the fan's, also when the fan gives up first.
    if row in _FANS_OWN and not facts.creator_connected:
        return CREATOR_NO_SHOW
    if row is not FAN_LEFT:
        return row
    if not facts.fan_connected:
        return FAN_NO_SHOW
    # A fan who leaves a pause that lasts leaves by that pause's cause.
    if facts.pause_cause is not None and facts.paused_for_ms >= pause_leave_ms:
        return _BY_PAUSE[facts.pause_cause]
    return row


def _row_said(facts: EndFacts, wish: Wish | None, at_fault: AtFault) -> Row:
    if facts.fact in ("creator_pause_used_up", "node_pause_used_up"):
        # The larger share decides. On a tie nobody is blamed but us; both rows cost the fan the same.
        return CREATOR_LEFT if facts.creator_pause_ms > facts.node_pause_ms else OUR_FAULT
    if facts.fact != "closed":
        return _BY_FACT[facts.fact]
    if wish == "moderation":
        return _BY_FAULT[at_fault]
    return OUR_FAULT if wish is None else _BY_WISH[wish]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What a session comes to, in tokens: ``total_held = earnings + commission + refunded``."""

    total_held: int
    billed_minutes: int
    included_used: int
    """Of a subscription's minutes; the others of those reserved return."""
    unlock_earned: int
    """Of the unlock price, commission included."""
    earnings: int
    commission: int
    refunded: int
    bad_tokens: int
    """The part of ``refunded`` that came from bad payments, and is not the fan's to keep."""

    @property
    def charged(self) -> int:
        """What the fan pays."""
        return self.earnings + self.commission


def bill(
    row: Row,
    *,
    total_held: int,
    min_minutes: int,
    paid_ms: int,
    delivered_ms: int,
    rate: int,
    commission_percent: int,
    minute_ms: int,
    included_minutes: int = 0,
    unlock_price: int = 0,
    live: bool = False,
    bad_tokens: int = 0,
) -> Bill:
    """The bill of a session that ended by ``row``.

    ``paid_ms`` is what media has acknowledged, ``delivered_ms`` what it forwarded, ``total_held`` (the unlock
    price in it) and ``bad_tokens`` are tokens, ``rate`` is tokens per minute after the discount. The first
    ``included_minutes`` cost nothing; the unlock price is earned only by a session that was ``live``.
    """
    _checked(total_held, min_minutes, paid_ms, delivered_ms, rate, minute_ms, included_minutes, unlock_price,
             bad_tokens)  # fmt: skip
    acknowledged = min(paid_ms // minute_ms, included_minutes + (total_held - unlock_price) // rate)
    minutes = min(_minutes_earned(row, acknowledged, min_minutes, delivered_ms, minute_ms), acknowledged)
    good = total_held - bad_tokens if row.paid_for is PaidFor.WHOLE_FROM_GOOD_TOKENS else total_held
    minutes = min(minutes, included_minutes + good // rate)
    for_minutes = max(0, minutes - included_minutes) * rate
    returns = row.paid_for in RETURN_EXTRAS
    unlock_earned = min(unlock_price, good - for_minutes) if live and not returns else 0
    if row.paid_for is PaidFor.MINIMUM:
        unlock_earned = 0
    earnings, commission = pricing.split(for_minutes + unlock_earned, commission_percent)
    refunded = total_held - earnings - commission
    return Bill(
        total_held=total_held,
        billed_minutes=minutes,
        included_used=0 if returns else min(minutes, included_minutes),
        unlock_earned=unlock_earned,
        earnings=earnings,
        commission=commission,
        refunded=refunded,
        bad_tokens=min(bad_tokens, refunded),
    )


def _minutes_earned(row: Row, acknowledged: int, min_minutes: int, delivered_ms: int, minute_ms: int) -> int:
    whole, started = delivered_ms // minute_ms, -(-delivered_ms // minute_ms)
    match row.paid_for:
        case PaidFor.ACKNOWLEDGED:
            return acknowledged
        case PaidFor.STARTED_OR_MINIMUM:
            return max(min_minutes, started)
        case PaidFor.MINIMUM:
            return min_minutes
        case PaidFor.WHOLE | PaidFor.WHOLE_FROM_GOOD_TOKENS:
            return whole
        case PaidFor.NOTHING:
            return 0


def _checked(total_held: int, min_minutes: int, paid_ms: int, delivered_ms: int, rate: int, minute_ms: int,
             included_minutes: int, unlock_price: int, bad_tokens: int) -> None:  # fmt: skip
    amounts = (total_held, min_minutes, paid_ms, delivered_ms, included_minutes, unlock_price, bad_tokens)
    if min(amounts) < 0 or min(rate, minute_ms) < 1:
        raise ValueError("a bill is made from amounts that are not negative, a rate and a minute above zero")
    if max(bad_tokens, unlock_price) > total_held:
        raise ValueError("no more tokens can be bad, or be the unlock price, than were held")
