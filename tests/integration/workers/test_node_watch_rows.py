"""The watch moves rooms away from a node that is lost, and finds one that is back: on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Container
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.db import Database
from models.services import accounts, streams
from models.streams import MediaNodeRow, RoomRow
from workers.node_watch import Answer, NodeWatch

HERE, THERE = "ws://here/signaling", "ws://there/signaling"


class Nodes:
    """What each address answers, a watch that asks, and a clock that a test moves."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.answers: dict[str, Answer] = {HERE: "here", THERE: "here"}
        self.now = 0.0
        self.asked: Counter[str] = Counter()
        self.watch = NodeWatch(database, self.ask, lambda: self.now)

    def ask(self, url: str, node_id: str) -> Answer:
        self.asked[node_id] += 1
        return self.answers[url]

    def rounds(self, count: int = 8, of: Container[str] | None = None) -> None:
        """So many answers are taken in."""
        for _ in range(count):
            self.now += 0.3
            self.watch.step()
            for (node_id, _), asked in self.watch._asked.items():
                if of is None or node_id in of:
                    asked.result(timeout=120)

    def lost(self) -> set[str]:
        with self.database.reading() as tx:
            return set(tx.scalars(select(MediaNodeRow.id).where(MediaNodeRow.lost_at.is_not(None))))

    def lost_for(self, seconds: float) -> None:
        """So long ago it is now that whoever is lost was."""
        nodes = update(MediaNodeRow).where(MediaNodeRow.lost_at.is_not(None))
        self.database.run(lambda tx: tx.execute(nodes.values(lost_at=utc_now() - timedelta(seconds=seconds))))

    def room_is_on(self) -> str | None:
        with self.database.reading() as tx:
            return tx.scalar(select(RoomRow.node_id))


@pytest.fixture
def nodes(database: Database) -> Nodes:
    """Two nodes, and a public stream on the first."""
    now = utc_now() - timedelta(minutes=1)

    def lay(tx: Session) -> None:
        for name, url in (("a", HERE), ("b", THERE)):
            tx.add(MediaNodeRow(id=name, boot_id=f"boot_{name}", signaling_url=url, seen_at=now))
        tx.flush()
        creator = accounts.create_person(
            tx, email="c@people.test", handle="creator", display_name="C", password_hash="x",
            roles=("creator",), now=now,
        )  # fmt: skip
        streams.go_live(tx, creator, title="", now=now)

    database.run(lay)
    return Nodes(database)


def test_while_all_answer_nothing_happens(nodes: Nodes) -> None:
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == (set(), "a")


def test_a_node_that_is_gone_loses_its_rooms_to_another(nodes: Nodes) -> None:
    nodes.answers[HERE] = "refused"
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == ({"a"}, "b")
    # and what comes back may be given rooms again, but not those, and not at once
    nodes.answers[HERE] = "here"
    nodes.lost_for(-60)
    nodes.rounds()
    assert nodes.lost() == {"a"}
    nodes.lost_for(6)
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == (set(), "b")


def test_rooms_that_had_nowhere_to_go_go_when_somebody_is_there(nodes: Nodes) -> None:
    nodes.answers = {HERE: "refused", THERE: "refused"}
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == ({"a", "b"}, "a")
    nodes.answers[THERE] = "here"
    nodes.lost_for(6)
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == ({"a"}, "b")


def test_a_new_life_is_asked_anew(nodes: Nodes) -> None:
    nodes.answers[HERE] = "refused"
    nodes.rounds(3)

    def reborn(tx: Session) -> None:
        tx.get_one(MediaNodeRow, "a").boot_id = "boot_a2"

    nodes.database.run(reborn)
    nodes.answers[HERE] = "here"
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == (set(), "a")


def test_two_watches_move_a_room_once(nodes: Nodes) -> None:
    second = Nodes(nodes.database)
    nodes.answers[HERE] = second.answers[HERE] = "refused"
    nodes.rounds()
    second.rounds()
    with nodes.database.reading() as tx:
        assert tx.scalar(select(RoomRow.epoch)) == 1


def test_who_is_gone_for_good_is_asked_now_and_then(nodes: Nodes) -> None:
    nodes.answers[HERE] = "refused"
    nodes.rounds()
    assert (nodes.lost(), nodes.room_is_on()) == ({"a"}, "b")
    nodes.lost_for(59)
    nodes.asked.clear()
    nodes.rounds()
    assert nodes.asked["a"] == 8
    nodes.lost_for(61)
    nodes.rounds()
    nodes.asked.clear()
    nodes.rounds(100)
    assert nodes.asked == {"a": 1, "b": 100}
    # and is found all the same
    nodes.answers[HERE] = "here"
    nodes.rounds(101)
    assert nodes.lost() == set()


def test_one_whose_rooms_wait_for_a_place_is_asked_all_the_time(nodes: Nodes) -> None:
    nodes.answers = {HERE: "refused", THERE: "refused"}
    nodes.rounds()
    nodes.lost_for(61)
    nodes.rounds()
    nodes.asked.clear()
    nodes.rounds()
    assert nodes.asked == {"a": 8}


def test_questions_that_nobody_answers_hold_no_other_up(nodes: Nodes) -> None:
    """Sixty that are lost are asked into the void; the death of one that lives is noticed."""
    over = threading.Event()
    ask = nodes.ask

    def lay(tx: Session) -> None:
        now = utc_now()
        for number in range(60):
            # They come before the others.
            tx.add(
                MediaNodeRow(
                    id=f"Gone-{number}", boot_id="boot", signaling_url="ws://void", seen_at=now, lost_at=now
                )
            )

    def ask_or_hang(url: str, node_id: str) -> Answer:
        if url == "ws://void":
            assert over.wait(240)
            return "silent"
        return ask(url, node_id)

    nodes.database.run(lay)
    nodes.watch = NodeWatch(nodes.database, ask_or_hang, lambda: nodes.now)
    nodes.answers[HERE] = "refused"
    try:
        nodes.rounds(4, of=("a", "b"))
        # from now on it waits behind the others
        nodes.rounds(2, of=("b",))
        assert nodes.room_is_on() == "b"
    finally:
        over.set()
        nodes.watch.close()
