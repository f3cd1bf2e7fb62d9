"""A database that tests lend each other is as empty as a new one, or is not lent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import ledger
from models.db import Database
from models.services import accounts
from ops.postgres import PostgresServer
from tests.databases import Databases, Lent

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def shelf(postgres: PostgresServer) -> Iterator[Databases]:
    made = Databases(postgres)
    yield made
    made.close()


def use(url: str) -> tuple[int, int]:
    """A person and tokens; the backend that did it and the first number that it drew."""
    database = Database(url)

    def work(tx: Session) -> tuple[int, int]:
        fan = accounts.create_person(
            tx, email="a@people.test", handle="lent", display_name="A", password_hash="x", roles=("fan",), now=NOW
        )
        ledger.gift(tx, fan.user_id, 10, key="gift", cause_id="test", now=NOW)
        number = "SELECT nextval(pg_get_serial_sequence('outbox', 'seq'))"
        return tx.execute(text("SELECT pg_backend_pid()")).scalar_one(), tx.execute(text(number)).scalar_one()

    seen = database.run(work)
    database.close()
    return seen


def test_what_was_written_is_gone_and_numbers_begin_again(shelf: Databases) -> None:
    # given a database that was used, and was given back
    lent = shelf.lend()
    new = dump(lent)
    backend, number = use(lent.url)
    assert dump(lent) != new
    shelf.give_back(lent)
    # when it is lent again, then it is the same one, as it was when it was new
    again = shelf.lend()
    assert again is lent
    assert dump(again) == new
    # and does the same as before, in the connection that stayed open
    assert use(again.url) == (backend, number)
    shelf.give_back(again)


def spoil_the_schema(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE transfers DISABLE TRIGGER ALL")


def spoil_a_rule(url: str) -> None:
    with psycopg.connect(url) as connection:
        nothing = "CREATE OR REPLACE FUNCTION refuse_hand() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"
        connection.execute(nothing)


def stay_connected(url: str) -> None:
    left_open.append(psycopg.connect(url))


left_open: list[psycopg.Connection[tuple[object, ...]]] = []


@pytest.mark.parametrize("spoil", [spoil_the_schema, spoil_a_rule, stay_connected])
def test_one_that_is_not_as_it_was_is_not_lent_again(shelf: Databases, spoil: Callable[[str], None]) -> None:
    lent = shelf.lend()
    spoil(lent.url)
    shelf.give_back(lent)
    for connection in left_open:
        connection.close()
    left_open.clear()
    assert shelf.lend() is not lent
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(lent.url)


def test_a_connection_that_the_server_ended_is_not_used_again(shelf: Databases, postgres: PostgresServer) -> None:
    lent = shelf.lend()
    backend, _ = use(lent.url)
    with psycopg.connect(postgres.url("postgres")) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (backend,))
    shelf.give_back(lent)
    assert use(shelf.lend().url)[0] != backend


def dump(lent: Lent) -> dict[str, list[str]]:
    """All that is in all tables."""
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    with psycopg.connect(lent.url) as connection:
        names = [row[0] for row in connection.execute(tables).fetchall()]
        return {name: [str(row) for row in connection.execute(f'SELECT * FROM "{name}"')] for name in names}
