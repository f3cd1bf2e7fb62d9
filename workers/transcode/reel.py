"""A recording's directory: a part for each life of a recorder, and the one file that is made of them.

Private: nobody but this user can read any of it. Names carry the epoch, so that two lives never write into
one file. Knows no rooms and no people.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import av

from models import log
from workers.transcode.jobs import COMPLETE_SECONDS, PRIVATE_DIRECTORY, WHOLE

PRIVATE_FILES = 0o077
_PART = re.compile(r"part_(\d+)\.mp4")
_HALF = re.compile(r"\.whole_\d+\.mp4|\.parts_\d+\.txt")


class Recorded(NamedTuple):
    """A complete file; both 0: nothing was recorded."""

    duration_ms: int
    size: int


class Reel:
    """Where one epoch of a recording writes. Raises OSError as the file system does."""

    def __init__(self, directory: Path, epoch: int) -> None:
        os.umask(PRIVATE_FILES)
        directory.chmod(PRIVATE_DIRECTORY)
        self._directory = directory
        self.part = directory / f"part_{epoch}.mp4"
        self._making = directory / f".whole_{epoch}.mp4"
        self._list = directory / f".parts_{epoch}.txt"

    @property
    def size(self) -> int:
        """Bytes of this epoch's part so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def free_bytes(self) -> int:
        """What is left on the disk for whoever is no superuser."""
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def complete(self) -> Recorded:
        """Make the one file of all parts, in order, with its index in front; then remove them.

        Done before, it is found done. What no player could open is left out.
        """
        whole = self._directory / WHOLE
        for path in self._directory.iterdir():
            # Whoever was killed in the middle of this, or had no room for it, left half a film.
            if _HALF.fullmatch(path.name):
                path.unlink(missing_ok=True)
        parts = self._parts()
        playable = [part for part in parts if _duration_ms(part)]
        if not whole.exists() and playable:
            self._join(playable)
            os.replace(self._making, whole)
        for path in (*parts, self._list):
            path.unlink(missing_ok=True)
        if not whole.exists():
            return Recorded(0, 0)
        return Recorded(_duration_ms(whole), whole.stat().st_size)

    def _join(self, parts: list[Path]) -> None:
        self._list.write_text("".join(f"file '{part.name}'\n" for part in parts))
        subprocess.run(
            [
                "ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-f", "concat", "-safe", "0",
                "-i", str(self._list), "-c", "copy", "-map_metadata", "-1", "-movflags", "+faststart",
                "-use_editlist", "0", "-f", "mp4", str(self._making),
            ],
            check=True,
            timeout=COMPLETE_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        with open(self._making, "rb") as made:
            os.fsync(made.fileno())
        log.event("recording_joined", parts=len(parts))

    def _parts(self) -> list[Path]:
        found = [
            (int(match[1]), path) for path in self._directory.iterdir() if (match := _PART.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]


def _duration_ms(path: Path) -> int:
    """How long it plays; 0 for what is no film, or has no picture."""
    try:
        with av.open(str(path)) as film:
            if not film.streams.video or not film.duration:
                return 0
            return max(1, round(film.duration / 1000))
    except av.FFmpegError:
        return 0
