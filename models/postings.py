"""The pen of the ledger: writes one balanced transfer and the cached balances, in one fixed order.

Knows accounts and nothing of why tokens move; ``models.ledger`` and ``models.lots`` are its only users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ids
from models.books import PERSONAL, AccountRow, EntryRow, TransferRow
from models.clock import rfc3339
from models.db import insert_into
from models.errors import Conflict, Invalid, PaymentRequired

MAX_TOKENS = 2**63 - 1
"""What a 64-bit column holds. Larger numbers are refused before the database sees them."""

# The order in which accounts are locked: what many people's transfers share comes last.
_ORDER = (
    "wallet",
    "held",
    "debt",
    "earnings",
    "earnings_pending",
    "payouts",
    "chargeback_loss",
    "promo",
    "gateway",
    "fees",
)


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a transfer did to one account, in tokens."""

    account: str
    amount: int


class Transfer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One transfer as receipts show it; ``at`` is RFC 3339 UTC."""

    transfer_id: str
    kind: str
    reference: str
    at: str
    entries: tuple[Entry, ...]


def account_id(kind: str, owner: str | None = None) -> str:
    """``wallet:<person>``, ``fees``, ``gateway:<name>``."""
    return kind if owner is None else f"{kind}:{owner}"


def check_amount(amount: int) -> None:
    """Invalid unless ``amount`` is a positive whole number that fits 64 bits."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MAX_TOKENS:
        raise Invalid(f"Tokens are a whole number from 1 to {MAX_TOKENS}.")


def lock_balance(tx: Session, account: str) -> int:
    """The balance, nobody else's to change until the transaction ends; the account exists afterwards."""
    query = select(AccountRow.balance).where(AccountRow.id == account).with_for_update()
    found = tx.scalar(query)
    if found is None:
        _create(tx, account)
        found = tx.scalars(query).one()
    return found


def first_transfer(tx: Session, key: str, kind: str, reference: str) -> Transfer | None:
    """The transfer that already has this idempotency key; Conflict when it was another kind of movement."""
    row = tx.scalar(select(TransferRow).where(TransferRow.idempotency_key == key))
    if row is None:
        return None
    if (row.kind, row.reference) != (kind, reference):
        raise Conflict("This key was used for another transfer.", code="IDEMPOTENCY_KEY_REUSED")
    return _views(tx, [row])[0]


def post(
    tx: Session,
    kind: str,
    entries: Mapping[str, int],
    *,
    key: str,
    reference: str,
    cause_id: str,
    now: datetime,
    reverses: str | None = None,
    lot_id: str | None = None,
) -> Transfer:
    """Write one transfer: account id → tokens, zero in sum, zeros left out.

    Raises PaymentRequired when a person's account would go below zero.
    """
    moved = {account: amount for account, amount in sorted(entries.items(), key=_rank) if amount}
    if sum(moved.values()):
        raise ValueError(f"a transfer must sum to zero: {moved}")
    row = TransferRow(
        id=ids.new_id(ids.TRANSFER),
        kind=kind,
        idempotency_key=key,
        reference=reference,
        reverses=reverses,
        lot_id=lot_id,
        cause_id=cause_id,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    for account, amount in moved.items():
        _add(tx, account, amount)
        tx.execute(insert_into(tx, EntryRow).values(transfer_id=row.id, account_id=account, amount=amount))
    written = tuple(Entry(account=account, amount=amount) for account, amount in moved.items())
    return Transfer(transfer_id=row.id, kind=kind, reference=reference, at=rfc3339(now), entries=written)


def entries_of(tx: Session, transfer_id: str) -> tuple[Entry, ...]:
    """What a transfer did to each account; empty when there is no such transfer."""
    row = tx.get(TransferRow, transfer_id)
    return () if row is None else _views(tx, [row])[0].entries


def transfers_of(tx: Session, *references: str) -> tuple[Transfer, ...]:
    """All transfers about these references, oldest first."""
    query = select(TransferRow).where(TransferRow.reference.in_(references))
    return _views(tx, tx.scalars(query.order_by(TransferRow.created_at, TransferRow.id)).all())


def _views(tx: Session, rows: Sequence[TransferRow]) -> tuple[Transfer, ...]:
    entries: dict[str, list[Entry]] = {row.id: [] for row in rows}
    query = select(EntryRow.transfer_id, EntryRow.account_id, EntryRow.amount)
    for transfer_id, account, amount in tx.execute(query.where(EntryRow.transfer_id.in_(entries))):
        entries[transfer_id].append(Entry(account=account, amount=amount))
    return tuple(
        Transfer(
            transfer_id=row.id,
            kind=row.kind,
            reference=row.reference,
            at=rfc3339(row.created_at),
            entries=tuple(sorted(entries[row.id], key=lambda entry: _rank((entry.account, 0)))),
        )
        for row in rows
    )


def _add(tx: Session, account: str, amount: int) -> None:
    """Change a balance where the result is allowed; decides in the statement, not on a balance read before."""
    personal = _kind(account) in PERSONAL
    bound = AccountRow.balance <= MAX_TOKENS - amount if amount > 0 else AccountRow.balance >= -MAX_TOKENS - amount
    if personal and amount < 0 and _kind(account) != "debt":
        bound = AccountRow.balance >= -amount
    statement = (
        update(AccountRow)
        .where(AccountRow.id == account, bound)
        .values(balance=AccountRow.balance + amount)
        .returning(AccountRow.id)
        .execution_options(synchronize_session=False)
    )
    if tx.scalar(statement) is not None:
        return
    _create(tx, account)
    if tx.scalar(statement) is not None:
        return
    if amount < 0 and personal:
        available = tx.scalars(select(AccountRow.balance).where(AccountRow.id == account)).one()
        raise PaymentRequired("There are not enough tokens.", required=-amount, balance=available)
    raise Invalid("So many tokens cannot be counted.")


def _create(tx: Session, account: str) -> None:
    kind, _, owner = account.partition(":")
    values = {"id": account, "kind": kind, "owner_id": owner if kind in PERSONAL else None, "balance": 0}
    tx.execute(insert_into(tx, AccountRow).values(values).on_conflict_do_nothing())


def _rank(entry: tuple[str, int]) -> tuple[int, str]:
    return _ORDER.index(_kind(entry[0])), entry[0]


def _kind(account: str) -> str:
    return account.partition(":")[0]
