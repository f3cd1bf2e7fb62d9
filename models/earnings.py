"""Tables of what follows a settlement: payouts, complaints, and what changes a receipt afterwards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

_REQUESTED = text("status = 'requested'")
_OPEN = text("status = 'open'")
_NOT_ISSUED = text("issued_at IS NULL")
AMENDMENT_KINDS = ("refund", "complaint")
SIDES = ("fan", "creator", "admin")


class PayoutAccountRow(Base):
    """Where a creator's money goes: an account at the payment gateway, by the gateway's reference."""

    __tablename__ = "payout_accounts"

    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    account_ref: Mapped[str]
    ready: Mapped[bool] = mapped_column(default=False)
    """Whether the gateway said that it pays out to it."""
    checked_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PayoutRow(Machine):
    """Cleared earnings on their way out. The tokens left ``earnings`` in the transaction that made this row."""

    __tablename__ = "creator_payouts"
    ALLOWED = allowed(requested=("paid", "failed"), paid=("failed",), failed=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("tokens > 0 AND amount_minor > 0", name="amounts"),
        CheckConstraint("(status = 'requested') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("(status = 'failed') = (return_transfer_id IS NOT NULL)", name="returned"),
        # One on its way at a time.
        Index(
            "uq_creator_payouts_one_requested",
            "creator_id",
            unique=True,
            sqlite_where=_REQUESTED,
            postgresql_where=_REQUESTED,
        ),
        Index(None, "creator_id", "requested_at"),
        Index(None, "status", "asked_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Also the gateway's idempotency key: it pays once, however often it is asked."""
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    status: Mapped[str]
    tokens: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    gateway: Mapped[str]
    account_ref: Mapped[str]
    gateway_ref: Mapped[str | None]
    """The gateway's own id, once it took it."""
    detail: Mapped[str] = mapped_column(default="")
    """The gateway's word for why it failed."""
    transfer_id: Mapped[str] = mapped_column(ForeignKey("transfers.id"), unique=True)
    return_transfer_id: Mapped[str | None] = mapped_column(ForeignKey("transfers.id"), unique=True)
    cause_id: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When a worker was last told to ask the gateway."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ComplaintRow(Machine):
    """One side does not agree with a session. The earnings stay pending until an admin decides."""

    __tablename__ = "complaints"
    ALLOWED = allowed(open=("refunded", "upheld"), refunded=(), upheld=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("side", ("fan", "creator")),
        UniqueConstraint("session_id", "by_id"),
        CheckConstraint("(status = 'open') = (decided_at IS NULL)", name="decided"),
        CheckConstraint("refunded_tokens >= 0 AND (refunded_tokens > 0) = (status = 'refunded')", name="refunded"),
        Index("ix_complaints_open", "created_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("private_stream_sessions.id"))
    by_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    side: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_by: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    decision: Mapped[str] = mapped_column(Text, default="")
    """Why, in the admin's words to both."""
    refunded_tokens: Mapped[int] = mapped_column(BigInteger, default=0)


class AmendmentRow(Base):
    """Something that changes a receipt afterwards; the clock signs it into the creator's chain.

    The words of people stay here; the signed document has none of them.
    """

    __tablename__ = "receipt_amendments"
    __table_args__ = (
        one_of("kind", AMENDMENT_KINDS),
        one_of("by_side", SIDES),
        CheckConstraint("tokens >= 0 AND (tokens > 0) = (transfer_id IS NOT NULL)", name="tokens"),
        CheckConstraint("(kind = 'complaint') = (complaint_id IS NOT NULL)", name="complaint"),
        Index(None, "session_id", "created_at"),
        Index("ix_receipt_amendments_waiting", "id", sqlite_where=_NOT_ISSUED, postgresql_where=_NOT_ISSUED),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("private_stream_sessions.id"))
    kind: Mapped[str]
    by_side: Mapped[str]
    tokens: Mapped[int] = mapped_column(BigInteger)
    """Given back to the fan, commission included."""
    transfer_id: Mapped[str | None] = mapped_column(ForeignKey("transfers.id"), unique=True)
    complaint_id: Mapped[str | None] = mapped_column(ForeignKey("complaints.id"), unique=True)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    issued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
