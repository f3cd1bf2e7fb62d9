"""PostgreSQL databases for tests: empty each time, but made seldom.

Making and dropping a database, and the first statements on a new connection to it, which find none of the
server's caches filled, are more work than most tests. So a database is emptied and lent again, and its
connections stay open. Emptied: every table as in the template, every sequence at its beginning, in one
transaction without triggers. One that cannot be vouched for is dropped: a test left a connection to it, or
changed the schema. Deleted rows stay on their pages, so none is used for ever.

Knows the tables from the database itself.
"""

from __future__ import annotations

import itertools
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import pq, sql

from ops.postgres import PostgresServer

USES = 100
"""How often a database is lent: dead rows make it slower."""
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
SEQUENCES = "SELECT oid FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1"
SCHEMA = """
SELECT (SELECT md5(string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid)) FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind <> 'S'),
       (SELECT md5(string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid)) FROM pg_trigger),
       (SELECT md5(string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid)) FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace)
"""
OTHERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> ALL(%s)
"""

_numbers = itertools.count()
_idle: dict[str, list[KeptConnection]] = {}
"""By the name of their database, only of those that are lent again."""


class KeptConnection(psycopg.Connection[Any]):
    """A connection that waits, when its engine is closed, for the next engine on the same database."""

    def close(self) -> None:
        """Kept if it is as good as new."""
        idle = None if self.closed else _idle.get(self.info.dbname)
        if idle is None or self.pgconn.transaction_status != pq.TransactionStatus.IDLE or self in idle:
            self.really_close()
            return
        self.isolation_level = self.read_only = None
        idle.append(self)

    def really_close(self) -> None:
        super().close()


def connect(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> KeptConnection:
    """SQLAlchemy's ``do_connect``: one that waits, or a new one."""
    idle = _idle.get(options.get("dbname", ""), [])
    with suppress(IndexError):
        while True:
            connection = idle.pop()
            # The server may have ended it: then there is something to read.
            if not connection.closed and not select.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.really_close()
    return KeptConnection.connect(*arguments, **options)


class Databases:
    """The databases of one server, all copies of its ``template``."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._free: list[Lent] = []
        self._open: dict[str, Lent] = {}

    def lend(self) -> Lent:
        """An empty database, the caller's until it is given back."""
        if self._free:
            return self._free.pop()
        name = f"lent{next(_numbers)}"
        lent = self._open[name] = Lent(name, self._server.clone("template", name))
        _idle[name] = []
        return lent

    def give_back(self, lent: Lent) -> None:
        """Emptied, for the next; dropped if it is worn out or not as it was."""
        lent.uses += 1
        if lent.uses < USES and lent.empty():
            self._free.append(lent)
            return
        self._drop(lent)

    @contextmanager
    def lent(self) -> Iterator[Lent]:
        """An empty database for as long as the block goes."""
        lent = self.lend()
        try:
            yield lent
        finally:
            self.give_back(lent)

    def close(self) -> None:
        """Close what is open."""
        for lent in self._open.values():
            lent.close()

    def _drop(self, lent: Lent) -> None:
        self._open.pop(lent.name).close()
        self._server.drop(lent.name)


class Lent:
    """A database that is lent, and how it was when it was new."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url, self.uses = name, url, 0
        self._own = psycopg.connect(url, autocommit=True)
        self._tables = [row[0] for row in self._own.execute(TABLES)]
        self._sequences = [row[0] for row in self._own.execute(SEQUENCES)]
        self._schema = self._own.execute(SCHEMA).fetchone()
        one = "SELECT {0} WHERE EXISTS (SELECT FROM {1})"
        filled = [sql.SQL(one).format(sql.Literal(table), sql.Identifier(table)) for table in self._tables]
        self._filled = sql.SQL(" UNION ALL ").join(filled).as_string(self._own)
        self._first = {table: self._rows(table) for table in self._filled_tables()}

    def empty(self) -> bool:
        """Whether it is as it was made."""
        ours = [self._own.info.backend_pid, *(each.info.backend_pid for each in _idle[self.name])]
        with suppress(psycopg.Error):
            others = self._own.execute(OTHERS, (ours,), prepare=True).fetchone()
            if others != (0,) or self._own.execute(SCHEMA, prepare=True).fetchone() != self._schema:
                return False
            with self._own.transaction():
                self._own.execute("SET LOCAL session_replication_role = replica")
                written = [table for table in self._filled_tables() if self._rows_differ(table)]
                words = [f'DELETE FROM "{table}"' for table in written]
                words += [f"SELECT setval({oid}, 1, false)" for oid in self._sequences]
                self._own.execute("; ".join(words))
                for table in written:
                    self._put(table)
            return True
        return False

    def close(self) -> None:
        for connection in _idle.pop(self.name, []):
            connection.really_close()
        self._own.close()

    def _filled_tables(self) -> list[str]:
        return [row[0] for row in self._own.execute(self._filled, prepare=True)]

    def _rows(self, table: str) -> bytes:
        with self._own.cursor().copy(f'COPY "{table}" TO STDOUT') as rows:
            return b"".join(rows)

    def _rows_differ(self, table: str) -> bool:
        return table not in self._first or self._rows(table) != self._first[table]

    def _put(self, table: str) -> None:
        if table in self._first:
            with self._own.cursor().copy(f'COPY "{table}" FROM STDIN') as into:
                into.write(self._first[table])
