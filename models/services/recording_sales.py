"""Buying a recording, deleting it, and giving back what was paid for one that cannot be watched any more.

The buyer's rule: who paid may watch until the recording expires. If the creator deletes it before, or we
lose it, all of the price comes back; if the fan deletes it, nothing does.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.errors import Conflict, Forbidden, NotFound
from models.recordings import RecordingRow
from models.services import recording_ends
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people, locked, one_by_one

MOST_AT_ONCE = 100


def buy(tx: Session, recording_id: str, *, fan_id: str, price: int, cause_id: str, now: datetime) -> None:
    """Pay for a recording, at once; ``price`` is what the fan saw. Bought once: again changes nothing.

    Raises NotFound for anybody but its fan, Forbidden RECORDING_NOT_SHARED, Conflict RECORDING_NOT_READY,
    RECORDING_GONE, RECORDING_FREE, PRICE_CHANGED, and what ``ledger.pay`` raises.
    """
    lock_people(tx, fan_id)
    row = locked(tx, RecordingRow, recording_id)
    if row is None or row.fan_id != fan_id:
        raise NotFound("There is no such recording.")
    if not row.shared:
        raise Forbidden("The creator keeps this recording.", code="RECORDING_NOT_SHARED")
    if row.status == "gone":
        raise Conflict("This recording is gone.", code="RECORDING_GONE")
    if row.paid_at is not None:
        return
    if row.status != "kept":
        raise Conflict("The recording is not complete yet.", code="RECORDING_NOT_READY")
    if row.price_tokens == 0:
        raise Conflict("It is free of charge.", code="RECORDING_FREE")
    if row.price_tokens != price:
        raise Conflict("The price is another one.", code="PRICE_CHANGED", total_cost=row.price_tokens)
    ledger.pay(
        tx,
        fan_id,
        creator_id=row.creator_id,
        amount=row.price_tokens,
        commission_percent=row.commission_percent,
        kind="recording",
        key=f"recording:{row.id}",
        reference=row.id,
        cause_id=cause_id,
        now=now,
    )
    row.paid_at = now
    tx.flush()
    recording_ends.changed(tx, row, now)
    balance_changed(tx, row.fan_id, now)
    balance_changed(tx, row.creator_id, now)
    log.event("recording_bought", recording_id=row.id, session_id=row.session_id, cause_id=cause_id)


def delete(tx: Session, recording_id: str, *, person_id: str, now: datetime) -> None:
    """Either side deletes it for both. Again is the same. Raises NotFound, Conflict RECORDING_NOT_READY."""
    row = locked(tx, RecordingRow, recording_id)
    if row is None or person_id not in (row.fan_id, row.creator_id):
        raise NotFound("There is no such recording.")
    if row.status == "gone":
        return
    if row.status not in ("finishing", "kept"):
        raise Conflict("It is stopped first, then deleted.", code="RECORDING_NOT_READY")
    recording_ends.gone(tx, row, "deleted", now, by_id=person_id)
    if person_id == row.creator_id:
        owe_refund(tx, row, now)


def payment_taken_back(tx: Session, reference: str, now: datetime) -> None:
    """What paid for a recording was bad: the fan watches it no more. Nothing, if it paid for something else."""
    _mark_payment(tx, reference, now, now)


def payment_good_again(tx: Session, reference: str, now: datetime) -> None:
    """The bank decided otherwise."""
    _mark_payment(tx, reference, None, now)


def _mark_payment(tx: Session, reference: str, taken_back_at: datetime | None, now: datetime) -> None:
    if not reference.startswith(f"{ids.RECORDING}_"):
        return
    row = locked(tx, RecordingRow, reference)
    if row is not None and row.paid_at is not None:
        row.taken_back_at = taken_back_at
        if taken_back_at is None and (row.gone_reason == "lost" or row.gone_by == row.creator_id):
            # While it was bad there was nothing, or less, to give back.
            row.refund_due_at, row.refunded_at = now, None
        tx.flush()
        recording_ends.changed(tx, row, now)


def owe_refund(tx: Session, row: RecordingRow, now: datetime) -> None:
    """Who paid is to be given back; done soon, apart, so that it cannot keep a recording from being deleted."""
    if row.paid_at is not None and row.refunded_at is None:
        row.refund_due_at = now
        tx.flush()


def refund_due(tx: Session, now: datetime) -> int:
    """Give back what is owed. One whose creator has not got the tokens waits until they have. How many."""
    rows = tx.scalars(
        select(RecordingRow)
        .where(RecordingRow.refund_due_at.is_not(None))
        .order_by(RecordingRow.refund_due_at, RecordingRow.id)
        .limit(MOST_AT_ONCE)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    return one_by_one(tx, rows, lambda row: _refund(tx, row, now))


def _refund(tx: Session, row: RecordingRow, now: datetime) -> None:
    paid = ledger.hold_of(tx, row.id)
    if paid is not None and paid.refundable > 0:
        # Once for what is left now: a payment that turned out good again may leave more.
        key = f"recording_refund:{row.id}:{paid.refunded}:{paid.recovered}"
        try:
            with tx.begin_nested():
                ledger.refund(tx, row.id, None, key=key, cause_id=row.session_id, now=now)
        except Conflict:
            # To the end of the line: whoever waits for a creator without tokens holds up nobody else.
            row.refund_due_at = now
            tx.flush()
            return
    elif row.taken_back_at is not None:
        # The bank has given it back. Should it decide otherwise, it is owed again.
        row.refund_due_at = None
        tx.flush()
        return
    row.refund_due_at, row.refunded_at = None, now
    tx.flush()
    log.event("recording_refunded", recording_id=row.id, session_id=row.session_id)
    for person_id in (row.fan_id, row.creator_id):
        balance_changed(tx, person_id, now)
        tell(tx, person_id, "REFUND_GIVEN", now, sessionId=row.session_id, tokens=row.price_tokens)
