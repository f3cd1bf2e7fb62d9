"""Tables of recordings: what a creator offers, one recording a private session, and who consented to it.

Consents are append-only, held by triggers on both databases: what somebody signed stays as it was signed.
They carry public ids alone, so a person can be erased and a signature can still be checked.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, MetaData, Text, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

CONSENT_ACTS = ("given", "withdrawn")
STOP_REASONS = ("withdrawn", "session_over", "stopped", "no_space", "no_recorder")
GONE_REASONS = ("not_started", "deleted", "expired", "lost")
HIGHEST_PRICE = 1_000_000
STANDING = ("wanted", "running")
"""Both consents stand: the room may be read."""
WORKED_ON = (*STANDING, "finishing")
"""A transcode worker has something to do."""


class RecordingOfferRow(Base):
    """What a creator offers in private streams. No row: no recordings."""

    __tablename__ = "recording_offers"
    __table_args__ = (CheckConstraint(f"price_tokens BETWEEN 0 AND {HIGHEST_PRICE}", name="price"),)

    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    offered: Mapped[bool]
    price_tokens: Mapped[int]
    """What the fan pays to watch it; 0: nothing."""
    shared: Mapped[bool]
    """Whether the fan may watch it at all."""


class RecordingRow(Machine):
    """The recording of one session, from the first consent until its file is gone.

    ``asked`` one side agreed · ``wanted`` both did · ``running`` something is on disk · ``finishing`` nothing
    more is recorded, the file is being completed · ``kept`` it can be watched · ``gone`` it cannot.
    A transcode worker works on it while it holds the lease; each lease is another ``epoch``.
    """

    __tablename__ = "recordings"
    ALLOWED = allowed(
        asked=("wanted", "gone"),
        wanted=("running", "finishing", "gone"),
        running=("finishing",),
        finishing=("kept", "gone"),
        kept=("gone",),
        gone=(),
    )
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("stop_reason", STOP_REASONS),
        one_of("gone_reason", GONE_REASONS),
        CheckConstraint("epoch >= 0", name="epoch"),
        CheckConstraint(f"price_tokens BETWEEN 0 AND {HIGHEST_PRICE}", name="price"),
        CheckConstraint("keep_days BETWEEN 1 AND 365", name="keep_days"),
        CheckConstraint(
            "status NOT IN ('wanted', 'running')"
            " OR (fan_consent_id IS NOT NULL AND creator_consent_id IS NOT NULL)",
            name="two_keys",
        ),
        CheckConstraint("status <> 'kept' OR (size IS NOT NULL AND expires_at IS NOT NULL)", name="kept"),
        CheckConstraint("paid_at IS NOT NULL OR (refund_due_at IS NULL AND refunded_at IS NULL)", name="refund"),
        Index(None, "status", "lease_until"),
        Index(None, "status", "expires_at"),
        Index(None, "refund_due_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("private_stream_sessions.id"), unique=True)
    room_id: Mapped[str]
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    status: Mapped[str]

    # What both agree to: copied when the first one asks.
    text_version: Mapped[int]
    price_tokens: Mapped[int]
    shared: Mapped[bool]
    keep_days: Mapped[int]
    commission_percent: Mapped[int]

    fan_consent_id: Mapped[str | None]
    """The fan's consent that stands."""
    creator_consent_id: Mapped[str | None]
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    wanted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stop_reason: Mapped[str | None]
    stopped_by: Mapped[str | None]

    worker_id: Mapped[str | None]
    epoch: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    size: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes of the file."""
    disk_id: Mapped[str | None]
    """Which disk its file is on: what stands in the marker there. With another one there it is away, not lost."""
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paid_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the fan bought it; the ledger's reference is the recording's id."""
    taken_back_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The payment behind it turned out bad: not watched by the fan, unless it turns out good again."""
    refund_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when the fan is to be given back what was paid; empty again once that is done."""
    refunded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    gone_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    gone_reason: Mapped[str | None]
    gone_by: Mapped[str | None]


class RecordingConsentRow(Base):
    """One act of one side: the consent, or that it is withdrawn; 1, 2, 3, … for each recording."""

    __tablename__ = "recording_consents"
    __table_args__ = (
        one_of("act", CONSENT_ACTS),
        CheckConstraint("number >= 1", name="number"),
        Index(None, "recording_id", "number", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"))
    number: Mapped[int]
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    act: Mapped[str]
    key_id: Mapped[str] = mapped_column(ForeignKey("receipt_keys.id"))
    hash: Mapped[str]
    document: Mapped[str] = mapped_column(Text)
    """Canonical JSON with its signature: exactly what is given out."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def append_only_ddl(dialect: str) -> tuple[str, ...]:
    """The statements that make signed consents unchangeable."""
    table = RecordingConsentRow.__tablename__
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for verb in ("UPDATE", "DELETE")
        )
    return (
        (
            "CREATE OR REPLACE FUNCTION refuse_consent_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        ),
        (
            f"CREATE OR REPLACE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_consent_change()"
        ),
    )


@event.listens_for(Base.metadata, "after_create")
def _hold_append_only(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in append_only_ddl(connection.dialect.name):
        connection.execute(text(statement))
