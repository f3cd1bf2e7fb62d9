"""Complaints: either side of a session may contest it within 48 h of the receipt, once; an admin decides.

While one is open the creator's earnings from that session stay pending, however long that takes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from models import holds, ids, ledger, log
from models.books import HoldRow
from models.earnings import AmendmentRow, ComplaintRow
from models.errors import Conflict, Forbidden, NotFound
from models.machine import move
from models.people import PersonRow
from models.services import refunds
from models.services.announcements import tell
from models.services.locks import lock_people, locked
from models.services.refunds import checked_reason
from models.sessions import SessionRow

COMPLAIN_WITHIN = timedelta(hours=48)


class ComplaintView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A complaint as the two sides see it."""

    complaint_id: str
    session_id: str
    side: str
    status: str
    reason: str
    made_at: datetime
    decided_at: datetime | None
    decision: str
    refunded_tokens: int


class OpenComplaint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A complaint as the admin who decides it sees it; tokens with the commission in them."""

    complaint_id: str
    session_id: str
    cause_id: str
    side: str
    reason: str
    made_at: datetime
    fan_id: str
    fan_handle: str
    creator_id: str
    creator_handle: str
    end_reason: str
    billed_minutes: int
    charged: int
    refundable: int
    delivered_ms: int
    black_ms: int
    """Of what was delivered, as far as packet sizes tell; so is ``silent_ms``."""
    silent_ms: int


def complain(tx: Session, session_id: str, *, by_id: str, reason: str, now: datetime) -> ComplaintView:
    """Contest an ended session. Raises NotFound, Invalid, Conflict COMPLAINT_LATE, COMPLAINT_MADE."""
    session = _of_side(tx, session_id, by_id)
    reason = checked_reason(reason)
    made = select(ComplaintRow.id).where(ComplaintRow.session_id == session_id, ComplaintRow.by_id == by_id)
    if tx.scalar(made) is not None:
        raise Conflict("You have complained about this one already.", code="COMPLAINT_MADE")
    until = complain_until(session)
    if until is None or now > until:
        raise Conflict("A complaint can be made within 48 hours of the receipt.", code="COMPLAINT_LATE")
    row = ComplaintRow(
        id=ids.new_id(ids.COMPLAINT),
        session_id=session_id,
        by_id=by_id,
        side="fan" if by_id == session.fan_id else "creator",
        status="open",
        reason=reason,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    if was_paid(session):
        ledger.contest(tx, session.request_id, now)
    _tell(tx, session, row, now)
    log.event("complaint_made", session_id=session_id, cause_id=session.cause_id, side=row.side)
    return _view(row)


def complain_until(session: SessionRow) -> datetime | None:
    """Until when either side may complain about it; None while it has not ended."""
    since = session.receipt_at or session.end_time
    return None if since is None else since + COMPLAIN_WITHIN


def complaints_of(tx: Session, session_id: str) -> tuple[ComplaintView, ...]:
    """All complaints about a session, oldest first: one of each side at most."""
    rows = tx.scalars(
        select(ComplaintRow).where(ComplaintRow.session_id == session_id).order_by(ComplaintRow.created_at)
    )
    return tuple(_view(row) for row in rows)


def open_ones(tx: Session, limit: int = 100) -> tuple[OpenComplaint, ...]:
    """What waits for a decision, oldest first."""
    fan, creator = aliased(PersonRow), aliased(PersonRow)
    rows = tx.execute(
        select(ComplaintRow, SessionRow, HoldRow, fan.handle, creator.handle)
        .join(SessionRow, SessionRow.id == ComplaintRow.session_id)
        .join(fan, fan.id == SessionRow.fan_id)
        .join(creator, creator.id == SessionRow.creator_id)
        .outerjoin(HoldRow, HoldRow.reference == SessionRow.request_id)
        .where(ComplaintRow.status == "open")
        .order_by(ComplaintRow.created_at, ComplaintRow.id)
        .limit(limit)
    )
    return tuple(_open_one(*row) for row in rows)


def count_open(tx: Session) -> int:
    """How many wait for a decision."""
    return tx.scalar(select(func.count()).select_from(ComplaintRow).where(ComplaintRow.status == "open")) or 0


def decide(
    tx: Session,
    complaint_id: str,
    *,
    admin_id: str,
    refund_tokens: int,
    reason: str,
    cause_id: str,
    now: datetime,
) -> ComplaintView:
    """Give ``refund_tokens`` back (0: the bill stands) and say why; both sides are told. Once.

    Raises NotFound, Forbidden OWN_ACCOUNT for one of its two sides, Invalid, Conflict COMPLAINT_DECIDED,
    NOT_REVERSIBLE (the creator has not got as much).
    """
    session_id = tx.scalar(select(ComplaintRow.session_id).where(ComplaintRow.id == complaint_id))
    if session_id is None:
        raise NotFound("There is no such complaint.")
    session = _ended(tx, session_id)
    if admin_id in (session.fan_id, session.creator_id):
        raise Forbidden("Nobody decides about a session of their own.", code="OWN_ACCOUNT")
    row = locked(tx, ComplaintRow, complaint_id)
    assert row is not None
    if row.status != "open":
        raise Conflict("It has been decided.", code="COMPLAINT_DECIDED", status=row.status)
    reason = checked_reason(reason)
    move(
        tx,
        ComplaintRow,
        complaint_id,
        "open",
        "refunded" if refund_tokens else "upheld",
        decided_at=now,
        decided_by=admin_id,
        decision=reason,
        refunded_tokens=refund_tokens,
    )
    if was_paid(session) and not _still_contested(tx, session_id):
        ledger.uncontest(tx, session.request_id)
    if refund_tokens:
        refunds.give(
            tx,
            session_id,
            by_id=admin_id,
            side="admin",
            tokens=refund_tokens,
            reason=reason,
            key=complaint_id,
            cause_id=cause_id,
            now=now,
            complaint_id=complaint_id,
        )
    else:
        tx.add(_decision_alone(session_id, complaint_id, reason, now))
        tx.flush()
    tx.refresh(row)
    _tell(tx, session, row, now)
    log.event("complaint_decided", session_id=session_id, cause_id=session.cause_id, tokens=refund_tokens)
    return _view(row)


def was_paid(session: SessionRow) -> bool:
    """Whether tokens moved at its settlement, so that there is something to contest or give back."""
    return (session.total_earnings or 0) + (session.commission or 0) > 0


def _decision_alone(session_id: str, complaint_id: str, reason: str, now: datetime) -> AmendmentRow:
    return AmendmentRow(
        id=ids.new_id(ids.AMENDMENT),
        session_id=session_id,
        kind="complaint",
        by_side="admin",
        tokens=0,
        complaint_id=complaint_id,
        reason=reason,
        created_at=now,
    )


def _still_contested(tx: Session, session_id: str) -> bool:
    others = select(func.count()).where(ComplaintRow.session_id == session_id, ComplaintRow.status == "open")
    return bool(tx.scalar(others))


def _of_side(tx: Session, session_id: str, person_id: str) -> SessionRow:
    session = _ended(tx, session_id)
    if person_id not in (session.fan_id, session.creator_id):
        raise NotFound("There is no such receipt.")
    return session


def _ended(tx: Session, session_id: str) -> SessionRow:
    """The session, with its people locked before it."""
    people = tx.execute(
        select(SessionRow.fan_id, SessionRow.creator_id).where(SessionRow.id == session_id)
    ).one_or_none()
    if people is not None:
        lock_people(tx, *people)
    session = locked(tx, SessionRow, session_id)
    if session is None or session.status != "ended":
        raise NotFound("There is no such receipt.")
    return session


def _tell(tx: Session, session: SessionRow, row: ComplaintRow, now: datetime) -> None:
    for person_id in (session.fan_id, session.creator_id):
        tell(tx, person_id, "COMPLAINT_CHANGED", now, sessionId=session.id, side=row.side, status=row.status)


def _open_one(
    row: ComplaintRow, session: SessionRow, paid: HoldRow | None, fan_handle: str, creator_handle: str
) -> OpenComplaint:
    return OpenComplaint(
        complaint_id=row.id,
        session_id=session.id,
        cause_id=session.cause_id,
        side=row.side,
        reason=row.reason,
        made_at=row.created_at,
        fan_id=session.fan_id,
        fan_handle=fan_handle,
        creator_id=session.creator_id,
        creator_handle=creator_handle,
        end_reason=session.end_reason or "",
        billed_minutes=session.billed_minutes or 0,
        charged=(session.total_earnings or 0) + (session.commission or 0),
        refundable=0 if paid is None else holds.left(paid),
        delivered_ms=session.delivered_ms,
        black_ms=session.black_ms,
        silent_ms=session.silent_ms,
    )


def _view(row: ComplaintRow) -> ComplaintView:
    return ComplaintView(
        complaint_id=row.id,
        session_id=row.session_id,
        side=row.side,
        status=row.status,
        reason=row.reason,
        made_at=row.created_at,
        decided_at=row.decided_at,
        decision=row.decision,
        refunded_tokens=row.refunded_tokens,
    )
