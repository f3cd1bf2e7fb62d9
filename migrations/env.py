"""What Alembic runs to get at the database; ``migrations.upgrade`` has put the connection there."""

from __future__ import annotations

from alembic import context

from models import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    # SQLite cannot alter a table; Alembic then copies it.
    render_as_batch=True,
)
context.run_migrations()
