"""What a person sees of the ledger: the balances, and each transfer in words."""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ledger
from models.books import AccountRow, EntryRow, TransferRow
from models.clock import rfc3339

LONGEST_STATEMENT = 500

WORDS = {
    "top_up": "Tokens bought",
    "gift": "Demo tokens",
    "hold": "Held for a private stream",
    "release": "Hold given back",
    "settle": "Private stream paid",
    "tip": "Tip",
    "subscription": "Subscription paid",
    "pass": "Pass paid",
    "stake": "Paid into a battle",
    "stake_return": "Came back from a battle",
    "share": "Battle paid",
    "recording": "Recording paid",
    "reverse": "Refund",
    "payment_reversal": "Payment taken back",
    "payment_good": "Payment restored",
    "purchase_refund": "Unused tokens refunded",
    "purchase_refund_return": "Refund of unused tokens failed, tokens returned",
    "clear": "Earnings cleared",
    "payout": "Paid out",
    "payout_return": "Payout failed, earnings returned",
    "write_off": "Debt written off",
}
"""Every kind of transfer, to its owner's wallet."""
EARNED_WORDS = {
    "settle": "Private stream earned",
    "tip": "Tip received",
    "subscription": "Subscription earned",
    "pass": "Pass sold",
    "share": "Battle earned",
    "recording": "Recording sold",
    "reverse": "Refund given",
    "payment_reversal": "Earnings taken back: the payment was bad",
    "payment_good": "Earnings restored: the payment was good",
}
"""What the same transfer is to the one who was paid."""


class WalletView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Balances in tokens; ``debt`` is what the person owes, a positive number."""

    available: int
    held: int
    earnings_pending: int
    earnings: int
    debt: int


class StatementLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one transfer changed for the person, in tokens; ``earnings`` are pending, cleared and debt together."""

    transfer_id: str
    at: str
    kind: str
    words: str
    reference: str
    available: int
    held: int
    earnings: int


def wallet(tx: Session, person_id: str) -> WalletView:
    """The person's balances now."""
    found = ledger.balances(tx, person_id)
    return WalletView(
        available=found["wallet"],
        held=found["held"],
        earnings_pending=found["earnings_pending"],
        earnings=found["earnings"],
        debt=-found["debt"],
    )


def statement(tx: Session, person_id: str, limit: int = 50) -> tuple[StatementLine, ...]:
    """The person's latest transfers, newest first, 500 at most."""
    latest = (
        select(TransferRow.id)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(AccountRow.owner_id == person_id)
        .group_by(TransferRow.id, TransferRow.created_at)
        .order_by(TransferRow.created_at.desc(), TransferRow.id)
        .limit(max(1, min(limit, LONGEST_STATEMENT)))
    )
    entries = (
        select(TransferRow, AccountRow.kind, EntryRow.amount)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(AccountRow.owner_id == person_id, TransferRow.id.in_(latest.scalar_subquery()))
        .order_by(TransferRow.created_at.desc(), TransferRow.id)
    )
    transfers: dict[str, tuple[TransferRow, dict[str, int]]] = {}
    for row, kind, amount in tx.execute(entries):
        transfers.setdefault(row.id, (row, {}))[1][kind] = amount
    return tuple(_line(row, amounts) for row, amounts in transfers.values())


def _line(row: TransferRow, amounts: dict[str, int]) -> StatementLine:
    earnings = sum(amounts.get(kind, 0) for kind in ("earnings_pending", "earnings", "debt"))
    return StatementLine(
        transfer_id=row.id,
        at=rfc3339(row.created_at),
        kind=row.kind,
        words=EARNED_WORDS.get(row.kind, WORDS[row.kind]) if earnings else WORDS[row.kind],
        reference=row.reference,
        available=amounts.get("wallet", 0),
        held=amounts.get("held", 0),
        earnings=earnings,
    )
