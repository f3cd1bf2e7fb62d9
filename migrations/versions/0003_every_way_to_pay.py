# ruff: noqa: E501  conditions are one string each, as the tables have them
"""Every way to pay, money from outside, earnings and receipts, what admins do; transfers are written whole.

Keeps what is there: old sessions get receipts, old settlements a clearing time, old subscriptions a free month.
The triggers are in the two files beside this one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from models.ids import new_id
from models.months import next_month

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BigSerial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moves = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

# Columns that are new on tables with rows: added empty, filled, then closed.
_NEW_COLUMNS: dict[str, tuple[sa.Column[object], ...]] = {
    "accounts": (sa.Column("last_entry", sa.BigInteger(), nullable=True),),
    "creator_settings": (
        sa.Column("request_priority", sa.String(), nullable=True),
        sa.Column("per_minute_enabled", sa.Boolean(), nullable=True),
        sa.Column("instant_unlock_price", sa.Integer(), nullable=True),
        sa.Column("subscription_price", sa.Integer(), nullable=True),
        sa.Column("subscription_minutes", sa.Integer(), nullable=True),
        sa.Column("pass_price", sa.Integer(), nullable=True),
    ),
    "holds": (
        sa.Column("pot", sa.String(), nullable=True),
        sa.Column("refunded", sa.BigInteger(), nullable=True),
        sa.Column("fee_back", sa.BigInteger(), nullable=True),
        sa.Column("pending", sa.BigInteger(), nullable=True),
        sa.Column("promo", sa.BigInteger(), nullable=True),
        sa.Column("contested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clears_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "people": (
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_daily_cap_tokens", sa.Integer(), nullable=True),
        sa.Column("next_daily_cap_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "private_stream_requests": (
        sa.Column("payment_mode", sa.String(), nullable=True),
        sa.Column("included_minutes", sa.Integer(), nullable=True),
        sa.Column("unlock_price", sa.BigInteger(), nullable=True),
        sa.Column("turn_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "private_stream_sessions": (
        sa.Column("payment_mode", sa.String(), nullable=True),
        sa.Column("included_minutes", sa.Integer(), nullable=True),
        sa.Column("unlock_price", sa.BigInteger(), nullable=True),
        sa.Column("connecting_ms", sa.BigInteger(), nullable=True),
        sa.Column("next_hold_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_refused", sa.Boolean(), nullable=True),
        sa.Column("black_ms", sa.BigInteger(), nullable=True),
        sa.Column("silent_ms", sa.BigInteger(), nullable=True),
        sa.Column("included_used", sa.Integer(), nullable=True),
        sa.Column("unlock_earned", sa.BigInteger(), nullable=True),
        sa.Column("receipt_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "purchases": (
        sa.Column("way", sa.String(), nullable=True),
        sa.Column("checkout_url", sa.String(), nullable=True),
        sa.Column("save_card", sa.Boolean(), nullable=True),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=True),
        sa.Column("refunded_outside_minor", sa.BigInteger(), nullable=True),
        sa.Column("flagged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ask_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "sandbox_payments": (
        sa.Column("purchase_id", sa.String(), nullable=True),
        sa.Column("customer_ref", sa.String(), nullable=True),
        sa.Column("saved", sa.Boolean(), nullable=True),
    ),
    "token_lots": (
        sa.Column("withdrawn", sa.BigInteger(), nullable=True),
        sa.Column("bites", sa.Integer(), nullable=True),
    ),
    "transfers": (
        sa.Column("lot_id", sa.String(), nullable=True),
        sa.Column("moves", Moves, nullable=True),
    ),
}
_NOT_NULL: dict[str, tuple[str, ...]] = {
    "accounts": ("last_entry",),
    "creator_settings": (
        "request_priority",
        "per_minute_enabled",
        "subscription_minutes",
    ),
    "holds": (
        "refunded",
        "fee_back",
        "pending",
        "promo",
    ),
    "private_stream_requests": (
        "payment_mode",
        "included_minutes",
        "unlock_price",
    ),
    "private_stream_sessions": (
        "payment_mode",
        "included_minutes",
        "unlock_price",
        "hold_refused",
        "black_ms",
        "silent_ms",
    ),
    "purchases": (
        "way",
        "save_card",
        "refunded_minor",
        "refunded_outside_minor",
    ),
    "sandbox_payments": (
        "purchase_id",
        "customer_ref",
        "saved",
    ),
    "token_lots": (
        "withdrawn",
        "bites",
    ),
    "transfers": ("moves",),
}
# CHECKs that are new or say something else now: name, whether it was there, the condition.
_CHECKS: dict[str, tuple[tuple[str, bool, str], ...]] = {
    "accounts": (
        (
            "ck_accounts_kind",
            True,
            "kind IN ('wallet', 'held', 'earnings_pending', 'earnings', 'debt', 'pot', 'fees', 'gateway', 'payouts', 'chargeback_loss', 'promo')",
        ),
        ("ck_accounts_pot", False, "kind <> 'pot' OR balance >= 0"),
        ("ck_accounts_whole", False, "balance BETWEEN -9223372036854775807 AND 9223372036854775807"),
    ),
    "creator_settings": (
        (
            "ck_creator_settings_request_priority",
            False,
            "request_priority IN ('first_come', 'subscribers_first', 'highest_total')",
        ),
        ("ck_creator_settings_pass_price", False, "pass_price BETWEEN 1 AND 1000000"),
        ("ck_creator_settings_subscription_minutes", False, "subscription_minutes BETWEEN 0 AND 600"),
        ("ck_creator_settings_subscription_price", False, "subscription_price BETWEEN 1 AND 1000000"),
        ("ck_creator_settings_unlock", False, "instant_unlock_price BETWEEN 1 AND 1000000"),
    ),
    "flags": (("ck_flags_kind", True, "kind IN ('zero_billed_pair', 'black_picture', 'silent_sound')"),),
    "holds": (
        ("ck_holds_fee_back", False, "0 <= fee_back AND fee_back <= commission"),
        ("ck_holds_paid", False, "earnings >= 0 AND commission >= 0"),
        ("ck_holds_pending", False, "0 <= pending AND pending <= earnings AND promo >= 0"),
        ("ck_holds_settled", True, "status = 'settled' OR (creator_id IS NULL AND contested_at IS NULL)"),
        (
            "ck_holds_taken_back",
            False,
            "recovered >= 0 AND refunded >= 0 AND recovered + refunded <= earnings + commission",
        ),
    ),
    "people": (
        ("ck_people_next_daily_cap", False, "next_daily_cap_tokens IS NULL OR next_daily_cap_tokens >= 0"),
    ),
    "private_stream_requests": (
        ("ck_private_stream_requests_included_minutes", False, "included_minutes BETWEEN 0 AND 240"),
        ("ck_private_stream_requests_payment_mode", False, "payment_mode IN ('prepaid', 'per_minute')"),
        ("ck_private_stream_requests_total_cost", True, "total_cost >= 0"),
        ("ck_private_stream_requests_unlock_price", False, "unlock_price >= 0"),
    ),
    "private_stream_sessions": (
        ("ck_private_stream_sessions_included_minutes", False, "included_minutes BETWEEN 0 AND 240"),
        ("ck_private_stream_sessions_payment_mode", False, "payment_mode IN ('prepaid', 'per_minute')"),
        ("ck_private_stream_sessions_total_held", True, "total_held >= 0"),
    ),
    "purchases": (
        ("ck_purchases_refunded", False, "refunded_minor >= 0 AND refunded_minor <= price_minor"),
        ("ck_purchases_way", False, "way IN ('checkout', 'saved')"),
    ),
    "token_lots": (
        (
            "ck_token_lots_amounts",
            True,
            "free >= 0 AND reversed >= 0 AND withdrawn >= 0 AND free + reversed + withdrawn <= tokens",
        ),
    ),
    "transfers": (
        (
            "ck_transfers_kind",
            True,
            "kind IN ('top_up', 'gift', 'hold', 'release', 'settle', 'tip', 'subscription', 'pass', 'stake', 'stake_return', 'share', 'recording', 'reverse', 'payment_reversal', 'payment_good', 'purchase_refund', 'purchase_refund_return', 'clear', 'payout', 'payout_return', 'write_off')",
        ),
    ),
}

# Triggers hold these now, without a look-up at each row.
_GONE_REFERENCES = {
    "entries": ("fk_entries_account_id", "fk_entries_transfer_id"),
    "holds": ("fk_holds_fan_id", "fk_holds_creator_id"),
}


def upgrade() -> None:
    _drop_rules()
    for table, columns in _NEW_COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    _fill()
    for table in sorted(_NOT_NULL.keys() | _CHECKS.keys() | _GONE_REFERENCES.keys()):
        _close(table)
    _new_indexes()
    _subscriptions()
    _new_tables()
    rules = Path(__file__).with_name(f"0003_rules_{_dialect()}.sql").read_text()
    for statement in rules.split("\n-- next\n"):
        op.execute(sa.text(statement))


def _dialect() -> str:
    return op.get_bind().dialect.name


def _drop_rules() -> None:
    """Transfers are append-only, and this fills in their moves; the same rules come back at the end."""
    for table in ("transfers", "entries"):
        if _dialect() == "sqlite":
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_no_{verb}")
        else:
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")


def _close(table: str) -> None:
    """What was filled may not be empty any more, and keeps the new conditions."""
    nullable = {column.name: column.type for column in _NEW_COLUMNS.get(table, ())}
    with op.batch_alter_table(table) as batch:
        for name in _GONE_REFERENCES.get(table, ()):
            batch.drop_constraint(op.f(name), type_="foreignkey")
        for name, was_there, _condition in _CHECKS.get(table, ()):
            if was_there:
                batch.drop_constraint(op.f(name), type_="check")
        for name in _NOT_NULL.get(table, ()):
            batch.alter_column(name, existing_type=nullable[name], nullable=False)
        for name, _was_there, condition in _CHECKS.get(table, ()):
            batch.create_check_constraint(op.f(name), sa.text(condition))
        if table == "transfers":
            batch.create_foreign_key(op.f("fk_transfers_lot_id"), "token_lots", ["lot_id"], ["id"])


def _fill() -> None:
    pairs = (
        "SELECT json_group_array(json_array(e.account_id, e.amount)) FROM entries e"
        if _dialect() == "sqlite"
        else "SELECT jsonb_agg(jsonb_build_array(e.account_id, e.amount)) FROM entries e"
    )
    later = "datetime(closed_at, '+30 days')" if _dialect() == "sqlite" else "closed_at + interval '30 days'"
    if _dialect() == "sqlite":
        # As the house writes times: with six digits after the second.
        later = f"strftime('%Y-%m-%d %H:%M:%S', {later}) || substr(closed_at, 20)"
    for statement in (
        "UPDATE accounts SET last_entry = 0",
        (
            "UPDATE creator_settings SET request_priority = 'first_come', per_minute_enabled = false,"
            " subscription_minutes = 0"
        ),
        "UPDATE private_stream_requests SET payment_mode = 'prepaid', included_minutes = 0, unlock_price = 0",
        (
            "UPDATE private_stream_sessions SET payment_mode = 'prepaid', included_minutes = 0, unlock_price = 0,"
            " hold_refused = false, black_ms = 0, silent_ms = 0"
        ),
        "UPDATE private_stream_sessions SET included_used = 0, unlock_earned = 0 WHERE status = 'ended'",
        "UPDATE purchases SET way = 'checkout', save_card = false, refunded_minor = 0, refunded_outside_minor = 0",
        (
            "UPDATE sandbox_payments SET purchase_id = replace(reference, 'sandbox_', ''), customer_ref = '',"
            " saved = false"
        ),
        (
            "UPDATE token_lots SET withdrawn = 0, bites = (SELECT COUNT(*) FROM transfers t"
            " WHERE t.reference = token_lots.id AND t.kind = 'payment_reversal')"
        ),
        f"UPDATE transfers SET moves = ({pairs} WHERE e.transfer_id = transfers.id)",  # noqa: S608
        # A refund used to set what was paid to nothing; now it stands beside it.
        (
            "UPDATE holds SET refunded = 0 WHERE NOT EXISTS"
            " (SELECT 1 FROM transfers t WHERE t.reference = holds.reference AND t.kind = 'reverse')"
        ),
        (
            f"UPDATE holds SET earnings = {_settled('earnings_pending')},"  # noqa: S608
            f" commission = {_settled('fees')} WHERE refunded IS NULL"
        ),
        "UPDATE holds SET refunded = earnings + commission WHERE refunded IS NULL",
        (
            "UPDATE holds SET promo = 0, fee_back = CASE WHEN refunded > 0 THEN commission"
            " WHEN recovered > 0 THEN recovered * commission / (earnings + commission) ELSE 0 END"
        ),
        "UPDATE holds SET pending = earnings - (recovered + refunded - fee_back)",
        f"UPDATE holds SET clears_at = {later} WHERE status = 'settled' AND earnings > 0",  # noqa: S608
    ):
        op.execute(statement)


def _settled(kind: str) -> str:
    return (
        "COALESCE((SELECT SUM(e.amount) FROM transfers t JOIN entries e ON e.transfer_id = t.id"  # noqa: S608
        f" JOIN accounts a ON a.id = e.account_id AND a.kind = '{kind}'"
        " WHERE t.reference = holds.reference AND t.kind = 'settle'), 0)"
    )


def _subscriptions() -> None:
    """They had no months: those that were active get a free one from now on."""
    connection = op.get_bind()
    old = connection.execute(sa.text("SELECT fan_id, creator_id, active, created_at FROM subscriptions")).all()
    op.drop_table("subscriptions")
    table = op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("price_tokens", sa.BigInteger(), nullable=False),
        sa.Column("included_minutes", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("paid_by", sa.String(), nullable=False),
        sa.Column("anchor_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancel_at_period_end", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name=op.f("ck_subscriptions_ended")),
        sa.CheckConstraint(
            "end_reason IN ('cancelled', 'unpaid', 'replaced', 'blocked', 'not_offered')",
            name=op.f("ck_subscriptions_end_reason"),
        ),
        sa.CheckConstraint("paid_by IN ('tokens', 'gateway')", name=op.f("ck_subscriptions_paid_by")),
        sa.CheckConstraint("status IN ('active', 'ended')", name=op.f("ck_subscriptions_status")),
        sa.CheckConstraint("commission_percent BETWEEN 0 AND 100", name=op.f("ck_subscriptions_commission")),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_subscriptions_not_oneself")),
        sa.CheckConstraint("included_minutes >= 0", name=op.f("ck_subscriptions_included_minutes")),
        sa.CheckConstraint("period >= 1 AND period_start < period_end", name=op.f("ck_subscriptions_period")),
        sa.CheckConstraint("price_tokens >= 0", name=op.f("ck_subscriptions_price")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_subscriptions_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_subscriptions_fan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index(
        op.f("ix_subscriptions_creator_id_status"), "subscriptions", ["creator_id", "status"], unique=False
    )
    op.create_index(
        op.f("ix_subscriptions_status_next_try_at"), "subscriptions", ["status", "next_try_at"], unique=False
    )
    op.create_index(
        "uq_subscriptions_one_active",
        "subscriptions",
        ["fan_id", "creator_id"],
        unique=True,
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    now = datetime.now(UTC)
    end = next_month(now, now)
    if _dialect() == "sqlite":
        now, end = now.replace(tzinfo=None), end.replace(tzinfo=None)
    for fan_id, creator_id, active, _created_at in old:
        connection.execute(
            table.insert().values(
                id=new_id("sub"),
                fan_id=fan_id,
                creator_id=creator_id,
                status="active" if active else "ended",
                price_tokens=0,
                included_minutes=0,
                commission_percent=0,
                paid_by="tokens",
                anchor_at=now,
                period=1,
                period_start=now,
                period_end=end,
                cancel_at_period_end=False,
                tries=0,
                next_try_at=end,
                cause_id="gift",
                created_at=now,
                ended_at=None if active else now,
                end_reason=None if active else "cancelled",
            )
        )


def _new_indexes() -> None:
    op.create_index(
        "ix_holds_pot",
        "holds",
        ["pot"],
        unique=False,
        sqlite_where=sa.text("pot IS NOT NULL"),
        postgresql_where=sa.text("pot IS NOT NULL"),
    )
    op.create_index(
        "ix_holds_pending",
        "holds",
        ["clears_at"],
        unique=False,
        sqlite_where=sa.text("pending > 0"),
        postgresql_where=sa.text("pending > 0"),
    )
    op.create_index(
        "ix_holds_pending_of",
        "holds",
        ["creator_id"],
        unique=False,
        sqlite_where=sa.text("pending > 0"),
        postgresql_where=sa.text("pending > 0"),
    )
    op.create_index(op.f("ix_people_next_daily_cap_at"), "people", ["next_daily_cap_at"], unique=False)
    op.create_index(
        op.f("ix_private_stream_sessions_next_hold_at"), "private_stream_sessions", ["next_hold_at"], unique=False
    )
    op.create_index(
        "ix_private_stream_sessions_no_receipt",
        "private_stream_sessions",
        ["creator_id", "end_time"],
        unique=False,
        sqlite_where=sa.text("status = 'ended' AND receipt_at IS NULL"),
        postgresql_where=sa.text("status = 'ended' AND receipt_at IS NULL"),
    )
    op.create_index(op.f("ix_purchases_ask_at"), "purchases", ["ask_at"], unique=False)
    op.create_index(op.f("ix_sandbox_payments_customer_ref"), "sandbox_payments", ["customer_ref"], unique=False)
    op.create_index(
        "ix_token_lots_bad",
        "token_lots",
        ["owner_id"],
        unique=False,
        sqlite_where=sa.text("bad_at IS NOT NULL"),
        postgresql_where=sa.text("bad_at IS NOT NULL"),
    )
    op.create_index(
        "ix_token_lots_free",
        "token_lots",
        ["owner_id"],
        unique=False,
        sqlite_where=sa.text("free > 0"),
        postgresql_where=sa.text("free > 0"),
    )


def _new_tables() -> None:
    _gateway_events()
    _message_failures()
    _processes()
    _queue_samples()
    _receipt_keys()
    _sandbox_payouts()
    _sandbox_refunds()
    _admin_acts()
    _audit_runs()
    _dead_letters()
    _payment_customers()
    _payout_accounts()
    _slots()
    _account_slots()
    _bookings()
    _disputes()
    _subscription_minute_uses()
    _creator_payouts()
    _purchase_refunds()
    _complaints()
    _receipts()
    _tips()
    _receipt_amendments()


def _gateway_events() -> None:
    op.create_table(
        "gateway_events",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('received', 'done', 'ignored')", name=op.f("ck_gateway_events_status")),
        sa.PrimaryKeyConstraint("gateway", "event_id", name=op.f("pk_gateway_events")),
    )
    op.create_index(op.f("ix_gateway_events_received_at"), "gateway_events", ["received_at"], unique=False)


def _message_failures() -> None:
    op.create_table(
        "message_failures",
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("traceback", sa.String(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_message_failures")),
    )
    op.create_index(op.f("ix_message_failures_failed_at"), "message_failures", ["failed_at"], unique=False)


def _processes() -> None:
    op.create_table(
        "processes",
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('clock', 'worker')", name=op.f("ck_processes_kind")),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_processes")),
    )
    op.create_index(op.f("ix_processes_seen_at"), "processes", ["seen_at"], unique=False)


def _queue_samples() -> None:
    op.create_table(
        "queue_samples",
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("managed", sa.Boolean(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=True),
        sa.Column("unacked", sa.Integer(), nullable=True),
        sa.Column("delayed", sa.Integer(), nullable=True),
        sa.Column("consumers", sa.Integer(), nullable=True),
        sa.Column("in_rate", sa.Double(), nullable=True),
        sa.Column("out_rate", sa.Double(), nullable=True),
        sa.Column("oldest_ms", sa.BigInteger(), nullable=True),
        sa.Column("dead", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("queue", "at", name=op.f("pk_queue_samples")),
    )
    op.create_index(op.f("ix_queue_samples_at"), "queue_samples", ["at"], unique=False)


def _receipt_keys() -> None:
    op.create_table(
        "receipt_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("public_x", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt_keys")),
        sa.UniqueConstraint("public_x", name=op.f("uq_receipt_keys_public_x")),
    )


def _sandbox_payouts() -> None:
    op.create_table(
        "sandbox_payouts",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_sandbox_payouts")),
    )


def _sandbox_refunds() -> None:
    op.create_table(
        "sandbox_refunds",
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("payment", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_sandbox_refunds")),
    )
    op.create_index(op.f("ix_sandbox_refunds_payment"), "sandbox_refunds", ["payment"], unique=False)


def _admin_acts() -> None:
    op.create_table(
        "admin_acts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("admin_id", sa.String(), nullable=True),
        sa.Column("operator", sa.String(), nullable=True),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("after", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(admin_id IS NULL) <> (operator IS NULL)", name=op.f("ck_admin_acts_who")),
        sa.ForeignKeyConstraint(["admin_id"], ["people.id"], name=op.f("fk_admin_acts_admin_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_acts")),
    )
    op.create_index(op.f("ix_admin_acts_admin_id_at"), "admin_acts", ["admin_id", "at"], unique=False)
    op.create_index(op.f("ix_admin_acts_at_id"), "admin_acts", ["at", "id"], unique=False)
    op.create_index(op.f("ix_admin_acts_subject_at"), "admin_acts", ["subject", "at"], unique=False)


def _audit_runs() -> None:
    op.create_table(
        "audit_runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("problems", sa.String(), nullable=True),
        sa.Column("accounts", sa.Integer(), nullable=True),
        sa.Column("transfers", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("status IN ('asked', 'running', 'done', 'failed')", name=op.f("ck_audit_runs_status")),
        sa.ForeignKeyConstraint(["asked_by"], ["people.id"], name=op.f("fk_audit_runs_asked_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_runs")),
    )
    op.create_index(op.f("ix_audit_runs_asked_at"), "audit_runs", ["asked_at"], unique=False)


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("arguments", sa.String(), nullable=True),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("traceback", sa.String(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("death_key", sa.String(), nullable=False),
        sa.Column("first_died_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("died_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_why", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("status IN ('waiting', 'requeued', 'discarded')", name=op.f("ck_dead_letters_status")),
        sa.ForeignKeyConstraint(["decided_by"], ["people.id"], name=op.f("fk_dead_letters_decided_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_index(op.f("ix_dead_letters_cause_id"), "dead_letters", ["cause_id"], unique=False)
    op.create_index(op.f("ix_dead_letters_status_died_at"), "dead_letters", ["status", "died_at"], unique=False)


def _payment_customers() -> None:
    op.create_table(
        "payment_customers",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("customer_ref", sa.String(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_payment_customers_user_id")),
        sa.PrimaryKeyConstraint("user_id", "gateway", name=op.f("pk_payment_customers")),
    )


def _payout_accounts() -> None:
    op.create_table(
        "payout_accounts",
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("account_ref", sa.String(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_payout_accounts_creator_id")),
        sa.PrimaryKeyConstraint("creator_id", "gateway", name=op.f("pk_payout_accounts")),
    )


def _slots() -> None:
    op.create_table(
        "slots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("status IN ('open', 'booked', 'withdrawn')", name=op.f("ck_slots_status")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_slots_ends_later")),
        sa.CheckConstraint("minutes BETWEEN 1 AND 240", name=op.f("ck_slots_minutes")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_slots_creator_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slots")),
    )
    op.create_index(
        "uq_slots_one_start",
        "slots",
        ["creator_id", "starts_at"],
        unique=True,
        sqlite_where=sa.text("status <> 'withdrawn'"),
        postgresql_where=sa.text("status <> 'withdrawn'"),
    )


def _account_slots() -> None:
    op.create_table(
        "account_slots",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "balance >= 0 OR substr(account_id, 1, 17) <> 'earnings_pending:'",
            name=op.f("ck_account_slots_balance"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_slots_account_id")),
        sa.PrimaryKeyConstraint("account_id", "slot", name=op.f("pk_account_slots")),
        postgresql_with={"fillfactor": 50},
    )


def _bookings() -> None:
    op.create_table(
        "bookings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("slot_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("minimum_minutes", sa.Integer(), nullable=False),
        sa.Column("list_rate", sa.Integer(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=False),
        sa.Column("discount_percent", sa.Integer(), nullable=False),
        sa.Column("commission_percent", sa.Integer(), nullable=False),
        sa.Column("minute_ms", sa.Integer(), nullable=False),
        sa.Column("included_minutes", sa.Integer(), nullable=False),
        sa.Column("total_cost", sa.BigInteger(), nullable=False),
        sa.Column("close_reason", sa.String(), nullable=True),
        sa.Column("reminders", sa.Integer(), nullable=False),
        sa.Column("stream_id", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('booked', 'started', 'cancelled', 'released')", name=op.f("ck_bookings_status")
        ),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_bookings_not_oneself")),
        sa.CheckConstraint("included_minutes BETWEEN 0 AND minutes", name=op.f("ck_bookings_included_minutes")),
        sa.CheckConstraint("minimum_minutes BETWEEN 1 AND 60", name=op.f("ck_bookings_minimum_minutes")),
        sa.CheckConstraint("minutes BETWEEN 1 AND 240", name=op.f("ck_bookings_minutes")),
        sa.CheckConstraint("rate_per_minute >= 1 AND list_rate >= rate_per_minute", name=op.f("ck_bookings_rate")),
        sa.CheckConstraint("reminders BETWEEN 0 AND 2", name=op.f("ck_bookings_reminders")),
        sa.CheckConstraint("total_cost >= 0", name=op.f("ck_bookings_total_cost")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_bookings_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_bookings_fan_id")),
        sa.ForeignKeyConstraint(["slot_id"], ["slots.id"], name=op.f("fk_bookings_slot_id")),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"], name=op.f("fk_bookings_stream_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bookings")),
        sa.UniqueConstraint("request_id", name=op.f("uq_bookings_request_id")),
    )
    op.create_index(
        op.f("ix_bookings_creator_id_status_starts_at"),
        "bookings",
        ["creator_id", "status", "starts_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_bookings_fan_id_status_starts_at"), "bookings", ["fan_id", "status", "starts_at"], unique=False
    )
    op.create_index(op.f("ix_bookings_status_starts_at"), "bookings", ["status", "starts_at"], unique=False)
    op.create_index(op.f("ix_bookings_stream_id"), "bookings", ["stream_id"], unique=False)
    op.create_index(
        "uq_bookings_one_per_slot",
        "bookings",
        ["slot_id"],
        unique=True,
        sqlite_where=sa.text("status = 'booked'"),
        postgresql_where=sa.text("status = 'booked'"),
    )


def _disputes() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("purchase_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("gateway_ref", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("status IN ('opened', 'won', 'lost')", name=op.f("ck_disputes_status")),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_disputes_amount")),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"], name=op.f("fk_disputes_purchase_id")),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_disputes_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.UniqueConstraint("gateway", "gateway_ref", name=op.f("uq_disputes_gateway_gateway_ref")),
    )
    op.create_index(op.f("ix_disputes_purchase_id"), "disputes", ["purchase_id"], unique=False)
    op.create_index(op.f("ix_disputes_status_created_at"), "disputes", ["status", "created_at"], unique=False)
    op.create_index(op.f("ix_disputes_user_id"), "disputes", ["user_id"], unique=False)


def _subscription_minute_uses() -> None:
    op.create_table(
        "subscription_minute_uses",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("subscription_id", sa.String(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(used IS NULL) = (closed_at IS NULL)", name=op.f("ck_subscription_minute_uses_closed")
        ),
        sa.CheckConstraint(
            "reserved > 0 AND (used IS NULL OR (used >= 0 AND used <= reserved))",
            name=op.f("ck_subscription_minute_uses_minutes"),
        ),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_subscription_minute_uses_subscription_id")
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_subscription_minute_uses")),
    )
    op.create_index(
        op.f("ix_subscription_minute_uses_subscription_id_period"),
        "subscription_minute_uses",
        ["subscription_id", "period"],
        unique=False,
    )


def _creator_payouts() -> None:
    op.create_table(
        "creator_payouts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("account_ref", sa.String(), nullable=False),
        sa.Column("gateway_ref", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("transfer_id", sa.String(), nullable=False),
        sa.Column("return_transfer_id", sa.String(), nullable=True),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(status = 'failed') = (return_transfer_id IS NOT NULL)", name=op.f("ck_creator_payouts_returned")
        ),
        sa.CheckConstraint(
            "(status = 'requested') = (finished_at IS NULL)", name=op.f("ck_creator_payouts_finished")
        ),
        sa.CheckConstraint("status IN ('requested', 'paid', 'failed')", name=op.f("ck_creator_payouts_status")),
        sa.CheckConstraint("tokens > 0 AND amount_minor > 0", name=op.f("ck_creator_payouts_amounts")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_creator_payouts_creator_id")),
        sa.ForeignKeyConstraint(
            ["return_transfer_id"], ["transfers.id"], name=op.f("fk_creator_payouts_return_transfer_id")
        ),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_creator_payouts_transfer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_creator_payouts")),
        sa.UniqueConstraint("return_transfer_id", name=op.f("uq_creator_payouts_return_transfer_id")),
        sa.UniqueConstraint("transfer_id", name=op.f("uq_creator_payouts_transfer_id")),
    )
    op.create_index(
        op.f("ix_creator_payouts_creator_id_requested_at"),
        "creator_payouts",
        ["creator_id", "requested_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_creator_payouts_status_asked_at"), "creator_payouts", ["status", "asked_at"], unique=False
    )
    op.create_index(
        "uq_creator_payouts_one_requested",
        "creator_payouts",
        ["creator_id"],
        unique=True,
        sqlite_where=sa.text("status = 'requested'"),
        postgresql_where=sa.text("status = 'requested'"),
    )


def _purchase_refunds() -> None:
    op.create_table(
        "purchase_refunds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("purchase_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("transfer_id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("gateway_ref", sa.String(), nullable=True),
        sa.Column("outside", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("cause_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('requested', 'sent', 'succeeded', 'refused')", name=op.f("ck_purchase_refunds_status")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_purchase_refunds_amount")),
        sa.CheckConstraint("tokens > 0", name=op.f("ck_purchase_refunds_tokens")),
        sa.ForeignKeyConstraint(["purchase_id"], ["purchases.id"], name=op.f("fk_purchase_refunds_purchase_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_purchase_refunds_transfer_id")),
        sa.ForeignKeyConstraint(["user_id"], ["people.id"], name=op.f("fk_purchase_refunds_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchase_refunds")),
    )
    op.create_index(op.f("ix_purchase_refunds_purchase_id"), "purchase_refunds", ["purchase_id"], unique=False)
    op.create_index(
        op.f("ix_purchase_refunds_status_asked_at"), "purchase_refunds", ["status", "asked_at"], unique=False
    )
    op.create_index(
        op.f("ix_purchase_refunds_user_id_created_at"), "purchase_refunds", ["user_id", "created_at"], unique=False
    )


def _complaints() -> None:
    op.create_table(
        "complaints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("by_id", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("refunded_tokens", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint("(status = 'open') = (decided_at IS NULL)", name=op.f("ck_complaints_decided")),
        sa.CheckConstraint(
            "refunded_tokens >= 0 AND (refunded_tokens > 0) = (status = 'refunded')",
            name=op.f("ck_complaints_refunded"),
        ),
        sa.CheckConstraint("side IN ('fan', 'creator')", name=op.f("ck_complaints_side")),
        sa.CheckConstraint("status IN ('open', 'refunded', 'upheld')", name=op.f("ck_complaints_status")),
        sa.ForeignKeyConstraint(["by_id"], ["people.id"], name=op.f("fk_complaints_by_id")),
        sa.ForeignKeyConstraint(["decided_by"], ["people.id"], name=op.f("fk_complaints_decided_by")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["private_stream_sessions.id"], name=op.f("fk_complaints_session_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_complaints")),
        sa.UniqueConstraint("session_id", "by_id", name=op.f("uq_complaints_session_id_by_id")),
    )
    op.create_index(
        "ix_complaints_open",
        "complaints",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("previous_hash", sa.String(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('receipt', 'amendment')", name=op.f("ck_receipts_kind")),
        sa.CheckConstraint(
            "number >= 1 AND (number = 1) = (previous_hash IS NULL)", name=op.f("ck_receipts_number")
        ),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_receipts_creator_id")),
        sa.ForeignKeyConstraint(["key_id"], ["receipt_keys.id"], name=op.f("fk_receipts_key_id")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["private_stream_sessions.id"], name=op.f("fk_receipts_session_id")
        ),
        sa.PrimaryKeyConstraint("creator_id", "number", name=op.f("pk_receipts")),
        sa.UniqueConstraint("hash", name=op.f("uq_receipts_hash")),
        sa.UniqueConstraint("previous_hash", name=op.f("uq_receipts_previous_hash")),
        sa.UniqueConstraint("subject", name=op.f("uq_receipts_subject")),
    )
    op.create_index(op.f("ix_receipts_session_id"), "receipts", ["session_id"], unique=False)


def _tips() -> None:
    op.create_table(
        "tips",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fan_id", sa.String(), nullable=False),
        sa.Column("creator_id", sa.String(), nullable=False),
        sa.Column("stream_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount BETWEEN 5 AND 100000", name=op.f("ck_tips_amount")),
        sa.CheckConstraint("fan_id <> creator_id", name=op.f("ck_tips_not_oneself")),
        sa.ForeignKeyConstraint(["creator_id"], ["people.id"], name=op.f("fk_tips_creator_id")),
        sa.ForeignKeyConstraint(["fan_id"], ["people.id"], name=op.f("fk_tips_fan_id")),
        sa.ForeignKeyConstraint(["session_id"], ["private_stream_sessions.id"], name=op.f("fk_tips_session_id")),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"], name=op.f("fk_tips_stream_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tips")),
        sa.UniqueConstraint("fan_id", "key", name=op.f("uq_tips_fan_id_key")),
    )
    op.create_index(op.f("ix_tips_creator_id_created_at"), "tips", ["creator_id", "created_at"], unique=False)
    op.create_index(op.f("ix_tips_session_id_created_at"), "tips", ["session_id", "created_at"], unique=False)
    op.create_index(op.f("ix_tips_stream_id_created_at"), "tips", ["stream_id", "created_at"], unique=False)


def _receipt_amendments() -> None:
    op.create_table(
        "receipt_amendments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("by_side", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("transfer_id", sa.String(), nullable=True),
        sa.Column("complaint_id", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(kind = 'complaint') = (complaint_id IS NOT NULL)", name=op.f("ck_receipt_amendments_complaint")
        ),
        sa.CheckConstraint("by_side IN ('fan', 'creator', 'admin')", name=op.f("ck_receipt_amendments_by_side")),
        sa.CheckConstraint("kind IN ('refund', 'complaint')", name=op.f("ck_receipt_amendments_kind")),
        sa.CheckConstraint(
            "tokens >= 0 AND (tokens > 0) = (transfer_id IS NOT NULL)", name=op.f("ck_receipt_amendments_tokens")
        ),
        sa.ForeignKeyConstraint(
            ["complaint_id"], ["complaints.id"], name=op.f("fk_receipt_amendments_complaint_id")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["private_stream_sessions.id"], name=op.f("fk_receipt_amendments_session_id")
        ),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_receipt_amendments_transfer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt_amendments")),
        sa.UniqueConstraint("complaint_id", name=op.f("uq_receipt_amendments_complaint_id")),
        sa.UniqueConstraint("transfer_id", name=op.f("uq_receipt_amendments_transfer_id")),
    )
    op.create_index(
        op.f("ix_receipt_amendments_session_id_created_at"),
        "receipt_amendments",
        ["session_id", "created_at"],
        unique=False,
    )
    op.create_index(
        "ix_receipt_amendments_waiting",
        "receipt_amendments",
        ["id"],
        unique=False,
        sqlite_where=sa.text("issued_at IS NULL"),
        postgresql_where=sa.text("issued_at IS NULL"),
    )
