"""Tables of what a fan pays a creator besides private streams: subscriptions, their minutes, passes, tips."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

PAID_BY = ("tokens", "gateway")
END_REASONS = ("cancelled", "unpaid", "replaced", "blocked", "not_offered")
_ACTIVE = text("status = 'active'")


class SubscriptionRow(Machine):
    """A fan's subscription to a creator, paid month by month in tokens.

    ``active`` says that it has not ended; its benefits last from ``period_start`` to ``period_end``, which
    is always a time that was paid for. What was promised when it began is copied onto it.
    """

    __tablename__ = "subscriptions"
    # Back again: a dispute of its month's payment was won while that month lasts.
    ALLOWED = allowed(active=("ended",), ended=("active",))
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("paid_by", PAID_BY),
        one_of("end_reason", END_REASONS),
        CheckConstraint("price_tokens >= 0", name="price"),
        CheckConstraint("included_minutes >= 0", name="included_minutes"),
        CheckConstraint("commission_percent BETWEEN 0 AND 100", name="commission"),
        CheckConstraint("period >= 1 AND period_start < period_end", name="period"),
        CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        # One a pair, whatever races.
        Index(
            "uq_subscriptions_one_active",
            "fan_id",
            "creator_id",
            unique=True,
            sqlite_where=_ACTIVE,
            postgresql_where=_ACTIVE,
        ),
        Index(None, "creator_id", "status"),
        Index(None, "status", "next_try_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    status: Mapped[str]
    price_tokens: Mapped[int] = mapped_column(BigInteger)
    """Each month; 0 for one that was given."""
    included_minutes: Mapped[int]
    """Private minutes of each period."""
    commission_percent: Mapped[int]
    paid_by: Mapped[str]
    """``gateway``: each month exactly the price is bought with the saved card first."""
    anchor_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The day of the month and the time of day that periods begin at."""
    period: Mapped[int]
    """1 for the first; ``<id>:<period>`` is the reference of its payment in the ledger."""
    period_start: Mapped[datetime] = mapped_column(UtcDateTime)
    period_end: Mapped[datetime] = mapped_column(UtcDateTime)
    cancel_at_period_end: Mapped[bool] = mapped_column(default=False)
    tries: Mapped[int] = mapped_column(default=0)
    """Of renewing it, in vain, since the period ended."""
    next_try_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the clock looks at it again: the period's end, then once more each day."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[str | None]


class SubscriptionMinuteUseRow(Base):
    """Included minutes that one request has reserved of one period, and what it used in the end.

    No foreign key on the request: its minutes are reserved before it is written, since they make its price.
    """

    __tablename__ = "subscription_minute_uses"
    __table_args__ = (
        CheckConstraint("reserved > 0 AND (used IS NULL OR (used >= 0 AND used <= reserved))", name="minutes"),
        CheckConstraint("(used IS NULL) = (closed_at IS NULL)", name="closed"),
        Index(None, "subscription_id", "period"),
    )

    request_id: Mapped[str] = mapped_column(primary_key=True)
    subscription_id: Mapped[str] = mapped_column(ForeignKey("subscriptions.id"))
    period: Mapped[int]
    reserved: Mapped[int]
    used: Mapped[int | None]
    """None while the request or its session is open."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PassRow(Base):
    """A day of a creator's best picture. Its ``id`` is the reference of its payment in the ledger."""

    __tablename__ = "passes"
    __table_args__ = (
        CheckConstraint("price_tokens BETWEEN 1 AND 1000000", name="price"),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        CheckConstraint("starts_at < ends_at", name="time"),
        CheckConstraint(
            "revoked_at IS NOT NULL OR (refund_tokens IS NULL AND refund_due_at IS NULL)", name="revoked"
        ),
        UniqueConstraint("fan_id", "key"),
        Index(None, "fan_id", "creator_id", "ends_at"),
        Index(None, "refund_due_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    key: Mapped[str]
    """Names the fan's press: the same one again is the same pass."""
    price_tokens: Mapped[int]
    starts_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime)
    taken_back_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Its payment was found bad then; it gives nothing since."""
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The creator blocked the fan then; it gives nothing since, for good."""
    refund_tokens: Mapped[int | None]
    """What is to be given back of its price in all: what had been before, and what was unused of it then."""
    refund_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when that is to be given back; empty again once that is done."""


class TipRow(Base):
    """One tip. Its ``id`` is the reference of its payment in the ledger."""

    __tablename__ = "tips"
    __table_args__ = (
        CheckConstraint("amount BETWEEN 5 AND 100000", name="amount"),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        UniqueConstraint("fan_id", "key"),
        Index(None, "stream_id", "created_at"),
        Index(None, "session_id", "created_at"),
        Index(None, "creator_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    stream_id: Mapped[str] = mapped_column(ForeignKey("streams.id"))
    session_id: Mapped[str | None] = mapped_column(ForeignKey("private_stream_sessions.id"))
    """Given in that private stream: only its two sides see it."""
    key: Mapped[str]
    """Names the fan's press: the same one again is the same tip."""
    amount: Mapped[int]
    message: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
