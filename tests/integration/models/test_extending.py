"""More time for a running call, from the press to the receipt: who may, what is held, and who lost the race."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from stage import MINUTE, Stage
from ways import (
    book,
    ended,
    extend,
    live,
    running,
)

from models.db import Database
from models.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired
from models.messages.commands import GrantBudget, SyncRooms
from models.people import PersonRow
from models.services import private_streams, sessions


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def test_an_extension_is_held_told_to_the_node_and_billed_once_acknowledged(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))

    stage.later(minutes=1)
    extended = extend(stage, call, 5)

    assert (extended.paid_minutes, extended.balance) == (15, 500)
    assert stage.balances(call.fan)["held"] == 1_500
    row = stage.session(call.session_id)
    assert (row.paid_ms, row.acknowledged_ms, row.total_held) == (15 * MINUTE, 10 * MINUTE, 1_500)
    grant = stage.commands(GrantBudget)[-1]
    assert (grant.room_id, grant.session_id, grant.paid_ms) == (call.room_id, call.session_id, 15 * MINUTE)
    assert grant.spent_reason == "TIME_EXPIRED"
    assert stage.told(call.fan, "BALANCE_CHANGED")[-1]["available"] == 500
    stage.later(minutes=14)
    stage.call_ended(call.session_id, "time_expired", 15 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.paid_ms, receipt.total_held) == (15, 15 * MINUTE, 1_500)
    assert [transfer.kind for transfer in receipt.transfers] == ["hold", "hold", "settle"]


def test_an_extension_that_lost_the_race_comes_back_and_is_told(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    extend(stage, call, 5)

    stage.call_ended(call.session_id, "time_expired", 10 * MINUTE, paid_ms=10 * MINUTE)

    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.refunded) == (10, 500)
    told = stage.told(call.fan, "EXTENSION_RETURNED")
    assert [(m["sessionId"], m["minutes"], m["tokens"]) for m in told] == [(call.session_id, 5, 500)]
    words = stage.run(lambda tx: sessions.receipt_words(tx, call.session_id, call.fan.user_id))
    assert words.endswith("The call ended before 5 minutes could be added: 500 tokens came back.")


def test_an_extension_that_arrived_is_not_told_as_lost(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    extend(stage, call, 5)
    stage.call_ended(call.session_id, "fan_left", 6 * MINUTE)
    assert ended(stage, call).refunded == 900
    assert stage.told(call.fan, "EXTENSION_RETURNED") == []


def test_the_same_extension_again_changes_nothing(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    first = extend(stage, call, 5, key="same")
    assert extend(stage, call, 5, key="same") == first
    assert len(stage.commands(GrantBudget)) == 1
    assert extend(stage, call, 5, key="other").paid_minutes == 20


def test_an_extension_is_refused_without_tokens_and_nothing_changes(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(1_400))
    with pytest.raises(PaymentRequired) as refusal:
        extend(stage, call, 5)
    assert (refusal.value.fields["required"], refusal.value.fields["balance"]) == (500, 400)
    assert (stage.session(call.session_id).paid_minutes, stage.commands(GrantBudget)) == (10, [])
    stage.audit()


@pytest.mark.parametrize("status", ["connecting", "settling", "ended"])
def test_only_a_running_call_is_extended(stage: Stage, status: str) -> None:
    call = stage.connecting(tokens=2_000)
    if status != "connecting":
        stage.opened(call.session_id)
        stage.delivered(call.session_id, 1, 0)
        stage.end(call.session_id, call.fan)
    if status == "ended":
        stage.call_ended(call.session_id, "closed", 60_000)
    with pytest.raises(Conflict) as refusal:
        extend(stage, call)
    assert (refusal.value.code, refusal.value.fields["status"]) == ("SESSION_NOT_LIVE", status)
    stage.audit()


def test_a_paused_call_is_extended(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    stage.delivered(call.session_id, 2, 5_000, state="paused", cause="creator")
    assert extend(stage, call).paid_minutes == 15


def test_a_call_is_extended_by_its_fan_alone(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    for person in (creator, stage.fan(5_000)):
        with pytest.raises(NotFound):
            extend(stage, call, fan=person)


@pytest.mark.parametrize("minutes", [0, -5, 241, True])
def test_an_extension_is_of_1_to_240_minutes(stage: Stage, minutes: int) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    with pytest.raises(Invalid) as refusal:
        extend(stage, call, minutes)
    assert refusal.value.fields["field"] == "minutes"


def test_a_call_lasts_at_most_480_minutes(stage: Stage) -> None:
    creator, stream = live(stage, settings={"rate_per_minute": 1})
    call = running(stage, creator, stream, stage.fan(2_000), minutes=240)
    assert extend(stage, call, 239).paid_minutes == 479
    with pytest.raises(Invalid, match="1 more can be added"):
        extend(stage, call, 2)
    assert extend(stage, call, 1).paid_minutes == 480
    with pytest.raises(Invalid):
        extend(stage, call, 1)


def test_an_extension_keeps_the_calls_own_rate(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    stage.run(
        lambda tx: private_streams.put_settings(
            tx,
            creator.user_id,
            enabled=False,
            rate_per_minute=900,
            min_minutes=60,
            auto_accept="manual",
            now=stage.now,
        )
    )
    assert extend(stage, call, 5).balance == 500


def test_an_extension_is_refused_by_frozen_spending_and_the_own_cap(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))

    def set_on_the_fan(**values: Any) -> None:
        def write(tx: Any) -> None:
            for name, value in values.items():
                setattr(tx.get_one(PersonRow, call.fan.user_id), name, value)

        stage.run(write)

    set_on_the_fan(daily_cap_tokens=1_400)
    with pytest.raises(Forbidden) as refusal:
        extend(stage, call, 5)
    assert refusal.value.code == "SPENDING_CAP"
    set_on_the_fan(daily_cap_tokens=None, spending_frozen_at=stage.now)
    with pytest.raises(Forbidden) as refusal:
        extend(stage, call, 5)
    assert refusal.value.code == "SPENDING_FROZEN"


def test_an_extension_never_runs_into_a_booking(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(5_000))
    book(stage, creator, stage.fan(), starts_in_minutes=20)
    # 10 minutes are paid; the 5 minutes before the booking stay free.
    with pytest.raises(Conflict) as refusal:
        extend(stage, call, 6)
    assert refusal.value.code == "CREATOR_UNAVAILABLE"
    assert extend(stage, call, 5).paid_minutes == 15


def test_a_node_that_comes_back_is_told_the_extended_budget(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(2_000))
    extend(stage, call, 5)
    stage.node_ready("boot_2")
    spec = next(spec for spec in stage.commands(SyncRooms)[-1].open if spec.room_id == call.room_id)
    assert (spec.budget.paid_ms, spec.budget.spent_reason) == (15 * MINUTE, "TIME_EXPIRED")


def test_an_extended_call_is_given_the_time_to_use_it_before_it_counts_as_silent(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(5_000))
    extend(stage, call, 30)
    stage.later(minutes=20)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    assert stage.session(call.session_id).status == "live"


def test_of_many_extensions_at_once_each_is_held_for(stage: Stage) -> None:
    creator, stream = live(stage)
    call = running(stage, creator, stream, stage.fan(3_050))
    outcomes: list[object] = []

    def press() -> None:
        try:
            outcomes.append(extend(stage, call, 5))
        except PaymentRequired as refusal:
            outcomes.append(refusal)

    presses = [threading.Thread(target=press) for _ in range(6)]
    for thread in presses:
        thread.start()
    for thread in presses:
        thread.join(120)
    assert len(outcomes) == 6
    assert sum(isinstance(outcome, PaymentRequired) for outcome in outcomes) == 2
    row = stage.session(call.session_id)
    assert (row.paid_minutes, row.total_held, stage.balances(call.fan)["held"]) == (30, 3_000, 3_000)
    stage.audit()
