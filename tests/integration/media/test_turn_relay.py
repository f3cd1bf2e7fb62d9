"""Through a real coturn: who may send UDP to the TURN server alone takes part in a call all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from aioice import turn as turn_client
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from models import turn
from models.config import Settings, load_settings
from ops.turn import TurnServer
from tests.integration.media.media_clients import room
from tests.integration.media.test_forwarding import run

SECRET = "known-to-us-and-to-the-turn-server"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnServer]:
    made = TurnServer(Path(tmp_path_factory.mktemp("turn")), SECRET)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def settings(server: TurnServer) -> Settings:
    return load_settings(
        {"SECRET_KEY": "k" * 32, "TURN_URLS": server.url, "TURN_SECRET": SECRET, "MEDIA_ADDRESSES": "127.0.0.1"}
    )


def relayed(settings: Settings, user_id: str) -> RTCPeerConnection:
    """A client whose network lets nothing else out."""
    (ours,) = turn.ice_servers(settings, user_id, time.time())
    told = RTCIceServer(urls=ours.urls, username=ours.username, credential=ours.credential)
    configuration = RTCConfiguration(iceServers=[told], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
    return RTCPeerConnection(configuration)


def pair_of(pc: RTCPeerConnection) -> Any:
    return pc.getTransceivers()[0].receiver.transport.transport._connection._nominated[1]


def test_media_flows_through_the_turn_server_and_nowhere_else(server: TurnServer) -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            fan.subscribing = relayed(settings(server), "usr_1")
            fan.subscribing.on("track", fan._read)
            await creator.publish(connection=relayed(settings(server), "usr_0"))
            await fan.subscribe(creator)
            await fan.decodes("video", 20)
            await fan.decodes("audio", 20)
            for pc in (creator.publishing, fan.subscribing):
                assert pc is not None
                assert pair_of(pc).local_candidate.type == "relay"
            ingress, egress = creator.peer._ingress, fan.peer._egress
            assert ingress is not None
            assert egress is not None
            relays = range(server.port + 1, server.port + 30)
            assert ingress.wire.address[1] in relays, "what we see is the relay's address"
            assert egress.wire.address[1] in relays

    run(scenario())


@pytest.mark.parametrize("fault", ["wrong", "expired", "somebody else's"])
def test_credentials_that_are_wrong_or_expired_relay_nothing(server: TurnServer, fault: str) -> None:
    now = time.time()
    (ours,) = turn.ice_servers(settings(server), "usr_1", now)
    name, password = ours.username or "", ours.credential or ""
    if fault == "wrong":
        password = turn.credential("a guess", name)
    elif fault == "expired":
        name = f"{int(now) - 60}:usr_1"
        password = turn.credential(SECRET, name)
    else:
        name = f"{int(now) + 7 * 86_400}:usr_1"

    async def allocate(password: str, name: str) -> None:
        transport, _ = await turn_client.create_turn_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", server.port), username=name, password=password
        )
        transport.close()

    async def scenario() -> None:
        await allocate(ours.credential or "", ours.username or "")
        with pytest.raises(stun.TransactionFailed, match="401"):
            await allocate(password, name)

    run(scenario())
