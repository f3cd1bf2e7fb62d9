"""The one way to the database: what commits, what rolls back, who waits, what is tried again."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.orm import Session

from models import db
from models.db import Database
from models.errors import Conflict
from models.plumbing import InboxRow, RateLimitRow

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def note(tx: Session, message_id: str) -> None:
    tx.add(InboxRow(message_id=message_id, received_at=NOW))


def notes(database: Database) -> set[str]:
    with database.reading() as tx:
        return set(tx.scalars(text("SELECT message_id FROM inbox")))


def test_run_commits_and_gives_the_result(database: Database) -> None:
    def work(tx: Session) -> str:
        note(tx, "msg_1")
        return "done"

    assert database.run(work) == "done"
    assert notes(database) == {"msg_1"}


def test_what_raises_is_rolled_back(database: Database) -> None:
    def work(tx: Session) -> None:
        note(tx, "msg_1")
        tx.flush()
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.run(work)
    assert notes(database) == set()


def test_a_session_that_was_interrupted_is_not_used_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's time limit comes at any instruction, such as while a session is being closed."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    def write_and_be_interrupted() -> None:
        with database.transaction() as tx:
            note(tx, "msg_1")
            monkeypatch.setattr(tx, "close", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted()
    database.run(lambda tx: note(tx, "msg_2"))
    assert notes(database) == {"msg_1", "msg_2"}


def test_reading_commits_nothing(database: Database) -> None:
    """PostgreSQL refuses the write; on SQLite it is rolled back."""
    with database.reading() as tx:
        note(tx, "msg_1")
        if database.is_sqlite:
            tx.flush()
        else:
            with pytest.raises(DBAPIError, match="read-only"):
                tx.flush()
    assert notes(database) == set()


def test_a_reader_sees_one_moment(database: Database) -> None:
    with database.reading() as tx:
        before = set(tx.scalars(text("SELECT message_id FROM inbox")))
        database.run(lambda other: note(other, "msg_1"))
        after = set(tx.scalars(text("SELECT message_id FROM inbox")))
    assert before == after == set()
    assert notes(database) == {"msg_1"}


def test_times_come_back_aware_and_exact(database: Database) -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    database.run(lambda tx: tx.add(RateLimitRow(key="k", window_started_at=tokyo, count=1)))
    with database.reading() as tx:
        found = tx.get_one(RateLimitRow, "k").window_started_at
    assert found == NOW
    assert found.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"):
        database.run(lambda tx: tx.add(InboxRow(message_id="m", received_at=datetime(2026, 1, 2))))


def test_writers_of_several_processes_wait_for_each_other(database: Database, database_url: str) -> None:
    """Each ``Database`` stands for a process: they share nothing but the file or the server.

    Every writer reads before it writes; a transaction that began as a reader would fail with "busy" here.
    """
    database.run(lambda tx: tx.add(RateLimitRow(key="k", window_started_at=NOW, count=0)))
    failures: list[BaseException] = []

    def increment(tx: Session) -> None:
        row = tx.get_one(RateLimitRow, "k", with_for_update=True)
        row.count += 1

    def process() -> None:
        own = Database(database_url)
        try:
            for _ in range(25):
                own.run(increment)
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as tx:
        assert tx.get_one(RateLimitRow, "k").count == 100


def test_a_deadlock_is_tried_again(database: Database) -> None:
    """Two transactions take two rows crosswise; on SQLite the second just waits for the first."""
    for key in ("a", "b"):
        database.run(lambda tx, key=key: tx.add(RateLimitRow(key=key, window_started_at=NOW, count=0)))  # type: ignore[misc]
    both_have_one = threading.Barrier(1 if database.is_sqlite else 2)
    tries: list[str] = []

    def crosswise(first: str, second: str) -> None:
        def work(tx: Session) -> None:
            tries.append(first)
            tx.get_one(RateLimitRow, first, with_for_update=True).count += 1
            tx.flush()
            if len(tries) <= 2:
                both_have_one.wait(timeout=60)
            tx.get_one(RateLimitRow, second, with_for_update=True).count += 1

        database.run(work)

    threads = [threading.Thread(target=crosswise, args=order) for order in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert {tx.get_one(RateLimitRow, key).count for key in ("a", "b")} == {2}
    assert len(tries) == 2 if database.is_sqlite else len(tries) >= 3


def test_a_database_that_stays_busy_is_the_databases_own_trouble(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tries again after an OperationalError tries again after this one."""
    monkeypatch.setattr(db, "BUSY_SECONDS", 0)
    one, other = Database(sqlite_url), Database(sqlite_url)
    try:
        with one.transaction() as tx:
            tx.connection()
            with pytest.raises(OperationalError, match="locked"):
                other.run(lambda tx: tx.connection())
        other.run(lambda tx: tx.connection())
    finally:
        one.close()
        other.close()


def test_sqlite_keeps_what_it_confirmed(sqlite_url: str, durable: None) -> None:
    database = Database(sqlite_url)
    with database.reading() as tx:
        pragmas = {
            name: tx.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15_000}
