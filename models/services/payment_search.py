"""Money from outside as an operator reads it: purchases, one purchase's history, disputes, refunds, payouts."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models.books import LotRow, LotUseRow, TransferRow
from models.earnings import PayoutRow
from models.errors import NotFound
from models.payments import DisputeRow, PaymentAttemptRow, PurchaseRow, RefundRow
from models.people import PersonRow
from models.services import book_search
from models.services.book_search import Movement

MOST_FOUND = 100


class BoughtTokens(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One purchase; money in the currency's minor unit."""

    purchase_id: str
    user_id: str
    handle: str
    tokens: int
    price_minor: int
    refunded_minor: int
    currency: str
    gateway: str
    way: str
    status: str
    flagged: bool
    cause_id: str
    created_at: datetime


class Attempt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the gateway answered, once."""

    outcome: str
    detail: str
    at: datetime


class Use(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many of its tokens are behind a hold: reserved, spent, taken back."""

    reference: str
    held: int
    spent: int
    recovered: int


class MoneyBack(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Unused tokens given back for money."""

    refund_id: str
    purchase_id: str
    user_id: str
    handle: str
    tokens: int
    amount_minor: int
    currency: str
    status: str
    detail: str
    created_at: datetime


class Disputed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A payment that the buyer's bank takes back."""

    dispute_id: str
    purchase_id: str
    user_id: str
    handle: str
    status: str
    reason: str
    amount_minor: int
    currency: str
    due_at: datetime | None
    created_at: datetime


class PaidOut(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A creator's payout."""

    payout_id: str
    creator_id: str
    handle: str
    status: str
    tokens: int
    amount_minor: int
    currency: str
    detail: str
    requested_at: datetime
    finished_at: datetime | None


class PurchaseHistory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One purchase with all that followed. ``free``: tokens of it that nobody has used yet."""

    purchase: BoughtTokens
    free: int
    bad: bool
    attempts: tuple[Attempt, ...]
    uses: tuple[Use, ...]
    disputes: tuple[Disputed, ...]
    refunds: tuple[MoneyBack, ...]
    movements: tuple[Movement, ...]


def purchases(
    tx: Session, *, words: str = "", status: str = "", limit: int = MOST_FOUND
) -> tuple[BoughtTokens, ...]:
    """Purchases, the latest first: of one status, or with that id, gateway's reference, cause or buyer."""
    query = select(PurchaseRow, PersonRow.handle).join(PersonRow, PersonRow.id == PurchaseRow.user_id)
    if status:
        query = query.where(PurchaseRow.status == status)
    if text := words.strip():
        query = query.where(
            or_(
                PurchaseRow.id == text,
                PurchaseRow.gateway_ref == text,
                PurchaseRow.cause_id == text,
                PersonRow.id == text,
                PersonRow.handle == text.lower(),
            )
        )
    rows = tx.execute(query.order_by(PurchaseRow.created_at.desc(), PurchaseRow.id).limit(limit))
    return tuple(_bought(row, handle) for row, handle in rows)


def purchase_counts(tx: Session) -> dict[str, int]:
    """How many purchases there are of each status."""
    rows = tx.execute(select(PurchaseRow.status, func.count()).group_by(PurchaseRow.status))
    found = {status: int(count) for status, count in rows}
    return {status: found.get(status, 0) for status in PurchaseRow.ALLOWED}


def history(tx: Session, purchase_id: str) -> PurchaseHistory:
    """One purchase and all that followed. Raises NotFound."""
    row = tx.get(PurchaseRow, purchase_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such purchase.")
    handle = tx.scalar(select(PersonRow.handle).where(PersonRow.id == row.user_id)) or ""
    lot = tx.get(LotRow, purchase_id, populate_existing=True)
    attempts = tx.scalars(
        select(PaymentAttemptRow)
        .where(PaymentAttemptRow.purchase_id == purchase_id)
        .order_by(PaymentAttemptRow.id)
        .limit(MOST_FOUND)
    )
    uses = tx.scalars(
        select(LotUseRow).where(LotUseRow.lot_id == purchase_id).order_by(LotUseRow.reference).limit(MOST_FOUND)
    )
    transfers = tx.scalars(select(TransferRow.id).where(TransferRow.reference == purchase_id).limit(MOST_FOUND))
    return PurchaseHistory(
        purchase=_bought(row, handle),
        free=lot.free if lot else 0,
        bad=lot is not None and lot.bad_at is not None,
        attempts=tuple(Attempt(outcome=each.outcome, detail=each.detail, at=each.at) for each in attempts),
        uses=tuple(
            Use(reference=use.reference, held=use.held, spent=use.spent, recovered=use.recovered) for use in uses
        ),
        disputes=disputes(tx, purchase_id=purchase_id),
        refunds=refunds(tx, purchase_id=purchase_id),
        movements=book_search.movements(tx, transfers.all()),
    )


def disputes(tx: Session, *, purchase_id: str | None = None, limit: int = MOST_FOUND) -> tuple[Disputed, ...]:
    """Disputes, the open ones first, then the latest."""
    query = select(DisputeRow, PersonRow.handle).join(PersonRow, PersonRow.id == DisputeRow.user_id)
    if purchase_id is not None:
        query = query.where(DisputeRow.purchase_id == purchase_id)
    is_open = DisputeRow.status == "opened"
    rows = tx.execute(query.order_by(is_open.desc(), DisputeRow.created_at.desc(), DisputeRow.id).limit(limit))
    return tuple(
        Disputed(
            dispute_id=row.id,
            purchase_id=row.purchase_id,
            user_id=row.user_id,
            handle=handle,
            status=row.status,
            reason=row.reason,
            amount_minor=row.amount_minor,
            currency=row.currency,
            due_at=row.due_at,
            created_at=row.created_at,
        )
        for row, handle in rows
    )


def refunds(tx: Session, *, purchase_id: str | None = None, limit: int = MOST_FOUND) -> tuple[MoneyBack, ...]:
    """Refunds of unused tokens, the latest first."""
    query = select(RefundRow, PersonRow.handle).join(PersonRow, PersonRow.id == RefundRow.user_id)
    if purchase_id is not None:
        query = query.where(RefundRow.purchase_id == purchase_id)
    rows = tx.execute(query.order_by(RefundRow.created_at.desc(), RefundRow.id).limit(limit))
    return tuple(
        MoneyBack(
            refund_id=row.id,
            purchase_id=row.purchase_id,
            user_id=row.user_id,
            handle=handle,
            tokens=row.tokens,
            amount_minor=row.amount_minor,
            currency=row.currency,
            status=row.status,
            detail=row.detail,
            created_at=row.created_at,
        )
        for row, handle in rows
    )


def payouts(tx: Session, limit: int = MOST_FOUND) -> tuple[PaidOut, ...]:
    """Payouts, the latest first."""
    query = select(PayoutRow, PersonRow.handle).join(PersonRow, PersonRow.id == PayoutRow.creator_id)
    rows = tx.execute(query.order_by(PayoutRow.requested_at.desc(), PayoutRow.id).limit(limit))
    return tuple(
        PaidOut(
            payout_id=row.id,
            creator_id=row.creator_id,
            handle=handle,
            status=row.status,
            tokens=row.tokens,
            amount_minor=row.amount_minor,
            currency=row.currency,
            detail=row.detail,
            requested_at=row.requested_at,
            finished_at=row.finished_at,
        )
        for row, handle in rows
    )


def open_disputes(tx: Session) -> int:
    """How many disputes nobody has decided."""
    return tx.scalar(select(func.count()).select_from(DisputeRow).where(DisputeRow.status == "opened")) or 0


def _bought(row: PurchaseRow, handle: str) -> BoughtTokens:
    return BoughtTokens(
        purchase_id=row.id,
        user_id=row.user_id,
        handle=handle,
        tokens=row.tokens,
        price_minor=row.price_minor,
        refunded_minor=row.refunded_minor,
        currency=row.currency,
        gateway=row.gateway,
        way=row.way,
        status=row.status,
        flagged=row.flagged_at is not None,
        cause_id=row.cause_id,
        created_at=row.created_at,
    )
