"""The pen of the ledger: one definition of a transfer as it is written, and how it is read again.

A transfer is one row with all its moves; the databases make entries and balances of it (``models.books_rules``).
Knows accounts and nothing of why tokens move; the modules of ``models.ledger`` are its only users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from models import ids
from models.books import MAX_TOKENS as MAX_TOKENS
from models.books import AccountRow, TransferRow
from models.books_rules import PERSONAL, STRIPED
from models.clock import rfc3339
from models.db import insert_into
from models.errors import Conflict, Invalid
from models.ledger_sql import NEW_TRANSFER
from models.statements import Write, from_database, moment, write

# The order in which accounts are locked: what many people's transfers share comes last.
_ORDER = (
    "wallet",
    "held",
    "pot",
    "debt",
    "earnings",
    "earnings_pending",
    "payouts",
    "chargeback_loss",
    "promo",
    "gateway",
    "fees",
)
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


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


class About(NamedTuple):
    """What every transfer says of itself besides its kind and its entries."""

    key: str
    reference: str
    cause_id: str
    now: datetime
    transfer_id: str | None = None
    """Its own, where that is known before."""


# Built once: every movement passes here, and building them took longer than executing them.
_BALANCE = select(AccountRow.balance).where(AccountRow.id == bindparam("account")).with_for_update(key_share=True)
_FIRST = select(TransferRow).where(TransferRow.idempotency_key == bindparam("key"))


def account_id(kind: str, owner: str | None = None) -> str:
    """``wallet:<person>``, ``fees``, ``gateway:<name>``."""
    return kind if owner is None else f"{kind}:{owner}"


def check_amount(amount: int) -> None:
    """Invalid unless ``amount`` is a positive whole number that fits 64 bits."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MAX_TOKENS:
        raise Invalid(f"Tokens are a whole number from 1 to {MAX_TOKENS}.")


def check_sum(balance: int, amount: int) -> None:
    """Invalid when an account with ``balance`` cannot count ``amount`` more tokens, either way."""
    if abs(balance + amount) > MAX_TOKENS:
        raise Invalid("So many tokens cannot be counted.")


def lock_balance(tx: Session, account: str) -> int:
    """The balance, nobody else's to change until the transaction ends; the account exists afterwards."""
    kind = account.partition(":")[0]
    if kind in STRIPED:
        raise ValueError(f"{account} has no single row to lock")
    found = tx.scalar(_BALANCE, {"account": account})
    if found is None:
        owner = account.partition(":")[2] if kind in PERSONAL else None
        new = insert_into(tx, AccountRow).values(id=account, kind=kind, owner_id=owner, balance=0, last_entry=0)
        tx.execute(new.on_conflict_do_nothing())
        found = tx.scalars(_BALANCE, {"account": account}).one()
    return found


def first_transfer(tx: Session, key: str, kind: str, reference: str) -> Transfer | None:
    """The transfer that already has this idempotency key; Conflict when it was another kind of movement."""
    row = tx.scalar(_FIRST, {"key": key})
    if row is None:
        return None
    return same(_view(row), kind, reference)


def same(found: Transfer, kind: str, reference: str) -> Transfer:
    """``found``, if the key under which it was found is used for the same movement again; else Conflict."""
    if (found.kind, found.reference) != (kind, reference):
        raise Conflict("This key was used for another transfer.", code="IDEMPOTENCY_KEY_REUSED")
    return found


def transfer(
    tx: Session,
    kind: str,
    entries: Mapping[str, int],
    about: About,
    *,
    reverses: str | None = None,
    lot_id: str | None = None,
) -> tuple[Transfer, Write]:
    """A new transfer, account id → tokens, zero in sum, zeros left out; and the one statement that writes it."""
    moves = sorted(((account, amount) for account, amount in entries.items() if amount), key=_rank)
    if sum(amount for _, amount in moves):
        raise ValueError(f"a transfer must sum to zero: {moves}")
    made = Transfer(
        transfer_id=about.transfer_id or ids.new_id(ids.TRANSFER),
        kind=kind,
        reference=about.reference,
        at=rfc3339(about.now),
        entries=tuple(Entry(account=account, amount=amount) for account, amount in moves),
    )
    values = (
        made.transfer_id,
        kind,
        about.key,
        about.reference,
        reverses,
        lot_id,
        about.cause_id,
        msgspec.json.encode(moves).decode(),
        moment(tx, about.now),
    )
    return made, Write(NEW_TRANSFER, values)


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
    """Write one transfer, after what is pending in ``tx``.

    The caller has locked and checked what it takes from: a balance below zero is refused by the database.
    """
    made, write_it = transfer(
        tx, kind, entries, About(key, reference, cause_id, now), reverses=reverses, lot_id=lot_id
    )
    tx.flush()
    write(tx, [write_it])
    return made


def entries_of(tx: Session, transfer_id: str) -> tuple[Entry, ...]:
    """What a transfer did to each account; empty when there is no such transfer."""
    row = tx.get(TransferRow, transfer_id)
    return () if row is None else _view(row).entries


def transfers_of(tx: Session, *references: str) -> tuple[Transfer, ...]:
    """All transfers about these references, oldest first."""
    query = select(TransferRow).where(TransferRow.reference.in_(references))
    rows = tx.scalars(query.order_by(TransferRow.created_at, TransferRow.id)).all()
    return tuple(_view(row) for row in rows)


def as_read(transfer_id: str, kind: str, reference: str, at: datetime | str, moves: Any) -> Transfer:
    """A transfer from the columns of a raw SELECT."""
    return Transfer(
        transfer_id=transfer_id,
        kind=kind,
        reference=reference,
        at=rfc3339(from_database(at)),
        entries=_entries(msgspec.json.decode(moves) if isinstance(moves, str) else moves),
    )


def _view(row: TransferRow) -> Transfer:
    return Transfer(
        transfer_id=row.id,
        kind=row.kind,
        reference=row.reference,
        at=rfc3339(row.created_at),
        entries=_entries(row.moves),
    )


def _entries(moves: Sequence[Sequence[Any]]) -> tuple[Entry, ...]:
    return tuple(Entry(account=account, amount=amount) for account, amount in moves)


def _rank(move: tuple[str, int]) -> tuple[int, str]:
    return _RANK[move[0].partition(":")[0]], move[0]
