"""What was written since the last look: triggers of our own note every row that a transaction touches.

A second pair of eyes with a connection of its own and plain SQL, so that no code of the house stands between
the rows and who judges them. Works on both databases; knows no rule.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import MetaData, text
from sqlalchemy.engine import Engine

WATCHED: dict[str, tuple[tuple[str, str], ...]] = {
    "transfers": (("transfer", "id"),),
    "accounts": (("account", "id"),),
    "holds": (("hold", "reference"),),
    "token_lots": (("lot", "id"),),
    "lot_uses": (("hold", "reference"), ("lot", "lot_id")),
    "private_stream_requests": (("request", "id"),),
    "private_stream_sessions": (("session", "id"),),
    "bookings": (("booking", "id"),),
    "subscriptions": (("subscription", "id"),),
    "purchase_refunds": (("refund", "id"),),
    "battles": (("battle", "id"),),
    "battle_sides": (("battle", "battle_id"),),
    "battle_tips": (("battle", "battle_id"),),
    "passes": (("pass", "id"),),
    "recordings": (("recording", "id"),),
    "blocks": (("blocked", "fan_id"),),
}
"""Table → what is noted about its rows: a word and the column that names it."""
OURS = "simulation_touched"
BALANCES = ("accounts", "account_slots")


def watch(engine: Engine) -> None:
    """Create the note-book and the triggers that fill it."""
    sqlite = engine.dialect.name == "sqlite"
    serial = "INTEGER PRIMARY KEY" if sqlite else "BIGSERIAL PRIMARY KEY"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {OURS} (n {serial}, word TEXT, id TEXT)"))
        for table, notes in WATCHED.items():
            for word, column in notes:
                for statement in _triggers(table, word, column, sqlite):
                    connection.execute(text(statement))


def _triggers(table: str, word: str, column: str, sqlite: bool) -> tuple[str, ...]:
    name = f"simulation_{table}_{word}"
    note = f"INSERT INTO {OURS} (word, id) VALUES ('{word}', NEW.{column});"
    if sqlite:
        return tuple(
            f"CREATE TRIGGER {name}_{verb.lower()} AFTER {verb} ON {table} BEGIN {note} END"
            for verb in ("INSERT", "UPDATE")
        )
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {note} RETURN NULL; END $$",
        (f"CREATE TRIGGER {name} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"),
    )


class Eye:
    """Reads what is committed."""

    def __init__(self, url: str) -> None:
        self.sqlite = url.startswith("sqlite:///")
        self._connection: Any
        if self.sqlite:
            self._connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=15)
        else:
            address = url.replace("postgresql+psycopg:", "postgresql:", 1)
            self._connection = psycopg.connect(address, autocommit=True)
        self._last = 0

    def close(self) -> None:
        """Look away."""
        self._connection.close()

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query with ``?`` for each parameter."""
        if not self.sqlite:
            query = query.replace("%", "%%").replace("?", "%s")
        return self._connection.execute(query, tuple(parameters)).fetchall()  # type: ignore[no-any-return]

    def among(self, query: str, ids: Iterable[str]) -> list[tuple[Any, ...]]:
        """The same for ``… IN (?*)`` and any number of ids."""
        wanted = sorted(ids)
        if not wanted:
            return []
        return self.rows(query.replace("?*", ",".join("?" * len(wanted))), wanted)

    def touched(self) -> dict[str, set[str]]:
        """What was written since the last call: word → ids."""
        found = self.rows(f"SELECT n, word, id FROM {OURS} WHERE n > ? ORDER BY n", (self._last,))
        words: dict[str, set[str]] = {}
        for number, word, id_ in found:
            words.setdefault(word, set()).add(id_)
            self._last = number
        return words

    def columns(self, table: str, names: Sequence[str], ids: Iterable[str]) -> list[dict[str, Any]]:
        """Some columns of some rows, by id."""
        found = self.among(f"SELECT {', '.join(names)} FROM {table} WHERE id IN (?*)", ids)
        return [dict(zip(names, row, strict=True)) for row in found]

    def moment(self, at: datetime) -> Any:
        """A time as the rows of this database have it."""
        return at.replace(tzinfo=None).isoformat(" ", "microseconds") if self.sqlite else at

    def state_hash(self, metadata: MetaData) -> str:
        """SHA-256 over all rows of all tables, in the order of their keys."""
        digest = hashlib.sha256()
        for table in sorted(metadata.tables.values(), key=lambda table: table.name):
            if table.name in BALANCES:
                continue
            names = sorted(column.name for column in table.columns)
            keys = ", ".join(column.name for column in table.primary_key.columns) or "1"
            digest.update(f"{table.name} {names}\n".encode())
            for row in self.rows(f"SELECT {', '.join(names)} FROM {table.name} ORDER BY {keys}"):
                digest.update(repr([_plain(value) for value in row]).encode())
        # In which slot of an account PostgreSQL keeps a part of it depends on the number of a process.
        for row in self.rows("SELECT id, balance FROM balances ORDER BY id"):
            digest.update(repr(list(row)).encode())
        return digest.hexdigest()


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value
