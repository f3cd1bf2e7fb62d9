"""Tables of people: who they are, how they sign in, whom they block."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from models.db import Base, UtcDateTime, one_of

SIGN_IN_KINDS = ("browser", "token")


class PersonRow(Base):
    """One person. ``id`` is the public, opaque one; there is no other."""

    __tablename__ = "people"
    __table_args__ = (
        CheckConstraint("is_fan OR is_creator OR is_admin", name="has_a_role"),
        CheckConstraint("daily_cap_tokens IS NULL OR daily_cap_tokens >= 0", name="daily_cap"),
        CheckConstraint("next_daily_cap_tokens IS NULL OR next_daily_cap_tokens >= 0", name="next_daily_cap"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    """Normalised: trimmed and lower case."""
    handle: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    avatar_url: Mapped[str | None]
    password_hash: Mapped[str]
    is_fan: Mapped[bool]
    is_creator: Mapped[bool]
    is_admin: Mapped[bool]
    is_mock: Mapped[bool] = mapped_column(default=False)
    spending_frozen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Set when a payment of this person was found bad: nothing may be held any more."""
    locked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Set by an admin: nobody signs in as this person, and no token of theirs works."""
    daily_cap_tokens: Mapped[int | None]
    """The fan's own limit on what may be held in a UTC day."""
    next_daily_cap_tokens: Mapped[int | None]
    """What the limit becomes at ``next_daily_cap_at``: a raised one waits until the next day. None: no limit."""
    next_daily_cap_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SignInRow(Base):
    """One sign-in: a browser's session or a person's bearer token. Only the token's SHA-256 is kept."""

    __tablename__ = "sign_ins"
    __table_args__ = (one_of("kind", SIGN_IN_KINDS),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    kind: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApiTokenRow(Base):
    """An integrator's token. ``scopes`` are words separated by one space."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scopes: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BlockRow(Base):
    """A creator wants no request from this fan."""

    __tablename__ = "blocks"

    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    fan_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
