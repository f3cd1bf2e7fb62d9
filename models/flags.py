"""The table of flags: patterns that the rules allow and that a person should look at. No rule reads it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of

FLAG_KINDS = ("zero_billed_pair", "black_picture", "silent_sound")


class FlagRow(Base):
    """Something about a fan and a creator on one UTC day; flagged once."""

    __tablename__ = "flags"
    __table_args__ = (one_of("kind", FLAG_KINDS), Index(None, "created_at"))

    kind: Mapped[str] = mapped_column(primary_key=True)
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    """``2026-01-31``, UTC."""
    session_id: Mapped[str]
    """The session at which it was noticed."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
