"""Giving back what a settled session paid: a reversal in the ledger, a line under the receipt, both told.

A creator does it from the receipt, an admin by deciding a complaint. The receipt itself never changes: the
clock signs an amendment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.books import TransferRow
from models.earnings import AmendmentRow
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people, locked
from models.sessions import SessionRow

LONGEST_REASON = 1_000
Giver = Literal["creator", "admin"]


class RefundQuote(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What giving back ``tokens = fromEarnings + fromCommission`` means; ``most`` is all that is left."""

    tokens: int
    from_earnings: int
    from_commission: int
    most: int


class RefundView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A refund that was given; ``amendmentId`` names it in the creator's chain."""

    amendment_id: str
    session_id: str
    tokens: int
    from_earnings: int
    from_commission: int
    at: datetime


def quote(tx: Session, session_id: str, tokens: int | None = None) -> RefundQuote:
    """What a refund of ``tokens`` (None: all that is left) would take from whom. Raises NotFound, Invalid,
    Conflict NOT_REVERSIBLE when nothing is left to give back."""
    session = tx.get(SessionRow, session_id, populate_existing=True)
    if session is None or session.status != "ended":
        raise NotFound("There is no such receipt.")
    return _quote(tx, session, tokens)


def give(
    tx: Session,
    session_id: str,
    *,
    by_id: str,
    side: Giver,
    tokens: int | None,
    reason: str,
    key: str,
    cause_id: str,
    now: datetime,
    complaint_id: str | None = None,
) -> RefundView:
    """Give back ``tokens`` of what the session paid, or all that is left (None).

    Again with the same ``key`` gives the first answer. Raises NotFound, Forbidden when a creator is not the
    session's or an admin (OWN_ACCOUNT) is its fan, Invalid, Conflict NOT_REVERSIBLE when the creator has not
    got it or nothing is left.
    """
    session = _ended(tx, session_id)
    if side == "creator" and by_id != session.creator_id:
        raise Forbidden("Only who was paid may give it back.")
    if side == "admin" and by_id == session.fan_id:
        raise Forbidden("Nobody gives themselves tokens back.", code="OWN_ACCOUNT")
    reason = checked_reason(reason)
    # Each giver's keys are their own: no creator answers a complaint before the admin does, under its id.
    key = f"refund:{session_id}:{'complaint' if complaint_id else side}:{key}"
    if (first := _given(tx, key)) is not None:
        return _view(tx, session, first)
    found = _quote(tx, session, tokens)
    transfer = ledger.refund(tx, session.request_id, found.tokens, key=key, cause_id=cause_id, now=now)
    row = AmendmentRow(
        id=ids.new_id(ids.AMENDMENT),
        session_id=session_id,
        kind="complaint" if complaint_id else "refund",
        by_side=side,
        tokens=found.tokens,
        transfer_id=transfer.transfer_id,
        complaint_id=complaint_id,
        reason=reason,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    _tell(tx, session, row, now)
    return _view(tx, session, row)


def checked_reason(text: str) -> str:
    """A reason in 1 to 1,000 characters, trimmed. Raises Invalid."""
    reason = text.strip()
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise Invalid(f"Write 1 to {LONGEST_REASON:,} characters.", field="reason")
    return reason


def _quote(tx: Session, session: SessionRow, tokens: int | None) -> RefundQuote:
    paid = ledger.hold_of(tx, session.request_id)
    if paid is None or paid.refundable == 0:
        raise Conflict("Nothing was paid, or all of it was given back already.", code="NOT_REVERSIBLE")
    most = paid.refundable
    wanted = most if tokens is None else tokens
    if not 1 <= wanted <= most:
        raise Invalid(f"Choose 1 to {most:,} tokens.", field="tokens", most=most)
    # As a difference of sums, like the ledger itself: parts add up to the whole commission.
    charged, gone = paid.earnings + paid.commission, paid.recovered + paid.refunded
    fee = (gone + wanted) * paid.commission // charged - gone * paid.commission // charged
    return RefundQuote(tokens=wanted, from_earnings=wanted - fee, from_commission=fee, most=most)


def _given(tx: Session, key: str) -> AmendmentRow | None:
    """What the same key gave before, also when nothing is left since."""
    query = select(AmendmentRow).join(TransferRow, TransferRow.id == AmendmentRow.transfer_id)
    return tx.scalar(query.where(TransferRow.idempotency_key == key))


def _view(tx: Session, session: SessionRow, row: AmendmentRow) -> RefundView:
    transfers = ledger.transfers_of(tx, session.request_id)
    entries = next(each.entries for each in transfers if each.transfer_id == row.transfer_id)
    commission = -sum(entry.amount for entry in entries if entry.account.partition(":")[0] == "fees")
    return RefundView(
        amendment_id=row.id,
        session_id=row.session_id,
        tokens=row.tokens,
        from_earnings=row.tokens - commission,
        from_commission=commission,
        at=row.created_at,
    )


def _ended(tx: Session, session_id: str) -> SessionRow:
    """The session with its people locked before it."""
    people = tx.execute(
        select(SessionRow.fan_id, SessionRow.creator_id).where(SessionRow.id == session_id)
    ).one_or_none()
    if people is None:
        raise NotFound("There is no such receipt.")
    lock_people(tx, *people)
    session = locked(tx, SessionRow, session_id)
    if session is None or session.status != "ended":
        raise NotFound("There is no such receipt.")
    return session


def _tell(tx: Session, session: SessionRow, amendment: AmendmentRow, now: datetime) -> None:
    for person_id in (session.fan_id, session.creator_id):
        balance_changed(tx, person_id, now)
        tell(tx, person_id, "REFUND_GIVEN", now, sessionId=session.id, tokens=amendment.tokens)
    log.event("refund_given", session_id=session.id, cause_id=session.cause_id, tokens=amendment.tokens)
