"""A flash-and-beep clock as encoded frames: each picture carries its number, each second flashes and beeps.

Made by ffmpeg once a run, in VP8 or H.264 with Opus; also reads such numbers back out of decoded pictures.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

RATE = 30
PACKETS_A_SECOND = 50
BITS = 12
KEY_EVERY = 15
FLASH_FRAMES = 3
BEEP_SECONDS = 0.1


class Clip(NamedTuple):
    """One publisher's encoded media, without a container."""

    codec: str
    pictures: list[tuple[bytes, bool]]
    sounds: list[bytes]


def make(directory: Path, *, codec: str, width: int, height: int, seconds: int, first: int = 0) -> Clip:
    """Encode a clock of that size, which counts from ``first``; ``codec`` is VP8 or H264."""
    path = directory / f"clock-{codec}-{width}x{height}.{'ivf' if codec == 'VP8' else 'h264'}"
    sound = directory / "beeps.ogg"
    common = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"]
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "pipe:0"]
    codecs = {
        "VP8": {"c:v": "libvpx", "deadline": "realtime", "cpu-used": 8, "auto-alt-ref": 0, "lag-in-frames": 0},
        "H264": {"c:v": "libx264", "preset": "ultrafast", "tune": "zerolatency", "bf": 0, "sc_threshold": 0},
    }
    options = {**codecs[codec], "pix_fmt": "yuv420p", "g": KEY_EVERY, "b:v": "1500k"}
    picture = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    subprocess.run(
        [*common, *raw, *picture, str(path)],
        input=b"".join(draw(first + number, width, height).tobytes() for number in range(seconds * RATE)),
        check=True,
        timeout=300,
    )
    beeps = f"aevalsrc=0.4*sin(2*PI*1000*t)*lt(mod(t\\,1)\\,{BEEP_SECONDS}):sample_rate=48000:duration={seconds}"
    opus = ["-c:a", "libopus", "-b:a", "64k", "-ac", "2", "-frame_duration", "20"]
    subprocess.run([*common, "-f", "lavfi", "-i", beeps, *opus, str(sound)], check=True, timeout=300)
    pictures = [(bytes(packet), packet.is_keyframe) for packet in _packets(path)]
    assert len(pictures) == seconds * RATE
    return Clip(codec, pictures, [bytes(packet) for packet in _packets(sound)][: seconds * PACKETS_A_SECOND])


def _packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux() if packet.size]


def draw(number: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """Picture ``number``: its bits across the top, a flash below in the first frames of each second."""
    picture = np.full((height, width), 60, np.uint8)
    cell = width // (BITS + 2)
    for bit in range(BITS):
        left = cell * (bit + 1)
        picture[height // 8 : height // 4, left : left + cell] = 235 if number >> bit & 1 else 16
    if number % RATE < FLASH_FRAMES:
        picture[height // 2 : height * 7 // 8, cell : width - cell] = 235
    # Something that moves, so that no picture is free.
    place = number * 7 % (width - cell)
    picture[height * 15 // 16 :, place : place + cell] = 200
    return picture


def read_number(bright: np.ndarray[Any, Any]) -> int:
    """The number in a picture, or in that part of a composed one."""
    height, width = bright.shape
    cell = width / (BITS + 2)
    row = bright[int(height * 0.16) : int(height * 0.21)]
    number = 0
    for bit in range(BITS):
        middle = int(cell * (bit + 1.5))
        number |= int(row[:, middle - 1 : middle + 2].mean() > 128) << bit
    return number


def flashes(bright: np.ndarray[Any, Any]) -> bool:
    """Whether a picture, or that part of a composed one, flashes."""
    height, width = bright.shape
    return bool(bright[int(height * 0.6) : int(height * 0.8), width // 4 : width * 3 // 4].mean() > 128)
