"""Tables of what is agreed ahead: times that a creator opened, and the fans' bookings of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import UtcDateTime, one_of
from models.machine import Machine, allowed


class SlotRow(Machine):
    """A time that a creator opened for booking; one that passed unbooked stays ``open`` and is shown no more."""

    __tablename__ = "slots"
    ALLOWED = allowed(open=("booked", "withdrawn"), booked=("open", "withdrawn"), withdrawn=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("minutes BETWEEN 1 AND 240", name="minutes"),
        CheckConstraint("ends_at > starts_at", name="ends_later"),
        # A repeat of the same opening is the same slot.
        Index(
            "uq_slots_one_start",
            "creator_id",
            "starts_at",
            unique=True,
            sqlite_where=text("status <> 'withdrawn'"),
            postgresql_where=text("status <> 'withdrawn'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    starts_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """``starts_at`` and all minutes, at the minute's length when it was opened."""
    minutes: Mapped[int]
    status: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BookingRow(Machine):
    """A fan's booking of a slot, with every price that was promised copied onto it.

    Its hold in the ledger has ``request_id`` as reference: the id that its request will have once it starts.
    """

    __tablename__ = "bookings"
    ALLOWED = allowed(booked=("started", "cancelled", "released"), started=(), cancelled=(), released=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("minutes BETWEEN 1 AND 240", name="minutes"),
        CheckConstraint("minimum_minutes BETWEEN 1 AND 60", name="minimum_minutes"),
        CheckConstraint("rate_per_minute >= 1 AND list_rate >= rate_per_minute", name="rate"),
        CheckConstraint("included_minutes BETWEEN 0 AND minutes", name="included_minutes"),
        CheckConstraint("total_cost >= 0", name="total_cost"),
        CheckConstraint("reminders BETWEEN 0 AND 2", name="reminders"),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        # A slot is booked once at a time.
        Index(
            "uq_bookings_one_per_slot",
            "slot_id",
            unique=True,
            sqlite_where=text("status = 'booked'"),
            postgresql_where=text("status = 'booked'"),
        ),
        Index(None, "fan_id", "status", "starts_at"),
        Index(None, "creator_id", "status", "starts_at"),
        Index(None, "status", "starts_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    slot_id: Mapped[str] = mapped_column(ForeignKey("slots.id"))
    request_id: Mapped[str] = mapped_column(unique=True)
    """Of the request that it becomes; until then the hold's reference and nothing else."""
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    starts_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime)
    minutes: Mapped[int]
    minimum_minutes: Mapped[int]
    list_rate: Mapped[int]
    rate_per_minute: Mapped[int]
    discount_percent: Mapped[int]
    commission_percent: Mapped[int]
    minute_ms: Mapped[int]
    included_minutes: Mapped[int] = mapped_column(default=0)
    total_cost: Mapped[int] = mapped_column(BigInteger)
    """What is held, in tokens; 0 when the subscription includes every minute."""
    status: Mapped[str]
    close_reason: Mapped[str | None]
    """Why it was cancelled or released: fan, creator, blocked, payment_failed, busy, unavailable."""
    reminders: Mapped[int] = mapped_column(default=0)
    """How many of the two reminders are over: sent, or too late to be sent."""
    stream_id: Mapped[str | None] = mapped_column(ForeignKey("streams.id"), index=True)
    """Only if the creator was not on the air: the stream that was made for it, which ends with its session."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
