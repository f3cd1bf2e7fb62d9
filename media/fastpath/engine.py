"""The native engine, from Python: one class, one method for each function of ``fastpath.h``, which documents them.

A thread of the library's own receives, opens, forwards, seals and sends; what is for Python waits in a queue
until ``take``. Knows no asyncio: whoever owns a loop watches ``wake``.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import msgspec
from cffi import FFI

from media.aiortc_seam import address_in_memory
from media.fastpath.sources import checksum
from media.send_history import Feedback, Step
from models import log

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "libfastpath.so"
"""What :mod:`media.fastpath.build` makes."""
TAKE_BYTES = 1 << 16
"""Some forty packets: a millisecond or two of Python."""
FOREVER = (1 << 63) - 1
"""A gate that nobody closes."""
PASSED, REPEATED, REPAIR, INJECTED = 1, 2, 4, 8
"""Flags of a record; see ``fastpath.h``."""
_RECORD = Struct("=IIIIqqIIiHHhBB4x")
"""An ``fp_record`` with an ``fp_packet`` in it."""
_ADDRESS = Struct("=16sHH")
_ADDRESS_AT = 32
"""Where that is in a datagram's record."""
_ENTRY = Struct("=qIIIHBx")


class Kind(IntEnum):
    """What a record is; see ``fastpath.h``."""

    DATAGRAM = 1
    RTCP = 2
    STRANGER = 3
    PACKET = 4
    ENTERED = 5


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


class Record(msgspec.Struct, frozen=True, gc=False):
    """Something for Python to know, in microseconds of the monotonic clock; see ``fp_record``.

    One is made for every packet that comes: what few ask for is taken out of its batch only when they do.
    """

    batch: bytes
    at: int
    """Where its bytes begin in the batch with which it was taken."""
    kind: int
    size: int
    id: int
    flags: int
    at_us: int
    sequence: int
    timestamp: int
    """From here to ``key``: of a packet, as ``fp_packet`` has it."""
    ssrc: int
    wide: int
    payload_at: int
    payload_size: int
    level: int
    marker: int
    key: int

    @property
    def data(self) -> bytes:
        """All bytes of the datagram, opened."""
        return self.batch[self.at : self.at + self.size]

    @property
    def payload(self) -> bytes:
        """Of a packet: of what is sent again (RFC 4588) without its number."""
        begin = self.at + self.payload_at
        return self.batch[begin : begin + self.payload_size]

    @property
    def address(self) -> Address:
        """Where a datagram came from."""
        ip, port, number = _ADDRESS.unpack_from(self.batch, self.at - _RECORD.size + _ADDRESS_AT)
        if ip.startswith(_MAPPED):
            return Address(socket.inet_ntop(socket.AF_INET, ip[12:]), port, number)
        return Address(socket.inet_ntop(socket.AF_INET6, ip), port, number)

    @property
    def entry(self) -> Entry:
        """How a lane knows what it carries."""
        return Entry(*_ENTRY.unpack(self.data))


class Entry(NamedTuple):
    """What is added to a source's numbers; see ``fp_entry``."""

    sequence_offset: int
    source: int
    ticket: int
    timestamp_offset: int
    picture_offset: int
    level_offset: int


def read_report(said: Any) -> Feedback:
    """A ``twcc_report`` of C."""
    steps = tuple(Step(each.sent_us, each.arrived_us, each.octets) for each in said.steps[0 : said.count])
    return Feedback(
        said.received, said.lost, said.recovered, said.octets, said.sent_us, said.arrived_us,
        said.probe_packets, said.probe_octets, said.probe_sent_us, said.probe_arrived_us, steps,
    )  # fmt: skip


class EngineError(Exception):
    """The library is missing or of other sources, or a table is full."""


class _Closed:
    """Stands for the library once there is no engine: every place is gone, and nothing waits."""

    def __init__(self, dropped: int, lost: int) -> None:
        self._answers = {
            "fp_open": 0, "fp_source": 0, "fp_lane": 0, "fp_take": 0, "fp_drain": 1, "fp_feedback": 0, "fp_pad": 0,
            "fp_resend": 0, "fp_gate": -2, "fp_dropped": dropped, "fp_lost": lost,
        }  # fmt: skip

    def __getattr__(self, name: str) -> Callable[..., int]:
        answer = self._answers.get(name, -1)
        return lambda *_: answer


class Engine:
    """One node's packets. ``close`` it: its thread uses the sockets until then. Afterwards nothing is known to it,
    and nothing happens."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        """``sockets``: bound and non-blocking; they stay the caller's. Raises EngineError."""
        if not LIBRARY.exists():
            raise EngineError("the native engine was not built: python -m media.fastpath.build")
        self._ffi, self._library = _library()
        self.keeps: list[Any] = []
        """What its thread uses, or whoever has that: it lives until ``close``, whoever forgets this."""
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when records wait."""
        srtp = self._ffi.new("fp_srtp *")
        for name, field in self._ffi.typeof("fp_srtp").fields:
            setattr(srtp, name, self._ffi.cast(field.type, address_in_memory(f"srtp_{name}")))
        numbers = [each.fileno() for each in sockets]
        self._engine = self._library.fp_new(srtp, numbers, len(numbers), self.wake)
        self._buffer = self._ffi.new("uint8_t[]", TAKE_BYTES)
        self._view = memoryview(self._ffi.buffer(self._buffer))
        self._counters = self._ffi.new("fp_counters *")
        self._wish = self._ffi.new("fp_wish *")
        self._said = self._ffi.new("twcc_report *")
        if not self._engine:
            os.close(self.wake)
            raise EngineError("no memory, no thread, or a socket that is none")
        _running.add(self)

    def close(self) -> None:
        """End the thread; nothing is received or sent any more. Harmless to repeat."""
        if self._engine:
            library, engine, self._engine = self._library, self._engine, None
            self._library = _Closed(library.fp_dropped(engine), library.fp_lost(engine))
            library.fp_free(engine)
            os.close(self.wake)
            self.keeps.clear()
            _running.discard(self)

    def take(self) -> Iterator[Record]:
        """Some of what waits, oldest first; call it until it yields nothing."""
        size = self._library.fp_take(self._engine, self._buffer, TAKE_BYTES)
        taken, at, unpack, head = bytes(self._view[:size]), 0, _RECORD.unpack_from, _RECORD.size
        while at < size:
            record = Record(taken, at + head, *unpack(taken, at))
            yield record
            at += head + (record.size + 7 & ~7)

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
        """What comes from there is its; False: the connection is gone, or too many addresses are known."""
        return _fine(self._library.fp_bind(self._engine, connection, self._to(address)))

    def unbind(self, connection: int, address: Address) -> bool:
        """What comes from there is its no longer."""
        return _fine(self._library.fp_unbind(self._engine, connection, self._to(address)))

    def nominate(self, connection: int, address: Address) -> bool:
        """Send there from now on."""
        return _fine(self._library.fp_nominate(self._engine, connection, self._to(address)))

    def secure(self, connection: int, protect: int, unprotect: int) -> bool:
        """Use these SRTP contexts, given as addresses, until ``shut``."""
        pointers = (self._ffi.cast("void *", protect), self._ffi.cast("void *", unprotect))
        return _fine(self._library.fp_secure(self._engine, connection, *pointers))

    def send_rtcp(self, connection: int, compound: bytes) -> bool:
        """Seal and send a compound."""
        return _fine(self._library.fp_send_rtcp(self._engine, connection, compound, len(compound)))

    def inject(self, connection: int, packet: bytes) -> bool:
        """Handle a stranger's packet now that its SSRC has a name."""
        return _fine(self._library.fp_inject(self._engine, connection, packet, len(packet)))

    def retry(self, connection: int) -> bool:
        """Tell of strangers again that were given up."""
        return _fine(self._library.fp_retry(self._engine, connection))

    def number(self, connection: int) -> bool:
        """Give what is sent on it transport-wide numbers, in lanes that carry with an extension for them."""
        return _fine(self._library.fp_number(self._engine, connection))

    def probe(self, connection: int, probe: int) -> None:
        """What is sent from now on belongs to a probe of this number, 1 to 255; 0: to none."""
        self._library.fp_probe(self._engine, connection, probe)

    def settle(self, connection: int) -> None:
        """What was sent up to now is not counted as lost any more."""
        self._library.fp_settle(self._engine, connection)

    def feedback(self, connection: int, body: bytes) -> Feedback | None:
        """Take a transport-wide feedback (see ``twcc.h``); None: it makes no sense, nothing changed."""
        made_sense = self._library.fp_feedback(self._engine, connection, body, len(body), self._said)
        return read_report(self._said) if made_sense else None

    def shut(self, connection: int) -> None:
        """End a connection with its sources and lanes: on return nothing of it is forwarded or touched."""
        self._library.fp_close(self._engine, connection)

    # --- sources

    def source(self, connection: int, codec: Codec, clock_rate: int, until_us: int) -> int:
        """A track, or a layer of one; ``until_us`` as in ``gate``. Raises EngineError."""
        return self._made(self._library.fp_source(self._engine, connection, codec, clock_rate, until_us))

    def name(self, source: int, ssrc: int, *, repairs: bool = False) -> bool:
        """That SSRC brings it, or repairs it (RFC 4588); False: the source is gone, or too many are known."""
        return _fine(self._library.fp_name(self._engine, source, ssrc, repairs))

    def read(self, source: int, *, wide: int, level: int) -> None:
        """Under which ids its packets carry a transport-wide number and an audio level; 0: they do not."""
        self._library.fp_read(self._engine, source, wide, level)

    def gate(self, source: int, until_us: int, replay_from: int = -1) -> int:
        """Forward until then, whatever Python does; begin with what was held back, or what comes. The newest
        sequence that has come; below zero: there is none."""
        return int(self._library.fp_gate(self._engine, source, until_us, replay_from))

    def drop(self, source: int) -> None:
        """Forget it; lanes that carried it carry nothing."""
        self._library.fp_drop(self._engine, source)

    # --- lanes

    def lane(self, connection: int, ssrc: int, retransmission_ssrc: int = 0) -> int:
        """An SSRC of a subscriber. Raises EngineError."""
        return self._made(self._library.fp_lane(self._engine, connection, ssrc, retransmission_ssrc))

    def carry(
        self, lane: int, source: int, payload_type: int = 0, repair_type: int = 0, *, ticket: int = 0,
        before: int = 0, ticks: int = 0, extension: int = 0,
    ) -> bool:  # fmt: skip
        """Carry ``source`` from its next key frame on (0: nothing, at once)."""
        self._wish.source, self._wish.ticket = source, ticket
        self._wish.before, self._wish.ticks = before, ticks & 0xFFFFFFFF
        self._wish.payload_type, self._wish.retransmission_type = payload_type, repair_type
        self._wish.extension = extension
        return _fine(self._library.fp_carry(self._engine, lane, self._wish))

    def pad(self, lane: int) -> bool:
        """Send a packet of padding on the lane's repair stream."""
        return bool(self._library.fp_pad(self._engine, lane))

    def resend(self, lane: int, numbers: Sequence[int]) -> int:
        """Send packets again that the subscriber knows by these 16 bit numbers; how many there were."""
        return int(self._library.fp_resend(self._engine, lane, list(numbers), len(numbers)))

    def end(self, lane: int) -> None:
        """Forget the lane."""
        self._library.fp_end(self._engine, lane)

    def lose(self, one_in: int) -> None:
        """For proofs of what is repaired: keep one fresh packet in so many, but do not send it; 0: send all."""
        self._library.fp_lose(self._engine, one_in)

    @property
    def lost(self) -> int:
        """Packets that were not sent by ``lose``."""
        return int(self._library.fp_lost(self._engine))

    def connection_counters(self, connection: int) -> dict[str, int]:
        """Counters of a connection; empty once it is gone."""
        return self._read(self._library.fp_connection_counters(self._engine, connection, self._counters))

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


_MAPPED = bytes(10) + b"\xff\xff"


def _mapped(host: str) -> bytes:
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return _MAPPED + socket.inet_pton(socket.AF_INET, host)


_running: set[Engine] = set()
"""None is collected while its thread runs: that would free what the thread uses, and unload its code."""


@functools.cache
def _library() -> tuple[Any, Any]:
    """The library, which is never unloaded. Raises EngineError, OSError."""
    ffi: Any = FFI()
    for declarations in ("twcc.h", "fastpath.h"):
        ffi.cdef((HERE / declarations).read_text())
    library: Any = ffi.dlopen(str(LIBRARY))
    try:
        abi = library.fp_abi()
    except AttributeError:
        abi = 0
    if abi != (wanted := checksum(HERE)):
        raise EngineError(f"built from other sources ({abi:x}, not {wanted:x}): python -m media.fastpath.build")
    return ffi, library


@functools.cache
def _say_not_built() -> None:
    """Once a process."""
    log.event("engine_not_built", level=logging.WARNING, build="python -m media.fastpath.build")


def load(sockets: Sequence[socket.socket]) -> Engine | None:
    """An engine on these sockets, if it was built here and can be used. That there is none, or what is wrong with
    it, is logged: without it a node carries a quarter as much."""
    if not LIBRARY.exists():
        _say_not_built()
        return None
    try:
        return Engine(sockets)
    except (EngineError, OSError) as error:
        log.event("engine_unloadable", level=logging.WARNING, error=str(error))
        return None
