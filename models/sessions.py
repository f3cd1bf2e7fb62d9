"""The table of sessions: the private stream itself, its meter as media last reported it, and how it ended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import UtcDateTime, one_of
from models.machine import Machine, allowed
from models.requests import PAYMENT_MODES

RUNNING = ("connecting", "live", "paused")
"""Media may be flowing."""
DEADLINE_KINDS = ("open", "silent", "settle")
END_CAUSES = ("fan", "creator", "payment_failed", "moderation", "stream_deleted", "outside_cut")
_UNENDED = text("status <> 'ended'")
_NO_RECEIPT = text("status = 'ended' AND receipt_at IS NULL")


class SessionRow(Machine):
    """One session. Durations in milliseconds unless named minutes; amounts in tokens.

    Its hold in the ledger has the request's id as reference. Until it has ended, ``total_held`` tokens of
    the fan are held for it, settling included; so a person is in one un-ended session at most.
    """

    __tablename__ = "private_stream_sessions"
    ALLOWED = allowed(
        connecting=("live", "paused", "settling", "ended"),
        live=("paused", "settling", "ended"),
        paused=("live", "settling", "ended"),
        settling=("ended",),
        ended=(),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("deadline_kind", DEADLINE_KINDS),
        one_of("end_cause", END_CAUSES),
        one_of("at_fault", ("fan", "creator", "none")),
        CheckConstraint("0 <= acknowledged_ms AND acknowledged_ms <= paid_ms", name="acknowledged"),
        CheckConstraint("0 <= delivered_ms", name="delivered"),
        CheckConstraint("paid_minutes BETWEEN 1 AND 480", name="paid_minutes"),
        CheckConstraint("total_held >= 0", name="total_held"),
        CheckConstraint("included_minutes BETWEEN 0 AND 240", name="included_minutes"),
        one_of("payment_mode", PAYMENT_MODES),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        CheckConstraint(
            "status <> 'ended' OR total_held = total_earnings + commission + refunded",
            name="adds_up",
        ),
        CheckConstraint(
            "status <> 'ended' OR (end_time IS NOT NULL AND end_reason IS NOT NULL AND total_earnings IS NOT NULL"
            " AND commission IS NOT NULL AND refunded IS NOT NULL AND billed_minutes IS NOT NULL)",
            name="ended_complete",
        ),
        # One running session per person, on either side.
        Index(
            "uq_private_stream_sessions_one_per_fan",
            "fan_id",
            unique=True,
            sqlite_where=_UNENDED,
            postgresql_where=_UNENDED,
        ),
        Index(
            "uq_private_stream_sessions_one_per_creator",
            "creator_id",
            unique=True,
            sqlite_where=_UNENDED,
            postgresql_where=_UNENDED,
        ),
        Index(None, "fan_id", "start_time"),
        Index(None, "creator_id", "start_time"),
        Index(None, "status", "deadline_at"),
        Index(None, "node_id", "status"),
        Index(
            "ix_private_stream_sessions_no_receipt",
            "creator_id",
            "end_time",
            sqlite_where=_NO_RECEIPT,
            postgresql_where=_NO_RECEIPT,
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("private_stream_requests.id"), unique=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    stream_id: Mapped[str] = mapped_column(ForeignKey("streams.id"), index=True)
    room_id: Mapped[str] = mapped_column(unique=True)
    node_id: Mapped[str | None]
    boot_id: Mapped[str | None]
    """The life of the node that last reported; ``last_sequence`` rises within it."""
    room_epoch: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Its room's ``epoch``: reports from where the room was before are not heard."""
    status: Mapped[str]
    cause_id: Mapped[str]

    # Copied from the request, so that a receipt needs one row.
    requested_minutes: Mapped[int]
    minimum_minutes: Mapped[int]
    rate_per_minute: Mapped[int]
    discount_percent: Mapped[int]
    commission_percent: Mapped[int]
    minute_ms: Mapped[int]

    payment_mode: Mapped[str] = mapped_column(default="prepaid")
    included_minutes: Mapped[int] = mapped_column(default=0)
    unlock_price: Mapped[int] = mapped_column(BigInteger, default=0)
    connecting_ms: Mapped[int | None] = mapped_column(BigInteger)
    """How long both have to connect, where that is not the usual time: a booking's grace."""

    # The budget: what was held for, and what media has acknowledged of it.
    paid_minutes: Mapped[int]
    paid_ms: Mapped[int] = mapped_column(BigInteger)
    acknowledged_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    total_held: Mapped[int] = mapped_column(BigInteger)

    next_hold_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    """Minute by minute: when the next minute is to be held."""
    hold_refused: Mapped[bool] = mapped_column(default=False)
    """Minute by minute: the next minute could not be held, so the paid one is the last."""

    # The meter, as last reported.
    delivered_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    creator_pause_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    node_pause_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    black_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    """Delivered, but the creator's picture was black, as far as packet sizes tell. No money rule reads it."""
    silent_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    """Delivered, but nothing was to be heard of the creator; the same."""
    last_sequence: Mapped[int] = mapped_column(BigInteger, default=-1)
    pause_cause: Mapped[str | None]
    paused_for_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    creator_connected: Mapped[bool] = mapped_column(default=False)
    fan_connected: Mapped[bool] = mapped_column(default=False)
    reported_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    # Times.
    start_time: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the request was accepted."""
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the node confirmed that the room is open."""
    live_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the meter first ran."""
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline_kind: Mapped[str | None]

    # The end: whose wish (ours to know), what fact (media's to say), and the row of the end table they make.
    end_cause: Mapped[str | None]
    at_fault: Mapped[str | None]
    ended_by: Mapped[str | None]
    """A person's or an integrator's id, where somebody asked for the end."""
    end_label: Mapped[str | None]
    """The reason that the outside named; a label, no rule reads it."""
    end_fact: Mapped[str | None]
    end_reason: Mapped[str | None]
    end_row: Mapped[str | None]
    """Which row of the end table it was billed by."""
    actual_duration_minutes: Mapped[int | None]
    """Delivered minutes, rounded up."""
    billed_minutes: Mapped[int | None]
    included_used: Mapped[int | None]
    """Of ``billed_minutes``: paid by the subscription."""
    unlock_earned: Mapped[int | None] = mapped_column(BigInteger)
    """Tokens of the unlock price that the creator is paid for, commission included."""
    total_earnings: Mapped[int | None] = mapped_column(BigInteger)
    """The creator's, commission taken off."""
    commission: Mapped[int | None] = mapped_column(BigInteger)
    refunded: Mapped[int | None] = mapped_column(BigInteger)
    receipt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its receipt was signed, soon after the end: from then on it stands in the creator's chain."""
