"""What each worker does, on both databases: repeats have no effect, refusals are told apart from outages."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stage import Call, Stage

from models.db import Database
from models.errors import Unavailable
from models.gateways.base import Payment
from models.gateways.sandbox import SandboxGateway
from models.messages import codec
from models.messages.codec import UnknownMessage
from models.messages.commands import CloseRoom
from models.messages.events import MediaDelivered
from models.services import payments, sessions
from workers.events import on_media_event
from workers.payments import poll_session_payments
from workers.rules import apply_auto_accept


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


# --- facts from media -------------------------------------------------------------------------------


def test_an_event_that_comes_twice_is_taken_once(stage: Stage) -> None:
    # given
    call = stage.connecting()
    stage.opened(call.session_id)
    body = codec.encode(delivered(call, 60_000)).decode()
    # when
    taken = [on_media_event(stage.database, body, stage.now) for _ in range(3)]
    # then
    assert taken == [True, False, False]
    assert stage.session(call.session_id).delivered_ms == 60_000


@pytest.mark.parametrize("body", ["no JSON", '{"type":"FromTheFuture"}', '{"type":"NodeReady"}'])
def test_what_cannot_be_read_is_refused_and_not_noted(stage: Stage, body: str) -> None:
    with pytest.raises(UnknownMessage):
        on_media_event(stage.database, body, stage.now)


def delivered(call: Call, delivered_ms: int) -> MediaDelivered:
    return MediaDelivered(
        message_id="msg_1",
        cause_id=call.session_id,
        node_id="media-1",
        boot_id="boot_1",
        at="2026-01-02T12:00:00.000Z",
        sequence=1,
        session_id=call.session_id,
        room_id=call.room_id,
        state="running",
        cause=None,
        delivered_ms=delivered_ms,
        paid_ms=600_000,
        creator_pause_ms=0,
        node_pause_ms=0,
    )


# --- rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "accepted"), [("all", True), ("subscribers", False), ("manual", False)])
def test_the_creators_rule_is_applied_once(stage: Stage, rule: str, accepted: bool) -> None:
    # given
    _, stream = stage.live(auto_accept=rule)
    fan = stage.fan()
    request = stage.ask(fan, stream)
    # when
    applied = [apply_auto_accept(stage.database, request.request_id, "msg_1", stage.now) for _ in range(2)]
    # then
    assert applied == [accepted, False]
    with stage.database.reading() as tx:
        assert (sessions.current_session_of(tx, fan.user_id) is not None) is accepted
    stage.audit()


def test_a_rule_for_a_request_that_was_taken_back_does_nothing(stage: Stage) -> None:
    _, stream = stage.live(auto_accept="all")
    fan = stage.fan()
    request = stage.ask(fan, stream)
    stage.cancel(request.request_id, fan)
    assert not apply_auto_accept(stage.database, request.request_id, "msg_1", stage.now)
    stage.audit()


# --- polling ----------------------------------------------------------------------------------------


class Away(SandboxGateway):
    """A gateway that cannot be reached."""

    def status(self, reference: str) -> Payment:
        raise Unavailable("away")


def paid_by(stage: Stage, card: str) -> tuple[Call, SandboxGateway]:
    """A running session paid with that card, and the gateway of the card."""
    gateway = SandboxGateway(stage.database, 60_000, lambda: stage.now)
    creator, stream = stage.live()
    fan = stage.fan(tokens=0)
    payments.top_up(
        stage.database,
        gateway,
        user_id=fan.user_id,
        package_id="tokens-1000",
        card=card,
        key="k",
        cause_id="test",
        now=stage.now,
    )
    request = stage.ask(fan, stream)
    session = stage.accept(request.request_id, creator)
    stage.opened(session.session_id)
    stage.delivered(session.session_id, 1, 0)
    return Call(fan, creator, stream, request.request_id, session.session_id, session.room_id), gateway


@pytest.mark.parametrize("card", ["fails-later", "disputed"])
def test_a_payment_that_turns_bad_ends_the_session(stage: Stage, card: str) -> None:
    # given
    call, gateway = paid_by(stage, card)
    assert poll_session_payments(stage.database, gateway, call.session_id, stage.now) == 0
    stage.now += timedelta(seconds=40)
    # when
    assert poll_session_payments(stage.database, gateway, call.session_id, stage.now) == 1
    # then
    assert stage.session(call.session_id).end_cause == "payment_failed"
    closing = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert [command.reason for command in closing] == ["PAYMENT_FAILED"]
    # and once more is no harm
    assert poll_session_payments(stage.database, gateway, call.session_id, stage.now) == 0
    stage.call_ended(call.session_id, "closed", 120_000)
    assert stage.receipt(call.session_id).earnings == 0
    stage.audit()


def test_a_good_payment_changes_nothing(stage: Stage) -> None:
    call, gateway = paid_by(stage, "succeeds")
    stage.now += timedelta(hours=1)
    assert poll_session_payments(stage.database, gateway, call.session_id, stage.now) == 0
    assert stage.session(call.session_id).end_cause is None


def test_a_gateway_that_is_away_is_no_failure_of_the_payment(stage: Stage) -> None:
    call, _ = paid_by(stage, "fails-later")
    stage.now += timedelta(seconds=40)
    assert poll_session_payments(stage.database, Away(stage.database, 60_000), call.session_id, stage.now) == 0
    assert stage.session(call.session_id).status == "live"
