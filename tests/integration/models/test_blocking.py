"""A creator blocks a fan who is waiting for an answer: nothing is accepted any more, and everything comes back."""

from __future__ import annotations

import pytest
from stage import Stage

from models.db import Database
from models.errors import Conflict
from models.services import accounts, blocks, private_streams, queueing


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def test_a_block_ends_what_the_fan_had_asked_for(stage: Stage) -> None:
    creator, stream = stage.live()
    fan, other = stage.fan(), stage.fan()
    request, others = stage.ask(fan, stream, 10), stage.ask(other, stream, 5)
    assert stage.balances(fan)["held"] == 1_000
    # when
    for _ in range(2):
        stage.run(lambda tx: blocks.block(tx, creator.user_id, fan.user_id, stage.now))
    # then: all of it is back, in one transaction with the block, and both pages are told
    assert stage.balances(fan) | {"wallet": 1_000, "held": 0} == stage.balances(fan)
    assert [one["requestId"] for one in stage.told(fan, "PRIVATE_DECLINED")] == [request.request_id]
    assert [one["requestId"] for one in stage.told(creator, "PRIVATE_REQUEST_CANCELLED")] == [request.request_id]
    with pytest.raises(Conflict) as refusal:
        stage.accept(request.request_id, creator)
    assert refusal.value.code == "REQUEST_NOT_PENDING"
    # and somebody else's request is not touched
    stage.accept(others.request_id, creator)
    stage.audit()


def test_only_what_was_asked_of_that_creator_ends(stage: Stage) -> None:
    creator, stream = stage.live()
    other, theirs = stage.live()
    fan = stage.fan()
    stage.ask(fan, stream, 5)
    kept = stage.ask(fan, theirs, 5)
    stage.run(lambda tx: blocks.block(tx, creator.user_id, fan.user_id, stage.now))
    assert stage.balances(fan)["held"] == 500
    stage.accept(kept.request_id, other)
    stage.audit()


def test_a_request_that_slipped_by_the_block_is_not_accepted_and_is_let_go(stage: Stage) -> None:
    """The block was written in the moment between the fan's check and the fan's request."""
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream, 10)
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    # when / then
    with pytest.raises(Conflict) as refusal:
        stage.accept(request.request_id, creator)
    assert refusal.value.code == "REQUEST_NOT_PENDING"
    assert not stage.run(lambda tx: private_streams.apply_rule(tx, request.request_id, stage.now))
    assert stage.run(lambda tx: queueing.release_impossible(tx, stage.now)) == 1
    assert stage.balances(fan)["held"] == 0
    stage.audit()
