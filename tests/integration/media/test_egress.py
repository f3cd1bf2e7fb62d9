"""What a transcode worker reads of a room: real publishers, real packets, every frame decoded."""

from __future__ import annotations

import asyncio
import itertools
import socket
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from aioice.ice import StunProtocol
from egress_clients import EgressClient, beeps, decode, flashes, make_clip, open_socket, publish_file, ticket
from media_clients import until
from seats import CREATOR, FAN, Stage, fields, live_spec, media_settings, plays, private_spec, running_stage
from websockets.exceptions import InvalidStatus

from media import egress as egress_module
from media.capture_times import ntp_us, signed
from models import egress_tickets
from models.clock import utc_now
from models.messages import egress
from models.messages.commands import CloseRoom, RoomSpec, TerminateCall


def tracks_of(stage: Stage, room_id: str) -> list[Any]:
    room = stage.node.rooms[room_id]
    return [track for seat in room.participants.values() for track in seat.peer.published.values()]


async def read_room(stage: Stage, room_id: str, **options: int) -> EgressClient:
    return await EgressClient.open(stage.port, room_id, **options)


async def live(stage: Stage) -> tuple[str, Any, EgressClient]:
    """A creator on the air, and a reader."""
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    reader = await read_room(stage, room_id)
    await reader.reads("video", 5)
    await reader.reads("audio", 5)
    return room_id, creator, reader


# --- frames and times ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "flash.mkv"
    make_clip(path, 14)
    return path


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_every_frame_of_a_file_is_decoded_and_flashes_meet_beeps(clip: Path, codec: str) -> None:
    async def scene() -> None:
        async with asyncio.timeout(240), running_stage() as stage:
            room_id = stage.open(live_spec())
            creator = await stage.join(room_id, CREATOR)
            player = await publish_file(creator, clip, codec)
            reader = await read_room(stage, room_id)
            await reader.reads("video", 240)
            creator_source = reader.source("video")
            assert (creator_source.user_id, creator_source.display_name) == (CREATOR, "creator")
            assert (creator_source.codec, reader.source("audio").codec) == (codec, "OPUS")
            await reader.close()
            # Each of the player's tracks begins when it is first asked for: that much they are apart already.
            apart_ms = (player.video._start - player.audio._start) * 1000
            player.video.stop()
            player.audio.stop()
            pictures, sounds = reader.frames_of("video"), reader.frames_of("audio")
            for frames in (pictures, sounds):
                assert all(a.capture_us < b.capture_us for a, b in itertools.pairwise(frames))
                assert not any(frame.after_loss for frame in frames[1:])
            assert pictures[0].key_frame
            assert all(frame.key_frame for frame in sounds)
            seen = decode(codec, pictures)
            assert len(seen) == len(pictures)
            heard = decode("OPUS", sounds)
            assert len(heard) == len(sounds)
            offsets = [
                (flash - min(heard_at, key=lambda at: abs(at - flash))) / 1000
                for heard_at in [beeps(heard)] for flash in flashes(seen)[-5:]
            ]  # fmt: skip
            print(f"{codec}: picture behind sound, ms: {[round(offset, 1) for offset in offsets]}", end=" ")
            print(f"(of it the publisher's: {apart_ms:.1f}, and -6.5 of Opus' lookahead)")
            # Generous: aiortc's reports are about sending, and a busy machine sends single pictures late.
            assert min(abs(offset - apart_ms) for offset in offsets) < 250

    asyncio.run(scene())


@plays
async def test_capture_times_are_in_the_node_s_clock(stage: Stage) -> None:
    _, _, reader = await live(stage)
    before = utc_now().timestamp() * 1e6
    await reader.reads("video", 5)
    assert before - 10e6 < reader.frames_of("video")[-1].capture_us < utc_now().timestamp() * 1e6 + 1e6


@plays
async def test_a_sender_s_reports_place_its_tracks_in_time(stage: Stage) -> None:
    room_id, _, reader = await live(stage)
    tracks = tracks_of(stage, room_id)
    await until(lambda: all(track.report is not None for track in tracks), "reports came")
    for track in tracks:
        info, _ = track.report
        assert abs(ntp_us(info.ntp) / 1e6 - utc_now().timestamp()) < 60, "one machine, one clock"
        assert abs(signed(track.feed.timestamp - info.timestamp)) < 60 * track.clock_rate
    await reader.reads("audio", 5)
    clocks = {tapped.clock for tapped in stage.node.rooms[room_id].outlet.egress._sources.values()}  # type: ignore[union-attr]
    assert len(clocks) == 1, "sound and picture of one participant"
    assert clocks.pop().floor.value is not None, "and it knows how far it is from ours"
    await reader.close()


@plays
async def test_nobody_who_reads_means_nothing_is_tapped(stage: Stage) -> None:
    room_id, _, reader = await live(stage)
    assert all(track.tap is not None for track in tracks_of(stage, room_id))
    other = await read_room(stage, room_id)
    await other.reads("video", 3)
    assert other.frames_of("video")[0].key_frame
    await reader.close()
    await until(lambda: len(stage.node.rooms[room_id].outlet.egress.readers) == 1, "one went")  # type: ignore[union-attr]
    await other.reads("video", 3)
    await other.close()
    await until(lambda: stage.node.rooms[room_id].outlet.egress is None, "the last one went")
    assert all(track.tap is None for track in tracks_of(stage, room_id))
    again = await read_room(stage, room_id)
    await again.reads("video", 3)
    await again.close()


@plays
async def test_who_reads_before_anybody_publishes_is_told_of_what_comes_and_goes(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    reader = await read_room(stage, room_id)
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    await reader.reads("video", 5)
    await creator.send(type="MUTE_TRACK", kind="video", muted=True)
    await until(lambda: bool(reader.of(egress.SourceStateChanged)), "the camera is off")
    video = reader.source("video").source_id
    assert reader.of(egress.SourceStateChanged)[0] == egress.SourceStateChanged(source_id=video, state="off")
    late = await read_room(stage, room_id)
    await until(lambda: bool(late.of(egress.SourceStateChanged)), "a late reader is told too")
    assert late.of(egress.SourceStateChanged)[0].state == "off"
    await creator.send(type="MUTE_TRACK", kind="video", muted=False)
    await until(lambda: reader.of(egress.SourceStateChanged)[-1].state == "on", "on again")
    await creator.send(type="LEAVE_ROOM")
    await until(lambda: len(reader.of(egress.SourceEnded)) == 2, "both ended")
    back = await stage.join(room_id, CREATOR)
    await back.publish()
    await until(lambda: len(reader.of(egress.Source)) == 4, "new ones")
    await reader.reads("video", 5)
    assert len({source.source_id for source in reader.of(egress.Source)}) == 4
    await asyncio.gather(reader.close(), late.close())


@plays
async def test_a_camera_that_goes_silent_is_stalled_and_comes_back_whole(stage: Stage) -> None:
    _, creator, reader = await live(stage)
    sender = next(t.sender for t in creator.publishing.getTransceivers() if t.kind == "video")
    camera, source_id = sender.track, reader.source("video").source_id

    def states() -> list[str]:
        return [said.state for said in reader.of(egress.SourceStateChanged) if said.source_id == source_id]

    sender.replaceTrack(None)
    await until(lambda: states()[-1:] == ["stalled"], "nothing comes")
    sender.replaceTrack(camera)
    await until(lambda: states()[-1:] == ["on"], "it is back")
    await reader.reads("video", 10)
    pictures = reader.frames_of("video")
    assert len(decode("VP8", pictures)) == len(pictures)
    await reader.close()


@plays
async def test_every_publisher_of_a_room_is_a_source_with_a_clock_of_its_own(stage: Stage) -> None:
    room_id = stage.open(RoomSpec(room_id="battle-btl_one", creator_id=CREATOR, parties=(CREATOR, FAN)))
    reader = await read_room(stage, room_id)
    for user_id in (CREATOR, FAN):
        await (await stage.join(room_id, user_id)).publish()
    await until(lambda: len(reader.of(egress.Source)) == 4, "two of each")
    for source in reader.of(egress.Source):
        await until(lambda: sum(f.source_id == source.source_id for f in reader.frames) > 20, "frames")  # noqa: B023
        frames = [frame for frame in reader.frames if frame.source_id == source.source_id]
        assert len(decode(source.codec, frames)) == len(frames)
    assert {(s.user_id, s.kind) for s in reader.of(egress.Source)} == {
        (user_id, kind) for user_id in (CREATOR, FAN) for kind in ("audio", "video")
    }
    await reader.close()


@plays
async def test_a_key_frame_comes_when_it_is_wanted(stage: Stage) -> None:
    _, _, reader = await live(stage)
    source_id = reader.source("video").source_id
    await asyncio.sleep(0.5)  # what the connection asked for has come
    before = len(reader.frames)
    await reader.socket.send(egress.encode(egress.KeyFrameWanted(source_id=source_id)).decode())
    await reader.socket.send(egress.encode(egress.KeyFrameWanted(source_id=999)).decode())
    await until(
        lambda: any(f.key_frame and f.source_id == source_id for f in reader.frames[before:]), "a key frame"
    )
    await reader.close()


@plays
async def test_what_is_lost_for_good_costs_pictures_up_to_a_key_frame_and_breaks_none(stage: Stage) -> None:
    count, dropping = 0, False
    send = StunProtocol.send_data

    async def lossy(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
        nonlocal count
        media = type(self) is StunProtocol and 127 < data[0] < 192 and not 191 < data[1] < 224
        count += media
        if not media or not (dropping or count % 25 == 0):
            await send(self, data, addr)

    with mock.patch.object(StunProtocol, "send_data", lossy):
        _, _, reader = await live(stage)
        await reader.reads("video", 30)
        for _ in range(2):
            dropping = True
            await asyncio.sleep(0.6)
            dropping = False
            seen = len(reader.frames)
            await until(lambda: any(f.after_loss and f.key_frame for f in reader.frames[seen:]), "it goes on")  # noqa: B023
            await reader.reads("video", 20)
        await reader.close()
    pictures = reader.frames_of("video")
    assert all(frame.key_frame for frame in pictures if frame.after_loss)
    assert len(decode("VP8", pictures)) == len(pictures)
    assert len(decode("OPUS", reader.frames_of("audio"))) == len(reader.frames_of("audio"))


# --- who may, and for how long ------------------------------------------------------------------------


async def status_of(stage: Stage, room_id: str, bearer: str | None = None) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(stage.port, room_id, bearer)
    return refused.value.response.status_code


@plays
async def test_bad_tickets_open_nothing(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    other = stage.open(live_spec("two"))
    theirs = egress_tickets.room_key(media_settings().key(egress_tickets.KEY_PURPOSE), other)
    lent = egress_tickets.sign(room_id, theirs, utc_now().timestamp())
    for bearer in ["", "x", ticket(other), ticket(room_id, age=61), ticket(room_id, key=b"k" * 32), lent]:
        assert await status_of(stage, room_id, bearer) == 401
    assert stage.node.rooms[room_id].outlet.egress is None


@plays
async def test_private_rooms_and_rooms_that_are_not_there_cannot_be_read(stage: Stage) -> None:
    room_id = stage.open(private_spec("one"))
    assert await status_of(stage, room_id) == 403
    assert await status_of(stage, "private-ses_none") == 403
    assert await status_of(stage, "live-str_none") == 404
    assert await status_of(stage, f"x/../{room_id}") == 403
    assert stage.node.rooms[room_id].outlet.egress is None


@plays
async def test_a_room_has_two_readers_at_most(stage: Stage) -> None:
    room_id = stage.open(RoomSpec(room_id="battle-btl_one", creator_id=CREATOR))
    readers = [await read_room(stage, room_id) for _ in range(egress_module.MOST_READERS)]
    assert await status_of(stage, room_id) == 503
    await readers[0].close()
    await until(lambda: len(stage.node.rooms[room_id].outlet.egress.readers) == 1, "one went")  # type: ignore[union-attr]
    await (await read_room(stage, room_id)).close()
    await readers[1].close()


@plays
async def test_garbage_from_a_reader_ends_its_connection_and_nothing_else(stage: Stage) -> None:
    room_id, _, reader = await live(stage)
    for garbage in ["", "{", b"\x01\x02", '{"type":"SOURCE_ENDED","sourceId":1}', "[" * 5000, "\ud7ff"]:
        hostile = await read_room(stage, room_id)
        await hostile.socket.send(garbage)
        assert await hostile.closed() == 1008
        await hostile.close()
        await until(lambda: len(stage.node.rooms[room_id].outlet.egress.readers) == 1, "gone")  # type: ignore[union-attr]
    await reader.reads("video", 3)
    await reader.close()


# --- ends ---------------------------------------------------------------------------------------------


@plays
async def test_going_private_ends_it_before_the_answer_is_given(stage: Stage) -> None:
    room_id, creator, reader = await live(stage)
    room, tracks = stage.node.rooms[room_id], tracks_of(stage, room_id)
    reader.resume.clear()
    await asyncio.sleep(0.5)  # frames wait on the way
    assert stage.order(CloseRoom(room_id=room_id, reason="STREAM_PRIVATE", **fields())).ok
    at_close_us = utc_now().timestamp() * 1e6
    assert room.outlet.egress is not None
    queued = [item for client in room.outlet.egress.readers for item in client._queue]
    assert [item for item in queued if isinstance(getattr(item, "data", None), bytes)] == []
    assert all(track.tap is None and track.closed for track in tracks)
    # The creator's client goes on sending whatever it likes.
    assert creator.publishing is not None
    reader.resume.set()
    assert await reader.closed() == 1000
    assert reader.messages[-1] == egress.RoomClosed(reason="STREAM_PRIVATE")
    assert reader.order[-1] == "RoomClosed"
    assert all(frame.capture_us <= at_close_us for frame in reader.frames)
    assert await status_of(stage, room_id) == 404
    await until(lambda: room.outlet.egress is None, "nothing is left")


@plays
async def test_who_is_cut_out_of_a_room_is_cut_out_of_egress(stage: Stage) -> None:
    room_id, _, reader = await live(stage)
    assert stage.order(TerminateCall(room_id=room_id, user_id=CREATOR, reason="MODERATION", **fields())).ok
    await until(lambda: len(reader.of(egress.SourceEnded)) == 2, "both sources ended")
    assert "frame" not in reader.order[reader.order.index("SourceEnded") + 2 :]
    assert reader.close_code is None
    await reader.close()


@plays
async def test_a_node_that_stops_lets_readers_come_back(stage: Stage) -> None:
    _, _, reader = await live(stage)
    stage.node.suspend()
    assert await reader.closed() == 1012
    assert reader.of(egress.RoomClosed) == []


@plays
async def test_a_slow_reader_loses_pictures_and_slows_nobody(stage: Stage) -> None:
    with mock.patch.multiple(egress_module, MOST_BYTES=60_000, SEND_BUFFER=4_096):
        room_id, _, _ = await live(stage)
        fan = await stage.join(room_id, FAN, publish=False)
        slow = await open_socket(stage.port, room_id)
        handle = slow.transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader = EgressClient(slow)
        await reader.reads("video", 3)
        slow.transport.pause_reading()
        tap = stage.node.rooms[room_id].outlet.egress
        assert tap is not None
        served = tap.readers[-1]
        await until(lambda: served.dropped > 0, "the queue overflowed")
        assert served._bytes <= 60_000 + 40_000, "one frame over the limit at most"
        await fan.decodes(5)
        seen = len(reader.frames)
    # With the usual room again, as it reads again: this machine may be too slow for so little
    slow.transport.resume_reading()
    await until(
        lambda: any(f.after_loss and f.key_frame for f in reader.frames[seen:] if f.source_id in (1, 2)),
        "it goes on with a key frame",
    )
    await reader.reads("video", 10)
    pictures = reader.frames_of("video")
    assert all(frame.key_frame for frame in pictures if frame.after_loss)
    assert len(decode("VP8", pictures)) == len(pictures)
    assert all(a.capture_us < b.capture_us for a, b in itertools.pairwise(pictures))
    await reader.close()


@plays
async def test_a_reader_that_never_reads_is_dropped(stage: Stage) -> None:
    room_id, _, reader = await live(stage)
    await reader.close()
    dead = await open_socket(stage.port, room_id)
    dead.transport.pause_reading()
    await until(lambda: stage.node.rooms[room_id].outlet.egress is None, "it answered no ping")
    assert all(track.tap is None for track in tracks_of(stage, room_id))
    dead.transport.abort()
