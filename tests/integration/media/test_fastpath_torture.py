"""The native engine built with the sanitizers, tortured with malformed packets and careless calls."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from media.fastpath import build, sources

ROUNDS = 5_000


def _unrandomised() -> list[str]:
    """Before a program: the thread sanitizer of GCC 12 gives up where the kernel puts things too far apart
    (vm.mmap_rnd_bits=32). Not everybody may ask for that."""
    command = ["setarch", "-R"]
    may = shutil.which("setarch") and subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if may and may.returncode == 0 else []


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_no_packet_and_no_caller_breaks_it(sanitizers: str, tmp_path: Path, seed: int) -> None:
    program = tmp_path / "torture"
    flags = ("-O1", "-g", "-Werror", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    build.compile_c(program, *flags, sources=(*sources.SOURCES, "torture_engine.c"))
    done = subprocess.run(
        [*_unrandomised(), program, str(seed), str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert f"seed={seed} sent={20 * ROUNDS}" in done.stdout
