"""Packets of real clients over real ICE and DTLS: what is published is decoded at the other side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from unittest import mock

import pytest
import uvloop
from aioice import stun
from aioice.ice import StunProtocol
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from media.fastpath.engine import Address
from media.native_forwarding import NativeWire
from media.participants import Participant
from media.plane import PublishedTrack
from media.seats import MOST_SEATS
from media.stats import Meter
from media.tracks import Kind
from media.wire import fan_out
from models.messages.signaling import ServerMessage, SubscribeOffer
from tests.integration.media.media_clients import WAIT_SECONDS, loopback_gathering, room, the_port, until

KINDS: tuple[Kind, ...] = ("audio", "video")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On the loop that the media process uses, and with nothing left for the loop's complaint box."""

    async def guarded() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await scenario
        await asyncio.sleep(0)
        assert complaints == []

    uvloop.run(guarded())


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_picture_and_sound_are_decoded_at_the_other_side(codec: str) -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish(video=codec)
            assert {track.codec for track in creator.peer.published.values()} == {codec, "opus"}
            await fan.subscribe(creator)
            assert {track.kind for track in fan.peer.mids().values()} == {"audio", "video"}
            await fan.decodes("video")
            await fan.decodes("audio")

    run(scenario())


def test_a_late_joiner_gets_a_key_frame() -> None:
    async def scenario() -> None:
        async with room(3) as (creator, fan, late):
            await creator.publish(audio=False)
            await fan.subscribe(creator)
            await fan.decodes("video", 20)
            asked = creator.peer.stats()["keyframes_asked"]
            await late.subscribe(creator)
            await late.decodes("video")
            assert creator.peer.stats()["keyframes_asked"] > asked

    run(scenario())


def test_a_freed_slot_carries_the_next_publisher_without_an_offer() -> None:
    async def scenario() -> None:
        async with room(3) as (first, second, fan):
            await first.publish()
            await fan.subscribe(first)
            await fan.decodes("video")
            await first.close()
            assert fan.peer.mids() == {}
            await second.publish()
            for track in second.peer.published.values():
                fan.peer.subscribe(track)
            assert not fan.peer.needs_offer
            assert set(fan.peer.mids().values()) == set(second.peer.published.values())
            await fan.decodes("video", 20)
            await fan.decodes("audio", 20)

    run(scenario())


def test_slots_grow_in_blocks_and_keep_one_publisher_in_one_seat() -> None:
    async def scenario() -> None:
        async with room(4) as (*publishers, fan):
            for publisher in publishers:
                await publisher.publish()
            await fan.subscribe(publishers[0])
            first = await fan.peer.offer_subscribe()
            assert first.count("m=") == 2
            assert await fan.peer.offer_subscribe() == first
            await fan.subscribe(*publishers[1:])
            assert (await fan.peer.offer_subscribe()).count("m=") == 2 + 2 * 4
            assert not fan.peer.needs_offer
            mids = fan.peer.mids()
            for number in range(0, 6, 2):
                pair = mids[str(number)], mids[str(number + 1)]
                assert pair[0].user_id == pair[1].user_id
            await fan.decodes("video", 3 * 10)

    run(scenario())


def test_the_offer_of_a_full_room_fits_one_message() -> None:
    async def scenario() -> None:
        async with room(1) as (fan,):
            slots = [
                fan.peer.subscribe(
                    PublishedTrack(
                        track_id=f"{kind}{number}", user_id=f"{number}", kind=kind, codec="VP8", clock_rate=90_000
                    )
                )
                for number in range(40)
                for kind in KINDS
            ]
            offer = await fan.peer.offer_subscribe()
            # Nineteen others have a seat each, and JSON doubles every line end.
            assert all(slot.track is not None for slot in slots[: 2 * 19])
            assert offer.count("m=") == 2 * MOST_SEATS
            assert [slot.track for slot in slots[2 * MOST_SEATS :]] == [None] * len(slots[2 * MOST_SEATS :])
            assert len(offer) + 2 * offer.count("\n") < 60_000

    run(scenario())


def test_what_a_subscriber_lost_is_sent_again() -> None:
    async def scenario() -> None:
        count = 0
        receive = StunProtocol.datagram_received

        def lossy(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
            nonlocal count
            media = 127 < data[0] < 192 and not 191 < data[1] < 224
            count += media
            if not media or count % 10:
                receive(self, data, addr)

        # The server's protocol is a subclass with a receiver of its own: only the clients lose packets.
        with mock.patch.object(StunProtocol, "datagram_received", lossy):
            async with room(2) as (creator, fan):
                await creator.publish(audio=False)
                await fan.subscribe(creator)
                await fan.decodes("video", 60)
                assert fan.peer.stats()["retransmitted"] > 0
                repairs = sum(slot.repairs for slot in fan.peer._seats.slots)
                assert repairs == fan.peer.stats()["retransmitted"], "RTX"
                assert creator.peer.stats()["packets_repaired"] == 0

    run(scenario())


def test_what_a_publisher_lost_is_asked_for_again() -> None:
    async def scenario() -> None:
        count = 0
        send = StunProtocol.send_data

        async def lossy(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
            nonlocal count
            media = type(self) is StunProtocol and 127 < data[0] < 192 and not 191 < data[1] < 224
            count += media
            if not media or count % 10:
                await send(self, data, addr)

        with mock.patch.object(StunProtocol, "send_data", lossy):
            async with room(2) as (creator, fan):
                await creator.publish(audio=False)
                await fan.subscribe(creator)
                await fan.decodes("video", 60)
                await until(lambda: creator.peer.stats()["packets_repaired"] > 2, "holes are filled")

    run(scenario())


def test_the_meter_sees_frames_and_the_gate_holds_them() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            video = next(track for track in creator.peer.published.values() if track.kind == "video")
            frames: list[tuple[int, bool]] = []
            video.on_frame = lambda now_ms, keyframe, size: frames.append((now_ms, keyframe))
            await fan.subscribe(creator)
            await fan.decodes("video", 10)
            assert any(keyframe for _, keyframe in frames)
            video.gate, video.gate_until = (lambda now_ms: False), (lambda: 0)
            video.sync_gate()
            assert the_port().drain(1_000)  # what the engine forwarded before that is in the books, too
            before = video.packets
            sent = len(frames)
            await until(lambda: len(frames) > sent + 20, "the publisher goes on sending")
            assert video.packets == before
            video.gate = video.gate_until = None
            video.sync_gate()
            await fan.decodes("video", 30)

    run(scenario())


def test_sender_reports_reach_the_subscriber_in_its_own_numbers() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            assert fan.subscribing is not None
            seen: dict[str, int] = {}
            async with asyncio.timeout(WAIT_SECONDS):
                while seen.keys() != {"audio", "video"}:
                    await asyncio.sleep(0.1)
                    for report in (await fan.subscribing.getStats()).values():
                        if report.type == "remote-outbound-rtp":
                            seen[report.kind] = report.packetsSent
            assert all(count > 0 for count in seen.values())

    run(scenario())


def test_stop_forwarding_is_immediate_in_both_directions() -> None:
    async def scenario() -> None:
        received: dict[int, int] = {}
        receive = StunProtocol.datagram_received

        def counting(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
            received[id(self.receiver)] = received.get(id(self.receiver), 0) + 1
            receive(self, data, addr)

        def reached(pc: Any) -> int:
            return received.get(id(pc.getTransceivers()[0].receiver.transport.transport._connection), 0)

        with mock.patch.object(StunProtocol, "datagram_received", counting):
            async with room(3) as (creator, fan, other):
                await creator.publish()
                await fan.publish()
                await fan.subscribe(creator)
                await other.subscribe(creator, fan)
                await fan.decodes("video")
                await other.decodes("video", 20)
                assert fan.subscribing is not None
                fan.peer.stop_forwarding()
                # Whatever the kernel still held for the client arrives before the other one's next frames.
                await other.decodes("video", 3)
                before = reached(fan.subscribing), reached(fan.publishing)
                assert fan.peer.published == {}
                assert {track.user_id for track in other.peer.mids().values()} == {creator.peer.user_id}
                await other.decodes("video", 60)
                assert (reached(fan.subscribing), reached(fan.publishing)) == before
                assert fan.lost == []
                ice: Any = fan.subscribing.getTransceivers()[0].receiver.transport.transport._connection
                pair = ice._nominated[1]
                with pytest.raises(stun.TransactionTimeout):
                    await pair.protocol.request(
                        ice.build_request(pair, nominate=False), pair.remote_addr,
                        integrity_key=ice.remote_password.encode(), retransmissions=0,
                    )  # fmt: skip

    run(scenario())


def test_a_client_that_opens_a_new_publish_connection_replaces_the_old_one() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            old = set(creator.peer.published)
            assert creator.publishing is not None
            first = creator.publishing
            creator.connected.clear()
            await creator.publish(video="H264")
            await first.close()
            assert old.isdisjoint(creator.peer.published)
            await fan.subscribe(creator)
            await fan.decodes("video")
            await fan.decodes("audio")

    run(scenario())


def test_a_second_offer_takes_a_track_back_and_brings_another() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video")
            pc = creator.publishing
            assert pc is not None
            camera = next(line for line in pc.getTransceivers() if line.kind == "video")

            async def offer_again(direction: str) -> None:
                camera.direction = direction
                await pc.setLocalDescription(await pc.createOffer())
                answer = await creator.peer.accept_publish(pc.localDescription.sdp)
                await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

            sound = next(track for track in creator.peer.published.values() if track.kind == "audio")
            await offer_again("inactive")
            assert list(creator.peer.published.values()) == [sound]
            assert list(fan.peer.mids().values()) == [sound]
            await fan.decodes("audio")
            await offer_again("sendonly")
            (picture,) = (track for track in creator.peer.published.values() if track is not sound)
            fan.peer.subscribe(picture)
            assert not fan.peer.needs_offer
            await fan.decodes("video", 10)
            assert creator.connected == ["publish"]

    run(scenario())


def test_a_lost_connection_is_said_once() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video")
            assert fan.subscribing is not None
            await fan.subscribing.close()
            await until(lambda: fan.lost == ["subscribe"], "the other side closed")
            assert fan.peer.mids() == {}
            await until(lambda: creator.peer.stats()["packets_in"] > 100, "the publisher is not disturbed")

    run(scenario())


def test_what_the_socket_refuses_of_fan_out_is_counted_for_the_subscriber_and_kept() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video")
            assert fan.peer._egress is not None
            wire = fan.peer._egress.wire
            # When what is sent to the subscriber does not leave any more
            if isinstance(wire, NativeWire):
                wire.native.engine.nominate(wire.connection, Address("255.255.255.255", 9))
            else:
                wire.address = ("255.255.255.255", 9)
                fan.peer._rewire()
            counts = fan.peer if isinstance(wire, NativeWire) else creator.peer
            await until(lambda: counts.stats()["refused"] > 0, "it is counted")
            # Then that is its own affair, where the engine sends, and known after its end
            if isinstance(wire, NativeWire):
                assert creator.peer.stats()["refused"] == 0
            else:
                # And the publisher's elsewhere: what the subscriber's own wire could not send are reports
                own = fan.peer.stats()["refused"]
                (layer,) = (track.layers[0] for track in creator.peer.published.values() if track.kind == "video")
                kept = next(each for each in layer.ring if each is not None)
                assert (fan_out(layer, kept), fan.peer.stats()["refused"]) == (1, own)
            counted = fan.peer.stats()["refused"]
            fan.peer.stop_forwarding()
            meter = Meter()
            meter.take(fan.peer.sample(), 0)
            assert meter.totals["refused"] >= counted
            assert fan.peer.stats()["refused"] == meter.totals["refused"]

    run(scenario())


class Heard:
    """A participant's wire that keeps what is said."""

    def __init__(self) -> None:
        self.offers: list[SubscribeOffer] = []

    def send(self, message: ServerMessage) -> None:
        if isinstance(message, SubscribeOffer):
            self.offers.append(message)

    def close(self, code: int) -> None:
        raise AssertionError("nobody closes here")


def test_who_cannot_show_a_codec_is_told_that_there_is_no_such_track() -> None:
    async def scenario() -> None:
        async with loopback_gathering():
            heard = Heard()
            fan = Participant(
                user_id="usr_fan", display_name="Fan", publishes=False, wire=heard, now_ms=0, port=the_port(),
                on_connected=lambda participant, pc: None,
            )  # fmt: skip
            pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            try:
                # given tracks of which this client, an aiortc one, takes only one
                for codec in ("VP9", "VP8"):
                    fan.receive(
                        PublishedTrack(
                            track_id=codec, user_id=f"usr_{codec}", kind="video", codec=codec, clock_rate=90_000
                        )
                    )
                # when it has answered
                await fan.offer()
                await pc.setRemoteDescription(RTCSessionDescription(heard.offers[0].sdp, "offer"))
                await pc.setLocalDescription(await pc.createAnswer())
                await fan.answered(pc.localDescription.sdp, heard.offers[0].revision)
                # then it is told so: the same offer, without that track
                first, second = heard.offers
                assert [track.track_id for track in first.tracks.values()] == ["VP9", "VP8"]
                assert [track.track_id for track in second.tracks.values()] == ["VP8"]
                assert second.sdp == first.sdp
            finally:
                await pc.close()
                await fan.close()

    run(scenario())
