"""The ledger as an operator reads it: transfers found by what is known of them, and the platform's totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models.books import AccountRow, EntryRow, SlotRow, TransferRow
from models.people import PersonRow

MOST_FOUND = 100


class Posting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a transfer did to one account; ``owner`` is a handle, empty for the platform's accounts."""

    account: str
    kind: str
    owner: str
    amount: int


class Movement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One transfer with all its entries, which sum to zero."""

    transfer_id: str
    kind: str
    reference: str
    cause_id: str
    at: datetime
    postings: tuple[Posting, ...]


def search(tx: Session, words: str, limit: int = MOST_FOUND) -> tuple[Movement, ...]:
    """Transfers with that id, reference, cause or idempotency key, or of that person (id or handle).

    The latest first; the latest of all for no words.
    """
    text = words.strip()
    query = select(TransferRow.id)
    if text:
        person = tx.scalar(select(PersonRow.id).where(or_(PersonRow.id == text, PersonRow.handle == text.lower())))
        query = (
            query.where(
                TransferRow.id.in_(
                    select(EntryRow.transfer_id)
                    .join(AccountRow, AccountRow.id == EntryRow.account_id)
                    .where(AccountRow.owner_id == person)
                )
            )
            if person is not None
            else query.where(
                or_(
                    TransferRow.id == text,
                    TransferRow.reference == text,
                    TransferRow.cause_id == text,
                    TransferRow.idempotency_key == text,
                )
            )
        )
    found = tx.scalars(query.order_by(TransferRow.created_at.desc(), TransferRow.id).limit(limit)).all()
    return movements(tx, found)


def movements(tx: Session, transfer_ids: Iterable[str]) -> tuple[Movement, ...]:
    """These transfers, the latest first."""
    rows = tx.execute(
        select(TransferRow, AccountRow, EntryRow.amount, PersonRow.handle)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .outerjoin(PersonRow, PersonRow.id == AccountRow.owner_id)
        .where(TransferRow.id.in_(list(transfer_ids)))
        .order_by(TransferRow.created_at.desc(), TransferRow.id, EntryRow.amount)
    )
    grouped: dict[str, tuple[TransferRow, list[Posting]]] = {}
    for transfer, account, amount, handle in rows:
        posting = Posting(account=account.id, kind=account.kind, owner=handle or "", amount=amount)
        grouped.setdefault(transfer.id, (transfer, []))[1].append(posting)
    return tuple(
        Movement(
            transfer_id=row.id,
            kind=row.kind,
            reference=row.reference,
            cause_id=row.cause_id,
            at=row.created_at,
            postings=tuple(postings),
        )
        for row, postings in grouped.values()
    )


def totals(tx: Session) -> dict[str, int]:
    """Tokens by kind of account, from the cached balances: zero together. An audit holds them to the entries."""
    own = select(AccountRow.kind, func.sum(AccountRow.balance)).group_by(AccountRow.kind)
    slots = (
        select(AccountRow.kind, func.sum(SlotRow.balance))
        .join(SlotRow, SlotRow.account_id == AccountRow.id)
        .group_by(AccountRow.kind)
    )
    found: Counter[str] = Counter()
    for kind, amount in (*tx.execute(own), *tx.execute(slots)):
        found[kind] += int(amount)
    return {kind: found[kind] for kind in sorted(found)}
