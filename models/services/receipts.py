"""Receipts: the bill of an ended session with every figure that it follows from, public ids only.

Until the clock has signed it (``receipt_chain``), a receipt is read from the session; from then on it is
the signed document itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeVar

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from models import ledger
from models.end_words import in_words
from models.people import PersonRow
from models.receipt_seal import Seal
from models.receipts import ReceiptRow
from models.services.extending import lost_minutes
from models.sessions import SessionRow
from models.settlement import ROWS

T = TypeVar("T")


class ReceiptEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Tokens into (above zero) or out of an account; ``owner`` is the person's public id, if it is a person's."""

    account: str
    amount: int
    owner: str | None = None


class ReceiptTransfer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One transfer of the ledger; its entries sum to zero."""

    transfer_id: str
    kind: str
    at: str
    entries: tuple[ReceiptEntry, ...]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """docs/contract.md section 3: ``totalHeld = earnings + commission + refunded``.

    ``earnings + commission = max(0, billedMinutes − includedMinutes) × ratePerMinute + unlockEarned``.
    Of the included minutes, ``includedUsed`` are used up; the others returned to the subscription.
    """

    session_id: str
    request_id: str
    creator_id: str
    fan_id: str
    status: Literal["ended"]
    started_at: datetime
    ended_at: datetime
    end_reason: str
    end_row: str
    """The row of the end table that it was billed by: ``models.settlement.ROWS``."""
    live_at: datetime | None = None
    """When the meter first ran; left out when it never did."""
    requested_minutes: int
    min_minutes: int
    minute_ms: int
    paid_ms: int
    delivered_ms: int
    billed_minutes: int
    rate_per_minute: int
    discount_percent: int
    commission_percent: int
    payment_mode: str = "prepaid"
    included_minutes: int = 0
    included_used: int = 0
    unlock_price: int = 0
    unlock_earned: int = 0
    total_held: int
    earnings: int
    commission: int
    refunded: int
    transfers: tuple[ReceiptTransfer, ...]
    signature: Seal | None = None
    """There from soon after the end: the clock signs."""


class ReceiptSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of somebody's history; ``tokens`` is what a fan paid or a creator earned."""

    session_id: str
    role: Literal["fan", "creator"]
    counterpart_id: str
    counterpart_handle: str
    counterpart_name: str
    started_at: datetime
    ended_at: datetime
    end_reason: str
    delivered_ms: int
    minute_ms: int
    billed_minutes: int
    total_held: int
    tokens: int
    refunded: int


def receipt_of(tx: Session, session: SessionRow) -> Receipt:
    """The receipt of a session that has ended: the signed document, or what will be signed."""
    text = document_of(tx, session.id)
    return draft_of(tx, session) if text is None else msgspec.json.decode(text, type=Receipt)


def document_of(tx: Session, session_id: str) -> str | None:
    """The signed receipt as it is given out, canonical JSON; None until the clock has signed it."""
    return tx.scalar(select(ReceiptRow.document).where(ReceiptRow.subject == subject_of(session_id)))


def subject_of(session_id: str) -> str:
    """What a session's receipt is about, among all links of all chains."""
    return f"session:{session_id}"


def draft_of(tx: Session, session: SessionRow) -> Receipt:
    """The receipt without its signature, from the rows. What changes it later is an amendment, never here."""
    return Receipt(
        session_id=session.id,
        request_id=session.request_id,
        creator_id=session.creator_id,
        fan_id=session.fan_id,
        status="ended",
        started_at=session.start_time,
        ended_at=_there(session.end_time),
        end_reason=_there(session.end_reason),
        end_row=_there(session.end_row),
        live_at=session.live_at,
        requested_minutes=session.requested_minutes,
        min_minutes=session.minimum_minutes,
        minute_ms=session.minute_ms,
        paid_ms=session.acknowledged_ms,
        delivered_ms=session.delivered_ms,
        billed_minutes=_there(session.billed_minutes),
        rate_per_minute=session.rate_per_minute,
        discount_percent=session.discount_percent,
        commission_percent=session.commission_percent,
        payment_mode=session.payment_mode,
        included_minutes=session.included_minutes,
        included_used=session.included_used or 0,
        unlock_price=session.unlock_price,
        unlock_earned=session.unlock_earned or 0,
        total_held=session.total_held,
        earnings=_there(session.total_earnings),
        commission=_there(session.commission),
        refunded=_there(session.refunded),
        transfers=tuple(
            receipt_transfer(transfer)
            for transfer in ledger.transfers_of(tx, session.request_id)
            if transfer.kind in ("hold", "release", "settle")
        ),
    )


def why(session: SessionRow, person_id: str) -> str:
    """Why the bill of an ended session is what it is, in a sentence for one of its two sides."""
    words = in_words(
        ROWS[_there(session.end_row)],
        for_creator=person_id == session.creator_id,
        min_minutes=session.minimum_minutes,
        included_minutes=session.included_minutes,
        included_used=session.included_used or 0,
        unlock_price=session.unlock_price,
        unlock_earned=session.unlock_earned or 0,
    )
    if person_id == session.fan_id and (lost := lost_minutes(session)):
        tokens = lost * session.rate_per_minute
        more = f"{lost} minute{'' if lost == 1 else 's'}"
        return f"{words} The call ended before {more} could be added: {tokens:,} tokens came back."
    return words


def history(
    tx: Session, person_id: str, limit: int = 50, before: datetime | None = None
) -> tuple[ReceiptSummary, ...]:
    """A person's ended sessions on either side, the newest first; ``before`` is the last line's ``endedAt``."""
    fan, creator = aliased(PersonRow), aliased(PersonRow)
    wanted = (
        select(SessionRow, fan, creator)
        .join(fan, fan.id == SessionRow.fan_id)
        .join(creator, creator.id == SessionRow.creator_id)
        .where(
            or_(SessionRow.fan_id == person_id, SessionRow.creator_id == person_id),
            SessionRow.status == "ended",
        )
        .order_by(SessionRow.end_time.desc(), SessionRow.id)
        .limit(limit)
    )
    if before is not None:
        wanted = wanted.where(SessionRow.end_time < before)
    return tuple(_summary(session, person_id, *sides) for session, *sides in tx.execute(wanted))


def _summary(session: SessionRow, person_id: str, fan: PersonRow, creator: PersonRow) -> ReceiptSummary:
    is_fan = person_id == session.fan_id
    other = creator if is_fan else fan
    earnings = _there(session.total_earnings)
    return ReceiptSummary(
        session_id=session.id,
        role="fan" if is_fan else "creator",
        counterpart_id=other.id,
        counterpart_handle=other.handle,
        counterpart_name=other.display_name,
        started_at=session.start_time,
        ended_at=_there(session.end_time),
        end_reason=_there(session.end_reason),
        delivered_ms=session.delivered_ms,
        minute_ms=session.minute_ms,
        billed_minutes=_there(session.billed_minutes),
        total_held=session.total_held,
        tokens=earnings + _there(session.commission) if is_fan else earnings,
        refunded=_there(session.refunded),
    )


def receipt_transfer(transfer: ledger.Transfer) -> ReceiptTransfer:
    """A transfer as receipts and amendments show it."""
    return ReceiptTransfer(
        transfer_id=transfer.transfer_id,
        kind=transfer.kind,
        at=transfer.at,
        entries=tuple(_entry(entry) for entry in transfer.entries),
    )


def _entry(entry: ledger.Entry) -> ReceiptEntry:
    account, _, owner = entry.account.partition(":")
    # gateway:<name> is the platform's; the ledger's other suffixes are people.
    if account == "gateway":
        account, owner = entry.account, ""
    return ReceiptEntry(account=account, amount=entry.amount, owner=owner or None)


def _there(value: T | None) -> T:
    """A column that the table's CHECK fills once a session has ended."""
    if value is None:
        raise RuntimeError("an ended session lacks a figure")
    return value
