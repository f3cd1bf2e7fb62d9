"""Signing: each ended session's receipt, and whatever changes it later, becomes a link of its creator's chain.

The clock issues; whoever settles or refunds only leaves a row behind. Exactly once, whatever is repeated
or killed: the creator is locked, numbers follow one another, and a subject is in the chains once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
from sqlalchemy import select, union
from sqlalchemy.orm import Session

from models import ledger, log
from models.canonical import Json
from models.clock import rfc3339
from models.db import insert_into
from models.earnings import AmendmentRow, ComplaintRow
from models.receipt_keys import Jwk, JwkSet, SigningKey
from models.receipt_seal import seal, seal_head
from models.receipts import ReceiptKeyRow, ReceiptRow
from models.services.announcements import tell
from models.services.locks import lock_people, one_by_one
from models.services.receipts import ReceiptTransfer, draft_of, receipt_transfer, subject_of
from models.sessions import SessionRow

MOST_AT_ONCE = 100
PAGE = 200

# Built once: the clock asks each round, and building it took longer than executing it.
_ENDED = select(SessionRow.creator_id).where(SessionRow.status == "ended", SessionRow.receipt_at.is_(None))
_AMENDED = (
    select(SessionRow.creator_id)
    .join(AmendmentRow, AmendmentRow.session_id == SessionRow.id)
    .where(AmendmentRow.issued_at.is_(None), SessionRow.receipt_at.is_not(None))
)
_BOTH = union(_ENDED, _AMENDED).subquery()
_DUE = select(_BOTH.c.creator_id).order_by(_BOTH.c.creator_id).limit(MOST_AT_ONCE)


class ComplaintPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was decided about a complaint; the words stay out of the chain."""

    complaint_id: str
    side: str
    made_at: str
    outcome: str


class Amendment(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A later refund or decision about one receipt, without its seal. ``tokens`` went back to the fan."""

    document: str
    amendment_id: str
    kind: str
    session_id: str
    request_id: str
    creator_id: str
    fan_id: str
    at: str
    by: str
    tokens: int
    transfer: ReceiptTransfer | None = None
    complaint: ComplaintPart | None = None


def issue_due(tx: Session, key: SigningKey, now: datetime) -> int:
    """Sign what has no link yet, oldest first, a bounded number a round; how many links were made."""
    creators = tx.scalars(_DUE).all()
    if not creators:
        return 0
    remember(tx, key, now)
    return sum(_issue_for(tx, creator_id, key, now) for creator_id in creators)


def _issue_for(tx: Session, creator_id: str, key: SigningKey, now: datetime) -> int:
    # Before anything is read again: another clock may just have signed the same.
    lock_people(tx, creator_id)
    sessions = tx.scalars(
        select(SessionRow)
        .where(SessionRow.creator_id == creator_id, SessionRow.status == "ended", SessionRow.receipt_at.is_(None))
        .order_by(SessionRow.end_time, SessionRow.id)
        .limit(MOST_AT_ONCE)
        .execution_options(populate_existing=True)
    ).all()
    done = one_by_one(tx, sessions, lambda session: _issue_receipt(tx, session, key, now))
    amendments = tx.scalars(
        select(AmendmentRow)
        .join(SessionRow, SessionRow.id == AmendmentRow.session_id)
        .where(
            SessionRow.creator_id == creator_id,
            SessionRow.receipt_at.is_not(None),
            AmendmentRow.issued_at.is_(None),
        )
        .order_by(AmendmentRow.created_at, AmendmentRow.id)
        .limit(MOST_AT_ONCE)
        .execution_options(populate_existing=True)
    ).all()
    return done + one_by_one(tx, amendments, lambda amendment: _issue_amendment(tx, amendment, key, now))


def _issue_receipt(tx: Session, session: SessionRow, key: SigningKey, now: datetime) -> None:
    document: dict[str, Json] = msgspec.to_builtins(draft_of(tx, session))
    _append(tx, session, "receipt", subject_of(session.id), document, key, now)
    session.receipt_at = now
    tx.flush()


def _issue_amendment(tx: Session, row: AmendmentRow, key: SigningKey, now: datetime) -> None:
    session = tx.get_one(SessionRow, row.session_id)
    document: dict[str, Json] = msgspec.to_builtins(_amendment(tx, row, session))
    _append(tx, session, "amendment", f"amendment:{row.id}", document, key, now)
    row.issued_at = now
    tx.flush()


def _amendment(tx: Session, row: AmendmentRow, session: SessionRow) -> Amendment:
    complaint = None if row.complaint_id is None else tx.get_one(ComplaintRow, row.complaint_id)
    about = ledger.transfers_of(tx, session.request_id) if row.transfer_id else ()
    transfer = next((each for each in about if each.transfer_id == row.transfer_id), None)
    return Amendment(
        document="amendment",
        amendment_id=row.id,
        kind=row.kind,
        session_id=session.id,
        request_id=session.request_id,
        creator_id=session.creator_id,
        fan_id=session.fan_id,
        at=rfc3339(row.created_at),
        by=row.by_side,
        tokens=row.tokens,
        transfer=None if transfer is None else receipt_transfer(transfer),
        complaint=None
        if complaint is None
        else ComplaintPart(
            complaint_id=complaint.id,
            side=complaint.side,
            made_at=rfc3339(complaint.created_at),
            outcome=complaint.status,
        ),
    )


def _append(
    tx: Session,
    session: SessionRow,
    kind: str,
    subject: str,
    document: dict[str, Json],
    key: SigningKey,
    now: datetime,
) -> None:
    """The next link of the creator's chain; the caller has the creator locked."""
    last = tx.execute(
        select(ReceiptRow.number, ReceiptRow.hash)
        .where(ReceiptRow.creator_id == session.creator_id)
        .order_by(ReceiptRow.number.desc())
        .limit(1)
    ).one_or_none()
    number, previous_hash = (1, None) if last is None else (last.number + 1, last.hash)
    sealed = seal(document, key, number=number, previous_hash=previous_hash)
    tx.add(
        ReceiptRow(
            creator_id=session.creator_id,
            number=number,
            kind=kind,
            session_id=session.id,
            subject=subject,
            previous_hash=previous_hash,
            hash=sealed.hash,
            key_id=key.key_id,
            document=sealed.text,
            issued_at=now,
        )
    )
    tx.flush()
    for person_id in (session.fan_id, session.creator_id):
        tell(tx, person_id, "RECEIPT_ISSUED", now, sessionId=session.id)
    log.event("receipt_issued", session_id=session.id, cause_id=session.cause_id, kind=kind, number=number)


def remember(tx: Session, key: SigningKey, now: datetime) -> None:
    """A key is known before the first document that it signs."""
    row = insert_into(tx, ReceiptKeyRow).values(id=key.key_id, public_x=key.public_x, created_at=now)
    tx.execute(row.on_conflict_do_nothing())


def published_keys(tx: Session, present: SigningKey) -> JwkSet:
    """All public keys that receipts were or are signed with: the present one first."""
    past = tx.scalars(select(ReceiptKeyRow).order_by(ReceiptKeyRow.created_at.desc(), ReceiptKeyRow.id))
    older = tuple(Jwk(x=row.public_x, kid=row.id) for row in past if row.id != present.key_id)
    return JwkSet(keys=(present.jwk, *older))


def amendments_of(tx: Session, session_id: str) -> tuple[str, ...]:
    """The signed amendments of a session's receipt, oldest first, canonical JSON."""
    query = select(ReceiptRow.document).where(ReceiptRow.session_id == session_id, ReceiptRow.kind == "amendment")
    return tuple(tx.scalars(query.order_by(ReceiptRow.number)))


def export(tx: Session, creator_id: str, key: SigningKey, now: datetime) -> Iterator[str]:
    """A creator's whole chain as JSON lines, oldest first; the last line is the signed head of the chain."""
    number, last_hash = 0, None
    while True:
        page = tx.execute(
            select(ReceiptRow.number, ReceiptRow.hash, ReceiptRow.document)
            .where(ReceiptRow.creator_id == creator_id, ReceiptRow.number > number)
            .order_by(ReceiptRow.number)
            .limit(PAGE)
        ).all()
        for row in page:
            number, last_hash = row.number, row.hash
            yield f"{row.document}\n"
        if len(page) < PAGE:
            break
    yield f"{seal_head(creator_id, rfc3339(now), number, last_hash, key)}\n"
