"""``load.c``: packets of many clients, sent, received and answered by one thread that costs little itself.

Clients are connected by somebody else, over real ICE and DTLS; their paths are taken over. What they send and say
looks as a browser's does: see ``load.c`` and ``load_answers.c``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

from media.aiortc_seam import Path as Transport
from media.aiortc_seam import address_in_memory, context_in_memory
from media.fastpath.build import compile_c

HERE = Path(__file__).resolve().parent
SOURCES = ("load.c", "load_answers.c", "load_floor.c")
VIDEO_BYTES, AUDIO_BYTES = 1200, 120
FRAMES, PACKETS_A_FRAME, SOUNDS = 30, 5, 50
PACKETS_IN = FRAMES * PACKETS_A_FRAME + SOUNDS
"""Of one participant of the full room, a second."""
MOST_LATE = 0.01
"""Of frames, sent late: beyond, the generator itself is the limit, and nothing is said of whoever is measured."""


class Counts(NamedTuple):
    """Packets, and milliseconds from the client's send to the instant at which the kernel had it for another."""

    sent: int
    received: int
    again: int
    """Came a second time, as NACKs wanted, or to fill a probe; not among those received."""
    failed: int
    late: float
    """The share of frames that were sent more than 2 ms after they were due."""
    feedbacks: int
    reports: int
    nacks: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Sending(NamedTuple):
    """How the packets of one m-line look; header extensions by id, 0 where they were not negotiated."""

    ssrc: int
    payload_type: int
    number_id: int = 0
    level_id: int = 0


class Receiving(NamedTuple):
    """What comes to a client: under which id transport-wide numbers, and under which types repeats."""

    path: Transport
    number_id: int
    repair_types: frozenset[int]


class Load:
    """One generator; compiled when it is made."""

    def __init__(self) -> None:
        self._ffi: Any = FFI()
        self._ffi.cdef((HERE / "load.h").read_text())
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory) / "load.so"
            flags = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden")
            compile_c(library, *flags, sources=tuple(HERE / name for name in SOURCES))
            self.library: Any = self._ffi.dlopen(str(library))
        calls = ("protect", "unprotect", "protect_rtcp", "unprotect_rtcp")
        self.library.load_use(*(self._function(f"srtp_{name}") for name in calls))

    def _function(self, name: str) -> Any:
        return self._ffi.cast("void *", address_in_memory(name))

    def sends(
        self,
        path: Transport,
        lines: Mapping[str, Sending],
        *,
        frames: int = FRAMES,
        packets: int = PACKETS_A_FRAME,
    ) -> list[int]:
        """What is published on ``path`` from now on: ``packets`` in each of ``frames`` a second, and sound."""
        host, port = path.address[:2]
        numbers = [
            self.library.load_stream(
                self.context(path.protect_context), path.socket.fileno(), host.encode(), port,
                lines[kind].ssrc, lines[kind].payload_type, burst, size, clock // rate, 1_000_000_000 // rate,
                lines[kind].number_id, lines[kind].level_id,
            )
            for kind, burst, size, clock, rate in (
                ("audio", 1, AUDIO_BYTES, 48_000, SOUNDS),
                ("video", packets, VIDEO_BYTES, 90_000, frames),
            )
        ]  # fmt: skip
        assert min(numbers) >= 0, "load.c has no more streams"
        return numbers

    def receives(self, receiving: Receiving) -> int:
        """What comes over that path, from now on, is counted, timed and answered."""
        path, library = receiving.path, self.library
        host, port = path.address[:2]
        number = int(library.load_sink(self.context(path.unprotect_context), path.socket.fileno()))
        assert number >= 0, "load.c has no more sinks, or the kernel no times"
        context, socket = self.context(path.protect_context), path.socket.fileno()
        assert not library.load_answers(number, context, socket, host.encode(), port, receiving.number_id)
        for payload_type in receiving.repair_types:
            library.load_repairs(number, payload_type)
        return number

    def context(self, of_libsrtp: Any) -> Any:
        """As C takes it."""
        return self._ffi.cast("void *", context_in_memory(of_libsrtp))

    def run(self, seconds: float) -> Counts:
        """Load for so long; from a thread, if anything else is to run in this process meanwhile."""
        self.library.load_run(seconds)
        counts = self._ffi.new("load_counts *")
        self.library.load_read(counts)
        shares = [self.library.load_percentile_us(share) / 1000 for share in (0.5, 0.99, 0.999)]
        return Counts(
            counts.sent, counts.received, counts.again, counts.failed + counts.unreadable,
            counts.late / max(1, counts.frames), counts.feedbacks, counts.reports, counts.nacks, *shares,
        )  # fmt: skip

    def floor(self, contexts: list[Any], handle: int, host: str, ports: list[int], pictures: int) -> float:
        """Packets a CPU second of nothing but sealing and sending, a picture to each receiver in one train."""
        raw = [self.context(context) for context in contexts]
        return float(self.library.load_floor(raw, len(raw), handle, host.encode(), ports, pictures))
