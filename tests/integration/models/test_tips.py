"""Tips: to whoever is there, once, to be seen by whom they are for; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from patrons import freeze, refused
from stage import Stage

from models.db import Database
from models.services import accounts, spending, tips
from models.services.accounts import Person
from models.services.tips import TipGiven


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def tip(stage: Stage, fan: Person, creator: Person, amount: int = 50, key: str = "key", **more: Any) -> TipGiven:
    return stage.run(
        lambda tx: tips.tip(
            tx,
            fan=fan,
            creator_id=creator.user_id,
            amount=amount,
            key=key,
            now=stage.now,
            settings=stage.settings,
            cause_id="test",
            **more,
        )
    )


def test_a_public_tip_is_paid_and_told_to_everybody(stage: Stage) -> None:
    # given
    (creator, stream), fan = stage.live(), stage.fan(1_000)
    # when
    given = tip(stage, fan, creator, 51, message="  For the\tmug  ")
    # then
    assert (given.balance, given.message, given.private) == (949, "For the mug", False)
    assert stage.balances(creator)["earnings_pending"] == 41
    (told,) = stage.told(None, "TIP")
    assert (told["handle"], told["amount"], told["message"]) == (fan.handle, 51, "For the mug")
    assert (told["streamId"], told["creatorId"]) == (stream.stream_id, creator.user_id)
    assert fan.user_id not in str(told)
    listed = stage.run(lambda tx: tips.of_stream(tx, stream.stream_id))
    assert (listed.total, [view.handle for view in listed.tips]) == (51, [fan.handle])
    stage.audit()


def test_a_tip_in_a_private_stream_is_the_matter_of_two(stage: Stage) -> None:
    call = stage.running(minutes=5)
    other = stage.fan()
    # when: with the session's id and without it
    first = tip(stage, call.fan, call.creator, 50, "a", session_id=call.session_id)
    second = tip(stage, call.fan, call.creator, 60, "b")
    # then
    assert (first.private, second.private) == (True, True)
    assert stage.told(None, "TIP") == []
    for side in (call.fan, call.creator):
        assert [told["amount"] for told in stage.told(side, "TIP")] == [50, 60]
    assert stage.run(lambda tx: tips.of_stream(tx, call.stream.stream_id)).tips == ()
    seen = stage.run(lambda tx: tips.of_session(tx, call.session_id, call.creator.user_id))
    assert seen.total == 110
    refused("NOT_FOUND", stage.run, lambda tx: tips.of_session(tx, call.session_id, other.user_id))
    # and nobody else can tip now, nor into that session
    refused("STREAM_NOT_LIVE", tip, stage, other, call.creator)
    refused("NOT_FOUND", tip, stage, other, call.creator, session_id=call.session_id)


def test_a_private_stream_that_has_not_begun_takes_no_tips(stage: Stage) -> None:
    # given: both are connecting; one of them may never come
    call = stage.connecting(minutes=5)
    for more in ({}, {"session_id": call.session_id}):
        assert refused("SESSION_NOT_LIVE", tip, stage, call.fan, call.creator, **more).fields["connecting"]
    assert stage.balances(call.fan)["wallet"] == 500
    # when it has begun, and also while it pauses
    stage.opened(call.session_id)
    stage.delivered(call.session_id, 1, 0)
    tip(stage, call.fan, call.creator, 50, "live")
    stage.delivered(call.session_id, 2, 1_000, state="paused", cause="creator")
    assert stage.session(call.session_id).status == "paused"
    tip(stage, call.fan, call.creator, 50, "paused")
    # then
    assert stage.balances(call.fan)["wallet"] == 400
    stage.audit()


def test_a_private_stream_that_is_over_takes_no_tips(stage: Stage) -> None:
    call = stage.running(minutes=5)
    stage.end(call.session_id, call.fan)
    stage.call_ended(call.session_id, "closed", 60_000)
    refused("SESSION_NOT_LIVE", tip, stage, call.fan, call.creator, session_id=call.session_id)
    assert stage.session(call.session_id).status == "ended"


def test_who_cannot_tip(stage: Stage) -> None:
    (creator, _), fan = stage.live(), stage.fan(100)
    other, off_air = stage.creator(), stage.creator()
    refused("OWN_STREAM", tip, stage, creator, creator)
    refused("NOT_A_FAN", tip, stage, other, creator)
    refused("NOT_FOUND", tip, stage, fan, stage.fan(0))
    refused("STREAM_NOT_LIVE", tip, stage, fan, off_air)
    assert refused("INSUFFICIENT_TOKENS", tip, stage, fan, creator, 101).fields["balance"] == 100
    stage.run(lambda tx: spending.set_cap(tx, fan.user_id, 49, stage.now))
    refused("SPENDING_CAP", tip, stage, fan, creator, 50)
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    refused("BLOCKED", tip, stage, fan, creator, 10)
    stage.run(lambda tx: accounts.unblock(tx, creator.user_id, fan.user_id))
    freeze(stage, fan)
    refused("SPENDING_FROZEN", tip, stage, fan, creator, 10)
    assert stage.balances(fan)["wallet"] == 100
    assert stage.told(None, "TIP") == []


@pytest.mark.parametrize("amount", [-5, 0, 4, 100_001])
def test_amounts_that_are_none(stage: Stage, amount: int) -> None:
    (creator, _), fan = stage.live(), stage.fan(1_000)
    assert refused("INVALID", tip, stage, fan, creator, amount).fields["field"] == "amount"


@pytest.mark.parametrize("amount", [5, 100_000])
def test_amounts_at_the_edge(stage: Stage, amount: int) -> None:
    (creator, _), fan = stage.live(), stage.fan(100_000)
    assert tip(stage, fan, creator, amount).amount == amount


@pytest.mark.parametrize("message", ["x" * 201, "bell\x07", "turned \u202e round", "wide \u00a0\u200b no"])
def test_messages_that_are_refused(stage: Stage, message: str) -> None:
    (creator, _), fan = stage.live(), stage.fan(1_000)
    assert refused("INVALID", tip, stage, fan, creator, message=message).fields["field"] == "message"


@pytest.mark.parametrize("message", ["x" * 200, "👩‍👧 ❤️ für Dich", "<b>&\"'", ""])
def test_messages_that_are_taken(stage: Stage, message: str) -> None:
    (creator, _), fan = stage.live(), stage.fan(1_000)
    assert tip(stage, fan, creator, message=message).message == message


def test_the_same_press_is_one_tip(stage: Stage) -> None:
    (creator, _), fan = stage.live(), stage.fan(1_000)
    assert tip(stage, fan, creator, 50).tip_id == tip(stage, fan, creator, 50).tip_id
    refused("IDEMPOTENCY_KEY_REUSED", tip, stage, fan, creator, 60)
    tip(stage, fan, creator, 50, key="another")
    assert stage.balances(fan)["wallet"] == 900
    assert len(stage.told(None, "TIP")) == 2
