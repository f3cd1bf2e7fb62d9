"""The native half of fan-out, from Python: see ``fan.h`` and ``twcc.h``. Without it, ``media.forwarding`` does it.

A shared library and no extension module: it needs a C compiler and no Python headers. libsrtp is the one that
made the contexts, by the addresses of its functions.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

from media.aiortc_seam import address_in_memory, context_in_memory
from media.send_history import Feedback, Step
from models import log

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "libfan.so"
"""What :mod:`media.fastpath.build` makes."""
ABI = 3
"""What ``fan_abi`` says of a library that was built from the ``fan.h`` beside this."""


class Copy(NamedTuple):
    """How one subscriber knows a packet; offsets are added to the numbers that are given."""

    destination: int
    payload_type: int
    ssrc: int
    sequence_offset: int
    timestamp_offset: int
    shift: tuple[int, int] | None
    """What is added to VP8's picture id and TL0PICIDX."""
    extension: int = 0
    """Under which id the transport-wide number goes, 1 to 14; 0: there is none."""


def read_report(said: Any) -> Feedback:
    """A ``twcc_report`` of C."""
    steps = tuple(Step(each.sent_us, each.arrived_us, each.octets) for each in said.steps[0 : said.count])
    return Feedback(
        said.received, said.lost, said.recovered, said.octets, said.sent_us, said.arrived_us,
        said.probe_packets, said.probe_octets, said.probe_sent_us, said.probe_arrived_us, steps,
    )  # fmt: skip


class NativeHistory:
    """``media.send_history.History`` in C: fan-out itself numbers what it sends."""

    def __init__(self, ffi: Any, library: Any) -> None:
        """Raises MemoryError."""
        history = library.twcc_new()
        if not history:
            raise MemoryError("no room for what is sent")
        self._ffi, self._library = ffi, library
        self.pointer = ffi.gc(history, library.twcc_free)
        self._report = ffi.new("twcc_report *")

    def stamp(self, size: int) -> int:
        """The number of a packet that is sent now; ``size``: as it leaves."""
        return self.stamp_at(self._library.twcc_now(), size)

    def stamp_at(self, now_us: int, size: int) -> int:
        """The number of a packet that is sent at this microsecond."""
        return int(self._library.twcc_stamp(self.pointer, now_us, size))

    def probe(self, probe: int) -> None:
        """What is sent from now on belongs to a probe of this number, 1 to 255; 0: to none."""
        self._library.twcc_probe(self.pointer, probe)

    def settle(self) -> None:
        """What was sent up to now is not counted as lost any more."""
        self._library.twcc_settle(self.pointer)

    def feedback(self, body: bytes) -> Feedback | None:
        """Take the body of a feedback (RTCP type 205, format 15); None: it makes no sense, nothing changed."""
        said = self._report
        if not self._library.twcc_feedback(self.pointer, body, len(body), said):
            return None
        return read_report(said)


class Fan:
    """Everybody's outgoing packets. What is given waits until ``flush``; see ``fan.h``."""

    def __init__(self) -> None:
        """Raises OSError if the library cannot be loaded or is of another ``ABI``, MemoryError."""
        self._ffi: Any = FFI()
        for declarations in ("twcc.h", "fan.h"):
            self._ffi.cdef((HERE / declarations).read_text())
        self._library: Any = self._ffi.dlopen(str(LIBRARY))
        try:
            abi = self._library.fan_abi()
        except AttributeError:  # from before it was numbered
            abi = 1
        if abi != ABI:
            raise OSError(f"built from other sources: ABI {abi}, not {ABI}")
        protect = self._ffi.cast("int (*)(void *, void *, int *)", address_in_memory("srtp_protect"))
        fan = self._library.fan_new(protect)
        if not fan:
            raise MemoryError("no room for packets")
        self._fan = self._ffi.gc(fan, self._library.fan_free)
        self._packet = self._library.fan_packet
        self._flush = self._library.fan_flush

    def history(self) -> NativeHistory:
        """Numbers for one connection. Raises MemoryError."""
        return NativeHistory(self._ffi, self._library)

    def destination(
        self, context: Any, handle: socket.socket, address: tuple[Any, ...], history: NativeHistory | None = None
    ) -> int:
        """Send to ``address`` by ``handle``, sealed with libsrtp's ``context`` and numbered by ``history``, until
        ``forget`` (so long the caller keeps both); 0: there are too many, and the caller sends by itself."""
        name = _sockaddr(address)
        pointer = self._ffi.cast("void *", context_in_memory(context))
        numbers = history.pointer if history is not None else self._ffi.NULL
        return int(
            self._library.fan_destination(self._fan, pointer, handle.fileno(), name, len(name), numbers)
        )

    def forget(self, destination: int) -> None:
        """Nothing is sent there any more, what waits included, and its context is not used again."""
        self._library.fan_forget(self._fan, destination)

    def refused(self, destination: int) -> int:
        """Packets that the socket did not take."""
        return int(self._library.fan_refused(self._fan, destination))

    def lanes(self, copies: Iterable[Copy]) -> tuple[Any, int]:
        """What ``packet`` takes: made once, used for every packet."""
        made = [
            (
                copy.destination, copy.ssrc, copy.timestamp_offset & 0xFFFFFFFF, copy.sequence_offset & 0xFFFF,
                *((copy.shift[0] & 0xFFFF, copy.shift[1] & 0xFF, 1) if copy.shift else (0, 0, 0)),
                copy.payload_type, copy.extension,
            )
            for copy in copies
        ]  # fmt: skip
        return self._ffi.new("fan_lane[]", made), len(made)

    def packet(self, lanes: tuple[Any, int], packet: bytes, sequence: int, timestamp: int, marker: int) -> None:
        """Seal a packet for each lane. Its first 12 bytes are overwritten; ``marker`` is 0x80 or 0."""
        self._packet(self._fan, *lanes, packet, len(packet), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, marker)

    def flush(self) -> None:
        """Send what waits."""
        self._flush(self._fan)


def load() -> Fan | None:
    """The native fan-out, if it was built here and can be used; what is wrong with it is logged."""
    try:
        return Fan() if LIBRARY.exists() else None
    except OSError as error:
        log.event("fan_out_unloadable", level=logging.WARNING, error=str(error))
        return None


def _sockaddr(address: tuple[Any, ...]) -> bytes:
    """A ``sockaddr_in`` or ``sockaddr_in6`` of this machine (ip(7), ipv6(7))."""
    host, port = str(address[0]).partition("%")[0], int(address[1])
    ip = ipaddress.ip_address(host)
    if ip.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, ip.packed)
    scope = int(address[3]) if len(address) > 3 else 0
    six = struct.pack("!HI16s", port, 0, ip.packed)
    return struct.pack("=H", socket.AF_INET6) + six + struct.pack("=I", scope)
