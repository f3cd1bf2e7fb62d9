"""Through a real coturn: who may send UDP to the TURN server alone takes part in a call all the same."""

from __future__ import annotations

import asyncio
import socket
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
from ops.house import ROOT
from ops.ports import free_port
from ops.turn import RELAYS, TurnServer
from tests.integration.media.media_clients import FAMILIES, room
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


class Documented(TurnServer):
    """Set up as docs/media.md says, on loopback of both families, with free ports and without a certificate."""

    def settings(self) -> list[str]:
        text = (ROOT / "docs/media.md").read_text()
        example = text.partition("# /etc/turnserver.conf\n")[2].partition("```")[0]
        example = example.replace("<TURN_SECRET>", SECRET)
        ours = ("listening-port", "tls-listening-port", "cert", "pkey")
        lines = [line for line in example.splitlines() if line.partition("=")[0] not in ours]
        assert len(lines) == len(example.splitlines()) - len(ours)
        more = [
            f"listening-port={self.port}", f"tls-listening-port={free_port((0, 1))}", "listening-ip=127.0.0.1",
            "relay-ip=127.0.0.1", f"min-port={self.port + 1}", f"max-port={self.port + RELAYS - 1}",
            f"userdb={self.directory / 'turndb'}", f"pidfile={self.directory / 'turnserver.pid'}",
            "log-file=stdout",
        ]  # fmt: skip
        if socket.AF_INET6 in FAMILIES:
            # Whoever comes over IPv6 is given an address of that family, though it does not ask for one.
            more += ["listening-ip=::1", "relay-ip=::1", "allocation-default-address-family=keep"]
        return lines + more


@pytest.mark.parametrize("family", FAMILIES)
def test_the_documented_server_relays_to_the_nodes_alone(family: socket.AddressFamily, tmp_path: Path) -> None:
    server = Documented(tmp_path / "turn", SECRET)
    (ours,) = turn.ice_servers(settings(server), "usr_1", time.time())
    here, node, others = (
        ("::1", "2001:db8::7", ("2001:db8::8", "::ffff:203.0.113.8", "fd00::1", "fe80::1"))
        if family == socket.AF_INET6
        else ("127.0.0.1", "203.0.113.7", ("203.0.113.8", "10.0.0.1", "169.254.169.254"))
    )

    async def scenario() -> None:
        transport, _ = await turn_client.create_turn_endpoint(
            asyncio.DatagramProtocol, (here, server.port), username=ours.username, password=ours.credential
        )
        client = transport._TurnTransport__inner_protocol
        try:
            await client.channel_bind(0x4000, (node, 50_000))
            for number, other in enumerate(others, 0x4001):
                with pytest.raises(stun.TransactionFailed, match="403"):
                    await client.channel_bind(number, (other, 50_000))
        finally:
            await client.delete()

    server.start()
    try:
        run(scenario())
    finally:
        server.stop()


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
