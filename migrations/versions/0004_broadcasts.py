"""Broadcasts: a room's picture and sound as HLS and DASH; passes for the best of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing was broadcast before."""
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_broadcasts_epoch")),
        sa.CheckConstraint("status IN ('wanted', 'live', 'ended')", name=op.f("ck_broadcasts_status")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_broadcasts_creator_id")),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name=op.f("fk_broadcasts_room_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
    )
    op.create_index(op.f("ix_broadcasts_room_id_wanted_at"), "broadcasts", ["room_id", "wanted_at"])
    op.create_index(op.f("ix_broadcasts_status_lease_until"), "broadcasts", ["status", "lease_until"])
    op.create_index(
        "uq_broadcasts_one_open",
        "broadcasts",
        ["room_id"],
        unique=True,
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )
    op.create_table(
        "audiences",
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("broadcast_id", sa.String(), nullable=False),
        sa.Column("viewers", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("viewers > 0", name=op.f("ck_audiences_viewers")),
        sa.ForeignKeyConstraint(["broadcast_id"], ["broadcasts.id"], name=op.f("fk_audiences_broadcast_id")),
        sa.PrimaryKeyConstraint("boot_id", "broadcast_id", name=op.f("pk_audiences")),
    )
    op.create_index(op.f("ix_audiences_broadcast_id_at"), "audiences", ["broadcast_id", "at"])
    op.create_table(
        "spectator_bars",
        sa.Column("broadcast_id", sa.String(), nullable=False),
        sa.Column("viewer_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("fk_spectator_bars_broadcast_id")
        ),
        sa.PrimaryKeyConstraint("broadcast_id", "viewer_id", name=op.f("pk_spectator_bars")),
    )
    _passes()


def _passes() -> None:
    op.create_table(
        "passes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("price_tokens", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_passes_not_oneself")),
        sa.CheckConstraint("price_tokens BETWEEN 1 AND 1000000", name=op.f("ck_passes_price")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_passes_time")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_passes_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_passes_fan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passes")),
        sa.UniqueConstraint("fan_id", "key", name=op.f("uq_passes_fan_id_key")),
    )
    op.create_index(op.f("ix_passes_fan_id_creator_id_ends_at"), "passes", ["fan_id", "creator_id", "ends_at"])


def downgrade() -> None:
    """Back to no broadcasts."""
    op.drop_table("passes")
    op.drop_table("spectator_bars")
    op.drop_table("audiences")
    op.drop_table("broadcasts")
