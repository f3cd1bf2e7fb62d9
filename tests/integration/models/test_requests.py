"""The life of a request: docs/money.md, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stage import Stage, settings
from together import together

from models.db import Database
from models.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    NotFound,
    PaymentRequired,
    RateLimited,
    Unavailable,
)
from models.messages.commands import CloseRoom, OpenRoom
from models.services import accounts, presence, private_streams, streams
from models.services.accounts import Person
from models.streams import MediaNodeRow


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def refused(code: str, wish: Callable[..., Any], *args: Any, **more: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        wish(*args, **more)
    assert refusal.value.code == code
    return refusal.value


def status_of(stage: Stage, request_id: str, person: Person) -> str:
    return stage.run(lambda tx: private_streams.request_view(tx, request_id, person)).status


# --- settings and quote ------------------------------------------------------------------------------


def test_a_creators_defaults_are_100_tokens_5_minutes_manual_and_on(stage: Stage) -> None:
    creator = stage.creator()
    found = stage.run(lambda tx: private_streams.get_settings(tx, creator.user_id))
    assert (found.rate_per_minute, found.min_minutes, found.auto_accept, found.enabled) == (100, 5, "manual", True)


def test_settings_are_kept(stage: Stage) -> None:
    creator, _ = stage.live(enabled=False, rate_per_minute=7, min_minutes=60, auto_accept="subscribers")
    found = stage.run(lambda tx: private_streams.get_settings(tx, creator.user_id))
    assert (found.enabled, found.rate_per_minute, found.min_minutes, found.auto_accept) == (
        False,
        7,
        60,
        "subscribers",
    )


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"rate_per_minute": 0}, "rate"),
        ({"rate_per_minute": 100_001}, "rate"),
        ({"min_minutes": 0}, "minMinutes"),
        ({"min_minutes": 61}, "minMinutes"),
        ({"auto_accept": "sometimes"}, "autoAccept"),
    ],
)
def test_settings_that_do_not_fit_are_refused(stage: Stage, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        stage.live(**changed)
    assert refusal.value.fields["field"] == field


def test_nobody_but_a_creator_has_settings(stage: Stage) -> None:
    fan = stage.fan()
    with pytest.raises(NotFound):
        stage.run(lambda tx: private_streams.get_settings(tx, fan.user_id))


def test_a_quote_says_what_it_costs_and_whether_it_can_be_paid(stage: Stage) -> None:
    creator, _ = stage.live()
    fan = stage.fan(700)

    def quote(minutes: int | None) -> private_streams.Quote:
        return stage.run(lambda tx: private_streams.quote(tx, fan.user_id, creator.user_id, minutes))

    assert (quote(None).minutes, quote(None).total_cost, quote(None).affordable) == (5, 500, True)
    assert (quote(3).minutes, quote(3).total_cost) == (3, 500)
    assert (quote(8).total_cost, quote(8).balance, quote(8).affordable) == (800, 700, False)


# --- asking ------------------------------------------------------------------------------------------


def test_asking_holds_the_whole_price_and_tells_everybody_concerned(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(1_000)
    view = stage.ask(fan, stream, 8)
    assert (view.status, view.minutes, view.total_cost, view.balance) == ("pending", 8, 800, 200)
    assert view.expires_at == stage.now + timedelta(seconds=120)
    assert stage.balances(fan)["held"] == 800
    assert stage.told(creator, "PRIVATE_REQUESTED")[0]["requestId"] == view.request_id
    assert stage.told(fan, "BALANCE_CHANGED")[-1] | {"at": ""} == {
        "type": "BALANCE_CHANGED",
        "at": "",
        "available": 200,
        "held": 800,
    }
    assert stage.actors() == [("rules", "apply_auto_accept", f'["{view.request_id}"]')]
    stage.audit()


def test_less_than_the_minimum_costs_the_minimum(stage: Stage) -> None:
    _, stream = stage.live()
    assert stage.ask(stage.fan(), stream, 1).total_cost == 500


def test_without_enough_tokens_nothing_is_written(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(499)
    with pytest.raises(PaymentRequired) as refusal:
        stage.ask(fan, stream, 5)
    assert refusal.value.fields == {"required": 500, "balance": 499}
    assert stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now)) == ()
    assert stage.told(creator, "PRIVATE_REQUESTED") == []
    assert stage.actors() == []


@pytest.mark.parametrize("minutes", [0, -5, 241, 1441, 2**64])
def test_minutes_outside_1_to_240_are_refused(stage: Stage, minutes: int) -> None:
    _, stream = stage.live()
    with pytest.raises(Invalid):
        stage.ask(stage.fan(), stream, minutes)


def test_who_may_not_ask(stage: Stage) -> None:
    creator, stream = stage.live()
    both = stage.person("creator", "fan", tokens=1_000)
    own = stage.go_live(both)
    refused("OWN_STREAM", stage.ask, both, own)
    refused("NOT_A_FAN", stage.ask, stage.creator(), stream)
    fan = stage.fan()
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    assert isinstance(refused("BLOCKED", stage.ask, fan, stream), Forbidden)


def test_what_cannot_be_asked_for(stage: Stage) -> None:
    creator, stream = stage.live()
    _, other = stage.live()
    fan = stage.fan()
    with pytest.raises(NotFound):
        stage.run(
            lambda tx: private_streams.request(
                tx,
                fan=fan,
                creator_id=creator.user_id,
                stream_id=other.stream_id,
                minutes=5,
                now=stage.now,
                settings=stage.settings,
                cause_id="c",
            )
        )
    _, closed = stage.live(enabled=False)
    refused("PRIVATE_DISABLED", stage.ask, fan, closed)
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now))
    refused("STREAM_NOT_LIVE", stage.ask, fan, stream)


def test_a_busy_creator_cannot_be_asked(stage: Stage) -> None:
    call = stage.connecting()
    refused("CREATOR_BUSY", stage.ask, stage.fan(), call.stream)


def test_a_fan_in_a_session_cannot_ask_for_another(stage: Stage) -> None:
    call = stage.connecting(5)
    _, stream = stage.live()
    refused("FAN_BUSY", stage.ask, call.fan, stream, 5)


def test_a_price_above_the_one_seen_is_refused(stage: Stage) -> None:
    _, stream = stage.live()
    fan = stage.fan()
    refusal = refused("PRICE_CHANGED", stage.ask, fan, stream, 5, max_total_cost=499)
    assert refusal.fields["total_cost"] == 500
    assert stage.ask(fan, stream, 5, max_total_cost=500).status == "pending"


def test_one_open_request_per_creator_and_three_per_fan(stage: Stage) -> None:
    shows = [stage.live()[1] for _ in range(4)]
    fan = stage.fan(5_000)
    first = stage.ask(fan, shows[0], 5)
    assert refused("REQUEST_PENDING", stage.ask, fan, shows[0], 5).fields["request_id"] == first.request_id
    stage.ask(fan, shows[1], 5)
    stage.ask(fan, shows[2], 5)
    refused("TOO_MANY_REQUESTS", stage.ask, fan, shows[3], 5)
    stage.cancel(first.request_id, fan)
    assert stage.ask(fan, shows[3], 5).status == "pending"
    stage.audit()


@pytest.mark.parametrize("how", ["cancel", "decline"])
def test_after_two_cancels_or_declines_in_a_row_the_pair_waits_five_minutes(stage: Stage, how: str) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    for _ in range(2):
        stage.later(seconds=1)
        request = stage.ask(fan, stream, 5)
        getattr(stage, how)(request.request_id, fan if how == "cancel" else creator)
    stage.later(seconds=60)
    with pytest.raises(RateLimited) as refusal:
        stage.ask(fan, stream, 5)
    assert refusal.value.fields["retry_after_seconds"] == 240
    stage.later(seconds=240)
    assert stage.ask(fan, stream, 5).status == "pending"


def test_another_creator_may_be_asked_meanwhile_and_an_expiry_breaks_the_row(stage: Stage) -> None:
    _, stream = stage.live()
    fan = stage.fan()
    stage.cancel(stage.ask(fan, stream, 5).request_id, fan)
    stage.later(seconds=1)
    stage.ask(fan, stream, 5)
    stage.later(seconds=121)
    assert stage.run(lambda tx: private_streams.expire_due(tx, stage.now)) == 1
    stage.cancel(stage.ask(fan, stream, 5).request_id, fan)
    stage.later(seconds=1)
    assert stage.ask(fan, stream, 5).status == "pending"


def test_a_shortened_minute_shortens_the_time_to_answer(stage: Stage) -> None:
    _, stream = stage.live()
    stage.settings = settings(minute_seconds=6)
    assert stage.ask(stage.fan(), stream, 5).expires_at == stage.now + timedelta(seconds=12)


def test_what_the_creator_sees(stage: Stage) -> None:
    creator, stream = stage.live()
    fan, other = stage.fan(), stage.fan()
    stage.run(lambda tx: accounts.set_subscription(tx, fan.user_id, creator.user_id, True, stage.now))
    stage.ask(fan, stream, 10)
    stage.later(seconds=1)
    stage.ask(other, stream, 5)
    first, second = stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now))
    assert (first.fan.handle, first.fan.subscriber, second.fan.subscriber) == (fan.handle, True, False)
    assert (first.total_cost, first.earnings, first.position, second.position) == (1_000, 800, 1, 2)
    stage.later(seconds=119.5)
    assert len(stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now))) == 1


def test_a_request_is_seen_by_its_two_sides_alone(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    assert status_of(stage, request.request_id, fan) == status_of(stage, request.request_id, creator) == "pending"
    assert stage.run(lambda tx: private_streams.request_view(tx, request.request_id, creator)).balance == 0
    found = stage.run(lambda tx: private_streams.open_request_of(tx, fan.user_id, creator.user_id))
    assert found is not None
    assert found.request_id == request.request_id
    with pytest.raises(NotFound):
        status_of(stage, request.request_id, stage.fan())


# --- no ----------------------------------------------------------------------------------------------


def test_declining_gives_everything_back(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.decline(request.request_id, creator)
    assert stage.balances(fan) | {"wallet": 1_000, "held": 0} == stage.balances(fan)
    assert stage.told(fan, "PRIVATE_DECLINED")[0]["requestId"] == request.request_id
    refused("REQUEST_NOT_PENDING", stage.decline, request.request_id, creator)
    stage.audit()


def test_cancelling_gives_everything_back(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.cancel(request.request_id, fan)
    assert stage.balances(fan)["wallet"] == 1_000
    assert stage.told(creator, "PRIVATE_REQUEST_CANCELLED")[0]["requestId"] == request.request_id
    refused("REQUEST_NOT_PENDING", stage.cancel, request.request_id, fan)
    refused("REQUEST_NOT_PENDING", stage.accept, request.request_id, creator)
    stage.audit()


def test_nobody_else_answers_or_takes_back(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    for wish in (
        lambda: stage.accept(request.request_id, stage.creator()),
        lambda: stage.decline(request.request_id, stage.creator()),
        lambda: stage.cancel(request.request_id, stage.fan()),
        lambda: stage.cancel(request.request_id, creator),
        lambda: stage.accept("req_unknown", creator),
    ):
        with pytest.raises(NotFound):
            wish()
    assert status_of(stage, request.request_id, fan) == "pending"


def test_a_request_expires_after_two_minutes(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.later(seconds=119.9)
    assert stage.run(lambda tx: private_streams.expire_due(tx, stage.now)) == 0
    stage.later(seconds=0.1)
    for wish in (stage.accept, stage.decline):
        refused("REQUEST_NOT_PENDING", wish, request.request_id, creator)
    refused("REQUEST_NOT_PENDING", stage.cancel, request.request_id, fan)
    assert stage.run(lambda tx: private_streams.expire_due(tx, stage.now)) == 1
    assert stage.run(lambda tx: private_streams.expire_due(tx, stage.now)) == 0
    assert status_of(stage, request.request_id, fan) == "expired"
    assert stage.balances(fan)["wallet"] == 1_000
    for person in (fan, creator):
        assert stage.told(person, "PRIVATE_REQUEST_EXPIRED")[0]["requestId"] == request.request_id
    stage.audit()


def test_ending_the_stream_releases_all_requests_and_is_held_against_nobody(stage: Stage) -> None:
    creator, stream = stage.live()
    fans = [stage.fan() for _ in range(3)]
    for fan in fans:
        stage.ask(fan, stream)
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now))
    for fan in fans:
        assert stage.balances(fan)["wallet"] == 1_000
        assert stage.told(fan, "PRIVATE_DECLINED")[0]["reason"] == "STREAM_ENDED"
    again = stage.go_live(creator)
    assert stage.ask(fans[0], again).status == "pending"
    stage.audit()


# --- yes ---------------------------------------------------------------------------------------------


def test_accepting_makes_the_hold_a_budget_and_the_stream_private(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream, 10)
    accepted = stage.accept(request.request_id, creator)
    assert accepted.status == "connecting"
    close, opened = stage.commands()[-2:]
    assert isinstance(close, CloseRoom)
    assert (close.room_id, close.reason) == (stream.room_id, "STREAM_PRIVATE")
    assert isinstance(opened, OpenRoom)
    assert (opened.room.room_id, opened.room.creator_id) == (accepted.room_id, creator.user_id)
    assert opened.room.parties == (creator.user_id, fan.user_id)
    budget = opened.room.budget
    assert budget is not None
    assert (budget.session_id, budget.paid_ms, budget.rate_per_minute, budget.resumed) == (
        accepted.session_id, 600_000, 100, False,
    )  # fmt: skip
    assert stage.balances(fan)["held"] == 1_000
    assert stage.told(fan, "PRIVATE_ACCEPTED")[0]["sessionId"] == accepted.session_id
    for person in (fan, creator):
        told = stage.told(person, "SESSION_CHANGED")[0]
        assert (told["sessionId"], told["roomId"], told["status"]) == (
            accepted.session_id, accepted.room_id, "connecting",
        )  # fmt: skip
    assert stage.told(None, "STREAM_WENT_PRIVATE")[0]["streamId"] == stream.stream_id
    view = stage.run(lambda tx: private_streams.request_view(tx, request.request_id, fan))
    assert (view.status, view.session_id, view.room_id) == ("accepted", accepted.session_id, accepted.room_id)
    stage.audit()


def test_a_request_below_the_minimum_may_use_the_minimum(stage: Stage) -> None:
    call = stage.connecting(minutes=2)
    assert stage.session(call.session_id).paid_ms == 300_000


def test_accepting_releases_all_other_requests_of_both(stage: Stage) -> None:
    creator, stream = stage.live()
    other_creator, other_stream = stage.live()
    fan, rival = stage.fan(), stage.fan()
    chosen = stage.ask(fan, stream, 5)
    elsewhere = stage.ask(fan, other_stream, 5)
    rivals = stage.ask(rival, stream, 5)
    stage.accept(chosen.request_id, creator)
    assert stage.balances(fan) | {"wallet": 500, "held": 500} == stage.balances(fan)
    assert stage.balances(rival)["wallet"] == 1_000
    assert stage.told(rival, "PRIVATE_DECLINED")[0]["reason"] == "CREATOR_BUSY"
    assert stage.told(other_creator, "PRIVATE_REQUEST_CANCELLED")[0]["requestId"] == elsewhere.request_id
    refused("REQUEST_NOT_PENDING", stage.accept, rivals.request_id, creator)
    refused("REQUEST_NOT_PENDING", stage.accept, elsewhere.request_id, other_creator)
    stage.audit()


def test_a_fan_whose_feed_has_been_gone_for_15_s_cannot_be_accepted(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(present=False)
    feed = stage.run(lambda tx: presence.feed_opened(tx, fan.user_id, "web_1", stage.now))
    request = stage.ask(fan, stream)
    stage.run(lambda tx: presence.feed_closed(tx, feed, stage.now))
    stage.later(seconds=15)
    refused("FAN_AWAY", stage.accept, request.request_id, creator)
    stage.run(lambda tx: presence.feed_opened(tx, fan.user_id, "web_1", stage.now))
    assert stage.accept(request.request_id, creator).status == "connecting"


def test_a_feed_that_was_lost_a_moment_ago_still_counts(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(present=False)
    feed = stage.run(lambda tx: presence.feed_opened(tx, fan.user_id, "web_1", stage.now))
    request = stage.ask(fan, stream)
    stage.run(lambda tx: presence.feed_closed(tx, feed, stage.now))
    stage.later(seconds=14.9)
    assert stage.accept(request.request_id, creator).status == "connecting"


def test_without_a_media_node_nothing_is_accepted(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.run(lambda tx: tx.delete(tx.get_one(MediaNodeRow, "media-1")))
    with pytest.raises(Unavailable):
        stage.accept(request.request_id, creator)
    assert status_of(stage, request.request_id, fan) == "pending"


# --- rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "subscribed", "accepted"),
    [
        ("manual", True, False),
        ("all", False, True),
        ("subscribers", False, False),
        ("subscribers", True, True),
    ],
)
def test_the_auto_accept_rule(stage: Stage, rule: str, subscribed: bool, accepted: bool) -> None:
    creator, stream = stage.live(auto_accept=rule)
    fan = stage.fan()
    stage.run(lambda tx: accounts.set_subscription(tx, fan.user_id, creator.user_id, subscribed, stage.now))
    request = stage.ask(fan, stream)
    assert stage.run(lambda tx: private_streams.apply_rule(tx, request.request_id, stage.now)) is accepted
    assert status_of(stage, request.request_id, fan) == ("accepted" if accepted else "pending")
    assert stage.run(lambda tx: private_streams.apply_rule(tx, request.request_id, stage.now)) is False
    stage.audit()


def test_a_rule_leaves_an_absent_fans_request_pending(stage: Stage) -> None:
    _, stream = stage.live(auto_accept="all")
    fan = stage.fan(present=False)
    request = stage.ask(fan, stream)
    assert stage.run(lambda tx: private_streams.apply_rule(tx, request.request_id, stage.now)) is False
    assert status_of(stage, request.request_id, fan) == "pending"


def test_a_rule_does_nothing_for_a_request_that_is_gone(stage: Stage) -> None:
    _, stream = stage.live(auto_accept="all")
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.cancel(request.request_id, fan)
    assert stage.run(lambda tx: private_streams.apply_rule(tx, request.request_id, stage.now)) is False
    assert stage.run(lambda tx: private_streams.apply_rule(tx, "req_unknown", stage.now)) is False


# --- at the same instant -----------------------------------------------------------------------------


def test_of_fifty_requests_on_one_balance_as_many_are_held_as_it_pays_for(stage: Stage) -> None:
    shows = [stage.live()[1] for _ in range(10)]
    fan = stage.fan(1_400)
    wishes = [lambda show=show: stage.ask(fan, show, 5) for show in shows for _ in range(5)]
    results = together(*wishes)
    held = [result for result in results if isinstance(result, private_streams.RequestView)]
    codes = {result.code for result in results if isinstance(result, DomainError)}
    assert len(held) == 2
    assert len(results) == 50
    assert codes <= {"INSUFFICIENT_TOKENS", "REQUEST_PENDING"}
    assert stage.balances(fan) | {"wallet": 400, "held": 1_000} == stage.balances(fan)
    stage.audit()


def test_two_tabs_ask_once(stage: Stage) -> None:
    _, stream = stage.live()
    fan = stage.fan(5_000)
    results = together(*[lambda: stage.ask(fan, stream, 5)] * 4)
    assert sorted(getattr(result, "code", "asked") for result in results) == ["REQUEST_PENDING"] * 3 + ["asked"]
    assert stage.balances(fan)["held"] == 500
    stage.audit()


def test_two_fans_are_accepted_once(stage: Stage) -> None:
    creator, stream = stage.live()
    fans = [stage.fan() for _ in range(2)]
    requests = [stage.ask(fan, stream) for fan in fans]
    results = together(*[lambda r=r: stage.accept(r.request_id, creator) for r in requests])
    assert sorted(type(result).__name__ for result in results) == ["AcceptedView", "Conflict"]
    assert sum(stage.balances(fan)["held"] for fan in fans) == 1_000
    stage.audit()


def test_two_creators_cannot_both_have_the_fan(stage: Stage) -> None:
    shows = [stage.live() for _ in range(2)]
    fan = stage.fan(2_000)
    asked = [(stage.ask(fan, stream, 5), creator) for creator, stream in shows]
    results = together(*[lambda r=r, c=c: stage.accept(r.request_id, c) for r, c in asked])
    assert sorted(type(result).__name__ for result in results) == ["AcceptedView", "Conflict"]
    assert stage.balances(fan)["held"] == 500
    stage.audit()


@pytest.mark.parametrize("turn", range(5))
def test_accept_and_cancel_in_the_same_instant_have_one_winner(stage: Stage, turn: int) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    request = stage.ask(fan, stream)
    wishes = [
        lambda: stage.accept(request.request_id, creator),
        lambda: stage.cancel(request.request_id, fan),
        lambda: stage.decline(request.request_id, creator),
        lambda: stage.run(lambda tx: private_streams.expire_due(tx, stage.now + timedelta(seconds=120))),
    ]
    results = together(*wishes[turn % 2 :], *wishes[: turn % 2])
    assert sum(isinstance(result, Conflict) for result in results) in (2, 3)
    status = status_of(stage, request.request_id, fan)
    assert status in ("accepted", "cancelled", "declined", "expired")
    assert stage.balances(fan)["held"] == (1_000 if status == "accepted" else 0)
    stage.audit()


def test_ask_and_accept_of_another_in_the_same_instant_leave_no_request_with_a_busy_creator(stage: Stage) -> None:
    creator, stream = stage.live()
    fan, rival = stage.fan(), stage.fan()
    request = stage.ask(fan, stream)
    results = together(lambda: stage.accept(request.request_id, creator), lambda: stage.ask(rival, stream))
    assert isinstance(results[0], private_streams.AcceptedView)
    assert stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now)) == ()
    assert stage.balances(rival)["wallet"] == 1_000
    stage.audit()


def test_go_live_twice_at_once_is_one_stream(stage: Stage) -> None:
    creator = stage.creator()
    results = together(*[lambda: stage.go_live(creator)] * 2)
    assert sorted(getattr(result, "code", "live") for result in results) == ["ALREADY_LIVE", "live"]
