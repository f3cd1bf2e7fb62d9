"""Tables of battles: rooms in which creators compete for side tips, and the pot that they and their fans fill."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

UNFINISHED = ("open", "running")
OUTCOMES = ("won", "draw", "walkover", "returned")
END_REASONS = ("time", "host", "deserted", "too_few", "withdrawn", "moderation")
SIDE_STATES = ("in", "left", "gone", "done")
_IN = text("status = 'in'")


class BattleRow(Machine):
    """One battle. ``open``: creators may enter; ``running``: its room is on the air until ``ends_at``.

    What was promised when it was opened is copied onto it and stays. ``won``, ``draw``, ``walkover``: the pot
    was shared out; ``returned``: everybody has back what they paid in.
    """

    __tablename__ = "battles"
    ALLOWED = allowed(open=("running", "cancelled"), running=("ended",), ended=(), cancelled=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("outcome", OUTCOMES),
        one_of("end_reason", END_REASONS),
        CheckConstraint("entry_fee BETWEEN 0 AND 100000", name="entry_fee"),
        CheckConstraint("winner_percent BETWEEN 50 AND 100", name="winner_percent"),
        CheckConstraint("most_creators BETWEEN 2 AND 4", name="most_creators"),
        CheckConstraint("limit_minutes BETWEEN 1 AND 120 AND minute_ms > 0", name="limit"),
        CheckConstraint("commission_percent BETWEEN 0 AND 100", name="commission"),
        CheckConstraint("(status IN ('running', 'ended')) = (started_at IS NOT NULL)", name="started"),
        CheckConstraint("(started_at IS NULL) = (ends_at IS NULL)", name="ends"),
        CheckConstraint("(status IN ('ended', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="outcome_at_end"),
        CheckConstraint("pot_tokens >= 0", name="pot_tokens"),
        Index(None, "status", "begins_at"),
        Index(None, "status", "ends_at"),
        Index(None, "host_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    host_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    room_id: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    status: Mapped[str]
    entry_fee: Mapped[int]
    winner_percent: Mapped[int | None]
    """None: equal shares."""
    most_creators: Mapped[int]
    limit_minutes: Mapped[int]
    minute_ms: Mapped[int]
    commission_percent: Mapped[int]
    begins_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it begins by itself, with two creators or more; before that its host may begin it."""
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[str | None]
    end_reason: Mapped[str | None]
    pot_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    """What was shared out, or given back, in the end."""
    cause_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BattleSideRow(Base):
    """One creator in a battle.

    ``in``; ``left`` before it began; ``gone``: away for too long while it ran, or never came; ``done``: in to
    the end.
    """

    __tablename__ = "battle_sides"
    __table_args__ = (
        one_of("status", SIDE_STATES),
        CheckConstraint("fee >= 0", name="fee"),
        CheckConstraint("share >= 0 AND 0 <= earned AND earned <= share", name="share"),
        # A creator is in one battle at a time, whatever races.
        Index("uq_battle_sides_one_in", "creator_id", unique=True, sqlite_where=_IN, postgresql_where=_IN),
    )

    battle_id: Mapped[str] = mapped_column(ForeignKey("battles.id"), primary_key=True)
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    status: Mapped[str]
    place: Mapped[int]
    """In which order they entered; the host is 1."""
    fee: Mapped[int]
    """What of the entry fee is in the pot, or was when the pot was shared out."""
    entered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    came_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the seat in the running battle's room was first taken."""
    absent_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when the seat is empty while the battle runs."""
    heard_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The node's time of the newest fact about that seat; an older one that comes late says nothing."""
    share: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of the pot, commission included."""
    earned: Mapped[int] = mapped_column(BigInteger, default=0)


class BattleTipRow(Base):
    """One tip for a side. It is part of its fan's one stake in the battle, which the ledger holds in the pot."""

    __tablename__ = "battle_tips"
    __table_args__ = (
        CheckConstraint("amount BETWEEN 5 AND 100000", name="amount"),
        CheckConstraint("fan_id <> creator_id", name="not_oneself"),
        UniqueConstraint("fan_id", "key"),
        ForeignKeyConstraint(["battle_id", "creator_id"], ["battle_sides.battle_id", "battle_sides.creator_id"]),
        Index(None, "battle_id", "creator_id"),
        Index(None, "battle_id", "fan_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    battle_id: Mapped[str] = mapped_column(ForeignKey("battles.id"))
    creator_id: Mapped[str]
    """Whose side."""
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    key: Mapped[str]
    """Names the fan's press: the same one again is the same tip."""
    amount: Mapped[int]
    message: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    returned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it went back to the fan; it counts no more then."""


_SQLITE_RULES = (
    """
CREATE TRIGGER IF NOT EXISTS battles_empty_pot BEFORE UPDATE OF status ON battles
WHEN NEW.status IN ('ended', 'cancelled')
  AND EXISTS (SELECT 1 FROM accounts WHERE id = 'pot:' || NEW.id AND balance <> 0)
BEGIN SELECT RAISE(ABORT, 'the pot of this battle is not empty'); END
""".strip(),
)
_POSTGRESQL_RULES = (
    """
CREATE OR REPLACE FUNCTION refuse_full_pot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT FROM accounts WHERE id = 'pot:' || NEW.id AND balance <> 0) THEN
    RAISE EXCEPTION 'the pot of this battle is not empty' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$
""".strip(),
    """
CREATE OR REPLACE TRIGGER battles_empty_pot BEFORE UPDATE OF status ON battles FOR EACH ROW
WHEN (NEW.status IN ('ended', 'cancelled')) EXECUTE FUNCTION refuse_full_pot()
""".strip(),
)


def rules_ddl(dialect: str) -> tuple[str, ...]:
    """A battle is over only once its pot is empty: the databases hold this against everybody."""
    return _SQLITE_RULES if dialect == "sqlite" else _POSTGRESQL_RULES


@event.listens_for(Base.metadata, "after_create")
def _make_rules(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in rules_ddl(connection.dialect.name):
        connection.execute(text(statement))
