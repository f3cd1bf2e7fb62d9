"""Broadcasts and their leases: one a room, one worker at a time, over before anything private: both databases."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select
from stage import Stage
from together import until_it_waits_or_is_done

from models.broadcasts import BroadcastRow
from models.db import Database
from models.messages import events
from models.messages.routing import TRANSCODE_QUEUE
from models.services import broadcasts, leases
from models.services.accounts import Person
from models.services.leases import Lease
from models.services.streams import StreamView

_SECOND = timedelta(seconds=1)


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    return stage


@pytest.fixture
def on_air(stage: Stage) -> tuple[Person, StreamView]:
    """A creator who is live and in the seat."""
    creator, stream = stage.live()
    seated(stage, creator, stream)
    return creator, stream


def seated(stage: Stage, creator: Person, stream: StreamView) -> None:
    stage.event(
        events.ParticipantJoined,
        room_id=stream.room_id,
        user_id=creator.user_id,
        viewers=0,
    )


def rows(stage: Stage) -> list[BroadcastRow]:
    with stage.database.reading() as tx:
        found = list(tx.scalars(select(BroadcastRow).order_by(BroadcastRow.wanted_at, BroadcastRow.id)))
        tx.expunge_all()
        return found


def lease(stage: Stage, worker: str = "worker_1") -> Lease | None:
    [row] = [row for row in rows(stage) if row.status != "ended"]
    return stage.run(lambda tx: broadcasts.take_lease(tx, row.id, worker, stage.now))


def test_a_creator_in_the_seat_makes_a_broadcast_wanted_once(
    stage: Stage, on_air: tuple[Person, StreamView]
) -> None:
    creator, stream = on_air
    # when the node says it again, then there is still one, and one message to the workers
    seated(stage, creator, stream)
    [row] = rows(stage)
    assert (row.room_id, row.creator_id, row.status) == (stream.room_id, creator.user_id, "wanted")
    assert len([message for message in stage.actors() if message[0] == TRANSCODE_QUEUE]) == 1


def test_a_stream_without_its_creator_is_not_broadcast(stage: Stage) -> None:
    stage.live()
    assert rows(stage) == []


def test_acceptance_ends_the_broadcast_in_the_same_transaction(
    stage: Stage, on_air: tuple[Person, StreamView]
) -> None:
    creator, stream = on_air
    held = lease(stage)
    assert held is not None
    request = stage.ask(stage.fan(), stream)
    # when the creator accepts
    stage.accept(request.request_id, creator)
    # then nobody may work on it from this moment, and its worker finds that out
    [row] = rows(stage)
    assert (row.status, row.end_reason) == ("ended", "STREAM_PRIVATE")
    held_now = {(held.work_id, held.epoch)}
    assert stage.run(lambda tx: broadcasts.renew(tx, "worker_1", held_now, stage.now)) == set()
    # and a late word of the node, from before, makes no new one
    seated(stage, creator, stream)
    assert len(rows(stage)) == 1


def test_acceptance_while_a_worker_says_that_it_is_ready(
    stage: Stage, on_air: tuple[Person, StreamView]
) -> None:
    """Nobody's wish to go private fails by what a worker says in the same moment."""
    creator, stream = on_air
    held = lease(stage)
    assert held is not None
    request = stage.ask(stage.fan(), stream)
    accept = partial(stage.accept, request.request_id, creator)
    with stage.database.engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        # when: the worker's word is not committed yet
        with stage.database.transaction() as tx:
            broadcasts.ready(tx, held.work_id, held.epoch, stage.now)
            accepted = pool.submit(accept)
            if not stage.database.is_sqlite:
                until_it_waits_or_is_done(watching, accepted)
        # then
        assert accepted.result(120).session_id
    [row] = rows(stage)
    assert (row.status, row.end_reason) == ("ended", "STREAM_PRIVATE")


def test_back_in_public_there_is_another_broadcast(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    creator, stream = on_air
    accepted = stage.accept(stage.ask(stage.fan(), stream).request_id, creator)
    stage.opened(accepted.session_id)
    stage.end(accepted.session_id, creator)
    stage.call_ended(accepted.session_id, "creator_left", 0)
    stage.resume(stream, creator)
    stage.later(seconds=1)
    seated(stage, creator, stream)
    assert [row.status for row in rows(stage)] == ["ended", "wanted"]


def test_one_worker_holds_it_until_it_stops_renewing(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    first = lease(stage, "worker_1")
    assert first is not None
    assert first.epoch == 1
    assert first.room_id == on_air[1].room_id
    assert lease(stage, "worker_2") is None
    # given renewals, then it stays where it is
    for _ in range(3):
        stage.later(seconds=leases.LEASE_SECONDS - 1)
        held = {(first.work_id, first.epoch)}
        assert stage.run(lambda tx: broadcasts.renew(tx, "worker_1", held, stage.now))  # noqa: B023
    assert stage.run(lambda tx: broadcasts.take_over(tx, "worker_2", 5, stage.now)) == []
    # when the first is silent, then another goes on under the next epoch, and the first is not listened to
    stage.later(seconds=leases.LEASE_SECONDS)
    [second] = stage.run(lambda tx: broadcasts.take_over(tx, "worker_2", 5, stage.now))
    assert (second.work_id, second.epoch) == (first.work_id, 2)
    assert stage.run(lambda tx: broadcasts.renew(tx, "worker_1", held, stage.now)) == set()
    stage.run(lambda tx: broadcasts.ready(tx, first.work_id, first.epoch, stage.now))
    assert rows(stage)[0].status == "wanted"
    stage.run(lambda tx: broadcasts.ready(tx, second.work_id, second.epoch, stage.now))
    assert rows(stage)[0].status == "live"


def test_a_worker_in_a_new_life_need_not_wait_for_its_former_lease(
    stage: Stage, on_air: tuple[Person, StreamView]
) -> None:
    assert lease(stage, "worker_1") is not None
    stage.run(lambda tx: broadcasts.forget_leases(tx, "worker_2", stage.now))
    assert lease(stage, "worker_1") is None, "another worker's new life frees nothing"
    stage.run(lambda tx: broadcasts.forget_leases(tx, "worker_1", stage.now))
    again = lease(stage, "worker_1")
    assert again is not None
    assert again.epoch == 2


def test_what_is_given_back_is_free_at_once(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    held = lease(stage)
    assert held is not None
    stage.run(lambda tx: broadcasts.give_back(tx, held.work_id, "worker_1", held.epoch, stage.now))
    assert lease(stage, "worker_2") is not None


def test_a_full_house_takes_no_more_than_it_has_room_for(stage: Stage) -> None:
    for _ in range(3):
        creator, stream = stage.live()
        seated(stage, creator, stream)
        stage.later(milliseconds=1)
    taken = stage.run(lambda tx: broadcasts.take_over(tx, "worker_1", 2, stage.now))
    assert [each.work_id for each in taken] == [row.id for row in rows(stage)][:2], "the oldest first"
    assert stage.run(lambda tx: broadcasts.take_over(tx, "worker_1", 0, stage.now)) == []


def test_what_nobody_takes_is_said_to_be_unavailable(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    room = on_air[1].room_id

    def seen() -> broadcasts.Watchable | None:
        with stage.database.reading() as tx:
            return broadcasts.watchable(tx, room, stage.now)

    first = seen()
    assert first is not None
    assert first.available
    assert first.status == "wanted"
    stage.later(seconds=broadcasts.UNCLAIMED_SECONDS)
    late = seen()
    assert late is not None
    assert not late.available
    assert lease(stage) is not None
    taken = seen()
    assert taken is not None
    assert taken.available


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_workers_do_no_two_hold_one_epoch(
    stage: Stage, on_air: tuple[Person, StreamView], seed: int
) -> None:
    # given workers that take, renew, lose, give back and restart in any order
    chance = random.Random(seed)
    holders: dict[int, str] = {}
    held: dict[str, tuple[str, int]] = {}
    for _ in range(60):
        worker = chance.choice(("a", "b", "c"))
        stage.now += chance.choice((0.1, 1.0, 4.0)) * _SECOND
        act = chance.choice(("take", "renew", "give", "reborn"))
        if act == "take" and (taken := lease(stage, worker)) is not None:
            assert taken.epoch not in holders, "an epoch was given twice"
            holders[taken.epoch] = worker
            held[worker] = (taken.work_id, taken.epoch)
        elif act == "renew" and worker in held:
            kept = stage.run(lambda tx: broadcasts.renew(tx, worker, {held[worker]}, stage.now))  # noqa: B023
            # then only the newest epoch can be prolonged
            assert not kept or held[worker][1] == max(holders)
        elif act == "give" and worker in held:
            stage.run(lambda tx: broadcasts.give_back(tx, held[worker][0], worker, held[worker][1], stage.now))  # noqa: B023
        elif act == "reborn":
            stage.run(lambda tx: broadcasts.forget_leases(tx, worker, stage.now))  # noqa: B023
            held.pop(worker, None)
    assert len(holders) > 3
