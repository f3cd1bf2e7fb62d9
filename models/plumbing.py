"""Tables that make messages, repeats and time safe: outbox, inbox, idempotency, limits, jobs, who is present."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, BigSerial, UtcDateTime, one_of

OUTBOX_KINDS = ("command", "actor", "feed")
_WAITING = text("published_at IS NULL")


class OutboxRow(Base):
    """A message that committed with the change it announces and waits for the relay."""

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("kind", OUTBOX_KINDS),
        Index("ix_outbox_waiting", "seq", sqlite_where=_WAITING, postgresql_where=_WAITING),
        Index(None, "published_at"),
    )

    seq: Mapped[int] = mapped_column(BigSerial, primary_key=True)
    message_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    destination: Mapped[str | None]
    """A node id, a queue, a person's id (none: everybody)."""
    actor: Mapped[str | None]
    body: Mapped[str]
    """JSON: the command, the actor's arguments, the notification."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class InboxRow(Base):
    """A message that has been acted on."""

    __tablename__ = "inbox"

    message_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class IdempotencyKeyRow(Base):
    """The first answer to a call; none yet while that call is in its transaction."""

    __tablename__ = "idempotency_keys"

    person_id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    status: Mapped[int | None]
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class RateLimitRow(Base):
    """How often something happened in the present window."""

    __tablename__ = "rate_limits"

    key: Mapped[str] = mapped_column(primary_key=True)
    window_started_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    count: Mapped[int]


class ScheduledJobRow(Base):
    """Periodic work; one clock claims it by compare-and-set on ``next_due_at``."""

    __tablename__ = "scheduled_jobs"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_due_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebProcessRow(Base):
    """A web process that is alive, as long as ``seen_at`` is recent."""

    __tablename__ = "web_processes"

    boot_id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FeedConnectionRow(Base):
    """Somebody's open event feed, in one web process."""

    __tablename__ = "feed_connections"
    __table_args__ = (Index(None, "user_id", "lost_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    boot_id: Mapped[str] = mapped_column(index=True)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lost_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
