"""Cutting people out, and who may take a seat: termination and admission on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from stage import Stage

from models.db import Database
from models.errors import Forbidden, Invalid, NotFound, Unavailable
from models.messages.commands import CloseRoom, OpenRoom, SyncRooms, TerminateCall
from models.services import accounts, payments, presence, rooms, sessions, streams, termination
from models.services.accounts import Caller, Person
from models.services.rooms import Admission
from models.streams import MediaNodeRow

INTEGRATOR = Caller(person=None, integrator_id="int_1", scopes=frozenset({"rtc:terminate"}), sign_in_id="int_1")


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def cut(
    stage: Stage, room_id: str, user_id: str, reason: str = "PAYMENT_FAILED", by: Caller = INTEGRATOR, **more: Any
) -> termination.Ticket:
    return stage.run(
        lambda tx: termination.terminate(
            tx, room_id=room_id, user_id=user_id, reason=reason, label_by=by, now=stage.now, **more
        )
    )


def admit(stage: Stage, person: Person | None, room_id: str, role: str = "participant") -> Admission:
    return stage.run(
        lambda tx: rooms.admission(tx, person=person, room_id=room_id, role=role, now=stage.now)  # type: ignore[arg-type]
    )


# --- private rooms -----------------------------------------------------------------------------------


def test_cutting_a_party_ends_the_whole_session_as_an_outside_cut(stage: Stage) -> None:
    call = stage.running()
    ticket = cut(stage, call.room_id, call.fan.user_id)
    assert isinstance(ticket.command, CloseRoom)
    assert (ticket.command.room_id, ticket.command.reason) == (call.room_id, "PAYMENT_FAILED")
    assert (ticket.node_id, ticket.already) == ("media-1", False)
    written = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert [command.message_id for command in written] == [ticket.command.message_id]
    stage.call_ended(call.session_id, "closed", 322_000)
    receipt = stage.receipt(call.session_id)
    assert (receipt.end_reason, receipt.billed_minutes) == ("MEDIA_FAILURE", 5), "the label bills nothing"
    row = stage.session(call.session_id)
    assert (row.end_cause, row.end_label, row.ended_by) == ("outside_cut", "PAYMENT_FAILED", "int_1")
    stage.audit()


def test_a_repeat_is_the_same_command_until_the_session_has_ended(stage: Stage) -> None:
    call = stage.running()
    first = cut(stage, call.room_id, call.fan.user_id)
    again = cut(stage, call.room_id, call.fan.user_id, "MODERATION")
    assert again.already
    assert first.command is not None
    assert again.command is not None
    assert again.command.message_id == first.command.message_id
    assert again.command.reason == "PAYMENT_FAILED"
    stage.call_ended(call.session_id, "closed", 0)
    over = cut(stage, call.room_id, call.fan.user_id)
    assert (over.command, over.already) == (None, True)
    assert len([c for c in stage.commands(CloseRoom) if c.room_id == call.room_id]) == 1


def test_payments_that_really_are_bad_make_it_a_failed_payment_whatever_the_label(stage: Stage) -> None:
    call = stage.running()
    stage.run(
        lambda tx: payments.ledger.mark_lot_bad(tx, f"pur_{call.fan.handle}", cause_id="test", now=stage.now)
    )
    cut(stage, call.room_id, call.fan.user_id, "TIME_EXPIRED")
    stage.call_ended(call.session_id, "closed", 322_000)
    assert stage.receipt(call.session_id).end_reason == "PAYMENT_FAILED"
    assert stage.balances(call.creator)["earnings_pending"] == 0
    stage.audit()


@pytest.mark.parametrize(("at_fault", "billed"), [("fan", 6), ("creator", 5), ("none", 5), (None, 5)])
def test_an_admin_says_whose_fault_it_was(stage: Stage, at_fault: str | None, billed: int) -> None:
    call = stage.running()
    cut(stage, call.room_id, call.creator.user_id, "MODERATION", stage.admin(), at_fault=at_fault)
    stage.call_ended(call.session_id, "closed", 322_000)
    receipt = stage.receipt(call.session_id)
    assert (receipt.end_reason, receipt.billed_minutes) == ("MODERATION", billed)


def test_an_integrator_says_nothing_about_fault(stage: Stage) -> None:
    call = stage.running()
    cut(stage, call.room_id, call.fan.user_id, "MODERATION", at_fault="fan")
    stage.call_ended(call.session_id, "closed", 322_000)
    assert stage.receipt(call.session_id).end_reason == "MEDIA_FAILURE"


def test_a_cut_of_a_session_that_is_ending_already_does_not_change_why(stage: Stage) -> None:
    call = stage.running()
    stage.end(call.session_id, call.fan)
    with pytest.raises(NotFound) as refusal:
        cut(stage, call.room_id, call.fan.user_id)
    assert refusal.value.code == "NOT_CONNECTED"
    stage.call_ended(call.session_id, "closed", 322_000)
    assert stage.receipt(call.session_id).end_reason == "ENDED_BY_FAN"


def test_who_is_not_there_cannot_be_cut(stage: Stage) -> None:
    call = stage.running()
    for room_id, user_id in (
        ("private-unknown", call.fan.user_id),
        (call.room_id, "usr_unknown"),
        (call.room_id, stage.fan().user_id),
        (call.stream.room_id, call.fan.user_id),  # closed: the stream is private
    ):
        with pytest.raises(NotFound) as refusal:
            cut(stage, room_id, user_id)
        assert refusal.value.code == "NOT_CONNECTED"
    assert stage.session(call.session_id).status == "live"


def test_a_reason_that_nobody_knows_is_refused_by_name(stage: Stage) -> None:
    call = stage.running()
    with pytest.raises(Invalid) as refusal:
        cut(stage, call.room_id, call.fan.user_id, "BORED")
    assert refusal.value.fields["field"] == "reason"


def test_a_failed_payment_ends_a_session_once(stage: Stage) -> None:
    call = stage.running()
    for _ in range(2):
        stage.run(lambda tx: termination.payment_failed(tx, call.session_id, stage.now))
    assert stage.session(call.session_id).end_cause == "payment_failed"
    stage.run(lambda tx: termination.payment_failed(tx, "ses_unknown", stage.now))


# --- public rooms ------------------------------------------------------------------------------------


def test_a_public_viewer_is_cut_and_barred_and_the_stream_goes_on(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    assert not admit(stage, fan, stream.room_id).publish
    ticket = cut(stage, stream.room_id, fan.user_id, "MODERATION")
    assert isinstance(ticket.command, TerminateCall)
    assert (ticket.command.user_id, ticket.command.reason) == (fan.user_id, "MODERATION")
    assert [command.message_id for command in stage.commands(TerminateCall)] == [ticket.command.message_id]
    with pytest.raises(Forbidden):
        admit(stage, fan, stream.room_id)
    assert admit(stage, creator, stream.room_id).publish
    again = cut(stage, stream.room_id, fan.user_id)
    assert again.already
    assert again.command is not None
    assert again.command.message_id == ticket.command.message_id
    assert len(stage.commands(TerminateCall)) == 1


def test_who_was_cut_stays_out_when_the_room_opens_again_or_the_node_restarts(stage: Stage) -> None:
    creator, stream = stage.live()
    fan, other = stage.fan(), stage.fan()
    cut(stage, stream.room_id, fan.user_id)
    request = stage.ask(other, stream)
    accepted = stage.accept(request.request_id, creator)
    stage.call_ended(accepted.session_id, "fan_left", 0)
    stage.resume(stream, creator)
    assert stage.commands(OpenRoom)[-1].room.barred == (fan.user_id,)
    stage.node_ready("boot_2")
    assert stage.commands(SyncRooms)[-1].open[0].barred == (fan.user_id,)
    with pytest.raises(Forbidden):
        admit(stage, fan, stream.room_id)


def test_a_cut_of_somebody_who_was_not_there_can_be_taken_back(stage: Stage) -> None:
    _, stream = stage.live()
    fan = stage.fan()
    ticket = cut(stage, stream.room_id, fan.user_id)
    assert ticket.command is not None
    for message_id in ("msg_other", ticket.command.message_id):
        with pytest.raises(Forbidden):
            admit(stage, fan, stream.room_id)
        stage.run(
            lambda tx, message_id=message_id: termination.not_connected(
                tx, room_id=stream.room_id, user_id=fan.user_id, message_id=message_id
            )
        )
    assert admit(stage, fan, stream.room_id).user_id == fan.user_id


def test_cutting_the_creator_of_a_public_room_ends_the_stream(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    stage.ask(fan, stream)
    ticket = cut(stage, stream.room_id, creator.user_id, "MODERATION")
    assert isinstance(ticket.command, CloseRoom)
    assert stage.commands(CloseRoom)[-1].reason == "MODERATION"
    assert stage.run(streams.list_streams) == ()
    assert stage.balances(fan)["held"] == 0
    assert cut(stage, stream.room_id, creator.user_id).already
    stage.audit()


# --- who may take a seat -----------------------------------------------------------------------------


def test_a_private_room_has_two_seats_while_the_session_runs(stage: Stage) -> None:
    call = stage.connecting()
    for person in (call.fan, call.creator):
        admission = admit(stage, person, call.room_id)
        assert (admission.user_id, admission.display_name, admission.publish) == (
            person.user_id, person.display_name, True,
        )  # fmt: skip
    for stranger in (stage.fan(), stage.creator(), stage.person("admin"), None):
        with pytest.raises(NotFound):
            admit(stage, stranger, call.room_id)
    stage.end(call.session_id, call.fan)
    with pytest.raises(NotFound):
        admit(stage, call.fan, call.room_id)


def test_whoever_was_cut_from_a_private_room_gets_no_grant(stage: Stage) -> None:
    call = stage.running()
    cut(stage, call.room_id, call.fan.user_id)
    with pytest.raises(Forbidden):
        admit(stage, call.fan, call.room_id)


def test_in_a_public_room_the_creator_publishes_and_the_others_watch(stage: Stage) -> None:
    creator, stream = stage.live()
    assert admit(stage, creator, stream.room_id).publish
    assert not admit(stage, creator, stream.room_id, "spectator").publish
    assert not admit(stage, stage.fan(), stream.room_id).publish
    assert not admit(stage, stage.creator(), stream.room_id).publish
    for person, room_id in ((None, stream.room_id), (creator, "live-unknown")):
        with pytest.raises(NotFound):
            admit(stage, person, room_id)


def test_the_blocked_do_not_watch(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    stage.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, stage.now))
    with pytest.raises(Forbidden) as refusal:
        admit(stage, fan, stream.room_id)
    assert refusal.value.code == "BLOCKED"


def test_a_public_room_is_closed_while_its_creator_is_private_and_after_the_end(stage: Stage) -> None:
    call = stage.running()
    viewer = stage.fan()
    with pytest.raises(NotFound):
        admit(stage, viewer, call.stream.room_id)
    stage.call_ended(call.session_id, "fan_left", 0)
    stage.resume(call.stream, call.creator)
    assert admit(stage, viewer, call.stream.room_id).room_id == call.stream.room_id
    stage.run(lambda tx: streams.end_stream(tx, call.stream.stream_id, call.creator, stage.now))
    with pytest.raises(NotFound):
        admit(stage, viewer, call.stream.room_id)


def test_the_signaling_address_is_that_of_the_rooms_node(stage: Stage) -> None:
    creator, stream = stage.live()
    assert stage.run(lambda tx: rooms.signaling_url(tx, stream.room_id)) == "ws://127.0.0.1:8090/signaling"
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now))
    with pytest.raises(NotFound):
        stage.run(lambda tx: rooms.signaling_url(tx, stream.room_id))


def test_nobody_enters_a_call_before_its_room_is_confirmed(stage: Stage) -> None:
    """Unconfirmed calls are given back whole after 30 s: nothing may have been watched by then."""
    call = stage.connecting()
    with pytest.raises(Unavailable) as refusal:
        stage.run(lambda tx: rooms.signaling_url(tx, call.room_id))
    assert refusal.value.code == "ROOM_OPENING"
    stage.opened(call.session_id)
    assert stage.run(lambda tx: rooms.signaling_url(tx, call.room_id))
    stage.node_ready("boot_2")
    assert stage.run(lambda tx: rooms.signaling_url(tx, call.room_id)), "a restart makes nobody wait"
    stage.call_ended(call.session_id, "fan_left", 0)
    with pytest.raises(NotFound):
        stage.run(lambda tx: rooms.signaling_url(tx, call.room_id))


def test_without_a_media_node_nobody_goes_live(stage: Stage) -> None:
    stage.run(lambda tx: tx.delete(tx.get_one(MediaNodeRow, "media-1")))
    creator = stage.creator()
    with pytest.raises(Unavailable):
        stage.run(lambda tx: streams.go_live(tx, creator, title="", now=stage.now))


def test_fans_do_not_go_live(stage: Stage) -> None:
    fan = stage.fan()
    with pytest.raises(Forbidden):
        stage.run(lambda tx: streams.go_live(tx, fan, title="", now=stage.now))


@pytest.mark.parametrize("title", ["x" * 121, "bell\x07"])
def test_a_title_is_one_short_line(stage: Stage, title: str) -> None:
    creator = stage.creator()
    with pytest.raises(Invalid) as refusal:
        stage.run(lambda tx: streams.go_live(tx, creator, title=title, now=stage.now))
    assert refusal.value.fields["field"] == "title"


# --- presence ----------------------------------------------------------------------------------------


def present(stage: Stage, person: Person) -> bool:
    return stage.run(lambda tx: presence.feed_present(tx, person.user_id, stage.now, 15_000))


def test_a_feed_in_a_web_process_that_died_is_gone(stage: Stage) -> None:
    fan = stage.fan()
    stage.later(seconds=14)
    assert present(stage, fan)
    stage.later(seconds=1)
    assert not present(stage, fan)
    stage.heartbeat()
    assert present(stage, fan), "the process was only slow"


def test_one_of_two_tabs_is_enough(stage: Stage) -> None:
    fan = stage.fan(present=False)
    assert not present(stage, fan)
    first, _second = (
        stage.run(lambda tx: presence.feed_opened(tx, fan.user_id, "web_1", stage.now)) for _ in range(2)
    )
    stage.run(lambda tx: presence.feed_closed(tx, first, stage.now))
    stage.later(seconds=60)
    stage.heartbeat()
    assert present(stage, fan)


def test_what_is_long_gone_is_forgotten_and_what_lives_is_not(stage: Stage) -> None:
    gone, here = stage.fan(present=False), stage.fan(present=False)
    feed = stage.run(lambda tx: presence.feed_opened(tx, gone.user_id, "web_1", stage.now))
    stage.run(lambda tx: presence.feed_closed(tx, feed, stage.now))
    stage.run(lambda tx: presence.feed_opened(tx, gone.user_id, "web_dead", stage.now))
    stage.run(lambda tx: presence.feed_opened(tx, here.user_id, "web_1", stage.now))
    stage.later(hours=2)
    stage.heartbeat()
    stage.run(lambda tx: presence.forget_gone(tx, stage.now))
    with stage.database.reading() as tx:
        left = tx.connection().exec_driver_sql("SELECT user_id FROM feed_connections").scalars().all()
    assert left == [here.user_id]
    assert stage.run(sessions.running_sessions) == ()
