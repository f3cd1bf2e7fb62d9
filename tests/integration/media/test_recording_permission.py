"""A private room's media leaves it with both parties' permission alone, and not one frame after it was taken."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from egress_clients import EgressClient, open_socket
from media_clients import until
from seats import CREATOR, FAN, Seat, Stage, fields, plays, private_spec
from websockets.exceptions import InvalidStatus

from models.messages import egress
from models.messages.commands import CloseRoom, OpenRoom, PermitRecording, StopRecording, SyncRooms

RECORDING = "rec_one"


async def refused(stage: Stage, room_id: str) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        await open_socket(stage.port, room_id)
    return refusal.value.response.status_code


async def call(stage: Stage, name: str = "one", **changed: Any) -> tuple[str, Seat, Seat]:
    """Both parties in the room, both publishing."""
    room_id = stage.open(msgspec.structs.replace(private_spec(name), **changed))
    creator, fan = await stage.join(room_id, CREATOR), await stage.join(room_id, FAN)
    await creator.publish()
    await fan.publish()
    await creator.clock("running")
    return room_id, creator, fan


def permit(
    stage: Stage, room_id: str, session_id: str = "ses_one", recording_id: str = RECORDING, epoch: int = 1
) -> str:
    command = PermitRecording(
        room_id=room_id, session_id=session_id, recording_id=recording_id, epoch=epoch, **fields()
    )
    reply = stage.order(command)
    return "" if reply.ok else reply.code


def stop(stage: Stage, room_id: str) -> None:
    command = StopRecording(room_id=room_id, session_id="ses_one", recording_id=RECORDING, **fields())
    assert stage.order(command).ok


def tell(stage: Stage, *, epoch: int) -> None:
    """The node's state as it should be, which says nothing of a recording; stated at that epoch."""
    spec = msgspec.structs.replace(private_spec("one"), recording_epoch=epoch)
    sync = SyncRooms(boot_id=stage.node.boot_id, open=(spec,), close=(), **fields())
    assert stage.order(sync).ok


def marks(seat: Seat) -> list[str]:
    """What this side was shown."""
    return [message["state"] for message in seat.of("RECORDING")]


@plays
async def test_without_both_consents_nobody_reads_a_private_room(stage: Stage) -> None:
    room_id, creator, fan = await call(stage)
    assert await refused(stage, room_id) == 403
    assert await refused(stage, "private-ses_of_nobody") == 403
    # nor with a permission for another session, or for a room that is none
    assert permit(stage, room_id, session_id="ses_other") == "NOT_CONNECTED"
    assert permit(stage, "private-ses_of_nobody") == "NOT_CONNECTED"
    assert await refused(stage, room_id) == 403
    assert marks(creator) == marks(fan) == []


@plays
async def test_both_see_the_mark_before_the_first_frame_is_handed_out(stage: Stage) -> None:
    room_id, creator, fan = await call(stage)
    assert permit(stage, room_id) == ""
    # then both are told before anybody can have connected
    await until(lambda: marks(creator) == marks(fan) == ["on"], "the mark")
    reader = await EgressClient.open(stage.port, room_id)
    await reader.reads("video", 5)
    assert {source.user_id for source in reader.of(egress.Source)} == {CREATOR, FAN}
    # and who comes back is told again; saying it again changes nothing
    assert permit(stage, room_id) == ""
    again = await stage.join(room_id, FAN)
    await until(lambda: marks(again) == ["on"], "the mark for who rejoins")
    assert again.of("RECORDING")[0]["elapsedMs"] > 0
    assert marks(creator) == ["on"]
    await reader.close()


@pytest.mark.parametrize("by", ["command", CREATOR, FAN])
def test_after_a_withdrawal_not_one_frame_is_handed_out(by: str) -> None:
    @plays
    async def scene(stage: Stage) -> None:
        room_id, creator, fan = await call(stage)
        permit(stage, room_id)
        reader = await EgressClient.open(stage.port, room_id)
        await reader.reads("video", 5)
        await reader.reads("audio", 5)
        if by == "command":
            stop(stage, room_id)
            # Synchronous: what the tap had is gone when the answer is there.
            assert stage.node.rooms[room_id].outlet.egress is None
        else:
            await (creator if by == CREATOR else fan).send(type="STOP_RECORDING")
        assert await reader.closed() == 1000
        assert reader.order[-1] == "RoomClosed"
        assert reader.of(egress.RoomClosed)[0].reason == "RECORDING_STOPPED"
        await until(lambda: marks(creator) == marks(fan) == ["on", "off"], "the mark is off")
        # then it is over for good, whatever is said again, and the call goes on
        assert permit(stage, room_id) == "NOT_CONNECTED"
        assert permit(stage, room_id, recording_id="rec_two") == "NOT_CONNECTED"
        spec = msgspec.structs.replace(private_spec("one"), recording_id=RECORDING)
        assert stage.order(OpenRoom(room=spec, **fields())).ok
        assert await refused(stage, room_id) == 403
        assert creator.terminated is None
        heard = fan.packets
        await until(lambda: fan.packets > heard + 20, "the call goes on")
        assert marks(creator) == ["on", "off"]

    scene()


@plays
async def test_a_node_that_comes_back_knows_what_still_stands(stage: Stage) -> None:
    # when a room is opened in which both had agreed before the node died
    room_id, creator, fan = await call(stage, recording_id=RECORDING)
    assert marks(creator) == marks(fan) == ["on"]
    reader = await EgressClient.open(stage.port, room_id)
    await reader.reads("video", 3)
    # then the end of the call is the end of it
    stage.order(CloseRoom(room_id=room_id, reason="ENDED_BY_FAN", **fields()))
    assert await reader.closed() == 1000
    assert reader.order[-1] == "RoomClosed"
    assert await refused(stage, room_id) == 403


@plays
async def test_a_wish_without_it_takes_it_back_but_only_what_was_given(stage: Stage) -> None:
    # given a room that is told its state again before anybody has agreed
    room_id, creator, _ = await call(stage)
    assert stage.order(OpenRoom(room=private_spec("one"), **fields())).ok
    assert permit(stage, room_id) == ""
    reader = await EgressClient.open(stage.port, room_id)
    await reader.reads("video", 3)
    # when the word that it was withdrawn was lost, and the state is told again
    tell(stage, epoch=1)
    assert await reader.closed() == 1000
    await until(lambda: marks(creator) == ["on", "off"], "the mark is off")
    assert await refused(stage, room_id) == 403


@plays
async def test_a_state_that_a_permission_overtook_does_not_take_it_back(stage: Stage) -> None:
    # given a permission for the second worker, which arrives before what was stated ahead of it
    room_id, creator, _ = await call(stage)
    assert permit(stage, room_id, epoch=2) == ""
    reader = await EgressClient.open(stage.port, room_id)
    await reader.reads("video", 3)
    room = stage.node.rooms[room_id]
    for epoch in (0, 1):
        tell(stage, epoch=epoch)
        assert room.outlet.readable
        assert room.outlet.egress is not None
    await reader.reads("video", 6)
    # nor does an old permission that comes late make it older
    assert permit(stage, room_id, epoch=1) == ""
    tell(stage, epoch=1)
    assert room.outlet.readable
    # and what is stated after it does
    tell(stage, epoch=2)
    assert await reader.closed() == 1000
    await until(lambda: marks(creator) == ["on", "off"], "the mark is off")


@plays
async def test_new_tracks_after_a_withdrawal_are_not_tapped(stage: Stage) -> None:
    room_id, creator, _ = await call(stage)
    permit(stage, room_id)
    reader = await EgressClient.open(stage.port, room_id)
    await reader.reads("video", 3)
    stop(stage, room_id)
    back = await stage.join(room_id, FAN)
    await back.publish()
    room = stage.node.rooms[room_id]
    await until(lambda: len(room.participants[FAN].peer.published) == 2, "both tracks")
    tracks = [track for seat in room.participants.values() for track in seat.peer.published.values()]
    assert all(track.tap is None for track in tracks)
    await asyncio.gather(reader.close(), creator.close())
