"""What is particular to a node whose packets the native engine forwards: nothing waits for Python, gates hold
without it, and what the engine did is in the books."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from msgspec.structs import replace
from pylibsrtp import Policy

from media import rtp
from media.__main__ import serve
from media.aiortc_seam import Path, context_in_memory, lengths, path_of, srtp, workspace
from media.aiortc_seam.ice import Agent
from media.exposition import NodeFigures
from media.fastpath import engine
from media.fastpath.engine import PASSED, Codec, Engine, EngineError, Kind
from media.native import Routes
from media.native_forwarding import NativeIngress, NativeWire
from media.port import Port
from media.sdp_media import RID_URI
from tests.integration.media.media_clients import LOOPBACK, Client, Picture, room, the_port, until
from tests.integration.media.seats import media_settings
from tests.integration.media.test_fastpath import DELTA, KEY, VIDEO, VIDEO_TYPE, Node, session
from tests.integration.media.test_forwarding import run
from tests.integration.media.test_hostile import nominate

CHILD = """
import os, select, signal, socket, sys, time
from pylibsrtp import Policy, Session
signal.alarm(240)  # whoever waits for us cannot end us
node, publisher, subscriber, report, more, least = (int(word) for word in sys.argv[1:])
def session(key, kind):
    policy = Policy(key=bytes([key]) * 28, ssrc_type=kind, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    return Session(policy=policy)
seal = session(2, Policy.SSRC_ANY_OUTBOUND)
ours, theirs = socket.socket(fileno=publisher), socket.socket(fileno=subscriber)
head = bytes.fromhex("%s")
def send(sequence):
    packet = head[:2] + sequence.to_bytes(2, "big") + head[4:]
    ours.sendto(seal.protect(packet), ("127.0.0.1", node))
def comes(seconds):
    return bool(select.select([theirs], [], [], seconds)[0] and theirs.recv(2048))
sequence = 1
send(sequence)
came = comes(120)
os.write(report, came.to_bytes(4, "big"))
until_us = int(input())
while more:
    sequence += 1
    more -= time.monotonic_ns() // 1000 > until_us
    send(sequence)
    came += comes(0.01)
while came < least and comes(120):
    came += 1
os.write(report, came.to_bytes(4, "big"))
"""


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIA_ENGINE", "native")  # also where all others are to use the Python path


def held_by_python(
    node: Node, publisher: int, subscriber: int, more: int, least: int = 0, until: Callable[[], int] = lambda: 0
) -> int:
    """Another process has one packet pass, then sends others until the microsecond that ``until`` says after that
    first one, and so many more, and counts those that come, waiting for the ``least``: meanwhile no line of Python
    runs here."""
    head = bytes([0x80, VIDEO_TYPE]) + bytes(6) + VIDEO.to_bytes(4, "big") + KEY
    ours, theirs = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD % head.hex()), str(node.socket.getsockname()[1]),
         str(publisher), str(subscriber), str(theirs), str(more), str(least)],
        stdin=subprocess.PIPE, pass_fds=[publisher, subscriber, theirs],
    )  # fmt: skip
    os.close(theirs)
    answer = ctypes.create_string_buffer(4)
    assert child.stdin is not None
    try:
        assert int.from_bytes(os.read(ours, 4), "big") == 1
        child.stdin.write(b"%d\n" % until())
        child.stdin.close()
        # Of a PyDLL's calls none lets the interpreter's lock go: not even the collector could run meanwhile.
        assert ctypes.PyDLL(None).read(ours, answer, 4) == 4
    finally:
        os.close(ours)
        assert child.wait(250) == 0
    return int.from_bytes(answer.raw, "big")


@pytest.fixture
def node() -> Iterator[Node]:
    with closing(Node()) as made:
        yield made


def test_packets_pass_while_python_holds_everything_up(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    came = held_by_python(node, publisher.socket.fileno(), subscriber.socket.fileno(), 50, least=51)
    assert came == 51
    assert node.counters(source) == (51, 0, 0)


def test_a_budget_ends_while_python_holds_everything_up(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    end_us = 0

    def end_soon() -> int:
        nonlocal end_us
        end_us = time.monotonic_ns() // 1000 + 1_500_000
        node.engine.gate(source, end_us)
        return end_us

    # Given a budget that ends in the middle of what is to come
    came = held_by_python(node, publisher.socket.fileno(), subscriber.socket.fileno(), 20, until=end_soon)
    # Then what came before its end was sent, and nothing after it
    packets, _, gated = node.counters(source)
    told = node.records(Kind.PACKET)
    assert packets == len(told)
    assert gated >= 20
    assert {(each.at_us < end_us) == bool(each.flags & PASSED) for each in told} == {True}
    assert 1 <= came <= node.engine.lane_counters(lane)["packets"] == packets - gated


def test_a_call_is_forwarded_by_the_engine_and_booked_here() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            assert the_port().native is not None
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video", 20)
            assert creator.peer._ingress is not None
            wire = creator.peer._ingress.wire
            assert isinstance(wire, NativeWire)
            (slot,) = [each for each in fan.peer._seats.slots if each.kind == "video"]
            assert slot.live
            assert slot.layer is not None
            assert the_port().drain(10_000)
            sent = wire.native.engine.lane_counters(slot.lane_id)
            assert (sent["packets"], sent["sequence_offset"]) == (slot.sent()[0], slot.sequence_offset)
            # Then after its end nothing of it is left in the engine
            fan.peer.stop_forwarding()
            assert slot.lane_id == 0
            creator.peer.stop_forwarding()
            assert (wire.native.connections, wire.native.sources, wire.native.lanes) == ({}, {}, {})

    run(scenario())


class Layers:
    """A camera in two sizes, as a browser sends it: each says by its RID what it is."""

    def __init__(self, path: Path, types: tuple[int, int]) -> None:
        self._path, (self._type, self._rid_id) = path, types
        self._buffer, self._view = workspace(2048)
        self._length = lengths()
        self._sequence = 100
        self.socket = path.socket

    def send(self) -> None:
        """A packet of each; every third begins a picture that needs no other."""
        self._sequence += 1
        payload = DELTA if self._sequence % 3 else KEY
        for number, rid in enumerate(b"lh"):
            head = rtp.RTP_HEADER.pack(
                0x90, 0x80 | self._type, self._sequence, 3_000 * self._sequence, 7_000 + number
            )
            packet = head + bytes((0xBE, 0xDE, 0, 1, self._rid_id << 4, rid, 0, 0)) + payload
            self._view[: len(packet)] = packet
            self._length[0] = len(packet)
            assert srtp.protect(self._path.protect_context, self._buffer, self._length) == 0
            self.socket.sendto(self._view[: self._length[0]], self._path.address)

    async def send_until(self, condition: Callable[[], bool], what: str) -> None:
        def done() -> bool:
            self.send()
            return condition()

        await until(done, what)


async def publish_layers(creator: Client) -> Layers:
    """Offer a camera in two layers; what its encoder sends beside them says of no layer and is nobody's."""
    pc = creator.publishing = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    camera = pc.addTransceiver(Picture(), direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    camera.setCodecPreferences([codec for codec in known if codec.name == "VP8"])
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    layers = f"a=extmap:12 {RID_URI}\r\na=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n"
    answer = await creator.peer.accept_publish(offer.replace("a=mid:0\r\n", "a=mid:0\r\n" + layers))
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await until(
        lambda: "publish" in creator.connected and pc.connectionState == "connected", "it stands for both sides"
    )
    payload_type = int(offer.split("m=video ")[1].split()[2])
    return Layers(path_of(pc), (payload_type, 12))


def test_layers_are_placed_by_their_names_and_move_with_their_publisher() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            native = the_port().native
            assert native is not None
            camera = await publish_layers(creator)
            await fan.subscribe(creator)
            (track,) = creator.peer.published.values()
            low, high = track.layers
            (slot,) = track.slots
            sources = {low.source_id, high.source_id}
            assert len(sources - {0}) == 2
            # The larger one, as soon as both have been placed
            await camera.send_until(lambda: slot.live and slot.layer is high, "the larger layer is shown")
            assert (low.ssrc, high.ssrc) == (7_000, 7_001)
            # The smaller one, once it is wished
            fan.peer.prefer(slot, "low")
            await camera.send_until(lambda: slot.layer is low, "the smaller layer is shown")
            assert the_port().drain(10_000)
            sent = native.engine.lane_counters(slot.lane_id)
            assert (sent["packets"], sent["source"]) == (slot.sent()[0], low.source_id)
            # What is too much for its line stops at once, and comes back with a key frame when there is room again
            slot.stop(0)
            sent = native.engine.lane_counters(slot.lane_id)
            for _ in range(6):
                camera.send()
            assert the_port().drain(10_000)
            assert (slot.live, sent["source"]) == (False, 0)
            assert native.engine.lane_counters(slot.lane_id)["packets"] == sent["packets"]
            track.choose(0)
            await camera.send_until(lambda: slot.live and slot.layer is low, "it is shown again")
            # What is told long after it came is said to be late, to whoever keeps a clock by it
            late: list[int] = []
            track.on_late = lambda now_ms, late_ms: late.append(late_ms)
            hears = native.sources[low.source_id]
            native.sources[low.source_id] = lambda record: hears(replace(record, at_us=record.at_us - 300_000))
            await camera.send_until(lambda: bool(late), "it is late")
            assert min(late) >= 300
            native.sources[low.source_id] = hears
            # When its publisher moves, then it goes on from there
            ingress = creator.peer._ingress
            assert isinstance(ingress, NativeIngress)
            assert the_port().drain(10_000)
            assert ingress.holds(low, low.highest - 255)
            assert not ingress.holds(low, low.highest - 256)
            assert ingress.wire.history is None, "nothing is sent there that would be numbered"
            connection = ingress.wire.connection  # type: ignore[attr-defined]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
                elsewhere.bind(("127.0.0.1", 0))
                elsewhere.setblocking(False)
                assert await nominate(creator, elsewhere, answering=True)
                await until(lambda: ingress.wire.address == elsewhere.getsockname(), "we follow")
                camera.socket.close()
                camera.socket = elsewhere
                before = slot.sent()[0]
                await camera.send_until(lambda: slot.sent()[0] > before + 10, "it goes on")
                assert native.connections[connection] is ingress.wire
                assert {low.source_id, high.source_id} == sources
            # When the connection is lost, then its places are free, before anything else is told of it
            ingress.gone()
            assert [native.engine.source_counters(each) for each in sources] == [{}, {}]
            assert (native.sources, low.source_id, high.source_id) == ({}, 0, 0)
            creator.peer._publish_state(creator.peer._publish, "lost")
            assert connection not in native.connections
            assert native.engine.connection_counters(connection) == {}

    run(scenario())


def test_a_gate_that_is_shut_lets_nothing_pass_from_that_line_on() -> None:
    async def scenario() -> None:
        async with room(2) as (creator, fan):
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("video", 10)
            (video,) = [track for track in creator.peer.published.values() if track.kind == "video"]
            (slot,) = video.slots
            native = the_port().native
            assert native is not None
            video.gate, video.gate_until = (lambda now_ms: False), (lambda: 0)
            video.sync_gate()
            sent = native.engine.lane_counters(slot.lane_id)["packets"]
            gated = video.gated
            await until(lambda: video.gated > gated + 20, "the publisher goes on sending")
            assert native.engine.lane_counters(slot.lane_id)["packets"] == sent
            # When it opens, then a key frame that was held back is the first that is seen
            video.gate = video.gate_until = None
            video.sync_gate()
            await fan.decodes("video", 10)

    run(scenario())


def flood(port: Port) -> None:
    """As strangers do: more than the engine keeps of them, some in the kernel's hands at a time."""
    assert port.native is not None
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
        for _ in range(75):
            for _ in range(20):
                stranger.sendto(b"\x16" + bytes(1_999), ("127.0.0.1", port.number))
            port.native.engine.drain(100)


def test_however_often_it_is_woken_it_takes_its_turn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        with closing(Port(LOOPBACK, native=True)) as port:
            native = port.native
            assert native is not None
            flood(port)
            turns: list[int] = []
            handle = native._handle
            monkeypatch.setattr(native, "_handle", lambda: turns.append(handle()) or turns[-1])
            for _ in range(5):
                native._woken()
            assert len(turns) == 1
            for count in range(2, 8):
                await asyncio.sleep(0)
                assert len(turns) == count
            # And goes on, whoever wakes it then, until nothing is left
            await until(lambda: turns[-1] == 0, "all was told")
            assert sum(turns) > 1_000

    run(scenario())


def test_what_finds_no_room_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with closing(Port(LOOPBACK, native=True)) as port:
            assert port.native is not None
            assert port.untold == 0
            for _ in range(2):
                flood(port)
            while not port.native.drain(10_000):
                pass
            assert port.untold > 0
            said = [record for record in caplog.records if "engine_records_dropped" in record.getMessage()]
            assert len(said) == 1
            figures = NodeFigures("media-1", list, lambda: port.untold).text().decode()
            assert f'greenroom_media_engine_untold_records_total{{node="media-1"}} {port.untold}.0' in figures

    run(scenario())


def test_that_there_are_too_many_addresses_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with closing(Port(LOOPBACK, native=True)) as port:
            assert port.native is not None
            (routes,) = port.native.routes
            client = object()
            routes.connected(client, port.native.engine.open())
            for number in range(1, 50):
                routes[("127.0.0.9", number)] = client
            said = [record for record in caplog.records if "engine_full" in record.getMessage()]
            assert len(said) == 1

    run(scenario())


def test_a_full_engine_is_said_once_and_costs_nothing_but_what_found_no_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise EngineError("a table is full")

    async def scenario() -> None:
        async with room(3) as (creator, fan, late):
            # When there is no place for what a camera brings, then nothing else suffers
            source = Engine.source
            monkeypatch.setattr(
                Engine, "source", lambda self, *rest: full() if Codec.VP8 in rest else source(self, *rest)
            )
            await creator.publish()
            await fan.subscribe(creator)
            await fan.decodes("audio")
            assert fan.frames["video"] == 0
            # When there is none for a connection, then it is lost, as its client is told
            monkeypatch.setattr(Engine, "open", full)
            publishing = asyncio.create_task(late.publish())
            await until(lambda: late.lost == ["publish"], "it is lost")
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing

    with caplog.at_level(logging.WARNING, "greenroom"):
        run(scenario())
    said = [record.getMessage() for record in caplog.records if "engine_full" in record.getMessage()]
    assert [of for line in said for of in ("sources", "connections") if of in line] == ["sources", "connections"]


def test_a_node_that_cannot_start_leaves_no_engine_behind() -> None:
    async def scenario() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            settings = media_settings(
                MEDIA_ENGINE="native", MEDIA_HOST="127.0.0.1", MEDIA_PORT=str(taken.getsockname()[1]),
                MEDIA_UDP_PORT="0",
            )  # fmt: skip
            before = set(engine._running)
            with pytest.raises(OSError):
                await serve(settings, asyncio.Event())
            assert engine._running == before

    run(scenario())


def test_an_address_is_whose_it_was_until_it_is_proven_or_free() -> None:
    async def scenario() -> None:
        port = Port(LOOPBACK, native=True)
        with closing(port), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as caller:
            caller.bind(("127.0.0.1", 0))
            where = caller.getsockname()
            native, routes = port.native, port.gates[0].routes
            assert native is not None
            assert isinstance(routes, Routes)
            agents = [Agent(port, lambda pair: None) for _ in range(2)]
            contexts = [session(1, Policy.SSRC_ANY_OUTBOUND), session(2, Policy.SSRC_ANY_INBOUND)]
            opened = [native.engine.open() for _ in agents]

            def heard() -> list[int]:
                """Who gets what comes from there: it is no SRTP, and counted as that."""
                caller.sendto(b"\x80" + bytes(40), ("127.0.0.1", port.number))
                assert native.drain(100)
                return [native.engine.connection_counters(each)["unopened"] for each in opened]

            # What was known before there was a connection is known to it
            routes.setdefault(where, agents[0])
            for agent, connection in zip(agents, opened, strict=True):
                native.engine.secure(connection, *(context_in_memory(each._srtp[0]) for each in contexts))
                routes.connected(agent, connection)
            assert heard() == [1, 0]
            # A check that nobody has proven takes nothing; one that is proven does
            routes.setdefault(where, agents[1])
            assert heard() == [2, 0]
            routes[where] = agents[1]
            assert heard() == [2, 1]
            del routes[where]
            assert heard() == [2, 1]
            for agent in agents:
                await agent.close()

    run(scenario())
