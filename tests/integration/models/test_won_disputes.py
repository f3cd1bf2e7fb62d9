"""Sessions paid with gifts and money, disputed and won in any order: in the end as if nobody had disputed them.

Then every token that gifts have earned is promo's again, and every other one the creator's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from book import Book
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models import ledger, lots
from models.books import HoldRow
from models.db import Database
from models.errors import Conflict
from models.holds import gift_part, net_earnings
from tests.effort import examples

MakePerson = Callable[..., str]
_numbers = itertools.count()

LOTS = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=2, max_size=4)
"""Whether it is a gift, and its tokens: few, so that rounding shows."""
SESSIONS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from((0, 20, 20, 30, 50, 90))), min_size=1, max_size=2
)
"""What is charged, as far as there are tokens, and the commission's percentage."""
STEPS = st.lists(
    st.tuples(st.sampled_from(("bad", "good", "clear", "refund", "payout")), st.integers(0, 3), st.integers(1, 9)),
    max_size=7,
)


class Play:
    """One fan, one creator, and what happens between them and the bank."""

    def __init__(self, database: Database, now: datetime, make_person: MakePerson) -> None:
        self.book = Book(database, now)
        self.fan, self.creator = make_person("fan"), make_person("creator")
        self.bought: list[str] = []
        self.sessions: list[str] = []
        self.paid_out = 0

    def lot(self, gift: bool, tokens: int) -> None:
        key = f"lot:{next(_numbers)}"
        if not gift:
            self.bought.append(key)
            self.book.top_up(self.fan, tokens, key)
            return
        self.book.now += timedelta(seconds=1)
        self.book.database.run(
            lambda tx: ledger.gift(tx, self.fan, tokens, key=key, cause_id="test", now=self.book.now)
        )

    def session(self, charged: int, percent: int) -> None:
        amount = min(charged, self.book.balances(self.fan).get("wallet", 0))
        if amount == 0:
            return
        reference, commission = f"req_{next(_numbers)}", amount * percent // 100
        self.book.hold(self.fan, amount, reference, f"hold:{reference}")
        self.book.settle(self.creator, amount - commission, commission, reference, f"settle:{reference}")
        self.sessions.append(reference)

    def step(self, what: str, which: int, tokens: int) -> None:
        if what == "clear":
            self.book.clear(31)
        elif what == "payout":
            tokens = min(tokens, self.book.balances(self.creator).get("earnings", 0))
            if tokens:
                self.book.payout(self.creator, tokens, f"payout:{next(_numbers)}")
                self.paid_out += tokens
        elif what == "refund" and self.sessions:
            self._refund(self.sessions[which % len(self.sessions)], tokens)
        elif self.bought:
            lot = self.bought[which % len(self.bought)]
            (self.book.mark_bad if what == "bad" else self.book.good_again)(lot)
        self.book.check()

    def _refund(self, reference: str, tokens: int) -> None:
        # The creator may not have it any more, or less was paid.
        with suppress(Conflict):
            self.book.refund(tokens, reference, f"refund:{next(_numbers)}")

    def win_everything(self) -> None:
        for lot in self.bought:
            self.book.good_again(lot)
            self.book.check()
        for _ in range(2):
            self.book.clear(31)

    def holds(self) -> list[tuple[int, int, int, int]]:
        """Of each session: pending, what promo has, what it should have, and the creator's net."""
        with self.book.database.reading() as tx:
            rows = [tx.get_one(HoldRow, reference) for reference in self.sessions]
            return [
                (row.pending, row.promo, gift_part(row, lots.promo_spent(tx, row.reference)), net_earnings(row))
                for row in rows
            ]


@pytest.mark.timeout(300)
@hypothesis_settings(max_examples=examples(40), suppress_health_check=list(HealthCheck))
@given(tokens=LOTS, sessions=SESSIONS, steps=STEPS)
# Both were found by this test's forerunner: a win that could not be written, and a token that promo never got.
@example(
    tokens=[(True, 7), (False, 1), (False, 6)],
    sessions=[(4, 0), (10, 90)],
    steps=[("clear", 0, 1), ("bad", 0, 1), ("bad", 1, 1)],
)
@example(
    tokens=[(True, 7), (False, 8), (True, 1), (False, 7)],
    sessions=[(3, 0), (8, 25)],
    steps=[("clear", 0, 1), ("bad", 0, 1), ("refund", 1, 2), ("bad", 1, 1)],
)
def test_won_disputes_leave_no_trace(
    database: Database,
    now: datetime,
    make_person: MakePerson,
    tokens: list[tuple[bool, int]],
    sessions: list[tuple[int, int]],
    steps: list[tuple[str, int, int]],
) -> None:
    # given
    play = Play(database, now, make_person)
    for lot in tokens:
        play.lot(*lot)
    for session in sessions:
        play.session(*session)
    # when
    for step in steps:
        play.step(*step)
    play.win_everything()
    # then
    holds = play.holds()
    assert [(pending, promo) for pending, promo, _, _ in holds] == [(0, gifts) for _, _, gifts, _ in holds]
    found = play.book.balances(play.creator)
    assert "debt" not in found
    earned = sum(net - promo for _, promo, _, net in holds)
    assert found.get("earnings", 0) + play.paid_out == earned
    play.book.check()
