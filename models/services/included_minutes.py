"""Who has the benefits of a subscription now, and the private minutes that its running month includes.

Minutes are reserved with a request, like tokens, and what was not used comes back once; each is of the month
that it was reserved of. Begins, pays and ends nothing: that is ``subscriptions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from models.services.locks import locked
from models.subscriptions import SubscriptionMinuteUseRow, SubscriptionRow


def is_active(tx: Session, fan_id: str, creator_id: str, now: datetime) -> bool:
    """Whether the fan has the benefits of a subscription to the creator now."""
    return _paid_now(tx, fan_id, creator_id, now) is not None


def subscribers_among(tx: Session, creator_id: str, fan_ids: Iterable[str], now: datetime) -> set[str]:
    """Which of these fans have the benefits of a subscription to the creator now, in one question."""
    paid = select(SubscriptionRow.fan_id).where(
        SubscriptionRow.creator_id == creator_id,
        SubscriptionRow.fan_id.in_(list(fan_ids)),
        SubscriptionRow.status == "active",
        SubscriptionRow.period_start <= now,
        SubscriptionRow.period_end > now,
    )
    return set(tx.scalars(paid))


def minutes_left(tx: Session, fan_id: str, creator_id: str, now: datetime) -> int:
    """Included minutes of this period that are neither used nor reserved; 0 without a subscription."""
    row = _paid_now(tx, fan_id, creator_id, now)
    return 0 if row is None else left(tx, row)


def reserve_minutes(tx: Session, fan_id: str, creator_id: str, wanted: int, request_id: str, now: datetime) -> int:
    """Reserve up to ``wanted`` included minutes for a request; how many it got.

    Of the period that runs now. A repeat for the same request reserves nothing more. The subscription's row
    is taken, so that requests at the same moment never get more than there is.
    """
    before = tx.get(SubscriptionMinuteUseRow, request_id)
    if before is not None:
        return before.reserved
    found = _paid_now(tx, fan_id, creator_id, now)
    row = None if found is None else locked(tx, SubscriptionRow, found.id)
    if row is None or row.status != "active" or not row.period_start <= now < row.period_end:
        return 0
    reserved = min(wanted, left(tx, row))
    if reserved <= 0:
        return 0
    tx.add(
        SubscriptionMinuteUseRow(
            request_id=request_id, subscription_id=row.id, period=row.period, reserved=reserved, created_at=now
        )
    )
    tx.flush()
    return reserved


def return_minutes(tx: Session, request_id: str, used: int, now: datetime) -> None:
    """A request is closed or its session settled: ``used`` minutes are gone, the rest is free again; once.

    Harmless when nothing was reserved. What comes back is of the period that it was reserved of, and ends
    with it.
    """
    found = tx.get(SubscriptionMinuteUseRow, request_id)
    if found is None or found.closed_at is not None:
        return
    locked(tx, SubscriptionRow, found.subscription_id)
    use = locked(tx, SubscriptionMinuteUseRow, request_id)
    if use is None or use.closed_at is not None:
        return
    use.used, use.closed_at = max(0, min(used, use.reserved)), now
    tx.flush()


def reserved_of(tx: Session, payment: str) -> tuple[str, ...]:
    """The requests that hold minutes of the month that the payment ``subscription:period`` paid for."""
    subscription_id, _, period = payment.partition(":")
    if not period.isdecimal():
        return ()
    held = select(SubscriptionMinuteUseRow.request_id).where(
        SubscriptionMinuteUseRow.subscription_id == subscription_id,
        SubscriptionMinuteUseRow.period == int(period),
        SubscriptionMinuteUseRow.closed_at.is_(None),
    )
    return tuple(tx.scalars(held.order_by(SubscriptionMinuteUseRow.request_id)))


def left(tx: Session, row: SubscriptionRow) -> int:
    """Of the row's period: neither used nor reserved."""
    return left_of(tx, [row])[row.id]


def left_of(tx: Session, rows: Sequence[SubscriptionRow]) -> dict[str, int]:
    """The same of many, in one question: by the subscription's id."""
    gone = func.sum(func.coalesce(SubscriptionMinuteUseRow.used, SubscriptionMinuteUseRow.reserved))
    taken = {
        (subscription_id, period): int(minutes)
        for subscription_id, period, minutes in tx.execute(
            select(SubscriptionMinuteUseRow.subscription_id, SubscriptionMinuteUseRow.period, gone)
            .where(SubscriptionMinuteUseRow.subscription_id.in_([row.id for row in rows]))
            .group_by(SubscriptionMinuteUseRow.subscription_id, SubscriptionMinuteUseRow.period)
        )
    }
    return {row.id: max(0, row.included_minutes - taken.get((row.id, row.period), 0)) for row in rows}


def active_query(fan_id: str, creator_id: str) -> Select[SubscriptionRow]:
    """The subscription of the two that has not ended, paid for now or not."""
    return (
        select(SubscriptionRow)
        .where(
            SubscriptionRow.fan_id == fan_id,
            SubscriptionRow.creator_id == creator_id,
            SubscriptionRow.status == "active",
        )
        .execution_options(populate_existing=True)
    )


def _paid_now(tx: Session, fan_id: str, creator_id: str, now: datetime) -> SubscriptionRow | None:
    row = tx.scalar(active_query(fan_id, creator_id))
    return row if row is not None and row.period_start <= now < row.period_end else None
