"""Tables of broadcasts: a room's picture and sound as HLS and DASH, for spectators without limit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed


class BroadcastRow(Machine):
    """One broadcast, from when its room has something to show until the room closes.

    ``live`` once the first segments are there. A transcode worker works on it while it holds the lease; each
    lease is another ``epoch``, and whoever works under an older one is not listened to and may write nothing.
    """

    __tablename__ = "broadcasts"
    ALLOWED = allowed(wanted=("live", "ended"), live=("ended",), ended=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        CheckConstraint("epoch >= 0", name="epoch"),
        # A room has one broadcast at a time.
        Index(
            "uq_broadcasts_one_open",
            "room_id",
            unique=True,
            sqlite_where=text("status <> 'ended'"),
            postgresql_where=text("status <> 'ended'"),
        ),
        Index(None, "status", "lease_until"),
        Index(None, "room_id", "wanted_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    room_id: Mapped[str] = mapped_column(ForeignKey("rooms.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    status: Mapped[str]
    wanted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ready_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[str | None]
    """One of signaling's reasons: why the room closed."""
    worker_id: Mapped[str | None]
    """Who holds the lease, or held the last one."""
    epoch: Mapped[int]
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AudienceRow(Base):
    """How many spectators one web process heard of lately; what a dead one said counts no more."""

    __tablename__ = "audiences"
    __table_args__ = (CheckConstraint("viewers > 0", name="viewers"), Index(None, "broadcast_id", "at"))

    boot_id: Mapped[str] = mapped_column(primary_key=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id"), primary_key=True)
    viewers: Mapped[int]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class SpectatorBarRow(Base):
    """Somebody who may not watch a broadcast any more."""

    __tablename__ = "spectator_bars"

    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id"), primary_key=True)
    viewer_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    """``shared``: more players used the address than a person has; ``blocked``; ``moderation``."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
