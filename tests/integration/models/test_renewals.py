"""Renewing by the clock: once a period whatever crashes, three days of trying, and an honest end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patrons import active, found, freeze, offer, patron_of, subscribe
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from stage import START, Stage

from models.books import TransferRow
from models.db import Database
from models.months import months_after
from models.services import accounts, renewals, spending, subscriptions
from models.services.accounts import Person
from models.subscriptions import SubscriptionRow
from tests.effort import examples


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def clock(stage: Stage) -> int:
    return stage.run(lambda tx: renewals.renew_due(tx, stage.now))


def at(stage: Stage, text: str) -> None:
    stage.now = datetime.fromisoformat(text).replace(tzinfo=UTC)


def payments(stage: Stage, subscription_id: str = "") -> int:
    of_it = TransferRow.reference.startswith(subscription_id, autoescape=True)
    with stage.database.reading() as tx:
        return tx.scalar(select(func.count()).where(TransferRow.kind == "subscription", of_it)) or 0


def pay_in(stage: Stage, fan: Person, tokens: int) -> None:
    stage.run(lambda tx: stage._buy(tx, fan.user_id, tokens, f"pur_{fan.handle}_{stage.now:%m%d%H%M%S}"))


def test_each_month_is_paid_once(stage: Stage) -> None:
    # given: since 31 January
    at(stage, "2026-01-31T12:00:00")
    creator, fan = patron_of(stage, price=300, minutes=20), stage.fan(1_000)
    subscribe(stage, fan, creator)
    stage.run(lambda tx: subscriptions.reserve_minutes(tx, fan.user_id, creator.user_id, 20, "req", stage.now))
    # when: nothing is due a second before
    at(stage, "2026-02-28T11:59:59")
    assert clock(stage) == 0
    assert active(stage, fan, creator)
    # and the clock comes several times after
    at(stage, "2026-02-28T12:00:00")
    assert not active(stage, fan, creator)
    assert [clock(stage), clock(stage), clock(stage)] == [1, 0, 0]
    # then: a whole new month, with all of its minutes
    view = found(stage, fan)[0]
    assert (view.period_start.day, view.period_end.isoformat()) == (28, "2026-03-31T12:00:00+00:00")
    assert (view.minutes_left, active(stage, fan, creator)) == (20, True)
    assert (stage.balances(fan)["wallet"], payments(stage)) == (400, 2)
    stage.audit()


def test_minutes_that_come_back_late_are_of_their_own_month(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300, minutes=20), stage.fan(1_000)
    subscribe(stage, fan, creator)
    stage.run(lambda tx: subscriptions.reserve_minutes(tx, fan.user_id, creator.user_id, 15, "req", stage.now))
    stage.later(days=31)
    clock(stage)
    stage.run(lambda tx: subscriptions.return_minutes(tx, "req", 0, stage.now))
    assert found(stage, fan)[0].minutes_left == 20


def test_a_clock_that_dies_before_its_commit_has_done_nothing(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    subscribe(stage, fan, creator)
    stage.later(days=31)

    def die_at_the_end(tx: Session) -> None:
        renewals.renew_due(tx, stage.now)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.run(die_at_the_end)
    assert (stage.balances(fan)["wallet"], payments(stage)) == (700, 1)
    clock(stage)
    assert (stage.balances(fan)["wallet"], payments(stage)) == (400, 2)


def test_clocks_at_the_same_moment_renew_once(stage: Stage) -> None:
    creator = patron_of(stage, price=300)
    fans = [stage.fan(1_000) for _ in range(5)]
    for fan in fans:
        subscribe(stage, fan, creator)
    stage.later(days=31)
    threads = [threading.Thread(target=clock, args=(stage,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock(stage)
    assert [stage.balances(fan)["wallet"] for fan in fans] == [400] * 5
    assert payments(stage) == 10
    stage.audit()


def test_without_tokens_it_is_tried_three_days_and_ends(stage: Stage) -> None:
    # given
    creator, fan = patron_of(stage, price=300), stage.fan(300)
    subscribe(stage, fan, creator)
    # when
    end, tries = found(stage, fan)[0].period_end, []
    stage.now = end
    while found(stage, fan)[0].status != "ended":
        if clock(stage):
            tries.append(stage.now - end)
            assert not active(stage, fan, creator)
        stage.now += timedelta(hours=6)
    # then
    assert tries == [timedelta(days=days) for days in range(4)]
    assert found(stage, fan)[0].end_reason == "unpaid"
    statuses = [told["status"] for told in stage.told(fan, "SUBSCRIPTION_CHANGED")]
    assert statuses == ["active", "unpaid", "unpaid", "unpaid", "ended"]
    assert (stage.balances(fan)["wallet"], payments(stage)) == (0, 1)


def test_tokens_that_come_in_time_begin_a_month_of_their_own(stage: Stage) -> None:
    """Nobody pays for the days without benefits: the month begins when it is paid."""
    creator, fan = patron_of(stage, price=300), stage.fan(300)
    subscribe(stage, fan, creator)
    stage.now = found(stage, fan)[0].period_end
    clock(stage)
    stage.now += timedelta(days=1)
    pay_in(stage, fan, 300)
    assert clock(stage) == 1
    view = found(stage, fan)[0]
    assert (view.status, view.period_start, view.period_end) == (
        "active",
        stage.now,
        months_after(stage.now, 1),
    )
    stage.now = view.period_end
    pay_in(stage, fan, 300)
    assert clock(stage) == 1
    assert (active(stage, fan, creator), payments(stage)) == (True, 3)


def test_one_who_waits_for_money_may_subscribe_anew(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(300)
    first = subscribe(stage, fan, creator)
    stage.now = first.period_end
    clock(stage)
    offer(stage, creator, price=200)
    pay_in(stage, fan, 400)
    again = subscribe(stage, fan, creator)
    ended = next(view for view in found(stage, fan) if view.subscription_id == first.subscription_id)
    assert (again.price_tokens, ended.end_reason) == (200, "replaced")
    stage.now += timedelta(days=1)
    clock(stage)
    assert stage.balances(fan)["wallet"] == 200


def test_what_was_cancelled_is_not_paid_again(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    view = subscribe(stage, fan, creator)
    stage.run(lambda tx: subscriptions.cancel(tx, view.subscription_id, fan_id=fan.user_id, now=stage.now))
    stage.now = view.period_end
    clock(stage)
    assert found(stage, fan)[0].end_reason == "cancelled"
    assert stage.balances(fan)["wallet"] == 700


@pytest.mark.parametrize("why", ["blocked", "not_offered"])
def test_what_the_creator_gives_up_is_not_renewed(stage: Stage, why: str) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    view = subscribe(stage, fan, creator)
    if why == "blocked":
        stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    else:
        offer(stage, creator, price=None)
    assert active(stage, fan, creator)
    stage.now = view.period_end
    clock(stage)
    assert (found(stage, fan)[0].end_reason, stage.balances(fan)["wallet"]) == (why, 700)


@pytest.mark.parametrize("why", ["frozen", "cap"])
def test_a_fan_who_may_not_spend_is_not_charged(stage: Stage, why: str) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    view = subscribe(stage, fan, creator)
    if why == "frozen":
        freeze(stage, fan)
    else:
        stage.run(lambda tx: spending.set_cap(tx, fan.user_id, 299, stage.now))
    stage.now = view.period_end
    clock(stage)
    assert (found(stage, fan)[0].status, stage.balances(fan)["wallet"]) == ("unpaid", 700)
    for _ in range(3):
        stage.now += timedelta(days=1)
        clock(stage)
    assert found(stage, fan)[0].end_reason == "unpaid"


def test_a_month_is_paid_once_whoever_asks_for_it(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    view = subscribe(stage, fan, creator)
    stage.later(seconds=5)

    def again(tx: Session) -> None:
        subscriptions.pay(tx, tx.get_one(SubscriptionRow, view.subscription_id), 1, stage.now)

    stage.run(again)
    assert (stage.balances(fan)["wallet"], payments(stage)) == (700, 1)


def test_a_clock_that_was_away_gives_one_more_day(stage: Stage) -> None:
    """Also in a period after one that was paid late: each has its own tries."""
    creator, fan = patron_of(stage, price=300), stage.fan(300)
    stage.now = subscribe(stage, fan, creator).period_end
    clock(stage)
    pay_in(stage, fan, 300)
    stage.now += timedelta(days=1)
    clock(stage)
    stage.now = found(stage, fan)[0].period_end + timedelta(days=5)
    clock(stage)
    assert found(stage, fan)[0].status == "unpaid"
    pay_in(stage, fan, 300)
    stage.now += timedelta(days=1)
    clock(stage)
    assert active(stage, fan, creator)


def test_a_given_subscription_costs_nothing(stage: Stage) -> None:
    creator, fan = stage.creator(), stage.fan(0)
    stage.run(lambda tx: accounts.set_subscription(tx, fan.user_id, creator.user_id, True, stage.now))
    stage.later(days=31)
    clock(stage)
    assert active(stage, fan, creator)
    assert payments(stage) == 0


hours = st.lists(st.integers(1, 60 * 24), min_size=1, max_size=25)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=hours, tokens=st.integers(100, 900))
def test_paid_periods_never_overlap_and_each_has_one_payment(
    sqlite_stage: Stage, hours: list[int], tokens: int
) -> None:
    """However late the clock comes: what is paid is a month that lies ahead, and the sum is what is gone."""
    stage = sqlite_stage
    stage.now = START
    creator, fan = patron_of(stage, price=100), stage.fan(tokens)
    first = subscribe(stage, fan, creator)
    ends = [first.period_end]
    for step in hours:
        stage.now += timedelta(hours=step)
        clock(stage)
        view = found(stage, fan)[0]
        if view.period_end != ends[-1]:
            assert view.period_start >= ends[-1]
            assert view.period_start <= stage.now < view.period_end or stage.now - ends[-1] < timedelta(hours=1)
            ends.append(view.period_end)
    paid = payments(stage, first.subscription_id)
    assert paid == len(ends)
    assert stage.balances(fan)["wallet"] == tokens - 100 * paid


@pytest.fixture
def sqlite_stage(sqlite_url: str):  # type: ignore[no-untyped-def]
    database = Database(sqlite_url)
    yield Stage(database)
    database.close()
