"""The life of a session: media's facts in, one settlement out, whatever comes late, twice or never."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from stage import MINUTE, Call, Stage
from together import together

from models.books import HoldRow
from models.clock import rfc3339
from models.db import Database
from models.errors import Conflict, DomainError, NotFound
from models.flags import FlagRow
from models.messages import events
from models.messages.commands import CloseRoom, OpenRoom, SyncRooms
from models.people import PersonRow
from models.services import payments, private_streams, sessions, streams, termination
from models.services.accounts import Person
from models.streams import MediaNodeRow, RoomRow


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def view(stage: Stage, call: Call, person: Person) -> sessions.SessionView:
    found = stage.run(lambda tx: sessions.session_view(tx, call.session_id, person.user_id))
    assert isinstance(found, sessions.SessionView)
    return found


def ended(stage: Stage, call: Call) -> sessions.Receipt:
    """The receipt, after all that must hold for any."""
    receipt = stage.receipt(call.session_id)
    assert receipt.total_held == receipt.earnings + receipt.commission + receipt.refunded
    assert all(sum(entry.amount for entry in transfer.entries) == 0 for transfer in receipt.transfers)
    assert stage.balances(call.fan)["held"] == 0
    assert stage.balances(call.creator)["earnings_pending"] == receipt.earnings
    stage.audit()
    return receipt


# --- from connecting to live -------------------------------------------------------------------------


def test_a_session_waits_for_the_room_then_for_the_meter(stage: Stage) -> None:
    call = stage.connecting()
    assert view(stage, call, call.fan).status == "connecting"
    assert stage.session(call.session_id).deadline_kind == "open"
    stage.opened(call.session_id)
    row = stage.session(call.session_id)
    assert (row.status, row.acknowledged_ms, row.deadline_kind) == ("connecting", 600_000, "silent")
    stage.delivered(call.session_id, 1, 0, state="waiting")
    assert stage.session(call.session_id).status == "connecting"
    stage.delivered(call.session_id, 2, 0)
    row = stage.session(call.session_id)
    assert (row.status, row.live_at) == ("live", stage.now)
    assert [told["status"] for told in stage.told(call.fan, "SESSION_CHANGED")] == ["connecting", "live"]


def test_pauses_come_and_go_and_say_their_cause(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 5_000, state="paused", cause="creator")
    assert view(stage, call, call.fan).pause_cause == "creator"
    stage.delivered(call.session_id, 3, 5_000, state="paused", cause="node", creator_pause_ms=700)
    stage.delivered(call.session_id, 4, 5_000, creator_pause_ms=700, node_pause_ms=300)
    row = stage.session(call.session_id)
    assert (row.status, row.pause_cause, row.creator_pause_ms, row.node_pause_ms) == ("live", None, 700, 300)
    told = [(m["status"], m.get("cause")) for m in stage.told(call.creator, "SESSION_CHANGED")]
    assert told == [
        ("connecting", None),
        ("live", None),
        ("paused", "creator"),
        ("paused", "node"),
        ("live", None),
    ]


def test_reports_without_news_are_announced_to_nobody(stage: Stage) -> None:
    call = stage.running()
    before = len(stage.told(call.fan))
    stage.delivered(call.session_id, 2, 5_000)
    stage.delivered(call.session_id, 3, 10_000)
    assert len(stage.told(call.fan)) == before
    assert stage.session(call.session_id).delivered_ms == 10_000


def test_late_and_repeated_reports_change_nothing(stage: Stage) -> None:
    call = stage.running()
    second = stage.delivered(call.session_id, 2, 5_000, state="paused", cause="creator")
    stage.delivered(call.session_id, 3, 9_000)
    stage.say(second)
    stage.delivered(call.session_id, 1, 1_000, state="paused", cause="node")
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms, row.last_sequence) == ("live", 9_000, 3)


def test_a_meter_overtakes_the_rooms_confirmation(stage: Stage) -> None:
    call = stage.connecting()
    stage.delivered(call.session_id, 1, 0)
    stage.opened(call.session_id)
    row = stage.session(call.session_id)
    assert (row.status, row.acknowledged_ms) == ("live", 600_000)


def test_no_more_is_acknowledged_than_was_paid(stage: Stage) -> None:
    call = stage.connecting()
    stage.opened(call.session_id, paid_ms=99 * MINUTE)
    assert stage.session(call.session_id).acknowledged_ms == 10 * MINUTE


@pytest.mark.parametrize("other", [{"session_id": "ses_unknown"}, {"node_id": "media-2"}])
def test_facts_about_other_sessions_or_from_other_nodes_are_harmless(stage: Stage, other: dict[str, str]) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, "creator_left", 1, **other)
    assert stage.session(call.session_id).status == "live"


# --- the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "changed", "delivered_ms", "reason", "billed"),
    [
        ("time_expired", {}, 10 * MINUTE, "TIME_EXPIRED", 10),
        ("fan_left", {}, 322_000, "ENDED_BY_FAN", 6),
        ("fan_left", {}, 1, "ENDED_BY_FAN", 5),
        ("fan_absent", {}, 322_000, "ENDED_BY_FAN", 6),
        ("fan_left", {"pause_cause": "creator", "paused_for_ms": 10_000}, 322_000, "ENDED_BY_CREATOR", 5),
        ("fan_left", {"pause_cause": "node", "paused_for_ms": 10_000}, 322_000, "MEDIA_FAILURE", 5),
        ("fan_left", {"pause_cause": "node", "paused_for_ms": 9_999}, 322_000, "ENDED_BY_FAN", 6),
        ("fan_never_connected", {"fan_connected": False}, 0, "NO_SHOW", 5),
        ("creator_never_connected", {"creator_connected": False}, 0, "NO_SHOW", 0),
        ("fan_left", {"creator_connected": False}, 0, "NO_SHOW", 0),
        ("creator_left", {}, 59_000, "ENDED_BY_CREATOR", 0),
        ("creator_left", {}, 322_000, "ENDED_BY_CREATOR", 5),
        ("creator_pause_used_up", {"creator_pause_ms": 120_000}, 322_000, "ENDED_BY_CREATOR", 5),
        ("node_pause_used_up", {"node_pause_ms": 120_000}, 322_000, "MEDIA_FAILURE", 5),
        ("closed", {}, 322_000, "MEDIA_FAILURE", 5),
    ],
)
def test_each_fact_is_billed_by_its_row(
    stage: Stage, fact: str, changed: dict[str, Any], delivered_ms: int, reason: str, billed: int
) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, fact, delivered_ms, **changed)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == (reason, billed)
    assert (receipt.earnings, receipt.commission, receipt.refunded) == (
        billed * 80, billed * 20, 1_000 - billed * 100,
    )  # fmt: skip


def test_the_receipt_has_every_figure_that_the_bill_follows_from(stage: Stage) -> None:
    call = stage.running()
    stage.later(minutes=6)
    stage.call_ended(call.session_id, "fan_left", 322_000)
    receipt = ended(stage, call)
    assert (receipt.session_id, receipt.request_id) == (call.session_id, call.request_id)
    assert (receipt.creator_id, receipt.fan_id) == (call.creator.user_id, call.fan.user_id)
    assert (receipt.started_at, receipt.ended_at) == (stage.now - timedelta(minutes=6), stage.now)
    assert (receipt.requested_minutes, receipt.min_minutes, receipt.minute_ms) == (10, 5, 60_000)
    assert (receipt.paid_ms, receipt.delivered_ms) == (600_000, 322_000)
    assert (receipt.rate_per_minute, receipt.discount_percent, receipt.commission_percent) == (100, 0, 20)
    hold, settle = receipt.transfers
    fan, creator = call.fan.user_id, call.creator.user_id
    assert [(e.account, e.owner, e.amount) for e in hold.entries] == [
        ("wallet", fan, -1_000), ("held", fan, 1_000),
    ]  # fmt: skip
    assert sorted((e.account, e.owner or "", e.amount) for e in settle.entries) == [
        ("earnings_pending", creator, 480), ("fees", "", 120), ("held", fan, -1_000), ("wallet", fan, 400),
    ]  # fmt: skip
    row = stage.session(call.session_id)
    assert (row.actual_duration_minutes, row.total_earnings, row.end_row) == (6, 480, "fan_left")
    words = stage.run(lambda tx: sessions.receipt_words(tx, call.session_id, call.fan.user_id))
    assert words.startswith("You ended the call")


def test_the_end_is_told_to_both_and_closes_the_room(stage: Stage) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, "time_expired", 600_000)
    for person in (call.fan, call.creator):
        told = stage.told(person, "SESSION_CHANGED")[-1]
        assert (told["status"], told["reason"]) == ("ended", "TIME_EXPIRED")
        assert stage.told(person, "BALANCE_CHANGED")[-1]["held"] == 0
    with stage.database.reading() as tx:
        assert tx.get_one(RoomRow, call.room_id).status == "closed"


def test_an_end_that_is_said_again_or_otherwise_settles_nothing_again(stage: Stage) -> None:
    call = stage.running()
    first = stage.call_ended(call.session_id, "fan_left", 60_000)
    receipt = ended(stage, call)
    stage.say(first)
    stage.call_ended(call.session_id, "time_expired", 600_000, sequence=2_000)
    stage.delivered(call.session_id, 3_000, 600_000)
    stage.opened(call.session_id)
    assert ended(stage, call) == receipt


def test_an_end_counts_what_an_earlier_report_had_said(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 5, 120_000)
    stage.call_ended(call.session_id, "creator_left", 60_000, sequence=4)
    assert ended(stage, call).delivered_ms == 120_000


def test_only_acknowledged_time_is_billed(stage: Stage) -> None:
    call = stage.connecting()
    stage.call_ended(call.session_id, "time_expired", 0, paid_ms=0)
    assert ended(stage, call).refunded == 1_000


# --- ending by wish ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "reason", "billed"), [("fan", "ENDED_BY_FAN", 6), ("creator", "ENDED_BY_CREATOR", 5)]
)
def test_either_side_ends_it(stage: Stage, side: str, reason: str, billed: int) -> None:
    call = stage.running()
    person = getattr(call, side)
    stage.end(call.session_id, person)
    assert stage.session(call.session_id).status == "settling"
    close = stage.commands(CloseRoom)[-1]
    assert (close.room_id, close.reason) == (call.room_id, reason)
    stage.end(call.session_id, person)
    assert len([c for c in stage.commands(CloseRoom) if c.room_id == call.room_id]) == 1
    stage.call_ended(call.session_id, "closed", 322_000)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == (reason, billed)
    with pytest.raises(Conflict) as refusal:
        stage.end(call.session_id, person)
    assert refusal.value.code == "SESSION_NOT_LIVE"


def test_who_ended_first_is_who_ended(stage: Stage) -> None:
    call = stage.running()
    stage.end(call.session_id, call.creator)
    stage.end(call.session_id, call.fan)
    stage.call_ended(call.session_id, "closed", 61_000)
    assert ended(stage, call).end_reason == "ENDED_BY_CREATOR"


def test_a_fact_outranks_a_wish(stage: Stage) -> None:
    call = stage.running()
    stage.end(call.session_id, call.creator)
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert ended(stage, call).end_reason == "TIME_EXPIRED"


def test_ending_while_connecting_costs_nothing_when_the_creator_is_not_there(stage: Stage) -> None:
    call = stage.connecting()
    stage.opened(call.session_id)
    stage.end(call.session_id, call.fan)
    stage.call_ended(call.session_id, "closed", 0, creator_connected=False)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.refunded) == ("NO_SHOW", 1_000)


def test_a_report_while_settling_counts_and_moves_nothing_back(stage: Stage) -> None:
    call = stage.running()
    stage.end(call.session_id, call.creator)
    stage.delivered(call.session_id, 2, 60_000)
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms, row.deadline_kind) == ("settling", 60_000, "settle")


def test_third_parties_see_and_end_nothing(stage: Stage) -> None:
    call = stage.running()
    stranger = stage.fan()
    with pytest.raises(NotFound):
        stage.end(call.session_id, stranger)
    with pytest.raises(NotFound):
        stage.run(lambda tx: sessions.session_view(tx, call.session_id, stranger.user_id))
    stage.call_ended(call.session_id, "fan_left", 0)
    with pytest.raises(NotFound):
        stage.run(lambda tx: sessions.session_view(tx, call.session_id, stranger.user_id))
    assert stage.run(lambda tx: sessions.history(tx, stranger.user_id)) == ()


def test_deleting_the_public_stream_ends_the_session_at_the_creators_fault(stage: Stage) -> None:
    call = stage.running()
    stage.run(lambda tx: streams.end_stream(tx, call.stream.stream_id, call.creator, stage.now))
    stage.call_ended(call.session_id, "closed", 322_000)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == ("ENDED_BY_CREATOR", 5)
    assert stage.session(call.session_id).end_cause == "stream_deleted"


def test_what_ending_now_costs_each_side(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 322_000)
    fans, creators = view(stage, call, call.fan), view(stage, call, call.creator)
    assert (fans.role, fans.ending_now.charged, fans.ending_now.refunded) == ("fan", 600, 400)
    assert (creators.role, creators.ending_now.earnings) == ("creator", 400)
    assert fans.counterpart.handle == call.creator.handle


# --- bad payments ------------------------------------------------------------------------------------


def bad_payment(stage: Stage, call: Call, lot: str) -> None:
    """What the poll does: the payment is marked and the session ended."""

    def poll(tx: Any) -> None:
        payments.ledger.mark_lot_bad(tx, lot, cause_id="test", now=stage.now)
        termination.payment_failed(tx, call.session_id, stage.now)

    stage.run(poll)


def test_a_bad_payment_pays_for_nothing_and_the_good_rest_comes_back(stage: Stage) -> None:
    call = stage.running()
    bad_payment(stage, call, f"pur_{call.fan.handle}")
    assert stage.commands(CloseRoom)[-1].reason == "PAYMENT_FAILED"
    stage.call_ended(call.session_id, "closed", 322_000)
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes, receipt.refunded) == ("PAYMENT_FAILED", 0, 1_000)
    assert stage.balances(call.fan)["wallet"] == 0


def test_good_tokens_go_on_paying_delivered_minutes(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(350)
    stage.later(seconds=1)
    stage.run(lambda tx: stage._buy(tx, fan.user_id, 650, "pur_second"))
    request = stage.ask(fan, stream, 10)
    accepted = stage.accept(request.request_id, creator)
    call = Call(fan, creator, stream, request.request_id, accepted.session_id, accepted.room_id)
    stage.opened(call.session_id)
    stage.delivered(call.session_id, 1, 0)
    bad_payment(stage, call, "pur_second")
    stage.call_ended(call.session_id, "closed", 8 * MINUTE)
    receipt = ended(stage, call)
    assert (receipt.billed_minutes, receipt.refunded) == (3, 700)
    assert stage.balances(fan)["wallet"] == 50


# --- deadlines ---------------------------------------------------------------------------------------


def test_a_room_that_no_node_confirms_is_our_failure_and_everything_comes_back(stage: Stage) -> None:
    call = stage.connecting()
    stage.later(seconds=29.9)
    assert stage.run(lambda tx: sessions.open_overdue(tx, stage.now)) == 0
    stage.later(seconds=0.1)
    assert stage.run(lambda tx: sessions.open_overdue(tx, stage.now)) == 1
    assert stage.run(lambda tx: sessions.open_overdue(tx, stage.now)) == 0
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.refunded) == ("MEDIA_FAILURE", 1_000)
    stage.event(events.RoomOpened, room_id=call.room_id, session_id=call.session_id, paid_ms=600_000)
    closes = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert len(closes) == 2, "a confirmation that comes too late is answered by closing the room"


def test_without_a_final_report_the_last_one_stands(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 322_000)
    stage.end(call.session_id, call.fan)
    stage.later(seconds=59.9)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 0
    stage.later(seconds=0.1)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 1
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == ("MEDIA_FAILURE", 5)
    stage.call_ended(call.session_id, "closed", 600_000)
    assert ended(stage, call) == receipt


def test_a_session_that_media_never_ends_is_ended_after_all_it_could_have_used(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 5 * MINUTE)
    stage.later(minutes=7)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 0
    stage.later(seconds=16)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 1
    row = stage.session(call.session_id)
    assert (row.status, row.end_cause, row.deadline_kind) == ("settling", None, "settle")
    stage.later(seconds=60)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 1
    receipt = ended(stage, call)
    assert (receipt.end_reason, receipt.billed_minutes) == ("MEDIA_FAILURE", 5)


def test_no_budget_is_given_back_under_a_node_that_cannot_be_told(stage: Stage) -> None:
    """The broker is away for ten minutes: the node forwards on, so its word is waited for."""
    call = stage.running()
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    stage.carry()
    stage.broker_is_there = False
    stage.end(call.session_id, call.fan)
    for _ in range(60):
        stage.later(seconds=10)
        assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 0
    stage.broker_is_there = True
    stage.later(seconds=9)
    assert stage.run(lambda tx: sessions.settle_overdue(tx, stage.now)) == 0, "the node has only just been told"
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert ended(stage, call).billed_minutes == 10


def test_a_broker_that_stays_away_holds_nobodys_tokens_for_ever(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    stage.broker_is_there = False
    stage.end(call.session_id, call.fan)
    stage.later(days=1)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    stage.later(seconds=61)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    assert (ended(stage, call).end_reason, ended(stage, call).billed_minutes) == ("MEDIA_FAILURE", 2)


def test_a_broken_row_holds_up_no_other(stage: Stage) -> None:
    """Whatever is wrong with one hold, the deadlines of all others are kept."""
    broken, sound = stage.connecting(), stage.connecting()
    creator, stream = stage.live()
    asked = [stage.ask(stage.fan(), stream) for _ in range(2)]
    lost = (broken.request_id, asked[0].request_id)
    closed = update(HoldRow).where(HoldRow.reference.in_(lost)).values(status="settled", amount=0)
    stage.run(lambda tx: tx.execute(closed))
    stage.later(seconds=120)
    assert stage.run(lambda tx: private_streams.expire_due(tx, stage.now)) == 1
    assert stage.run(lambda tx: private_streams.request_view(tx, asked[1].request_id, creator)).status == "expired"
    assert stage.run(lambda tx: sessions.open_overdue(tx, stage.now)) == 1
    assert stage.session(sound.session_id).status == "ended"
    assert stage.session(broken.session_id).status == "connecting"


def test_an_outage_of_ours_that_the_call_outlives_costs_nobody_anything(stage: Stage) -> None:
    call = stage.running()
    stage.later(minutes=30)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert ended(stage, call).end_reason == "TIME_EXPIRED"


# --- a node's lives ----------------------------------------------------------------------------------


def sync(stage: Stage) -> SyncRooms:
    command = stage.commands(SyncRooms)[-1]
    assert isinstance(command, SyncRooms)
    return command


def test_a_restarted_node_is_told_what_goes_on(stage: Stage) -> None:
    call = stage.running()
    _, public = stage.live()
    stage.delivered(call.session_id, 7, 120_000, creator_pause_ms=3_000, node_pause_ms=4_000)
    stage.node_ready("boot_2", rooms=("private-ses_stranger", public.room_id))
    assert sync(stage).boot_id == "boot_2"
    by_id = {room.room_id: room for room in sync(stage).open}
    assert set(by_id) == {call.room_id, public.room_id}
    budget = by_id[call.room_id].budget
    assert budget is not None
    assert (budget.delivered_ms, budget.creator_pause_ms, budget.node_pause_ms) == (120_000, 3_000, 4_000)
    assert budget.resumed
    assert by_id[public.room_id].budget is None
    assert sync(stage).close == ("private-ses_stranger",)
    row = stage.session(call.session_id)
    assert (row.status, row.pause_cause) == ("paused", "node")
    assert stage.told(call.fan, "SESSION_CHANGED")[-1]["cause"] == "node"


def test_the_time_that_a_restart_took_is_our_pause(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 7, 120_000, node_pause_ms=4_000)
    stage.later(seconds=11)
    stage.node_ready("boot_2")
    (room,) = sync(stage).open
    assert room.budget is not None
    assert (room.budget.node_pause_ms, room.budget.paused_for_ms) == (15_000, 11_000)
    stage.later(seconds=2)
    stage.node_ready()
    (room,) = sync(stage).open
    assert room.budget is not None
    assert room.budget.node_pause_ms == 15_000, "the same life at the broker again is no restart"


def test_a_node_that_goes_on_with_an_ended_session_is_told_to_stop(stage: Stage) -> None:
    """Its former life's last word settled the session while the present one was opening it again."""
    call = stage.running()
    stage.node_ready("boot_2")
    stage.call_ended(call.session_id, "fan_left", 60_000, boot="boot_1")
    stage.delivered(call.session_id, 5, 60_000, boot="boot_1")
    closes = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert closes == [], "what a former life said late is no news"
    stage.delivered(call.session_id, 1, 65_000)
    closes = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert len(closes) == 1
    assert ended(stage, call).delivered_ms == 60_000


def test_the_new_life_is_heard_and_the_former_one_no_more(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 7, 120_000)
    stage.node_ready("boot_2")
    stage.delivered(call.session_id, 8, 500_000, boot="boot_1")
    assert stage.session(call.session_id).delivered_ms == 120_000
    stage.delivered(call.session_id, 1, 125_000)
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms, row.last_sequence) == ("live", 125_000, 1)
    stage.call_ended(call.session_id, "time_expired", 600_000, boot="boot_1")
    assert stage.session(call.session_id).status == "live"


def test_the_last_word_of_a_former_life_counts_while_the_new_one_is_silent(stage: Stage) -> None:
    call = stage.running()
    stage.node_ready("boot_2")
    stage.call_ended(call.session_id, "time_expired", 600_000, boot="boot_1")
    assert ended(stage, call).end_reason == "TIME_EXPIRED"


def test_a_restarted_node_is_not_told_of_sessions_that_are_ending_or_ended(stage: Stage) -> None:
    ending = stage.running()
    stage.end(ending.session_id, ending.fan)
    over = stage.running()
    stage.call_ended(over.session_id, "fan_left", 0)
    private = stage.running()
    stage.node_ready("boot_2", rooms=(ending.room_id,))
    assert [room.room_id for room in sync(stage).open] == [private.room_id]
    assert sync(stage).close == (ending.room_id,)


def test_a_node_that_reaches_the_broker_again_is_the_same_one(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 7, 120_000)
    stage.node_ready(rooms=(call.room_id,))
    assert stage.session(call.session_id).status == "live"
    stage.delivered(call.session_id, 8, 125_000)
    assert stage.session(call.session_id).delivered_ms == 125_000
    assert sync(stage).close == ()


def test_a_session_that_was_still_connecting_connects_afresh(stage: Stage) -> None:
    call = stage.connecting()
    stage.opened(call.session_id)
    stage.node_ready("boot_2")
    (room,) = sync(stage).open
    assert room.budget is not None
    assert not room.budget.resumed
    assert stage.session(call.session_id).status == "connecting"


# --- streams -----------------------------------------------------------------------------------------


def test_back_to_public_with_one_press_and_the_same_room(stage: Stage) -> None:
    call = stage.running()
    with pytest.raises(Conflict) as refusal:
        stage.run(lambda tx: streams.resume_public(tx, call.stream.stream_id, call.creator, stage.now))
    assert refusal.value.code == "SESSION_LIVE"
    stage.call_ended(call.session_id, "time_expired", 600_000)
    again = stage.run(lambda tx: streams.resume_public(tx, call.stream.stream_id, call.creator, stage.now))
    assert (again.status, again.room_id) == ("live", call.stream.room_id)
    assert stage.commands(OpenRoom)[-1].room.room_id == call.stream.room_id
    assert stage.told(None, "STREAM_WENT_PUBLIC")[-1]["streamId"] == call.stream.stream_id
    stage.event(events.RoomOpened, room_id=call.stream.room_id)
    assert stage.ask(stage.fan(), again).status == "pending"
    with pytest.raises(Conflict):
        stage.run(lambda tx: streams.resume_public(tx, call.stream.stream_id, call.creator, stage.now))


def test_viewers_are_counted_while_the_room_is_open(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=fan.user_id, viewers=2)
    found = stage.run(lambda tx: streams.stream_of(tx, creator.user_id))
    assert found is not None
    assert found.viewers == 2
    stage.ask(fan, stream)
    assert stage.run(lambda tx: private_streams.requests_for(tx, creator.user_id, stage.now))[0].viewers == 2
    stage.event(events.ParticipantLeft, room_id=stream.room_id, user_id=fan.user_id, viewers=1, reason="left")
    assert stage.run(lambda tx: streams.list_streams(tx))[0].viewers == 1
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now))
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=fan.user_id, viewers=5)
    with stage.database.reading() as tx:
        assert tx.get_one(RoomRow, stream.room_id).viewers == 0


def test_creators_are_listed_live_first(stage: Stage) -> None:
    away = stage.creator()
    call = stage.running()
    live, _ = stage.live()
    cards = stage.run(streams.creators)
    assert [card.person.user_id for card in cards] == [live.user_id, call.creator.user_id, away.user_id]


def test_streams_are_ended_by_their_creator_or_an_admin_and_once(stage: Stage) -> None:
    creator, stream = stage.live()
    stranger = stage.creator()
    with pytest.raises(NotFound):
        stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, stranger, stage.now))
    admin = stage.person("admin", present=False)
    assert stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, admin, stage.now)).status == "ended"
    with pytest.raises(Conflict):
        stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now))
    assert stage.commands(CloseRoom)[-1].reason == "STREAM_ENDED"


def gone(stage: Stage, **delta: float) -> int:
    """Time passes; how many streams the clock ends for want of a creator."""
    stage.later(**delta)
    return stage.run(lambda tx: streams.end_absent(tx, stage.now, absent_ms=60_000))


def seat(stage: Stage, room_id: str, creator: Person, kind: str, **more: Any) -> events.AnyEvent:
    """The node says that the creator took its seat, or that it is empty, at this moment."""
    about = {"room_id": room_id, "user_id": creator.user_id, "viewers": 0, "at": rfc3339(stage.now)} | more
    if kind == "joined":
        return stage.event(events.ParticipantJoined, **about)
    return stage.event(events.ParticipantLeft, **({"reason": "lost"} | about))


def test_a_creator_who_never_comes_or_stays_away_ends_the_stream_and_releases_its_requests(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan()
    stage.ask(fan, stream)
    assert gone(stage, seconds=59.9) == 0
    assert gone(stage, seconds=0.1) == 1
    assert gone(stage, seconds=60) == 0
    assert stage.balances(fan) | {"wallet": 1_000, "held": 0} == stage.balances(fan)
    assert stage.told(None, "STREAM_ENDED")[-1]["streamId"] == stream.stream_id
    assert stage.commands(CloseRoom)[-1].reason == "STREAM_ENDED"
    again = stage.go_live(creator)
    seat(stage, again.room_id, creator, "joined")
    assert gone(stage, hours=1) == 0
    seat(stage, again.room_id, creator, "left")
    assert gone(stage, seconds=59) == 0
    assert gone(stage, seconds=1) == 1
    stage.audit()


def test_a_creator_who_comes_back_in_time_goes_on(stage: Stage) -> None:
    creator, stream = stage.live()
    seat(stage, stream.room_id, creator, "joined")
    seat(stage, stream.room_id, creator, "left")
    assert gone(stage, seconds=59) == 0
    seat(stage, stream.room_id, creator, "joined")
    assert gone(stage, seconds=120) == 0


def test_whoever_else_leaves_the_room_ends_nothing(stage: Stage) -> None:
    creator, stream = stage.live()
    viewer = stage.fan()
    seat(stage, stream.room_id, creator, "joined")
    seat(stage, stream.room_id, viewer, "joined")
    seat(stage, stream.room_id, viewer, "left")
    seat(stage, stream.room_id, creator, "left", node_id="media-2")
    assert gone(stage, seconds=120) == 0


def test_word_of_an_empty_seat_that_comes_late_changes_nothing(stage: Stage) -> None:
    creator, stream = stage.live()
    stage.later(seconds=10)
    left_at = rfc3339(stage.now)
    stage.later(seconds=1)
    seat(stage, stream.room_id, creator, "joined")
    seat(stage, stream.room_id, creator, "left", at=left_at)
    assert gone(stage, seconds=120) == 0


def test_a_reopened_room_says_whether_its_creator_is_there(stage: Stage) -> None:
    creator, stream = stage.live()
    seat(stage, stream.room_id, creator, "joined")
    stage.later(seconds=10)
    stage.node_ready("boot_2")
    stage.event(events.RoomOpened, room_id=stream.room_id, at=rfc3339(stage.now))
    assert gone(stage, seconds=30) == 0
    stage.event(events.RoomOpened, room_id=stream.room_id, creator_here=True, at=rfc3339(stage.now))
    assert gone(stage, seconds=120) == 0
    stage.event(events.RoomOpened, room_id=stream.room_id, at=rfc3339(stage.now))
    assert gone(stage, seconds=60) == 1


def test_a_private_stream_is_not_absent_and_back_in_public_its_creator_has_a_minute(stage: Stage) -> None:
    call = stage.running()
    seat(stage, call.stream.room_id, call.creator, "left")
    assert gone(stage, minutes=9) == 0
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert gone(stage, minutes=9) == 0
    stage.resume(call.stream, call.creator)
    assert gone(stage, seconds=59) == 0
    assert gone(stage, seconds=1) == 1


def test_after_a_private_session_a_creator_who_never_decides_ends_the_stream(stage: Stage) -> None:
    call = stage.running()
    stage.later(minutes=10)
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert gone(stage, minutes=9.9) == 0
    assert gone(stage, minutes=0.1) == 1
    assert stage.told(None, "STREAM_ENDED")[-1]["streamId"] == call.stream.stream_id


def test_however_short_the_minute_messages_have_their_time(stage: Stage) -> None:
    stage.live()
    stage.later(seconds=9.9)
    assert stage.run(lambda tx: streams.end_absent(tx, stage.now, absent_ms=1_000)) == 0
    stage.later(seconds=0.1)
    assert stage.run(lambda tx: streams.end_absent(tx, stage.now, absent_ms=1_000)) == 1


# --- for the pages -----------------------------------------------------------------------------------


def test_history_has_both_sides_lines_newest_first(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(5_000)
    for fact in ("fan_left", "creator_left"):
        request = stage.ask(fan, stream, 5)
        accepted = stage.accept(request.request_id, creator)
        assert stage.run(lambda tx: sessions.current_session_of(tx, fan.user_id)) == accepted.session_id
        assert stage.run(sessions.running_sessions) == (accepted.session_id,)
        stage.later(minutes=1)
        stage.call_ended(accepted.session_id, fact, 60_000)
        stream = stage.resume(stream, creator)
    assert stage.run(lambda tx: sessions.current_session_of(tx, fan.user_id)) is None
    newest, oldest = stage.run(lambda tx: sessions.history(tx, fan.user_id))
    assert (newest.end_reason, newest.tokens, newest.role) == ("ENDED_BY_CREATOR", 100, "fan")
    assert (oldest.end_reason, oldest.tokens, oldest.counterpart_handle) == ("ENDED_BY_FAN", 500, creator.handle)
    creators = stage.run(lambda tx: sessions.history(tx, creator.user_id))
    assert [line.tokens for line in creators] == [80, 400]
    assert stage.run(lambda tx: sessions.history(tx, fan.user_id, 50, newest.ended_at)) == (oldest,)


def test_three_sessions_of_a_pair_in_a_day_without_a_billed_minute_are_flagged(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(5_000)
    for count in range(1, 5):
        request = stage.ask(fan, stream, 5)
        accepted = stage.accept(request.request_id, creator)
        stage.call_ended(accepted.session_id, "creator_left", 59_000)
        stage.later(minutes=1)
        stream = stage.resume(stream, creator)
        with stage.database.reading() as tx:
            flags = [(flag.creator_id, flag.fan_id, flag.day) for flag in tx.scalars(select(FlagRow))]
        assert flags == ([(creator.user_id, fan.user_id, "2026-01-02")] if count >= 3 else [])


def test_a_frozen_account_is_told_so(stage: Stage) -> None:
    _, stream = stage.live()
    fan = stage.fan()

    def freeze(tx: Any) -> None:
        tx.get_one(PersonRow, fan.user_id).spending_frozen_at = stage.now

    stage.run(freeze)
    with pytest.raises(Exception, match="frozen") as refusal:
        stage.ask(fan, stream)
    assert refusal.value.code == "SPENDING_FROZEN"  # type: ignore[attr-defined]


# --- at the same instant -----------------------------------------------------------------------------


def at_worst_conflicts(*wishes: Callable[[], Any]) -> None:
    refusals = [each for each in together(*wishes) if isinstance(each, DomainError)]
    assert all(isinstance(each, Conflict) for each in refusals), refusals


def test_however_many_ends_come_at_once_one_settles(stage: Stage) -> None:
    call = stage.running()
    stage.end(call.session_id, call.fan)
    stage.carry()
    late = stage.now + timedelta(seconds=60)
    at_worst_conflicts(
        lambda: stage.call_ended(call.session_id, "closed", 322_000),
        lambda: stage.call_ended(call.session_id, "closed", 322_000),
        lambda: stage.run(lambda tx: sessions.settle_overdue(tx, late)),
        lambda: stage.run(lambda tx: sessions.settle_overdue(tx, late)),
        lambda: stage.end(call.session_id, call.creator),
        lambda: stage.delivered(call.session_id, 5, 10_000),
        lambda: stage.run(lambda tx: termination.payment_failed(tx, call.session_id, stage.now)),
    )
    receipt = ended(stage, call)
    assert receipt.end_reason in ("ENDED_BY_FAN", "MEDIA_FAILURE")
    assert len([transfer for transfer in receipt.transfers if transfer.kind == "settle"]) == 1


def test_reports_that_overtake_one_another_leave_the_newest(stage: Stage) -> None:
    call = stage.running()
    at_worst_conflicts(*[lambda n=n: stage.delivered(call.session_id, n, n * 1_000) for n in range(2, 12)])
    row = stage.session(call.session_id)
    assert (row.delivered_ms, row.last_sequence, row.status) == (11_000, 11, "live")


def test_a_node_restart_and_an_end_in_the_same_instant(stage: Stage) -> None:
    call = stage.running()
    at_worst_conflicts(
        lambda: stage.call_ended(call.session_id, "fan_left", 60_000),
        lambda: stage.event(
            events.NodeReady, boot="boot_2", signaling_url="ws://127.0.0.1:8090/signaling", rooms=()
        ),
    )
    assert ended(stage, call).billed_minutes == 5
    with stage.database.reading() as tx:
        assert tx.get_one(MediaNodeRow, "media-1").boot_id == "boot_2"
