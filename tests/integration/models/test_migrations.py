"""The migrations make exactly the tables that the code has, CHECKs and triggers included."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.orm import Session

import migrations
from models import tables
from models.db import Database
from ops.postgres import PostgresServer

_POSTGRES_SCHEMA = (
    (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conrelid <> 0"
    ),
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    (
        "SELECT table_name, column_name, data_type || ' ' || is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public'"
    ),
    (
        "SELECT proname, pg_get_function_arguments(oid) || pg_get_function_result(oid), pg_get_functiondef(oid)"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    ),
    "SELECT viewname, viewowner, definition FROM pg_views WHERE schemaname = 'public'",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def created(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that the tables themselves made, without any migration."""
    server: PostgresServer | None = None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'created.db'}"
    else:
        server = request.getfixturevalue("postgres")
        url = server.create("created_by_tables")
    database = Database(url)
    tables.metadata.create_all(database.engine)
    yield database
    database.close()
    if server is not None:
        server.drop("created_by_tables")


@pytest.fixture
def migrated(created: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of the same kind that the migrations made."""
    if created.is_sqlite:
        url = f"sqlite:///{request.getfixturevalue('sqlite_template')}"
    else:
        url = request.getfixturevalue("postgres").url("template")
    database = Database(url)
    yield database
    database.close()


def test_the_migrations_make_the_schema_of_the_code(created: Database, migrated: Database) -> None:
    with created.reading() as left, migrated.reading() as right:
        assert _schema(left, created.is_sqlite) == _schema(right, migrated.is_sqlite)


def test_nothing_is_left_to_migrate(migrated: Database) -> None:
    assert migrations.is_current(migrated)
    with migrated.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_database_without_the_newest_schema_is_not_current(created: Database) -> None:
    assert not migrations.is_current(created)


def test_several_processes_may_upgrade_at_once(tmp_path: Path, postgres: PostgresServer) -> None:
    for url in (f"sqlite:///{tmp_path / 'new.db'}", postgres.create("upgraded_at_once")):
        # when
        command = [sys.executable, "-m", "migrations"]
        environ = {**os.environ, "DATABASE_URL": url, "SECRET_KEY": "x" * 32, "VAR_DIR": str(tmp_path)}
        upgrades = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) for _ in range(3)]
        endings = [(upgrade.communicate(timeout=120)[1], upgrade.returncode) for upgrade in upgrades]
        # then
        assert [code for _, code in endings] == [0, 0, 0], endings
        database = Database(url)
        assert migrations.is_current(database)
        database.close()


def _schema(tx: Session, is_sqlite: bool) -> set[tuple[str, ...]]:
    if not is_sqlite:
        found = {tuple(row) for query in _POSTGRES_SCHEMA for row in tx.execute(text(query))}
        return {row for row in found if row[0] != "alembic_version"}
    rows = tx.execute(text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    return {
        part
        for kind, name, sql in rows
        if name != "alembic_version"
        for part in [(kind, name, line) for line in _normal(sql)]
    }


def _normal(sql: str) -> list[str]:
    """The parts of a CREATE statement, whatever their order and white space."""
    # SQLite writes a column that was added later behind the last one, on the same line.
    lines = re.split(r"\n|,(?![^()]*\))", sql.replace("IF NOT EXISTS ", "").replace(chr(34), ""))
    return sorted(" ".join(line.split()).rstrip(", ") for line in lines if line.strip())
