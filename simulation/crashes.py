"""Where a process dies: at any statement, before a commit, after a commit, or when all is done but not yet said.

Also the database's own troubles. Knows SQL statements by their number only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Literal

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models.db import Database

Where = Literal["statement", "before_commit", "after_commit", "after_effect", "database"]
PLACES: tuple[Where, ...] = ("statement", "before_commit", "after_commit", "after_effect", "database")


class Crash(BaseException):
    """The process is gone. No handler of an Exception sees it, as none would in a killed process."""


class Crashes:
    """Decides, step by step, whether the process that acts will live to its end."""

    def __init__(self, random: Random, rate: float) -> None:
        self._random = random
        self.rate = rate
        self._armed: Where | None = None
        self._countdown = 0
        self.count = dict.fromkeys(PLACES, 0)

    @contextmanager
    def during(self) -> Iterator[None]:
        """One act of one process, which may not survive it."""
        self._arm()
        try:
            yield
            if self._armed == "after_effect":
                self._die()
        finally:
            self._armed = None

    def statement(self, *_about: Any) -> None:
        """Called before each statement."""
        if self._armed is None or self._armed not in ("statement", "database"):
            return
        self._countdown -= 1
        if self._countdown < 0:
            self._die()

    def before_commit(self) -> None:
        """Called with everything done and nothing committed."""
        self._at_commit("before_commit")

    def after_commit(self) -> None:
        """Called when it is committed and nobody was told."""
        self._at_commit("after_commit")

    def _at_commit(self, where: Where) -> None:
        if self._armed == where:
            self._countdown -= 1
            if self._countdown < 0:
                self._die()

    def _arm(self) -> None:
        self._armed = None
        if self._random.random() >= self.rate:
            return
        self._armed = self._random.choice(PLACES)
        deep = self._armed in ("statement", "database")
        # Most transactions have between 5 and 40 statements, and most acts one transaction.
        self._countdown = self._random.randrange(40) if deep else self._random.choice((0, 0, 0, 1))

    def _die(self) -> None:
        where, self._armed = self._armed, None
        if where is None:
            raise RuntimeError("nobody was to die")
        self.count[where] += 1
        if where == "database":
            raise OperationalError("simulated", None, sqlite3.OperationalError("disk I/O error"))
        raise Crash(where)


class FragileDatabase(Database):
    """The real database, whose client may die in the middle."""

    def __init__(self, url: str, crashes: Crashes) -> None:
        super().__init__(url, pool_size=4)
        self._crashes = crashes
        self.commits = 0
        self.committed: Callable[[], None] = lambda: None
        """Called after each commit, before anybody else does anything."""
        event.listen(self.engine, "before_cursor_execute", crashes.statement)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """See Database."""
        with super().transaction() as tx:
            yield tx
            self._crashes.before_commit()
        self.commits += 1
        self.committed()
        self._crashes.after_commit()
