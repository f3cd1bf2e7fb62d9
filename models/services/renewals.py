"""Renewing subscriptions by the clock: each period paid once, whatever crashes or comes twice.

The payment's key names the period, and the row moves on in the same transaction. What cannot be paid is
tried again each day for three days, without benefits; then the subscription ends. One that is paid with a
card is handed to a worker, since a gateway is never asked inside a transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from models import ledger, log, outbox
from models.errors import Forbidden, PaymentRequired
from models.months import next_month
from models.payments import PurchaseRow
from models.people import BlockRow, PersonRow
from models.services import subscriptions
from models.services.locks import locked, one_by_one
from models.services.subscriptions import EndReason
from models.subscriptions import SubscriptionRow

RETRY_EVERY = timedelta(days=1)
RETRY_FOR = timedelta(days=3)
PROMPT = timedelta(hours=1)
"""Paid within this of the period's end, the next one begins where the last ended; later, when it is paid."""
MOST_AT_ONCE = 100
QUEUE, ACTOR = "payments", "renew_subscription"

# Built once: the clock asks each round, and building it took longer than executing it.
_DUE = (
    select(SubscriptionRow)
    .where(SubscriptionRow.status == "active", SubscriptionRow.next_try_at <= bindparam("now"))
    .order_by(SubscriptionRow.next_try_at, SubscriptionRow.id)
    .limit(MOST_AT_ONCE)
    .with_for_update(skip_locked=True, key_share=True)
    .execution_options(populate_existing=True)
)


def renew_due(tx: Session, now: datetime) -> int:
    """Renew, end or try again whatever is due; how many were looked at."""
    due = tx.scalars(_DUE, {"now": now}).all()
    return one_by_one(tx, due, lambda row: _look(tx, row, now))


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a saved card is to be charged for: ``tokens`` for ``user_id``, once a ``key``."""

    user_id: str
    tokens: int
    key: str
    currency: str
    """That in which the card was last charged."""
    cause_id: str


def charge_due(tx: Session, subscription_id: str, period: int, now: datetime) -> Charge | None:
    """What to charge for that period; None: there is nothing to do any more.

    Each day's try has a key of its own, but an earlier one that did not fail is taken up again: it may have
    charged the card. Raises Forbidden (SPENDING_FROZEN, SPENDING_CAP): it could not be paid with the tokens then.
    """
    row = tx.get(SubscriptionRow, subscription_id, populate_existing=True)
    if row is None or not _is_next(row, period, now):
        return None
    ledger.check_allowed(tx, row.fan_id, row.price_tokens, now)
    keys = [f"{row.id}:{period}:{number}" for number in range(1, row.tries + 1)]
    begun = tx.scalar(
        select(PurchaseRow.idempotency_key)
        .where(
            PurchaseRow.user_id == row.fan_id,
            PurchaseRow.idempotency_key.in_(keys),
            PurchaseRow.status.in_(("created", "pending", "succeeded")),
        )
        .limit(1)
    )
    currency = tx.scalar(
        select(PurchaseRow.currency)
        .where(PurchaseRow.user_id == row.fan_id, PurchaseRow.succeeded_at.is_not(None))
        .order_by(PurchaseRow.created_at.desc())
        .limit(1)
    )
    return Charge(
        user_id=row.fan_id,
        tokens=row.price_tokens,
        key=begun or f"{row.id}:{period}:{max(1, row.tries)}",
        currency=currency or "USD",
        cause_id=row.cause_id,
    )


def renew(tx: Session, subscription_id: str, period: int, now: datetime) -> bool:
    """Pay ``period`` from the wallet and begin it; False when it was begun before, cannot be paid or is over."""
    row = locked(tx, SubscriptionRow, subscription_id)
    return row is not None and _is_next(row, period, now) and _pay_next(tx, row, now)


def tell_unpaid(tx: Session, subscription_id: str, now: datetime) -> None:
    """A card was declined: its fan is told, once for each try."""
    row = locked(tx, SubscriptionRow, subscription_id)
    if row is not None and row.status == "active" and row.period_end <= now:
        subscriptions.changed(tx, row, now)


def _is_next(row: SubscriptionRow, period: int, now: datetime) -> bool:
    """A cancelled one has ended by then: nobody is asked to pay before the period is over."""
    return row.status == "active" and row.period + 1 == period and row.period_end <= now


def _look(tx: Session, row: SubscriptionRow, now: datetime) -> None:
    reason = _why_not(tx, row)
    if reason is not None:
        subscriptions.end(tx, row, reason, now)
    elif row.paid_by == "gateway" and not _over(row, now):
        message = (row.id, str(row.period + 1))
        outbox.actor(tx, QUEUE, ACTOR, *message, cause_id=row.cause_id, now=now)
        _again(tx, row, now)
    elif row.paid_by == "gateway" or not _pay_next(tx, row, now):
        if _over(row, now):
            subscriptions.end(tx, row, "unpaid", now)
        else:
            _again(tx, row, now)
            subscriptions.changed(tx, row, now)


def _why_not(tx: Session, row: SubscriptionRow) -> EndReason | None:
    """Why it is not to be renewed, whether or not it could be paid."""
    if row.cancel_at_period_end:
        return "cancelled"
    if tx.get(BlockRow, (row.creator_id, row.fan_id), populate_existing=True) is not None:
        return "blocked"
    creator = tx.get_one(PersonRow, row.creator_id, populate_existing=True)
    fan = tx.get_one(PersonRow, row.fan_id, populate_existing=True)
    if fan.locked_at is not None or not fan.is_fan:
        # Who cannot sign in cannot cancel either.
        return "cancelled"
    given = row.price_tokens == 0
    there = creator.is_creator and creator.locked_at is None
    if not there or (subscriptions.offer_of(tx, row.creator_id) is None and not given):
        return "not_offered"
    return None


def _over(row: SubscriptionRow, now: datetime) -> bool:
    return row.tries > 0 and now >= row.period_end + RETRY_FOR


def _pay_next(tx: Session, row: SubscriptionRow, now: datetime) -> bool:
    """Pay the next period and move into it; False when the fan cannot pay it now."""
    try:
        with tx.begin_nested():
            subscriptions.pay(tx, row, row.period + 1, now)
    except (PaymentRequired, Forbidden) as error:
        log.event("renewal_refused", subscription_id=row.id, code=error.code, cause_id=row.cause_id)
        return False
    prompt = now < row.period_end + PROMPT
    row.period_start = row.period_end if prompt else now
    row.anchor_at = row.anchor_at if prompt else now
    row.period_end = next_month(row.anchor_at, row.period_start)
    row.next_try_at = row.period_end
    row.period += 1
    row.tries = 0
    tx.flush()
    subscriptions.changed(tx, row, now)
    log.event("subscription_renewed", subscription_id=row.id, period=row.period, cause_id=row.cause_id)
    return True


def _again(tx: Session, row: SubscriptionRow, now: datetime) -> None:
    """Look again in a day, and for the last time when the three days are over."""
    row.tries += 1
    last = row.period_end + RETRY_FOR
    row.next_try_at = min(now + RETRY_EVERY, last) if now < last else now + RETRY_EVERY
    tx.flush()
