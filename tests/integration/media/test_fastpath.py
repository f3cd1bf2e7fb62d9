"""The native engine over real sockets and real SRTP: what it forwards, refuses, and never does twice."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import itertools
import re
import select
import shutil
import signal
import socket
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi as srtp_ffi

from media import codecs, rtp, wire
from media.fastpath import build, engine, sources
from media.fastpath.engine import (
    FOREVER,
    INJECTED,
    PASSED,
    REPAIR,
    REPEATED,
    Address,
    Codec,
    Engine,
    EngineError,
    Entry,
    Kind,
    Record,
)
from media.forwarding import Bindings, Extensions, Ingress, Source
from media.layers import Kept
from media.send_history import SendHistory
from media.tracks import PublishedTrack, Slot
from tests.integration.media.media_clients import FAMILIES

PATIENCE_SECONDS = 120
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
KEY, DELTA = b"\x90\x80\x80\x01\x10" + b"k" * 20, b"\x90\x80\x80\x01\x11" + b"d" * 20
"""VP8 with a 15 bit picture id: a key frame and one that is none."""
VIDEO, SOUND, VIDEO_TYPE, SOUND_TYPE = 1001, 1002, 96, 111


def session(key: int, policy_type: int) -> Session:
    policy = Policy(
        key=bytes([key % 256]) * 28, ssrc_type=policy_type, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    )
    policy.window_size, policy.allow_repeat_tx = 1024, True
    return Session(policy=policy)


class Sent(NamedTuple):
    """A packet as a client sees it."""

    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    marker: bool
    payload: bytes


class Client:
    """A socket with SRTP, and the engine's connection behind it."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        family = node.socket.family
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK[family], 0))
        self.address = Address(LOOPBACK[family], self.socket.getsockname()[1])
        self._protect = session(2 * number, Policy.SSRC_ANY_OUTBOUND)
        self._unprotect = session(2 * number + 1, Policy.SSRC_ANY_INBOUND)
        self.contexts = (
            session(2 * number + 1, Policy.SSRC_ANY_OUTBOUND),
            session(2 * number, Policy.SSRC_ANY_INBOUND),
        )
        self.connection = node.engine.open()
        assert node.engine.nominate(self.connection, self.address)
        protect, unprotect = (int(srtp_ffi.cast("uintptr_t", each._srtp[0])) for each in self.contexts)
        assert node.engine.secure(self.connection, protect, unprotect)

    def send(
        self, sequence: int, timestamp: int, payload: bytes = DELTA, ssrc: int = VIDEO, marker: int = 0
    ) -> None:
        packet = rtp.RTP_HEADER.pack(
            0x80, marker << 7 | VIDEO_TYPE, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc
        )
        self.send_raw(self._protect.protect(packet + payload))

    def send_rtcp(self, compound: bytes) -> None:
        self.send_raw(self._protect.protect_rtcp(compound))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendto(data, self.node.socket.getsockname()[:2])

    def datagram(self) -> bytes:
        assert select.select([self.socket], [], [], PATIENCE_SECONDS)[0], "nothing came"
        return self.socket.recv(2048)

    def receive(self) -> Sent:
        packet = self._unprotect.unprotect(self.datagram())
        first, second, sequence, timestamp, ssrc = rtp.RTP_HEADER.unpack_from(packet)
        assert first == 0x80
        return Sent(sequence, timestamp, ssrc, second & 0x7F, bool(second & 0x80), packet[12:])

    def waiting(self) -> list[Sent]:
        """What has come by now; the engine is done with all that was sent."""
        self.node.settle()
        came = []
        while select.select([self.socket], [], [], 0)[0]:
            came.append(self.receive())
        return came

    def sealed(self) -> list[bytes]:
        """The same, as it is on the wire: equal only if number and content are."""
        self.node.settle()
        came = []
        while select.select([self.socket], [], [], 0)[0]:
            came.append(self.datagram())
        return came

    def opened(self) -> list[bytes]:
        """The same, opened."""
        return [self._unprotect.unprotect(each) for each in self.sealed()]

    def receive_rtcp(self) -> bytes:
        return bytes(self._unprotect.unprotect_rtcp(self.datagram()))


class Node:
    """The engine, its socket and what it said."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK[family], 0))
        self.socket.setblocking(False)
        self.engine = Engine([self.socket])
        self.said: list[Record] = []
        self._clients: list[Client] = []

    def client(self) -> Client:
        self._clients.append(Client(self, len(self._clients) + 1))
        return self._clients[-1]

    def close(self) -> None:
        self.engine.close()
        for each in (self.socket, *(client.socket for client in self._clients)):
            each.close()

    def settle(self) -> None:
        """Everything that was sent is in the kernel of this machine at once: handle it, and hear what is said."""
        assert self.engine.drain(10_000)
        while fresh := list(self.engine.take()):
            self.said += fresh

    def records(self, kind: Kind) -> list[Record]:
        self.settle()
        return [record for record in self.said if record.kind == kind]

    def await_records(self, kind: Kind, count: int = 1) -> list[Record]:
        """Said by the engine's own thread, with nobody draining."""
        until = time.monotonic() + PATIENCE_SECONDS
        while len(found := [record for record in self.said if record.kind == kind]) < count:
            assert time.monotonic() < until, f"only {found}"
            select.select([self.engine.wake], [], [], 1)
            self.said += list(self.engine.take())
        return found

    def source(self, publisher: Client, ssrc: int, codec: Codec = Codec.VP8, clock_rate: int = 90_000) -> int:
        made = self.engine.source(publisher.connection, codec, clock_rate, FOREVER)
        assert self.engine.name(made, ssrc)
        return made

    def counters(self, source: int) -> tuple[int, ...]:
        self.settle()
        counters = self.engine.source_counters(source)
        return counters["packets"], counters["repeated"], counters["gated"]

    def pair(self, codec: Codec = Codec.VP8) -> tuple[Client, int, Client, int]:
        """A publisher with a source, and a subscriber with a lane that waits for it."""
        publisher, subscriber = self.client(), self.client()
        source = self.source(publisher, VIDEO, codec, 90_000)
        lane = self.engine.lane(subscriber.connection, 5001, 6001)
        assert self.engine.carry(lane, source, 100, 101)
        return publisher, source, subscriber, lane


@pytest.fixture
def node() -> Iterator[Node]:
    with contextlib.closing(Node()) as made:
        yield made


# --- forwarding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_goes_by_itself_from_a_publisher_to_each_subscriber(family: socket.AddressFamily) -> None:
    with contextlib.closing(Node(family)) as node:
        publisher, source, first, _ = node.pair()
        second = node.client()
        node.engine.carry(node.engine.lane(second.connection, 5002), source, 102)
        publisher.send(500, 9_000, KEY, marker=1)
        for subscriber, ssrc, payload_type in ((first, 5001, 100), (second, 5002, 102)):
            packet = subscriber.receive()
            assert packet == Sent(1, 9_000, ssrc, payload_type, True, KEY)


def test_a_picture_begins_with_a_key_frame_and_sound_at_once(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    sound = node.source(publisher, SOUND, Codec.OPUS, 48_000)
    node.engine.carry(node.engine.lane(subscriber.connection, 5002), sound, SOUND_TYPE)
    publisher.send(1, 3_000)
    publisher.send(1, 960, b"sound", SOUND)
    publisher.send(2, 6_000, KEY)
    publisher.send(3, 9_000)
    came = [(packet.ssrc, packet.payload) for packet in subscriber.waiting()]
    assert came == [(5002, b"sound"), (5001, KEY), (5001, DELTA)]


def test_runs_of_equal_and_unequal_sizes_all_arrive(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    sizes = [1200] * 60 + [7, 1200, 1200, 300, 300, 1, 1300, 1200]
    publisher.send(0, 0, KEY)
    for number, size in enumerate(sizes):
        publisher.send(number + 1, 3_000, DELTA + bytes(size))
    came = subscriber.waiting()
    assert [len(packet.payload) - len(DELTA) for packet in came[1:]] == sizes
    assert [packet.sequence for packet in came] == list(range(1, len(sizes) + 2))


def test_what_came_before_is_not_sent_twice_and_what_came_late_is(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    for sequence in (65_534, 0, 65_535, 0, 1):
        publisher.send(
            sequence, 3_000 if sequence else 6_000, KEY if sequence == 65_534 else DELTA + bytes([sequence & 0xFF])
        )
    assert [packet.sequence for packet in subscriber.waiting()] == [1, 3, 2, 4]
    assert node.counters(source) == (4, 0, 0)


def test_what_came_before_the_beginning_is_not_sent_after_it(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    for sequence, payload in ((50, DELTA), (52, KEY), (51, DELTA)):
        publisher.send(sequence, 3_000 * sequence, payload)
    assert [packet.payload for packet in subscriber.waiting()] == [KEY]


def test_what_the_publisher_sends_again_fills_the_gap(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    node.engine.name(source, 2001, repairs=True)
    publisher.send(10, 3_000, KEY)
    publisher.send(12, 3_000)
    publisher.send(77, 3_000, (11).to_bytes(2, "big") + DELTA + b"again", 2001)
    publisher.send(78, 3_000, (11).to_bytes(2, "big") + DELTA + b"another", 2001)
    publisher.send(79, 3_000, b"\x00\x0c", 2001)
    assert [(packet.sequence, packet.payload[25:]) for packet in subscriber.waiting()] == [
        (1, b""),
        (3, b""),
        (2, b"again"),
    ]
    told = [(each.flags, each.sequence & 0xFFFF) for each in node.records(Kind.PACKET)]
    assert told == [
        (PASSED, 10), (PASSED, 12), (PASSED | REPAIR, 11), (PASSED | REPAIR | REPEATED, 11), (REPAIR, 0xFFFF),
    ]  # fmt: skip
    assert node.counters(source) == (3, 1, 0)


def test_a_subscriber_is_sent_again_what_it_names_on_its_retransmission_stream(node: Node) -> None:
    publisher, _, subscriber, lane = node.pair()
    publisher.send(70, 3_000, KEY)
    publisher.send(71, 6_000, DELTA + b"lost")
    first, lost = subscriber.waiting()
    assert node.engine.resend(lane, [lost.sequence, 999, first.sequence - 1]) == 1
    again = subscriber.receive()
    assert (again.ssrc, again.payload_type, again.timestamp) == (6001, 101, 6_000)
    assert again.payload == lost.sequence.to_bytes(2, "big") + lost.payload
    # One that has no retransmission stream gets the same packet, under the same number
    plain = node.client()
    bare = node.engine.lane(plain.connection, 5003)
    node.engine.carry(bare, node.source(publisher, 1003), 100)
    publisher.send(5, 3_000, KEY, 1003)
    [only] = plain.waiting()
    assert node.engine.resend(bare, [only.sequence]) == 1


def test_feedback_goes_both_ways(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    report = rtp.receiver_report(1)
    subscriber.send_rtcp(report)
    [heard] = node.await_records(Kind.RTCP)
    assert (heard.id, heard.data) == (subscriber.connection, report)
    assert node.engine.send_rtcp(publisher.connection, rtp.picture_loss(1, VIDEO))
    assert publisher.receive_rtcp() == rtp.picture_loss(1, VIDEO)


# --- what may pass ------------------------------------------------------------------------------------


def test_each_packet_is_told_after_it_was_forwarded_as_it_came(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    header = rtp.RTP_HEADER.pack(0x90, VIDEO_TYPE, 3, 6_000, VIDEO) + b"\xbe\xde\x00\x01\x31\x00\x07\x00"
    before_us = time.monotonic_ns() // 1000
    publisher.send_raw(publisher._protect.protect(header + KEY))
    [told] = node.await_records(Kind.PACKET)
    assert (told.id, told.sequence & 0xFFFF, told.flags, told.data) == (source, 3, PASSED, header + KEY)
    assert before_us <= told.at_us <= time.monotonic_ns() // 1000
    assert subscriber.receive().payload == KEY


def test_a_lane_says_which_numbers_it_has_before_the_first_packet(node: Node) -> None:
    publisher, source, _, lane = node.pair()
    node.engine.carry(lane, source, 100, ticket=7)
    publisher.send(500, 9_000, DELTA)
    publisher.send(501, 12_000, KEY)
    node.settle()
    kinds = [each.kind for each in node.said]
    assert kinds == [Kind.PACKET, Kind.ENTERED, Kind.PACKET]
    entered, packet = node.said[1:]
    assert (entered.id, entered.sequence) == (lane, packet.sequence)
    entry = entered.entry
    assert (entry.source, entry.ticket, entry.timestamp_offset) == (source, 7, 0)
    assert packet.sequence + entry.sequence_offset == 1


def test_a_budget_ends_with_nobody_looking(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    node.engine.gate(source, end_us := time.monotonic_ns() // 1000 + 200_000)
    came, sequence = 0, 0
    publisher.send(0, 0, KEY)
    while not node.counters(source)[2]:
        sequence += 1
        publisher.send(sequence, 3_000 * sequence)
        came += len(subscriber.waiting())
    packets, _, gated = node.counters(source)
    assert came == packets - gated
    # Each packet says by itself whether it was in time
    assert {(each.at_us < end_us) == bool(each.flags & PASSED) for each in node.records(Kind.PACKET)} == {True}
    # From here on nothing, not even a key frame
    publisher.send(sequence + 1, 3_000 * sequence, KEY)
    assert subscriber.waiting() == []


def test_a_budget_that_is_renewed_goes_on_with_a_key_frame_and_without_a_hole(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    publisher.send(0, 0, KEY)
    assert len(subscriber.waiting()) == 1
    end_us = time.monotonic_ns() // 1000 + 1_000
    node.engine.gate(source, end_us)
    while time.monotonic_ns() // 1000 <= end_us:
        pass
    # What is not paid for is not sent again either
    assert node.engine.resend(lane, [1]) == 0
    publisher.send(1, 3_000)
    node.settle()
    node.engine.gate(source, FOREVER)
    publisher.send(2, 6_000)
    publisher.send(3, 9_000, KEY)
    assert [(packet.sequence, packet.payload[4:]) for packet in subscriber.waiting()] == [(2, KEY[4:])]


def test_time_goes_on_while_nothing_passes(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    publisher.send(0, 1_000_000, KEY)
    [before] = subscriber.waiting()
    node.engine.gate(source, 0)
    began_us = time.monotonic_ns() // 1000
    while (passed_us := time.monotonic_ns() // 1000 - began_us) < 20_000:
        pass
    node.engine.gate(source, FOREVER)
    # The publisher's own clock said otherwise: it was another encoder's
    publisher.send(1, 5, KEY)
    [after] = subscriber.waiting()
    assert after.timestamp - before.timestamp >= passed_us // 1000 * 90


def test_what_was_held_back_can_be_sent_once_it_may(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    node.engine.gate(source, 0)
    for sequence, payload in enumerate((DELTA, KEY, DELTA, DELTA)):
        publisher.send(sequence, 3_000 * sequence, payload)
    assert subscriber.waiting() == []
    # When the key frame is judged good, it is the first that is seen, and nothing is missing after it
    key = node.records(Kind.PACKET)[1]
    assert not key.flags & PASSED
    assert node.engine.gate(source, FOREVER, key.sequence) == key.sequence + 2
    # And once only, whoever asks
    node.engine.gate(source, FOREVER, key.sequence)
    publisher.send(4, 12_000)
    assert [packet.payload for packet in subscriber.waiting()] == [KEY, DELTA, DELTA, DELTA]


def test_after_a_pause_a_lane_goes_on_without_a_hole(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    publisher.send(10, 3_000, KEY)
    node.settle()
    node.engine.gate(source, 0)
    publisher.send(11, 6_000)
    node.settle()
    node.engine.gate(source, FOREVER)
    publisher.send(12, 9_000)
    publisher.send(13, 12_000, KEY)
    came = subscriber.waiting()
    assert [packet.sequence for packet in came] == [1, 2]
    assert came[1].timestamp > came[0].timestamp
    assert node.engine.resend(lane, [1]) == 0, "what was sent before the pause is another story"


def test_padding_ends_with_the_budget_too(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    publisher.send(0, 0, KEY)
    assert len(subscriber.waiting()) == 1
    assert node.engine.pad(lane)
    assert len(subscriber.sealed()) == 1
    end_us = time.monotonic_ns() // 1000 + 1_000
    node.engine.gate(source, end_us)
    while time.monotonic_ns() // 1000 <= end_us:
        pass
    # Nothing came since, so nobody has told the lane: the clock alone says no
    assert node.engine.lane_counters(lane)["source"] == source
    assert not node.engine.pad(lane)
    assert subscriber.sealed() == []


def test_a_connections_packets_are_numbered_where_they_may_be_and_feedback_knows_the_numbers(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    other = node.client()
    node.engine.carry(node.engine.lane(other.connection, 5002, 6002), source, 100, 101, extension=3)
    node.engine.number(subscriber.connection)
    node.engine.carry(lane, source, 100, 101, extension=3)
    publisher.send(0, 0, KEY)
    publisher.send(1, 3_000)
    node.settle()
    assert node.engine.pad(lane)
    sent = subscriber.opened()
    assert [rtp.extension(packet, 3) for packet in sent] == [b"\x00\x00", b"\x00\x01", b"\x00\x02"]
    said = node.engine.feedback(subscriber.connection, rtp.transport_feedback(1, 2, 0, 0, [(0, 9), (2, 99)])[4:])
    assert (said.received, said.lost) == (2, 1)
    # A connection without numbers of its own has none, whatever is wished; nor a lane without the extension
    assert [packet[0] for packet in other.opened()] == [0x80, 0x80]
    assert node.engine.feedback(other.connection, rtp.transport_feedback(1, 2, 0, 0, [(0, 9)])[4:]) is None
    node.engine.carry(lane, source, 100, 101)
    publisher.send(2, 6_000)
    assert [packet[0] for packet in subscriber.opened()] == [0x80]
    # What was sent under other types is not sent again: it would be another packet under the same number
    node.engine.carry(lane, source, 100, 0)
    assert node.engine.resend(lane, [1, 2, 3]) == 0


# --- layers and changes -----------------------------------------------------------------------------------


def test_another_source_takes_over_at_its_key_frame(node: Node) -> None:
    publisher, _, subscriber, lane = node.pair()
    low = node.source(publisher, 1003)
    publisher.send(100, 3_000, KEY)
    publisher.send(101, 6_000)
    node.settle()
    node.engine.carry(lane, low, 100, 101)
    publisher.send(9, 700_000, DELTA + b"low", 1003)
    publisher.send(102, 9_000, DELTA + b"high")
    publisher.send(10, 703_000, KEY + b"low", 1003)
    publisher.send(103, 12_000, DELTA + b"high")
    publisher.send(11, 706_000, DELTA + b"low", 1003)
    came = subscriber.waiting()
    assert [packet.sequence for packet in came] == [1, 2, 3, 4, 5]
    assert [packet.payload[25:] for packet in came] == [b"", b"", b"high", b"low", b"low"]
    # Pictures are numbered on, in the descriptor
    pictures = [int.from_bytes(packet.payload[2:4], "big") & 0x7FFF for packet in came]
    assert pictures == [1, 1, 1, 2, 2]
    times = [packet.timestamp for packet in came]
    assert times == sorted(times)


def test_a_publisher_who_jumps_does_not_make_a_subscribers_srtp_lose_count(node: Node) -> None:
    publisher, _, subscriber, lane = node.pair()
    other = node.source(publisher, 1003)
    publisher.send(0, 0, KEY)
    for number in range(1, 8):
        publisher.send(30_000 * number, 3_000 * number, DELTA)
        publisher.send(30_000 * number + 1, 3_000 * number, KEY)
    first, _, *rest = subscriber.sealed()
    # Given that one of them is lost, then all others open, as they have numbers in a row
    subscriber._unprotect.unprotect(first)
    opened = [subscriber._unprotect.unprotect(packet) for packet in rest]
    assert [int.from_bytes(packet[2:4], "big") for packet in opened] == list(range(3, 9))
    assert {packet[12:][4:] for packet in opened} == {KEY[4:]}
    # And so it is for whoever is in the slot after that
    node.engine.carry(lane, other, 100, 101)
    publisher.send(9, 9_000, KEY, 1003)
    assert subscriber.receive().sequence == 9


def test_sound_jumps_without_a_hole(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair(Codec.OPUS)
    for sequence in (1, 2, 2 + 512, 3 + 1_024, 2 + 1_024, 3 + 512):
        publisher.send(sequence, 960 * sequence, sequence.to_bytes(2, "big"))
    # What is no further than the ring is a hole, and may be filled; what was before a jump comes no more
    assert [(packet.sequence, int.from_bytes(packet.payload, "big")) for packet in subscriber.waiting()] == [
        (1, 1), (2, 2), (2 + 512, 2 + 512), (3 + 512, 3 + 1_024),
    ]  # fmt: skip


steps = st.one_of(st.integers(-3, 4), st.integers(-3, 4), st.sampled_from([511, 512, 513, 30_000, 32_000]))
packets = st.tuples(st.just("packet"), st.sampled_from([0, 1]), steps, st.booleans(), st.integers(0, 255))
wishes = st.tuples(
    st.just("carry"), st.sampled_from([0, 1, 1, 2]), st.sampled_from([100, 102]),
    st.sampled_from([0, 0, 101, 103]), st.sampled_from([0, 0, 3, 5]),
)  # fmt: skip
gates = st.tuples(st.just("gate"), st.sampled_from([0, 1]), st.booleans(), st.booleans())
repeats = st.tuples(st.just("resend"), st.lists(st.integers(-2, 6), min_size=1, max_size=4))
paddings = st.tuples(st.just("pad"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(packets, packets, packets, wishes, gates, repeats, repeats, paddings), max_size=60))
# What was sent is asked for again under another type, and where its transport-wide number would be missing
@example([("packet", 0, 1, True, 0), ("carry", 1, 102, 0, 0), ("resend", [0])])
@example([("carry", 1, 100, 0, 3), ("packet", 0, 1, True, 0), ("carry", 1, 100, 0, 0), ("resend", [0])])
# And without any change: then it is the same
@example([("carry", 1, 100, 0, 0), ("packet", 0, 1, True, 0), ("resend", [0]), ("pad",), ("resend", [0])])
@example([("carry", 1, 100, 0, 3), ("packet", 0, 1, True, 0), ("resend", [0])])
# A jump of the publisher's
@example([("packet", 0, 1, True, 0), ("packet", 0, 30_000, True, 0)])
def test_a_number_never_stands_for_two_packets(story: list[tuple[Any, ...]]) -> None:
    with contextlib.closing(Node()) as node:
        publisher, first, subscriber, lane = node.pair()
        sources = [first, node.source(publisher, 1003)]
        newest = [1000, 40_000]
        seen: dict[tuple[int, int], bytes] = {}
        node.engine.number(subscriber.connection)
        for act, *rest in story:
            if act == "packet":
                which, step, key, content = rest
                sequence = newest[which] + step
                newest[which] = max(newest[which], sequence)
                payload = (KEY if key else DELTA) + bytes([content, which])
                publisher.send(sequence, 3_000 * sequence, payload, (VIDEO, 1003)[which])
            elif act == "carry":
                which, payload_type, repair_type, extension = rest
                node.engine.carry(lane, [0, *sources][which], payload_type, repair_type, extension=extension)
            elif act == "pad":
                node.engine.pad(lane)
            elif act == "gate":
                which, is_open, replay = rest
                highest = node.engine.source_counters(sources[which])["highest"]
                node.engine.gate(
                    sources[which], FOREVER if is_open else 0, highest - 2 if replay and highest > 2 else -1
                )
            else:
                newest_sent = node.engine.lane_counters(lane)["highest"]
                node.engine.resend(lane, [newest_sent - back & 0xFFFF for back in rest[0]])
            for packet in subscriber.sealed():
                number = (int.from_bytes(packet[8:12], "big"), int.from_bytes(packet[2:4], "big"))
                assert seen.setdefault(number, packet) == packet
        numbers = sorted(sequence for ssrc, sequence in seen if ssrc == 5001)
        assert numbers[:1] in ([], [1])
        holes = sum(each[2] for each in story if each[0] == "packet" and 1 < each[2] <= 512)
        assert not numbers or numbers[-1] - len(numbers) <= holes


descriptors = st.sampled_from(
    [
        b"\x10", b"\x90\x00", b"\x90\x80\x05", b"\x90\x80\x85\x01", b"\x90\xc0\xff\xfe\xff", b"\x90\x40\x09",
        b"\x80\xf0\x80",
    ]
)  # fmt: skip
"""Of VP8, whole: what is cut off in its descriptor is nobody's picture, whatever becomes of it."""
arrivals = st.tuples(
    st.just("packet"), st.sampled_from([0, 1]), st.integers(1, 3), st.booleans(), descriptors,
    st.binary(max_size=60), st.booleans(),
)  # fmt: skip
carries = st.tuples(st.just("carry"), st.sampled_from([0, 1]))


@settings(max_examples=100, deadline=None)
@given(
    extension=st.sampled_from([0, 1, 14]),
    began=st.sampled_from([0, 2**32 - 196_600_000, 2**31 - 196_600_000]),
    story=st.lists(st.one_of(arrivals, arrivals, carries), max_size=40),
)
def test_the_python_path_sends_the_same(extension: int, began: int, story: list[tuple[Any, ...]]) -> None:
    """Under the numbers that the engine gave; ``began``: of timestamps, which wrap after a few packets."""
    with contextlib.closing(Node()) as node:
        publisher, first, subscriber, lane = node.pair()
        sources = [first, node.source(publisher, 1003)]
        node.engine.number(subscriber.connection)
        node.engine.carry(lane, first, 100, 101, extension=extension)
        history, twin = SendHistory(), session(5, Policy.SSRC_ANY_OUTBOUND)
        sent: list[bytes] = []
        entry: Entry | None = None
        newest, heard = [65_530, 40_000], 0
        for act, which, *rest in story:
            if act == "carry":
                node.engine.carry(lane, sources[which], 100, 101, extension=extension)
                continue
            step, key, descriptor, content, marker = rest
            newest[which] += step
            timestamp = began + 3_000 * newest[which] & 0xFFFFFFFF
            # A key frame's first byte behind the descriptor has an even lowest bit (RFC 7741 section 4.3)
            payload = descriptor + bytes([not key]) + content
            publisher.send(newest[which], timestamp, payload, (VIDEO, 1003)[which], marker=marker)
            node.settle()
            for record in node.said[heard:]:
                if record.kind == Kind.ENTERED:
                    entry = record.entry
                elif record.kind == Kind.PACKET and entry is not None and entry.source == record.id:
                    shift = (entry.picture_offset, entry.level_offset)
                    to = (
                        100, entry.sequence_offset, entry.timestamp_offset, 5001, twin._srtp[0],
                        lambda data, _: sent.append(bytes(data)), subscriber.address[:2], shift, extension,
                        history,
                    )  # fmt: skip
                    widened = codecs.vp8_widened(payload)
                    kept = Kept(record.sequence, timestamp, marker << 7, 12 + len(widened), widened)
                    wire.fan_out(SimpleNamespace(lanes=[to]), kept)  # type: ignore[arg-type]
            heard = len(node.said)
        assert subscriber.sealed() == sent


jumps = st.tuples(steps, st.booleans(), st.integers(0, 255))


@settings(max_examples=100, deadline=None)
@given(codec=st.sampled_from(["VP8", "opus"]), story=st.lists(jumps, max_size=40))
def test_the_python_path_jumps_alike(codec: Any, story: list[tuple[int, bool, int]]) -> None:
    with contextlib.closing(Node()) as node:
        publisher, source, subscriber, _ = node.pair(Codec[codec.upper()])
        twin = session(5, Policy.SSRC_ANY_OUTBOUND)
        sent: list[bytes] = []
        track = PublishedTrack(
            track_id="trk", user_id="usr", kind="audio" if codec == "opus" else "video", codec=codec,
            clock_rate=90_000,
        )  # fmt: skip
        path: Any = SimpleNamespace(
            protect_context=twin._srtp[0], unprotect_context=None, address=subscriber.address[:2],
            sendto=lambda data, _: sent.append(bytes(data)),
        )  # fmt: skip
        slot = Slot(kind=track.kind, ssrc=5001, seat=0, wire=wire.Wire(path), payload_types={codec: 100})
        track.add(slot, 0)
        layer, newest = track.layers[0], 1_000
        for number, (step, key, content) in enumerate(story):
            sequence, newest = newest + step, max(newest, newest + step)
            payload = (KEY if key else DELTA) + bytes([content])
            publisher.send(sequence, 3 * number, payload)
            kept = track.accept(sequence & 0xFFFF, 3 * number, 0, payload, number, layer)
            if kept is not None and kept.sequence == layer.highest:
                wire.fan_out(layer, kept)
            elif kept is not None:
                wire.late(track, layer, kept)
        assert subscriber.sealed() == sent
        assert node.engine.source_counters(source)["highest"] == (layer.highest if story else -1)


A_KERNEL_THAT_REFUSES = """
/* sendmsg, but that trains to one port fail as often as is wished; all trains are counted. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#undef sendmsg
ssize_t sendmsg(int, const struct msghdr *, int);
int narrow_port, narrow_error, narrow_trains;
ssize_t narrow_sendmsg(int handle, const struct msghdr *message, int flags) {
    const struct sockaddr_in *to = message->msg_name;
    if (message->msg_controllen == 0) return sendmsg(handle, message, flags);
    narrow_trains++;
    if (ntohs(to->sin_port) != narrow_port) return sendmsg(handle, message, flags);
    errno = narrow_error;
    return -1;
}
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, on a kernel that may be told which trains it takes."""
    place = tmp_path_factory.mktemp("narrow")
    source = place / "narrow.c"
    source.write_text(A_KERNEL_THAT_REFUSES)
    flags = ("-O2", "-Werror", "-fPIC", "-shared", "-Dsendmsg=narrow_sendmsg")
    build.compile_c(place / "libnarrow.so", *flags, sources=(*sources.SOURCES, str(source)))
    return place / "libnarrow.so"


@contextlib.contextmanager
def library(path: Path) -> Iterator[None]:
    """Engines are made with that library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "LIBRARY", path)
        engine._library.cache_clear()
        try:
            yield
        finally:
            engine._library.cache_clear()


@pytest.mark.parametrize(
    ("error", "for_all"),
    [(errno.EINVAL, False), (errno.EMSGSIZE, False), (errno.EIO, True), (errno.EOPNOTSUPP, True)],
)
def test_a_path_that_takes_no_trains_costs_nobody_else_theirs(narrow: Path, error: int, *, for_all: bool) -> None:
    kernel = ctypes.CDLL(str(narrow))

    def number(name: str) -> Any:
        return ctypes.c_int.in_dll(kernel, name)

    with library(narrow), contextlib.closing(Node()) as node:
        number("narrow_port").value = 0
        publisher, source, far, to_far = node.pair()
        near = node.client()
        to_near = node.engine.lane(near.connection, 5001, 6001)
        node.engine.carry(to_near, source, 100, 101)
        for sequence in range(3):
            publisher.send(sequence, 0, KEY)
        # They may have gone one by one or not
        assert [len(each.sealed()) for each in (far, near)] == [3, 3]
        number("narrow_port").value, number("narrow_error").value = far.address.port, error
        number("narrow_trains").value = 0
        trains = []
        for _ in range(3):
            for lane in (to_far, to_near):
                assert node.engine.resend(lane, [1, 2, 3]) == 3
            trains.append(number("narrow_trains").value)
        # Nothing is lost, and the one who takes no train is offered one a single time
        assert [len(each.sealed()) for each in (far, near)] == [9, 9]
        counters = [node.engine.connection_counters(each.connection)["refused"] for each in (far, near)]
        assert counters == [0, 0]
        assert trains == ([1, 1, 1] if for_all else [2, 3, 4])
        # Whoever takes its place begins anew
        node.engine.shut(far.connection)
        fresh = node.client()
        assert fresh.connection & 0xFFFF == far.connection & 0xFFFF
        to_fresh = node.engine.lane(fresh.connection, 5001, 6001)
        node.engine.carry(to_fresh, source, 100, 101)
        for sequence in range(3, 6):
            publisher.send(sequence, 0, KEY)
        assert len(fresh.sealed()) == 3
        number("narrow_trains").value = 0
        assert node.engine.resend(to_fresh, [1, 2, 3]) == 3
        assert number("narrow_trains").value == (0 if for_all else 1)
        assert len(fresh.sealed()) == 3


def loaded(path: Path, times: int = 1) -> list[Engine | None]:
    """What that library makes of it to be loaded so often."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused, library(path):
        return [engine.load([unused]) for _ in range(times)]


@pytest.mark.parametrize("source", ["unsigned long long fp_abi(void) { return 1; }", "int unused;", None])
def test_a_library_that_does_not_fit_is_said_and_not_used(
    source: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stale = tmp_path / "libfastpath.so"
    if source is None:
        stale.write_bytes(b"no library at all")
    else:
        (tmp_path / "stale.c").write_text(source)
        build.compile_c(stale, "-fPIC", "-shared", sources=(str(tmp_path / "stale.c"),))
    assert loaded(stale) == [None]
    assert "engine_unloadable" in caplog.text
    assert not build.is_fresh(stale)


def test_that_there_is_no_library_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine._say_not_built.cache_clear()
    assert not build.is_fresh(tmp_path / "none.so")
    assert loaded(tmp_path / "none.so", times=2) == [None, None]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["engine_not_built"]


@pytest.mark.parametrize("name", [*sources.SOURCES, *sources.HEADERS])
def test_a_library_of_other_sources_is_said_and_not_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert build.is_fresh(engine.LIBRARY)
    for each in (*sources.SOURCES, *sources.HEADERS):
        shutil.copy(engine.HERE / each, tmp_path)
    with (tmp_path / name).open("a") as source:
        source.write("/* No declaration, and not what it was built from. */\n")
    monkeypatch.setattr(engine, "HERE", tmp_path)
    assert loaded(engine.LIBRARY) == [None]
    assert "engine_unloadable error='built from other sources" in caplog.text


@pytest.mark.parametrize("flags", ["FLAGS", "SHARED"])
def test_a_library_with_other_flags_is_built_anew(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.is_fresh(engine.LIBRARY)
    monkeypatch.setattr(sources, flags, ("-O3",))
    assert not build.is_fresh(engine.LIBRARY)


# --- who is nobody -----------------------------------------------------------------------------------------


def test_of_strangers_only_checks_and_handshakes_are_told(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.1", 0))
    packet = publisher._protect.protect(rtp.RTP_HEADER.pack(0x80, VIDEO_TYPE, 1, 0, VIDEO) + KEY)
    for datagram in (packet, b"\x16\xfe\xfd" + bytes(60), b"\x00\x01check", b"", b"\x40turn"):
        stranger.sendto(datagram, node.socket.getsockname())
    assert subscriber.waiting() == []
    hello, check = node.records(Kind.DATAGRAM)
    assert (hello.data[:1], check.data) == (b"\x16", b"\x00\x01check")
    assert check.address == Address("127.0.0.1", stranger.getsockname()[1])
    stranger.close()
    assert node.engine.source_counters(source)["packets"] == 0


def test_strangers_leave_most_of_the_queue_to_media(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
        for _ in range(75):
            for _ in range(20):
                stranger.sendto(b"\x16" + bytes(1_999), node.socket.getsockname())
            node.engine.drain(100)
        assert node.engine.dropped > 0
        publisher.send(1, 3_000, KEY)
        assert len(node.records(Kind.PACKET)) == 1
        # Once they have been heard there is room again
        heard, dropped = len(node.records(Kind.DATAGRAM)), node.engine.dropped
        assert 0 < heard < 1_100
        stranger.sendto(b"\x16hello", node.socket.getsockname())
        assert len(node.records(Kind.DATAGRAM)) == heard + 1
        assert node.engine.dropped == dropped
    assert subscriber.datagram()


def flood(node: Node, who: Client, compounds: int = 0, packets: int = 0, since: int = 0) -> None:
    """That much of 1,100 bytes each, and Python does not look."""
    for number in range(max(compounds, packets)):
        if number < compounds:
            who.send_rtcp(rtp.receiver_report(1) + bytes(1_100))
        if number < packets:
            who.send(since + number, 0, DELTA + bytes(1_100))
        if number % 20 == 19:
            assert node.engine.drain(1_000)
    assert node.engine.drain(1_000)


def test_one_client_leaves_the_queue_to_all_others(node: Node) -> None:
    publisher, _, subscriber, _ = node.pair()
    sender, talker = node.client(), node.client()
    sent = node.source(sender, VIDEO)
    flood(node, talker, compounds=600)
    by_talk = node.engine.dropped
    flood(node, sender, packets=2_000)
    assert 0 < by_talk < node.engine.dropped
    # Media is forwarded all the same
    assert node.engine.source_counters(sent)["packets"] == 2_000
    publisher.send(1, 3_000, KEY)
    subscriber.send_rtcp(rtp.receiver_report(1))
    dropped, others = node.engine.dropped, (publisher.connection, subscriber.connection)
    told = [(each.kind, each.id) for each in node.records(Kind.RTCP) if each.id in others]
    assert told == [(Kind.RTCP, subscriber.connection)]
    assert len([each for each in node.records(Kind.PACKET) if each.id != sent]) == 1
    # Once they have been heard there is room again
    flood(node, talker, compounds=20)
    flood(node, sender, packets=20, since=2_000)
    node.settle()
    assert node.engine.dropped == dropped


def test_all_who_talk_leave_the_queue_to_media(node: Node) -> None:
    publisher, *_ = node.pair()
    for _ in range(9):
        flood(node, node.client(), compounds=460)
    flood(node, stranger := node.client(), packets=1)
    publisher.send(1, 3_000, KEY)
    assert len(node.records(Kind.PACKET)) == 1
    octets = sum(len(each.data) for each in node.said)
    assert (1 << 22) * 9 // 10 < octets < 1 << 22
    assert stranger.connection not in {each.id for each in node.said}
    assert node.engine.retry(stranger.connection)
    stranger.send(2, 0)
    assert [each.id for each in node.records(Kind.STRANGER)] == [stranger.connection]


def test_an_address_belongs_to_who_checked_in_last(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    moved = node.client()
    node.engine.bind(moved.connection, publisher.address)
    publisher.send(1, 3_000, KEY)
    assert subscriber.waiting() == []
    node.engine.nominate(publisher.connection, publisher.address)
    publisher.send(2, 6_000, KEY)
    assert len(subscriber.waiting()) == 1
    node.engine.unbind(publisher.connection, publisher.address)
    publisher.send(9, 6_000, KEY)
    assert subscriber.waiting() == []
    node.engine.bind(publisher.connection, publisher.address)
    # A client that moves is sent to where it is now
    other = node.client()
    node.engine.shut(other.connection)
    node.engine.nominate(subscriber.connection, other.address)
    publisher.send(3, 9_000)
    node.settle()
    assert other.datagram()
    assert node.engine.source_counters(source)["packets"] == 2


def test_an_ssrc_that_nobody_named_is_told_a_few_times_and_can_be_named(node: Node) -> None:
    publisher, _, _, _ = node.pair()
    for sequence in range(140):
        publisher.send(sequence, 0, KEY, 4444)
    told = node.records(Kind.STRANGER)
    assert 0 < len(told) < 140
    assert node.engine.connection_counters(publisher.connection)["unknown"] == 140 - len(told)
    assert {each.id for each in told} == {publisher.connection}
    assert told[0].data[12:] == KEY
    node.engine.retry(publisher.connection)
    publisher.send(140, 0, KEY, 4444)
    assert len(node.records(Kind.STRANGER)) == len(told) + 1
    late = node.source(publisher, 4444)
    # What was told can be handed back, and is a packet like any other
    node.engine.inject(publisher.connection, told[0].data)
    publisher.send(141, 0, KEY, 4444)
    assert [each.flags for each in node.records(Kind.PACKET)] == [PASSED | INJECTED, PASSED]
    assert node.counters(late) == (2, 0, 0)


def test_a_thousand_ssrcs_cost_no_thousand_streams(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    for ssrc in range(7_000, 8_000):
        publisher.send(1, 0, KEY, ssrc)
        if ssrc % 50 == 0:
            node.settle()  # before the kernel's buffer is full
    node.settle()
    assert len({each.data[8:12] for each in node.records(Kind.STRANGER)}) == 32
    publisher.send(1, 0, KEY)
    assert len(subscriber.waiting()) == 1
    assert node.engine.source_counters(source)["packets"] == 1


def test_layers_may_be_made_anew_as_often_as_their_ssrcs_may_come(node: Node) -> None:
    publisher = node.client()
    for number in range(16):
        ssrcs = range(7_000 + 6 * number, 7_006 + 6 * number)
        heard = len(node.records(Kind.STRANGER))
        for ssrc in ssrcs:
            publisher.send(1, 0, KEY, ssrc)
        told = node.records(Kind.STRANGER)[heard:]
        assert [int.from_bytes(each.data[8:12], "big") for each in told] == list(ssrcs)
        made = [node.source(publisher, ssrc) for ssrc in ssrcs]
        for each in told:
            node.engine.inject(publisher.connection, each.data)
        assert [node.counters(each) for each in made] == [(1, 0, 0)] * 6
        for source in made:
            node.engine.drop(source)
    # 96 have come: each cost an SRTP stream, and there is no other
    publisher.send(1, 0, KEY, 9_000)
    assert node.source(publisher, 9_001)
    publisher.send(1, 0, KEY, 9_001)
    node.settle()
    assert node.engine.connection_counters(publisher.connection)["unknown"] == 2
    # One of them may come again, as anybody's
    publisher.send(2, 0, KEY, 7_000)
    assert len(node.records(Kind.STRANGER)) == 97


def test_ssrcs_that_never_come_are_no_streams(node: Node) -> None:
    publisher = node.client()
    source = node.source(publisher, 1_999)
    announced = list(itertools.takewhile(lambda ssrc: node.engine.name(source, ssrc), range(2_000, 3_000)))
    assert len(announced) == 191
    # A stranger finds no place there, until somebody's track has gone
    publisher.send(1, 0, KEY, 4_444)
    assert node.records(Kind.STRANGER) == []
    node.engine.drop(source)
    source = node.source(publisher, 1_999)
    assert all(node.engine.name(source, ssrc) for ssrc in announced[:150])
    publisher.send(1, 0, KEY, 4_444)
    assert len(node.records(Kind.STRANGER)) == 1
    # Of what was announced so many come as may, with the stranger
    for ssrc in announced[:97]:
        publisher.send(ssrc, 0, KEY, ssrc)
    assert node.counters(source)[0] == 95
    assert node.engine.connection_counters(publisher.connection)["unknown"] == 3


heard = st.tuples(st.just("heard"), st.integers(0, 250), st.integers(1, 40))
offers = st.tuples(st.just("offer"), st.sets(st.integers(0, 4)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(heard, heard, offers), max_size=12))
def test_both_paths_open_the_same_ssrcs(story: list[tuple[Any, ...]]) -> None:
    """Of each offer's tracks: number ``n`` announces thirty SSRCs from ``50 * n`` on."""
    with contextlib.closing(Node()) as node:
        publisher, ingress = node.client(), Ingress(SimpleNamespace(), lambda: 0)  # type: ignore[arg-type]
        tracks: dict[int, tuple[object, int]] = {}
        unknown = told = sequence = 0
        for act, *rest in story:
            if act == "offer":
                for number in tracks.keys() - rest[0]:
                    node.engine.drop(tracks.pop(number)[1])
                for number in rest[0] - tracks.keys():
                    made = node.engine.source(publisher.connection, Codec.OPUS, 48_000, FOREVER)
                    tracks[number] = (object(), made)
                announced: dict[int, Any] = {
                    50 * number + ssrc: Source(track, made, "", retransmission=False)  # type: ignore[arg-type]
                    for number, (track, made) in tracks.items() for ssrc in range(30)
                }  # fmt: skip
                ingress.bind([track for track, _ in tracks.values()], Bindings(announced, {}, Extensions()))  # type: ignore[misc]
                assert all(node.engine.name(source.layer, ssrc) for ssrc, source in announced.items())
                node.engine.retry(publisher.connection)
                continue
            first, count = rest
            for ssrc in range(first, first + count):
                sequence += 1
                publisher.send(sequence, 0, b"sound", ssrc)
                known = ssrc in ingress._sources
                if not known and not ingress._may_open(ssrc):
                    unknown += 1
                elif not known and ingress._learn(ssrc, bytes(12)) is None:
                    told += 1
            node.settle()
            assert node.engine.connection_counters(publisher.connection)["unknown"] == unknown
            assert len(node.records(Kind.STRANGER)) == told


def test_what_does_not_parse_costs_a_stream_as_well(node: Node) -> None:
    publisher = node.client()
    for ssrc in range(7_000, 7_100):
        # Padding of no length is none
        header = rtp.RTP_HEADER.pack(0xA0, VIDEO_TYPE, 9, 0, ssrc)
        publisher.send_raw(publisher._protect.protect(header + KEY + bytes(1)))
    node.settle()
    counters = node.engine.connection_counters(publisher.connection)
    assert (counters["unopened"], counters["unknown"]) == (32, 68)


def test_forgeries_and_repeats_are_counted_and_dropped(node: Node) -> None:
    publisher, source, subscriber, _ = node.pair()
    packet = publisher._protect.protect(rtp.RTP_HEADER.pack(0x80, VIDEO_TYPE, 1, 0, VIDEO) + KEY)
    # Padding of no length is none
    bad = publisher._protect.protect(rtp.RTP_HEADER.pack(0xA0, VIDEO_TYPE, 9, 0, VIDEO) + KEY + b"\x00")
    for datagram in (bad, packet, packet, packet[:-1] + bytes([packet[-1] ^ 1]), packet[:20], packet[:13]):
        publisher.send_raw(datagram)
    assert len(subscriber.waiting()) == 1
    assert node.engine.connection_counters(publisher.connection)["unopened"] >= 3
    assert node.counters(source) == (1, 0, 0)


# --- ends -----------------------------------------------------------------------------------------------------


def test_what_is_shut_stays_shut(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    publisher.send(1, 3_000, KEY)
    assert len(subscriber.waiting()) == 1
    node.engine.shut(subscriber.connection)
    # From here on nothing of it may be touched: its contexts go
    subscriber.contexts = (None, None)  # type: ignore[assignment]
    publisher.send(2, 6_000, KEY)
    node.settle()
    assert not select.select([subscriber.socket], [], [], 0)[0]
    assert node.engine.lane_counters(lane) == {}
    assert not node.engine.carry(lane, source, 100)
    assert not node.engine.nominate(subscriber.connection, subscriber.address)
    node.engine.send_rtcp(subscriber.connection, rtp.receiver_report(1))
    node.settle()
    assert not select.select([subscriber.socket], [], [], 0)[0]
    # The next one has other ids
    fresh = node.client()
    assert fresh.connection != subscriber.connection
    assert node.engine.lane(fresh.connection, 1) != lane
    node.engine.shut(publisher.connection)
    assert node.engine.source_counters(source) == {}


def test_what_waits_when_a_connection_ends_is_nobodys(node: Node) -> None:
    report, loss = rtp.receiver_report(1), rtp.picture_loss(1, VIDEO)
    for _ in range(200):
        gone = node.client()
        assert node.engine.send_rtcp(gone.connection, report)
        node.engine.shut(gone.connection)
        # From here on nothing of it may be touched: its contexts go
        gone.contexts = (None, None)  # type: ignore[assignment]
        fresh = node.client()
        assert fresh.connection & 0xFFFF == gone.connection & 0xFFFF
        assert node.engine.send_rtcp(fresh.connection, loss)
        # It went before the end, or does not go at all
        assert [bytes(gone._unprotect.unprotect_rtcp(each)) for each in gone.sealed()] in ([], [report])
        assert [bytes(fresh._unprotect.unprotect_rtcp(each)) for each in fresh.sealed()] == [loss]
        node.engine.shut(fresh.connection)
        for each in (gone, fresh):
            each.socket.close()


def test_an_id_is_not_given_again_soon(node: Node) -> None:
    made = set()
    for _ in range(20_000):
        made.add(connection := node.engine.open())
        node.engine.shut(connection)
    assert len(made) == 20_000


def test_a_source_that_is_dropped_leaves_its_lanes_free(node: Node) -> None:
    publisher, source, subscriber, lane = node.pair()
    publisher.send(1, 3_000, KEY)
    node.settle()
    node.engine.drop(source)
    assert node.engine.lane_counters(lane)["source"] == 0
    again = node.source(publisher, 1003)
    node.engine.carry(lane, again, 100)
    publisher.send(1, 3_000, KEY, 1003)
    assert [packet.sequence for packet in subscriber.waiting()] == [1, 2]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["VP8", "H264", "VP9", "AV1"]), st.lists(st.binary(min_size=1, max_size=24), max_size=20))
def test_pictures_begin_where_python_says_so(name: str, payloads: list[bytes]) -> None:
    with contextlib.closing(Node()) as node:
        publisher, _, subscriber, _ = node.pair(Codec[name])
        for sequence, payload in enumerate(payloads):
            publisher.send(sequence, sequence, payload)
        keys = [codecs.KEYFRAME[name](payload) for payload in payloads]
        forwarded = payloads[keys.index(True) :] if True in keys else []
        if name == "VP8":
            forwarded = [codecs.vp8_widened(payload) for payload in forwarded]
        assert [packet.payload for packet in subscriber.waiting()] == forwarded


WIDE_ID, LEVEL_ID = 3, 1
ids = st.sampled_from([WIDE_ID, LEVEL_ID, 9, 15])
one_byte = st.tuples(ids, st.binary(min_size=1, max_size=4)).map(
    lambda each: bytes([each[0] << 4 | len(each[1]) - 1]) + each[1]
)
two_bytes = st.tuples(ids, st.binary(max_size=4)).map(lambda each: bytes([each[0], len(each[1])]) + each[1])


@st.composite
def packets_with_extensions(draw: st.DrawFn) -> bytes:
    """Behind the first twelve bytes, and the first one."""
    csrcs, extended = draw(st.sampled_from([0, 0, 1, 2])), draw(st.sampled_from([True, True, True, False]))
    data = bytes(4 * csrcs)
    if extended:
        profile, form = draw(
            st.sampled_from([(0xBEDE, one_byte), (0xBEDE, one_byte), (0x100F, two_bytes), (0x1234, one_byte)])
        )
        parts = draw(st.lists(form, max_size=6)) + draw(st.lists(st.binary(max_size=2) | form, max_size=2))
        elements = b"".join(parts)
        elements += bytes(-len(elements) % 4)
        data += profile.to_bytes(2, "big") + (len(elements) // 4).to_bytes(2, "big") + elements
    padding = draw(st.sampled_from([None, None, None, None, 0, 1, 3, 200]))
    data += draw(st.binary(max_size=12)) + (bytes([padding]) if padding is not None else b"")
    return bytes([0x80 | extended << 4 | (padding is not None) << 5 | csrcs]) + data


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(packets_with_extensions(), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_what_is_told_of_a_packet_is_what_python_finds_in_it(packets: list[tuple[bytes, bool, bool]]) -> None:
    with contextlib.closing(Node()) as node:
        publisher, source, _, _ = node.pair()
        node.engine.read(source, wide=WIDE_ID, level=LEVEL_ID)
        assert node.engine.name(source, 1002, repairs=True)
        expected = []
        for number, (rest, marker, again) in enumerate(packets):
            ssrc, kind = 1002 if again else VIDEO, VIDEO_TYPE | marker << 7
            head = rest[:1] + rtp.RTP_HEADER.pack(0, kind, number, 3_000 * number, ssrc)[1:]
            publisher.send_raw(publisher._protect.protect(packet := head + rest[1:]))
            if (bounds := rtp.payload_bounds(packet)) is None:
                continue
            payload = packet[slice(*bounds)]
            if again and len(payload) > 2:
                payload = payload[2:]
            elif again:
                payload = b""
            level = rtp.extension(packet, LEVEL_ID)
            expected.append(
                (3_000 * number, ssrc, marker << 7, rtp.transport_number(packet, WIDE_ID),
                 level[0] if level else -1, payload, codecs.vp8_keyframe(payload), packet)
            )  # fmt: skip
        told = [
            (each.timestamp, each.ssrc, each.marker, each.wide, each.level,
             b"" if each.sequence < 0 else each.payload, bool(each.key), each.data)
            for each in node.records(Kind.PACKET)
        ]  # fmt: skip
        assert told == expected


def test_thousands_come_and_go_and_nothing_grows(node: Node) -> None:
    _, source, _, _ = node.pair()
    for port in range(1, 8_501):
        connection = node.engine.open()
        assert node.engine.nominate(connection, Address("127.0.0.9", port))
        node.engine.carry(lane := node.engine.lane(connection, 1), source, 100)
        # As a layer is of which no packet ever came: no SSRC names it
        nameless = node.engine.source(connection, Codec.OPUS, 48_000, FOREVER)
        named = node.engine.source(connection, Codec.OPUS, 48_000, FOREVER)
        node.engine.name(named, 7)
        node.engine.shut(connection)
    assert [node.engine.source_counters(each) for each in (nameless, named)] == [{}, {}]
    assert node.engine.lane_counters(lane) == {}
    # Every place is free again, up to the last one
    held: set[int] = set()
    while len(held) < 8191 - 2:
        held.add(node.engine.open())
    with pytest.raises(EngineError):
        node.engine.open()
    last = min(held)
    lanes = {node.engine.lane(last, ssrc) for ssrc in range(65_535 - 1)}
    assert len(lanes) == 65_535 - 1
    with pytest.raises(EngineError):
        node.engine.lane(last, 1)
    # (A source costs 16 kB: not all places are taken here. 17,000 have come and gone, of 16,383.)
    dropped = [node.engine.source(last, Codec.VP8, 90_000, 0) for _ in range(3)]
    node.engine.drop(dropped[1])
    node.engine.shut(last)
    assert [node.engine.source_counters(each) for each in dropped] == [{}, {}, {}]


def test_closing_ends_the_thread_and_the_sockets_stay(node: Node) -> None:
    publisher, *_ = node.pair()
    node.engine.close()
    node.engine.close()
    publisher.send_raw(b"\x00hello")
    assert select.select([node.socket], [], [], PATIENCE_SECONDS)[0]
    assert node.socket.recv(100) == b"\x00hello"


def test_signals_are_not_for_its_thread() -> None:
    def threads() -> set[str]:
        return {path.name for path in Path("/proc/self/task").iterdir()}

    before = threads()
    with contextlib.closing(Node()):
        (its,) = threads() - before
        status = Path(f"/proc/self/task/{its}/status").read_text()
        blocked = int(re.search(r"^SigBlk:\s*(\w+)", status, re.M)[1], 16)  # type: ignore[index]
        assert all(blocked >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD))


def test_of_an_engine_that_is_closed_everything_is_gone(node: Node) -> None:
    publisher, source, _, lane = node.pair()
    engine, connection = node.engine, publisher.connection
    engine.close()
    for makes in (engine.open, lambda: engine.source(connection, Codec.VP8, 90_000, 0), lambda: engine.lane(1, 1)):
        with pytest.raises(EngineError):
            makes()
    refused = [
        engine.bind(connection, publisher.address), engine.unbind(connection, publisher.address),
        engine.nominate(connection, publisher.address), engine.secure(connection, 0, 0), engine.retry(connection),
        engine.send_rtcp(connection, bytes(8)), engine.inject(connection, bytes(20)), engine.number(connection),
        engine.name(source, 1), engine.carry(lane, source), engine.pad(lane),
    ]  # fmt: skip
    assert refused == [False] * 11
    for ends in (engine.shut, engine.drop, engine.end, engine.settle, engine.lose):
        ends(1)
    engine.probe(connection, 1)
    counters = (engine.connection_counters(connection), engine.source_counters(source), engine.lane_counters(lane))
    assert counters == ({}, {}, {})
    assert (engine.gate(source, FOREVER), engine.resend(lane, [1])) == (-2, 0)
    assert engine.feedback(connection, b"") is None
    assert (list(engine.take()), engine.drain(1), engine.dropped, engine.lost) == ([], True, 0, 0)


def test_an_engine_without_sockets_is_none() -> None:
    with pytest.raises(EngineError):
        Engine([])


def test_an_engine_that_is_forgotten_keeps_what_its_thread_uses() -> None:
    node = Node()
    forgotten = weakref.ref(node.engine)
    del node.engine
    gc.collect()
    engine = forgotten()
    assert engine is not None
    engine.close()
    del engine
    gc.collect()
    assert forgotten() is None
    node.socket.close()
