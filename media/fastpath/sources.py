"""What the native engine is made of, and a checksum of it that the library carries: one that was built from other
files, or with other flags, is not used. Knows neither the compiler nor the library.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("rtp.c", "tables.c", "forward.c", "engine.c", "twcc.c")
HEADERS = ("twcc.h", "fastpath.h", "internal.h")
FLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-pthread")
"""Of everything that is compiled; tests add ``-Werror``: another compiler's new warning is nobody's outage."""
SHARED = ("-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden")
"""And of the library."""


def checksum(directory: Path = HERE) -> int:
    """64 bits over the library's files in ``directory`` and its flags; never 0. Raises OSError."""
    digest = hashlib.sha256(" ".join((*FLAGS, *SHARED)).encode())
    for name in (*HEADERS, *SOURCES):
        data = (directory / name).read_bytes()
        digest.update(f"\n{name} {len(data)}\n".encode() + data)
    return int.from_bytes(digest.digest()[:8], "big") | 1
