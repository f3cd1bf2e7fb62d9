"""The native engine, from Python: one class, one method for each function of ``fastpath.h``, which documents them.

A thread of the library's own receives, opens, forwards, seals and sends; what is for Python waits in a queue
until ``take``. Knows no asyncio: whoever owns a loop watches ``wake``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from socket import socket
from struct import Struct
from typing import Any, NamedTuple

from cffi import FFI
from pylibsrtp._binding import ffi as srtp_ffi
from pylibsrtp._binding import lib as srtp_lib

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "libfastpath.so"
"""What :mod:`media.fastpath.build` makes."""
TAKE_BYTES = 1 << 18
FOREVER = (1 << 63) - 1
"""A gate that nobody closes."""
_RECORD = Struct("=IIIIqqII16sHH4x")


class Kind(IntEnum):
    """What a record is; see ``fastpath.h``."""

    DATAGRAM = 1
    RTCP = 2
    STRANGER = 3
    FRAME = 4
    PACKET = 5
    ENDED = 6


class Codec(IntEnum):
    """What is told apart for its key frames."""

    OPUS = 0
    VP8 = 1
    H264 = 2
    VP9 = 3
    AV1 = 4


class Address(NamedTuple):
    """A remote address, and which of our sockets it talks to."""

    host: str
    port: int
    socket: int = 0


class Record(NamedTuple):
    """Something for Python to know, in microseconds of the monotonic clock."""

    kind: Kind
    id: int
    flags: int
    at_us: int
    sequence: int
    timestamp: int
    value: int
    address: Address | None
    data: bytes


class EngineError(Exception):
    """The library is missing, or a table is full."""


def _declarations() -> str:
    return (HERE / "fastpath.h").read_text()


class Engine:
    """One node's packets. ``close`` it: its thread uses the sockets until then."""

    def __init__(self, sockets: Sequence[socket]) -> None:
        """``sockets``: bound and non-blocking; they stay the caller's. Raises EngineError."""
        if not LIBRARY.exists():
            raise EngineError("the native engine was not built: python -m media.fastpath.build")
        self._ffi: Any = FFI()
        self._ffi.cdef(_declarations())
        self._library: Any = self._ffi.dlopen(str(LIBRARY))
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when records wait."""
        srtp = self._ffi.new("fp_srtp *")
        for name, field in self._ffi.typeof("fp_srtp").fields:
            pointer = int(srtp_ffi.cast("uintptr_t", srtp_ffi.addressof(srtp_lib, f"srtp_{name}")))
            setattr(srtp, name, self._ffi.cast(field.type, pointer))
        numbers = [each.fileno() for each in sockets]
        self._engine = self._library.fp_new(srtp, numbers, len(numbers), self.wake)
        self._buffer = self._ffi.new("uint8_t[]", TAKE_BYTES)
        self._view = memoryview(self._ffi.buffer(self._buffer))
        self._counters = self._ffi.new("fp_counters *")
        if not self._engine:
            os.close(self.wake)
            raise EngineError("no memory, no thread, or a socket that is none")

    def close(self) -> None:
        """End the thread; nothing is received or sent any more. Harmless to repeat."""
        if self._engine:
            self._library.fp_free(self._engine)
            self._engine = None
            os.close(self.wake)

    def take(self) -> Iterator[Record]:
        """What waits, oldest first; call it until it yields nothing."""
        size = self._library.fp_take(self._engine, self._buffer, TAKE_BYTES)
        taken, at = bytes(self._view[:size]), 0
        while at < size:
            head = _RECORD.unpack_from(taken, at)
            at += _RECORD.size
            kind, length, identity, flags, at_us, sequence, timestamp, value = head[:8]
            address, data = _address(*head[8:]), taken[at : at + length]
            yield Record(Kind(kind), identity, flags, at_us, sequence, timestamp, value, address, data)
            at += length + 7 & ~7

    def drain(self, most: int) -> bool:
        """Handle what the kernel holds now, at most ``most`` datagrams; whether nothing is left."""
        return bool(self._library.fp_drain(self._engine, most))

    @property
    def dropped(self) -> int:
        """Records that found no room."""
        return int(self._library.fp_dropped(self._engine))

    # --- connections

    def open(self) -> int:
        """A connection. Raises EngineError when there are too many."""
        return self._made(self._library.fp_open(self._engine))

    def bind(self, connection: int, address: Address) -> bool:
        """That address passed a check; False: the connection is gone, or too many addresses are known."""
        return _fine(self._library.fp_bind(self._engine, connection, self._to(address)))

    def nominate(self, connection: int, address: Address) -> bool:
        """Send there from now on."""
        return _fine(self._library.fp_nominate(self._engine, connection, self._to(address)))

    def secure(self, connection: int, protect: int, unprotect: int) -> bool:
        """Use these SRTP contexts, given as addresses, until ``shut``."""
        pointers = (self._ffi.cast("void *", protect), self._ffi.cast("void *", unprotect))
        return _fine(self._library.fp_secure(self._engine, connection, *pointers))

    def send(self, address: Address, data: bytes) -> bool:
        """Send a datagram that is no media; False: the socket was full."""
        return _fine(self._library.fp_send(self._engine, self._to(address), data, len(data)))

    def send_rtcp(self, connection: int, compound: bytes) -> bool:
        """Seal and send a compound."""
        return _fine(self._library.fp_send_rtcp(self._engine, connection, compound, len(compound)))

    def transport_cc(self, connection: int, extension_id: int) -> bool:
        """Note when each transport-wide number of this header extension arrives; 0: none."""
        return _fine(self._library.fp_transport_cc(self._engine, connection, extension_id))

    def arrivals(self, connection: int) -> list[tuple[int, int]]:
        """Transport-wide numbers and when they came, since the last call."""
        numbers, times = self._ffi.new("uint16_t[1024]"), self._ffi.new("int64_t[1024]")
        count = self._library.fp_arrivals(self._engine, connection, numbers, times, 1024)
        return [(numbers[at], times[at]) for at in range(count)]

    def shut(self, connection: int) -> None:
        """End a connection with its sources and lanes: on return nothing of it is forwarded or touched."""
        self._library.fp_close(self._engine, connection)

    # --- sources

    def source(self, connection: int, ssrc: int, codec: Codec, clock_rate: int) -> int:
        """What this SSRC of a publisher brings. Raises EngineError."""
        return self._made(self._library.fp_source(self._engine, connection, ssrc, codec, clock_rate))

    def retransmission(self, source: int, ssrc: int) -> bool:
        """That SSRC repairs this source (RFC 4588)."""
        return _fine(self._library.fp_retransmission(self._engine, source, ssrc))

    def ignore(self, connection: int, ssrc: int) -> bool:
        """Nothing of that SSRC is wanted."""
        return _fine(self._library.fp_ignore(self._engine, connection, ssrc))

    def copy(self, source: int, wanted: bool) -> bool:
        """Hand every packet that passed up as well, or stop that."""
        return _fine(self._library.fp_copy(self._engine, source, int(wanted)))

    def gate(self, source: int, until_us: int, replay_from: int = -1) -> bool:
        """Forward until then, whatever Python does; begin with what was held back, or what comes."""
        return _fine(self._library.fp_gate(self._engine, source, until_us, replay_from))

    def missing(self, source: int, before_us: int) -> list[int]:
        """Sequences that did not come and were not asked for since ``before_us``."""
        found = self._ffi.new("int64_t[256]")
        count = self._library.fp_missing(self._engine, source, before_us, found, 256)
        return [found[at] for at in range(count)]

    def drop(self, source: int) -> None:
        """Forget it; lanes that carried it carry nothing."""
        self._library.fp_drop(self._engine, source)

    # --- lanes

    def lane(self, connection: int, ssrc: int, retransmission_ssrc: int = 0) -> int:
        """An SSRC of a subscriber. Raises EngineError."""
        return self._made(self._library.fp_lane(self._engine, connection, ssrc, retransmission_ssrc))

    def carry(self, lane: int, source: int, payload_type: int = 0, retransmission_type: int = 0) -> bool:
        """Carry ``source`` from its next key frame on (0: nothing, at once)."""
        return _fine(self._library.fp_carry(self._engine, lane, source, payload_type, retransmission_type))

    def resend(self, lane: int, numbers: Sequence[int]) -> int:
        """Send packets again that the subscriber knows by these 16 bit numbers; how many there were."""
        return int(self._library.fp_resend(self._engine, lane, list(numbers), len(numbers)))

    def end(self, lane: int) -> None:
        """Forget the lane."""
        self._library.fp_end(self._engine, lane)

    def source_counters(self, source: int) -> dict[str, int]:
        """Counters of a source; empty once it is gone."""
        return self._read(self._library.fp_source_counters(self._engine, source, self._counters))

    def lane_counters(self, lane: int) -> dict[str, int]:
        """Counters of a lane; empty once it is gone."""
        return self._read(self._library.fp_lane_counters(self._engine, lane, self._counters))

    # --- small things

    def _read(self, answer: int) -> dict[str, int]:
        if answer:
            return {}
        return {name: int(getattr(self._counters, name)) for name, _ in self._ffi.typeof("fp_counters").fields}

    @staticmethod
    def _made(identity: int) -> int:
        if not identity:
            raise EngineError("gone, or every place is taken")
        return identity

    def _to(self, address: Address) -> Any:
        packed = self._ffi.new("fp_address *")
        packed.ip, packed.port, packed.socket = _mapped(address.host), address.port, address.socket
        return packed


def _fine(answer: int) -> bool:
    return answer == 0


def _mapped(host: str) -> bytes:
    if ":" in host:
        return IPv6Address(host.partition("%")[0]).packed
    return bytes(10) + b"\xff\xff" + IPv4Address(host).packed


def _address(ip: bytes, port: int, number: int) -> Address | None:
    if not port:
        return None
    six = IPv6Address(ip)
    return Address(str(six.ipv4_mapped or six), port, number)
