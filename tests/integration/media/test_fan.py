"""The native fan-out against the one in Python: the same packets, and nothing to who is gone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_clients import FAMILIES
from pylibsrtp import Policy, Session

from media import codecs, fastpath, forwarding
from media.fastpath import Copy, Fan, build
from media.layers import Kept, Lane, Layer
from media.send_history import History, SendHistory
from media.tracks import PublishedTrack, Slot

KEY = bytes(range(28))
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
ROUNDS = 20_000


def session(inbound: bool) -> Session:
    policy = Policy(
        key=KEY,
        ssrc_type=Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    )
    policy.window_size, policy.allow_repeat_tx = 1024, True
    return Session(policy=policy)


class Subscriber:
    """A socket that is sent to, and the SRTP context that seals for it."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK[family], 0))
        self.address = self.socket.getsockname()
        self.sessions = {True: session(inbound=False), False: session(inbound=False)}
        """One for each way: both seal the same packets, each for the first time."""
        self.histories: dict[bool, History] = {False: SendHistory()}

    def context(self, native: bool) -> Any:
        return self.sessions[native]._srtp[0]

    def came(self) -> list[bytes]:
        """What waits: loopback delivers before the sender's call returns."""
        found = []
        while select.select([self.socket], [], [], 0)[0]:
            found.append(self.socket.recv(4096))
        return found


class Street:
    """A native fan-out, the socket that it sends by, and subscribers."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.fan = Fan()
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK[family], 0))
        self.socket.setblocking(False)
        self.subscribers: list[Subscriber] = []

    def subscriber(self) -> tuple[Subscriber, int]:
        fresh = Subscriber(self.socket.family)
        self.subscribers.append(fresh)
        numbers = fresh.histories[True] = self.fan.history()
        return fresh, self.fan.destination(fresh.context(native=True), self.socket, fresh.address, numbers)

    def send(self, destination: int, *sizes: int) -> None:
        lanes = self.fan.lanes([Copy(destination, 96, 7, 0, 0, None)])
        for number, size in enumerate(sizes):
            self.fan.packet(lanes, bytes(12 + size), 100 + number, 3_000, 0)

    def close(self) -> None:
        for each in (self.socket, *(subscriber.socket for subscriber in self.subscribers)):
            each.close()


@pytest.fixture
def street() -> Iterator[Street]:
    with contextlib.closing(Street()) as made:
        yield made


numbers = st.integers(0, 0xFFFFFFFF)
descriptors = st.sampled_from(
    [
        b"",
        b"\x10",
        b"\x90\x00",
        b"\x90\x80\x05",
        b"\x90\x80\x85\x01",
        b"\x90\xc0\xff\xfe\xff",
        b"\x90\x40\x09",
        b"\x80\xf0\x80",
    ]
)
# Whole ones: what is cut off in its descriptor is nobody's picture, whatever becomes of it.
payloads = st.builds(lambda head, rest: head + bytes(5) + rest, descriptors, st.binary(max_size=60))
copies = st.tuples(
    st.integers(0, 2), st.integers(0, 127), numbers, st.integers(-70_000, 70_000), numbers,
    st.none() | st.tuples(st.integers(0, codecs.PICTURE_MASK), st.integers(0, 255)), st.sampled_from([0, 1, 14]),
)  # fmt: skip
packets = st.tuples(payloads, st.integers(0, 1 << 20), numbers, st.sampled_from([0, 0x80]))


@settings(max_examples=100, deadline=None)
@given(
    wishes=st.lists(copies, max_size=6, unique_by=lambda copy: (copy[0], copy[2])),
    given_packets=st.lists(packets, max_size=8),
)
def test_both_ways_send_the_same(wishes: list[Any], given_packets: list[Any]) -> None:
    with contextlib.closing(Street()) as street, pytest.MonkeyPatch.context() as patch:
        subscribers = [street.subscriber() for _ in range(3)]
        lanes: list[Lane] = []
        for which, payload_type, ssrc, by, later, shift, extension in wishes:
            subscriber, destination = subscribers[which]
            lanes.append(
                (payload_type, by, later, ssrc, subscriber.context(native=False), street.socket.sendto,
                 subscriber.address, shift, destination, extension, subscriber.histories[False])
            )  # fmt: skip
        layer = SimpleNamespace(lanes=lanes, native=None)
        came: dict[bool, list[list[bytes]]] = {}
        for native in (True, False):
            patch.setattr(forwarding, "native", street.fan if native else None)
            for payload, sequence, timestamp, marker in given_packets:
                widened = codecs.vp8_widened(payload)
                kept = Kept(sequence, timestamp, marker, bytes(12) + widened)
                forwarding.fan_out(layer, kept)  # type: ignore[arg-type]
            forwarding.flush()
            came[native] = [subscriber.came() for subscriber, _ in subscribers]
        assert came[True] == came[False]
        # And the next number is the same, however many were given out
        for subscriber, _ in subscribers:
            assert subscriber.histories[True].stamp(1) == subscriber.histories[False].stamp(1)
        assert sum(map(len, came[True])) <= len(wishes) * len(given_packets)


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_of_any_sizes_arrive_whole_and_in_order(family: socket.AddressFamily) -> None:
    with contextlib.closing(Street(family)) as street:
        subscriber, destination = street.subscriber()
        other, another = street.subscriber()
        sizes = [600] * 52 + [7, 600, 600, 300, 300, 1, 0, 700, 600, 8, 8, 9]
        street.send(destination, *sizes)
        street.send(another, 5)
        assert subscriber.came() == []
        street.fan.flush()
        opened = session(inbound=True)
        assert [len(opened.unprotect(sealed)) - 12 for sealed in subscriber.came()] == sizes
        assert len(other.came()) == 1
        street.fan.flush()
        assert subscriber.came() == []


def test_a_batch_may_be_larger_than_what_waits_at_most(street: Street) -> None:
    subscribers = [street.subscriber() for _ in range(60)]
    lanes = street.fan.lanes([Copy(destination, 96, 7, 0, 0, None) for _, destination in subscribers])
    for number in range(50):
        street.fan.packet(lanes, bytes(20), number, 0, 0)
    street.fan.flush()
    assert [len(subscriber.came()) for subscriber, _ in subscribers] == [50] * 60


def test_who_is_forgotten_is_sent_nothing_not_even_what_waits(street: Street) -> None:
    subscriber, destination = street.subscriber()
    neighbour, other = street.subscriber()
    street.send(destination, 10)
    street.send(other, 10)
    street.fan.forget(destination)
    street.send(destination, 10)
    # Whoever comes next takes the same place, in the same batch, and no packet of the one before
    successor, fresh = street.subscriber()
    assert fresh != destination
    street.send(destination, 10)
    street.send(fresh, 20)
    street.fan.flush()
    assert subscriber.came() == []
    assert [len(sealed) for sealed in successor.came()] == [12 + 20 + 16]
    assert len(neighbour.came()) == 1
    street.fan.forget(destination)
    street.send(fresh, 20)
    street.fan.flush()
    assert len(successor.came()) == 1


def test_thousands_come_and_go(street: Street) -> None:
    subscriber, _ = street.subscriber()
    seen = set()
    for _ in range(10_000):
        destination = street.fan.destination(subscriber.context(native=True), street.socket, subscriber.address)
        assert destination
        seen.add(destination)
        street.fan.forget(destination)
    assert len(seen) == 10_000
    held = [
        street.fan.destination(subscriber.context(native=True), street.socket, subscriber.address)
        for _ in range(4_100)
    ]
    assert held.count(0) == 4_100 - (4_095 - 1)


def test_what_a_socket_does_not_take_is_counted_for_its_subscriber(street: Street) -> None:
    _, destination = street.subscriber()
    nowhere = street.fan.destination(
        street.subscribers[0].context(native=True), street.socket, ("255.255.255.255", 9)
    )
    street.send(nowhere, 10, 10, 10)
    street.fan.flush()
    assert street.fan.refused(nowhere) == 3
    assert street.fan.refused(destination) == 0


A_KERNEL_THAT_REFUSES = """
/* sendmsg, but that trains to one port (0: to any) fail as often as is wished; all trains are counted. */
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
    if (narrow_port != 0 && ntohs(to->sin_port) != narrow_port) return sendmsg(handle, message, flags);
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
    flags = ("-O1", "-fPIC", "-shared", "-Dsendmsg=narrow_sendmsg")
    build.compile_c(place / "libnarrow.so", *flags, sources=(*build.SOURCES, str(source)))
    return place / "libnarrow.so"


@pytest.mark.parametrize(
    ("error", "for_all"),
    [(errno.EINVAL, False), (errno.EMSGSIZE, False), (errno.EIO, True), (errno.EOPNOTSUPP, True)],
)
def test_a_path_that_takes_no_trains_costs_nobody_else_theirs(
    narrow: Path, monkeypatch: pytest.MonkeyPatch, error: int, *, for_all: bool
) -> None:
    monkeypatch.setattr(fastpath, "LIBRARY", narrow)
    kernel = ctypes.CDLL(str(narrow))

    def number(name: str) -> Any:
        return ctypes.c_int.in_dll(kernel, name)

    with contextlib.closing(Street()) as street:
        far, destination = street.subscriber()
        near, other = street.subscriber()
        number("narrow_port").value, number("narrow_error").value = far.address[1], error
        number("narrow_trains").value = 0
        trains = []
        for _ in range(3):
            for each in (destination, other):
                street.send(each, 500, 500, 500)
                street.fan.flush()
            trains.append(number("narrow_trains").value)
        # Nothing is lost, and the one who takes no train is offered one a single time
        assert [len(subscriber.came()) for subscriber in (far, near)] == [9, 9]
        assert [street.fan.refused(each) for each in (destination, other)] == [0, 0]
        assert trains == ([1, 1, 1] if for_all else [2, 3, 4])
        # Whoever takes its place begins anew
        street.fan.forget(destination)
        _, fresh = street.subscriber()
        street.send(fresh, 500, 500, 500)
        street.fan.flush()
        assert number("narrow_trains").value == (1 if for_all else 5)


@pytest.mark.parametrize("source", ["int fan_abi(void) { return 1; }", "int unused;", None])
def test_a_library_that_does_not_fit_is_said_and_not_used(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = tmp_path / "libfan.so"
    if source is None:
        library.write_bytes(b"no library at all")
    else:
        (tmp_path / "stale.c").write_text(source)
        build.compile_c(library, "-fPIC", "-shared", sources=(str(tmp_path / "stale.c"),))
    monkeypatch.setattr(fastpath, "LIBRARY", library)
    with caplog.at_level(logging.WARNING, "greenroom"):
        assert fastpath.load() is None
    assert "fan_out_unloadable" in caplog.text
    # And without one nothing is wrong
    caplog.clear()
    monkeypatch.setattr(fastpath, "LIBRARY", tmp_path / "none.so")
    assert fastpath.load() is None
    assert not caplog.records


def test_a_packet_that_is_too_large_or_too_small_is_not_sent(street: Street) -> None:
    subscriber, destination = street.subscriber()
    lanes = street.fan.lanes([Copy(destination, 96, 7, 0, 0, None)])
    for size in (0, 11, 1_501, 60_000):
        street.fan.packet(lanes, bytes(size), 1, 1, 0)
    street.fan.flush()
    assert subscriber.came() == []


class Way:
    """A path of one who is sent to."""

    def __init__(self, street: Street) -> None:
        self.subscriber = Subscriber(street.socket.family)
        street.subscribers.append(self.subscriber)
        self.protect_context = self.subscriber.context(native=True)
        self.unprotect_context = None
        self.socket, self.sendto, self.address = street.socket, street.socket.sendto, self.subscriber.address

    def close(self) -> None:
        """The street's socket stays."""


def carried_to(*wires: forwarding.Wire) -> PublishedTrack:
    track = PublishedTrack(track_id="trk", user_id="usr", kind="audio", codec="opus", clock_rate=48_000)
    for number, wire in enumerate(wires):
        slot = Slot(kind="audio", ssrc=number, seat=number, wire=wire, payload_types={"opus": 111})
        track.add(slot, 0)
    return track


def sent(track: PublishedTrack, sequence: int) -> None:
    kept = track.accept(sequence, 960 * sequence, 0, b"sound", 20 * sequence)
    assert kept is not None
    assert forwarding.fan_out(track.layers[0], kept) == 0
    forwarding.flush()


def test_only_who_is_sent_something_takes_a_place_and_who_finds_none_is_sent_it_all_the_same(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "native", street.fan)
    # Given connections that nothing is forwarded to, and as many places as ever
    ways = [Way(street) for _ in range(3)]
    wires = [forwarding.Wire(way) for way in ways]  # type: ignore[arg-type]
    last = Subscriber()
    street.subscribers.append(last)
    held = [street.fan.destination(last.context(native=True), street.socket, last.address) for _ in range(4_095)]
    assert all(held)
    # When one place is left for three of them
    street.fan.forget(held.pop())
    track = carried_to(*wires)
    for number in range(3):
        sent(track, number)
    # Then all three get everything
    assert [len(way.subscriber.came()) for way in ways] == [3, 3, 3]
    assert sum(bool(wire._destination) for wire in wires) == 1
    # And who is gone gets nothing
    for slot in tuple(track.slots):
        track.remove(slot, 100)
    for wire in wires:
        wire.close()
    sent(track, 3)
    assert [len(way.subscriber.came()) for way in ways] == [0, 0, 0]


def test_what_was_refused_is_known_after_the_end(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "native", street.fan)
    way = Way(street)
    way.address = ("255.255.255.255", 9)
    wire = forwarding.Wire(way)  # type: ignore[arg-type]
    track = carried_to(wire)
    sent(track, 0)
    assert wire.refused == 1
    wire.close()
    wire.close()
    assert wire.refused == 1


@pytest.mark.parametrize("sanitizers", ["address,undefined"])
def test_no_packet_and_no_caller_breaks_it(sanitizers: str, tmp_path: Path, seed: int) -> None:
    program = tmp_path / "torture"
    flags = ("-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    build.compile_c(program, *flags, sources=(*build.SOURCES, "torture.c"))
    command = [str(program), str(seed), str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert f"seed={seed} rounds={ROUNDS}" in done.stdout


def test_a_layer_without_lanes_costs_nothing() -> None:
    layer = Layer(0, "", 90_000)
    assert forwarding.fan_out(layer, Kept(1, 1, 0, bytes(20))) == 0
