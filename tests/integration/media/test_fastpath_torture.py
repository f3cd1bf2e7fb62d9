"""The native engine built with the sanitizers, tortured with malformed packets and careless calls."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.fastpath import build

ROUNDS = 5_000


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_no_packet_and_no_caller_breaks_it(sanitizers: str, tmp_path: Path, seed: int) -> None:
    program = tmp_path / "torture"
    flags = ("-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    build.compile_c(program, *flags, sources=(*build.SOURCES, "torture_engine.c"))
    done = subprocess.run(
        [program, str(seed), str(ROUNDS)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert f"seed={seed} sent={20 * ROUNDS}" in done.stdout
