"""Wishes of the same instant: each in a thread of its own, all released together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection
from stage import Stage

from models.db import Database
from models.errors import DomainError
from tests.databases import Databases

SECONDS = 60


def together(*wishes: Callable[[], Any]) -> list[Any]:
    """What each returned, or the refusal it met, in their order; any other error is raised."""
    gate = threading.Barrier(len(wishes))
    results: list[Any] = [None] * len(wishes)
    broken: list[BaseException] = []

    def play(number: int, wish: Callable[[], Any]) -> None:
        gate.wait(SECONDS)
        try:
            results[number] = wish()
        except DomainError as refusal:
            results[number] = refusal
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=play, args=each) for each in enumerate(wishes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    if broken:
        raise broken[0]
    return results


def outcomes(*wishes: Callable[[], Any]) -> list[str]:
    """The same in words: ``done``, or the code of the refusal."""
    return [each.code if isinstance(each, DomainError) else "done" for each in together(*wishes)]


class Crossing(NamedTuple):
    """A transaction here, another in the pool, and who sees which of them waits."""

    stage: Stage
    pool: ThreadPoolExecutor
    watching: Connection


@contextmanager
def crossing(databases: Databases) -> Iterator[Crossing]:
    """On PostgreSQL, where rows are locked; with a media node."""
    with (
        databases.lent() as lent,
        closing(Database(lent.url)) as database,
        ThreadPoolExecutor(2) as pool,
        database.engine.connect() as watching,
    ):
        stage = Stage(database)
        stage.node_ready()
        stage.heartbeat()
        yield Crossing(stage, pool, watching)


def until_it_waits_or_is_done(watching: Connection, wish: Future[Any]) -> None:
    """By no clock: PostgreSQL says that somebody waits for a lock, or the wish has been heard."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while not wish.done() and not watching.scalar(waits):
        watching.rollback()
