"""A short seed of ``make chaos``: real processes killed at random, and the books are whole afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ops.house import ROOT


@pytest.mark.timeout(580)
def test_a_short_storm_costs_nobody_a_token(seed: int) -> None:
    # Given the whole house under load, and when its parts are killed for a few seconds
    environ = {**os.environ, "SECONDS": "10", "SEED": str(seed), "CHAOS_DATABASE": "sqlite"}
    storm = subprocess.run(
        [sys.executable, "-m", "chaos"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    # Then all came to its end, nothing was settled twice, and no letter is dead
    assert storm.returncode == 0, storm.stdout + storm.stderr
    assert "kill -9" in storm.stdout
