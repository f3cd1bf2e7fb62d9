"""Periodic work on both databases: each due time is used once, by whichever clock comes first."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from stage import Stage

from models import inbox, outbox
from models.db import Database
from models.plumbing import InboxRow, OutboxRow
from models.services import streams
from models.timing import timers_for
from workers.deadlines import UNHURRIED, Check, Deadlines, checks_for
from workers.jobs import KEEP_INBOX, KEEP_PUBLISHED, Job, housekeeping, poll_payments, run_due

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_job_runs_once_per_period(database: Database) -> None:
    # given
    ran: list[datetime] = []
    jobs = (Job("count", 1_000, lambda _tx, now: ran.append(now)),)
    # when
    for tenths in range(0, 25, 5):
        run_due(database, jobs, NOW + tenths * SECOND / 10)
    # then
    assert ran == [NOW, NOW + SECOND, NOW + 2 * SECOND]


def test_a_job_that_fell_behind_runs_once(database: Database) -> None:
    jobs = (Job("count", 1_000, lambda _tx, _now: None),)
    assert run_due(database, jobs, NOW) == 1
    assert run_due(database, jobs, NOW + 3600 * SECOND) == 1
    assert run_due(database, jobs, NOW + 3600 * SECOND) == 0


def test_many_clocks_share_one_due_time(database: Database) -> None:
    # given
    ran: list[int] = []
    jobs = (Job("count", 60_000, lambda _tx, _now: ran.append(1)),)
    gate = threading.Barrier(6)

    def clock() -> None:
        gate.wait(10)
        run_due(database, jobs, NOW)

    threads = [threading.Thread(target=clock) for _ in range(6)]
    # when
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # then
    assert ran == [1]


def test_a_job_that_fails_is_due_again(database: Database) -> None:
    # given
    def fail(_tx: Session, _now: datetime) -> None:
        raise ZeroDivisionError("a defect")

    ran: list[int] = []
    # when
    with pytest.raises(ZeroDivisionError):
        run_due(database, (Job("count", 60_000, fail),), NOW)
    # then
    assert run_due(database, (Job("count", 60_000, lambda _tx, _now: ran.append(1)),), NOW) == 1


def test_each_running_session_is_polled(database: Database) -> None:
    # given
    stage = Stage(database)
    stage.node_ready()
    running, other, ended = stage.running(), stage.connecting(), stage.running()
    stage.end(ended.session_id, ended.fan)
    # when
    database.run(lambda tx: poll_payments(tx, stage.now))
    # then
    polled = {body for _, actor, body in stage.actors() if actor == "poll_session_payments"}
    assert polled == {f'["{running.session_id}"]', f'["{other.session_id}"]'}


def test_housekeeping_forgets_what_is_old_and_nothing_else(database: Database) -> None:
    # given
    def fill(tx: Session) -> None:
        inbox.first_time(tx, "old", NOW - KEEP_INBOX - SECOND)
        inbox.first_time(tx, "young", NOW - KEEP_INBOX + SECOND)
        for name in ("delivered", "fresh", "waiting"):
            outbox.actor(tx, "rules", name, cause_id="test", now=NOW - 2 * KEEP_PUBLISHED)
        for row in tx.scalars(select(OutboxRow)):
            ages = {"delivered": KEEP_PUBLISHED + SECOND, "fresh": KEEP_PUBLISHED - SECOND}
            row.published_at = NOW - ages[row.actor] if row.actor in ages else None

    database.run(fill)
    # when
    database.run(lambda tx: housekeeping(tx, NOW))
    # then
    with database.reading() as tx:
        assert set(tx.scalars(select(InboxRow.message_id))) == {"young"}
        assert set(tx.scalars(select(OutboxRow.actor))) == {"fresh", "waiting"}


def test_the_clock_ends_a_stream_whose_creator_is_gone(database: Database) -> None:
    # given
    stage = Stage(database)
    stage.node_ready()
    creator, _ = stage.live()
    deadlines = Deadlines(database, timers_for(60_000), jobs=(), now=lambda: stage.now)
    # when
    deadlines.step()
    still = stage.run(lambda tx: streams.stream_of(tx, creator.user_id))
    stage.later(seconds=60)
    # A clock that was restarted meanwhile knows as much.
    Deadlines(database, timers_for(60_000), jobs=(), now=lambda: stage.now).step()
    # then
    assert still is not None
    assert stage.run(lambda tx: streams.stream_of(tx, creator.user_id)) is None


def test_what_has_time_is_looked_at_once_a_second_whatever_becomes_of_the_clock(db: Database) -> None:
    # given
    now, looked = NOW, Counter[str]()
    words = [word for word, _ in checks_for(timers_for(60_000))]
    assert set(words) > UNHURRIED

    def look(word: str) -> Check:
        return lambda tx, at: looked.update([word]) or 0

    deadlines = Deadlines(
        db, timers_for(60_000), checks=[(word, look(word)) for word in words], jobs=(), now=lambda: now
    )
    # when: two seconds of rounds, and then the clock is set back
    for _ in range(8):
        deadlines.step()
        now += timedelta(seconds=0.25)
    assert looked == {word: 2 if word in UNHURRIED else 8 for word in words}
    now -= timedelta(days=1)
    deadlines.step()
    # then
    assert looked == {word: 3 if word in UNHURRIED else 9 for word in words}
