"""From a settlement to the creator's bank: the clearing period, complaints that stop it, payouts.

What a settlement paid stays pending for the clearing period, so that a bad payment or a complaint finds it.
Then it first pays the creator's debt; what gifts paid for goes back to promo. Knows no bank and no complaint.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, lots
from models.books import HoldRow, TransferRow
from models.errors import Conflict, Invalid, NotFound, PaymentRequired
from models.holds import gift_part, locked_hold, payee
from models.postings import Transfer, account_id, check_amount, entries_of, first_transfer, lock_balance, post

CLEARING_DAYS = 30


def clear_due(tx: Session, now: datetime, *, limit: int = 500, clearing_days: int = CLEARING_DAYS) -> int:
    """Clear what is due and not contested, the oldest first, each in a transfer of its own; how many those were.

    pending → debt, then earnings; the part that gifts paid for → promo. A shorter ``clearing_days`` holds for
    what is pending already as well.
    """
    by = now + timedelta(days=CLEARING_DAYS - clearing_days)
    due = (
        select(HoldRow)
        .where(HoldRow.pending > 0, HoldRow.clears_at <= by, HoldRow.contested_at.is_(None))
        .order_by(HoldRow.clears_at, HoldRow.reference)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    rows = tx.scalars(due).all()
    for row in rows:
        _clear(tx, row, now)
    return len(rows)


def contest(tx: Session, reference: str, now: datetime) -> None:
    """A complaint: the earnings stay pending until ``uncontest``.

    Raises NotFound, Conflict NOT_SETTLED while nothing was paid. What has cleared stays cleared.
    """
    row = locked_hold(tx, reference)
    if row.status != "settled":
        raise Conflict("Nothing was paid for that yet.", code="NOT_SETTLED")
    row.contested_at = row.contested_at or now
    tx.flush()


def uncontest(tx: Session, reference: str) -> None:
    """The complaint is decided: the earnings clear when they are due. Raises NotFound."""
    locked_hold(tx, reference).contested_at = None
    tx.flush()


def payout(
    tx: Session, creator_id: str, tokens: int, *, key: str, reference: str, cause_id: str, now: datetime
) -> Transfer:
    """Cleared earnings leave the house, earnings → payouts. Raises PaymentRequired when there are fewer."""
    check_amount(tokens)
    earnings = account_id("earnings", creator_id)
    cleared = lock_balance(tx, earnings)
    if (first := first_transfer(tx, key, "payout", reference)) is not None:
        return first
    if cleared < tokens:
        raise PaymentRequired("There are not enough cleared earnings.", required=tokens, balance=cleared)
    entries = {earnings: -tokens, account_id("payouts"): tokens}
    return post(tx, "payout", entries, key=key, reference=reference, cause_id=cause_id, now=now)


def payout_return(tx: Session, transfer_id: str, *, cause_id: str, now: datetime) -> Transfer:
    """A payout that did not arrive comes back, once: to a debt that arose meanwhile, then to earnings.

    Raises NotFound, Invalid for another kind of transfer.
    """
    original = tx.get(TransferRow, transfer_id)
    if original is None:
        raise NotFound("There is no such transfer.")
    if original.kind != "payout":
        raise Invalid(f"A {original.kind} does not come back this way.")
    paid = next(entry for entry in entries_of(tx, transfer_id) if entry.amount < 0)
    earnings, tokens = paid.account, -paid.amount
    debt = account_id("debt", earnings.partition(":")[2])
    owed = -lock_balance(tx, debt)
    key = f"payout_return:{transfer_id}"
    if (first := first_transfer(tx, key, "payout_return", original.reference)) is not None:
        return first
    entries = {account_id("payouts"): -tokens, debt: min(owed, tokens), earnings: tokens - min(owed, tokens)}
    return post(
        tx,
        "payout_return",
        entries,
        key=key,
        reference=original.reference,
        cause_id=cause_id,
        now=now,
        reverses=transfer_id,
    )


def _clear(tx: Session, row: HoldRow, now: datetime) -> None:
    creator_id, tokens = payee(row), row.pending
    gifts = min(tokens, max(0, gift_part(row, lots.promo_spent(tx, row.reference)) - row.promo))
    debt = account_id("debt", creator_id)
    owed = min(-lock_balance(tx, debt), tokens - gifts)
    # The first time has the plain key, as a second guard; what became pending again later clears again.
    key = f"clear:{row.reference}" if row.cleared_at is None else f"clear:{row.reference}:{ids.new_id('again')}"
    row.pending, row.promo, row.cleared_at = 0, row.promo + gifts, now
    entries = {
        account_id("earnings_pending", creator_id): -tokens,
        account_id("promo"): gifts,
        debt: owed,
        account_id("earnings", creator_id): tokens - gifts - owed,
    }
    post(tx, "clear", entries, key=key, reference=row.reference, cause_id="clearing", now=now)
