"""A battle's money in whatever order things come: after each step every token is where it should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena import Arena
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from stage import Stage

from models import ledger
from models.db import Database
from models.errors import DomainError
from models.services import battle_clock
from models.services.accounts import Person
from tests.effort import examples

TOKENS = 1_000


def machine(fresh: Callable[[], Database]) -> type[RuleBasedStateMachine]:
    """The machine on databases that ``fresh`` makes."""

    class BattleMachine(RuleBasedStateMachine):
        """One battle with up to four creators and three fans; anybody may do anything at any time."""

        @initialize(
            fee=st.sampled_from((0, 1, 50, 999)),
            percent=st.sampled_from((None, 50, 70, 100)),
            sides=st.integers(2, 3),
        )
        def opened(self, fee: int, percent: int | None, sides: int) -> None:
            self.stage = Stage(fresh())
            self.stage.node_ready()
            self.stage.heartbeat()
            self.arena = Arena(self.stage, sides=sides, tokens=TOKENS, entry_fee=fee, winner_percent=percent)
            self.guests = [self.stage.person("creator", tokens=TOKENS) for _ in range(2)]
            self.fans = [self.stage.fan(TOKENS) for _ in range(3)]
            self.presses = 0
            self.bad: set[str] = set()

        def creator(self, number: int) -> Person:
            everybody = [*self.arena.creators, *self.guests]
            return everybody[number % len(everybody)]

        def try_(self, wish: Callable[[], Any]) -> None:
            try:
                wish()
            except DomainError:
                return

        @rule(number=st.integers(0, 4))
        def enter(self, number: int) -> None:
            self.try_(lambda: self.arena.enter(self.creator(number)))

        @rule(number=st.integers(1, 4), host=st.integers(0, 9))
        def leave(self, number: int, host: int) -> None:
            self.try_(lambda: self.arena.leave(self.creator(number if host else 0)))

        @rule(all_come=st.booleans())
        def start(self, all_come: bool) -> None:
            self.try_(self.arena.start)
            if all_come:
                self.arena.comes(*self.arena.creators, *self.guests)

        # Most of what people do.
        @rule(tips=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(5, 200)), max_size=4))
        def tip(self, tips: list[tuple[int, int, int]]) -> None:
            for fan, side, amount in tips:
                self.presses += 1
                key, creator = str(self.presses), self.creator(side)
                for _ in range(1 + self.presses % 2):
                    self.try_(lambda: self.arena.tip(self.fans[fan], creator, amount, key))  # noqa: B023

        @rule(number=st.integers(0, 4))
        def come(self, number: int) -> None:
            self.arena.comes(self.creator(number))

        @rule(number=st.integers(0, 4))
        def go(self, number: int) -> None:
            self.arena.goes(self.creator(number))

        @rule(minutes=st.sampled_from((0, 1, 3, 10)))
        def time(self, minutes: int) -> None:
            self.stage.later(minutes=minutes)
            self.arena.clock()

        @rule(boot=st.integers(2, 9))
        def restart(self, boot: int) -> None:
            self.stage.node_ready(f"boot_{boot}")

        @rule(really=st.integers(0, 3))
        def end(self, really: int) -> None:
            if really == 0:
                self.try_(self.arena.end)

        @rule(fan=st.integers(0, 2))
        def freeze(self, fan: int) -> None:
            self.stage.run(lambda tx: battle_clock.spending_frozen(tx, self.fans[fan].user_id, self.stage.now))

        @rule(fan=st.integers(0, 2), good=st.booleans())
        def payment(self, fan: int, good: bool) -> None:
            lot = f"pur_{self.fans[fan].handle}"
            act = ledger.lot_good_again if good else ledger.mark_lot_bad
            self.stage.run(lambda tx: act(tx, lot, cause_id="test", now=self.stage.now))
            (self.bad.discard if good else self.bad.add)(self.fans[fan].user_id)

        @invariant()
        def every_token_is_somewhere(self) -> None:
            if not hasattr(self, "arena"):
                return
            self.stage.audit()
            view = self.arena.view
            over = view.status in ("ended", "cancelled")
            with self.stage.database.reading() as tx:
                assert (ledger.balance(tx, f"pot:{view.battle_id}") == 0) or not over
            if over and view.outcome == "returned" and not self.bad:
                everybody = [*self.arena.creators, *self.guests, *self.fans]
                assert [self.arena.wallet(person) for person in everybody] == [TOKENS] * len(everybody)
            if over and view.outcome != "returned":
                assert sum(side.share for side in view.sides) == view.pot

        def teardown(self) -> None:
            if hasattr(self, "stage"):
                self.stage.database.close()

    return BattleMachine


def test_no_order_of_things_loses_a_token(sqlite_template: Path, tmp_path: Path) -> None:
    numbers = iter(range(100_000))

    def fresh() -> Database:
        path = tmp_path / f"{next(numbers)}.db"
        path.write_bytes(Path(sqlite_template).read_bytes())
        return Database(f"sqlite:///{path}")

    run_state_machine_as_test(
        machine(fresh),
        settings=settings(
            max_examples=examples(60),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
