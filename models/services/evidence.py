"""What a bank asks for when a buyer disputes a purchase: one file with what the purchase was used for.

Members are named as Stripe's dispute evidence names its fields, so that they can be handed in as they are.
Reads rows and signed receipts; adds nothing that we did not record.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models import ledger
from models.books import LotUseRow
from models.clock import rfc3339
from models.end_words import in_words
from models.errors import NotFound
from models.payments import DisputeRow, PaymentAttemptRow, PurchaseRow
from models.people import PersonRow, SignInRow
from models.recordings import RecordingConsentRow, RecordingRow
from models.requests import RequestRow
from models.services import receipt_chain, receipts
from models.services.recordings import consent_records
from models.sessions import SessionRow
from models.settlement import ROWS

LONGEST_FIELD = 20_000
"""Characters that Stripe takes in one text field."""
_WORDS = {
    "top_up": "tokens of this purchase credited",
    "hold": "tokens held",
    "release": "held tokens given back",
    "settle": "held tokens paid, the rest given back",
    "tip": "tip paid",
    "subscription": "subscription month paid",
    "recording": "recording of a private stream paid",
    "pass": "pass for a day of a creator's best picture paid",
    "stake": "paid into the pot of a battle",
    "stake_return": "given back from the pot of a battle",
    "share": "part of a battle's pot paid",
    "reverse": "refund given",
}
_NO_MESSAGES = "There was no communication with the customer by e-mail or telephone. Chat is not recorded."


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The text fields, under Stripe's names; files are named by their field too."""

    product_description: str
    service_date: str
    access_activity_log: str
    uncategorized_text: str


class _Line(msgspec.Struct, frozen=True, order=True):
    at: datetime
    words: str


def bundle(tx: Session, purchase_or_dispute_id: str) -> bytes:
    """A ZIP for one purchase, named by its own id or by a dispute's. Raises NotFound."""
    purchase = _purchase(tx, purchase_or_dispute_id)
    references = tuple(
        tx.scalars(
            select(LotUseRow.reference).where(LotUseRow.lot_id == purchase.id).order_by(LotUseRow.reference)
        )
    )
    sessions = _sessions(tx, references)
    texts = _evidence(tx, purchase, references, sessions)
    signed = "".join(f"{text}\n" for session in sessions for text in _documents(tx, session.id))
    consents = "".join(f"{text}\n" for session in sessions for text in consent_records(tx, session.id))
    files = {
        "evidence.json": msgspec.json.format(msgspec.json.encode(texts)).decode(),
        "access_activity_log.txt": texts.access_activity_log,
        "service_date.txt": f"{texts.service_date}\n",
        "service_documentation.txt": _documentation(purchase, sessions),
        "service_documentation_receipts.jsonl": signed,
        **({"service_documentation_recording_consents.jsonl": consents} if consents else {}),
        "customer_communication.txt": f"{_NO_MESSAGES}\n",
    }
    return _zipped(files, purchase.created_at)


def _purchase(tx: Session, id_: str) -> PurchaseRow:
    purchase_id = tx.scalar(
        select(DisputeRow.purchase_id).where(or_(DisputeRow.id == id_, DisputeRow.gateway_ref == id_))
    )
    purchase = tx.get(PurchaseRow, purchase_id or id_)
    if purchase is None:
        raise NotFound("There is no such purchase or dispute.")
    return purchase


def _sessions(tx: Session, references: Sequence[str]) -> Sequence[SessionRow]:
    filmed = select(RecordingRow.session_id).where(RecordingRow.id.in_(references))
    query = select(SessionRow).where(or_(SessionRow.request_id.in_(references), SessionRow.id.in_(filmed)))
    return tx.scalars(query.order_by(SessionRow.start_time, SessionRow.id)).all()


def _evidence(
    tx: Session, purchase: PurchaseRow, references: Sequence[str], sessions: Sequence[SessionRow]
) -> Evidence:
    log = "".join(f"{rfc3339(line.at)} {line.words}\n" for line in _activity(tx, purchase, references, sessions))
    used = sum(tx.scalars(select(LotUseRow.spent + LotUseRow.held).where(LotUseRow.lot_id == purchase.id)).all())
    return Evidence(
        product_description=(
            f"{purchase.tokens} tokens for live video by the minute, delivered to the customer's account at once."
            f" {used} of them were used."
        ),
        service_date=", ".join(dict.fromkeys(f"{session.start_time:%Y-%m-%d}" for session in sessions))
        or f"{purchase.created_at:%Y-%m-%d}",
        access_activity_log=_longest_end(log),
        uncategorized_text=(
            "Receipts are signed (Ed25519, RFC 8785 canonical JSON); how to check one: docs/receipts.md."
        ),
    )


def _activity(
    tx: Session, purchase: PurchaseRow, references: Sequence[str], sessions: Sequence[SessionRow]
) -> list[_Line]:
    """What the customer's account did, in time order: signing in, paying, asking, being there."""
    person = tx.get_one(PersonRow, purchase.user_id)
    lines = [_Line(person.created_at, "account opened"), _Line(purchase.created_at, "purchase begun")]
    sign_ins = tx.scalars(
        select(SignInRow)
        .where(SignInRow.user_id == purchase.user_id)
        .order_by(SignInRow.created_at.desc())
        .limit(100)
    )
    lines += [_Line(row.created_at, f"signed in ({row.kind})") for row in sign_ins]
    attempts = tx.scalars(select(PaymentAttemptRow).where(PaymentAttemptRow.purchase_id == purchase.id))
    lines += [_Line(row.at, f"payment: {row.outcome}") for row in attempts]
    requests = tx.scalars(select(RequestRow).where(RequestRow.id.in_(references)))
    lines += [
        _Line(row.created_at, f"asked for {row.requested_minutes} minutes and confirmed {row.total_cost} tokens"
              f" ({row.id})")
        for row in requests
    ]  # fmt: skip
    for transfer in ledger.transfers_of(tx, purchase.id, *references):
        moved = next((each.amount for each in transfer.entries if each.account == f"wallet:{person.id}"), 0)
        words = _WORDS.get(transfer.kind, transfer.kind.replace("_", " "))
        at = datetime.fromisoformat(transfer.at)
        lines.append(_Line(at, f"{words}: wallet {moved:+d} ({transfer.reference})"))
    for session in sessions:
        lines += _session_lines(session)
    agreed = (
        select(RecordingConsentRow)
        .join(RecordingRow)
        .where(
            RecordingConsentRow.person_id == person.id, RecordingRow.session_id.in_([each.id for each in sessions])
        )
    )
    lines += [_Line(row.created_at, f"consent to being recorded {row.act}, signed ({row.id})")
              for row in tx.scalars(agreed)]  # fmt: skip
    return sorted(lines)


def _session_lines(session: SessionRow) -> list[_Line]:
    moments = (
        (session.start_time, "request accepted, private room made"),
        (session.opened_at, "media server opened the private room"),
        (session.live_at, "creator's picture began to arrive; the meter ran"),
        (session.end_time, _end_words(session)),
    )
    return [_Line(at, f"{words} ({session.id})") for at, words in moments if at is not None]


def _end_words(session: SessionRow) -> str:
    there = "customer was connected" if session.fan_connected else "customer never connected"
    return f"ended ({session.end_reason}), {there}, {session.delivered_ms / 1000:.0f} s delivered"


def _documentation(purchase: PurchaseRow, sessions: Sequence[SessionRow]) -> str:
    """Each service in sentences: what was asked, what was delivered, why it was billed as it was."""
    head = f"Purchase {purchase.id}: {purchase.tokens} tokens, {rfc3339(purchase.created_at)}.\n"
    if not sessions:
        return f"{head}No private stream was paid for with it.\n"
    return head + "".join(_paragraph(session) for session in sessions)


def _paragraph(session: SessionRow) -> str:
    asked = f"\nPrivate stream {session.id}, {rfc3339(session.start_time)}.\n"
    if session.status != "ended":
        return f"{asked}It is still running.\n"
    charged = (session.total_earnings or 0) + (session.commission or 0)
    why = in_words(
        ROWS[session.end_row or ""],
        for_creator=False,
        min_minutes=session.minimum_minutes,
        included_minutes=session.included_minutes,
        included_used=session.included_used or 0,
        unlock_price=session.unlock_price,
        unlock_earned=session.unlock_earned or 0,
    )
    return (
        f"{asked}{session.requested_minutes} minutes at {session.rate_per_minute} tokens were asked for and"
        f" {session.total_held} tokens held before it began; the customer confirmed that price and these rules.\n"
        f"{session.delivered_ms / 1000:.0f} s were delivered, {session.billed_minutes} minutes billed: {charged}"
        f" tokens; {session.refunded} tokens came back.\n{why}\n"
    )


def _documents(tx: Session, session_id: str) -> tuple[str, ...]:
    receipt = receipts.document_of(tx, session_id)
    return () if receipt is None else (receipt, *receipt_chain.amendments_of(tx, session_id))


def _longest_end(log: str) -> str:
    """The latest lines that fit: what was done with the purchase comes last."""
    if len(log) <= LONGEST_FIELD:
        return log
    return log[-LONGEST_FIELD:].partition("\n")[2]


def _zipped(files: dict[str, str], at: datetime) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # A time of its own kind, so that the same evidence is the same file.
            archive.writestr(zipfile.ZipInfo(name, at.timetuple()[:6]), content)
    return packed.getvalue()
