"""``load.c``: packets of many clients, sent and received by one thread that costs little itself.

Clients are connected by somebody else, over real ICE and DTLS; their paths are taken over.
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
VIDEO_BYTES, AUDIO_BYTES = 1200, 120
FRAMES, PACKETS_A_FRAME, SOUNDS = 30, 5, 50
PACKETS_IN = FRAMES * PACKETS_A_FRAME + SOUNDS
"""Of one participant of the full room, a second."""


class Counts(NamedTuple):
    """Packets, and milliseconds from the client's send to another's receive."""

    sent: int
    received: int
    failed: int
    late: float
    """The share of frames that were sent more than 2 ms after they were due: the generator itself is the limit."""
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Sending(NamedTuple):
    """How the packets of one m-line look."""

    ssrc: int
    payload_type: int


class Load:
    """One generator; compiled when it is made."""

    def __init__(self) -> None:
        self._ffi: Any = FFI()
        self._ffi.cdef((HERE / "load.h").read_text())
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory) / "load.so"
            compile_c(library, "-O2", "-fPIC", "-shared", sources=(HERE / "load.c",))
            self.library: Any = self._ffi.dlopen(str(library))
        self.library.load_use(*(self.function(f"srtp_{name}") for name in ("protect", "unprotect")))

    def function(self, name: str) -> Any:
        """Of libsrtp."""
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
            )
            for kind, burst, size, clock, rate in (
                ("audio", 1, AUDIO_BYTES, 48_000, SOUNDS),
                ("video", packets, VIDEO_BYTES, 90_000, frames),
            )
        ]  # fmt: skip
        assert min(numbers) >= 0, "load.c has no more streams"
        return numbers

    def receives(self, path: Transport, *, by_kernel: bool = False) -> int:
        """What comes over ``path``, from now on. ``by_kernel``: it came when the kernel had it, however late it
        is read."""
        number = int(self.library.load_sink(self.context(path.unprotect_context), path.socket.fileno()))
        assert number >= 0, "load.c has no more sinks"
        if by_kernel:
            assert not self.library.load_times(number)
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
        late = counts.late / max(1, counts.frames)
        return Counts(counts.sent, counts.received, counts.failed + counts.unreadable, late, *shares)
