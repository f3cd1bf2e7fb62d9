"""How far sound and picture are apart in a broadcast's segments, over the whole of a run, and whether that grows.

Each second of the clip flashes and beeps at the same moment; what lies between them in the segments is ours.
Playlists forget segments, so each is kept by a link as soon as it is there, and decoded when nothing is measured
any more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.spectators_clip import sound_after_picture
from models.ladder import AUDIO

SECONDS_PER_HOUR = 3600.0
RESAMPLES = 2000
CONFIDENCE = 1.96
"""Standard deviations on each side of 95 %."""
TELLS_SECONDS = 300
"""Of less, the few milliseconds by which a first sender report moves a clock are a drift."""
AIM_MS, AIM_MS_PER_HOUR = 25.0, 10.0


class Between(NamedTuple):
    """A value and the interval that holds it with 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.1f} (95 %: {self.low:+.1f} to {self.high:+.1f})"


class Kept:
    """Hard links to the segments of one rung and of the sound. ``where`` is on the same file system."""

    def __init__(self, broadcast: Path, rung: str, where: Path) -> None:
        self._broadcast, self._rung, self.directory = broadcast, rung, where
        for name in (rung, AUDIO):
            (where / name).mkdir(parents=True)

    def look(self) -> None:
        """Call it more often than segments are forgotten."""
        for name in (self._rung, AUDIO):
            for path in (self._broadcast / name).glob("*.m[4p][4s]"):
                kept = self.directory / name / path.name
                if not path.name.startswith(".") and not kept.exists():
                    _link(path, kept)

    def offsets(self) -> list[tuple[float, float]]:
        """When each flash was and by how much its beep came after it; both in seconds, of media."""
        return sound_after_picture(self.directory, self._rung)


def _link(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except FileNotFoundError:
        return  # forgotten between the look and the link


def middle(values: Sequence[float]) -> Between:
    """The median; its interval by resampling, always the same for the same values."""
    found = np.asarray(values)
    drawn = np.random.default_rng(1).integers(0, len(found), (RESAMPLES, len(found)))
    low, high = np.quantile(np.median(found[drawn], axis=1), (0.025, 0.975))
    return Between(float(np.median(found)), float(low), float(high))


def slope(points: Sequence[tuple[float, float]]) -> Between:
    """The median of the slopes between every two points (Theil and Sen), which single outliers do not move; its
    interval by ranks (Sen, 1968). Raises ValueError for fewer than three points."""
    if len(points) < 3:
        raise ValueError("a slope needs three points")
    x, y = np.asarray(points).T
    first, second = np.triu_indices(len(points), 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    count = len(points)
    reach = CONFIDENCE * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    last = len(slopes) - 1
    low = slopes[max(0, round((len(slopes) - reach) / 2))]
    high = slopes[min(last, round((len(slopes) + reach) / 2))]
    return Between(float(np.median(slopes)), float(low), float(high))


def describe_lips(offsets: Sequence[tuple[float, float]]) -> list[str]:
    """Lines to print: the offset, and its drift for an hour."""
    if len(offsets) < 3:
        return [f"sound after picture, in the segments:  only {len(offsets)} flashes with a beep: too few"]
    apart = [offset * 1000 for _, offset in offsets]
    media = offsets[-1][0] - offsets[0][0]
    drift = slope([(moment / SECONDS_PER_HOUR, offset * 1000) for moment, offset in offsets])
    offset = (
        f"sound after picture, in the segments:  {middle(apart)} ms (aim ±{AIM_MS:.0f}), n={len(apart)} flashes "
        f"with their beeps, from {min(apart):+.1f} to {max(apart):+.1f}"
    )
    doubt = "" if media >= TELLS_SECONDS else "; too short to tell: sender reports still set clocks"
    return [
        offset,
        f"its drift, extrapolated from {media:.0f} s:     {drift} ms an hour (aim ±{AIM_MS_PER_HOUR:.0f}){doubt}",
    ]
