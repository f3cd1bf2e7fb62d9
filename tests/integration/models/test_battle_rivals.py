"""Battles among rivals who wish each other ill: haste takes no fee, and nobody is kept from their own seat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from arena import Arena
from patrons import refused
from sqlalchemy import event, text
from sqlalchemy.orm import Session
from stage import Stage

from models.audit import audit
from models.db import Database
from models.messages import events
from models.services import accounts, battle_clock, rooms, termination
from models.services.accounts import Caller, Person
from tests.databases import Databases

OWNERS = ("battles", "streams", "private_stream_sessions")
SOMEBODY = Caller(person=None, integrator_id="int_x", scopes=frozenset(), sign_in_id="")


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def may_publish(stage: Stage, arena: Arena, person: Person) -> bool:
    return stage.run(
        lambda tx: rooms.admission(tx, person=person, room_id=arena.room_id, role="participant", now=stage.now)
    ).publish


def test_a_rival_whom_another_side_blocks_takes_the_seat_all_the_same(stage: Stage) -> None:
    # given a battle that runs, and a side that blocks the other one
    arena = Arena(stage).running()
    north, south = arena.creators
    stage.run(lambda tx: accounts.block(tx, south.user_id, north.user_id, stage.now))
    # when the blocked one loses the line and comes back, then there is a seat
    arena.goes(north)
    assert may_publish(stage, arena, north)
    # and of others only those whom nobody has blocked
    fan = stage.fan()
    assert not may_publish(stage, arena, fan)
    stage.run(lambda tx: accounts.block(tx, south.user_id, fan.user_id, stage.now))
    refused("BLOCKED", may_publish, stage, arena, fan)


def test_a_host_who_ends_it_at_once_takes_nothing_from_who_could_not_come(stage: Stage) -> None:
    # given one that has begun in time, where two of three are there
    arena = Arena(stage, sides=3, winner_percent=100)
    host, other, late = arena.creators
    fan = stage.fan(1_000)
    arena.tip(fan, late, 100)
    arena.tip(fan, host, 5, "second")
    stage.later(minutes=30)
    arena.clock()
    arena.comes(host, other)
    # when the host ends it ten seconds later
    stage.later(seconds=10)
    arena.end()
    # then the fee of the third is back, and what was tipped for a picture that nobody has seen
    assert (arena.wallet(late), arena.wallet(fan)) == (1_000, 995)
    assert [(side.status, side.share) for side in arena.view.sides] == [("done", 105), ("done", 0), ("gone", 0)]
    stage.audit()


def test_the_fee_stays_of_who_did_not_come_to_the_time_that_was_told(stage: Stage) -> None:
    for early, has in ((True, 1_000), (False, 950)):
        arena = Arena(stage, sides=3)
        fan = stage.fan(1_000)
        if early:
            arena.start()
        else:
            stage.later(minutes=30)
            arena.clock()
        arena.comes(*arena.creators[:2])
        arena.tip(fan, arena.creators[0], 100)
        stage.later(minutes=1)
        stage.run(lambda tx: battle_clock.drop_absent(tx, stage.now))
        assert [side.status for side in arena.view.sides] == ["in", "in", "gone"]
        assert arena.wallet(arena.creators[2]) == has
        arena.end()
        assert arena.view.pot == 100 + 100 + (1_000 - has)
        stage.audit()


def test_a_tip_for_who_never_came_goes_back_when_the_time_is_as_short_as_the_patience(stage: Stage) -> None:
    arena = Arena(stage, sides=3, limit_minutes=1)
    fan = stage.fan(1_000)
    arena.tip(fan, arena.creators[2], 200)
    arena.tip(fan, arena.creators[0], 100, "second")
    stage.later(minutes=30)
    arena.clock()
    arena.comes(*arena.creators[:2])
    stage.later(minutes=1)
    arena.clock()
    assert (arena.view.status, arena.view.end_reason, arena.wallet(fan)) == ("ended", "time", 900)
    assert arena.view.pot == 250
    stage.audit()


DAMAGE = {
    "UPDATE battle_sides SET share = share + 1 WHERE share > 0": "shared out 200, its sides say",
    "UPDATE battle_sides SET fee = fee + 1 WHERE status = 'in'": "its fees and side tips are",
    "UPDATE battles SET status = 'running', ended_at = NULL, outcome = NULL": "to no battle that has ended",
    "UPDATE battles SET id = 'bat_other' WHERE status = 'running'": "belongs to no battle",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_audit_names_what_is_wrong_with_a_pot(
    stage: Stage, damage: str, without_rules: Callable[[Session], None]
) -> None:
    # given a battle whose pot was shared out, and one that runs
    over = Arena(stage).running()
    over.tip(stage.fan(), over.creators[0], 100)
    over.end()
    Arena(stage).running()
    stage.audit()

    def do_damage(tx: Session) -> None:
        if tx.get_bind().dialect.name == "sqlite":
            tx.execute(text("PRAGMA defer_foreign_keys = ON"))
        without_rules(tx)
        tx.execute(text(damage))

    with stage.database.transaction() as tx:
        do_damage(tx)
        problems = audit(tx).problems
        tx.rollback()
    assert any(DAMAGE[damage] in problem for problem in problems), problems


def test_whoever_takes_a_room_has_taken_what_it_is_of_before(postgres_databases: Databases) -> None:
    # given a battle, a public stream and a call, on the database that locks rows
    with postgres_databases.lent() as lent, closing(Database(lent.url)) as database:
        stage = Stage(database)
        stage.node_ready()
        stage.heartbeat()
        arena, (creator, stream), call = Arena(stage).running(), stage.live(), stage.running()
        taken: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "FOR NO KEY UPDATE" in statement:
                taken.append(statement.partition("FROM ")[2].split()[0])
            elif statement.startswith("UPDATE "):
                taken.append(statement.split()[1])

        def order(wish: Callable[[], Any]) -> list[str]:
            """Which kinds of rows it takes, in the order in which it takes the first of each."""
            taken.clear()
            wish()
            return [table for table in dict.fromkeys(taken) if table in OWNERS or table == "rooms"]

        def cut(room_id: str, user_id: str) -> None:
            stage.run(
                lambda tx: termination.terminate(
                    tx, room_id=room_id, user_id=user_id, reason="MODERATION", label_by=SOMEBODY, now=stage.now
                )
            )

        event.listen(database.engine, "before_cursor_execute", note)
        url = "ws://127.0.0.1:8090/signaling"
        # then the node's word and a cut of the same moment take them in the same order
        first, second = arena.creators
        assert order(lambda: arena.comes(first)) == ["battles", "rooms"]
        assert order(lambda: cut(arena.room_id, second.user_id)) == ["battles", "rooms"]
        # and so does a node's new life, which takes all seats, whoever else has one of its battles
        reborn = order(lambda: stage.event(events.NodeReady, boot="boot_2", signaling_url=url, rooms=()))
        assert reborn == ["battles", "private_stream_sessions", "rooms"]
        assert order(lambda: cut(stream.room_id, creator.user_id)) == ["streams", "rooms"]
        assert order(lambda: cut(call.room_id, call.fan.user_id))[-2:] == ["private_stream_sessions", "rooms"]
