"""The table of requests: a fan's wish for a private stream, with every price that was promised copied onto it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import UtcDateTime, one_of
from models.machine import Machine, allowed

PAYMENT_MODES = ("prepaid", "per_minute")
PaymentMode = Literal["prepaid", "per_minute"]
OPEN = ("queued", "pending")
"""While a request is in one of these, its hold stands."""


class RequestRow(Machine):
    """One request. Rates and costs in tokens; the hold's reference in the ledger is this row's ``id``."""

    __tablename__ = "private_stream_requests"
    ALLOWED = allowed(
        queued=("pending", "declined", "cancelled", "expired"),
        pending=("queued", "accepted", "declined", "cancelled", "expired"),
        accepted=(),
        declined=(),
        cancelled=(),
        expired=(),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("minimum_minutes BETWEEN 1 AND 60", name="minimum_minutes"),
        CheckConstraint("requested_minutes BETWEEN 1 AND 240", name="requested_minutes"),
        CheckConstraint("rate_per_minute >= 1 AND list_rate >= rate_per_minute", name="rate"),
        CheckConstraint("discount_percent BETWEEN 0 AND 90", name="discount"),
        CheckConstraint("commission_percent BETWEEN 0 AND 100", name="commission"),
        CheckConstraint("minute_ms BETWEEN 1000 AND 60000", name="minute"),
        CheckConstraint("total_cost >= 0", name="total_cost"),
        CheckConstraint("included_minutes BETWEEN 0 AND 240", name="included_minutes"),
        CheckConstraint("unlock_price >= 0", name="unlock_price"),
        one_of("payment_mode", PAYMENT_MODES),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        # One open request per fan and creator.
        Index(
            "uq_private_stream_requests_one_open",
            "fan_id",
            "creator_id",
            unique=True,
            sqlite_where=text("status IN ('queued', 'pending')"),
            postgresql_where=text("status IN ('queued', 'pending')"),
        ),
        Index(None, "creator_id", "status", "created_at"),
        Index(None, "fan_id", "created_at"),
        Index(None, "status", "expires_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    stream_id: Mapped[str] = mapped_column(ForeignKey("streams.id"), index=True)
    minimum_minutes: Mapped[int]
    requested_minutes: Mapped[int]
    list_rate: Mapped[int]
    """The creator's rate before the discount."""
    rate_per_minute: Mapped[int]
    """What this fan pays: after the discount."""
    discount_percent: Mapped[int]
    commission_percent: Mapped[int]
    minute_ms: Mapped[int]
    payment_mode: Mapped[str] = mapped_column(default="prepaid")
    included_minutes: Mapped[int] = mapped_column(default=0)
    """Of the subscription: reserved for this request, used before tokens."""
    unlock_price: Mapped[int] = mapped_column(BigInteger, default=0)
    """Part of ``total_cost``, for being accepted at once; 0: not asked for."""
    total_cost: Mapped[int] = mapped_column(BigInteger)
    """What is held: rate times the minutes that are not included, and the unlock price; may be 0."""
    status: Mapped[str]
    close_reason: Mapped[str | None]
    """Why it closed, where the status alone does not say: stream_ended, fan_busy, creator_busy…"""
    accepted_by: Mapped[str | None]
    """``creator``, ``rule``, ``unlock`` or ``booking``."""
    turn_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when a queued request is the next and its fan is asked to confirm again."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    answered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
