"""Tables of the ledger: accounts, transfers, entries; holds and the lots that are behind tokens.

``models.ledger`` alone writes them; ``models.books_rules`` says what the databases hold against everybody else.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, CheckConstraint, ColumnElement, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from models.books_rules import PERSONAL
from models.db import Base, UtcDateTime, one_of

PLATFORM = ("pot", "fees", "gateway", "payouts", "chargeback_loss", "promo")
MANY = ("pot", "gateway", "chargeback_loss")
"""Platform accounts of which there are several: one a battle, a gateway, a creator whose debt was written off."""
TRANSFER_KINDS = (
    "top_up",
    "gift",
    "hold",
    "release",
    "settle",
    "tip",
    "subscription",
    "pass",
    "stake",
    "stake_return",
    "share",
    "recording",
    "reverse",
    "payment_reversal",
    "payment_good",
    "purchase_refund",
    "purchase_refund_return",
    "clear",
    "payout",
    "payout_return",
    "write_off",
)
LOT_SOURCES = ("purchase", "promo")
HOLD_STATES = ("open", "released", "settled")
_PENDING, _FREE, _BAD = text("pending > 0"), text("free > 0"), text("bad_at IS NOT NULL")
_IN_POT = text("pot IS NOT NULL")
MAX_TOKENS = 2**63 - 1
"""What a 64-bit column holds. Larger numbers are refused before the database sees them."""


class AccountRow(Base):
    """An account with its cached balance in tokens.

    ``id`` says what it is: ``wallet:<person>``, ``fees``, ``gateway:<name>``. A person's balance is never
    below zero, nor is a battle's pot; debt, which is owed to us, never above. The platform's other accounts are
    the other side and may have any sign.
    """

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("kind", PERSONAL + PLATFORM),
        CheckConstraint(
            "owner_id IS NULL OR (kind <> 'debt' AND balance >= 0) OR (kind = 'debt' AND balance <= 0)",
            name="balance",
        ),
        CheckConstraint("kind <> 'pot' OR balance >= 0", name="pot"),
        # SQLite would turn a sum beyond 64 bits into a float.
        CheckConstraint(f"balance BETWEEN {-MAX_TOKENS} AND {MAX_TOKENS}", name="whole"),
        Index(None, "owner_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    kind: Mapped[str]
    balance: Mapped[int] = mapped_column(BigInteger, default=0)
    """Without what is in slots: ``ledger.balance`` knows the whole, and so does the view ``balances``."""
    last_entry: Mapped[int] = mapped_column(BigInteger, default=0)
    """SQLite only: the entry that changed the balance last."""


class SlotRow(Base):
    """A part of a busy account's balance that few connections write to, on PostgreSQL."""

    __tablename__ = "account_slots"
    __table_args__ = (
        CheckConstraint("balance >= 0 OR substr(account_id, 1, 17) <> 'earnings_pending:'", name="balance"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(BigInteger)


class TransferRow(Base):
    """One movement of tokens, written whole: append-only, its entries sum to zero."""

    __tablename__ = "transfers"
    __table_args__ = (one_of("kind", TRANSFER_KINDS), Index(None, "reference"))

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    idempotency_key: Mapped[str] = mapped_column(unique=True)
    reference: Mapped[str]
    """What it is about: a request's id for hold, release and settle; a purchase's id for the others."""
    reverses: Mapped[str | None] = mapped_column(ForeignKey("transfers.id"), unique=True)
    lot_id: Mapped[str | None] = mapped_column(ForeignKey("token_lots.id"))
    """Which lot unspent tokens were taken out of, where that is what it is."""
    moves: Mapped[list[tuple[str, int]]] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
    """Account id and tokens, in the order in which the accounts are locked; they become the entries."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class EntryRow(Base):
    """What one transfer did to one account, in tokens; never zero. Made by the transfer's own INSERT."""

    __tablename__ = "entries"
    __table_args__ = (CheckConstraint("amount <> 0", name="amount"), Index(None, "account_id"))

    # No foreign keys: the transfer's trigger makes both rows, and nothing else can. On PostgreSQL each key
    # would lock the busiest accounts' rows once more, shared, for every transfer.
    transfer_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)


class HoldRow(Base):
    """Tokens reserved for one request, session or battle, and what became of them."""

    __tablename__ = "holds"
    __table_args__ = (
        one_of("status", HOLD_STATES),
        CheckConstraint("amount >= 0 AND (status = 'open') = (amount > 0)", name="amount"),
        CheckConstraint("earnings >= 0 AND commission >= 0", name="paid"),
        CheckConstraint(
            "recovered >= 0 AND refunded >= 0 AND recovered + refunded <= earnings + commission", name="taken_back"
        ),
        CheckConstraint("0 <= fee_back AND fee_back <= commission", name="fee_back"),
        CheckConstraint("0 <= pending AND pending <= earnings AND promo >= 0", name="pending"),
        CheckConstraint("status = 'settled' OR (creator_id IS NULL AND contested_at IS NULL)", name="settled"),
        Index(None, "fan_id", "created_at"),
        Index("ix_holds_pending", "clears_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
        Index("ix_holds_pot", "pot", sqlite_where=_IN_POT, postgresql_where=_IN_POT),
        Index("ix_holds_pending_of", "creator_id", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )

    reference: Mapped[str] = mapped_column(primary_key=True)
    # No foreign keys: both have accounts, which have. Here each payment would lock a busy creator's row.
    fan_id: Mapped[str]
    creator_id: Mapped[str | None]
    """Who was paid, once settled."""
    status: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    """Held now."""
    pot: Mapped[str | None]
    """The account that holds it, where that is not the fan's ``held``: a battle's pot."""
    earnings: Mapped[int] = mapped_column(BigInteger, default=0)
    """What the settlement paid the creator, and below the platform; never changed afterwards."""
    commission: Mapped[int] = mapped_column(BigInteger, default=0)
    recovered: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of earnings and commission together: taken back because a payment was bad."""
    refunded: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of earnings and commission together: given back to the fan."""
    fee_back: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of ``recovered`` and ``refunded``: what the commission gave."""
    pending: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of the creator's pending earnings: what came from here. What a creator has pending is their sum."""
    promo: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of the earnings: went back to promo when they cleared, because gift tokens never pay out."""
    contested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """A complaint is open since then: the earnings stay pending."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    clears_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the earnings may leave the clearing period."""
    cleared_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @hybrid_property
    def contested(self) -> bool:
        """Whether a complaint is open."""
        return self.contested_at is not None

    @contested.inplace.expression
    @classmethod
    def _contested(cls) -> ColumnElement[bool]:
        return cls.contested_at.is_not(None)


class LotRow(Base):
    """Tokens that came in together, spent first in, first out.

    ``tokens`` = ``free`` + held and spent (see LotUseRow) + ``reversed`` (taken back to where they came from
    because the payment was bad) + ``withdrawn`` (given back unspent). Promo lots never pay out.
    """

    __tablename__ = "token_lots"
    __table_args__ = (
        one_of("source", LOT_SOURCES),
        CheckConstraint(
            "free >= 0 AND reversed >= 0 AND withdrawn >= 0 AND free + reversed + withdrawn <= tokens",
            name="amounts",
        ),
        Index(None, "owner_id", "created_at", "id"),
        Index("ix_token_lots_free", "owner_id", sqlite_where=_FREE, postgresql_where=_FREE),
        Index("ix_token_lots_bad", "owner_id", sqlite_where=_BAD, postgresql_where=_BAD),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """The purchase's id, or the gift's key."""
    owner_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    source: Mapped[str]
    origin: Mapped[str]
    """The account that the tokens came from and go back to."""
    tokens: Mapped[int] = mapped_column(BigInteger)
    free: Mapped[int] = mapped_column(BigInteger)
    reversed: Mapped[int] = mapped_column(BigInteger, default=0)
    withdrawn: Mapped[int] = mapped_column(BigInteger, default=0)
    bites: Mapped[int] = mapped_column(default=0)
    """How often something was taken back or returned because of its payment: part of those transfers' keys."""
    bad_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its payment was found bad."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LotUseRow(Base):
    """How much of a lot is behind a hold: reserved now, and spent by its settlement."""

    __tablename__ = "lot_uses"
    __table_args__ = (
        CheckConstraint("held >= 0 AND recovered >= 0 AND spent >= recovered", name="amounts"),
        Index(None, "lot_id"),
    )

    reference: Mapped[str] = mapped_column(ForeignKey("holds.reference"), primary_key=True)
    lot_id: Mapped[str] = mapped_column(ForeignKey("token_lots.id"), primary_key=True)
    held: Mapped[int] = mapped_column(BigInteger)
    spent: Mapped[int] = mapped_column(BigInteger, default=0)
    recovered: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of what was spent: taken back from who was paid with it, because the lot's payment was bad."""
