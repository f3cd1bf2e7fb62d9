"""The ladder: which qualities a broadcast is encoded in, how it is cut, and which tier may watch which.

Shared by the transcode worker that makes the files and the web app that serves them. Part of the shelf.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FRAMES_PER_SECOND = 30
WIDTH, HEIGHT = 1280, 720
"""The composed picture, which the top rung shows as it is."""
SAMPLES_PER_SECOND = 48_000
SLOT_SECONDS = 2
"""One segment of every rung; key frames are this far apart."""
PARTS_PER_SLOT = 4
AUDIO = "audio"
"""Name of the rung that is sound alone, and of the group that the others take their sound from."""
AUDIO_KBPS = 96

Tier = Literal["free", "premium"]
TIERS: tuple[Tier, ...] = ("free", "premium")


class Rung(NamedTuple):
    """One quality of picture; ``kbps`` is what its encoder aims at."""

    name: str
    width: int
    height: int
    kbps: int


RUNGS = (
    Rung("720p", 1280, 720, 2500),
    Rung("480p", 854, 480, 1100),
    Rung("240p", 426, 240, 350),
)
RENDITIONS = (*(rung.name for rung in RUNGS), AUDIO)
"""The directories below a broadcast's."""
FREE_HEIGHT = 480


def rungs_of(tier: Tier) -> tuple[Rung, ...]:
    """What ``tier`` may watch, best first."""
    return RUNGS if tier == "premium" else tuple(rung for rung in RUNGS if rung.height <= FREE_HEIGHT)


def master_name(tier: Tier) -> str:
    """The HLS multivariant playlist of ``tier``, below a broadcast's directory."""
    return f"master.{tier}.m3u8"


def manifest_name(tier: Tier) -> str:
    """The DASH manifest of ``tier``, below a broadcast's directory."""
    return f"manifest.{tier}.mpd"
