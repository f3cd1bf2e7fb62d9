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
    _recordings()


def _recordings() -> None:
    op.create_table(
        "recording_offers",
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("offered", sa.Boolean(), nullable=False),
        sa.Column("price_tokens", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.CheckConstraint("price_tokens BETWEEN 0 AND 1000000", name=op.f("ck_recording_offers_price")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_recording_offers_creator_id")),
        sa.PrimaryKeyConstraint("creator_id", name=op.f("pk_recording_offers")),
    )
    op.create_table(
        "recordings",
        *(sa.Column(name, sa.String(), nullable=False) for name in _RECORDING_IDS),
        sa.Column("text_version", sa.Integer(), nullable=False),
        sa.Column("price_tokens", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("keep_days", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.String(), nullable=True) for name in _RECORDING_NAMES),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in _RECORDING_TIMES),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_recordings_epoch")),
        sa.CheckConstraint("price_tokens BETWEEN 0 AND 1000000", name=op.f("ck_recordings_price")),
        sa.CheckConstraint("keep_days BETWEEN 1 AND 365", name=op.f("ck_recordings_keep_days")),
        sa.CheckConstraint(
            "status IN ('asked', 'wanted', 'running', 'finishing', 'kept', 'gone')",
            name=op.f("ck_recordings_status"),
        ),
        sa.CheckConstraint(
            "stop_reason IN ('withdrawn', 'session_over', 'stopped', 'no_space', 'no_recorder')",
            name=op.f("ck_recordings_stop_reason"),
        ),
        sa.CheckConstraint(
            "gone_reason IN ('not_started', 'deleted', 'expired', 'lost')",
            name=op.f("ck_recordings_gone_reason"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('wanted', 'running')"
            " OR (fan_consent_id IS NOT NULL AND creator_consent_id IS NOT NULL)",
            name=op.f("ck_recordings_two_keys"),
        ),
        sa.CheckConstraint(
            "status <> 'kept' OR (size IS NOT NULL AND expires_at IS NOT NULL)", name=op.f("ck_recordings_kept")
        ),
        sa.CheckConstraint(
            "paid_at IS NOT NULL OR (refund_due_at IS NULL AND refunded_at IS NULL)",
            name=op.f("ck_recordings_refund"),
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["private_stream_sessions.id"], name=op.f("fk_recordings_session_id")
        ),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_recordings_fan_id")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_recordings_creator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
        sa.UniqueConstraint("session_id", name=op.f("uq_recordings_session_id")),
    )
    op.create_index(op.f("ix_recordings_status_lease_until"), "recordings", ["status", "lease_until"])
    op.create_index(op.f("ix_recordings_status_expires_at"), "recordings", ["status", "expires_at"])
    op.create_index(op.f("ix_recordings_refund_due_at"), "recordings", ["refund_due_at"])
    op.create_table(
        "recording_consents",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("recording_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("act IN ('given', 'withdrawn')", name=op.f("ck_recording_consents_act")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_recording_consents_number")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_recording_consents_recording_id")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_recording_consents_person_id")),
        sa.ForeignKeyConstraint(["key_id"], ["receipt_keys.id"], name=op.f("fk_recording_consents_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording_consents")),
    )
    op.create_index(
        op.f("ix_recording_consents_recording_id_number"), "recording_consents", ["recording_id", "number"],
        unique=True,
    )  # fmt: skip
    for statement in _KEEP_CONSENTS[op.get_bind().dialect.name]:
        op.execute(statement)


_RECORDING_IDS = ("id", "session_id", "room_id", "fan_id", "creator_id", "status")
_RECORDING_NAMES = (
    "fan_consent_id", "creator_consent_id", "stop_reason", "stopped_by", "worker_id", "gone_reason", "gone_by",
)  # fmt: skip
_RECORDING_TIMES = (
    "wanted_at", "started_at", "stopped_at", "lease_until", "expires_at", "paid_at", "taken_back_at",
    "refund_due_at", "refunded_at", "gone_at",
)  # fmt: skip
_KEEP_CONSENTS = {
    "sqlite": tuple(
        f"CREATE TRIGGER recording_consents_no_{verb.lower()} BEFORE {verb} ON recording_consents "
        "BEGIN SELECT RAISE(ABORT, 'recording_consents is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        (
            "CREATE OR REPLACE FUNCTION refuse_consent_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        ),
        (
            "CREATE OR REPLACE TRIGGER recording_consents_append_only BEFORE UPDATE OR DELETE OR TRUNCATE"
            " ON recording_consents FOR EACH STATEMENT EXECUTE FUNCTION refuse_consent_change()"
        ),
    ),
}


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
    op.drop_table("recording_consents")
    op.drop_table("recordings")
    op.drop_table("recording_offers")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_consent_change()")
    op.drop_table("passes")
    op.drop_table("spectator_bars")
    op.drop_table("audiences")
    op.drop_table("broadcasts")
