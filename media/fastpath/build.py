"""Builds the native engine: ``python -m media.fastpath.build``, which the installation runs, and no import.

Without a compiler there is none, and media takes the Python path.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from media.fastpath.engine import LIBRARY
from media.fastpath.sources import FLAGS, HERE, SHARED, SOURCES, checksum


def compile_c(output: Path, *flags: str, sources: tuple[str | Path, ...] = SOURCES) -> None:
    """Compile ``sources`` to ``output``; raises CalledProcessError with the compiler's words on stderr."""
    compiler = os.environ.get("CC", "cc")
    # Beside its place first: a process that has the former one loaded keeps it.
    fresh = output.with_suffix(f".{os.getpid()}")
    paths = [str(HERE / name) for name in sources]  # an absolute path stays as it is
    command = [compiler, *FLAGS, f"-DFP_SOURCES={checksum():#x}", *flags, "-o", str(fresh), *paths]
    subprocess.run(command, check=True, timeout=120)
    fresh.replace(output)


def is_fresh(library: Path) -> bool:
    """Whether that library is there, and was built from what lies here."""
    try:
        said = ctypes.CDLL(str(library)).fp_abi
    except (OSError, AttributeError):
        return False
    said.restype = ctypes.c_uint64
    return bool(said() == checksum())


def build() -> None:
    """Build the library, unless it is fresh."""
    if not is_fresh(LIBRARY):
        compile_c(LIBRARY, *SHARED)


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"the native engine was not built: {error}")
