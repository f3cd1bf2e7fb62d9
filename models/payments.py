"""Tables of money from outside: purchases, disputes, refunds, what a gateway said, and the sandbox's memory."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, BigSerial, UtcDateTime, one_of
from models.machine import Machine, allowed

BAD = ("failed", "disputed")
WAYS = ("checkout", "saved")
DISPUTE_STATES = ("opened", "won", "lost")
EVENT_STATES = ("received", "done", "ignored")


class PurchaseRow(Machine):
    """Tokens bought for money. ``price_minor`` in the currency's minor unit (cents)."""

    __tablename__ = "purchases"
    ALLOWED = allowed(
        created=("pending", "succeeded", "failed"),
        pending=("succeeded", "failed"),
        succeeded=("failed", "disputed"),
        failed=("succeeded",),
        disputed=("succeeded",),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("way", WAYS),
        CheckConstraint("tokens > 0", name="tokens"),
        CheckConstraint("price_minor > 0", name="price"),
        CheckConstraint("refunded_minor >= 0 AND refunded_minor <= price_minor", name="refunded"),
        UniqueConstraint("user_id", "idempotency_key"),
        Index(None, "user_id", "created_at"),
        Index(None, "status", "created_at"),
        Index(None, "ask_at"),
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
    way: Mapped[str] = mapped_column(default="checkout")
    """``checkout``: the buyer pays, here or on the provider's page · ``saved``: a saved card is charged."""
    gateway_ref: Mapped[str | None] = mapped_column(unique=True)
    """The provider's id: first of its checkout, then of the payment itself."""
    checkout_url: Mapped[str | None]
    """Where the buyer pays; kept so that a repeat of the call goes on with the same payment."""
    save_card: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str]
    refunded_minor: Mapped[int] = mapped_column(BigInteger, default=0)
    """Given back, or on its way back, for unused tokens."""
    refunded_outside_minor: Mapped[int] = mapped_column(BigInteger, default=0)
    """Given back besides, without our asking, as the provider says."""
    flagged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the provider warned of fraud."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ask_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the gateway is to be asked about it next, whether or not a webhook comes; None: no more."""
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


class PaymentCustomerRow(Base):
    """Who a buyer is to a gateway, once a card was saved there with the buyer's consent."""

    __tablename__ = "payment_customers"

    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    customer_ref: Mapped[str]
    saved_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DisputeRow(Machine):
    """A buyer's bank takes a payment back. We may hear late: each end of it is reachable from the other."""

    __tablename__ = "disputes"
    ALLOWED = allowed(opened=("won", "lost"), won=("lost", "opened"), lost=("won",))
    __table_args__ = (
        one_of("status", DISPUTE_STATES),
        CheckConstraint("amount_minor > 0", name="amount"),
        UniqueConstraint("gateway", "gateway_ref"),
        Index(None, "status", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("purchases.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    gateway: Mapped[str]
    gateway_ref: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
    """The bank's, in the provider's word, such as ``fraudulent``."""
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until when evidence may be handed in."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RefundRow(Machine):
    """Unused tokens of a purchase given back for money; the tokens are gone before the money moves.

    ``outside``: the money moved first, without our asking.
    """

    __tablename__ = "purchase_refunds"
    ALLOWED = allowed(
        requested=("sent", "succeeded", "refused"),
        sent=("succeeded", "refused"),
        succeeded=("refused",),
        refused=(),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("tokens > 0", name="tokens"),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(None, "user_id", "created_at"),
        Index(None, "status", "asked_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("purchases.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    tokens: Mapped[int] = mapped_column(BigInteger)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    transfer_id: Mapped[str] = mapped_column(ForeignKey("transfers.id"))
    """The ledger's movement, which a refusal undoes."""
    gateway: Mapped[str]
    gateway_ref: Mapped[str | None]
    outside: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str]
    detail: Mapped[str] = mapped_column(default="")
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the gateway was last asked, or had this refund put before it."""
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class GatewayEventRow(Base):
    """A webhook that was let in: stored once by its id, so that a repeat changes nothing."""

    __tablename__ = "gateway_events"
    __table_args__ = (one_of("status", EVENT_STATES), Index(None, "received_at"))

    gateway: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    type: Mapped[str]
    reference: Mapped[str]
    status: Mapped[str]
    detail: Mapped[str] = mapped_column(default="")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    done_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SandboxPaymentRow(Base):
    """The sandbox gateway's memory: in place of a payment provider's, so that all processes ask the same one.

    ``card`` is a name such as ``fails-later``, never a number.
    """

    __tablename__ = "sandbox_payments"

    reference: Mapped[str] = mapped_column(primary_key=True)
    card: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    purchase_id: Mapped[str]
    customer_ref: Mapped[str] = mapped_column(index=True)
    saved: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SandboxRefundRow(Base):
    """A refund as the sandbox remembers it; ``detail`` is empty unless it was refused."""

    __tablename__ = "sandbox_refunds"

    reference: Mapped[str] = mapped_column(primary_key=True)
    payment: Mapped[str] = mapped_column(index=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SandboxPayoutRow(Base):
    """A payout as the sandbox remembers it; the account's name decides what becomes of it."""

    __tablename__ = "sandbox_payouts"

    reference: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
