"""A real media file to publish: a moving test picture with a burned-in clock, and a beep each second.

VP8 at 1280×720 and 30 frames a second, Opus at 48 kHz. A key frame every half second stands in for an
encoder that answers key-frame requests: the file's packets are sent as they are.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ffmpeg

SECONDS = 4
FRAMES_PER_SECOND = 30
KEY_FRAME_EVERY = 15
# Changes with what is written below, so that an older file is not taken for this one.
NAME = f"clock-720p{FRAMES_PER_SECOND}-{SECONDS}s-v1.webm"
ENCODE_SECONDS = 300
"""A few seconds of an idle processor; on a very busy machine two minutes were not enough."""


def media_file(var_dir: Path) -> Path:
    """The file under ``var_dir``, made at the first call; raises subprocess.CalledProcessError."""
    path = var_dir / "media" / NAME
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # One process makes it, others wait for that. Written beside and moved: nobody reads half of it.
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
    return path


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        half_made = Path(directory) / NAME
        subprocess.run(
            _command(half_made), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENCODE_SECONDS
        )
        os.replace(half_made, path)


def _command(path: Path) -> list[str]:
    picture = ffmpeg.input(
        f"testsrc2=size=1280x720:rate={FRAMES_PER_SECOND}:duration={SECONDS}", format="lavfi"
    ).drawtext(
        text="%{pts:hms}",
        fontsize=96,
        fontcolor="white",
        box=1,
        boxcolor="black",
        boxborderw=24,
        x="(w-text_w)/2",
        y="(h-text_h)/2",
        escape_text=False,
    )
    beep = ffmpeg.input(
        f"aevalsrc=0.3*sin(2*PI*880*t)*lt(mod(t\\,1)\\,0.1):sample_rate=48000:duration={SECONDS}", format="lavfi"
    )
    output = ffmpeg.output(
        picture,
        beep,
        str(path),
        vcodec="libvpx",
        pix_fmt="yuv420p",
        deadline="realtime",
        g=KEY_FRAME_EVERY,
        acodec="libopus",
        ac=2,
        frame_duration=20,
        **{
            "cpu-used": 8,
            "b:v": "1500k",
            "maxrate": "2000k",
            "bufsize": "1000k",
            "auto-alt-ref": 0,
            "lag-in-frames": 0,
            "b:a": "48k",
        },
    )
    return list(output.global_args("-nostdin", "-loglevel", "error").overwrite_output().compile())


if __name__ == "__main__":
    print(media_file(Path(sys.argv[1] if len(sys.argv) > 1 else "var")))
