"""The one way to the database: an engine, ``run`` (the only commit) and ``reading``.

Knows SQLite's and PostgreSQL's manners, so that nobody else has to. Knows nothing of the tables.

SQLite: WAL, ``BEGIN IMMEDIATE`` for whatever may write (a deferred BEGIN that turns into a write fails with
"busy" instead of waiting), a busy timeout of 15 s, ``synchronous=FULL`` because this is money.
PostgreSQL: READ COMMITTED for writes, with compare-and-set statements; a deadlock (40P01) or a
serialization failure (40001) is tried again. Reads see one snapshot on both.
"""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg.types.numeric import Int8Dumper
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    create_engine,
    event,
    func,
)
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from models.errors import Unavailable

T = TypeVar("T")

BUSY_SECONDS = 15
TRIES = 8
# Deadlock and serialization failure: PostgreSQL asks for another try of the whole transaction.
TRANSIENT = frozenset({"40P01", "40001"})

BigSerial = BigInteger().with_variant(Integer, "sqlite")
"""A growing number; SQLite has those for INTEGER alone."""


class Base(DeclarativeBase):
    """Base of all tables; named constraints, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out, on SQLite too. A naive time is a mistake and raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses naive times; SQLite stores UTC without its zone, which keeps text order equal to time order."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time cannot be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def one_of(column: str, words: tuple[str, ...], name: str | None = None) -> CheckConstraint:
    """A CHECK that ``column`` is one of ``words``, or NULL where the column allows that."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name or column)


def sqlalchemy_url(url: str) -> str:
    """``postgresql:`` means psycopg 3 here."""
    return url.replace("postgresql:", "postgresql+psycopg:", 1) if url.startswith("postgresql:") else url


def insert_into(tx: Session, table: type[Base]) -> PostgresInsert | SqliteInsert:
    """An INSERT that can say ON CONFLICT, in the dialect of ``tx``."""
    return postgres_insert(table) if tx.get_bind().dialect.name == "postgresql" else sqlite_insert(table)


def utc_day(tx: Session, moment: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """The day (UTC) of a stored time as ``YYYY-MM-DD``, in the dialect of ``tx``."""
    if tx.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD")
    return func.date(moment)


class Database:
    """One database. Make it after a fork, close it at the end of the process."""

    def __init__(self, url: str, *, pool_size: int = 10, max_overflow: int = 30) -> None:
        self.engine = _engine(sqlalchemy_url(url), pool_size, max_overflow)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._readers = sessionmaker(_read_only(self.engine), expire_on_commit=False)
        self._idle = threading.local()
        # SQLite has one writer at a time. Threads of one process queue here, where waiting is fair and
        # cheap, rather than in the busy handler, which polls and lets late comers overtake.
        self._writer: threading.Lock | None = threading.Lock() if self.is_sqlite else None

    def run(self, fn: Callable[[Session], T]) -> T:
        """``fn`` in one write transaction, committed; whatever it raises rolls back and is raised.

        On PostgreSQL ``fn`` may be called again after a deadlock: it must have no effect outside ``tx``.
        """
        for attempt in range(1, TRIES + 1):
            try:
                with self.transaction() as tx:
                    return fn(tx)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in TRANSIENT or attempt == TRIES:
                    raise
                # Apart from each other, or the same transactions meet again.
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
        raise AssertionError("unreachable")

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One write transaction; commits at the end of the block, rolls back on an exception. No retry."""
        if self._writer is not None and not self._writer.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("The database is busy.")
        # A thread's next transaction takes the session that the last one left empty: a quarter of what a
        # transaction costs before its first statement. One within another gets its own.
        session: Session = self._idle.__dict__.pop("session", None) or self._sessions()
        try:
            with session as tx, tx.begin():
                yield tx
            # Not one that ended otherwise: who knows in which state it is.
            self._idle.session = session
        finally:
            if self._writer is not None:
                self._writer.release()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One snapshot to read from; nothing is committed. What was read stays readable after it."""
        with self._readers() as tx:
            yield tx

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str, pool_size: int, max_overflow: int) -> Engine:
    # hide_parameters: errors end up in the log, e-mails and token hashes must not.
    if not url.startswith("sqlite"):
        engine = create_engine(url, pool_size=pool_size, max_overflow=max_overflow, hide_parameters=True)
        event.listen(engine, "connect", _wide_integers)
        event.listen(engine, "checkout", _still_there)
        return engine
    # isolation_level None: the sqlite3 module stops issuing BEGIN by itself.
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _sqlite_pragmas)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _wide_integers(connection: Any, _record: Any) -> None:
    """Integers are bigint. The driver would type each by its size, and prepare a statement for each mixture."""
    connection.adapters.register_dumper(int, Int8Dumper)


def _still_there(connection: Any, _record: Any, _proxy: Any) -> None:
    """A connection that the server has ended is replaced before its use.

    Its socket says so: an idle one has nothing to read. A ping would be three more round trips for each
    transaction, as much as a payment takes.
    """
    poll = select.poll()
    if connection.closed:
        raise DisconnectionError("this connection is closed")
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("the server ended this connection")


def _read_only(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(read_only=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        # First, so that switching to WAL waits for its turn.
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("read_only", False)
    begin = "BEGIN" if reads else "BEGIN IMMEDIATE"
    # By the driver's own cursor: SQLAlchemy around it costs ten times as much. Its errors stay.
    try:
        connection.connection.cursor().execute(begin)
    except Exception as error:
        base = connection.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(begin, None, error, base, dialect=connection.dialect) from error
