"""A subscription's minutes and discount: reserved with the request, used first, returned when not used."""

from __future__ import annotations

from typing import Any

import pytest
from stage import MINUTE, Stage
from ways import (
    ended,
    extend,
    minutes_left,
    running,
    subscriber,
)

from models.db import Database
from models.errors import Conflict, PaymentRequired
from models.services import offers, private_streams


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def test_included_minutes_come_off_the_price_and_are_used_first(stage: Stage) -> None:
    who = subscriber(stage)
    call = running(stage, who.creator, who.stream, who.fan, minutes=10)
    assert stage.session(call.session_id).total_held == 600
    assert minutes_left(stage, call) == 0
    stage.call_ended(call.session_id, "fan_left", 6 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.included_minutes, receipt.included_used) == (6, 4, 4)
    assert (receipt.earnings, receipt.commission, receipt.refunded) == (160, 40, 400)
    assert minutes_left(stage, call) == 0


def test_included_minutes_that_were_not_used_return(stage: Stage) -> None:
    who = subscriber(stage, minutes=30)
    call = running(stage, who.creator, who.stream, who.fan, minutes=10)
    assert minutes_left(stage, call) == 20
    stage.call_ended(call.session_id, "fan_left", 6 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.total_held, receipt.included_used, minutes_left(stage, call)) == (0, 6, 24)


@pytest.mark.parametrize("fact", ["creator_left", "node_pause_used_up", "creator_never_connected"])
def test_all_included_minutes_return_when_it_was_not_the_fans_fault(stage: Stage, fact: str) -> None:
    who = subscriber(stage, minutes=4)
    call = running(stage, who.creator, who.stream, who.fan, minutes=10)
    connected = fact != "creator_never_connected"
    stage.call_ended(call.session_id, fact, 6 * MINUTE * connected, creator_connected=connected)
    receipt = ended(stage, call)
    assert (receipt.included_used, minutes_left(stage, call)) == (0, 4)
    assert receipt.earnings + receipt.commission == (200 if connected else 0)


def test_a_call_that_a_subscription_pays_whole_holds_and_settles_nothing(stage: Stage) -> None:
    who = subscriber(stage, tokens=0, minutes=30)
    call = running(stage, who.creator, who.stream, who.fan, minutes=10)
    stage.call_ended(call.session_id, "time_expired", 10 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.total_held, receipt.earnings, receipt.transfers) == (0, 0, ())
    assert (receipt.billed_minutes, minutes_left(stage, call)) == (10, 20)


@pytest.mark.parametrize("way", ["cancel", "decline", "expire"])
def test_a_request_that_comes_to_nothing_returns_its_minutes(stage: Stage, way: str) -> None:
    who = subscriber(stage, tokens=0, minutes=30)
    request = stage.ask(who.fan, who.stream, 10)
    assert (request.total_cost, request.included_minutes, minutes_left(stage, who)) == (0, 10, 20)
    if way == "cancel":
        stage.cancel(request.request_id, who.fan)
    elif way == "decline":
        stage.decline(request.request_id, who.creator)
    else:
        stage.later(seconds=121)
        stage.run(lambda tx: private_streams.expire_due(tx, stage.now))
    assert minutes_left(stage, who) == 30
    stage.audit()


def test_a_refused_request_reserves_nothing(stage: Stage) -> None:
    who = subscriber(stage, tokens=0, minutes=4)
    with pytest.raises(PaymentRequired):
        stage.ask(who.fan, who.stream, 10)
    with pytest.raises(Conflict):
        stage.ask(who.fan, who.stream, 10, max_total_cost=599)
    assert minutes_left(stage, who) == 4


def test_an_extension_of_included_minutes_is_paid_in_tokens(stage: Stage) -> None:
    who = subscriber(stage, tokens=1_000, minutes=30)
    call = running(stage, who.creator, who.stream, who.fan, minutes=5)
    assert extend(stage, call, 3).balance == 700
    stage.call_ended(call.session_id, "time_expired", 8 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.total_held, receipt.earnings) == (8, 300, 240)


def test_the_quote_shows_what_is_included_and_off(stage: Stage) -> None:
    who = subscriber(stage, minutes=4, subscriber_discount_percent=15, per_minute=True, instant_unlock_price=250)

    def quote(**way: Any) -> offers.Quote:
        return stage.run(
            lambda tx: offers.quote(tx, who.fan.user_id, who.creator.user_id, 10, now=stage.now, **way)
        )

    plain = quote()
    assert (plain.rate_per_minute, plain.discount_percent, plain.included_minutes) == (85, 15, 4)
    assert (plain.total_cost, plain.subscriber, plain.per_minute, plain.unlock_price) == (510, True, True, 250)
    assert plain.subscription == offers.SubscriptionTerms(price=400, minutes=4)
    assert quote(instant_unlock=True).total_cost == 760
    minute = quote(per_minute=True)
    assert (minute.minutes, minute.total_cost) == (5, 85)
    request = stage.ask(who.fan, who.stream, 10, max_total_cost=510)
    assert (request.total_cost, request.rate_per_minute) == (510, 85)
