"""Beginning and ending a subscription, and the minutes that it includes; on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patrons import active, found, freeze, offer, patron_of, refused, subscribe
from stage import Stage

from models.db import Database
from models.errors import DomainError
from models.services import accounts, offers, subscriptions
from models.services.accounts import Person
from tests.effort import examples


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def reserve(stage: Stage, fan: Person, creator: Person, wanted: int, request_id: str) -> int:
    return stage.run(
        lambda tx: subscriptions.reserve_minutes(tx, fan.user_id, creator.user_id, wanted, request_id, stage.now)
    )


def give_back(stage: Stage, request_id: str, used: int = 0) -> None:
    stage.run(lambda tx: subscriptions.return_minutes(tx, request_id, used, stage.now))


def left(stage: Stage, fan: Person, creator: Person) -> int:
    return stage.run(lambda tx: subscriptions.minutes_left(tx, fan.user_id, creator.user_id, stage.now))


# --- subscribing -------------------------------------------------------------------------------------


def test_the_first_month_is_paid_at_once(stage: Stage) -> None:
    # given
    creator, fan = patron_of(stage, price=300, minutes=20), stage.fan(1_000)
    assert not active(stage, fan, creator)
    # when
    view = subscribe(stage, fan, creator)
    # then
    assert (view.status, view.price_tokens, view.minutes_left) == ("active", 300, 20)
    assert (view.period_start, view.period_end.isoformat()) == (stage.now, "2026-02-02T12:00:00+00:00")
    assert stage.balances(fan)["wallet"] == 700
    assert stage.balances(creator)["earnings_pending"] == 240
    assert active(stage, fan, creator)
    assert [told["status"] for told in stage.told(fan, "SUBSCRIPTION_CHANGED")] == ["active"]
    assert [told["handle"] for told in stage.told(creator, "SUBSCRIPTION_CHANGED")] == [fan.handle]
    assert stage.run(lambda tx: subscriptions.subscriber_count(tx, creator.user_id, stage.now)) == 1
    stage.audit()


def test_who_cannot_subscribe(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300), stage.fan(1_000)
    other, nobody = stage.creator(), stage.fan(0)
    refused("OWN_STREAM", subscribe, stage, creator, creator)
    refused("NOT_A_FAN", subscribe, stage, other, creator)
    refused("NOT_FOUND", subscribe, stage, fan, nobody)
    refused("SUBSCRIPTION_NOT_OFFERED", subscribe, stage, fan, other)
    assert refused("INSUFFICIENT_TOKENS", subscribe, stage, nobody, creator).fields["required"] == 300
    assert found(stage, nobody) == []
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    refused("BLOCKED", subscribe, stage, fan, creator)
    stage.run(lambda tx: accounts.unblock(tx, creator.user_id, fan.user_id))
    freeze(stage, fan)
    refused("SPENDING_FROZEN", subscribe, stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 1_000


def test_nobody_subscribes_twice(stage: Stage) -> None:
    creator, fan = patron_of(stage), stage.fan(1_000)
    subscribe(stage, fan, creator)
    refused("ALREADY_SUBSCRIBED", subscribe, stage, fan, creator)
    assert stage.balances(fan)["wallet"] == 700


def test_two_presses_at_once_are_one_subscription(stage: Stage) -> None:
    creator, fan = patron_of(stage), stage.fan(1_000)
    start, outcomes = threading.Barrier(6), []

    def press() -> None:
        start.wait()
        try:
            outcomes.append(subscribe(stage, fan, creator).status)
        except DomainError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=press) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ALREADY_SUBSCRIBED"] * 5 + ["active"]
    assert stage.balances(fan)["wallet"] == 700
    stage.audit()


def test_what_was_seen_is_what_is_bought(stage: Stage) -> None:
    creator, fan = patron_of(stage, price=300, minutes=20), stage.fan(1_000)
    assert refused("PRICE_CHANGED", subscribe, stage, fan, creator, max_price=299).fields["total_cost"] == 300
    refused("PRICE_CHANGED", subscribe, stage, fan, creator, max_price=300, min_minutes=21)
    assert subscribe(stage, fan, creator, max_price=300, min_minutes=20).price_tokens == 300


def test_what_was_promised_stays(stage: Stage) -> None:
    """The creator asks more and gives less: that is for those who subscribe after it."""
    creator, fan, later = patron_of(stage, price=300, minutes=20), stage.fan(1_000), stage.fan(1_000)
    subscribe(stage, fan, creator)
    offer(stage, creator, price=500, minutes=5)
    assert (found(stage, fan)[0].price_tokens, left(stage, fan, creator)) == (300, 20)
    assert subscribe(stage, later, creator).price_tokens == 500


def test_cancelling_keeps_the_month_and_can_be_taken_back(stage: Stage) -> None:
    creator, fan, other = patron_of(stage), stage.fan(1_000), stage.fan()
    view = subscribe(stage, fan, creator)

    def act(wish: Any, person: Person = fan) -> str:
        return stage.run(  # type: ignore[no-any-return]
            lambda tx: wish(tx, view.subscription_id, fan_id=person.user_id, now=stage.now)
        ).status

    refused("NOT_FOUND", act, subscriptions.cancel, other)
    assert [act(subscriptions.cancel), act(subscriptions.cancel)] == ["ending", "ending"]
    assert active(stage, fan, creator)
    assert [act(subscriptions.resume), act(subscriptions.resume)] == ["active", "active"]
    act(subscriptions.cancel)
    stage.later(days=31)
    assert not active(stage, fan, creator)
    refused("SUBSCRIPTION_ENDED", act, subscriptions.resume)
    assert act(subscriptions.cancel) == "ended"
    refused("SUBSCRIPTION_ENDED", act, subscriptions.cancel)
    assert stage.balances(fan)["wallet"] == 700


def test_a_payment_that_is_taken_back_ends_it(stage: Stage) -> None:
    creator, fan = patron_of(stage), stage.fan(1_000)
    view = subscribe(stage, fan, creator)
    for reference, status in ((f"{view.subscription_id}:2", "active"), (f"{view.subscription_id}:1", "ended")):
        stage.run(lambda tx, ref=reference: subscriptions.payment_taken_back(tx, ref, stage.now))  # type: ignore[misc]
        assert found(stage, fan)[0].status == status
    assert not active(stage, fan, creator)


def test_the_discount_and_the_rule_are_for_subscribers(stage: Stage) -> None:
    creator, stream = stage.live(auto_accept="subscribers")
    offer(stage, creator, price=300, minutes=0, discount=25)
    fan, other = stage.fan(5_000), stage.fan(5_000)
    subscribe(stage, fan, creator)

    def price(person: Person) -> int:
        return stage.ask(person, stream).rate_per_minute

    assert (price(fan), price(other)) == (75, 100)
    assert stage.run(lambda tx: offers.is_subscriber(tx, fan.user_id, creator.user_id, stage.now))
    stage.later(days=32)
    assert not stage.run(lambda tx: offers.is_subscriber(tx, fan.user_id, creator.user_id, stage.now))


# --- included minutes --------------------------------------------------------------------------------


def test_minutes_are_reserved_used_and_given_back(stage: Stage) -> None:
    creator, fan = patron_of(stage, minutes=20), stage.fan()
    subscribe(stage, fan, creator)
    # given: 15 of 20, then what is left
    assert [reserve(stage, fan, creator, 15, "req_a"), reserve(stage, fan, creator, 10, "req_b")] == [15, 5]
    assert reserve(stage, fan, creator, 10, "req_c") == 0
    # when: repeats change nothing
    assert reserve(stage, fan, creator, 3, "req_a") == 15
    give_back(stage, "req_a", used=4)
    give_back(stage, "req_a", used=0)
    give_back(stage, "req_c")
    # then
    assert left(stage, fan, creator) == 11
    give_back(stage, "req_b")
    assert left(stage, fan, creator) == 16


def test_without_a_subscription_nothing_is_reserved(stage: Stage) -> None:
    creator, fan = patron_of(stage), stage.fan()
    assert reserve(stage, fan, creator, 5, "req_a") == 0
    subscribe(stage, fan, creator)
    stage.later(days=31)
    assert (reserve(stage, fan, creator, 5, "req_b"), left(stage, fan, creator)) == (0, 0)


def test_no_more_is_used_than_was_reserved(stage: Stage) -> None:
    creator, fan = patron_of(stage, minutes=20), stage.fan()
    subscribe(stage, fan, creator)
    reserve(stage, fan, creator, 5, "req_a")
    give_back(stage, "req_a", used=9)
    assert left(stage, fan, creator) == 15


def test_requests_at_the_same_moment_never_get_more_than_there_is(stage: Stage) -> None:
    creator, fan = patron_of(stage, minutes=20), stage.fan()
    subscribe(stage, fan, creator)
    start, got = threading.Barrier(10), []

    def ask(number: int) -> None:
        start.wait()
        got.append(reserve(stage, fan, creator, 3, f"req_{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(got), sorted(got)) == (20, [0, 0, 0, 2, 3, 3, 3, 3, 3, 3])
    assert left(stage, fan, creator) == 0


steps = st.lists(
    st.tuples(st.sampled_from(["reserve", "return"]), st.integers(0, 5), st.integers(0, 30)), max_size=30
)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, included=st.integers(0, 25))
def test_whatever_is_reserved_and_given_back_adds_up(
    sqlite_stage: Stage, steps: list[tuple[str, int, int]], included: int
) -> None:
    """Against a model of two dictionaries: what is open, and what is gone."""
    stage = sqlite_stage
    creator, fan = patron_of(stage, minutes=included), stage.fan(300)
    name = subscribe(stage, fan, creator).subscription_id
    open_now: dict[str, int] = {}
    gone: dict[str, int] = {}
    for act, number, minutes in steps:
        request = f"{name}_{number}"
        free = included - sum(open_now.values()) - sum(gone.values())
        if act == "reserve":
            expected = open_now.get(request, min(minutes, free))
            if request not in gone:
                assert reserve(stage, fan, creator, minutes, request) == expected
                if expected:
                    open_now[request] = expected
        else:
            give_back(stage, request, used=minutes)
            if request in open_now:
                gone[request] = min(minutes, open_now.pop(request))
        free = included - sum(open_now.values()) - sum(gone.values())
        assert left(stage, fan, creator) == free >= 0


@pytest.fixture
def sqlite_stage(sqlite_url: str) -> Any:
    database = Database(sqlite_url)
    made = Stage(database)
    yield made
    database.close()
