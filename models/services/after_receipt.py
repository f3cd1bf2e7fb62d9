"""What comes after a receipt, as one of its two sides sees it: refunds, complaints, and what is still open."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ledger
from models.earnings import AmendmentRow
from models.errors import NotFound
from models.services.complaints import ComplaintView, complain_until, complaints_of
from models.sessions import SessionRow


class RefundLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens that went back to the fan after the receipt; ``signed``: it stands in the creator's chain."""

    amendment_id: str
    at: datetime
    by: str
    tokens: int
    reason: str
    signed: bool


class AfterReceipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Later refunds and complaints; the other side's complaint without its words."""

    session_id: str
    refunds: tuple[RefundLine, ...]
    complaints: tuple[ComplaintView, ...]
    complain_until: datetime | None
    """None: the viewer has complained, or it is too late."""
    refundable: int
    """What the creator may still give back, in tokens, commission included; 0 for the fan."""
    recovered: int
    """Taken back from the creator and the commission because a payment was bad."""


def after_receipt(tx: Session, session_id: str, viewer_id: str, now: datetime) -> AfterReceipt:
    """For the fan or the creator of an ended session; NotFound for everybody else."""
    session = tx.get(SessionRow, session_id)
    if session is None or session.status != "ended" or viewer_id not in (session.fan_id, session.creator_id):
        raise NotFound("There is no such receipt.")
    is_creator = viewer_id == session.creator_id
    mine = "creator" if is_creator else "fan"
    made = complaints_of(tx, session_id)
    until = complain_until(session)
    over = until is None or now > until or any(each.side == mine for each in made)
    paid = ledger.hold_of(tx, session.request_id)
    rows = tx.scalars(
        select(AmendmentRow)
        .where(AmendmentRow.session_id == session_id, AmendmentRow.tokens > 0)
        .order_by(AmendmentRow.created_at, AmendmentRow.id)
    )
    return AfterReceipt(
        session_id=session_id,
        refunds=tuple(_line(row) for row in rows),
        complaints=tuple(each if each.side == mine else _without_words(each) for each in made),
        complain_until=None if over else until,
        refundable=paid.refundable if paid is not None and is_creator else 0,
        recovered=0 if paid is None else paid.recovered,
    )


def is_paid_by(tx: Session, session_id: str, creator_id: str) -> bool:
    """Whether that creator is the one who was paid by the session."""
    return tx.scalar(select(SessionRow.creator_id).where(SessionRow.id == session_id)) == creator_id


def _line(row: AmendmentRow) -> RefundLine:
    return RefundLine(
        amendment_id=row.id,
        at=row.created_at,
        by=row.by_side,
        tokens=row.tokens,
        reason=row.reason,
        signed=row.issued_at is not None,
    )


def _without_words(complaint: ComplaintView) -> ComplaintView:
    return msgspec.structs.replace(complaint, reason="")
