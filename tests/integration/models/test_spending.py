"""A fan's own daily limit: down at once, up the next UTC day; the ledger holds it against everything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from patrons import patron_of, refused, subscribe
from stage import Stage

from models.db import Database
from models.services import spending
from models.services.accounts import Person
from models.services.spending import SpendingCap

MIDNIGHT = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def set_cap(stage: Stage, fan: Person, tokens: int | None) -> SpendingCap:
    return stage.run(lambda tx: spending.set_cap(tx, fan.user_id, tokens, stage.now))


def cap(stage: Stage, fan: Person) -> SpendingCap:
    return stage.run(lambda tx: spending.cap_of(tx, fan.user_id, stage.now))


def clock(stage: Stage) -> int:
    return stage.run(lambda tx: spending.raise_caps_due(tx, stage.now))


def test_a_first_limit_and_a_lower_one_hold_at_once(stage: Stage) -> None:
    fan = stage.fan()
    assert cap(stage, fan) == SpendingCap(
        daily_cap_tokens=None, spent_today=0, next_daily_cap_tokens=None, changes_at=None
    )
    for tokens in (500, 200, 0):
        assert set_cap(stage, fan, tokens).daily_cap_tokens == tokens
    refused("SPENDING_CAP", subscribe, stage, fan, patron_of(stage))


@pytest.mark.parametrize("wished", [800, None])
def test_a_higher_limit_waits_for_the_next_day(stage: Stage, wished: int | None) -> None:
    # given
    fan, creator = stage.fan(), patron_of(stage, price=600)
    set_cap(stage, fan, 500)
    # when
    view = set_cap(stage, fan, wished)
    # then: not today
    assert (view.daily_cap_tokens, view.next_daily_cap_tokens, view.changes_at) == (500, wished, MIDNIGHT)
    assert clock(stage) == 0
    refused("SPENDING_CAP", subscribe, stage, fan, creator)
    # and from midnight on
    stage.now = MIDNIGHT
    assert cap(stage, fan).daily_cap_tokens == wished
    assert [clock(stage), clock(stage)] == [1, 0]
    assert cap(stage, fan).changes_at is None
    subscribe(stage, fan, creator)


@pytest.mark.parametrize("now", [500, 400])
def test_a_waiting_raise_is_taken_back_by_what_is_set_after_it(stage: Stage, now: int) -> None:
    fan = stage.fan()
    set_cap(stage, fan, 500)
    set_cap(stage, fan, 800)
    set_cap(stage, fan, now)
    stage.now = MIDNIGHT
    clock(stage)
    assert cap(stage, fan).daily_cap_tokens == now


def test_a_raise_that_is_due_counts_before_the_clock_has_come(stage: Stage) -> None:
    """Raised to 800 yesterday: 700 today is lower, and holds at once."""
    fan = stage.fan()
    set_cap(stage, fan, 500)
    set_cap(stage, fan, 800)
    stage.now = MIDNIGHT
    assert set_cap(stage, fan, 700).daily_cap_tokens == 700


def test_tips_subscriptions_and_holds_count_together(stage: Stage) -> None:
    fan, creator = stage.fan(2_000), patron_of(stage, price=300)
    _, stream = stage.live()
    set_cap(stage, fan, 799)
    subscribe(stage, fan, creator)
    assert cap(stage, fan).spent_today == 300
    refused("SPENDING_CAP", stage.ask, fan, stream, 5)
    stage.now = MIDNIGHT
    stage.heartbeat()
    assert cap(stage, fan).spent_today == 0
    assert stage.ask(fan, stream, 5).total_cost == 500


def test_limits_that_are_none(stage: Stage) -> None:
    fan = stage.fan()
    for tokens in (-1, 2**63):
        assert refused("INVALID", set_cap, stage, fan, tokens).fields["field"] == "dailyCapTokens"
