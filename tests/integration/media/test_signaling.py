"""Rooms over real WebSockets and real ICE, DTLS and SRTP: who gets in, who gets what, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import re

import msgspec
import pytest
from media_clients import given_back, held, until
from seats import CREATOR, FAN, Marked, Seat, Stage, fields, live_spec, plays, private_spec, signed_grant

from media import node, participants
from media.layers import LOW, MEDIUM
from media.signaling import MOST_QUEUED, Connection
from models.messages import events
from models.messages import signaling as say
from models.messages.commands import CloseRoom, GrantBudget, OpenRoom, RoomSpec, TerminateCall


async def call(stage: Stage, name: str, paid_ms: int = 600_000) -> tuple[Seat, Seat]:
    """Creator and fan in a private room, both publishing, the clock running."""
    room_id = stage.open(private_spec(name, paid_ms))
    creator = await stage.join(room_id, CREATOR)
    fan = await stage.join(room_id, FAN)
    await creator.publish()
    await fan.publish()
    await fan.clock("running")
    return creator, fan


async def nothing_more(seat: Seat) -> None:
    """Let the others go on sending for a while; no packet may come."""
    # What was in the air or in a kernel buffer at the cut; a slow machine needs its turns to read that.
    for _ in range(500):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    before = seat.packets
    await asyncio.sleep(1)
    assert seat.packets == before


@plays
async def test_a_private_call_is_seen_and_heard_by_both_and_cut_at_the_paid_millisecond(stage: Stage) -> None:
    creator, fan = await call(stage, "cut", paid_ms=8_000)
    await asyncio.gather(creator.decodes(), fan.decodes())
    assert await fan.closed() == 4001
    assert await creator.closed() == 4001
    assert (fan.terminated, creator.terminated) == ("TIME_EXPIRED", "TIME_EXPIRED")
    assert fan.messages[-1] == {"type": "TERMINATE_CALL", "reason": "TIME_EXPIRED", "redirectUrl": "/models"}
    await nothing_more(fan)
    await nothing_more(creator)
    ended = stage.of_type(events.CallEnded)
    assert [(end.fact, end.delivered_ms, end.paid_ms) for end in ended] == [("time_expired", 8_000, 8_000)]
    clocks = fan.of("SESSION_CLOCK")
    assert clocks[0]["state"] == "waiting"
    assert all(a["deliveredMs"] <= b["deliveredMs"] for a, b in itertools.pairwise(clocks))
    reports = stage.of_type(events.MediaDelivered)
    assert [report.sequence for report in reports] == sorted({report.sequence for report in reports})
    assert stage.node.rooms == {}


@plays
async def test_more_paid_time_moves_the_cut(stage: Stage) -> None:
    _, fan = await call(stage, "more", paid_ms=3_000)

    def more(paid_ms: int) -> GrantBudget:
        return GrantBudget(room_id="private-ses_more", session_id="ses_more", paid_ms=paid_ms, **fields())

    assert stage.order(more(5_000)).ok
    assert stage.of_type(events.MediaDelivered)[-1].paid_ms == 5_000
    await fan.closed()
    assert fan.of("SESSION_CLOCK")[-1]["paidMs"] == 5_000
    assert stage.of_type(events.CallEnded)[0].delivered_ms == 5_000
    assert stage.order(more(9_000)).code == "NOT_CONNECTED"


@plays
async def test_paid_time_that_could_not_be_followed_ends_with_payment_failed(stage: Stage) -> None:
    creator, fan = await call(stage, "unpaid", paid_ms=3_000)
    last = GrantBudget(
        room_id="private-ses_unpaid",
        session_id="ses_unpaid",
        paid_ms=3_000,
        spent_reason="PAYMENT_FAILED",
        **fields(),
    )
    assert stage.order(last).ok
    assert await fan.closed() == await creator.closed() == 4001
    assert (fan.terminated, creator.terminated) == ("PAYMENT_FAILED", "PAYMENT_FAILED")
    end = stage.of_type(events.CallEnded)[0]
    assert (end.fact, end.delivered_ms, end.paid_ms) == ("time_expired", 3_000, 3_000)


@plays
async def test_the_clock_waits_for_the_creator_and_an_offer_never_answered_stops_nothing(stage: Stage) -> None:
    room_id = stage.open(private_spec("silent"))
    fan = await stage.join(room_id, FAN)
    fan.answering = False
    await fan.publish()
    creator = await stage.join(room_id, CREATOR)
    assert fan.of("SESSION_CLOCK")[-1]["state"] == "waiting"
    await creator.publish()
    await fan.hears("OFFER")
    await creator.clock("running")
    assert fan.packets == 0
    await fan.send(type="PING")
    await fan.hears("PONG")


@plays
async def test_a_creator_whose_camera_dies_pauses_the_clock_and_resumes_it(stage: Stage) -> None:
    creator, fan = await call(stage, "pause")
    await fan.decodes()
    assert creator.publishing is not None
    video = next(t for t in creator.publishing.getTransceivers() if t.kind == "video")
    track = video.sender.track
    video.sender.replaceTrack(None)
    await fan.clock("paused")
    assert fan.of("SESSION_CLOCK")[-1]["cause"] == "creator"
    paused_at = fan.of("SESSION_CLOCK")[-1]["deliveredMs"]
    await fan.hears("TRACK_STATE")
    assert fan.of("TRACK_STATE")[0]["state"] == "stalled"
    # Sound goes on arriving at the node and is not sold.
    await nothing_more(fan)
    video.sender.replaceTrack(track)
    await fan.clock("running")
    assert fan.of("SESSION_CLOCK")[-1]["deliveredMs"] - paused_at < 500
    await fan.decodes()


@plays
async def test_a_client_that_ignores_the_end_gets_and_gives_nothing(stage: Stage) -> None:
    creator, fan = await call(stage, "hostile")
    await asyncio.gather(creator.decodes(), fan.decodes())
    cut = TerminateCall(room_id="private-ses_hostile", user_id=FAN, reason="PAYMENT_FAILED", **fields())
    peer = stage.node.rooms["private-ses_hostile"].participants[FAN].peer
    assert stage.order(cut).ok
    # At the reply, not some time after it.
    assert not peer.published
    assert not peer.mids()
    assert await fan.closed() == 4001
    assert (fan.terminated, creator.terminated) == ("PAYMENT_FAILED", "PAYMENT_FAILED")
    # Both clients keep their connections and keep sending.
    await nothing_more(fan)
    await nothing_more(creator)
    assert stage.of_type(events.CallEnded)[0].fact == "closed"
    assert stage.of_type(events.CallTerminated)[0].user_id == FAN
    assert stage.order(cut).ok, "a repeat gets the remembered answer"


@plays
async def test_one_viewer_is_cut_and_barred_and_the_others_go_on(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    first, second = [await stage.join(room_id, f"usr_{n}", publish=False) for n in range(2)]
    await asyncio.gather(first.decodes(), second.decodes())
    cut = TerminateCall(room_id=room_id, user_id="usr_0", reason="MODERATION", **fields())
    assert stage.order(cut).ok
    assert await first.closed() == 4001
    await nothing_more(first)
    await second.decodes()
    assert second.of("PARTICIPANT_LEFT")[-1]["userId"] == "usr_0"
    again = await stage.join(room_id, "usr_0", publish=False)
    assert again.errors == ["FORBIDDEN"]
    absent = TerminateCall(room_id=room_id, user_id="usr_nobody", reason="MODERATION", **fields())
    assert stage.order(absent).code == "NOT_CONNECTED"
    repeated = TerminateCall(room_id=room_id, user_id="usr_0", reason="MODERATION", **fields())
    assert stage.order(repeated).ok


@plays
async def test_who_was_not_there_to_be_cut_may_come_with_a_newer_grant(stage: Stage) -> None:
    """NOT_CONNECTED takes the bar back on the other side; what had been granted before the cut is void."""
    room_id = stage.open(live_spec())
    before = signed_grant(room_id, FAN, publish=False)
    cut = TerminateCall(room_id=room_id, user_id=FAN, reason="MODERATION", **fields())
    assert stage.order(cut).code == "NOT_CONNECTED"
    assert (await stage.join(room_id, FAN, grant=before)).errors == ["FORBIDDEN"]
    repeated = TerminateCall(room_id=room_id, user_id=FAN, reason="MODERATION", **fields())
    assert stage.order(repeated).code == "NOT_CONNECTED"

    came = await stage.join(room_id, FAN, publish=False)
    assert came.of("JOINED")
    assert stage.order(TerminateCall(room_id=room_id, user_id=FAN, reason="MODERATION", **fields())).ok
    assert await came.closed() == 4001
    assert (await stage.join(room_id, FAN, publish=False)).errors == ["FORBIDDEN"]


@plays
async def test_no_frame_of_the_private_room_reaches_a_public_viewer(stage: Stage) -> None:
    public = stage.open(live_spec())
    creator = await stage.join(public, CREATOR)
    await creator.publish()
    viewer = await stage.join(public, "usr_viewer", publish=False)
    fan = await stage.join(public, FAN, publish=False)
    await asyncio.gather(viewer.decodes(), fan.decodes())
    assert stage.order(CloseRoom(room_id=public, reason="STREAM_PRIVATE", **fields())).ok
    private = stage.open(private_spec("marked"))
    assert await viewer.closed() == await creator.closed() == 4001
    assert viewer.terminated == creator.terminated == "STREAM_PRIVATE"
    secret = await stage.join(private, CREATOR)
    await secret.publish(picture=Marked)
    chosen = await stage.join(private, FAN)
    await until(lambda: chosen.marks >= 10, "the fan sees marked frames")
    intruder = await stage.join(private, "usr_viewer")
    assert intruder.errors == ["FORBIDDEN"]
    await nothing_more(viewer)
    assert viewer.marks == 0


@plays
async def test_a_grant_opens_one_door_once(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    used = signed_grant(room_id, FAN)
    assert not (await stage.join(room_id, FAN, grant=used)).errors
    replayed = await stage.join(room_id, FAN, grant=used)
    assert replayed.errors == ["FORBIDDEN"]
    for grant in (
        signed_grant(room_id, "usr_other"),
        signed_grant("live-other", FAN),
        signed_grant(room_id, FAN, age=61),
        signed_grant(room_id, FAN)[:-2] + "xx",
        "nonsense",
        "",
    ):
        refused = await stage.connect()
        await refused.join(room_id, FAN, grant)
        assert refused.errors == ["FORBIDDEN"], grant
    earlier = await stage.connect()
    await earlier.join(room_id, FAN, signed_grant(room_id, FAN, age=30))
    assert earlier.errors == ["UNAVAILABLE"], "issued before this boot"
    lost = await stage.join("live-nowhere", FAN)
    assert lost.errors == ["ROOM_NOT_FOUND"]
    spectator = await stage.connect()
    await spectator.join(room_id, FAN, signed_grant(room_id, FAN), isSpectator=True)
    assert spectator.errors == ["UNAVAILABLE"]


@plays
async def test_a_spectator_is_told_where_to_watch_and_takes_no_seat(stage: Stage) -> None:
    room_id, url = stage.open(live_spec()), "https://stream.example/live/x/master.m3u8"
    for role in ("spectator", "participant"):
        spectator = await stage.connect()
        await spectator.join(room_id, FAN, signed_grant(room_id, FAN, role=role, stream_url=url), isSpectator=True)
        assert spectator.of("SPECTATOR_URL") == [{"type": "SPECTATOR_URL", "streamUrl": url}]
        assert await spectator.closed() == 1000
    # also when it forgets to say so
    silent = await stage.connect()
    await silent.join(room_id, FAN, signed_grant(room_id, FAN, role="spectator", stream_url=url))
    assert silent.of("SPECTATOR_URL")
    assert not stage.node.rooms[room_id].participants


@plays
async def test_who_was_cut_is_not_told_where_to_watch(stage: Stage) -> None:
    room_id = stage.open(msgspec.structs.replace(live_spec(), barred=(FAN,)))
    spectator = await stage.connect()
    await spectator.join(room_id, FAN, signed_grant(room_id, FAN, role="spectator", stream_url="https://x/"))
    assert spectator.errors == ["FORBIDDEN"]


@plays
async def test_where_every_seat_is_taken_one_becomes_a_spectator(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    for n in range(19):
        assert not (await stage.join(room_id, f"usr_{n}", publish=False)).errors
    late = await stage.connect()
    await late.join(room_id, FAN, signed_grant(room_id, FAN, publish=False, stream_url="https://x/"))
    assert late.of("SPECTATOR_URL")


@plays
async def test_the_twenty_first_finds_the_room_full(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    watchers = [await stage.join(room_id, f"usr_{n}", publish=False) for n in range(19)]
    assert not any(seat.errors for seat in watchers)
    one_more = await stage.join(room_id, "usr_19", publish=False)
    assert one_more.errors == ["ROOM_FULL"], "the creator's seat is never given away"
    creator = await stage.join(room_id, CREATOR)
    assert not creator.errors
    assert len(creator.of("JOINED")[0]["participants"]) == 19
    await watchers[0].send(type="LEAVE_ROOM")
    await watchers[0].closed()
    after = await stage.join(room_id, "usr_19", publish=False)
    assert not after.errors
    assert [e.viewers for e in stage.of_type(events.ParticipantLeft)] == [18]
    assert stage.of_type(events.ParticipantJoined)[-1].viewers == 19


@plays
async def test_the_same_user_elsewhere_takes_the_seat_over(stage: Stage) -> None:
    creator, fan = await call(stage, "twice")
    await fan.decodes()
    elsewhere = await stage.join("private-ses_twice", FAN)
    assert not elsewhere.errors
    assert await fan.closed() == 4001
    assert fan.terminated == "REPLACED"
    await nothing_more(fan)
    await elsewhere.decodes()
    assert stage.of_type(events.CallEnded) == []
    assert not creator.of("PARTICIPANT_LEFT")


@plays
async def test_a_lost_socket_interrupts_no_call_and_the_seat_is_taken_again(stage: Stage) -> None:
    creator, fan = await call(stage, "outage")
    await fan.decodes()
    fan.socket.transport.abort()
    creator.socket.transport.abort()
    await fan.closed()
    await asyncio.gather(fan.decodes(20), creator.decodes(20))
    assert stage.of_type(events.ParticipantLeft) == []
    again = await stage.join("private-ses_outage", FAN)
    await again.decodes()
    assert again.of("SESSION_CLOCK")[-1]["state"] == "running"


@plays
async def test_who_leaves_ends_the_call_for_both(stage: Stage) -> None:
    creator, fan = await call(stage, "leave")
    await fan.send(type="LEAVE_ROOM")
    assert await creator.closed() == 4001
    assert creator.terminated == "ENDED_BY_FAN"
    (end,) = stage.of_type(events.CallEnded)
    assert (end.fact, end.creator_connected, end.fan_connected) == ("fan_left", True, True)
    late = await stage.join("private-ses_leave", FAN)
    assert late.errors == ["ROOM_NOT_FOUND"]
    reopened = stage.order(OpenRoom(room=private_spec("leave"), **fields()))
    assert reopened.code == "ENDED", "an ended session never gets a second budget"
    first, again = stage.of_type(events.CallEnded)
    assert again == msgspec.structs.replace(first, message_id=again.message_id), "the same is said again"
    assert again.message_id != first.message_id, "whoever dropped the first as too early hears this one"


@plays
async def test_a_fan_who_never_connects_is_a_no_show(stage: Stage) -> None:
    room_id = stage.open(private_spec("noshow", connecting_ms=6_000))
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    assert await creator.closed() == 4001
    assert creator.terminated == "NO_SHOW"
    (end,) = stage.of_type(events.CallEnded)
    assert (end.fact, end.creator_connected, end.fan_connected) == ("fan_never_connected", True, False)


@plays
async def test_watchers_do_not_publish_and_layers_switch_off_and_on(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    viewer = await stage.join(room_id, FAN, publish=True)
    await viewer.decodes()
    await viewer.publish()
    await viewer.hears("ERROR")
    assert viewer.errors == ["FORBIDDEN"]
    tracks = viewer.of("OFFER")[-1]["tracks"]
    assert {slot["userId"] for slot in tracks.values()} == {CREATOR}
    assert sorted(slot["kind"] for slot in tracks.values()) == ["audio", "video"]
    for slot in tracks.values():
        await viewer.send(type="SELECT_LAYER", trackId=slot["trackId"], layer="off")
    await viewer.send(type="PING")
    await viewer.hears("PONG")
    await nothing_more(viewer)
    for slot in tracks.values():
        await viewer.send(type="SELECT_LAYER", trackId=slot["trackId"], layer="low")
    await viewer.decodes()
    slots = stage.node.rooms[room_id].participants[FAN].slots
    assert {slot.wanted_layer for slot in slots.values()} == {LOW}
    for slot in tracks.values():
        await viewer.send(type="SELECT_LAYER", trackId=slot["trackId"], layer="medium")
    await until(lambda: {slot.wanted_layer for slot in slots.values()} == {MEDIUM}, "the wish is known")
    await creator.send(type="MUTE_TRACK", kind="video", muted=True)
    await until(lambda: bool(viewer.of("TRACK_STATE")), "the mute is told")
    assert viewer.of("TRACK_STATE")[-1] == {
        "type": "TRACK_STATE", "userId": CREATOR, "kind": "video", "state": "off"
    }  # fmt: skip


@plays
async def test_a_client_on_another_network_is_offered_new_credentials_and_goes_on(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    viewer = await stage.join(room_id, FAN, publish=False)
    await viewer.send(type="RESTART_ICE", pc="subscribe")  # before there is anything to restart
    await viewer.decodes()
    before = viewer.of("OFFER")
    await viewer.send(type="RESTART_ICE", pc="subscribe")
    await until(lambda: len(viewer.of("OFFER")) > len(before), "an offer follows")
    offer = viewer.of("OFFER")[-1]
    fragments = [re.findall("a=ice-ufrag:(.*)\r", text["sdp"])[0] for text in (before[-1], offer)]
    assert len(set(fragments)) == 2
    assert offer["tracks"] == before[-1]["tracks"]
    await viewer.decodes()
    assert viewer.errors == []


@plays
async def test_a_silent_peer_loses_its_seat_within_ten_seconds(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    viewer = await stage.join(room_id, FAN, publish=False)
    await viewer.decodes()
    assert viewer.subscribing is not None
    # The browser froze: its datagrams stop, while the web app's pipe keeps the socket open.
    viewer.subscribing.getTransceivers()[0].receiver.transport.transport._connection._nominated.clear()
    await until(lambda: bool(stage.of_type(events.ParticipantLeft)), "the silence is noticed")
    # A node looks again before it would have been asleep; what it slept through is nobody's silence.
    assert participants.SILENT_MS + node.ASLEEP_MS < 10_000
    await creator.hears("PARTICIPANT_LEFT")


@pytest.mark.parametrize(
    "frame",
    ["", "{", "[]", "null", '{"type":"NOPE"}', '{"type":"JOIN_ROOM"}', '{"type":"OFFER","pc":"publish"}', b"\x00",
     '{"type":"PING","x":' + "[" * 30_000, '{"type":"MUTE_TRACK","kind":"smell","muted":true}'],
    ids=range(10),
)  # fmt: skip
def test_what_is_no_message_is_answered_and_five_in_a_row_close(frame: str | bytes) -> None:
    @plays
    async def scene(stage: Stage) -> None:
        room_id = stage.open(live_spec())
        seat = await stage.join(room_id, FAN)
        for _ in range(5):
            await seat.socket.send(frame)
        assert await seat.closed() == 1008
        assert seat.errors == ["BAD_MESSAGE"] * 5

    scene()


@pytest.mark.parametrize(
    "sdp",
    ["", "v=0\r\n", "v=0\r\n" + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" * 500, "\x00\ud7ff" * 10, "m=" * 1000],
    ids=["empty", "no media", "500 m-lines", "noise", "broken"],
)
def test_a_description_that_cannot_be_used_is_a_bad_message(sdp: str) -> None:
    @plays
    async def scene(stage: Stage) -> None:
        room_id = stage.open(live_spec())
        seat = await stage.join(room_id, CREATOR)
        await seat.send(type="OFFER", pc="publish", sdp=sdp)
        await seat.hears("ERROR")
        assert seat.errors == ["BAD_MESSAGE"]
        await seat.send(type="PING")
        await seat.hears("PONG")
        await seat.publish()
        await seat.hears("ANSWER")

    scene()


@plays
async def test_who_does_not_read_loses_the_socket_and_nobody_else_notices(stage: Stage) -> None:
    creator, fan = await call(stage, "slow")
    wire = stage.node.rooms["private-ses_slow"].participants[FAN].wire
    assert isinstance(wire, Connection)
    for _ in range(10 * MOST_QUEUED):
        wire.send(say.Pong())
    assert await fan.closed() == 1006
    await asyncio.gather(creator.decodes(), fan.decodes())
    assert creator.close_code is None


@plays
async def test_a_defect_in_one_room_ends_that_room_alone(stage: Stage) -> None:
    def defect(now_ms: int, awake_since_ms: int) -> None:
        raise ZeroDivisionError

    broken, whole = stage.open(live_spec("broken")), stage.open(live_spec("whole"))
    victim, other = await stage.join(broken, FAN), await stage.join(whole, FAN)
    vars(stage.node.rooms[broken])["tick"] = defect
    assert await victim.closed() == 4001
    assert victim.terminated == "MEDIA_FAILURE"
    await other.send(type="PING")
    await other.hears("PONG")
    assert list(stage.node.rooms) == [whole]


@plays
async def test_nothing_of_a_participant_stays_behind(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    creator = await stage.join(room_id, CREATOR)
    await creator.publish()
    await creator.hears("ANSWER")
    before: dict[str, int] | None = None
    for _ in range(3):
        viewer = await stage.join(room_id, FAN, publish=False)
        await viewer.decodes()
        await viewer.close()
        await until(lambda: FAN not in stage.node.rooms[room_id].participants, "the seat is free")
        stage.seats.remove(viewer)  # the client's own side goes with it
        before = before or held()
    assert before is not None
    await given_back(before)


@plays
async def test_before_a_join_only_ping_is_answered(stage: Stage) -> None:
    seat = await stage.connect()
    await seat.send(type="LEAVE_ROOM")
    await seat.send(type="OFFER", pc="publish", sdp="v=0")
    await seat.send(type="PING")
    await seat.hears("PONG")
    assert [message["type"] for message in seat.messages] == ["PONG"]


@plays
async def test_a_flood_is_refused_and_a_frame_too_big_closes(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    flooding = await stage.join(room_id, FAN)
    for _ in range(200):
        if flooding.close_code is None:
            await flooding.socket.send('{"type":"PING"}')
    assert await flooding.closed() == 1008
    assert flooding.errors == ["RATE_LIMITED"]
    big = await stage.join(room_id, "usr_big")
    await big.socket.send('{"type":"PING","x":"' + "x" * 70_000 + '"}')
    assert await big.closed() == 1009
    twice = await stage.join(room_id, "usr_twice")
    grant = signed_grant(room_id, "usr_twice")
    await twice.send(type="JOIN_ROOM", roomId=room_id, userId="usr_twice", grant=grant)
    await twice.hears("ERROR")
    assert twice.errors == ["ALREADY_JOINED"]


@plays
async def test_in_a_battle_those_who_compete_publish_and_their_seats_are_kept(stage: Stage) -> None:
    rival = "usr_rival"
    spec = RoomSpec(room_id="battle-bat_1", creator_id=CREATOR, publishers=(CREATOR, rival))
    room_id = stage.open(spec)
    watchers = [await stage.join(room_id, f"usr_{n}", publish=False) for n in range(18)]
    assert not any(seat.errors for seat in watchers)
    assert (await stage.join(room_id, "usr_18", publish=False)).errors == ["ROOM_FULL"]
    for user_id in (CREATOR, rival):
        assert not (await stage.join(room_id, user_id)).errors
    room = stage.node.rooms[room_id]
    # a grant alone makes nobody compete
    await watchers[0].send(type="LEAVE_ROOM")
    await watchers[0].closed()
    await stage.join(room_id, "usr_18")
    assert {user_id for user_id, seat in room.participants.items() if seat.publishes} == {CREATOR, rival}
    # those who compete do not count as watching, and the control plane hears who of them is there
    assert stage.of_type(events.ParticipantJoined)[-1].viewers == 18
    stage.open(spec)
    assert stage.of_type(events.RoomOpened)[-1].publishers_here == (CREATOR, rival)
