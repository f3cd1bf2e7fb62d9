"""Tables for the people who run the house: their acts, dead letters, queue samples, processes, audits.

Nothing here is money or media; a rule reads none of it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, MetaData, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

PROCESS_KINDS = ("clock", "worker")


class AdminActRow(Base):
    """One act of an admin, or of an operator at the shell: who, what, on what, why, and what it changed.
    Append-only."""

    __tablename__ = "admin_acts"
    __table_args__ = (
        CheckConstraint("(admin_id IS NULL) <> (operator IS NULL)", name="who"),
        Index(None, "subject", "at"),
        Index(None, "admin_id", "at"),
        Index(None, "at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    admin_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    operator: Mapped[str | None]
    """Who it was at the shell: a name of the operating system, no person of ours."""
    act: Mapped[str]
    """A word such as ``spending_frozen``."""
    subject: Mapped[str]
    """The public id of what it was done to."""
    reason: Mapped[str]
    before: Mapped[str | None]
    """JSON: what it was, where that says something. Never a token or a hash."""
    after: Mapped[str | None]
    cause_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class MessageFailureRow(Base):
    """The last failure of a message, by the worker that had it; the dead letter takes its traceback from here."""

    __tablename__ = "message_failures"

    message_id: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    error: Mapped[str]
    traceback: Mapped[str]
    failed_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeadLetterRow(Machine):
    """A message that could not be done, kept for good. ``id`` is the message's id, or made up for one without."""

    __tablename__ = "dead_letters"
    ALLOWED = allowed(
        waiting=("waiting", "requeued", "discarded"),
        requeued=("waiting",),
        # Thrown away by mistake, or another copy of it has died.
        discarded=("waiting", "requeued"),
    )
    __table_args__ = (one_of("status", tuple(ALLOWED)), Index(None, "status", "died_at"), Index(None, "cause_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    queue: Mapped[str]
    actor: Mapped[str]
    """Empty when the body is no message of ours."""
    arguments: Mapped[str | None]
    """JSON: what the actor is called with; none: it cannot be sent again."""
    body: Mapped[str]
    """The whole body as it came; what is not UTF-8 is replaced."""
    cause_id: Mapped[str]
    why: Mapped[str]
    """RabbitMQ's reason: ``rejected``, ``delivery_limit``, ``expired``, ``maxlen``."""
    attempts: Mapped[int]
    """Of its present life, as far as known."""
    error: Mapped[str]
    """The last error in one line; empty when no worker lived to tell."""
    traceback: Mapped[str]
    deaths: Mapped[int]
    death_key: Mapped[str]
    """Tells a letter that is delivered again from one that has died again."""
    first_died_at: Mapped[datetime] = mapped_column(UtcDateTime)
    died_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_by: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_why: Mapped[str | None]


class QueueSampleRow(Base):
    """How one queue was at one moment. None where the source that knows it was away."""

    __tablename__ = "queue_samples"

    queue: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True, index=True)
    declared: Mapped[bool]
    """Whether the broker itself answered (a passive declare); gives ready, consumers, dead."""
    managed: Mapped[bool]
    """Whether the management API answered; gives unacked, what retries hold back, rates, age."""
    ready: Mapped[int | None]
    unacked: Mapped[int | None]
    delayed: Mapped[int | None]
    """Retries that wait for their time, those held in a worker's memory included."""
    consumers: Mapped[int | None]
    in_rate: Mapped[float | None]
    """Messages a second."""
    out_rate: Mapped[float | None]
    oldest_ms: Mapped[int | None] = mapped_column(BigInteger)
    """Age of the message at the head; 0 when there is none."""
    dead: Mapped[int | None]
    """In the broker's .XQ, not yet taken into ``dead_letters``."""


class ProcessRow(Base):
    """A clock or a worker that is alive, as long as ``seen_at`` is recent; web processes: WebProcessRow."""

    __tablename__ = "processes"
    __table_args__ = (one_of("kind", PROCESS_KINDS),)

    boot_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class AuditRunRow(Machine):
    """One audit of the books: asked for, run by the clock, its result."""

    __tablename__ = "audit_runs"
    ALLOWED = allowed(asked=("running",), running=("running", "done", "failed"), done=(), failed=())
    __table_args__ = (one_of("status", tuple(ALLOWED)), Index(None, "asked_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    asked_by: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    """None: the house itself, periodically."""
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ok: Mapped[bool | None]
    problems: Mapped[str | None]
    """JSON: sentences."""
    accounts: Mapped[int | None]
    transfers: Mapped[int | None] = mapped_column(BigInteger)


def append_only_ddl(dialect: str) -> tuple[str, ...]:
    """The statements that make the record of acts append-only; migrations issue the same ones."""
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER IF NOT EXISTS admin_acts_no_{verb.lower()} BEFORE {verb} ON admin_acts "
            "BEGIN SELECT RAISE(ABORT, 'admin_acts is append-only'); END"
            for verb in ("UPDATE", "DELETE")
        )
    return (
        (
            "CREATE OR REPLACE FUNCTION refuse_act_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'admin_acts is append-only'; END $$"
        ),
        (
            "CREATE OR REPLACE TRIGGER admin_acts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_acts "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_act_change()"
        ),
    )


@event.listens_for(Base.metadata, "after_create")
def _hold_append_only(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in append_only_ddl(connection.dialect.name):
        connection.execute(text(statement))
