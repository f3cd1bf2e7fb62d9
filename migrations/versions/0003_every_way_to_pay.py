"""Every way to pay, money from outside, receipts, dead letters: the schema of this release."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect, text

from models import tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    cascade = "" if connection.dialect.name == "sqlite" else " CASCADE"
    for name in inspect(connection).get_table_names():
        if name != "alembic_version":
            connection.execute(text(f"DROP TABLE {name}{cascade}"))
    tables.metadata.create_all(connection)
