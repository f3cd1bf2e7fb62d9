"""Clock clips, encoded once a run of this directory: small, because every test process makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import clock_clip
from tests.fakes.clock_clip import Clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """By name: a wide VP8 one, and two of H.264, wide and upright."""
    directory = Path(tmp_path_factory.mktemp("clips"))
    return {
        "wide": clock_clip.make(directory, codec="VP8", width=480, height=270, seconds=6),
        "other": clock_clip.make(directory, codec="H264", width=426, height=240, seconds=6),
        "upright": clock_clip.make(directory, codec="H264", width=240, height=426, seconds=6),
    }
