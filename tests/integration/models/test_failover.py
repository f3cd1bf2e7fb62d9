"""A node is lost: its rooms go on elsewhere under the same ids and budgets, and it has no say in them any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from arena import Arena
from sqlalchemy import select
from sqlalchemy.orm import Session
from stage import Call, Stage
from together import together

from models.battles import BattleSideRow
from models.broadcasts import BroadcastRow
from models.config import MEDIA_CAPACITY
from models.db import Database
from models.errors import Conflict, DomainError
from models.messages import events
from models.messages.commands import CloseRoom, Elsewhere, GrantBudget, OpenRoom, ReleaseRoom, RoomSpec, SyncRooms
from models.services import broadcasts, departures, failover, nodes, placement, rooms, sessions, streams
from models.sessions import SessionRow
from models.streams import MediaNodeRow, RoomRow, RoomStayRow, StreamRow

HERE, THERE = "media-1", "media-2"
MINUTE = 60_000


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    return stage


def another(stage: Stage, name: str = THERE, *, boot: str | None = None, **more: Any) -> None:
    url = f"ws://127.0.0.1/{name}"
    stage.event(
        events.NodeReady, node_id=name, boot=boot or f"boot_{name}", signaling_url=url, rooms=(), **more
    )


def lose(stage: Stage, name: str = HERE, boot: str | None = None) -> int:
    boot_id = boot or ("boot_1" if name == HERE else f"boot_{name}")
    stage.run(lambda tx: failover.node_lost(tx, name, boot_id, stage.now))
    return failover.move_rooms(stage.database, name, boot_id, stage.now)


def opened(stage: Stage, call: Call, name: str = THERE, epoch: int = 1) -> None:
    """The node that the room was moved to has it."""
    paid_ms = stage.session(call.session_id).paid_ms
    stage.event(
        events.RoomOpened, node_id=name, boot=f"boot_{name}", room_id=call.room_id, session_id=call.session_id,
        paid_ms=paid_ms, epoch=epoch,
    )  # fmt: skip


def says(
    stage: Stage, call: Call, sequence: int, delivered_ms: int, name: str = THERE, epoch: int = 1, **more: Any
) -> None:
    boot = more.pop("boot", f"boot_{name}" if name != HERE else "boot_1")
    stage.delivered(call.session_id, sequence, delivered_ms, node_id=name, boot=boot, epoch=epoch, **more)


def moved_spec(stage: Stage, room_id: str) -> RoomSpec:
    opening: list[OpenRoom] = stage.commands(OpenRoom)
    return [command.room for command in opening if command.room.room_id == room_id][-1]


def room(stage: Stage, room_id: str) -> RoomRow:
    with stage.database.reading() as tx:
        row = tx.get_one(RoomRow, room_id)
        tx.expunge_all()
        return row


def url(stage: Stage, room_id: str) -> str:
    return stage.run(lambda tx: rooms.signaling_url(tx, room_id))


# --- a private session --------------------------------------------------------------------------------


def test_a_call_goes_on_elsewhere_with_what_is_left_of_its_budget(stage: Stage) -> None:
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    another(stage)
    stage.later(seconds=3)
    assert lose(stage) == 1
    # then the other node is told to open the same room, with the budget as far as it was reported
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.epoch, spec.budget.paid_ms, spec.budget.delivered_ms) == (1, 10 * MINUTE, 2 * MINUTE)
    assert (spec.budget.resumed, spec.budget.paused_for_ms, spec.budget.node_pause_ms) == (True, 3_000, 3_000)
    # and the session is paused by our cause, until the other node reports
    row = stage.session(call.session_id)
    assert (row.node_id, row.status, row.pause_cause) == (THERE, "paused", "node")
    opened(stage, call)
    says(stage, call, 1, 2 * MINUTE)
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms) == ("live", 2 * MINUTE)
    stage.audit()


def test_whoever_joins_is_led_to_the_new_node_once_it_has_the_room(stage: Stage) -> None:
    call = stage.running()
    another(stage)
    lose(stage)
    # and neither the old node's word counts for that, nor one about an earlier stay
    opened(stage, call, name=HERE, epoch=1)
    opened(stage, call, epoch=0)
    with pytest.raises(DomainError) as refusal:
        url(stage, call.room_id)
    assert refusal.value.code == "ROOM_OPENING"
    opened(stage, call)
    assert url(stage, call.room_id) == "ws://127.0.0.1/media-2"


def test_a_node_that_a_room_was_moved_from_may_linger_in_it(stage: Stage) -> None:
    call, live = stage.running(), stage.go_live(stage.creator())
    another(stage)
    lose(stage)
    with stage.database.reading() as tx:
        assert departures.may_linger(tx, call.room_id, stage.now)
        assert departures.may_linger(tx, live.room_id, stage.now)


def test_what_the_old_node_says_afterwards_adds_nothing(stage: Stage) -> None:
    # given a call that was moved, from a node that only stood still
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    another(stage)
    lose(stage)
    opened(stage, call)
    says(stage, call, 1, 2 * MINUTE + 1_000)
    # when it says what it delivered since, and that the call is over
    says(stage, call, 3, 9 * MINUTE, name=HERE, epoch=0)
    stage.event(
        events.RoomOpened, boot="boot_1", room_id=call.room_id, session_id=call.session_id, paid_ms=10 * MINUTE
    )
    stage.call_ended(call.session_id, "fan_left", 9 * MINUTE, boot="boot_1")
    # then nothing of it is heard
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms, row.node_id) == ("live", 2 * MINUTE + 1_000, THERE)
    # and the bill is for what was delivered: two minutes that the first had reported, one at the second node
    stage.call_ended(
        call.session_id, "creator_left", 3 * MINUTE + 10, node_id=THERE, boot="boot_media-2", epoch=1
    )
    receipt = stage.receipt(call.session_id)
    assert (receipt.billed_minutes, receipt.earnings + receipt.commission) == (3, 300)
    stage.audit()


def test_a_room_that_comes_back_to_a_node_that_lives_is_another_than_it_had(stage: Stage) -> None:
    """There and back while the first node stood still: its boot is the same, its old reports are not."""
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    another(stage)
    lose(stage)
    opened(stage, call)
    says(stage, call, 1, 3 * MINUTE)
    stage.later(seconds=5)
    stage.run(lambda tx: failover.node_found(tx, HERE, "boot_1", stage.now))
    assert lose(stage, THERE) == 1
    assert moved_spec(stage, call.room_id).epoch == 2
    # when the first node says something of the room as it once had it
    says(stage, call, 50, 8 * MINUTE, name=HERE, epoch=0)
    stage.call_ended(call.session_id, "fan_left", 8 * MINUTE, boot="boot_1")
    assert stage.session(call.session_id).delivered_ms == 3 * MINUTE
    # then only what it says of the room as it has it now counts
    stage.event(
        events.RoomOpened, boot="boot_1", room_id=call.room_id, session_id=call.session_id,
        paid_ms=10 * MINUTE, epoch=2,
    )  # fmt: skip
    says(stage, call, 1, 4 * MINUTE, name=HERE, epoch=2)
    assert stage.session(call.session_id).delivered_ms == 4 * MINUTE


def test_the_old_node_is_told_to_let_go_and_again_when_it_reports(stage: Stage) -> None:
    call = stage.running()
    another(stage)
    lose(stage)
    [release] = stage.commands(ReleaseRoom)
    assert (release.room_id, release.epoch) == (call.room_id, 1)
    # given that it did not hear: it reports the room, or reaches the broker again
    for kind, more in ((events.NodeReport, {}), (events.NodeReady, {"signaling_url": "ws://x/signaling"})):
        stage.event(kind, rooms=(call.room_id, "live-ghost"), **more)
        sync = stage.commands(SyncRooms)[-1]
        # then it is not told to end the call, only to leave it
        assert sync.elsewhere == (Elsewhere(room_id=call.room_id, epoch=1),)
        assert (sync.release, sync.close) == ((), ("live-ghost",))


def test_a_call_that_is_not_open_yet_is_opened_elsewhere(stage: Stage) -> None:
    call = stage.connecting()
    another(stage)
    assert lose(stage) == 1
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert not spec.budget.resumed
    opened(stage, call)
    says(stage, call, 1, 0)
    assert stage.session(call.session_id).status == "live"


def test_minutes_that_were_added_just_before_go_with_it(stage: Stage) -> None:
    call = stage.running(minutes=5)
    another(stage)
    stage.run(
        lambda tx: sessions.extend(
            tx, call.session_id, fan_id=call.fan.user_id, minutes=2, key="k", now=stage.now
        )
    )
    assert stage.commands(GrantBudget)
    lose(stage)
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert spec.budget.paid_ms == 7 * MINUTE


def test_where_no_other_node_is_everything_waits_for_its_next_boot(stage: Stage) -> None:
    call = stage.running()
    assert lose(stage) == 0
    row = stage.session(call.session_id)
    assert (row.node_id, row.status, row.room_epoch) == (HERE, "live", 0)
    stage.later(seconds=2)
    stage.node_ready("boot_2")
    assert stage.session(call.session_id).status == "paused"
    # and where one comes meanwhile, or has room again, that one has it
    lose(stage, HERE, "boot_2")
    another(stage)
    assert lose(stage, HERE, "boot_2") == 1
    assert stage.session(call.session_id).node_id == THERE


def test_a_new_life_of_the_node_is_not_the_one_that_was_lost(stage: Stage) -> None:
    call = stage.running()
    another(stage)
    stage.node_ready("boot_2")
    assert lose(stage, HERE, "boot_1") == 0
    assert stage.session(call.session_id).node_id == HERE


def test_one_that_settles_settles_by_its_last_report(stage: Stage) -> None:
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, 2 * MINUTE)
    another(stage)
    stage.end(call.session_id, call.fan)
    assert lose(stage) == 0
    stage.later(seconds=61)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    assert stage.receipt(call.session_id).billed_minutes == 2
    stage.audit()


# --- what was still in the queue ----------------------------------------------------------------------


def ago(stage: Stage, **delta: float) -> str:
    return (stage.now - timedelta(**delta)).isoformat(timespec="milliseconds")


def test_reports_that_waited_in_the_queue_count(stage: Stage) -> None:
    # given a node of which nothing was read for 100 s when the clock finds that it is gone
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, MINUTE)
    stage.later(seconds=100)
    another(stage)
    lose(stage)
    pause_ms = failover.UNSEEN // timedelta(milliseconds=1)
    # then what nobody has read yet is no pause
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.budget.delivered_ms, spec.budget.node_pause_ms) == (MINUTE, pause_ms)
    # when its reports are read, twice and out of order
    for sequence, seconds in ((21, 159), (20, 155), (21, 159)):
        says(stage, call, sequence, seconds * 1_000, name=HERE, epoch=0, at=ago(stage, seconds=160 - seconds))
    row = stage.session(call.session_id)
    assert (row.node_id, row.status, row.pause_cause) == (THERE, "paused", "node")
    assert (row.delivered_ms, row.node_pause_ms) == (159_000, pause_ms)
    # then the other node, which opened the room without them, is told
    opened(stage, call)
    says(stage, call, 1, MINUTE, state="paused", cause="node", node_pause_ms=pause_ms)
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.epoch, spec.budget.delivered_ms, spec.budget.resumed) == (1, 159_000, True)
    # and once it has spoken the old one has no say any more
    says(stage, call, 22, 9 * MINUTE, name=HERE, epoch=0, at=ago(stage, seconds=1))
    told = len(stage.commands(OpenRoom))
    says(stage, call, 2, 165_000, node_pause_ms=pause_ms)
    assert stage.session(call.session_id).delivered_ms == 165_000
    assert len(stage.commands(OpenRoom)) == told
    stage.audit()


@pytest.mark.parametrize(
    ("fact", "delivered_ms", "reason", "billed"),
    [("time_expired", 5 * MINUTE, "TIME_EXPIRED", 5), ("fan_left", 55_000, "ENDED_BY_FAN", 5)],
)
def test_an_end_that_waited_in_the_queue_is_the_end(
    stage: Stage, fact: str, delivered_ms: int, reason: str, billed: int
) -> None:
    call = stage.running(minutes=5)
    stage.delivered(call.session_id, 2, 50_000)
    stage.later(seconds=260)
    another(stage)
    lose(stage)
    about = {"boot": "boot_1", "at": ago(stage, seconds=3)}
    stage.call_ended(call.session_id, fact, delivered_ms, 90, **about)
    # then it is settled by what had happened, of which our pause was no part
    receipt = stage.receipt(call.session_id)
    assert (receipt.end_reason, receipt.billed_minutes) == (reason, billed)
    assert stage.session(call.session_id).node_pause_ms == 0
    # and nobody goes on where it was moved to, nor does it settle again by what is said there, or again
    [close] = [command for command in stage.commands(CloseRoom) if command.room_id == call.room_id]
    assert close.reason == reason
    stage.call_ended(call.session_id, fact, delivered_ms, 90, **about)
    there = {"node_id": THERE, "boot": "boot_media-2", "epoch": 1}
    stage.call_ended(call.session_id, "closed", 5 * MINUTE, **there)
    says(stage, call, 1, 5 * MINUTE)
    assert stage.receipt(call.session_id).billed_minutes == billed
    assert [transfer.kind for transfer in stage.receipt(call.session_id).transfers].count("settle") == 1
    stage.audit()


def test_a_queue_that_is_far_behind_does_not_use_up_the_pauses(stage: Stage) -> None:
    call = stage.running(minutes=10)
    stage.later(seconds=130)
    another(stage)
    lose(stage)
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert spec.budget.node_pause_ms < spec.budget.timers.pause_ms // 2
    # but what the old node itself had counted of pauses goes with it
    says(stage, call, 30, MINUTE, name=HERE, epoch=0, at=ago(stage, seconds=1), node_pause_ms=40_000)
    opened(stage, call)
    says(stage, call, 1, 0, node_pause_ms=spec.budget.node_pause_ms)
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.budget.delivered_ms, spec.budget.node_pause_ms) == (MINUTE, 41_000)


def test_a_call_of_which_only_the_queue_knew_that_it_was_live_is_resumed(stage: Stage) -> None:
    call = stage.connecting()
    another(stage)
    stage.later(seconds=20)
    lose(stage)
    says(stage, call, 3, 15_000, name=HERE, epoch=0, at=ago(stage, seconds=2))
    row = stage.session(call.session_id)
    assert (row.status, row.pause_cause, row.live_at, row.delivered_ms) == ("paused", "node", stage.now, 15_000)
    opened(stage, call)
    says(stage, call, 1, 0, state="waiting")
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.budget.resumed, spec.budget.delivered_ms) == (True, 15_000)


def test_what_the_old_node_says_only_after_the_move_does_not_count(stage: Stage) -> None:
    """It stood still, its clients were let go, and the other node has not opened the room yet."""
    call = stage.running(minutes=10)
    another(stage)
    lose(stage)
    stage.later(seconds=70)
    said = {"at": ago(stage, seconds=1)}
    says(stage, call, 9, 2 * MINUTE, name=HERE, epoch=0, **said)
    stage.call_ended(call.session_id, "fan_absent", 2 * MINUTE, boot="boot_1", **said)
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms) == ("paused", 0)


THIRD = "media-3"


def moved_twice(stage: Stage, *, second_speaks: bool = False) -> Call:
    """A minute was read of the first node's words; ten seconds after the first move the room is moved again."""
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, MINUTE)
    stage.later(seconds=100)
    another(stage)
    lose(stage)
    if second_speaks:
        opened(stage, call)
        says(stage, call, 1, MINUTE + 1_000)
    stage.later(seconds=10)
    another(stage, THIRD)
    assert lose(stage, THERE) == 1
    return call


def first_says(stage: Stage, call: Call, delivered_ms: int, *, seconds_ago: float, **more: Any) -> None:
    says(stage, call, 21, delivered_ms, name=HERE, epoch=0, at=ago(stage, seconds=seconds_ago), **more)


def test_reports_that_waited_while_the_room_was_moved_twice_count(stage: Stage) -> None:
    call = moved_twice(stage)
    # when what the first node said a second before the first move is read, twice
    for _ in range(2):
        first_says(stage, call, 159_000, seconds_ago=11, node_pause_ms=40_000)
    # then it counts, and since then it was our pause
    row = stage.session(call.session_id)
    assert (row.node_id, row.delivered_ms, row.node_pause_ms) == (THIRD, 159_000, 51_000)
    # and the third node, which opened the room without it, is told at its first word
    opened(stage, call, THIRD, 2)
    says(stage, call, 1, MINUTE, THIRD, 2, state="paused", cause="node")
    spec = moved_spec(stage, call.room_id)
    assert spec.budget is not None
    assert (spec.epoch, spec.budget.delivered_ms, spec.budget.node_pause_ms) == (2, 159_000, 51_000)
    # and from then on neither of the others has a say
    first_says(stage, call, 160_000, seconds_ago=10)
    says(stage, call, 3, 161_000, at=ago(stage, seconds=1))
    assert stage.session(call.session_id).delivered_ms == 159_000
    stage.audit()


def test_what_was_said_after_the_first_of_two_moves_does_not_count(stage: Stage) -> None:
    """The first node only stood still: what it forwarded after the move is at our cost, whenever it is read."""
    call = moved_twice(stage)
    first_says(stage, call, 2 * MINUTE, seconds_ago=5)
    stage.call_ended(call.session_id, "fan_left", 2 * MINUTE, boot="boot_1", at=ago(stage, seconds=5))
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms) == ("paused", MINUTE)


@pytest.mark.parametrize("second_speaks", ["before its loss", "in the queue"])
def test_what_was_said_before_a_node_that_was_heard_does_not_count(stage: Stage, second_speaks: str) -> None:
    call = moved_twice(stage, second_speaks=second_speaks == "before its loss")
    if second_speaks == "in the queue":
        says(stage, call, 1, MINUTE + 1_000, at=ago(stage, seconds=2))
    first_says(stage, call, 2 * MINUTE, seconds_ago=11)
    assert stage.session(call.session_id).delivered_ms == MINUTE + 1_000
    # but more of the second's own, said before it was lost, does
    says(stage, call, 2, MINUTE + 4_000, at=ago(stage, seconds=1))
    assert stage.session(call.session_id).delivered_ms == MINUTE + 4_000


def test_what_was_said_before_a_node_that_was_heard_does_not_count_after_its_restart_either(stage: Stage) -> None:
    # given a call that was moved, of which the second node reported before it was born again
    call = stage.running(minutes=10)
    stage.delivered(call.session_id, 2, MINUTE)
    stage.later(seconds=100)
    another(stage)
    lose(stage)
    stage.later(seconds=15)
    opened(stage, call)
    says(stage, call, 1, 170_000)
    another(stage, boot="boot_again")
    # when the first node's words from before the move are read
    first_says(stage, call, 9 * MINUTE, seconds_ago=16)
    said = {"boot": "boot_1", "at": ago(stage, seconds=16)}
    stage.call_ended(call.session_id, "creator_left", 65_000, 90, **said)
    # then the call waits for the second node's new life, and goes on there
    row = stage.session(call.session_id)
    assert (row.status, row.delivered_ms, row.node_id) == ("paused", 170_000, THERE)
    says(stage, call, 1, 171_000, boot="boot_again")
    assert (stage.session(call.session_id).status, stays_known(stage)) == ("live", 0)
    stage.audit()


def stays_known(stage: Stage) -> int:
    with stage.database.reading() as tx:
        return len(tx.scalars(select(RoomStayRow)).all())


def test_of_a_call_that_is_settled_no_stay_is_kept(stage: Stage) -> None:
    call = moved_twice(stage)
    assert stays_known(stage) == 2
    stage.call_ended(call.session_id, "fan_left", 2 * MINUTE, 90, boot="boot_1", at=ago(stage, seconds=11))
    assert stage.session(call.session_id).status == "ended"
    assert stays_known(stage) == 0


def test_an_end_that_waited_while_the_room_was_moved_twice_is_the_end(stage: Stage) -> None:
    call = moved_twice(stage)
    stage.call_ended(call.session_id, "fan_left", 370_000, 90, boot="boot_1", at=ago(stage, seconds=20))
    receipt = stage.receipt(call.session_id)
    assert (receipt.end_reason, receipt.billed_minutes) == ("ENDED_BY_FAN", 7)
    # and nothing that is said where it was moved to settles it again
    says(stage, call, 1, 10 * MINUTE, THIRD, 2)
    assert stage.receipt(call.session_id).billed_minutes == 7
    stage.audit()


# --- public rooms -------------------------------------------------------------------------------------


def test_a_public_stream_goes_on_elsewhere(stage: Stage) -> None:
    creator, stream = stage.live()
    stage.event(
        events.ParticipantJoined, room_id=stream.room_id, user_id=creator.user_id, viewers=3,
        at="2026-01-02T12:00:09.000Z",
    )  # fmt: skip
    another(stage)
    assert lose(stage) == 1
    row = room(stage, stream.room_id)
    assert (row.node_id, row.status, row.viewers, row.epoch) == (THERE, "opening", 0, 1)
    assert moved_spec(stage, stream.room_id).epoch == 1
    # when the new node, whose clock is behind, opens it without the creator, who then comes
    about = {"node_id": THERE, "boot": "boot_media-2", "room_id": stream.room_id, "at": "2026-01-02T12:00:01.000Z"}
    stage.event(events.RoomOpened, epoch=1, **about)
    assert room(stage, stream.room_id).status == "open"
    assert gone_at(stage, stream) is not None
    stage.event(events.ParticipantJoined, user_id=creator.user_id, viewers=0, **about)
    assert gone_at(stage, stream) is None
    # and the old one's word that the creator left is not heard
    stage.event(events.ParticipantLeft, room_id=stream.room_id, user_id=creator.user_id, viewers=0, reason="lost")
    assert gone_at(stage, stream) is None


def gone_at(stage: Stage, stream: streams.StreamView) -> object:
    with stage.database.reading() as tx:
        return tx.get_one(StreamRow, stream.stream_id).creator_gone_at


def test_whoever_makes_the_pictures_of_a_stream_is_sent_to_its_new_node(stage: Stage) -> None:
    creator, stream = stage.live()
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=creator.user_id, viewers=0)
    another(stage)
    [lease] = stage.run(lambda tx: broadcasts.take_over(tx, "worker_1", 1, stage.now))
    lose(stage)
    held = [(lease.work_id, lease.epoch)]
    assert stage.run(lambda tx: broadcasts.renew(tx, "worker_1", held, stage.now)) == set()
    [anew] = stage.run(lambda tx: broadcasts.take_over(tx, "worker_1", 1, stage.now))
    assert (anew.work_id, anew.signaling_url) == (lease.work_id, "ws://127.0.0.1/media-2")
    with stage.database.reading() as tx:
        assert tx.scalars(select(BroadcastRow.epoch)).one() == lease.epoch + 1


def test_rooms_that_fit_nowhere_stay_and_the_others_go(stage: Stage) -> None:
    for _ in range(3):
        stage.live()
    another(stage, capacity=4)
    assert lose(stage) == 2
    assert lose(stage) == 0
    another(stage, "media-3")
    assert lose(stage) == 1


def watched_by(stage: Stage, viewers: int) -> streams.StreamView:
    creator, stream = stage.live()
    seat = {"room_id": stream.room_id, "user_id": creator.user_id, "viewers": viewers}
    stage.event(events.ParticipantJoined, **seat)
    return stream


def test_a_room_goes_where_all_who_are_in_it_fit(stage: Stage) -> None:
    stream = watched_by(stage, 17)
    another(stage, capacity=17)
    assert lose(stage) == 0
    another(stage, "media-3", capacity=18)
    assert lose(stage) == 1
    assert room(stage, stream.room_id).node_id == "media-3"


def test_who_is_on_the_way_back_is_counted_where_nobody_has_arrived_yet(stage: Stage) -> None:
    # given three full rooms, and a node that has room for two
    moved = [watched_by(stage, 17) for _ in range(3)]
    another(stage, capacity=40)
    assert lose(stage) == 2
    # when the first are back, and the node has reported them
    here = {"node_id": THERE, "boot": "boot_media-2"}
    there = [each for each in moved if room(stage, each.room_id).node_id == THERE]
    reported = {"rooms": tuple(each.room_id for each in there), **here}
    stage.later(seconds=2)
    for each in there:
        seat = {"room_id": each.room_id, "user_id": each.creator_id, "viewers": 0}
        stage.event(events.ParticipantJoined, **seat, **here)
    stage.event(events.NodeReport, participants=2, **reported)
    # then the others still have their seats, and everybody sees who watches
    assert lose(stage) == 0
    assert {room(stage, each.room_id).viewers for each in there} == {0}
    # until they have had the time to come back, and did not
    stage.later(seconds=20)
    assert lose(stage) == 0
    stage.event(events.NodeReport, participants=2, **reported)
    assert lose(stage) == 1


def test_a_room_that_cannot_be_moved_holds_up_no_other(stage: Stage) -> None:
    call, stream = stage.running(), watched_by(stage, 0)

    def damage(tx: Session) -> None:
        """No calendar has a deadline for so much."""
        tx.get_one(SessionRow, call.session_id).paid_ms = 10**16

    stage.run(damage)
    another(stage)
    assert lose(stage) == 1
    assert room(stage, stream.room_id).node_id == THERE
    # and nothing was done to it by halves
    assert (room(stage, call.room_id).node_id, stage.session(call.session_id).status) == (HERE, "live")
    assert not [command for command in stage.commands(ReleaseRoom) if command.room_id == call.room_id]


def test_where_nothing_fits_nothing_is_locked_and_all_is_asked_once(stage: Stage) -> None:
    stage.live()
    lose(stage)
    counts = []
    for _ in range(2):
        said: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any, said: list[str] = said) -> None:
            said.append(statement)

        sqlalchemy.event.listen(stage.database.engine, "before_cursor_execute", note)
        assert lose_again(stage) == 0
        sqlalchemy.event.remove(stage.database.engine, "before_cursor_execute", note)
        assert not [each for each in said if "UPDATE" in each]
        counts.append(len(said))
        for _ in range(4):
            creator = stage.creator()
            stage.run(lambda tx, creator=creator: streams.go_live(tx, creator, title="", now=stage.now))  # type: ignore[misc]
    assert counts[0] == counts[1] > 0


def lose_again(stage: Stage) -> int:
    return failover.move_rooms(stage.database, HERE, "boot_1", stage.now)


def test_a_draining_node_gets_no_room_of_a_lost_one(stage: Stage) -> None:
    stage.live()
    another(stage)
    stage.run(lambda tx: nodes.drain(tx, THERE, stage.now))
    assert lose(stage) == 0


def test_battles_are_moved_with_everybody_away(stage: Stage) -> None:
    arena = Arena(stage).running()
    another(stage)
    assert lose(stage) == 1
    with stage.database.reading() as tx:
        sides = tx.scalars(select(BattleSideRow).where(BattleSideRow.battle_id == arena.battle_id)).all()
        assert {(side.absent_since, side.heard_at) for side in sides} == {(stage.now, None)}
    spec = moved_spec(stage, arena.room_id)
    assert (spec.epoch, len(spec.publishers)) == (1, 2)
    # and nobody has lost by it who comes back in time
    stage.later(seconds=20)
    for creator in arena.creators:
        stage.event(
            events.ParticipantJoined, node_id=THERE, boot="boot_media-2", room_id=arena.room_id,
            user_id=creator.user_id, viewers=0,
        )  # fmt: skip
    stage.later(seconds=100)
    arena.clock()
    assert arena.view.status == "running"


# --- at the same moment -------------------------------------------------------------------------------


def test_a_move_and_whatever_else_happens_in_the_same_instant(stage: Stage) -> None:
    # given a call and a public stream on a node that is lost
    call = stage.running(minutes=5)
    creator, stream = stage.live()
    another(stage)
    stage.run(lambda tx: failover.node_lost(tx, HERE, "boot_1", stage.now))

    def move() -> int:
        return failover.move_rooms(stage.database, HERE, "boot_1", stage.now)

    def extend() -> None:
        stage.run(
            lambda tx: sessions.extend(
                tx, call.session_id, fan_id=call.fan.user_id, minutes=1, key="k", now=stage.now
            )
        )

    # when two clocks move its rooms while both are ended, more is paid for, and its last words come
    results = together(
        move,
        move,
        extend,
        lambda: stage.delivered(call.session_id, 2, 60_000),
        lambda: stage.end(call.session_id, call.fan),
        lambda: stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, stage.now)),
    )
    assert all(isinstance(each, Conflict) for each in results if isinstance(each, Exception)), results

    # then each room was moved once at most, and the call is settled once, for what was delivered
    assert {room(stage, room_id).epoch for room_id in (call.room_id, stream.room_id)} <= {0, 1}
    assert room(stage, stream.room_id).status == "closed"
    stage.later(seconds=200)
    stage.run(lambda tx: sessions.settle_overdue(tx, stage.now))
    receipt = stage.receipt(call.session_id)
    assert [transfer.kind for transfer in receipt.transfers].count("settle") == 1
    # (Its final report never comes: our fault, delivered minutes rounded down, as far as they were heard of.)
    assert receipt.end_reason == "MEDIA_FAILURE"
    assert receipt.billed_minutes == stage.session(call.session_id).delivered_ms // MINUTE
    stage.audit()


def test_a_move_and_the_nodes_next_life_in_the_same_instant(stage: Stage) -> None:
    call = stage.running()
    another(stage)
    stage.run(lambda tx: failover.node_lost(tx, HERE, "boot_1", stage.now))
    results = together(
        lambda: failover.move_rooms(stage.database, HERE, "boot_1", stage.now),
        lambda: stage.node_ready("boot_2"),
    )
    assert not [each for each in results if isinstance(each, Exception)], results
    # then the session is where its room is, once, and paused
    row, where = stage.session(call.session_id), room(stage, call.room_id)
    assert (row.node_id, row.room_epoch, row.status) == (where.node_id, where.epoch, "paused")
    assert (where.node_id, where.epoch) in ((HERE, 0), (THERE, 1))


def test_clocks_that_disagree_about_a_node_do_not_lose_and_find_it_all_the_time(stage: Stage) -> None:
    another(stage)

    def lost() -> bool:
        with stage.database.reading() as tx:
            return tx.get_one(MediaNodeRow, HERE).lost_at is not None

    def find() -> None:
        stage.run(lambda tx: failover.node_found(tx, HERE, "boot_1", stage.now))

    lose(stage)
    for _ in range(4):
        find()
        assert lost()
        stage.later(seconds=1)
    stage.later(seconds=1)
    find()
    assert not lost()
    # and rooms go to another for a while, unless there is none
    reports(stage)
    assert placed(stage) == THERE
    stage.run(lambda tx: nodes.drain(tx, THERE, stage.now))
    assert placed(stage) == HERE
    stage.run(lambda tx: nodes.undrain(tx, THERE))
    stage.later(seconds=30)
    assert placed(stage) == HERE
    # a new life of it has not been lost
    lose(stage)
    stage.later(seconds=5)
    find()
    reports(stage)
    assert placed(stage) == THERE
    stage.node_ready("boot_2")
    another(stage, participants=MEDIA_CAPACITY // 2)
    assert placed(stage) == HERE


def reports(stage: Stage) -> None:
    """Both nodes are heard of, and one of them has more to do."""
    stage.event(events.NodeReport, rooms=(), participants=0)
    stage.event(events.NodeReport, node_id=THERE, boot=f"boot_{THERE}", rooms=(), participants=MEDIA_CAPACITY // 2)


def placed(stage: Stage) -> str:
    return stage.run(lambda tx: placement.pick_node(tx, "live", stage.now))
