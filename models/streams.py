"""Tables of what is on the air: streams, a creator's settings, media nodes, rooms and who is barred from them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.config import MEDIA_CAPACITY
from models.db import Base, UtcDateTime, one_of
from models.machine import Machine, allowed

AUTO_ACCEPT = ("manual", "all", "subscribers")
REQUEST_PRIORITIES = ("first_come", "subscribers_first", "highest_total")
ROOM_KINDS = ("live", "private", "battle")


class StreamRow(Machine):
    """One public broadcast, from "go live" to "end"; ``private`` while its creator is in a private session."""

    __tablename__ = "streams"
    ALLOWED = allowed(live=("private", "ended"), private=("live", "ended"), ended=())
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        # A creator has one stream at a time.
        Index(
            "uq_streams_one_open",
            "creator_id",
            unique=True,
            sqlite_where=text("status <> 'ended'"),
            postgresql_where=text("status <> 'ended'"),
        ),
        Index(None, "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    room_id: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    status: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    creator_gone_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when the creator's seat in the public room is empty, or a private session is over; else none."""
    creator_heard_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The node's time of the newest fact about that seat; an older one that comes late says nothing."""
    encoder_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when the public picture comes from an encoder (WHIP); none: from a browser."""


class StreamKeyRow(Base):
    """What a creator's encoder signs in with (WHIP). Only the SHA-256 of the key is kept."""

    __tablename__ = "stream_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class CreatorSettingsRow(Base):
    """What a creator asks for a private stream. Rate in tokens per minute, times in minutes."""

    __tablename__ = "creator_settings"
    __table_args__ = (
        CheckConstraint("private_stream_rate BETWEEN 1 AND 100000", name="rate"),
        CheckConstraint("private_stream_min_time BETWEEN 1 AND 60", name="min_time"),
        CheckConstraint("subscriber_discount_percent BETWEEN 0 AND 90", name="discount"),
        CheckConstraint("instant_unlock_price BETWEEN 1 AND 1000000", name="unlock"),
        CheckConstraint("pass_price BETWEEN 1 AND 1000000", name="pass_price"),
        CheckConstraint("subscription_price BETWEEN 1 AND 1000000", name="subscription_price"),
        CheckConstraint("subscription_minutes BETWEEN 0 AND 600", name="subscription_minutes"),
        one_of("private_stream_auto_accept", AUTO_ACCEPT, "auto_accept"),
        one_of("request_priority", REQUEST_PRIORITIES),
    )

    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    private_stream_rate: Mapped[int] = mapped_column(default=100)
    private_stream_min_time: Mapped[int] = mapped_column(default=5)
    private_stream_auto_accept: Mapped[str] = mapped_column(default="manual")
    private_stream_enabled: Mapped[bool] = mapped_column(default=True)
    private_stream_queue: Mapped[bool] = mapped_column(default=False)
    """Whether requests may wait while the creator is busy."""
    request_priority: Mapped[str] = mapped_column(default="first_come")
    """In which order waiting requests come to their turn."""
    per_minute_enabled: Mapped[bool] = mapped_column(default=False)
    """Whether fans may pay minute by minute instead of ahead."""
    instant_unlock_price: Mapped[int | None]
    """Tokens for being accepted at once; none: not offered."""
    subscription_price: Mapped[int | None]
    """Tokens a month; none: no subscriptions."""
    subscription_minutes: Mapped[int] = mapped_column(default=0)
    """Private minutes that a month's subscription includes."""
    subscriber_discount_percent: Mapped[int] = mapped_column(default=0)
    pass_price: Mapped[int | None]
    """Tokens for a day of the best picture without a subscription; none: not offered."""


class MediaNodeRow(Base):
    """A media process. ``boot_id`` is its present life."""

    __tablename__ = "media_nodes"

    id: Mapped[str] = mapped_column(primary_key=True)
    boot_id: Mapped[str]
    signaling_url: Mapped[str]
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    capacity: Mapped[int] = mapped_column(default=MEDIA_CAPACITY, server_default=text("200"))
    """How many participants it is to have at most, in all its rooms. The server's default was for rows of before
    there was this column."""
    participants: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many it had when it was heard of last."""
    draining_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when it takes no new room, because an operator said so; what it has stays."""
    lost_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when this life of it does not answer; its rooms go to other nodes."""
    found_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When this life of it answered again after that."""


class RoomRow(Machine):
    """A room and the node that it is placed on. ``open`` once the node has said so."""

    __tablename__ = "rooms"
    ALLOWED = allowed(opening=("open", "closed"), open=("opening", "closed"), closed=("opening",))
    __table_args__ = (
        one_of("status", tuple(ALLOWED)),
        one_of("kind", ROOM_KINDS),
        CheckConstraint("viewers >= 0", name="viewers"),
        Index(None, "node_id", "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str | None]
    kind: Mapped[str]
    creator_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    status: Mapped[str]
    viewers: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    placed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it came to the node that it is on."""
    epoch: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often it was moved away from a node that was lost: what is said under a lower one counts no more."""
    awaited: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many had seats when it was moved: expected back, until its node has reported a while later."""


class RoomDepartureRow(Base):
    """A room was moved away from a node that may not know of it: until it says that it has let go."""

    __tablename__ = "room_departures"

    room_id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class RoomStayRow(Base):
    """Where a private room was until it was moved: under which epoch, until when. Kept for as long as what was
    said of it there may count."""

    __tablename__ = "room_stays"

    room_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    left_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RoomBarRow(Base):
    """Somebody was cut out of a room, and gets no grant for it until it closes."""

    __tablename__ = "room_bars"

    room_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    by: Mapped[str]
    """A person's or an integrator's id: whose label the reason is."""
    message_id: Mapped[str]
    """The command that carries it out; a repeat of the cut sends the same one."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
