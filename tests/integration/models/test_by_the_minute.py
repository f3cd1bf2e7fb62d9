"""Calls paid minute by minute: the next one is held once, 20 s ahead, or the paid one is the last."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from stage import MINUTE, Call, Stage
from ways import (
    at,
    book,
    clock,
    ended,
    extend,
    live,
    running,
)

from models.db import Database
from models.errors import Conflict
from models.messages.commands import GrantBudget, SyncRooms
from models.services import sessions


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def by_the_minute(stage: Stage, tokens: int = 1_000, **wish: Any) -> Call:
    creator, stream = live(stage, per_minute=True, instant_unlock_price=250)
    return running(stage, creator, stream, stage.fan(tokens), payment_mode="per_minute", **wish)


def test_by_the_minute_the_minimum_alone_is_held_first(stage: Stage) -> None:
    _, stream = live(stage, per_minute=True)
    request = stage.ask(stage.fan(1_000), stream, 240, payment_mode="per_minute")
    assert (request.minutes, request.total_cost, request.payment_mode) == (5, 500, "per_minute")


def test_a_creator_who_does_not_take_it_is_not_paid_by_the_minute(stage: Stage) -> None:
    _, stream = live(stage)
    fan = stage.fan(1_000)
    with pytest.raises(Conflict) as refusal:
        stage.ask(fan, stream, payment_mode="per_minute")
    assert (refusal.value.code, refusal.value.fields["field"]) == ("NOT_OFFERED", "paymentMode")
    assert stage.balances(fan)["held"] == 0


def test_the_next_minute_is_held_once_20_s_ahead(stage: Stage) -> None:
    call = by_the_minute(stage)
    at(stage, call, 2, 4 * MINUTE)
    stage.later(seconds=39)
    assert clock(stage) == 0
    stage.later(seconds=1)
    assert clock(stage) == 1
    row = stage.session(call.session_id)
    assert (row.paid_minutes, row.total_held, row.hold_refused) == (6, 600, False)
    assert stage.commands(GrantBudget)[-1].paid_ms == 6 * MINUTE
    # Once a minute, whatever comes late or twice.
    at(stage, call, 3, 4 * MINUTE + 41_000)
    assert clock(stage) == 0
    stage.delivered(call.session_id, 4, 4 * MINUTE + 42_000, paid_ms=5 * MINUTE)
    assert clock(stage) == 0
    at(stage, call, 5, 5 * MINUTE + 40_000)
    assert clock(stage) == 1
    assert stage.session(call.session_id).paid_minutes == 7
    stage.audit()


def test_a_minute_that_was_held_and_never_began_comes_back(stage: Stage) -> None:
    call = by_the_minute(stage)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clock(stage)
    stage.delivered(call.session_id, 3, 4 * MINUTE + 41_000)
    assert stage.session(call.session_id).acknowledged_ms == 6 * MINUTE
    stage.call_ended(call.session_id, "fan_left", 4 * MINUTE + 50_000)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.refunded, receipt.payment_mode) == (5, 100, "per_minute")


def test_without_tokens_the_paid_minute_is_the_last_and_ends_in_payment_failed(stage: Stage) -> None:
    call = by_the_minute(stage, tokens=650)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    assert clock(stage) == 1
    at(stage, call, 3, 5 * MINUTE + 40_000)
    assert clock(stage) == 1
    row = stage.session(call.session_id)
    assert (row.paid_minutes, row.hold_refused, row.next_hold_at) == (6, True, None)
    grant = stage.commands(GrantBudget)[-1]
    assert (grant.paid_ms, grant.spent_reason) == (6 * MINUTE, "PAYMENT_FAILED")
    view = stage.run(lambda tx: sessions.session_view(tx, call.session_id, call.fan.user_id))
    assert isinstance(view, sessions.SessionView)
    assert view.hold_refused
    # It is not asked for again.
    at(stage, call, 4, 5 * MINUTE + 50_000)
    assert clock(stage) == 0
    stage.call_ended(call.session_id, "time_expired", 6 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes, receipt.refunded) == ("PAYMENT_FAILED", 6, 0)
    assert stage.session(call.session_id).end_row == "payment_refused"


def test_a_reborn_node_knows_that_the_next_minute_was_refused(stage: Stage) -> None:
    call = by_the_minute(stage, tokens=500)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clock(stage)
    stage.node_ready("boot_2")
    spec = next(spec for spec in stage.commands(SyncRooms)[-1].open if spec.room_id == call.room_id)
    assert (spec.budget.paid_ms, spec.budget.spent_reason) == (5 * MINUTE, "PAYMENT_FAILED")


def test_without_an_answer_the_time_expires(stage: Stage) -> None:
    """No clock ran: the control plane was away."""
    call = by_the_minute(stage)
    stage.call_ended(call.session_id, "time_expired", 5 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == ("TIME_EXPIRED", 5)


def test_a_next_minute_that_the_node_never_heard_of_comes_back(stage: Stage) -> None:
    call = by_the_minute(stage)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clock(stage)
    stage.call_ended(call.session_id, "time_expired", 5 * MINUTE, paid_ms=5 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.total_held, receipt.refunded) == (5, 600, 100)
    assert stage.told(call.fan, "EXTENSION_RETURNED") == []


@pytest.mark.parametrize("state", ["paused", "settling"])
def test_nothing_is_held_while_the_clock_stands(stage: Stage, state: str) -> None:
    call = by_the_minute(stage)
    at(stage, call, 2, 4 * MINUTE + 30_000)
    if state == "paused":
        stage.delivered(call.session_id, 3, 4 * MINUTE + 30_000, state="paused", cause="creator")
    else:
        stage.end(call.session_id, call.fan)
    stage.later(seconds=60)
    assert clock(stage) == 0
    if state == "paused":
        stage.delivered(call.session_id, 4, 4 * MINUTE + 30_000)
        stage.later(seconds=10)
        assert clock(stage) == 1


def test_a_call_paid_ahead_is_never_continued_by_itself(stage: Stage) -> None:
    creator, stream = live(stage, per_minute=True)
    call = running(stage, creator, stream, stage.fan(5_000))
    at(stage, call, 2, 9 * MINUTE + 59_000)
    assert clock(stage) == 0


def test_a_fan_without_tokens_may_still_extend_after_topping_up(stage: Stage) -> None:
    call = by_the_minute(stage, tokens=500)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clock(stage)
    stage.run(lambda tx: stage._buy(tx, call.fan.user_id, 1_000, "pur_more"))
    assert extend(stage, call, 2).paid_minutes == 7
    grant = stage.commands(GrantBudget)[-1]
    assert (grant.paid_ms, grant.spent_reason) == (7 * MINUTE, "TIME_EXPIRED")
    at(stage, call, 3, 6 * MINUTE + 40_000)
    assert clock(stage) == 1
    assert stage.session(call.session_id).paid_minutes == 8


def test_by_the_minute_never_runs_into_a_booking(stage: Stage) -> None:
    call = by_the_minute(stage)
    book(stage, call.creator, stage.fan(), starts_in_minutes=10)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clock(stage)
    row = stage.session(call.session_id)
    assert (row.paid_minutes, row.hold_refused) == (5, False)
    stage.call_ended(call.session_id, "time_expired", 5 * MINUTE)
    assert ended(stage, call).end_reason == "TIME_EXPIRED"


def test_two_clocks_hold_one_minute(stage: Stage) -> None:
    call = by_the_minute(stage)
    at(stage, call, 2, 4 * MINUTE + 40_000)
    clocks = [threading.Thread(target=clock, args=(stage,)) for _ in range(4)]
    for thread in clocks:
        thread.start()
    for thread in clocks:
        thread.join(120)
    assert stage.session(call.session_id).paid_minutes == 6
    assert stage.balances(call.fan)["held"] == 600


def test_many_calls_are_continued_in_one_round(stage: Stage) -> None:
    calls = [by_the_minute(stage, tokens=tokens) for tokens in (1_000, 500, 1_000)]
    for call in calls:
        stage.delivered(call.session_id, 2, 4 * MINUTE + 40_000)
    assert clock(stage) == 3
    assert [stage.session(call.session_id).paid_minutes for call in calls] == [6, 5, 6]
    stage.audit()


def test_a_call_by_the_minute_ends_after_480(stage: Stage) -> None:
    creator, stream = live(stage, settings={"rate_per_minute": 1}, per_minute=True)
    call = running(stage, creator, stream, stage.fan(2_000), payment_mode="per_minute")
    extend(stage, call, 240)
    extend(stage, call, 235)
    at(stage, call, 2, 479 * MINUTE + 50_000)
    assert clock(stage) == 0
    stage.call_ended(call.session_id, "time_expired", 480 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == ("TIME_EXPIRED", 480)
