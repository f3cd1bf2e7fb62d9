"""Being accepted at once for a price: earned only once live, and never over a busy, booked or blocking creator."""

from __future__ import annotations

import pytest
from stage import MINUTE, Call, Stage
from ways import (
    book,
    ended,
    extend,
    live,
    rules,
    running,
    subscriber,
)

from models.db import Database
from models.errors import Conflict, Forbidden
from models.people import BlockRow
from models.requests import RequestRow
from models.services import offers, private_streams, sessions


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def test_an_unlock_accepts_at_once_and_is_earned_once_live(stage: Stage) -> None:
    creator, stream = live(stage, instant_unlock_price=250)
    call = running(stage, creator, stream, stage.fan(1_250), instant_unlock=True)
    with stage.database.reading() as tx:
        assert tx.get_one(RequestRow, call.request_id).accepted_by == "unlock"
    assert stage.session(call.session_id).total_held == 1_250
    stage.call_ended(call.session_id, "fan_left", 6 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.unlock_price, receipt.unlock_earned) == (250, 250)
    assert (receipt.earnings, receipt.commission, receipt.refunded) == (680, 170, 400)


@pytest.mark.parametrize(
    ("fact", "connected"),
    [("creator_left", True), ("node_pause_used_up", True), ("creator_never_connected", False), ("closed", True)],
)
def test_an_unlock_comes_back_when_it_was_not_the_fans_fault(stage: Stage, fact: str, connected: bool) -> None:
    creator, stream = live(stage, instant_unlock_price=250)
    call = running(stage, creator, stream, stage.fan(1_250), instant_unlock=True)
    stage.call_ended(call.session_id, fact, 6 * MINUTE * connected, creator_connected=connected)
    receipt = ended(stage, call)
    assert (receipt.unlock_earned, receipt.refunded) == (0, 1_250 - 600 * connected)


def test_an_unlock_comes_back_when_the_fan_never_connected(stage: Stage) -> None:
    _, stream = live(stage, instant_unlock_price=250)
    request = stage.ask(stage.fan(1_250), stream, 10, instant_unlock=True)
    assert rules(stage, request.request_id)
    row = stage.run(lambda tx: tx.query(sessions.SessionRow).filter_by(request_id=request.request_id).one().id)
    stage.opened(row)
    stage.call_ended(row, "fan_never_connected", 0, fan_connected=False)
    receipt = stage.receipt(row)
    assert (receipt.billed_minutes, receipt.unlock_earned, receipt.refunded) == (5, 0, 750)
    stage.audit()


def test_an_unlock_that_cannot_be_at_once_is_paid_back_and_the_request_waits(stage: Stage) -> None:
    """The fan's feed is gone: not acceptable, by rule or unlock."""
    _, stream = live(stage, instant_unlock_price=250)
    fan = stage.person("fan", tokens=1_250, present=False)
    request = stage.ask(fan, stream, 10, instant_unlock=True)
    assert stage.balances(fan)["held"] == 1_250
    assert not rules(stage, request.request_id)
    assert stage.balances(fan) | {"wallet": 250, "held": 1_000} == stage.balances(fan)
    view = stage.run(lambda tx: private_streams.request_view(tx, request.request_id, fan))
    assert (view.status, view.total_cost, view.unlock_price) == ("pending", 1_000, 0)
    assert [m["tokens"] for m in stage.told(fan, "PRIVATE_UNLOCK_RETURNED")] == [250]
    assert not rules(stage, request.request_id)
    stage.audit()


def test_a_creator_who_is_quicker_by_hand_unlocks_nothing(stage: Stage) -> None:
    creator, stream = live(stage, instant_unlock_price=250)
    fan = stage.fan(1_250)
    request = stage.ask(fan, stream, 10, instant_unlock=True)
    shown = stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now))
    assert (shown[0].earnings, shown[0].unlock_price) == (800, 250)
    stage.accept(request.request_id, creator)
    assert not rules(stage, request.request_id)
    assert stage.balances(fan) | {"wallet": 250, "held": 1_000} == stage.balances(fan)
    stage.audit()


def test_an_unlock_costs_nothing_where_a_rule_accepts_anyway(stage: Stage) -> None:
    creator, stream = live(stage, settings={"auto_accept": "all"}, instant_unlock_price=250)
    fan = stage.fan(1_250)
    quote = stage.run(lambda tx: offers.quote(tx, fan.user_id, creator.user_id, 10, instant_unlock=True))
    assert (quote.unlock_price, quote.total_cost) == (None, 1_000)
    request = stage.ask(fan, stream, 10, instant_unlock=True)
    assert (request.total_cost, request.unlock_price) == (1_000, 0)
    assert rules(stage, request.request_id)


def test_an_unlock_that_is_not_offered_is_refused(stage: Stage) -> None:
    _, stream = live(stage)
    fan = stage.fan(5_000)
    with pytest.raises(Conflict) as refusal:
        stage.ask(fan, stream, instant_unlock=True)
    assert (refusal.value.code, refusal.value.fields["field"]) == ("NOT_OFFERED", "instantUnlock")


@pytest.mark.parametrize("queue", [True, False])
def test_an_unlock_never_overrides_a_busy_creator(stage: Stage, queue: bool) -> None:
    creator, stream = live(stage, instant_unlock_price=250, queue=queue)
    running(stage, creator, stream, stage.fan(1_000))
    fan = stage.fan(5_000)
    with pytest.raises(Conflict) as refusal:
        stage.ask(fan, stream, instant_unlock=True)
    assert refusal.value.code == "CREATOR_BUSY"
    assert stage.balances(fan)["held"] == 0


def test_an_unlock_never_overrides_a_booking(stage: Stage) -> None:
    creator, stream = live(stage, instant_unlock_price=250)
    book(stage, creator, stage.fan(), starts_in_minutes=12)
    fan = stage.fan(5_000)
    with pytest.raises(Conflict) as refusal:
        stage.ask(fan, stream, instant_unlock=True)
    assert refusal.value.code == "CREATOR_UNAVAILABLE"


def test_an_unlock_never_overrides_a_block(stage: Stage) -> None:
    creator, stream = live(stage, instant_unlock_price=250)
    fan = stage.fan(1_250)
    request = stage.ask(fan, stream, 10, instant_unlock=True)
    stage.run(lambda tx: tx.add(BlockRow(creator_id=creator.user_id, fan_id=fan.user_id, created_at=stage.now)))
    assert not rules(stage, request.request_id)
    assert stage.balances(fan)["held"] == 1_000
    with pytest.raises(Forbidden):
        stage.ask(fan, stream, instant_unlock=True)


def test_the_first_of_two_unlocks_wins_and_the_second_pays_nothing_extra(stage: Stage) -> None:
    _, stream = live(stage, instant_unlock_price=250, queue=True)
    first, second = stage.fan(1_250), stage.fan(1_250)
    requests = [stage.ask(fan, stream, 10, instant_unlock=True) for fan in (first, second)]
    assert rules(stage, requests[0].request_id)
    assert not rules(stage, requests[1].request_id)
    view = stage.run(lambda tx: private_streams.request_view(tx, requests[1].request_id, second))
    assert (view.status, view.total_cost) == ("queued", 1_000)
    assert stage.balances(second)["held"] == 1_000
    stage.audit()


def test_a_call_whose_unlock_was_dropped_and_whose_minutes_are_included_is_extended(stage: Stage) -> None:
    who = subscriber(stage, tokens=1_000, minutes=30, instant_unlock_price=250)
    request = stage.ask(who.fan, who.stream, 10, instant_unlock=True)
    assert request.total_cost == 250
    accepted = stage.accept(request.request_id, who.creator)
    assert stage.balances(who.fan)["held"] == 0
    call = Call(who.fan, who.creator, who.stream, request.request_id, accepted.session_id, accepted.room_id)
    stage.opened(call.session_id)
    stage.delivered(call.session_id, 1, 0)
    assert extend(stage, call, 2).balance == 800
    stage.call_ended(call.session_id, "time_expired", 12 * MINUTE)
    assert ended(stage, call).earnings == 160


def test_everything_at_once_adds_up(stage: Stage) -> None:
    """Discount, included minutes, unlock and an extension on one receipt."""
    who = subscriber(
        stage, tokens=5_000, minutes=4, subscriber_discount_percent=33, instant_unlock_price=251, per_minute=True
    )
    call = running(stage, who.creator, who.stream, who.fan, minutes=7, instant_unlock=True)
    # 67 tokens a minute; 3 minutes to pay and the unlock; then 2 more.
    assert stage.session(call.session_id).total_held == 3 * 67 + 251
    extend(stage, call, 2)
    stage.call_ended(call.session_id, "time_expired", 9 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.rate_per_minute, receipt.discount_percent) == (67, 33)
    assert receipt.earnings + receipt.commission == 5 * 67 + 251 == receipt.total_held
    assert receipt.commission == (5 * 67 + 251) * 20 // 100
