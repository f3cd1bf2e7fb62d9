"""What a creator gives back who blocks a fan with a pass: the rest of the day, which the fan cannot use any more.

In proportion to the time that is left, the commission with it, rounded up to a whole token, and never more in all.
Of what paid for it only what is good is given back; the rest, should the bank decide for us. The pass is void from
that moment, and stays so should the block be taken back.

Locks: people (by the caller), the pass, accounts.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ledger, log
from models.errors import Conflict
from models.services import passes
from models.services.announcements import balance_changed
from models.services.locks import one_by_one
from models.subscriptions import PassRow

MOST_AT_ONCE = 100


def revoke(tx: Session, fan_id: str, creator_id: str, now: datetime) -> None:
    """The fan's passes for this creator are void, and what is left of them is given back, or owed.

    Again is no harm. The caller has locked both people.
    """
    mine = select(PassRow).where(PassRow.fan_id == fan_id, PassRow.creator_id == creator_id)
    valid = mine.where(PassRow.ends_at > now, PassRow.revoked_at.is_(None)).order_by(PassRow.id)
    found = valid.with_for_update(key_share=True).execution_options(populate_existing=True)
    for row in tx.scalars(found).all():
        row.revoked_at, row.refund_due_at = now, now
        row.refund_tokens = min(row.price_tokens, _refunded(tx, row) + unused(row, now))
        tx.flush()
        log.event("pass_revoked", pass_id=row.id, tokens=row.refund_tokens)
        _give_back(tx, row, now)
        passes.changed(tx, row, now)


def unused(row: PassRow, now: datetime) -> int:
    """Tokens for the time that is left of it, rounded in the fan's favour."""
    left = row.ends_at - max(row.starts_at, min(now, row.ends_at))
    return -(-(row.price_tokens * left) // (row.ends_at - row.starts_at))


def _refunded(tx: Session, row: PassRow) -> int:
    paid = ledger.hold_of(tx, row.id)
    return 0 if paid is None else paid.refunded


def give_back_due(tx: Session, now: datetime) -> int:
    """Give back what is owed; how many were looked at. One whose creator has not got the tokens waits for them."""
    rows = tx.scalars(
        select(PassRow)
        .where(PassRow.refund_due_at.is_not(None))
        .order_by(PassRow.refund_due_at, PassRow.id)
        .limit(MOST_AT_ONCE)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return one_by_one(tx, rows, lambda row: _give_back(tx, row, now))


def _give_back(tx: Session, row: PassRow, now: datetime) -> None:
    paid = ledger.hold_of(tx, row.id)
    tokens = 0 if paid is None else min((row.refund_tokens or 0) - paid.refunded, paid.refundable)
    if paid is None or tokens <= 0:
        # All is given back, or is the bank's at the moment. Should it decide for us, this is owed again.
        row.refund_due_at = None
        tx.flush()
        return
    # Once for what is left now: a payment that turned out good again may leave more.
    key = f"pass_refund:{row.id}:{paid.refunded}:{paid.recovered}"
    try:
        with tx.begin_nested():
            ledger.refund(tx, row.id, tokens, key=key, cause_id=row.id, now=now)
    except Conflict:
        # To the end of the line: whoever waits for a creator without tokens holds up nobody else.
        row.refund_due_at = now
        tx.flush()
        return
    row.refund_due_at = None
    tx.flush()
    log.event("pass_refunded", pass_id=row.id, tokens=tokens)
    for person_id in (row.fan_id, row.creator_id):
        balance_changed(tx, person_id, now)
