"""What processes cost, and the floor: one ffmpeg that makes the same ladder of the same file in real time.

Knows no house.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import ffmpeg

from models.ladder import AUDIO, AUDIO_KBPS, HEIGHT, RUNGS, SLOT_SECONDS, WIDTH
from workers.transcode import ladder

_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """CPU of some processes from now on."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._began, self._used = time.monotonic(), cpu_seconds(pids)

    def cores(self) -> float:
        """CPU seconds a second since then."""
        return (cpu_seconds(self._pids) - self._used) / (time.monotonic() - self._began)


class SegmentMeter:
    """CPU that processes spend on a second of media: from one segment's end to a later one's.

    A machine that is too busy for real time makes fewer segments, and that is no saving.
    """

    def __init__(self, playlist: Path, *groups: list[int]) -> None:
        self._playlist, self._groups = playlist, groups
        self._count = written(playlist)
        self._marks: list[tuple[int, list[float]]] = []

    def look(self) -> None:
        """Call it often: what was spent is noted when the playlist has grown."""
        count = written(self._playlist)
        if count > self._count:
            self._count = count
            self._marks.append((count, [cpu_seconds(pids) for pids in self._groups]))

    @property
    def media_seconds(self) -> int:
        """Between the first and the last note."""
        return (self._marks[-1][0] - self._marks[0][0]) * SLOT_SECONDS if self._marks else 0

    def cores(self) -> list[float]:
        """Of each group: CPU seconds for a second of media. Raises ZeroDivisionError if there were too few."""
        first, last = self._marks[0][1], self._marks[-1][1]
        return [(after - before) / self.media_seconds for before, after in zip(first, last, strict=True)]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of all of them so far; raises FileNotFoundError for one that is gone."""
    total = 0
    for pid in pids:
        # The second field is a name, in brackets, that may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def offspring(pid: int) -> list[int]:
    """The processes that this one has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


class Written(NamedTuple):
    """A segment that is on disk."""

    captured_at: float
    """Its first picture, Unix seconds."""
    seconds: float
    lag: float
    """Seconds from the capture of its last picture to its file."""


def segments_of(rung: Path) -> dict[str, Written]:
    """Those that the playlist names and that have a file, in its order."""
    found: dict[str, Written] = {}
    captured_at = seconds = 0.0
    for line in (rung / "index.m3u8").read_text().splitlines():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            captured_at = datetime.fromisoformat(line.partition(":")[2]).timestamp()
        elif line.startswith("#EXTINF:"):
            seconds = float(line.partition(":")[2].rstrip(","))
        elif line.endswith(".m4s") and not line.startswith("#") and (rung / line).exists():
            lag = (rung / line).stat().st_mtime - captured_at - seconds
            found[line] = Written(captured_at, seconds, lag)
    return found


def written(playlist: Path) -> int:
    """How many segments a playlist has had so far."""
    text = playlist.read_text() if playlist.exists() else ""
    begins = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
    return (int(begins[1]) if begins else 0) + text.count("#EXTINF")


@contextlib.contextmanager
def bare_ffmpeg(clip: Path, directory: Path, preset: str) -> Iterator[int]:
    """The floor, running: its process id. Its playlists are ``<rung>.m3u8`` in ``directory``."""
    process = subprocess.Popen(_command(clip, directory, preset), stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _command(clip: Path, directory: Path, preset: str) -> list[str]:
    source = ffmpeg.input(str(clip), re=None, stream_loop=-1)
    copies = source.video.filter_multi_output("split", len(RUNGS))
    outputs = []
    for index, rung in enumerate(RUNGS):
        scaled = copies[index]
        if (rung.width, rung.height) != (WIDTH, HEIGHT):
            scaled = scaled.filter("scale", rung.width, rung.height, flags="fast_bilinear")
        # The encoders' options are the ladder's own, so that both always do the same work.
        options = ladder.picture_options(preset, rung.kbps).items()
        encoders = {name: value for name, value in options if _is_encoders(name)}
        outputs.append(_output(scaled, directory, rung.name, encoders))
    sound: dict[str, str | int] = {"c:a": "aac", "b:a": f"{AUDIO_KBPS}k"}
    outputs.append(_output(source.audio, directory, AUDIO, sound))
    command = ffmpeg.merge_outputs(*outputs).global_args(
        "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-filter_complex_threads", "1"
    )
    return list(ffmpeg.compile(command))


def _is_encoders(option: str) -> bool:
    return option not in ladder._CONTAINER and option != "video_track_timescale"


def _output(stream: object, directory: Path, name: str, options: dict[str, str | int]) -> object:
    return ffmpeg.output(
        stream,
        str(directory / f"{name}.m3u8"),
        f="hls",
        hls_time=SLOT_SECONDS,
        hls_flags="delete_segments",
        hls_segment_type="fmp4",
        hls_fmp4_init_filename=f"{name}_init.mp4",
        hls_segment_filename=str(directory / f"{name}_%d.m4s"),
        **options,
    )
