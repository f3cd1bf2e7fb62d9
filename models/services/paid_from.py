"""Which payments are behind what is held now, and for what: those that have to be asked about again and again."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ledger
from models.bookings import BookingRow
from models.payments import PurchaseRow
from models.requests import OPEN, RequestRow
from models.sessions import SessionRow

BEFORE_A_BOOKING = timedelta(minutes=10)


def payments_behind(tx: Session, session_id: str) -> tuple[str, ...]:
    """The gateway's references of the good payments whose tokens a session holds, oldest first."""
    request_id = tx.scalar(select(SessionRow.request_id).where(SessionRow.id == session_id))
    return paid_from(tx, request_id) if request_id is not None else ()


def paid_from(tx: Session, reference: str) -> tuple[str, ...]:
    """The gateway's references of the good payments whose tokens are held for ``reference``, oldest first."""
    good = tx.scalars(
        select(PurchaseRow)
        .where(PurchaseRow.id.in_(ledger.lots_behind(tx, reference)), PurchaseRow.status == "succeeded")
        .order_by(PurchaseRow.created_at, PurchaseRow.id)
    )
    return tuple(row.gateway_ref for row in good if row.gateway_ref is not None)


def open_requests_paid(tx: Session) -> tuple[str, ...]:
    """The open requests that hold tokens, oldest first: nobody should accept what is going to be taken back."""
    query = select(RequestRow.id).where(RequestRow.status.in_(OPEN), RequestRow.total_cost > 0)
    return tuple(tx.scalars(query.order_by(RequestRow.created_at, RequestRow.id)))


def bookings_paid(tx: Session, now: datetime) -> tuple[str, ...]:
    """The references of bookings that hold tokens and begin soon: nothing should begin that is going to be cut."""
    query = select(BookingRow.request_id).where(
        BookingRow.status == "booked", BookingRow.total_cost > 0, BookingRow.starts_at <= now + BEFORE_A_BOOKING
    )
    return tuple(tx.scalars(query.order_by(BookingRow.starts_at, BookingRow.request_id)))
