"""What a player would make of a broadcast's files: playlists followed, segments decoded, clocks read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import av
import m3u8
import numpy as np

from tests.fakes.clock_clip import flashes, read_number

Bright = np.ndarray[Any, Any]
LOUD = 3000


class Picture(NamedTuple):
    """A decoded picture: when it is shown, on the rung's own media timeline, and what it shows."""

    at: float
    key: bool
    bright: Bright


def playlist(root: Path, name: str) -> m3u8.M3U8:
    """A rung's playlist, parsed by somebody else's parser."""
    return m3u8.loads((root / name / "index.m3u8").read_text())


def media(root: Path, name: str, *segments: str) -> bytes:
    """Init and those segments (all that the playlist names, without any), one epoch's, as one file."""
    listed = [one for one in playlist(root, name).segments if not segments or one.uri in segments]
    init = listed[0].init_section
    assert init is not None
    files = [str(init.uri), *(str(one.uri) for one in listed if not one.gap_tag)]
    return b"".join((root / name / file).read_bytes() for file in files)


def pictures(data: bytes) -> list[Picture]:
    """Every picture."""
    with av.open(io.BytesIO(data), format="mp4") as container:
        return [
            Picture(float(frame.time or 0), frame.key_frame, frame.to_ndarray(format="gray"))
            for frame in container.decode(video=0)
        ]


def samples(data: bytes) -> tuple[float, Bright]:
    """When the first sample is heard, and all of them, one channel."""
    with av.open(io.BytesIO(data), format="mp4") as container:
        frames = list(container.decode(audio=0))
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return float(frames[0].time or 0), (heard * 32767).astype(np.int32)


def part(picture: Bright, left: float, top: float, width: float, height: float) -> Bright:
    """A rectangle of a picture, in fractions of it."""
    rows, columns = picture.shape
    return picture[
        int(rows * top) : int(rows * (top + height)), int(columns * left) : int(columns * (left + width))
    ]


def flash_times(shown: list[tuple[float, Bright]]) -> list[float]:
    """When each flash begins."""
    lit = [flashes(bright) for _, bright in shown]
    return [shown[i][0] for i in range(1, len(shown)) if lit[i] and not lit[i - 1]]


def beep_times(start: float, heard: Bright) -> list[float]:
    """When each beep begins, to a millisecond."""
    loud = np.abs(heard[: len(heard) // 48 * 48]).reshape(-1, 48).max(axis=1) > LOUD
    begins = [i for i in np.flatnonzero(loud) if not loud[max(0, i - 300) : i].any()]
    return [start + float(i) / 1000 for i in begins]


def numbers(shown: list[Bright]) -> list[int]:
    """The clock's number in each picture."""
    return [read_number(bright) for bright in shown]
