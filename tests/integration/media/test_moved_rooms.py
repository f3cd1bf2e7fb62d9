"""Rooms that are taken from a node which seemed to be lost: it lets go, and old wishes bring nothing back."""

from __future__ import annotations

from typing import Any

import msgspec
from seats import CREATOR, FAN, Seat, Stage, fields, live_spec, plays, plays_with, private_spec, signed_grant

from models.messages import events
from models.messages.commands import CloseRoom, Elsewhere, OpenRoom, ReleaseRoom, RoomSpec, SyncRooms


def under(spec: RoomSpec, epoch: int) -> RoomSpec:
    return msgspec.structs.replace(spec, epoch=epoch)


def release(stage: Stage, room_id: str, epoch: int) -> str:
    reply = stage.order(ReleaseRoom(room_id=room_id, epoch=epoch, **fields()))
    return "done" if reply.ok else reply.code


def opens(stage: Stage, spec: RoomSpec) -> str:
    reply = stage.order(OpenRoom(room=spec, **fields()))
    return "done" if reply.ok else reply.code


async def let_go(*seats: Seat) -> None:
    """They are told to come back, and nothing else."""
    for seat in seats:
        assert await seat.closed() == 1012
        assert seat.terminated is None


@plays
async def test_a_call_that_lives_elsewhere_stops_here_and_does_not_end(stage: Stage) -> None:
    # given a call in which pictures flow
    room_id = stage.open(private_spec("moved"))
    creator, fan = await stage.join(room_id, CREATOR), await stage.join(room_id, FAN)
    await creator.publish()
    await fan.clock("running")
    await fan.decodes()
    [call] = [room.call for room in stage.node.rooms.values()]
    assert call is not None
    # when the node hears that it is on another
    said = len(stage.said)
    assert release(stage, room_id, 1) == "done"
    # then nothing may be forwarded, both are let go, and nothing is said of the call
    assert stage.node.rooms == {}
    await let_go(creator, fan)
    call.report()
    assert {type(event) for event in stage.said[said:]} <= {events.NodeReport}


@plays
async def test_wishes_from_before_do_not_bring_it_back(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    assert release(stage, room_id, 1) == "done"
    assert opens(stage, live_spec()) == "MOVED"
    assert stage.node.rooms == {}
    # but it may come back, and says under which epoch it is here
    assert opens(stage, under(live_spec(), 2)) == "done"
    assert stage.of_type(events.RoomOpened)[-1].epoch == 2
    assert opens(stage, under(live_spec(), 1)) == "MOVED"


@plays
async def test_a_grant_from_before_the_move_may_have_been_used_elsewhere(stage: Stage) -> None:
    before = [signed_grant(live_spec(name).room_id, FAN, publish=False) for name in ("moved", "not_moved")]
    moved, not_moved = stage.open(under(live_spec("moved"), 1)), stage.open(live_spec("not_moved"))
    refused = await stage.join(moved, FAN, grant=before[0])
    assert refused.errors == ["UNAVAILABLE"]
    for seat in (await stage.join(moved, FAN, publish=False), await stage.join(not_moved, FAN, grant=before[1])):
        assert seat.of("JOINED")


@plays
async def test_a_late_release_does_not_take_what_has_come_back(stage: Stage) -> None:
    room_id = stage.open(under(live_spec(), 2))
    seat = await stage.join(room_id, CREATOR)
    assert release(stage, room_id, 1) == "NOT_CONNECTED"
    assert list(stage.node.rooms) == [room_id]
    assert seat.close_code is None


@plays
async def test_a_room_that_was_elsewhere_without_our_hearing_of_it_begins_anew(stage: Stage) -> None:
    room_id = stage.open(private_spec("back"))
    fan = await stage.join(room_id, FAN)
    spec = under(private_spec("back", delivered_ms=120_000, resumed=True), 2)
    assert opens(stage, spec) == "done"
    await let_go(fan)
    again = await stage.join(room_id, FAN)
    assert again.of("JOINED")[0]["session"]["deliveredMs"] == 120_000
    assert stage.of_type(events.CallEnded) == []
    assert stage.of_type(events.MediaDelivered)[-1].epoch == 2


@plays
async def test_what_was_read_late_of_the_node_before_is_taken_over_at_once(stage: Stage) -> None:
    """The wish that opened the room here did not know of it yet; the next one, under the same epoch, does."""
    known = under(private_spec("late", delivered_ms=60_000, resumed=True), 1)
    assert opens(stage, known) == "done"
    assert opens(stage, under(private_spec("late", delivered_ms=159_000, resumed=True), 1)) == "done"
    fan = await stage.join(known.room_id, FAN)
    assert fan.of("JOINED")[0]["session"]["deliveredMs"] == 159_000
    # nor does an older one take it back; and when all of it was delivered there, nothing is left here
    assert opens(stage, known) == "done"
    assert known.budget is not None
    assert opens(stage, under(private_spec("late", delivered_ms=known.budget.paid_ms, resumed=True), 1)) == "done"
    [end] = stage.of_type(events.CallEnded)
    assert (end.fact, end.delivered_ms, end.epoch) == ("time_expired", known.budget.paid_ms, 1)


@plays
async def test_an_end_from_before_the_move_ends_nothing(stage: Stage) -> None:
    """Cut off, the node ended the call by itself; nobody heard it, it went on elsewhere, and came back."""
    room_id = stage.open(private_spec("ended"))
    stage.order(CloseRoom(room_id=room_id, reason="ENDED_BY_FAN", **fields()))
    assert opens(stage, private_spec("ended")) == "ENDED"
    assert opens(stage, under(private_spec("ended"), 2)) == "done"


@plays
async def test_the_desired_state_names_what_lives_elsewhere(stage: Stage) -> None:
    here, moved, over = (stage.open(live_spec(name)) for name in ("here", "moved", "over"))
    seats = [await stage.join(room_id, CREATOR) for room_id in (moved, over)]
    sync: dict[str, Any] = {"boot_id": stage.node.boot_id, "open": (live_spec("here"),)}
    gone = (Elsewhere(room_id=moved, epoch=1),)
    assert stage.order(SyncRooms(close=(over,), elsewhere=gone, **sync, **fields())).ok
    assert list(stage.node.rooms) == [here]
    await let_go(seats[0])
    assert await seats[1].closed() == 4001
    assert seats[1].terminated == "MEDIA_FAILURE"
    assert opens(stage, live_spec("moved")) == "MOVED"


@plays
async def test_a_late_word_of_where_rooms_are_takes_nothing_that_has_come_back(stage: Stage) -> None:
    room_id = stage.open(under(live_spec(), 2))
    sync: dict[str, Any] = {"boot_id": stage.node.boot_id, "open": (), "close": ()}
    # given that it was elsewhere under epoch 1, and is here again under 2
    gone = (Elsewhere(room_id=room_id, epoch=1),)
    assert stage.order(SyncRooms(elsewhere=gone, **sync, **fields())).ok
    assert list(stage.node.rooms) == [room_id]
    # when a control plane of an earlier release, which names no epoch, says so late
    assert stage.order(SyncRooms(release=(room_id,), **sync, **fields())).ok
    # then it is gone, until it is wished again
    assert stage.node.rooms == {}
    assert opens(stage, under(live_spec(), 2)) == "done"


@plays_with(MEDIA_CAPACITY="64")
async def test_a_node_says_how_many_it_takes_and_how_many_it_has(stage: Stage) -> None:
    stage.node.ready()
    [ready] = stage.of_type(events.NodeReady)
    assert (ready.capacity, ready.participants) == (64, 0)
    room_id = stage.open(live_spec())
    await stage.join(room_id, CREATOR)
    await stage.join(room_id, FAN, publish=False)
    stage.node.ready()
    assert stage.of_type(events.NodeReady)[-1].participants == 2
