"""Real clients at a node's one UDP port: all are served there, over both families, and wherever they move to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest
from aioice.ice import CandidatePair
from aiortc import RTCPeerConnection

from media import rtp
from media.native_forwarding import NativeWire
from media.plane import Peer
from media.port import Port
from media.wire import Wire
from tests.integration.media.media_clients import FAMILIES, Client, room, the_port, until, wanted_engine
from tests.integration.media.test_forwarding import run


def ice_of(pc: RTCPeerConnection | None) -> tuple[Any, CandidatePair]:
    assert pc is not None
    connection = pc.getTransceivers()[0].receiver.transport.transport._connection
    return connection, connection._nominated[1]


def test_everybody_is_served_at_one_port(engine: str) -> None:
    async def scenario() -> None:
        async with room(3) as (creator, fan, other):
            assert (the_port().native is not None) == (engine == "native"), "by who was to"
            await creator.publish()
            await fan.publish()
            await other.subscribe(creator, fan)
            await fan.subscribe(creator)
            await other.decodes("video", 20)
            await fan.decodes("video", 20)
            for pc in (creator.publishing, fan.publishing, fan.subscribing, other.subscribing):
                _, pair = ice_of(pc)
                assert pair.remote_addr == ("127.0.0.1", the_port().number)
            assert the_port().tables()[:2] == (4, 4)

    run(scenario())


def test_a_client_whose_address_changes_goes_on_at_the_new_one() -> None:
    async def scenario(old: list[asyncio.DatagramTransport]) -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video")
            await until(lambda: bool(both_talkers(creator.peer, fan.peer)[1]), "the subscriber has reported")
            talkers = both_talkers(creator.peer, fan.peer)
            egress = fan.peer._egress
            assert egress is not None
            egress.nacks += 1_000
            old.append(await moves(creator.publishing, creator.peer))
            old.append(await moves(fan.subscribing, fan.peer))
            # SRTP forgets nobody over a move. If we did, each would make room for new senders in one context.
            for now, then in zip(both_talkers(creator.peer, fan.peer), talkers, strict=True):
                assert now >= then
            assert fan.peer.stats()["nacks"] >= 1_000, "what was counted stays"
            seen = creator.peer.stats()["packets_in"]
            await until(lambda: creator.peer.stats()["packets_in"] > seen + 20, "it is heard from there")
            await fan.decodes("video", 20)
            assert (creator.connected, creator.lost, fan.lost) == (["publish"], [], [])

    run_and_abort(scenario)


def run_and_abort(scenario: Callable[[list[asyncio.DatagramTransport]], Coroutine[Any, Any, None]]) -> None:
    """Run it; what clients have left is closed at the end."""

    async def both() -> None:
        old: list[asyncio.DatagramTransport] = []
        try:
            await scenario(old)
        finally:
            for left in old:
                left.abort()

    run(both())


WIDE = 5
"""The id of the extension for transport-wide numbers, which stock clients do not negotiate."""


def test_numbers_and_feedback_go_on_at_another_address() -> None:
    async def scenario(old: list[asyncio.DatagramTransport]) -> None:
        async with room(2) as (creator, fan):
            await creator.publish(audio=False)
            await fan.subscribe(creator)
            await fan.decodes("video")
            numbers = numbers_of(fan.subscribing)
            (slot,) = (slot for slot in fan.peer._seats.slots if slot.track is not None)
            assert slot.track is not None
            slot.transport_cc = WIDE
            slot.track.refresh()
            await until(lambda: len(numbers) > 20, "packets are numbered")
            egress = fan.peer._egress
            assert egress is not None
            assert egress.downlink is not None
            old.append(await moves(fan.subscribing, fan.peer))
            # What was under way to the old address may have come, or not
            seen = len(numbers)
            await until(lambda: len(numbers) > seen + 20, "they are numbered there too")
            assert numbers == sorted(numbers)
            said = rtp.transport_feedback(1, 2, numbers[seen], 0, [(numbers[seen], 0), (numbers[seen] + 1, 4)])[4:]
            heard = egress.downlink.history.feedback(said)
            assert heard is not None
            assert heard.received == 2

    run_and_abort(scenario)


def numbers_of(pc: RTCPeerConnection | None) -> list[int]:
    """The transport-wide numbers of what a client is sent, as it comes."""
    assert pc is not None
    transport = pc.getTransceivers()[0].receiver.transport
    numbers: list[int] = []
    handle: Callable[..., Any] = transport._handle_rtp_data

    async def handled(data: bytes, arrival_time_ms: int) -> None:
        if found := rtp.extension(data, WIDE):
            numbers.append(int.from_bytes(found, "big"))
        await handle(data, arrival_time_ms=arrival_time_ms)

    transport._handle_rtp_data = handled
    return numbers


async def moves(pc: RTCPeerConnection | None, server: Peer) -> asyncio.DatagramTransport:
    """The client's socket is another one, and it says so with a check; the old one, once media follows."""
    connection, pair = ice_of(pc)
    old: asyncio.DatagramTransport = pair.protocol.transport
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: pair.protocol, local_addr=("127.0.0.1", 0)
    )
    request = connection.build_request(pair, nominate=True)
    await pair.protocol.request(request, pair.remote_addr, integrity_key=connection.remote_password.encode())
    ours = transport.get_extra_info("sockname")
    await until(lambda: wire_of(server).address == ours, "media goes there")
    return old


def both_talkers(publisher: Peer, subscriber: Peer) -> tuple[set[int], set[int]]:
    assert publisher._ingress is not None
    assert subscriber._egress is not None
    wires = publisher._ingress.wire, subscriber._egress.wire
    if isinstance(wires[0], NativeWire) and isinstance(wires[1], NativeWire):
        # The engine knows who talked, as long as the connection is the same one.
        return {wires[0].connection}, {wires[1].connection}
    return set(publisher._ingress._talkers), set(subscriber._egress._talkers)


def wire_of(peer: Peer) -> Wire:
    side = peer._ingress or peer._egress
    assert side is not None
    return side.wire


@pytest.mark.parametrize("family", FAMILIES)
def test_both_families_carry_media(family: socket.AddressFamily) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"

    async def scenario() -> None:
        port = Port((host, "127.0.0.2"), native=wanted_engine())
        with mock.patch("aioice.ice.get_host_addresses", return_value=[host]):
            creator, fan = Client("usr_1", port), Client("usr_2", port)
            await creator.publish(audio=False)
            await fan.subscribe(creator)
            await fan.decodes("video")
            assert wire_of(fan.peer).address[0] == host
            await asyncio.gather(creator.close(), fan.close())
        assert port.tables() == (0, 0, 0)
        port.close()

    run(scenario())
