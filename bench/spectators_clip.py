"""The clock clip of ``bench-spectators``: every frame carries its own number, each second flashes and beeps.

A number is nine squares, white for one, and their opposites below, so that a picture that was scaled, encoded
and scaled again is either read right or not at all. Written as ``demo.media_file`` is; ``demo.clip`` sends it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np

from demo.media_file import FRAMES_PER_SECOND, KEY_FRAME_EVERY
from models.ladder import AUDIO, HEIGHT, WIDTH

SECONDS = 10
# Changes with what is written below, so that an older file is not taken for this one.
NAME = f"numbers-720p{FRAMES_PER_SECOND}-{SECONDS}s-v1.webm"
ENCODE_SECONDS = 600
BITS = 9
CELL, LEFT, TOP = 64, 32, 32
"""Pixels of the source picture: a square's side, and where the first one begins."""
FLASH_TOP, FLASH_FRAMES = 560, 3
BEEP_SECONDS = 0.1
WHITE, BLACK = 160, 96
"""What is brighter is a one, what is darker a zero; between lies neither."""
LOUD = 0.05


def clip_file(var_dir: Path) -> Path:
    """The file under ``var_dir``, made at the first call; raises subprocess.CalledProcessError."""
    path = var_dir / "media" / NAME
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        half_made = Path(directory) / NAME
        subprocess.run(
            _command(half_made), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENCODE_SECONDS
        )
        os.replace(half_made, path)
    return path


def frame_number(brightness: Sequence[float]) -> int | None:
    """What the squares say, upper row first, lowest bit first; None if any is unclear or they disagree."""
    if len(brightness) != 2 * BITS or any(BLACK <= one <= WHITE for one in brightness):
        return None
    ones = [one > WHITE for one in brightness]
    if any(upper == lower for upper, lower in zip(ones[:BITS], ones[BITS:], strict=True)):
        return None
    return sum(1 << bit for bit, one in enumerate(ones[:BITS]) if one)


def age(number: int, started_at: float, shown_at: float, about: float) -> float:
    """Seconds from the sending of frame ``number`` to ``shown_at``; the clip repeats: the age nearest ``about``.

    ``started_at`` is when frame 0 was sent for the first time, in the clock of ``shown_at``.
    """
    raw = shown_at - started_at - number / FRAMES_PER_SECOND
    return raw - round((raw - about) / SECONDS) * SECONDS


def sound_after_picture(directory: Path, rung: str) -> list[tuple[float, float]]:
    """When each flash is in the segments of a broadcast's directory, and by how much its beep comes after it; both
    in seconds."""
    flashes = _flashes(_joined(directory / rung))
    beeps = _beeps(_joined(directory / AUDIO))
    nearest = [(flash, min((beep - flash for beep in beeps), key=abs, default=1.0)) for flash in flashes]
    # A flash at the edge of what is there has no beep; half a second is another second's.
    return [(flash, offset) for flash, offset in nearest if abs(offset) < 0.5]


def _joined(rung: Path) -> bytes:
    """The newest epoch's init segment and every segment that is still there."""
    init = max(rung.glob("init_*.mp4"), key=lambda path: path.stat().st_mtime)
    epoch = init.stem.removeprefix("init_")
    return b"".join(path.read_bytes() for path in (init, *sorted(rung.glob(f"s?????_{epoch}.m4s"))))


def _flashes(stream: bytes) -> list[float]:
    """When the band at the bottom turned white."""
    found, was_white = [], True
    for moment, frame in _frames(stream, "video"):
        bright = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)
        scale = frame.height / HEIGHT
        band = bright[round((FLASH_TOP + 40) * scale) : round((HEIGHT - 20) * scale), : frame.width // 2]
        is_white = bool(band.mean() > WHITE)
        if is_white and not was_white:
            found.append(moment)
        was_white = is_white
    return found


def _beeps(stream: bytes) -> list[float]:
    """When it became loud after it had been silent."""
    found, loud_until = [], float("inf")
    for moment, frame in _frames(stream, "audio"):
        loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > LOUD)
        if not len(loud):
            loud_until = min(loud_until, moment)
            continue
        if moment + loud[0] / frame.sample_rate - loud_until > BEEP_SECONDS:
            found.append(moment + loud[0] / frame.sample_rate)
        loud_until = moment + loud[-1] / frame.sample_rate
    return found


def _frames(stream: bytes, kind: str) -> Iterator[tuple[float, Any]]:
    """Every frame with its presentation time in seconds, one at a time: together they would fill the memory."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(stream)
        file.flush()
        with av.open(file.name) as container:
            # As in a player that reads no edit lists: nothing is shifted.
            [track] = [one for one in container.streams if one.type == kind]
            for frame in container.decode(track):
                yield float(frame.pts * frame.time_base), frame  # type: ignore[operator,union-attr]


def _command(path: Path) -> list[str]:
    picture = ffmpeg.input(
        f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FRAMES_PER_SECOND}:duration={SECONDS}", format="lavfi"
    )
    picture = _box(picture, LEFT - 16, TOP - 16, BITS * CELL + 32, 2 * CELL + 32, "black")
    for bit in range(BITS):
        is_one = f"gte(mod(n,{2 << bit}),{1 << bit})"
        picture = _box(picture, LEFT + bit * CELL, TOP, CELL, CELL, "white", is_one)
        picture = _box(picture, LEFT + bit * CELL, TOP + CELL, CELL, CELL, "white", f"not({is_one})")
    picture = _box(picture, 0, FLASH_TOP, WIDTH, HEIGHT - FLASH_TOP, "black")
    flash = f"lt(mod(n,{FRAMES_PER_SECOND}),{FLASH_FRAMES})"
    picture = _box(picture, 0, FLASH_TOP, WIDTH, HEIGHT - FLASH_TOP, "white", flash)
    beep = ffmpeg.input(
        f"aevalsrc=0.3*sin(2*PI*880*t)*lt(mod(t\\,1)\\,{BEEP_SECONDS}):sample_rate=48000:duration={SECONDS}",
        format="lavfi",
    )
    options: dict[str, str | int] = {
        "c:v": "libvpx",
        "pix_fmt": "yuv420p",
        "deadline": "realtime",
        "cpu-used": 8,
        "g": KEY_FRAME_EVERY,
        "b:v": "2000k",
        "maxrate": "2500k",
        "bufsize": "1500k",
        "auto-alt-ref": 0,
        "lag-in-frames": 0,
        "c:a": "libopus",
        "ac": 2,
        "frame_duration": 20,
        "b:a": "48k",
    }
    output = ffmpeg.output(picture, beep, str(path), **options)
    return list(output.global_args("-nostdin", "-loglevel", "error").overwrite_output().compile())


def _box(picture: Any, x: int, y: int, width: int, height: int, colour: str, when: str = "1") -> Any:
    return picture.filter("drawbox", x=x, y=y, w=width, h=height, color=colour, t="fill", enable=when)
