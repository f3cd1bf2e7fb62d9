# ruff: noqa: E501  conditions are one string each, as the tables have them
"""The first schema: people, streams, requests, sessions, payments, the ledger, and the plumbing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A growing number; SQLite has those for INTEGER alone.
BigSerial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _api_tokens()
    _idempotency_keys()
    _inbox()
    _media_nodes()
    _outbox()
    _people()
    _rate_limits()
    _room_bars()
    _sandbox_payments()
    _scheduled_jobs()
    _transfers()
    _web_processes()
    _accounts()
    _blocks()
    _creator_settings()
    _feed_connections()
    _flags()
    _holds()
    _purchases()
    _rooms()
    _sign_ins()
    _streams()
    _subscriptions()
    _token_lots()
    _entries()
    _lot_uses()
    _payment_attempts()
    _private_stream_requests()
    _private_stream_sessions()
    _append_only()


def _api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "route", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_inbox")),
    )
    op.create_index(op.f("ix_inbox_received_at"), "inbox", ["received_at"], unique=False)


def _media_nodes() -> None:
    op.create_table(
        "media_nodes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("signaling_url", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_media_nodes")),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", BigSerial, nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('command', 'actor', 'feed')", name=op.f("ck_outbox_kind")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
    )
    op.create_index(op.f("ix_outbox_published_at"), "outbox", ["published_at"], unique=False)
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("avatar_url", sa.String(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("is_fan", sa.Boolean(), nullable=False),
        sa.Column("is_creator", sa.Boolean(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("is_mock", sa.Boolean(), nullable=False),
        sa.Column("spending_frozen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("daily_cap_tokens", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("daily_cap_tokens IS NULL OR daily_cap_tokens >= 0", name=op.f("ck_people_daily_cap")),
        sa.CheckConstraint("is_fan OR is_creator OR is_admin", name=op.f("ck_people_has_a_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("email", name=op.f("uq_people_email")),
        sa.UniqueConstraint("handle", name=op.f("uq_people_handle")),
    )


def _rate_limits() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("window_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_rate_limits")),
    )
    op.create_index(op.f("ix_rate_limits_window_started_at"), "rate_limits", ["window_started_at"], unique=False)


def _room_bars() -> None:
    op.create_table(
        "room_bars",
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("room_id", "user_id", name=op.f("pk_room_bars")),
    )


def _sandbox_payments() -> None:
    op.create_table(
        "sandbox_payments",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("card", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_sandbox_payments")),
    )


def _scheduled_jobs() -> None:
    op.create_table(
        "scheduled_jobs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_scheduled_jobs")),
    )


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("reverses", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('top_up', 'gift', 'hold', 'release', 'settle', 'reverse', 'payment_reversal')",
            name=op.f("ck_transfers_kind"),
        ),
        sa.ForeignKeyConstraint(["reverses"], ["transfers.id"], name=op.f("fk_transfers_reverses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_transfers_idempotency_key")),
        sa.UniqueConstraint("reverses", name=op.f("uq_transfers_reverses")),
    )
    op.create_index(op.f("ix_transfers_reference"), "transfers", ["reference"], unique=False)


def _web_processes() -> None:
    op.create_table(
        "web_processes",
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_web_processes")),
    )


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('wallet', 'held', 'earnings_pending', 'earnings', 'debt', 'fees', 'gateway', 'payouts', 'chargeback_loss', 'promo')",
            name=op.f("ck_accounts_kind"),
        ),
        sa.CheckConstraint(
            "owner_id IS NULL OR (kind <> 'debt' AND balance >= 0) OR (kind = 'debt' AND balance <= 0)",
            name=op.f("ck_accounts_balance"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["people.id"], name=op.f("fk_accounts_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index(op.f("ix_accounts_owner_id"), "accounts", ["owner_id"], unique=False)


def _blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_blocks_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_blocks_fan_id")),
        sa.PrimaryKeyConstraint("creator_id", "fan_id", name=op.f("pk_blocks")),
    )


def _creator_settings() -> None:
    op.create_table(
        "creator_settings",
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("private_stream_rate", sa.Integer(), nullable=False),
        sa.Column("private_stream_min_time", sa.Integer(), nullable=False),
        sa.Column("private_stream_auto_accept", sa.String(), nullable=False),
        sa.Column("private_stream_enabled", sa.Boolean(), nullable=False),
        sa.Column("private_stream_queue", sa.Boolean(), nullable=False),
        sa.Column("subscriber_discount_percent", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "private_stream_auto_accept IN ('manual', 'all', 'subscribers')",
            name=op.f("ck_creator_settings_auto_accept"),
        ),
        sa.CheckConstraint("private_stream_min_time BETWEEN 1 AND 60", name=op.f("ck_creator_settings_min_time")),
        sa.CheckConstraint("private_stream_rate BETWEEN 1 AND 100000", name=op.f("ck_creator_settings_rate")),
        sa.CheckConstraint(
            "subscriber_discount_percent BETWEEN 0 AND 90", name=op.f("ck_creator_settings_discount")
        ),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_creator_settings_creator_id")),
        sa.PrimaryKeyConstraint("creator_id", name=op.f("pk_creator_settings")),
    )


def _feed_connections() -> None:
    op.create_table(
        "feed_connections",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_feed_connections_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_connections")),
    )
    op.create_index(op.f("ix_feed_connections_boot_id"), "feed_connections", ["boot_id"], unique=False)
    op.create_index(
        op.f("ix_feed_connections_user_id_lost_at"), "feed_connections", ["user_id", "lost_at"], unique=False
    )


def _flags() -> None:
    op.create_table(
        "flags",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('zero_billed_pair')", name=op.f("ck_flags_kind")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_flags_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_flags_fan_id")),
        sa.PrimaryKeyConstraint("kind", "creator_id", "fan_id", "day", name=op.f("pk_flags")),
    )
    op.create_index(op.f("ix_flags_created_at"), "flags", ["created_at"], unique=False)


def _holds() -> None:
    op.create_table(
        "holds",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("earnings", sa.BigInteger(), nullable=False),
        sa.Column("commission", sa.BigInteger(), nullable=False),
        sa.Column("recovered", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount >= 0 AND (status = 'open') = (amount > 0)", name=op.f("ck_holds_amount")),
        sa.CheckConstraint("status IN ('open', 'released', 'settled')", name=op.f("ck_holds_status")),
        sa.CheckConstraint("earnings >= 0 AND commission >= 0 AND recovered >= 0", name=op.f("ck_holds_settled")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_holds_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_holds_fan_id")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_holds")),
    )
    op.create_index(op.f("ix_holds_fan_id_created_at"), "holds", ["fan_id", "created_at"], unique=False)


def _purchases() -> None:
    op.create_table(
        "purchases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("package_id", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("gateway_ref", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("succeeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bad_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('created', 'pending', 'succeeded', 'failed', 'disputed')", name=op.f("ck_purchases_status")
        ),
        sa.CheckConstraint("price_minor > 0", name=op.f("ck_purchases_price")),
        sa.CheckConstraint("tokens > 0", name=op.f("ck_purchases_tokens")),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_purchases_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchases")),
        sa.UniqueConstraint("gateway_ref", name=op.f("uq_purchases_gateway_ref")),
        sa.UniqueConstraint("user_id", "idempotency_key", name=op.f("uq_purchases_user_id_idempotency_key")),
    )
    op.create_index(op.f("ix_purchases_status_created_at"), "purchases", ["status", "created_at"], unique=False)
    op.create_index(op.f("ix_purchases_user_id_created_at"), "purchases", ["user_id", "created_at"], unique=False)


def _rooms() -> None:
    op.create_table(
        "rooms",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("viewers", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("kind IN ('live', 'private')", name=op.f("ck_rooms_kind")),
        sa.CheckConstraint("status IN ('opening', 'open', 'closed')", name=op.f("ck_rooms_status")),
        sa.CheckConstraint("viewers >= 0", name=op.f("ck_rooms_viewers")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_rooms_creator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rooms")),
    )
    op.create_index(op.f("ix_rooms_node_id_status"), "rooms", ["node_id", "status"], unique=False)


def _sign_ins() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('browser', 'token')", name=op.f("ck_sign_ins_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_sign_ins_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sign_ins_token_hash")),
    )
    op.create_index(op.f("ix_sign_ins_expires_at"), "sign_ins", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sign_ins_user_id"), "sign_ins", ["user_id"], unique=False)


def _streams() -> None:
    op.create_table(
        "streams",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("status IN ('live', 'private', 'ended')", name=op.f("ck_streams_status")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_streams_creator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams")),
        sa.UniqueConstraint("room_id", name=op.f("uq_streams_room_id")),
    )
    op.create_index(op.f("ix_streams_creator_id"), "streams", ["creator_id"], unique=False)
    op.create_index(op.f("ix_streams_status"), "streams", ["status"], unique=False)
    op.create_index(
        "uq_streams_one_open",
        "streams",
        ["creator_id"],
        unique=True,
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_subscriptions_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_subscriptions_fan_id")),
        sa.PrimaryKeyConstraint("fan_id", "creator_id", name=op.f("pk_subscriptions")),
    )
    op.create_index(op.f("ix_subscriptions_creator_id"), "subscriptions", ["creator_id"], unique=False)


def _token_lots() -> None:
    op.create_table(
        "token_lots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False),
        sa.Column("reversed", sa.BigInteger(), nullable=False),
        sa.Column("bad_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('purchase', 'promo')", name=op.f("ck_token_lots_source")),
        sa.CheckConstraint(
            "free >= 0 AND reversed >= 0 AND free + reversed <= tokens", name=op.f("ck_token_lots_amounts")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["people.id"], name=op.f("fk_token_lots_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_lots")),
    )
    op.create_index(
        op.f("ix_token_lots_owner_id_created_at_id"), "token_lots", ["owner_id", "created_at", "id"], unique=False
    )


def _entries() -> None:
    op.create_table(
        "entries",
        sa.Column("transfer_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_entries_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_entries_account_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_entries_transfer_id")),
        sa.PrimaryKeyConstraint("transfer_id", "account_id", name=op.f("pk_entries")),
    )
    op.create_index(op.f("ix_entries_account_id"), "entries", ["account_id"], unique=False)


def _lot_uses() -> None:
    op.create_table(
        "lot_uses",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("lot_id", sa.String(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("recovered", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "held >= 0 AND recovered >= 0 AND spent >= recovered", name=op.f("ck_lot_uses_amounts")
        ),
        sa.ForeignKeyConstraint(["lot_id"], ["token_lots.id"], name=op.f("fk_lot_uses_lot_id")),
        sa.ForeignKeyConstraint(["reference"], ["holds.reference"], name=op.f("fk_lot_uses_reference")),
        sa.PrimaryKeyConstraint("reference", "lot_id", name=op.f("pk_lot_uses")),
    )
    op.create_index(op.f("ix_lot_uses_lot_id"), "lot_uses", ["lot_id"], unique=False)


def _payment_attempts() -> None:
    op.create_table(
        "payment_attempts",
        sa.Column("id", BigSerial, nullable=False),
        sa.Column("purchase_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"], name=op.f("fk_payment_attempts_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_attempts")),
    )
    op.create_index(op.f("ix_payment_attempts_purchase_id"), "payment_attempts", ["purchase_id"], unique=False)


def _private_stream_requests() -> None:
    op.create_table(
        "private_stream_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("stream_id", sa.String(), nullable=False),
        sa.Column("minimum_minutes", sa.Integer(), nullable=False),
        sa.Column("requested_minutes", sa.Integer(), nullable=False),
        sa.Column("list_rate", sa.Integer(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=False),
        sa.Column("discount_percent", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("minute_ms", sa.Integer(), nullable=False),
        sa.Column("total_cost", sa.BigInteger(), nullable=False),
        sa.Column("close_reason", sa.String(), nullable=True),
        sa.Column("accepted_by", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'pending', 'accepted', 'declined', 'cancelled', 'expired')",
            name=op.f("ck_private_stream_requests_status"),
        ),
        sa.CheckConstraint(
            "commission_percent BETWEEN 0 AND 100", name=op.f("ck_private_stream_requests_commission")
        ),
        sa.CheckConstraint("discount_percent BETWEEN 0 AND 90", name=op.f("ck_private_stream_requests_discount")),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_private_stream_requests_not_oneself")),
        sa.CheckConstraint(
            "minimum_minutes BETWEEN 1 AND 60", name=op.f("ck_private_stream_requests_minimum_minutes")
        ),
        sa.CheckConstraint("minute_ms BETWEEN 1000 AND 60000", name=op.f("ck_private_stream_requests_minute")),
        sa.CheckConstraint(
            "rate_per_minute >= 1 AND list_rate >= rate_per_minute", name=op.f("ck_private_stream_requests_rate")
        ),
        sa.CheckConstraint(
            "requested_minutes BETWEEN 1 AND 240", name=op.f("ck_private_stream_requests_requested_minutes")
        ),
        sa.CheckConstraint("total_cost > 0", name=op.f("ck_private_stream_requests_total_cost")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_private_stream_requests_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_private_stream_requests_fan_id")),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"], name=op.f("fk_private_stream_requests_stream_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_private_stream_requests")),
    )
    op.create_index(
        op.f("ix_private_stream_requests_creator_id_status_created_at"),
        "private_stream_requests",
        ["creator_id", "status", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_requests_fan_id_created_at"),
        "private_stream_requests",
        ["fan_id", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_requests_status_expires_at"),
        "private_stream_requests",
        ["status", "expires_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_requests_stream_id"), "private_stream_requests", ["stream_id"], unique=False
    )
    op.create_index(
        "uq_private_stream_requests_one_open",
        "private_stream_requests",
        ["fan_id", "creator_id"],
        unique=True,
        sqlite_where=sa.text("status IN ('queued', 'pending')"),
        postgresql_where=sa.text("status IN ('queued', 'pending')"),
    )


def _private_stream_sessions() -> None:
    op.create_table(
        "private_stream_sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("stream_id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("boot_id", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("requested_minutes", sa.Integer(), nullable=False),
        sa.Column("minimum_minutes", sa.Integer(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=False),
        sa.Column("discount_percent", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("minute_ms", sa.Integer(), nullable=False),
        sa.Column("paid_minutes", sa.Integer(), nullable=False),
        sa.Column("paid_ms", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_held", sa.BigInteger(), nullable=False),
        sa.Column("delivered_ms", sa.BigInteger(), nullable=False),
        sa.Column("creator_pause_ms", sa.BigInteger(), nullable=False),
        sa.Column("node_pause_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("pause_cause", sa.String(), nullable=True),
        sa.Column("paused_for_ms", sa.BigInteger(), nullable=False),
        sa.Column("creator_connected", sa.Boolean(), nullable=False),
        sa.Column("fan_connected", sa.Boolean(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("live_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_kind", sa.String(), nullable=True),
        sa.Column("end_cause", sa.String(), nullable=True),
        sa.Column("at_fault", sa.String(), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("end_label", sa.String(), nullable=True),
        sa.Column("end_fact", sa.String(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.Column("end_row", sa.String(), nullable=True),
        sa.Column("actual_duration_minutes", sa.Integer(), nullable=True),
        sa.Column("billed_minutes", sa.Integer(), nullable=True),
        sa.Column("total_earnings", sa.BigInteger(), nullable=True),
        sa.Column("commission", sa.BigInteger(), nullable=True),
        sa.Column("refunded", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "at_fault IN ('fan', 'creator', 'none')", name=op.f("ck_private_stream_sessions_at_fault")
        ),
        sa.CheckConstraint(
            "deadline_kind IN ('open', 'silent', 'settle')", name=op.f("ck_private_stream_sessions_deadline_kind")
        ),
        sa.CheckConstraint(
            "end_cause IN ('fan', 'creator', 'payment_failed', 'moderation', 'stream_deleted', 'outside_cut')",
            name=op.f("ck_private_stream_sessions_end_cause"),
        ),
        sa.CheckConstraint(
            "status <> 'ended' OR (end_time IS NOT NULL AND end_reason IS NOT NULL AND total_earnings IS NOT NULL AND commission IS NOT NULL AND refunded IS NOT NULL AND billed_minutes IS NOT NULL)",
            name=op.f("ck_private_stream_sessions_ended_complete"),
        ),
        sa.CheckConstraint(
            "status <> 'ended' OR total_held = total_earnings + commission + refunded",
            name=op.f("ck_private_stream_sessions_adds_up"),
        ),
        sa.CheckConstraint(
            "status IN ('connecting', 'live', 'paused', 'settling', 'ended')",
            name=op.f("ck_private_stream_sessions_status"),
        ),
        sa.CheckConstraint(
            "0 <= acknowledged_ms AND acknowledged_ms <= paid_ms",
            name=op.f("ck_private_stream_sessions_acknowledged"),
        ),
        sa.CheckConstraint("0 <= delivered_ms", name=op.f("ck_private_stream_sessions_delivered")),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_private_stream_sessions_not_oneself")),
        sa.CheckConstraint("paid_minutes BETWEEN 1 AND 480", name=op.f("ck_private_stream_sessions_paid_minutes")),
        sa.CheckConstraint("total_held > 0", name=op.f("ck_private_stream_sessions_total_held")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_private_stream_sessions_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_private_stream_sessions_fan_id")),
        sa.ForeignKeyConstraint(
            ["request_id"], ["private_stream_requests.id"], name=op.f("fk_private_stream_sessions_request_id")
        ),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"], name=op.f("fk_private_stream_sessions_stream_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_private_stream_sessions")),
        sa.UniqueConstraint("request_id", name=op.f("uq_private_stream_sessions_request_id")),
        sa.UniqueConstraint("room_id", name=op.f("uq_private_stream_sessions_room_id")),
    )
    op.create_index(
        op.f("ix_private_stream_sessions_creator_id_start_time"),
        "private_stream_sessions",
        ["creator_id", "start_time"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_sessions_fan_id_start_time"),
        "private_stream_sessions",
        ["fan_id", "start_time"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_sessions_node_id_status"),
        "private_stream_sessions",
        ["node_id", "status"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_sessions_status_deadline_at"),
        "private_stream_sessions",
        ["status", "deadline_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_private_stream_sessions_stream_id"), "private_stream_sessions", ["stream_id"], unique=False
    )
    op.create_index(
        "uq_private_stream_sessions_one_per_creator",
        "private_stream_sessions",
        ["creator_id"],
        unique=True,
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )
    op.create_index(
        "uq_private_stream_sessions_one_per_fan",
        "private_stream_sessions",
        ["fan_id"],
        unique=True,
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )


def _append_only() -> None:
    """Transfers and entries are never changed, whoever tries."""
    if op.get_bind().dialect.name == "sqlite":
        for table in ("transfers", "entries"):
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in ("transfers", "entries"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
