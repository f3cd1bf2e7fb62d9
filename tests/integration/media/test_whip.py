"""WHIP and WHEP at the media node: seats that are taken over HTTP, by clients that are told nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from http_seats import HttpSeat, as_obs_sends_it
from media_clients import loopback_gathering, the_port, until
from seats import CREATOR, FAN, Stage, fields, live_spec, media_settings, plays, private_spec, signed_grant
from websockets.asyncio.client import connect

from media.participants import Participant
from media.plane import Peer
from media.tracks import Kind
from media.whip import NoWire
from models import grants, ids
from models.clock import utc_now
from models.errors import DomainError
from models.grants import Grant
from models.messages import events, resources
from models.messages.commands import CloseRoom, RevokeKey, RoomSpec, SyncRooms, TerminateCall
from models.messages.resources import (
    Answered,
    AnyReply,
    Done,
    Leave,
    Patch,
    Play,
    Probe,
    Publish,
    Refusal,
    Restarted,
)

KEY = "sky_test"
SLOW_MACHINE_SECONDS = 120


def encoder_grant(room_id: str, *, key_id: str = KEY, publish: bool = True) -> str:
    now = utc_now().timestamp()
    grant = Grant(
        jti=ids.new_id("grt"), room_id=room_id, user_id=CREATOR, display_name="Creator", role="participant",
        publish=publish, issued_at=now, expires_at=now + 60, key_id=key_id,
    )  # fmt: skip
    return grants.sign(grant, media_settings().key("grants"))


async def ask(stage: Stage, request: resources.AnyRequest | str) -> AnyReply:
    desk = stage.server._desk
    # Unless how long a seat waits for its media is the subject, it waits for this machine.
    desk._connect_seconds = SLOW_MACHINE_SECONDS if desk._connect_seconds > 1 else desk._connect_seconds
    frame = request if isinstance(request, str) else resources.encode(request).decode()
    async with connect(f"ws://127.0.0.1:{stage.port}{resources.PATH}", compression=None) as socket:
        await socket.send(frame)
        return resources.decode_reply(await socket.recv())


def about(room_id: str, user_id: str = CREATOR, **more: Any) -> dict[str, Any]:
    grant = encoder_grant(room_id) if user_id == CREATOR else signed_grant(room_id, user_id, publish=False)
    return {"grant": grant, "room_id": room_id, "user_id": user_id} | more


@asynccontextmanager
async def seat() -> AsyncIterator[HttpSeat]:
    made = HttpSeat()
    try:
        yield made
    finally:
        await made.close()


async def on_air(stage: Stage, encoder: HttpSeat, room_id: str, codec: str = "VP8") -> Answered:
    reply = await ask(stage, Publish(sdp=as_obs_sends_it(await encoder.publish(codec)), **about(room_id)))
    assert isinstance(reply, Answered), reply
    await encoder.answered(reply.sdp)
    await encoder.connected()
    return reply


async def playing(stage: Stage, player: HttpSeat, room_id: str, *kinds: str) -> Answered:
    reply = await ask(stage, Play(sdp=await player.play(*kinds), **about(room_id, FAN)))
    assert isinstance(reply, Answered), reply
    await player.answered(reply.sdp)
    await player.connected()
    return reply


def code_of(reply: AnyReply) -> str:
    """Why not; "" if it was done."""
    return reply.code if isinstance(reply, Refusal) else ""


def nobody(stage: Stage, room_id: str) -> bool:
    return not stage.node.rooms[room_id].participants


@plays
async def test_an_encoder_is_seen_by_a_browser_and_by_a_player(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player:
        # Given a browser and a player that wait for the creator
        browser = await stage.join(room_id, FAN, publish=False)
        waiting = await ask(
            stage, Play(sdp=await player.play(), **about(room_id, "usr_other"))
        )
        assert isinstance(waiting, Answered)
        await player.answered(waiting.sdp)
        # When an encoder goes on the air, with H.264 as OBS does
        reply = await on_air(stage, encoder, room_id, "H264")
        # Then both see it, the player in the slots that it negotiated before
        await player.decodes()
        await browser.decodes()
        assert reply.resource
        joined = stage.of_type(events.ParticipantJoined)
        assert {(each.user_id, each.encoder) for each in joined} == {
            (CREATOR, True), (FAN, False), ("usr_other", False),
        }  # fmt: skip
        # And when it comes back as another connection, then without another word to the player
        async with seat() as second:
            await on_air(stage, second, room_id, "VP8")
            await encoder.ended()
            await player.decodes("audio", "video", more=10)




@plays
async def test_a_player_whose_lines_were_taken_gets_the_next_one_when_they_are_free(stage: Stage) -> None:
    # Given two who publish, and a player with lines for one of them
    rival = "usr_rival"
    room_id = stage.open(RoomSpec(room_id="battle-two", creator_id=CREATOR, publishers=(CREATOR, rival)))
    first, second = await stage.join(room_id, CREATOR), await stage.join(room_id, rival)
    for publisher in (first, second):
        publisher.answering = False
        await publisher.publish()
        await publisher.hears("ANSWER")
    async with seat() as player:
        await playing(stage, player, room_id)
        await player.decodes()
        slots = stage.node.rooms[room_id].participants[FAN].slots
        assert {slot.track and slot.track.user_id for slot in slots.values()} == {CREATOR}
        # When the first one leaves
        await first.send(type="LEAVE_ROOM")
        await until(lambda: CREATOR not in stage.node.rooms[room_id].participants, "it has left")
        # Then it shows the other
        await player.decodes(more=10)
        assert {slot.track and slot.track.user_id for slot in slots.values()} == {rival}


@plays
async def test_a_player_of_sound_alone_is_sent_sound_alone(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player:
        await on_air(stage, encoder, room_id)
        await playing(stage, player, room_id, "audio")
        await player.decodes("audio")
        assert player.frames["video"] == 0


@plays
async def test_leaving_ends_it_and_a_second_time_there_is_nothing(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder:
        reply = await on_air(stage, encoder, room_id)
        wrong = await ask(stage, Leave(resource="x" * 43, **about(room_id)))
        assert wrong == Refusal(code="NO_RESOURCE", message="There is no such resource.")
        assert await ask(stage, Leave(resource=reply.resource, **about(room_id))) == Done()
        assert nobody(stage, room_id)
        again = await ask(stage, Leave(resource=reply.resource, **about(room_id)))
        assert code_of(again) == "NO_RESOURCE"
        await encoder.ended()


@plays
async def test_an_encoder_sends_what_spectators_can_be_handed_or_is_told_what_that_is(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder:
        offer = as_obs_sends_it(await encoder.publish("VP8"))
        for codec in ("AV1", "VP9"):
            # Given an encoder that has nothing else, then it reads what would do, and nobody is on the air
            reply = await ask(stage, Publish(sdp=offer.replace("VP8/", f"{codec}/"), **about(room_id)))
            assert code_of(reply) == "SDP_UNUSABLE"
            assert "VP8, H264 (packetization-mode 1), opus" in cast(Refusal, reply).message
            assert nobody(stage, room_id)
            probed = Probe(sdp=offer.replace("VP8/", f"{codec}/"), **about(room_id))
            assert code_of(await ask(stage, probed)) == "SDP_UNUSABLE"
        # When it has something else behind that, then this is what is answered
        both = offer.replace("UDP/TLS/RTP/SAVPF 97", "UDP/TLS/RTP/SAVPF 45 97")
        both = both.replace("a=rtpmap:97 VP8", "a=rtpmap:45 AV1/90000\r\na=rtpmap:97 VP8")
        assert both.count("AV1") == 1
        reply = await ask(stage, Publish(sdp=both, **about(room_id)))
        assert isinstance(reply, Answered)
        assert "VP8" in reply.sdp
        assert "AV1" not in reply.sdp


@plays
async def test_nobody_ends_somebody_elses_resource(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player:
        theirs = await on_air(stage, encoder, room_id)
        await playing(stage, player, room_id)
        stolen = await ask(stage, Leave(resource=theirs.resource, **about(room_id, FAN)))
        assert code_of(stolen) == "NO_RESOURCE"
        await player.decodes()


@plays
async def test_a_revocation_that_was_lost_on_the_way_is_made_good_by_the_rooms_state(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as other:
        await on_air(stage, encoder, room_id)
        publisher = stage.node.rooms[room_id].participants[CREATOR]
        wanted = msgspec.structs.replace(live_spec(), revoked_keys=(KEY,))
        assert stage.order(SyncRooms(boot_id=stage.node.boot_id, open=(wanted,), close=(), **fields())).ok
        assert publisher.stopped
        assert nobody(stage, room_id)
        # and with a grant that was given before, nobody comes back
        sdp = as_obs_sends_it(await other.publish())
        refused = await ask(stage, Publish(sdp=sdp, **about(room_id)))
        assert code_of(refused) == "FORBIDDEN"
        # not to a room that is only now opened, either
        moved = stage.open(msgspec.structs.replace(live_spec("two"), revoked_keys=("sky_two",)))
        grant = encoder_grant(moved, key_id="sky_two")
        refused = await ask(stage, Publish(sdp=sdp, grant=grant, room_id=moved, user_id=CREATOR))
        assert code_of(refused) == "FORBIDDEN"
        assert nobody(stage, moved)


@plays
async def test_each_way_out_of_a_room_ends_those_who_came_over_http(stage: Stage) -> None:
    for name, end in (
        ("cut", lambda room: TerminateCall(room_id=room, user_id=CREATOR, reason="MODERATION", **fields())),
        ("private", lambda room: CloseRoom(room_id=room, reason="STREAM_PRIVATE", **fields())),
        ("revoked", lambda room: RevokeKey(room_id=room, key_id=KEY, **fields())),
    ):
        room_id = stage.open(live_spec(name))
        async with seat() as encoder, seat() as player, seat() as other:
            again = await other.publish()
            await on_air(stage, encoder, room_id)
            await playing(stage, player, room_id)
            await player.decodes()
            room = stage.node.rooms[room_id]
            publisher = room.participants[CREATOR]
            # When the command has been carried out, then nothing is forwarded any more
            assert stage.order(end(room_id)).ok
            assert publisher.stopped
            assert CREATOR not in room.participants
            await encoder.ended()
            if name == "private":
                await player.ended()
            # And with the same key or seat there is no way back that the command has closed
            reply = await ask(stage, Publish(sdp=again, **about(room_id)))
            assert code_of(reply) == ("ROOM_NOT_FOUND" if name == "private" else "FORBIDDEN")


@plays
async def test_a_seat_whose_media_never_comes_up_is_given_back(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player:
        offer = await encoder.publish()
        # Given offers that nobody follows up: one seat for all of them
        for _ in range(3):
            reply = await ask(stage, Publish(sdp=offer, **about(room_id)))
            assert isinstance(reply, Answered)
            assert len(stage.node.rooms[room_id].participants) == 1
        # When the time to connect in is over, then the seats are free
        stage.server._desk._connect_seconds = 0.05
        assert isinstance(await ask(stage, Publish(sdp=offer, **about(room_id))), Answered)
        assert isinstance(await ask(stage, Play(sdp=await player.play(), **about(room_id, FAN))), Answered)
        await until(lambda: nobody(stage, room_id), "both seats are given back")


@plays
async def test_who_is_connected_keeps_the_seat_when_the_time_to_connect_in_is_over(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder:
        await on_air(stage, encoder, room_id)
        room = stage.node.rooms[room_id]
        participant = room.participants[CREATOR]
        assert participant.wire is not None
        await until(lambda: "publish" in participant.up, "the node knows that it is connected")
        room.lost(participant, participant.wire)
        assert room.participants[CREATOR] is participant
        assert not participant.stopped


@plays
async def test_who_hangs_up_without_a_word_frees_the_seat(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player:
        await on_air(stage, encoder, room_id)
        await playing(stage, player, room_id)
        await player.pc.close()
        await until(lambda: set(stage.node.rooms[room_id].participants) == {CREATOR}, "the player's seat is free")
        await encoder.pc.close()
        await until(lambda: nobody(stage, room_id), "the encoder's seat is free")


def test_who_is_told_nothing_may_be_silent_for_some_lost_checks_and_a_browser_may_not() -> None:
    async def scenario() -> None:
        async with loopback_gathering():
            for answers, may_be in ((("audio", "video"), 20_000), ((), 20_000), (None, 8_000)):
                participant = Participant(
                    user_id=FAN, display_name="Fan", publishes=False, wire=NoWire(), now_ms=0, port=the_port(),
                    on_connected=lambda *_: None, answers=cast("tuple[Kind, ...] | None", answers),
                )  # fmt: skip
                participant._connected("subscribe")
                participant.peer.last_heard_ms = 0
                assert participant.is_here(may_be - 1, 0)
                assert not participant.is_here(may_be, 0)
                # What we slept through is nobody's silence
                assert participant.is_here(may_be, 1)
                await participant.close()

    asyncio.run(scenario())


@plays
async def test_offers_that_cannot_be_used_take_no_seat(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder, seat() as player, seat() as two:
        good, wish = await encoder.publish(), await player.play()
        two.pc.addTransceiver("video", direction="recvonly")
        pictures = await two.play("video")
        bad = ("", "v=0", "{}", "v" * 40_000)
        for sdp in (*bad, good.replace("a=fingerprint", "a=x"), good.replace("opus", "AAC")):
            reply = await ask(stage, Publish(sdp=sdp, **about(room_id)))
            assert code_of(reply) == "SDP_UNUSABLE", sdp[:40]
        for sdp in ("", "v=0", wish.replace("a=fingerprint", "a=x"), pictures):
            reply = await ask(stage, Play(sdp=sdp, **about(room_id, FAN)))
            assert code_of(reply) == "SDP_UNUSABLE", sdp[:40]
        for frame in ("", "{}", '{"type":"PLAY"}', "[" * 10_000):
            reply = await ask(stage, frame)
            assert reply == Refusal(code="BAD_MESSAGE", message="This request cannot be used.")
        assert nobody(stage, room_id)


@plays
async def test_an_offer_that_cannot_be_answered_replaces_nobody(stage: Stage) -> None:
    # Given a creator who publishes with the browser, and a fan who watches
    room_id = stage.open(live_spec())
    creator, fan = await stage.join(room_id, CREATOR), await stage.join(room_id, FAN, publish=False)
    await creator.publish()
    await fan.decodes()
    before = dict(stage.node.rooms[room_id].participants)
    async with seat() as encoder, seat() as player:
        # When an encoder of the creator's has nothing that is carried, and a player of the fan's no certificate
        sdp, wish = await encoder.publish(), await player.play()
        for request in (
            Publish(sdp=sdp.replace("opus", "AAC"), **about(room_id)),
            Publish(sdp=sdp.replace("packetization-mode=1", "packetization-mode=0"), **about(room_id)),
            Play(sdp=wish.replace("a=fingerprint", "a=x"), **about(room_id, FAN)),
        ):
            reply = await ask(stage, request)
            assert code_of(reply) == "SDP_UNUSABLE"
        # Then both sit where they sat, and see each other
        assert stage.node.rooms[room_id].participants == before
        assert not any(participant.stopped for participant in before.values())
        await fan.decodes()


@plays
async def test_what_changes_while_an_offer_is_answered_counts(stage: Stage) -> None:
    desk, node = stage.server._desk, stage.node

    async def refused(name: str, change: Callable[[str, Grant], object]) -> tuple[str, bool]:
        """The refusal, and whether who sat there still does."""
        room_id = stage.open(live_spec(name))
        await stage.join(room_id, CREATOR)
        room = node.rooms[room_id]
        seated = room.participants[CREATOR]
        grant = node.check_grant(encoder_grant(room_id, key_id=f"sky_{name}"), room_id, CREATOR)
        peers = []

        async def answering(peer: Peer) -> str:
            peers.append(peer)
            change(room_id, grant)
            return "v=0"

        with pytest.raises(DomainError) as caught:
            await desk._seated(grant, (), answering)
        await until(lambda: all(peer._stopped for peer in peers), "what was prepared is let go")
        return caught.value.code, room.participants.get(CREATOR) is seated and not seated.stopped

    def revoked(room_id: str, grant: Grant) -> None:
        stage.order(RevokeKey(room_id=room_id, key_id=grant.key_id, **fields()))

    def cut(room_id: str, grant: Grant) -> None:
        stage.order(TerminateCall(room_id=room_id, user_id=CREATOR, reason="MODERATION", **fields()))

    def closed(room_id: str, grant: Grant) -> None:
        stage.order(CloseRoom(room_id=room_id, reason="STREAM_PRIVATE", **fields()))

    def opened_anew(room_id: str, grant: Grant) -> None:
        closed(room_id, grant)
        stage.open(live_spec("anew"))

    def used(room_id: str, grant: Grant) -> None:
        node._used_grants[grant.jti] = grant.expires_at

    def another_came(room_id: str, grant: Grant) -> None:
        node.join(msgspec.structs.replace(grant, jti="grt_other"), NoWire())

    assert await refused("revoked", revoked) == ("FORBIDDEN", True)
    assert await refused("used", used) == ("FORBIDDEN", True)
    assert await refused("cut", cut) == ("FORBIDDEN", False)
    assert await refused("closed", closed) == ("ROOM_NOT_FOUND", False)
    assert await refused("anew", opened_anew) == ("ROOM_NOT_FOUND", False)
    assert await refused("another", another_came) == ("REPLACED", False)


@plays
async def test_an_offer_can_be_tried_without_a_room(stage: Stage) -> None:
    async with seat() as encoder:
        sdp = await encoder.publish()
        probe = {"grant": encoder_grant("probe"), "room_id": "probe", "user_id": CREATOR}
        for _ in range(2):
            assert await ask(stage, Probe(sdp=sdp, **probe)) == Done()
        bad = await ask(stage, Probe(sdp=sdp.replace("opus", "AAC"), **probe))
        assert code_of(bad) == "SDP_UNUSABLE"
        forged = await ask(stage, Probe(sdp=sdp, **(probe | {"user_id": FAN})))
        assert code_of(forged) == "FORBIDDEN"
        await until(lambda: not stage.node._tasks, "nothing of it is left")


@plays
async def test_who_may_only_watch_does_not_publish_and_a_grant_is_for_one_seat(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder:
        sdp = await encoder.publish()
        refused = await ask(stage, Publish(sdp=sdp, **about(room_id, FAN)))
        assert code_of(refused) == "FORBIDDEN"
        once = about(room_id)
        assert isinstance(await ask(stage, Publish(sdp=sdp, **once)), Answered)
        again = await ask(stage, Publish(sdp=sdp, **once))
        assert code_of(again) == "FORBIDDEN"


@plays
async def test_of_two_encoders_at_once_one_is_on_the_air(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as first, seat() as second:
        offers = [await first.publish("VP8"), await second.publish("VP8")]
        replies = await asyncio.gather(*(ask(stage, Publish(sdp=sdp, **about(room_id))) for sdp in offers))
        assert len(stage.node.rooms[room_id].participants) == 1
        seated = stage.node.rooms[room_id].participants[CREATOR]
        winners = [reply for reply in replies if isinstance(reply, Answered) and reply.resource == seated.resource]
        assert len(winners) == 1
        for client, reply in zip((first, second), replies, strict=True):
            if reply is winners[0]:
                await client.answered(winners[0].sdp)
                await client.connected()


@plays
async def test_candidates_are_taken_note_of_and_a_stale_name_of_the_session_is_not(stage: Stage) -> None:
    room_id = stage.open(live_spec())
    async with seat() as encoder:
        sdp = await encoder.publish()
        reply = await ask(stage, Publish(sdp=sdp, **about(room_id)))
        assert isinstance(reply, Answered)
        fragment = sdp.split("a=ice-ufrag:")[1].split()[0]

        async def patch(etag: str, fragment: str) -> AnyReply:
            news = {"resource": reply.resource, "etag": etag, "fragment": fragment, "password": "p" * 22}
            return await ask(stage, Patch(**about(room_id, **news)))

        assert await patch(reply.etag, fragment) == Done()
        stale = await patch("another", fragment)
        assert code_of(stale) == "WRONG_ETAG"
        # Other names are a restart: new ones of ours, and the session is called something else from then on
        restarted = await patch("*", "Fresh123")
        assert isinstance(restarted, Restarted)
        assert restarted.etag != reply.etag
        assert restarted.sdp.startswith("a=ice-ufrag:")
        assert restarted.sdp.split("\r\n")[0] not in reply.sdp
        assert "\r\na=mid:0\r\na=candidate:" in restarted.sdp
        old = await patch(reply.etag, "Fresh123")
        assert code_of(old)
        assert await patch(restarted.etag, "Fresh123") == Done()
        malformed = await patch("*", "no spaces")
        assert code_of(malformed) == "SDP_UNUSABLE"
        assert CREATOR in stage.node.rooms[room_id].participants


@plays
async def test_a_fan_may_watch_a_private_stream_with_a_player_and_is_cut_with_it(stage: Stage) -> None:
    room_id = stage.open(private_spec("one", paid_ms=600_000))
    async with seat() as player:
        creator = await stage.join(room_id, CREATOR)
        await creator.publish()
        await playing(stage, player, room_id)
        await player.decodes()
        await creator.clock("running")
        room = stage.node.rooms[room_id]
        assert stage.order(CloseRoom(room_id=room_id, reason="PAYMENT_FAILED", **fields())).ok
        assert not room.participants
        await player.ended()

