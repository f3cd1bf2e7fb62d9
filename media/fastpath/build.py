"""Builds the native engine: ``python -m media.fastpath.build``, which the installation runs, and no import.

Without a compiler there is none, and media takes the Python path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from media.fastpath.engine import HERE, LIBRARY

SOURCES = ("rtp.c", "tables.c", "forward.c", "engine.c", "twcc.c")
FLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread")


def compile_c(output: Path, *flags: str, sources: tuple[str | Path, ...] = SOURCES) -> None:
    """Compile ``sources`` to ``output``; raises CalledProcessError with the compiler's words on stderr."""
    compiler = os.environ.get("CC", "cc")
    # Beside its place first: a process that has the former one loaded keeps it.
    fresh = output.with_suffix(f".{os.getpid()}")
    paths = [str(HERE / name) for name in sources]  # an absolute path stays as it is
    subprocess.run([compiler, *FLAGS, *flags, "-o", str(fresh), *paths], check=True, timeout=120)
    fresh.replace(output)


def is_fresh() -> bool:
    """Whether the library is there and younger than everything that it is made of."""
    if not LIBRARY.exists():
        return False
    made = LIBRARY.stat().st_mtime
    return all(path.stat().st_mtime <= made for path in HERE.iterdir() if path.suffix in (".c", ".h"))


def build() -> None:
    """Build the library, unless it is fresh."""
    if not is_fresh():
        compile_c(LIBRARY, "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden")


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"the native engine was not built: {error}")
