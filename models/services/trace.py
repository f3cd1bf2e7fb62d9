"""One wish followed from the click to the payout: everything with its cause, in the order of time.

Read only. Whatever id an operator has (a request, a session, a cause, a transfer, a purchase, a message)
leads to the same line of moments.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models import ledger
from models.books import TransferRow
from models.earnings import AmendmentRow, ComplaintRow, PayoutRow
from models.operations import AdminActRow, DeadLetterRow
from models.payments import DisputeRow, PurchaseRow
from models.people import PersonRow
from models.plumbing import InboxRow, OutboxRow
from models.receipts import ReceiptRow
from models.requests import RequestRow
from models.services import book_search, operations
from models.services.book_search import Posting
from models.sessions import SessionRow

Stage = Literal["request", "message", "session", "ledger", "payment", "receipt", "payout", "dead", "act"]
MOST_MOMENTS = 500


class Moment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that happened, or is to happen (``due``). ``subject`` is the id of what it happened to."""

    at: datetime
    stage: Stage
    words: str
    subject: str
    detail: str = ""
    postings: tuple[Posting, ...] = ()
    due: bool = False


class Trace(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All that is known of one wish; no moments: nothing is known under that id."""

    cause_ids: tuple[str, ...]
    request_id: str | None
    session_id: str | None
    ended: bool
    """Whether the session has, so that there is something to give back."""
    moments: tuple[Moment, ...]


class _Found(msgspec.Struct):
    """What the search has led to so far."""

    causes: set[str]
    references: set[str]
    requests: list[RequestRow] = []
    sessions: list[SessionRow] = []
    purchases: list[PurchaseRow] = []


def trace(tx: Session, words: str, now: datetime) -> Trace:
    """The moments of the wish that ``words`` (any id of it) belong to, oldest first."""
    found = _resolve(tx, words.strip())
    moments = [
        *_payments(tx, found),
        *_requests(found),
        *_messages(tx, found),
        *_sessions(found),
        *_ledger(tx, found),
        *_receipts(tx, found),
        *_payouts(tx, found, now),
        *_operators(tx, found),
    ]
    moments.sort(key=lambda moment: moment.at)
    return Trace(
        cause_ids=tuple(sorted(found.causes)),
        request_id=found.requests[0].id if found.requests else None,
        session_id=found.sessions[0].id if found.sessions else None,
        ended=bool(found.sessions) and found.sessions[0].status == "ended",
        moments=tuple(moments[:MOST_MOMENTS]),
    )


def _resolve(tx: Session, words: str) -> _Found:
    """From any id to the requests, sessions, references and causes of the same wish."""
    ids = {words, words.removeprefix("private-")} - {""}
    transfer = tx.scalar(
        select(TransferRow).where(or_(TransferRow.id.in_(ids), TransferRow.reference.in_(ids))).limit(1)
    )
    message = tx.scalar(select(OutboxRow.cause_id).where(OutboxRow.message_id.in_(ids)).limit(1))
    dead = tx.scalar(select(DeadLetterRow.cause_id).where(DeadLetterRow.id.in_(ids)))
    complaint = tx.scalar(select(ComplaintRow.session_id).where(ComplaintRow.id.in_(ids)))
    ids |= {each for each in (message, dead, complaint) if each}
    ids |= {transfer.reference, transfer.cause_id} if transfer else set()
    sessions = tx.scalars(
        select(SessionRow).where(
            or_(SessionRow.id.in_(ids), SessionRow.request_id.in_(ids), SessionRow.cause_id.in_(ids))
        )
    ).all()
    requests = tx.scalars(
        select(RequestRow).where(
            or_(
                RequestRow.id.in_(ids | {session.request_id for session in sessions}), RequestRow.cause_id.in_(ids)
            )
        )
    ).all()
    known = {session.id for session in sessions}
    sessions = [*sessions, *(each for each in _sessions_of(tx, requests) if each.id not in known)]
    references = {request.id for request in requests} | (
        {transfer.reference} if transfer and not requests else set()
    )
    lots = {lot for reference in references for lot in ledger.lots_behind(tx, reference)}
    purchases = tx.scalars(
        select(PurchaseRow).where(
            or_(PurchaseRow.id.in_(ids | lots), PurchaseRow.cause_id.in_(ids), PurchaseRow.gateway_ref.in_(ids))
        )
    ).all()
    causes = {row.cause_id for row in requests} | {row.cause_id for row in sessions}
    causes |= {transfer.cause_id} if transfer else set()
    causes |= {purchase.cause_id for purchase in purchases if purchase.id in ids or purchase.cause_id in ids}
    return _Found(
        causes=causes - {""},
        references=references,
        requests=list(requests),
        sessions=list(sessions),
        purchases=list(purchases),
    )


def _sessions_of(tx: Session, requests: Iterable[RequestRow]) -> list[SessionRow]:
    wanted = [request.id for request in requests]
    return list(tx.scalars(select(SessionRow).where(SessionRow.request_id.in_(wanted))))


def _ids(found: _Found) -> set[str]:
    """Under which ids messages and acts may name this wish."""
    return (
        found.causes
        | found.references
        | {session.id for session in found.sessions}
        | {session.room_id for session in found.sessions}
        | {purchase.id for purchase in found.purchases}
    )


def _payments(tx: Session, found: _Found) -> list[Moment]:
    moments = [
        Moment(
            at=row.succeeded_at or row.created_at,
            stage="payment",
            words=f"Purchase {row.status}: {row.tokens:,} tokens",
            subject=row.id,
            detail=f"{row.gateway}, {row.price_minor / 100:.2f} {row.currency}",
        )
        for row in found.purchases
    ]
    disputes = tx.scalars(
        select(DisputeRow).where(DisputeRow.purchase_id.in_([row.id for row in found.purchases]))
    )
    return [
        *moments,
        *(
            Moment(at=row.created_at, stage="payment", words="Payment disputed", subject=row.id, detail=row.reason)
            for row in disputes
        ),
    ]


def _requests(found: _Found) -> list[Moment]:
    moments = []
    for row in found.requests:
        asked = f"Asked for {row.requested_minutes} minutes at {row.rate_per_minute:,} tokens: {row.total_cost:,}"
        moments.append(Moment(at=row.created_at, stage="request", words=asked, subject=row.id))
        if row.answered_at is not None:
            words, why = f"Request {row.status}", row.accepted_by or row.close_reason or ""
            moments.append(Moment(at=row.answered_at, stage="request", words=words, subject=row.id, detail=why))
    return moments


def _messages(tx: Session, found: _Found) -> list[Moment]:
    """Messages are kept for an hour after they left; what a worker noted of them for thirty days."""
    rows = tx.execute(
        select(OutboxRow, InboxRow.received_at)
        .outerjoin(InboxRow, InboxRow.message_id == OutboxRow.message_id)
        .where(OutboxRow.cause_id.in_(_ids(found)), OutboxRow.kind != "feed")
        .order_by(OutboxRow.seq)
        .limit(MOST_MOMENTS)
    )
    moments = []
    for row, done_at in rows:
        what = row.actor or _type_of(row.body)
        left = f"published {_after(row.created_at, row.published_at)}" if row.published_at else "not published yet"
        done = f", done {_after(row.created_at, done_at)}" if done_at else ""
        moments.append(
            Moment(
                at=row.created_at,
                stage="message",
                words=f"{what} to {row.destination}",
                subject=row.message_id,
                detail=left + done,
            )
        )
    return moments


def _type_of(body: str) -> str:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "command"
    return str(found.get("type", "command")) if isinstance(found, dict) else "command"


def _after(begin: datetime, end: datetime) -> str:
    return f"after {max(0, round((end - begin).total_seconds() * 1000)):,} ms"


def _sessions(found: _Found) -> list[Moment]:
    moments = []
    for row in found.sessions:
        at = ((row.opened_at, "Room open"), (row.live_at, "Live"), (row.end_time, f"Ended: {row.end_reason}"))
        moments.append(Moment(at=row.start_time, stage="session", words="Session made", subject=row.id))
        for when, words in at:
            if when is not None:
                detail = f"{row.delivered_ms / 1000:.1f} s delivered" if when is row.end_time else ""
                moments.append(Moment(at=when, stage="session", words=words, subject=row.id, detail=detail))
    return moments


def _ledger(tx: Session, found: _Found) -> list[Moment]:
    ids = tx.scalars(
        select(TransferRow.id)
        .where(or_(TransferRow.reference.in_(found.references), TransferRow.cause_id.in_(found.causes)))
        .limit(MOST_MOMENTS)
    )
    return [
        Moment(
            at=each.at,
            stage="ledger",
            words=each.kind,
            subject=each.transfer_id,
            detail=each.reference,
            postings=each.postings,
        )
        for each in book_search.movements(tx, ids.all())
    ]


def _receipts(tx: Session, found: _Found) -> list[Moment]:
    sessions = [row.id for row in found.sessions]
    receipts = tx.scalars(select(ReceiptRow).where(ReceiptRow.session_id.in_(sessions)))
    complaints = tx.scalars(select(ComplaintRow).where(ComplaintRow.session_id.in_(sessions)))
    amendments = tx.scalars(select(AmendmentRow).where(AmendmentRow.session_id.in_(sessions)))
    return [
        *(
            Moment(
                at=row.issued_at, stage="receipt", words=f"{row.kind.capitalize()} number {row.number} signed",
                subject=row.session_id,
            )
            for row in receipts
        ),
        *(
            Moment(
                at=row.created_at, stage="receipt", words=f"Complaint of the {row.side}: {row.status}",
                subject=row.id,
            )
            for row in complaints
        ),
        *(
            Moment(
                at=row.created_at, stage="receipt", words=f"{row.tokens:,} tokens given back by the {row.by_side}",
                subject=row.id,
            )
            for row in amendments
            if row.tokens
        ),
    ]  # fmt: skip


def _payouts(tx: Session, found: _Found, now: datetime) -> list[Moment]:
    """Clearing, and the creator's first payout after it: cleared tokens leave in the order in which they came."""
    moments = []
    for reference in sorted(found.references):
        hold = ledger.hold_of(tx, reference)
        if hold is None or hold.creator_id is None or hold.clears_at is None:
            continue
        if hold.cleared_at is None:
            words = "To be cleared, once the complaint is decided" if hold.contested else "To be cleared"
            moments.append(
                Moment(at=hold.clears_at, stage="payout", words=words, subject=reference, due=hold.clears_at > now)
            )
            continue
        moments.append(Moment(at=hold.cleared_at, stage="payout", words="Cleared for payout", subject=reference))
        payout = tx.scalar(
            select(PayoutRow)
            .where(PayoutRow.creator_id == hold.creator_id, PayoutRow.requested_at >= hold.cleared_at)
            .order_by(PayoutRow.requested_at)
            .limit(1)
        )
        if payout is not None:
            words = f"The creator's next payout, {payout.tokens:,} tokens: {payout.status}"
            at = payout.finished_at or payout.requested_at
            moments.append(Moment(at=at, stage="payout", words=words, subject=payout.id))
    return moments


def _operators(tx: Session, found: _Found) -> list[Moment]:
    ids = _ids(found)
    dead = tx.scalars(select(DeadLetterRow).where(DeadLetterRow.cause_id.in_(ids)))
    acts = tx.execute(
        select(AdminActRow, PersonRow.handle)
        .outerjoin(PersonRow, PersonRow.id == AdminActRow.admin_id)
        .where(or_(AdminActRow.subject.in_(ids), AdminActRow.cause_id.in_(found.causes)))
    )
    return [
        *(
            Moment(at=row.died_at, stage="dead", words=f"{row.actor or 'A letter'} died", subject=row.id,
                   detail=row.error)
            for row in dead
        ),
        *(
            Moment(
                at=row.at, stage="act", words=f"{operations.by(row, handle)}: {row.act}", subject=row.subject,
                detail=row.reason,
            )
            for row, handle in acts
        ),
    ]  # fmt: skip
