"""One definition of what is written, and the statements that each database makes of it.

A ``Write`` is one statement on one row, in SQL that both databases speak. SQLite has no way to the server to
save: there they are executed one by one. PostgreSQL gets all of them as one statement (data-modifying CTEs),
so that a whole movement of tokens is one round trip and holds its hottest rows for as short as it can.
Both check that each has changed exactly one row. Knows nothing of the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

MOST_AT_ONCE = 16
"""So many writes make one PostgreSQL statement; planning more at once costs more than another round trip."""


class Write(NamedTuple):
    """An INSERT, or an UPDATE that says which state of its row it expects; ``?`` is a value."""

    sql: str
    values: tuple[Any, ...]


class Query(NamedTuple):
    """One reading, as each database has it; ``?`` is SQLite's value, ``%s`` PostgreSQL's."""

    sqlite: str
    postgresql: str


def read(tx: Session, wanted: Query, values: tuple[Any, ...], more: tuple[Any, ...] = ()) -> Sequence[Any]:
    """The rows. ``more`` are values that PostgreSQL alone is given."""
    connection = tx.connection()
    if connection.dialect.name == "sqlite":
        return _execute(connection, wanted.sqlite, values).fetchall()  # type: ignore[no-any-return]
    return _execute(connection, wanted.postgresql, values + more).fetchall()  # type: ignore[no-any-return]


def write(tx: Session, writes: Sequence[Write]) -> None:
    """Execute all of them, each on one row; the order among them is not defined, no row is written twice.

    Where a row is not as expected, PostgreSQL is made to raise a serialization failure (40001), upon which
    ``Database.run`` tries the whole transaction again. On SQLite that cannot be, and is a RuntimeError.
    """
    connection = tx.connection()
    if connection.dialect.name == "sqlite":
        for sql, values in writes:
            if _execute(connection, sql, values).rowcount != 1:
                raise RuntimeError(f"a row was not as it was read: {sql}")
        return
    for start in range(0, len(writes), MOST_AT_ONCE):
        some = writes[start : start + MOST_AT_ONCE]
        sql = _as_one(tuple(each.sql for each in some))
        _execute(connection, sql, tuple(value for each in some for value in each.values))


def moment(tx: Session, at: datetime) -> datetime | str:
    """A time as raw statements of this database take it, the same as ``UtcDateTime`` stores."""
    if tx.get_bind().dialect.name != "sqlite":
        return at
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def from_database(value: datetime | str) -> datetime:
    """The other way round: aware, UTC."""
    return (datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value).astimezone(UTC)


def _execute(connection: Connection, sql: str, values: tuple[Any, ...]) -> Any:
    """By the driver's own cursor: SQLAlchemy's results cost as much as the statements. Its errors stay."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, values)
    except Exception as error:
        base = connection.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(
            sql, None, error, base, hide_parameters=True, dialect=connection.dialect
        ) from error
    return cursor


@cache
def _as_one(statements: tuple[str, ...]) -> str:
    """``WITH w0 AS (UPDATE … RETURNING 1), … SELECT`` whether each UPDATE found its row; an INSERT has to."""
    names = {f"w{number}": sql.replace("?", "%s") for number, sql in enumerate(statements)}
    updates = [name for name, sql in names.items() if sql.startswith("UPDATE")]
    parts = (f"{name} AS ({sql}{' RETURNING 1' if name in updates else ''})" for name, sql in names.items())
    seen = " AND ".join(f"EXISTS (SELECT FROM {name})" for name in updates) or "true"
    return f"WITH {', '.join(parts)} SELECT CASE WHEN {seen} THEN 0 ELSE refuse_stale() END"
