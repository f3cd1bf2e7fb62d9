"""Broadcasts: a room's picture and sound as HLS and DASH; passes for the best of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

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


def upgrade() -> None:
    """Nothing was broadcast before."""
    _battles()
    _several_nodes()
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
        sa.ForeignKeyConstraint(["broadcast_id"], ["broadcasts.id"], name=op.f("fk_spectator_bars_broadcast_id")),
        sa.PrimaryKeyConstraint("broadcast_id", "viewer_id", name=op.f("pk_spectator_bars")),
    )
    _passes()
    _recordings()
    _stream_keys()


def _stream_keys() -> None:
    op.add_column("streams", sa.Column("encoder_since", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "stream_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_stream_keys_creator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_stream_keys_key_hash")),
    )
    op.create_index(op.f("ix_stream_keys_creator_id"), "stream_keys", ["creator_id"])


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
    "fan_consent_id", "creator_consent_id", "stop_reason", "stopped_by", "worker_id", "disk_id", "gone_reason",
    "gone_by",
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
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refund_tokens", sa.Integer(), nullable=True),
        sa.Column("refund_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "revoked_at IS NOT NULL OR (refund_tokens IS NULL AND refund_due_at IS NULL)",
            name=op.f("ck_passes_revoked"),
        ),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_passes_not_oneself")),
        sa.CheckConstraint("price_tokens BETWEEN 1 AND 1000000", name=op.f("ck_passes_price")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_passes_time")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_passes_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_passes_fan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passes")),
        sa.UniqueConstraint("fan_id", "key", name=op.f("uq_passes_fan_id_key")),
    )
    op.create_index(op.f("ix_passes_fan_id_creator_id_ends_at"), "passes", ["fan_id", "creator_id", "ends_at"])
    op.create_index(op.f("ix_passes_refund_due_at"), "passes", ["refund_due_at"])


_OF_NODES = (
    ("media_nodes", sa.Column("capacity", sa.Integer(), nullable=False, server_default=sa.text("200"))),
    ("media_nodes", sa.Column("participants", sa.Integer(), nullable=False, server_default=sa.text("0"))),
    ("media_nodes", sa.Column("draining_at", sa.DateTime(timezone=True), nullable=True)),
    ("media_nodes", sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True)),
    ("media_nodes", sa.Column("found_at", sa.DateTime(timezone=True), nullable=True)),
    ("rooms", sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True)),
    ("rooms", sa.Column("epoch", sa.Integer(), nullable=False, server_default=sa.text("0"))),
    ("rooms", sa.Column("awaited", sa.Integer(), nullable=False, server_default=sa.text("0"))),
    (
        "private_stream_sessions",
        sa.Column("room_epoch", sa.Integer(), nullable=False, server_default=sa.text("0")),
    ),
)


def _several_nodes() -> None:
    """Defaults are the database's, so that no table with triggers is made anew on SQLite."""
    for table, column in _OF_NODES:
        op.add_column(table, column)
    op.create_table(
        "room_departures",
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("room_id", "node_id", name=op.f("pk_room_departures")),
    )
    op.create_table(
        "room_stays",
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("room_id", "epoch", name=op.f("pk_room_stays")),
    )


def _battles() -> None:
    with op.batch_alter_table("rooms") as batch:
        batch.drop_constraint(op.f("ck_rooms_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_rooms_kind"), sa.text("kind IN ('live', 'private', 'battle')"))
    op.create_table(
        "battles",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("entry_fee", sa.Integer(), nullable=False),
        sa.Column("winner_percent", sa.Integer(), nullable=True),
        sa.Column("most_creators", sa.Integer(), nullable=False),
        sa.Column("limit_minutes", sa.Integer(), nullable=False),
        sa.Column("minute_ms", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.Column("pot_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('ended', 'cancelled')) = (ended_at IS NOT NULL)", name=op.f("ck_battles_ended")
        ),
        sa.CheckConstraint(
            "(status IN ('running', 'ended')) = (started_at IS NOT NULL)", name=op.f("ck_battles_started")
        ),
        sa.CheckConstraint(
            "end_reason IN ('time', 'host', 'deserted', 'too_few', 'withdrawn', 'moderation')",
            name=op.f("ck_battles_end_reason"),
        ),
        sa.CheckConstraint("outcome IN ('won', 'draw', 'walkover', 'returned')", name=op.f("ck_battles_outcome")),
        sa.CheckConstraint("status IN ('open', 'running', 'ended', 'cancelled')", name=op.f("ck_battles_status")),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_battles_outcome_at_end")),
        sa.CheckConstraint("(started_at IS NULL) = (ends_at IS NULL)", name=op.f("ck_battles_ends")),
        sa.CheckConstraint("commission_percent BETWEEN 0 AND 100", name=op.f("ck_battles_commission")),
        sa.CheckConstraint("entry_fee BETWEEN 0 AND 100000", name=op.f("ck_battles_entry_fee")),
        sa.CheckConstraint("limit_minutes BETWEEN 1 AND 120 AND minute_ms > 0", name=op.f("ck_battles_limit")),
        sa.CheckConstraint("most_creators BETWEEN 2 AND 4", name=op.f("ck_battles_most_creators")),
        sa.CheckConstraint("pot_tokens >= 0", name=op.f("ck_battles_pot_tokens")),
        sa.CheckConstraint("winner_percent BETWEEN 50 AND 100", name=op.f("ck_battles_winner_percent")),
        sa.ForeignKeyConstraint(["host_id"], ["people.id"], name=op.f("fk_battles_host_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_battles")),
        sa.UniqueConstraint("room_id", name=op.f("uq_battles_room_id")),
    )
    op.create_index(op.f("ix_battles_host_id_created_at"), "battles", ["host_id", "created_at"], unique=False)
    op.create_index(op.f("ix_battles_status_begins_at"), "battles", ["status", "begins_at"], unique=False)
    op.create_index(op.f("ix_battles_status_ends_at"), "battles", ["status", "ends_at"], unique=False)
    op.create_table(
        "battle_sides",
        sa.Column("battle_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("fee", sa.Integer(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("came_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("share", sa.BigInteger(), nullable=False),
        sa.Column("earned", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('in', 'left', 'gone', 'done')", name=op.f("ck_battle_sides_status")),
        sa.CheckConstraint("fee >= 0", name=op.f("ck_battle_sides_fee")),
        sa.CheckConstraint("share >= 0 AND 0 <= earned AND earned <= share", name=op.f("ck_battle_sides_share")),
        sa.ForeignKeyConstraint(["battle_id"], ["battles.id"], name=op.f("fk_battle_sides_battle_id")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_battle_sides_creator_id")),
        sa.PrimaryKeyConstraint("battle_id", "creator_id", name=op.f("pk_battle_sides")),
    )
    op.create_index(
        "uq_battle_sides_one_in",
        "battle_sides",
        ["creator_id"],
        unique=True,
        sqlite_where=sa.text("status = 'in'"),
        postgresql_where=sa.text("status = 'in'"),
    )
    op.create_table(
        "battle_tips",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("battle_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("returned_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount BETWEEN 5 AND 100000", name=op.f("ck_battle_tips_amount")),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_battle_tips_not_oneself")),
        sa.ForeignKeyConstraint(
            ["battle_id", "creator_id"],
            ["battle_sides.battle_id", "battle_sides.creator_id"],
            name=op.f("fk_battle_tips_battle_id_creator_id"),
        ),
        sa.ForeignKeyConstraint(["battle_id"], ["battles.id"], name=op.f("fk_battle_tips_battle_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_battle_tips_fan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_battle_tips")),
        sa.UniqueConstraint("fan_id", "key", name=op.f("uq_battle_tips_fan_id_key")),
    )
    op.create_index(
        op.f("ix_battle_tips_battle_id_creator_id"), "battle_tips", ["battle_id", "creator_id"], unique=False
    )
    op.create_index(op.f("ix_battle_tips_battle_id_fan_id"), "battle_tips", ["battle_id", "fan_id"], unique=False)
    for statement in _SQLITE_RULES if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL_RULES:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Back to no broadcasts."""
    for table, column in reversed(_OF_NODES):
        op.drop_column(table, column.name)
    op.drop_table("room_stays")
    op.drop_table("room_departures")
    op.drop_table("stream_keys")
    op.drop_column("streams", "encoder_since")
    for table in ("battle_tips", "battle_sides", "battles"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_full_pot()")
    with op.batch_alter_table("rooms") as batch:
        batch.drop_constraint(op.f("ck_rooms_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_rooms_kind"), sa.text("kind IN ('live', 'private')"))
    op.drop_table("recording_consents")
    op.drop_table("recordings")
    op.drop_table("recording_offers")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_consent_change()")
    op.drop_table("passes")
    op.drop_table("spectator_bars")
    op.drop_table("audiences")
    op.drop_table("broadcasts")
