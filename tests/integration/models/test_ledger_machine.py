"""The ledger against a model of a few lines: movements in any order, all invariants after each step.

The model knows what each wallet, hold and creator should have; the books' own audit knows the rest.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from models import ledger
from models.audit import books_problems
from models.db import Database
from models.errors import Conflict, PaymentRequired
from models.services import accounts

_numbers = itertools.count()
AMOUNTS = st.integers(min_value=1, max_value=1_500)
SHARES = st.integers(min_value=0, max_value=100)


class LedgerMachine(RuleBasedStateMachine):
    """Two fans who buy, hold and are charged, two creators who earn, and purchases that turn out bad."""

    purchases = Bundle("purchases")
    holds = Bundle("holds")
    settlements = Bundle("settlements")

    def __init__(self, new_database: Callable[[], Database], now: datetime) -> None:
        super().__init__()
        self.database, self.now = new_database(), now
        self.fans = [self._person("fan"), self._person("fan")]
        self.creators = [self._person("creator"), self._person("creator")]
        self.wallet = dict.fromkeys(self.fans, 0)
        self.held: dict[str, int] = {}
        self.owner: dict[str, str] = {}
        self.pending = dict.fromkeys(self.creators, 0)
        self.settled: dict[str, tuple[str, str, int, int, int]] = {}
        # Once a purchase of a fan is bad, what comes back where is the audit's to say.
        self.clean = True

    @rule(target=purchases, fan=st.integers(0, 1), tokens=AMOUNTS, twice=st.booleans())
    def top_up(self, fan: int, tokens: int, twice: bool) -> str:
        purchase_id, owner = f"pur_{next(_numbers)}", self.fans[fan]
        for _ in range(1 + twice):
            self.database.run(
                lambda tx: ledger.top_up(
                    tx,
                    purchase_id=purchase_id,
                    user_id=owner,
                    tokens=tokens,
                    gateway="sandbox",
                    cause_id="test",
                    now=self.now,
                )
            )
        self.wallet[owner] += tokens
        return purchase_id

    @rule(target=holds, fan=st.integers(0, 1), amount=AMOUNTS, twice=st.booleans())
    def hold(self, fan: int, amount: int, twice: bool) -> object:
        reference = f"req_{next(_numbers)}"
        if not self._hold(self.fans[fan], amount, reference, twice):
            return multiple()
        self.owner[reference] = self.fans[fan]
        self.held[reference] = amount
        return reference

    @rule(reference=holds, amount=AMOUNTS, twice=st.booleans())
    def hold_more(self, reference: str, amount: int, twice: bool) -> None:
        if self.held[reference] == 0:
            with pytest.raises((Conflict, PaymentRequired)):
                self._post_hold(self.owner[reference], amount, reference, f"more-{next(_numbers)}")
            return
        if self._hold(self.owner[reference], amount, reference, twice):
            self.held[reference] += amount

    @rule(reference=holds, share=SHARES, twice=st.booleans())
    def release(self, reference: str, share: int, twice: bool) -> None:
        amount, key = self.held[reference] * share // 100 or None, f"release-{next(_numbers)}"

        def once() -> None:
            self.database.run(
                lambda tx: ledger.release(tx, reference, key=key, cause_id="test", now=self.now, amount=amount)
            )

        if self.held[reference] == 0:
            with pytest.raises(Conflict):
                once()
            return
        for _ in range(1 + twice):
            once()
        released = self.held[reference] if amount is None else amount
        self.held[reference] -= released
        self.wallet[self.owner[reference]] += released

    @rule(
        target=settlements,
        reference=holds,
        creator=st.integers(0, 1),
        paid=SHARES,
        fee=SHARES,
        twice=st.booleans(),
    )
    def settle(self, reference: str, creator: int, paid: int, fee: int, twice: bool) -> object:
        held, payee, key = self.held[reference], self.creators[creator], f"settle-{next(_numbers)}"
        charged = held * paid // 100
        commission = charged * fee // 100

        def once() -> ledger.Transfer:
            return self.database.run(
                lambda tx: ledger.settle(
                    tx,
                    reference,
                    creator_id=payee,
                    earnings=charged - commission,
                    commission=commission,
                    key=key,
                    cause_id="test",
                    now=self.now,
                )
            )

        if held == 0:
            with pytest.raises(Conflict):
                once()
            return multiple()
        transfer = once()
        if twice:
            assert once() == transfer
        self.held[reference] = 0
        self.wallet[self.owner[reference]] += held - charged
        self.pending[payee] += charged - commission
        self.settled[transfer.transfer_id] = (reference, payee, charged - commission, commission, 0)
        return transfer.transfer_id

    @rule(transfer_id=settlements, twice=st.booleans())
    def refund(self, transfer_id: str, twice: bool) -> None:
        reference, payee, earnings, commission, refunds = self.settled[transfer_id]
        for _ in range(1 + twice):
            try:
                self.database.run(
                    lambda tx: ledger.refund(
                        tx, reference, None, key=f"refund-{reference}", cause_id="test", now=self.now
                    )
                )
            except Conflict:
                assert not self.clean or earnings + commission == 0
                return
        if refunds == 0:
            self.wallet[self.owner[reference]] += earnings + commission
            self.pending[payee] -= earnings
        self.settled[transfer_id] = (reference, payee, earnings, commission, 1)

    @rule(purchase_id=purchases, twice=st.booleans())
    def turn_bad(self, purchase_id: str, twice: bool) -> None:
        for again in range(1 + twice):
            taken = self.database.run(
                lambda tx: ledger.mark_lot_bad(tx, purchase_id, cause_id="test", now=self.now)
            )
            assert not (again and taken)
        self.clean = False

    @invariant()
    def the_books_are_right(self) -> None:
        with self.database.reading() as tx:
            assert books_problems(tx) == ()

    @invariant()
    def the_model_agrees(self) -> None:
        with self.database.reading() as tx:
            for fan in self.fans:
                found = ledger.balances(tx, fan)
                held = sum(tokens for reference, tokens in self.held.items() if self.owner[reference] == fan)
                assert found["held"] == held
                if self.clean:
                    assert found["wallet"] == self.wallet[fan]
            for creator in self.creators if self.clean else ():
                assert ledger.balances(tx, creator)["earnings_pending"] == self.pending[creator]

    def _hold(self, fan: str, amount: int, reference: str, twice: bool) -> bool:
        key = f"hold-{next(_numbers)}"
        with self.database.reading() as tx:
            available = ledger.balances(tx, fan)["wallet"]
        if amount > available:
            with pytest.raises(PaymentRequired):
                self._post_hold(fan, amount, reference, key)
            return False
        for _ in range(1 + twice):
            self._post_hold(fan, amount, reference, key)
        self.wallet[fan] -= amount
        return True

    def _person(self, role: str) -> str:
        name = f"{role}_{next(_numbers)}"
        return self.database.run(
            lambda tx: accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",
                roles=(role,),
                now=self.now,
            )
        ).user_id

    def _post_hold(self, fan: str, amount: int, reference: str, key: str) -> None:
        self.database.run(
            lambda tx: ledger.hold(tx, fan, amount, key=key, reference=reference, cause_id="test", now=self.now)
        )


@pytest.fixture
def new_database(
    database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Database]]:
    """Makes an empty database; so that examples do not see each other's tokens and can be replayed alone."""
    made: list[tuple[Database, str]] = []

    def drop_last() -> None:
        while made:
            database, name = made.pop()
            database.close()
            if not database.is_sqlite:
                request.getfixturevalue("postgres").drop(name)

    def make() -> Database:
        drop_last()
        name = f"ledger{next(_numbers)}"
        if database_url.startswith("sqlite"):
            shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / name)
            made.append((Database(f"sqlite:///{tmp_path / name}"), name))
        else:
            made.append((Database(request.getfixturevalue("postgres").clone("template", name)), name))
        return made[-1][0]

    yield make
    drop_last()


def _run(new_database: Callable[[], Database], now: datetime, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: LedgerMachine(new_database, now),
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )


def test_any_order_of_movements_keeps_the_books(new_database: Callable[[], Database], now: datetime) -> None:
    _run(new_database, now, examples=15, steps=25)


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_very_many_orders_of_movements_keep_the_books(new_database: Callable[[], Database], now: datetime) -> None:
    _run(new_database, now, examples=150, steps=50)
