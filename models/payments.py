"""Tables of money from outside: purchases, what a gateway said about them, and the sandbox's own memory."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, BigSerial, UtcDateTime, one_of
from models.machine import Machine, allowed

BAD = ("failed", "disputed")


class PurchaseRow(Machine):
    """Tokens bought for money. ``price_minor`` in the currency's minor unit (cents)."""

    __tablename__ = "purchases"
    ALLOWED = allowed(
        created=("pending", "succeeded", "failed"),
        pending=("succeeded", "failed"),
        succeeded=("failed", "disputed"),
        failed=(),
        disputed=(),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("tokens > 0", name="tokens"),
        CheckConstraint("price_minor > 0", name="price"),
        UniqueConstraint("user_id", "idempotency_key"),
        Index(None, "user_id", "created_at"),
        Index(None, "status", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    idempotency_key: Mapped[str]
    """Of the call that asked for it: a repeat goes on with this purchase and charges once."""
    package_id: Mapped[str]
    tokens: Mapped[int] = mapped_column(BigInteger)
    price_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    gateway: Mapped[str]
    gateway_ref: Mapped[str | None] = mapped_column(unique=True)
    status: Mapped[str]
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    succeeded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    bad_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PaymentAttemptRow(Base):
    """What a gateway answered about a purchase, each time that the answer was a new one. Never a card number."""

    __tablename__ = "payment_attempts"

    id: Mapped[int] = mapped_column(BigSerial, primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("purchases.id"), index=True)
    outcome: Mapped[str]
    detail: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class SandboxPaymentRow(Base):
    """The sandbox gateway's memory: in place of a payment provider's, so that all processes ask the same one.

    ``card`` is a name such as ``fails-later``, never a number.
    """

    __tablename__ = "sandbox_payments"

    reference: Mapped[str] = mapped_column(primary_key=True)
    card: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
