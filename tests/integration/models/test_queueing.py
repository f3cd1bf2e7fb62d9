"""The queue of a busy creator: docs/money.md, "The life of a request", on both databases."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update
from stage import Call, Stage
from ways import subscribe

from models.db import Database
from models.errors import Conflict, DomainError
from models.people import PersonRow
from models.plumbing import FeedConnectionRow
from models.requests import RequestRow
from models.services import accounts, offers, presence, private_streams, queueing, streams
from models.services.accounts import Person
from models.services.streams import StreamView
from tests.effort import examples


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def with_queue(stage: Stage, creator: Person, priority: str = "first_come", **more: Any) -> None:
    options = msgspec.convert({"queue": True, "requestPriority": priority} | more, offers.CreatorOptions)
    stage.run(lambda tx: offers.put_options(tx, creator.user_id, options))


def ask(stage: Stage, fan: Person, stream: StreamView, minutes: int = 10) -> private_streams.RequestView:
    """Nobody asks at the same microsecond."""
    stage.now += timedelta(microseconds=1)
    return stage.ask(fan, stream, minutes)


def busy(stage: Stage, priority: str = "first_come", **offer: Any) -> Call:
    """A creator with a queue, in a session that has delivered its first second."""
    creator, stream = stage.live(**offer) if offer else stage.live()
    with_queue(stage, creator, priority)
    fan = stage.fan()
    request = ask(stage, fan, stream, 5)
    accepted = stage.accept(request.request_id, creator)
    stage.opened(accepted.session_id)
    stage.delivered(accepted.session_id, 1, 1_000)
    return Call(fan, creator, stream, request.request_id, accepted.session_id, accepted.room_id)


def free(stage: Stage, call: Call) -> None:
    """The session is over; the stream stays private."""
    stage.call_ended(call.session_id, "fan_left", 60_000)


def clock(stage: Stage) -> int:
    stage.heartbeat()
    stage.run(lambda tx: private_streams.expire_due(tx, stage.now))
    stage.run(lambda tx: queueing.release_impossible(tx, stage.now))
    return stage.run(lambda tx: queueing.call_waiting(tx, stage.now))


def view(stage: Stage, request_id: str, person: Person) -> private_streams.RequestView:
    return stage.run(lambda tx: private_streams.request_view(tx, request_id, person, stage.now))


def reconfirm(stage: Stage, request_id: str, fan: Person) -> RequestRow:
    return stage.run(lambda tx: queueing.reconfirm(tx, request_id, fan_id=fan.user_id, now=stage.now))


def refused(code: str, wish: Any, *args: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        wish(*args)
    assert refusal.value.code == code
    return refusal.value


# --- a place in the queue ----------------------------------------------------------------------------


def test_without_a_queue_a_busy_creator_is_busy(stage: Stage) -> None:
    call = stage.running(minutes=5)
    refused("CREATOR_BUSY", ask, stage, stage.fan(), call.stream)


def test_with_a_queue_a_request_waits_with_its_hold_for_half_an_hour(stage: Stage) -> None:
    call = busy(stage)
    fan = stage.fan()
    asked = ask(stage, fan, call.stream, 6)
    assert (asked.status, asked.position, asked.turn) == ("queued", 1, False)
    assert asked.expires_at == stage.now + timedelta(minutes=30)
    assert stage.balances(fan)["held"] == 600
    assert clock(stage) == 0
    stage.later(minutes=30)
    clock(stage)
    gone = view(stage, asked.request_id, fan)
    assert (gone.status, gone.close_reason) == ("expired", "wait_over")
    assert stage.balances(fan)["wallet"] == 1_000
    stage.audit()


def test_a_queued_request_is_cancelled_and_declined_like_any_other(stage: Stage) -> None:
    call = busy(stage)
    first, second = stage.fan(), stage.fan()
    one, two = ask(stage, first, call.stream), ask(stage, second, call.stream)
    assert two.position == 2
    stage.cancel(one.request_id, first)
    assert view(stage, two.request_id, second).position == 1
    assert stage.told(second, "PRIVATE_QUEUE")[-1]["position"] == 1
    stage.decline(two.request_id, call.creator)
    assert (stage.balances(first)["held"], stage.balances(second)["held"]) == (0, 0)
    stage.audit()


def test_nobody_accepts_a_request_that_waits(stage: Stage) -> None:
    call = busy(stage)
    fan = stage.fan()
    asked = ask(stage, fan, call.stream)
    free(stage, call)
    assert clock(stage) == 1
    refused("REQUEST_NOT_PENDING", stage.accept, asked.request_id, call.creator)


def test_the_queue_has_an_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    call = busy(stage)
    monkeypatch.setattr(queueing, "LONGEST_QUEUE", 2)
    ask(stage, stage.fan(), call.stream)
    ask(stage, stage.fan(), call.stream)
    refused("CREATOR_BUSY", ask, stage, stage.fan(), call.stream)


def test_nobody_overtakes_the_queue_of_a_creator_who_is_back_in_public(stage: Stage) -> None:
    call = busy(stage)
    waiting, newcomer = stage.fan(), stage.fan()
    ask(stage, waiting, call.stream)
    free(stage, call)
    stage.resume(call.stream, call.creator)
    late = ask(stage, newcomer, call.stream)
    assert (late.status, late.position) == ("queued", 2)
    assert not stage.told(newcomer, "PRIVATE_TURN")


@pytest.mark.parametrize(
    ("priority", "order"),
    [("first_come", "abc"), ("subscribers_first", "bac"), ("highest_total", "cab")],
)
def test_the_creator_chooses_who_is_next(stage: Stage, priority: str, order: str) -> None:
    call = busy(stage, priority)
    with_queue(stage, call.creator, priority, subscriptionPrice=100)
    fans = {name: stage.fan() for name in "abc"}
    subscribe(stage, fans["b"], call.creator)
    asked = {}
    for name, minutes in (("a", 7), ("b", 6), ("c", 9)):
        asked[name] = ask(stage, fans[name], call.stream, minutes).request_id
        stage.later(seconds=1)
    with stage.database.reading() as tx:
        places = queueing.positions(tx, call.creator.user_id, stage.now)
        seen = [r.request_id for r in private_streams.requests_for(tx, call.creator.user_id, stage.now)]
    assert [places[asked[name]] for name in order] == [1, 2, 3]
    assert seen == [asked[name] for name in order]
    free(stage, call)
    clock(stage)
    assert view(stage, asked[order[0]], fans[order[0]]).turn


# --- whose turn it is --------------------------------------------------------------------------------


def test_the_end_of_a_session_calls_the_next_who_confirms_and_is_accepted_at_the_old_price(stage: Stage) -> None:
    call = busy(stage)
    fan, other = stage.fan(), stage.fan()
    asked, second = ask(stage, fan, call.stream, 6), ask(stage, other, call.stream)
    offer = {"enabled": True, "rate_per_minute": 150, "min_minutes": 5, "auto_accept": "manual"}
    stage.run(lambda tx: private_streams.put_settings(tx, call.creator.user_id, **offer, now=stage.now))  # type: ignore[arg-type]
    free(stage, call)
    assert clock(stage) == 1
    called = view(stage, asked.request_id, fan)
    assert (called.status, called.turn, called.expires_at) == ("queued", True, stage.now + timedelta(seconds=60))
    assert stage.told(fan, "PRIVATE_TURN")[0]["requestId"] == asked.request_id
    refused("NOT_YOUR_TURN", reconfirm, stage, second.request_id, other)
    stage.later(seconds=59)
    reconfirm(stage, asked.request_id, fan)
    pending = view(stage, asked.request_id, fan)
    assert (pending.status, pending.total_cost) == ("pending", 600)
    assert pending.expires_at == stage.now + timedelta(seconds=120)
    assert reconfirm(stage, asked.request_id, fan).status == "pending"
    assert stage.actors()[-1][:2] == ("rules", "apply_auto_accept")
    # Straight from one private stream to the next.
    accepted = stage.accept(asked.request_id, call.creator)
    assert stage.session(accepted.session_id).total_held == 600
    assert view(stage, second.request_id, other).position == 1
    stage.audit()


def test_who_does_not_confirm_gives_the_turn_to_the_next(stage: Stage) -> None:
    call = busy(stage)
    first, second = stage.fan(), stage.fan()
    one, two = ask(stage, first, call.stream), ask(stage, second, call.stream)
    free(stage, call)
    clock(stage)
    stage.later(seconds=60)
    refused("REQUEST_NOT_PENDING", reconfirm, stage, one.request_id, first)
    assert clock(stage) == 1
    missed = view(stage, one.request_id, first)
    assert (missed.status, missed.close_reason) == ("expired", "turn_missed")
    assert stage.told(first, "PRIVATE_REQUEST_EXPIRED")[0]["reason"] == "TURN_MISSED"
    assert view(stage, two.request_id, second).turn
    stage.audit()


@pytest.mark.parametrize("answer", ["decline", "cancel", "expire"])
def test_the_next_is_called_when_the_one_who_confirmed_gets_no_call(stage: Stage, answer: str) -> None:
    call = busy(stage)
    first, second = stage.fan(), stage.fan()
    one, two = ask(stage, first, call.stream), ask(stage, second, call.stream)
    free(stage, call)
    clock(stage)
    reconfirm(stage, one.request_id, first)
    assert clock(stage) == 0
    if answer == "decline":
        stage.decline(one.request_id, call.creator)
    elif answer == "cancel":
        stage.cancel(one.request_id, first)
    else:
        stage.later(seconds=120)
    assert clock(stage) == 1
    assert view(stage, two.request_id, second).turn
    stage.audit()


def test_while_one_has_the_turn_nobody_else_is_called(stage: Stage) -> None:
    call = busy(stage)
    first = ask(stage, stage.fan(), call.stream)
    ask(stage, stage.fan(), call.stream)
    free(stage, call)
    stage.heartbeat()
    called = [stage.run(lambda tx: queueing.call_next(tx, call.creator.user_id, stage.now)) for _ in range(2)]
    assert called == [first.request_id, None]


def test_one_has_the_turn_whatever_two_clocks_do(stage: Stage) -> None:
    call = busy(stage)
    for _ in range(4):
        ask(stage, stage.fan(), call.stream)
    free(stage, call)
    stage.heartbeat()
    gate = threading.Barrier(4)

    def round_() -> None:
        gate.wait()
        stage.run(lambda tx: queueing.call_waiting(tx, stage.now))

    threads = [threading.Thread(target=round_) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stage.database.reading() as tx:
        seen = private_streams.requests_for(tx, call.creator.user_id, stage.now)
    assert [request.turn for request in seen] == [True, False, False, False]


def test_confirming_and_expiring_at_the_same_moment_have_one_winner(stage: Stage) -> None:
    for _ in range(5):
        call = busy(stage)
        fan = stage.fan()
        asked = ask(stage, fan, call.stream)
        free(stage, call)
        clock(stage)
        stage.later(seconds=60)
        gate = threading.Barrier(2)
        said: list[str] = []

        def confirm(request_id: str, fan: Person, gate: threading.Barrier, said: list[str]) -> None:
            gate.wait()
            # A clock of the web that is a second behind the others'.
            now = stage.now - timedelta(seconds=1)
            try:
                stage.run(lambda tx: queueing.reconfirm(tx, request_id, fan_id=fan.user_id, now=now))
                said.append("pending")
            except Conflict:
                said.append("expired")

        thread = threading.Thread(target=confirm, args=(asked.request_id, fan, gate, said))
        thread.start()
        gate.wait()
        stage.run(lambda tx: private_streams.expire_due(tx, stage.now))
        thread.join()
        assert view(stage, asked.request_id, fan).status == said[0]
        stage.audit()


def test_who_is_away_keeps_the_place_and_lets_the_others_pass(stage: Stage) -> None:
    call = busy(stage)
    away, here = stage.fan(present=False), stage.fan()
    one, two = ask(stage, away, call.stream), ask(stage, here, call.stream)
    free(stage, call)
    clock(stage)
    assert view(stage, two.request_id, here).turn
    stage.cancel(two.request_id, here)
    assert clock(stage) == 0
    stage.run(lambda tx: presence.feed_opened(tx, away.user_id, "web_1", stage.now))
    assert clock(stage) == 1
    assert view(stage, one.request_id, away).turn


def test_nobody_is_called_while_the_creator_is_away(stage: Stage) -> None:
    call = busy(stage)
    fan = stage.fan()
    ask(stage, fan, call.stream)
    free(stage, call)
    feeds = update(FeedConnectionRow).where(FeedConnectionRow.user_id == call.creator.user_id)
    stage.run(lambda tx: tx.execute(feeds.values(lost_at=stage.now - timedelta(minutes=1))))
    assert clock(stage) == 0
    stage.run(lambda tx: presence.feed_opened(tx, call.creator.user_id, "web_1", stage.now))
    assert clock(stage) == 1


def test_who_got_into_another_call_is_not_called(stage: Stage) -> None:
    call = busy(stage)
    fan = stage.fan(2_000)
    ask(stage, fan, call.stream)
    _, elsewhere = stage.live()
    request = ask(stage, fan, elsewhere)
    other_creator = stage.run(lambda tx: accounts.find_by_handle(tx, elsewhere.handle))
    assert other_creator is not None
    stage.accept(request.request_id, other_creator)
    free(stage, call)
    assert clock(stage) == 0
    assert stage.balances(fan)["held"] == 1_000
    stage.audit()


def test_the_blocked_and_the_frozen_get_their_tokens_back_and_the_next_is_called(stage: Stage) -> None:
    call = busy(stage)
    blocked, frozen, third = stage.fan(), stage.fan(), stage.fan()
    one, two, three = (ask(stage, fan, call.stream) for fan in (blocked, frozen, third))
    stage.run(lambda tx: accounts.block(tx, call.creator.user_id, blocked.user_id, stage.now))

    def freeze(tx: Any) -> None:
        tx.get_one(PersonRow, frozen.user_id).spending_frozen_at = stage.now

    stage.run(freeze)
    free(stage, call)
    assert clock(stage) == 1
    assert view(stage, one.request_id, blocked).status == "declined"
    assert view(stage, two.request_id, frozen).status == "cancelled"
    assert view(stage, three.request_id, third).turn
    assert (stage.balances(blocked)["held"], stage.balances(frozen)["held"]) == (0, 0)
    stage.audit()


def test_the_end_of_the_stream_lets_everybody_go(stage: Stage) -> None:
    call = busy(stage)
    fans = [stage.fan() for _ in range(3)]
    for fan in fans:
        ask(stage, fan, call.stream)
    free(stage, call)
    clock(stage)
    stage.run(lambda tx: streams.end_stream(tx, call.stream.stream_id, call.creator, stage.now))
    assert [stage.balances(fan)["held"] for fan in fans] == [0, 0, 0]
    assert clock(stage) == 0
    stage.audit()


def test_an_acceptance_sends_the_others_back_for_what_is_left_of_their_half_hour(stage: Stage) -> None:
    creator, stream = stage.live()
    with_queue(stage, creator)
    first, second = stage.fan(), stage.fan()
    one, two = ask(stage, first, stream), ask(stage, second, stream)
    asked_at = stage.now
    stage.later(seconds=100)
    stage.accept(one.request_id, creator)
    back = view(stage, two.request_id, second)
    assert (back.status, back.position, back.expires_at) == ("queued", 1, asked_at + timedelta(minutes=30))
    assert stage.balances(second)["held"] == 1_000
    stage.audit()


def test_a_turn_is_taken_back_when_the_creator_accepts_another(stage: Stage) -> None:
    call = busy(stage)
    waiting = stage.fan()
    asked = ask(stage, waiting, call.stream)
    free(stage, call)
    # The queue is off for a moment: a newcomer asks the creator who is back in public.
    stage.resume(call.stream, call.creator)
    stage.run(lambda tx: offers.put_options(tx, call.creator.user_id, offers.CreatorOptions()))
    direct = ask(stage, stage.fan(), call.stream)
    assert direct.status == "pending"
    with_queue(stage, call.creator)
    clock(stage)
    assert view(stage, asked.request_id, waiting).turn
    stage.accept(direct.request_id, call.creator)
    back = view(stage, asked.request_id, waiting)
    assert (back.status, back.turn, back.position) == ("queued", False, 1)
    refused("NOT_YOUR_TURN", reconfirm, stage, asked.request_id, waiting)


def test_the_rule_takes_whoever_confirmed(stage: Stage) -> None:
    call = busy(stage, auto_accept="all", enabled=True)
    fan = stage.fan()
    asked = ask(stage, fan, call.stream)
    free(stage, call)
    clock(stage)
    assert not stage.run(lambda tx: private_streams.apply_rule(tx, asked.request_id, stage.now))
    reconfirm(stage, asked.request_id, fan)
    assert stage.run(lambda tx: private_streams.apply_rule(tx, asked.request_id, stage.now))


def test_what_is_not_ones_own_is_not_there(stage: Stage) -> None:
    call = busy(stage)
    asked = ask(stage, stage.fan(), call.stream)
    refused("NOT_FOUND", reconfirm, stage, asked.request_id, stage.fan())
    refused("NOT_FOUND", reconfirm, stage, "req_unknown", stage.fan())


# --- whatever happens --------------------------------------------------------------------------------


class Queue(RuleBasedStateMachine):
    """One creator, five fans, any order of wishes: at most one has the turn, no token is stuck, no hold lost."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    @initialize(priority=st.sampled_from(["first_come", "subscribers_first", "highest_total"]))
    def begin(self, priority: str) -> None:
        self.creator, self.stream = self.stage.live()
        with_queue(self.stage, self.creator, priority)
        self.fans = [self.stage.fan() for _ in range(5)]
        self.asked: dict[int, str] = {}
        self.session: str | None = None

    def view(self, who: int) -> private_streams.RequestView:
        return view(self.stage, self.asked[who], self.fans[who])

    @rule(who=st.integers(0, 4), minutes=st.integers(1, 9))
    def ask(self, who: int, minutes: int) -> None:
        with contextlib.suppress(DomainError):
            self.asked[who] = ask(self.stage, self.fans[who], self.stream, minutes).request_id

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), wish=st.sampled_from(["cancel", "decline", "reconfirm", "accept"]))
    def act(self, data: st.DataObject, wish: str) -> None:
        who = data.draw(st.sampled_from(sorted(self.asked)))
        request_id, fan = self.asked[who], self.fans[who]
        before = self.view(who)
        try:
            if wish == "cancel":
                self.stage.cancel(request_id, fan)
            elif wish == "decline":
                self.stage.decline(request_id, self.creator)
            elif wish == "reconfirm":
                reconfirm(self.stage, request_id, fan)
                assert before.turn or before.status == "pending"
            else:
                accepted = self.stage.accept(request_id, self.creator)
                assert before.status == "pending"
                assert self.session is None
                self.session = accepted.session_id
                self.stage.opened(accepted.session_id)
        except Conflict:
            pass

    @precondition(lambda self: self.session is not None)
    @rule()
    def end(self) -> None:
        assert self.session is not None
        self.stage.call_ended(self.session, "fan_left", 1_000)
        self.session = None

    @rule(seconds=st.sampled_from([1, 30, 61, 121, 700]))
    def later(self, seconds: int) -> None:
        if self.session is None or seconds < 600:
            self.stage.later(seconds=seconds)

    @rule()
    def clock(self) -> None:
        self.check_called(clock(self.stage))

    def check_called(self, count: int) -> None:
        assert count <= 1
        if count:
            assert self.session is None

    @invariant()
    def one_turn_and_every_hold_accounted_for(self) -> None:
        if not hasattr(self, "fans"):
            return
        self.stage.audit()
        views = {who: self.view(who) for who in self.asked}
        assert sum(seen.turn for seen in views.values()) <= 1
        places = sorted(seen.position for seen in views.values() if seen.position)
        assert places == list(range(1, len(places) + 1))
        for who, seen in views.items():
            in_call = seen.status == "accepted" and self.session is not None
            open_ = in_call or seen.status in ("queued", "pending")
            assert (self.stage.balances(self.fans[who])["held"] > 0) == open_

    def teardown(self) -> None:
        if not hasattr(self, "fans"):
            return
        # Left alone, the queue empties by itself and everything comes back.
        if self.session is not None:
            self.end()
        for _ in range(12):
            clock(self.stage)
            self.stage.later(seconds=200)
        self.stage.later(minutes=31)
        clock(self.stage)
        assert [self.stage.balances(fan)["held"] for fan in self.fans] == [0] * 5
        self.stage.audit()


def test_the_queue_empties_whatever_order_things_happen_in(stage: Stage) -> None:
    run_state_machine_as_test(
        lambda: Queue(stage),
        settings=settings(
            max_examples=examples(15),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
