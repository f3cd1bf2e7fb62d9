"""Whatever people, media and the clock do, in whatever order: after each step the books are right.

A state machine that hypothesis plays. Refusals are fine, anything else that is raised is not.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import event, select, text
from stage import MINUTE, Stage

from models import ledger
from models.db import Database
from models.errors import DomainError
from models.messages import events
from models.requests import OPEN, RequestRow
from models.services import payments, private_streams, receipts, sessions, streams, termination
from models.services.accounts import Caller, Person
from models.sessions import SessionRow
from tests.effort import examples

INTEGRATOR = Caller(person=None, integrator_id="int_1", scopes=frozenset(), sign_in_id="int_1")
picks = st.integers(0, 1_000)
figures = st.integers(0, 12 * MINUTE)


class Lifecycle(RuleBasedStateMachine):
    """Two creators, three fans, one node; every wish and every fact may come at any time."""

    def __init__(self, template: Path, directory: Path) -> None:
        super().__init__()
        path = directory / "lifecycle.db"
        for old in directory.glob("lifecycle.db*"):
            old.unlink()
        shutil.copy(template, path)
        database = Database(f"sqlite:///{path}")
        # A test's file need not survive a power cut; without the waiting it plays ten times as much.
        event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA synchronous=OFF"))
        self.stage = Stage(database)
        self.stage.node_ready()
        self.creators = [self.stage.creator() for _ in range(2)]
        self.fans = [self.stage.fan(1_700) for _ in range(3)]
        for fan in self.fans:
            self.stage.run(lambda tx, fan=fan: self.stage._buy(tx, fan.user_id, 2_900, f"pur_more_{fan.handle}"))
        for creator in self.creators:
            self.stage.go_live(creator)
        self.said: list[events.AnyEvent] = []
        self.receipts: dict[str, receipts.Receipt] = {}
        self.delivered: dict[str, int] = {}
        self.boots = 1
        self.sequence = 1

    def teardown(self) -> None:
        self.stage.database.close()

    # --- reaching things ----------------------------------------------------------------------------

    def wish(self, fn: Callable[[Any], Any]) -> None:
        with contextlib.suppress(DomainError):
            self.stage.run(fn)

    def now(self) -> datetime:
        return self.stage.now

    def ids(self, table: type[RequestRow] | type[SessionRow]) -> list[str]:
        with self.stage.database.reading() as tx:
            return list(tx.scalars(select(table.id).order_by(table.id)))

    def request(self, pick: int) -> tuple[str, str, str]:
        with self.stage.database.reading() as tx:
            rows = tx.execute(
                select(RequestRow.id, RequestRow.fan_id, RequestRow.creator_id).order_by(
                    RequestRow.created_at.desc(), RequestRow.id
                )
            ).all()
        row = rows[pick % min(4, len(rows))]
        return row[0], row[1], row[2]

    def session(self, pick: int) -> SessionRow:
        with self.stage.database.reading() as tx:
            rows = list(tx.scalars(select(SessionRow).order_by(SessionRow.start_time.desc(), SessionRow.id)))
            tx.expunge_all()
        return rows[pick % min(3, len(rows))]

    def stream(self, creator: Person) -> streams.StreamView | None:
        with self.stage.database.reading() as tx:
            return streams.stream_of(tx, creator.user_id)

    def any_request(self) -> bool:
        return bool(self.ids(RequestRow))

    def any_session(self) -> bool:
        return bool(self.ids(SessionRow))

    def say(self, kind: type[events.Event], **fields: Any) -> None:
        self.said.append(self.stage.event(kind, **fields))

    # --- people -------------------------------------------------------------------------------------

    def on_air(self, creator: Person) -> streams.StreamView:
        stream = self.stream(creator)
        if stream is None:
            return self.stage.go_live(creator)
        return self.stage.resume(stream, creator) if stream.status == "private" else stream

    @rule(fan=picks, creator=picks, minutes=st.integers(0, 8))
    def ask(self, fan: int, creator: int, minutes: int) -> None:
        with contextlib.suppress(DomainError):
            stream = self.on_air(self.creators[creator % 2])
            self.stage.ask(self.fans[fan % 3], stream, minutes)

    @rule(fan=picks, creator=picks, minutes=st.integers(1, 8), running=st.booleans())
    def begin(self, fan: int, creator: int, minutes: int, running: bool) -> None:
        """All goes well for once: asked, accepted, opened, and perhaps delivered."""
        person = self.creators[creator % 2]
        with contextlib.suppress(DomainError):
            asked = self.stage.ask(self.fans[fan % 3], self.on_air(person), minutes)
            session_id = self.stage.accept(asked.request_id, person).session_id
            self.stage.opened(session_id)
            if running:
                self.sequence += 1
                self.stage.delivered(session_id, self.sequence, 0)

    @precondition(any_request)
    @rule(pick=picks)
    def accept(self, pick: int) -> None:
        request_id, _, creator_id = self.request(pick)
        self.stage.heartbeat()
        self.wish(lambda tx: private_streams.accept(tx, request_id, creator_id=creator_id, now=self.now()))

    @precondition(any_request)
    @rule(pick=picks, how=st.sampled_from(["cancel", "decline", "rule"]))
    def answer(self, pick: int, how: str) -> None:
        request_id, fan_id, creator_id = self.request(pick)
        answers: dict[str, Callable[[Any], Any]] = {
            "cancel": lambda tx: private_streams.cancel(tx, request_id, fan_id=fan_id, now=self.now()),
            "decline": lambda tx: private_streams.decline(tx, request_id, creator_id=creator_id, now=self.now()),
            "rule": lambda tx: private_streams.apply_rule(tx, request_id, self.now()),
        }
        self.wish(answers[how])

    @precondition(any_session)
    @rule(pick=picks, by_fan=st.booleans())
    def end(self, pick: int, by_fan: bool) -> None:
        row = self.session(pick)
        person_id = row.fan_id if by_fan else row.creator_id
        self.wish(lambda tx: sessions.end(tx, row.id, by_person_id=person_id, now=self.now()))

    @precondition(any_session)
    @rule(pick=picks)
    def cut(self, pick: int) -> None:
        row = self.session(pick)
        self.wish(
            lambda tx: termination.terminate(
                tx,
                room_id=row.room_id,
                user_id=row.fan_id,
                reason="PAYMENT_FAILED",
                label_by=INTEGRATOR,
                now=self.now(),
            )
        )

    @rule(creator=picks, what=st.sampled_from(["end", "resume", "live"]))
    def stream_changes(self, creator: int, what: str) -> None:
        person = self.creators[creator % 2]
        stream = self.stream(person)
        if what == "live":
            self.wish(lambda tx: streams.go_live(tx, person, title="Again", now=self.now()))
        elif stream is not None:
            act = streams.end_stream if what == "end" else streams.resume_public
            self.wish(lambda tx: act(tx, stream.stream_id, person, self.now()))

    @precondition(lambda self: self.receipts)
    @rule(fan=picks, lot=st.sampled_from(["pur_{}", "pur_more_{}"]), pick=picks)
    def payment_turns_bad(self, fan: int, lot: str, pick: int) -> None:
        person = self.fans[fan % 3]
        name = lot.format(person.handle)
        self.wish(lambda tx: payments.ledger.mark_lot_bad(tx, name, cause_id="test", now=self.now()))
        if self.any_session():
            self.wish(lambda tx: termination.payment_failed(tx, self.session(pick).id, self.now()))

    # --- time ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 15, 31, 61, 121, 900]))
    def time_passes(self, seconds: int) -> None:
        self.stage.later(seconds=seconds)
        for check in (private_streams.expire_due, sessions.open_overdue, sessions.settle_overdue):
            self.stage.run(lambda tx, check=check: check(tx, self.now()))

    # --- media --------------------------------------------------------------------------------------

    @precondition(any_session)
    @rule(pick=picks, some=st.booleans())
    def room_opened(self, pick: int, some: bool) -> None:
        row = self.session(pick)
        paid_ms = row.paid_ms if some else 0
        self.say(events.RoomOpened, room_id=row.room_id, session_id=row.id, paid_ms=paid_ms)

    @precondition(any_session)
    @rule(
        pick=picks,
        state=st.sampled_from(["waiting", "running", "paused"]),
        delivered_ms=figures,
        back=st.integers(0, 2),
    )
    def media_delivered(self, pick: int, state: str, delivered_ms: int, back: int) -> None:
        row = self.session(pick)
        self.sequence += 1
        self.say(
            events.MediaDelivered,
            session_id=row.id,
            room_id=row.room_id,
            sequence=self.sequence - back,
            state=state,
            cause="creator" if state == "paused" else None,
            delivered_ms=delivered_ms,
            paid_ms=row.paid_ms,
            creator_pause_ms=delivered_ms // 10,
            node_pause_ms=0,
        )

    @precondition(any_session)
    @rule(
        pick=picks,
        fact=st.sampled_from(get_args(events.EndFact)),
        delivered_ms=figures,
        creator_connected=st.booleans(),
        fan_connected=st.booleans(),
        paused_for_ms=st.sampled_from([0, 9_999, 10_000]),
    )
    def call_ended(self, pick: int, paused_for_ms: int, **facts: Any) -> None:
        row = self.session(pick)
        self.sequence += 1
        self.say(
            events.CallEnded,
            session_id=row.id,
            room_id=row.room_id,
            sequence=self.sequence,
            paid_ms=row.paid_ms,
            creator_pause_ms=60_000,
            node_pause_ms=paused_for_ms,
            pause_cause="node" if paused_for_ms else None,
            paused_for_ms=paused_for_ms,
            **facts,
        )

    @rule(new=st.booleans())
    def node_ready(self, new: bool) -> None:
        self.boots += new
        self.stage.node_ready(f"boot_{self.boots}")

    @precondition(lambda self: self.said)
    @rule(pick=picks)
    def said_again(self, pick: int) -> None:
        self.stage.say(self.said[pick % len(self.said)])

    # --- what holds always --------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        self.stage.audit()

    @invariant()
    def no_token_is_made_or_lost(self) -> None:
        with self.stage.database.reading() as tx:
            assert tx.scalar(text("SELECT COALESCE(SUM(balance), 0) FROM balances")) == 0
            for person in (*self.fans, *self.creators):
                assert ledger.balances(tx, person.user_id)["wallet"] >= 0

    @invariant()
    def what_is_ended_stays_as_it_ended(self) -> None:
        with self.stage.database.reading() as tx:
            for row in tx.scalars(select(SessionRow).where(SessionRow.status == "ended")):
                receipt = receipts.receipt_of(tx, row)
                assert self.receipts.setdefault(row.id, receipt) == receipt
                assert receipt.billed_minutes * MINUTE <= receipt.paid_ms

    @invariant()
    def no_figure_falls(self) -> None:
        with self.stage.database.reading() as tx:
            for row in tx.scalars(select(SessionRow)):
                assert row.delivered_ms >= self.delivered.get(row.id, 0)
                self.delivered[row.id] = row.delivered_ms

    @invariant()
    def nobody_waits_for_a_busy_creator(self) -> None:
        with self.stage.database.reading() as tx:
            busy = select(SessionRow.creator_id).where(SessionRow.status != "ended")
            waiting = select(RequestRow.id).where(RequestRow.status.in_(OPEN), RequestRow.creator_id.in_(busy))
            assert tx.scalars(waiting).all() == []


@pytest.mark.timeout(300)
def test_the_books_are_right_after_every_step(sqlite_template: Path, tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: Lifecycle(sqlite_template, tmp_path),
        settings=settings(
            max_examples=examples(12),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_long_walk_ends_sessions_in_every_way_and_loses_nothing(
    sqlite_template: Path, tmp_path: Path, seed: int
) -> None:
    """The same machine without a plan: longer lives than hypothesis gives it; the seed replays them."""
    dice = random.Random(seed)
    ended: set[str | None] = set()
    for _ in range(4):
        machine = Lifecycle(sqlite_template, tmp_path)
        for _ in range(120):
            stumble(machine, dice)
            for holds in ALWAYS:
                getattr(machine, holds)()
        with machine.stage.database.reading() as tx:
            ended |= set(tx.scalars(select(SessionRow.end_row).where(SessionRow.status == "ended")))
        machine.teardown()
    assert len(ended) >= 5, f"too few kinds of end to mean anything: {ended}"


ALWAYS = (
    "the_books_are_right",
    "no_token_is_made_or_lost",
    "what_is_ended_stays_as_it_ended",
    "no_figure_falls",
    "nobody_waits_for_a_busy_creator",
)


def stumble(machine: Lifecycle, dice: random.Random) -> None:
    """One step, whatever it is."""
    pick, fact = dice.randrange(1_000), dice.choice(get_args(events.EndFact))
    yes, some_ms = dice.random() < 0.7, dice.randrange(6 * MINUTE)
    steps: list[tuple[int, Callable[[], None]]] = [
        (2, lambda: machine.begin(pick, dice.randrange(2), dice.randint(1, 8), yes)),
        (4, lambda: machine.ask(pick, dice.randrange(2), dice.randint(0, 8))),
        (2, lambda: machine.time_passes(dice.choice([1, 15, 31, 61, 121]))),
        (1, lambda: machine.stream_changes(pick, dice.choice(["end", "resume", "live"]))),
        (1, lambda: machine.node_ready(yes)),
    ]
    if machine.any_request():
        steps += [
            (3, lambda: machine.accept(pick)),
            (1, lambda: machine.answer(pick, dice.choice(["cancel", "decline", "rule"]))),
        ]
    if machine.any_session():
        state = dice.choice(["waiting", "running", "paused"])
        steps += [
            (1, lambda: machine.end(pick, yes)),
            (1, lambda: machine.cut(pick)),
            (1, lambda: machine.room_opened(pick, yes)),
            (3, lambda: machine.media_delivered(pick, state, some_ms, dice.randrange(3))),
            (3, lambda: machine.call_ended(pick, dice.choice([0, 9_999, 10_000]), fact=fact, delivered_ms=some_ms,
                                           creator_connected=yes, fan_connected=dice.random() < 0.8)),
        ]  # fmt: skip
    if machine.said:
        steps.append((1, lambda: machine.said_again(pick)))
    if dice.random() < 0.02:
        steps.append((20, lambda: machine.payment_turns_bad(pick, dice.choice(["pur_{}", "pur_more_{}"]), 0)))
    dice.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
