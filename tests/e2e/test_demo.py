"""``make demo`` keeps its promise, and notices when a promise is broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ops.house import ROOT


def demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo.run"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_every_end_is_as_promised() -> None:
    played = demo()
    assert played.returncode == 0, played.stdout + played.stderr
    assert "Everything was as promised." in played.stdout
    assert "transfers: clean" in played.stdout


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_a_house_that_takes_more_than_it_said_is_found_out() -> None:
    played = demo(COMMISSION_PERCENT="30")
    assert played.returncode == 1
    assert "commission is 60, not 40" in played.stdout
