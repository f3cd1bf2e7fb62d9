"""The schema's history. ``upgrade`` brings a database to the newest step; safe to call by many at once.

No alembic.ini: the database is whatever the settings say, and Alembic is told here.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

from models.db import Database

# Any number, as long as it is always the same: one upgrade at a time.
_LOCK = zlib.crc32(b"greenroom migrations")


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at ``url`` to ``revision``, in one transaction; nothing to do is no error.

    SQLite alters a table by making it anew, under the eyes of those that refer to it: their references are
    not enforced meanwhile, and all checked before the commit.
    """
    database = Database(url, pool_size=1)
    try:
        with database.engine.connect() as connection:
            if database.is_sqlite:
                # Before the transaction begins; within one it would do nothing.
                connection.connection.execute("PRAGMA foreign_keys=OFF")
            with connection.begin():
                if not database.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                command.upgrade(_config(connection), revision)
                if database.is_sqlite and (broken := connection.execute(text("PRAGMA foreign_key_check")).all()):
                    raise RuntimeError(f"the migration leaves references to nothing: {broken[:5]}")
    finally:
        database.close()


def is_current(database: Database) -> bool:
    """Whether the database has the newest schema."""
    with database.reading() as tx:
        found = MigrationContext.configure(tx.connection()).get_current_heads()
    return set(found) == set(ScriptDirectory.from_config(_config(None)).get_heads())


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
