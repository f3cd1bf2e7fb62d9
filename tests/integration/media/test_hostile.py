"""What strangers and hostile clients may send: nothing of it hurts a connection, a third party or the log."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aioice import stun
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtcpPacket
from OpenSSL import SSL

from media.plane import BadSdp, Peer
from tests.integration.media.media_clients import (
    Client,
    Picture,
    given_back,
    held,
    open_port,
    room,
    the_port,
    until,
)
from tests.integration.media.test_forwarding import run

ALERT = bytes([21, 254, 253]) + bytes(8) + bytes([0, 2, 2, 40])
RTP = b"\x80\x60" + bytes(40)
PORT = re.compile(r"udp \d+ 127\.0\.0\.1 (\d+) typ host")


def client_hello() -> bytes:
    connection = SSL.Connection(SSL.Context(SSL.DTLS_METHOD), None)
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(4096)


def malformed_stun(chance: random.Random) -> bytes:
    """A header that promises what does not follow, attributes that are cut short, or plain noise."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = "a:b"
    message.attributes["PRIORITY"] = 1
    message.add_message_integrity(b"x" * 22)
    data = bytearray(bytes(message))
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    data[0] &= 3
    return bytes(data[: chance.randrange(1, len(data) + 1)])


@asynccontextmanager
async def spraying(port: int, payload: Callable[[], bytes]) -> AsyncIterator[socket.socket]:
    """A stranger who sends ``payload`` to ``port`` all the time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.setblocking(False)

        async def spray() -> None:
            while True:
                stranger.sendto(payload(), ("127.0.0.1", port))
                await asyncio.sleep(0.002)

        task = asyncio.ensure_future(spray())
        try:
            yield stranger
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def heard(listener: socket.socket) -> int:
    """How many datagrams wait there."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.recv(2048)
            count += 1
    return count


@pytest.mark.parametrize("attack", ["hello", "alert", "stun", "rtp", "noise"])
def test_strangers_do_not_disturb_a_connection_being_set_up(attack: str, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(attack)
    hello = client_hello()
    payload: Callable[[], bytes] = {
        "hello": lambda: hello,
        "alert": lambda: ALERT,
        "stun": lambda: malformed_stun(chance),
        "rtp": lambda: RTP,
        "noise": lambda: chance.randbytes(chance.randrange(1, 200)),
    }[attack]

    async def scenario() -> None:
        async with room(1) as (client,):
            pc = client.publishing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            pc.addTransceiver(Picture(), direction="sendonly")
            await pc.setLocalDescription(await pc.createOffer())
            answer = await client.peer.accept_publish(pc.localDescription.sdp)
            found = PORT.search(answer)
            assert found is not None
            async with spraying(int(found[1]), payload) as stranger:
                await asyncio.sleep(0.1)
                await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
                await until(lambda: client.connected == ["publish"], "connected in spite of it")
                await until(lambda: client.peer.stats()["packets_in"] > 20, "media flows in spite of it")
                assert client.lost == []
                assert heard(stranger) == 0, "strangers get no answer"

    caplog.set_level(logging.WARNING)
    run(scenario())
    assert caplog.records == []


def test_knowing_the_name_without_the_password_is_not_enough() -> None:
    """The user fragments travel in the clear in every check; the password does not."""

    async def scenario() -> None:
        async with room(1) as (client,):
            pc = client.publishing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            pc.addTransceiver(Picture(), direction="sendonly")
            await pc.setLocalDescription(await pc.createOffer())
            answer = await client.peer.accept_publish(pc.localDescription.sdp)
            port, ours = PORT.search(answer), re.search(r"a=ice-ufrag:(\S+)", answer)
            theirs = re.search(r"a=ice-ufrag:(\S+)", pc.localDescription.sdp)
            assert port is not None
            assert ours is not None
            assert theirs is not None
            check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
            check.attributes.update({"USERNAME": f"{ours[1]}:{theirs[1]}", "PRIORITY": 1, "USE-CANDIDATE": None})
            check.add_message_integrity(b"a guess that is wrong!")
            turns = itertools.cycle([bytes(check), client_hello()])
            async with spraying(int(port[1]), lambda: next(turns)) as stranger:
                await asyncio.sleep(0.1)
                await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
                await until(lambda: client.connected == ["publish"], "connected in spite of it")
                assert heard(stranger) == 0

    run(scenario())


def test_the_shortest_malformed_stun_is_dropped_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        port = open_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            whole = b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(52)
            for length in range(1, 60):
                stranger.sendto(whole[:length], ("127.0.0.1", port.number))
            await until(lambda: port.malformed == 58, "all but the one that is whole")
            assert heard(stranger) == 0
        port.close()

    caplog.set_level(logging.WARNING)
    run(scenario())
    assert caplog.records == []


def test_nothing_is_ever_sent_to_an_address_that_a_client_named() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.bind(("127.0.0.1", 0))
            victim.setblocking(False)
            port = victim.getsockname()[1]
            named = f"a=candidate:1 1 udp 2147483647 127.0.0.1 {port} typ host"
            async with room(2) as (creator, fan):
                publish, subscribe = creator.peer.accept_publish, fan.peer.accept_subscribe_answer

                async def naming_publish(sdp: str) -> str:
                    answer = await publish(sdp.replace("a=ice-ufrag", f"{named}\r\na=ice-ufrag"))
                    await asyncio.sleep(0.2)  # an agent that probes would have done so
                    return answer

                async def naming_answer(sdp: str) -> None:
                    await subscribe(sdp.replace("a=ice-ufrag", f"{named}\r\na=ice-ufrag"))
                    await asyncio.sleep(0.2)

                creator.peer.accept_publish = naming_publish  # type: ignore[method-assign]
                fan.peer.accept_subscribe_answer = naming_answer  # type: ignore[method-assign]
                creator.peer.add_candidate("publish", {"candidate": named[2:], "sdpMid": "0"})
                await creator.publish()
                await fan.subscribe(creator)
                await fan.decodes("video", 20)
                assert heard(victim) == 0

    run(scenario())


def test_a_client_with_thousands_of_sources_costs_a_few() -> None:
    """Its packets authenticate; each new SSRC would cost an SRTP stream."""

    async def scenario() -> None:
        async with room(1) as (client,):
            await client.publish(audio=False)
            assert client.publishing is not None
            dtls = client.publishing.getTransceivers()[0].sender.transport
            await until(lambda: client.peer.stats()["packets_in"] > 0, "media flows")
            ingress = client.peer._ingress
            assert ingress is not None
            for number in range(2_000):
                await dtls._send_rtp(b"\x80\x7f\x00\x01" + bytes(4) + (10_000 + number).to_bytes(4, "big") + b"x")
                await dtls._send_rtp(bytes.fromhex("80c90001") + (10_000 + number).to_bytes(4, "big"))
            seen = client.peer.stats()["packets_in"]
            await until(lambda: client.peer.stats()["packets_in"] > seen + 20, "the real source still passes")
            assert len(ingress._sources) <= 32
            assert len(ingress._talkers) <= 32

    run(scenario())


def test_rtcp_that_is_nonsense_changes_nothing() -> None:
    async def scenario() -> None:
        chance = random.Random(5)
        async with room(2) as (creator, fan):
            await creator.publish(audio=False)
            await fan.subscribe(creator)
            await fan.decodes("video")
            assert fan.subscribing is not None
            dtls = fan.subscribing.getTransceivers()[0].receiver.transport
            own = (1).to_bytes(4, "big")
            for _ in range(300):
                body = own + chance.randbytes(4 * chance.randrange(8))
                kind = bytes([0x80 | chance.randrange(32), chance.randrange(200, 207)])
                await dtls._send_rtp(kind + (len(body) // 4).to_bytes(2, "big") + body)
            await fan.decodes("video")
            assert RtcpPacket.parse(b"") == []

    run(scenario())


# --- descriptions -------------------------------------------------------------------------------------


async def a_real_offer() -> tuple[RTCPeerConnection, str]:
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("audio", direction="sendonly")
    pc.addTransceiver(Picture(), direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    return pc, pc.localDescription.sdp


def mutate(sdp: str, chance: random.Random) -> str:
    lines = sdp.split("\r\n")
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(lines))
        kind = chance.randrange(5)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif kind == 2:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        elif kind == 3 and lines[at]:
            place = chance.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + chr(chance.randrange(1, 300)) + lines[at][place + 1 :]
        else:
            lines[at] = re.sub(r"\d+", lambda _: str(chance.choice([0, -1, 10**12, 255])), lines[at], count=1)
        lines = lines or [""]
    return "\r\n".join(lines)


def test_a_mutated_offer_is_answered_or_refused_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with room(1):
            pc, offer = await a_real_offer()
            chance = random.Random(11)
            outcomes = {"answered": 0, "refused": 0}
            for _ in range(250):
                peer = Peer(user_id="u", port=the_port(), on_connected=lambda pc: None, on_lost=lambda pc: None)
                try:
                    await peer.accept_publish(mutate(offer, chance))
                    outcomes["answered"] += 1
                except BadSdp:
                    outcomes["refused"] += 1
                    assert peer.published == {}
                await peer.close()
            assert min(outcomes.values()) > 10
            await pc.close()

    caplog.set_level(logging.WARNING)
    run(scenario())
    assert caplog.records == []


def test_a_mutated_answer_is_taken_or_refused_and_nothing_else() -> None:
    async def scenario() -> None:
        async with room(1) as (creator,):
            await creator.publish()
            chance = random.Random(12)
            refused = 0
            for _ in range(60):
                peer = Peer(user_id="u", port=the_port(), on_connected=lambda pc: None, on_lost=lambda pc: None)
                for track in creator.peer.published.values():
                    peer.subscribe(track)
                pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
                await pc.setRemoteDescription(RTCSessionDescription(await peer.offer_subscribe(), "offer"))
                await pc.setLocalDescription(await pc.createAnswer())
                try:
                    await peer.accept_subscribe_answer(mutate(pc.localDescription.sdp, chance))
                except BadSdp:
                    refused += 1
                await pc.close()
                await peer.close()
            assert refused > 5
            assert all(track.slots == [] for track in creator.peer.published.values())

    run(scenario())


def test_five_hundred_lines_and_lines_without_media_are_refused() -> None:
    async def scenario() -> None:
        async with room(1) as (client,):
            pc, offer = await a_real_offer()
            head, *media = re.split(r"(?=^m=)", offer, flags=re.M)
            unbundled = head.replace("BUNDLE", "X") + "".join(media)
            for sdp in (head, head + media[1] * 500, head + media[1] * 5, unbundled):
                with pytest.raises(BadSdp):
                    await client.peer.accept_publish(sdp)
            assert client.peer.published == {}
            await pc.close()

    run(scenario())


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"a=fingerprint:.*\r\n", ""),
        (r"a=fingerprint:sha-\d+", "a=fingerprint:sha-1"),
        (r"a=setup:.*\r\n", ""),
        (r"a=ice-ufrag:.*", "a=ice-ufrag:not allowed"),
        (r"a=ice-pwd:.*", "a=ice-pwd:short"),
        (r"a=mid:.*", "a=mid:0"),
        (r"a=mid:.*\r\n", ""),
        (r"a=rtcp-mux\r\n", ""),
        (r"(VP8|H264)/90000", "VP7/90000"),
        (r"opus/48000", "speex/48000"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(pattern: str, instead: str) -> None:
    """Later would be in a task of aiortc's, after the client was told that all is well."""

    async def scenario() -> None:
        async with room(1) as (client,):
            pc, offer = await a_real_offer()
            with pytest.raises(BadSdp):
                await client.peer.accept_publish(re.sub(pattern, instead, offer))
            assert client.peer.published == {}
            await client.peer.accept_publish(offer)
            assert len(client.peer.published) == 2, "the next, sound offer is answered"
            await pc.close()

    run(scenario())


# --- resources ----------------------------------------------------------------------------------------


def test_a_hundred_joins_and_leaves_leave_nothing_behind() -> None:
    async def scenario() -> None:
        async with room(1) as (creator,):
            await creator.publish()

            async def visit() -> None:
                visitor = Client("usr_visitor")
                await visitor.publish(video=None)
                await visitor.subscribe(creator)
                await visitor.close()

            # The client's side of it stands only when both kinds flow
            published = creator.peer.published.values()
            await until(lambda: all(track.packets for track in published), "everything of the creator flows")
            without = held()
            await visit()
            await given_back(without)
            for _ in range(100):
                await visit()
            await given_back(without)
            assert all(track.slots == [] for track in creator.peer.published.values())

    run(scenario())


def test_a_client_that_never_connects_is_closed_without_a_trace() -> None:
    async def scenario() -> None:
        before = held()
        async with room(1):
            pc, offer = await a_real_offer()
            for _ in range(5):
                peer = Peer(user_id="u", port=the_port(), on_connected=lambda pc: None, on_lost=lambda pc: None)
                await peer.accept_publish(offer)
                await peer.close()
            await pc.close()
        await given_back(before)

    run(scenario())


# --- addresses ----------------------------------------------------------------------------------------


async def nominate(client: Client, elsewhere: socket.socket, *, answering: bool) -> bool:
    """Nominate ``elsewhere`` with the client's own credentials; whether the server checked it back."""
    assert client.publishing is not None
    ice = client.publishing.getTransceivers()[0].sender.transport.transport._connection
    pair = ice._nominated[1]
    request = ice.build_request(pair, nominate=True)
    request.add_message_integrity(ice.remote_password.encode())
    elsewhere.sendto(bytes(request), pair.remote_addr)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            message = stun.parse_message(await loop.sock_recv(elsewhere, 2048))
            if message.message_class != stun.Class.REQUEST:
                continue
            if answering:
                response = stun.Message(
                    message_method=stun.Method.BINDING,
                    message_class=stun.Class.RESPONSE,
                    transaction_id=message.transaction_id,
                )
                response.attributes["XOR-MAPPED-ADDRESS"] = pair.remote_addr
                response.add_message_integrity(ice.local_password.encode())
                elsewhere.sendto(bytes(response), pair.remote_addr)
            return True


@pytest.mark.parametrize("answering", [True, False])
def test_media_follows_a_client_only_to_an_address_that_answers(answering: bool) -> None:
    """A client may move; it may not point us at someone else (a forged source address never answers)."""

    async def scenario() -> None:
        async with room(1) as (client,):
            await client.publish()
            await until(lambda: client.peer.stats()["packets_in"] > 0, "media flows")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
                elsewhere.bind(("127.0.0.1", 0))
                elsewhere.setblocking(False)
                assert await nominate(client, elsewhere, answering=answering)
                ingress = client.peer._ingress
                assert ingress is not None
                if answering:
                    await until(lambda: ingress.wire.address == elsewhere.getsockname(), "we follow")
                else:
                    seen = client.peer.stats()["packets_in"]
                    await until(lambda: client.peer.stats()["packets_in"] > seen + 50, "the call goes on")
                    assert ingress.wire.address != elsewhere.getsockname()

    run(scenario())
