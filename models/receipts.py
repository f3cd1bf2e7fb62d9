"""Tables of receipts: the signed chain of each creator, and the public keys that it was ever signed with.

Append-only, held by triggers on both databases: what was signed stays as it was signed. Documents carry
public ids alone, so a person can be erased and the chain still holds.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, Text, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of

DOCUMENT_KINDS = ("receipt", "amendment")


class ReceiptKeyRow(Base):
    """A public key of ours; past ones stay, or past receipts could not be checked."""

    __tablename__ = "receipt_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Its RFC 7638 thumbprint."""
    public_x: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReceiptRow(Base):
    """One link of a creator's chain: 1, 2, 3, … without a gap, each with the hash of the one before."""

    __tablename__ = "receipts"
    __table_args__ = (
        one_of("kind", DOCUMENT_KINDS),
        CheckConstraint("number >= 1 AND (number = 1) = (previous_hash IS NULL)", name="number"),
        Index(None, "session_id"),
    )

    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    session_id: Mapped[str] = mapped_column(ForeignKey("private_stream_sessions.id"))
    subject: Mapped[str] = mapped_column(unique=True)
    """The session or the amendment that it documents: each of them once, whatever is repeated."""
    previous_hash: Mapped[str | None] = mapped_column(unique=True)
    hash: Mapped[str] = mapped_column(unique=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("receipt_keys.id"))
    document: Mapped[str] = mapped_column(Text)
    """Canonical JSON with its signature: exactly what is given out."""
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime)


def append_only_ddl(dialect: str) -> tuple[str, ...]:
    """The statements that make issued documents and keys unchangeable."""
    tables = (ReceiptKeyRow.__tablename__, ReceiptRow.__tablename__)
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in tables
            for verb in ("UPDATE", "DELETE")
        )
    return (
        (
            "CREATE OR REPLACE FUNCTION refuse_receipt_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        ),
        *(
            f"CREATE OR REPLACE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_receipt_change()"
            for table in tables
        ),
    )


@event.listens_for(Base.metadata, "after_create")
def _hold_append_only(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in append_only_ddl(connection.dialect.name):
        connection.execute(text(statement))
