"""What camera and microphone of ``bench-impaired`` play: files, made by ffmpeg, that Chromium repeats for ever.

A moving test picture with noise, as real ones have: it is good for over 1 Mbit/s. Its bottom is black, and white
for the first three of twenty pictures; then the microphone beeps, over a hum that swells and falls as syllables
do: in silence, or over an even noise, hardly a packet of sound would be sent (DTX), nor lost. Twenty pictures
are no second, but 15 ms more, which no screen's rhythm divides: a flash waits for the screen's next turn, and
waited equally long each time, median and all, if the two kept step. Knows no browser: camera and microphone are
opened one after the other, so how far apart they begin has to be measured.
"""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

PICTURES_A_SECOND = Fraction(197, 10)
PICTURES = 100
FLASH_EVERY = 20
WIDTH, HEIGHT, BAND = 640, 360, 72
FLASH_PICTURES = 3
BEEP_SECONDS = 0.1


def camera_files(var: Path) -> dict[str, Path]:
    """By kind, under ``var``. CalledProcessError when ffmpeg cannot."""
    period = float(FLASH_EVERY / PICTURES_A_SECOND)
    box = f"drawbox=x=0:y={HEIGHT - BAND}:w={WIDTH}:h={BAND}:t=fill"
    picture = (
        f"testsrc2=size={WIDTH}x{HEIGHT}:rate={PICTURES_A_SECOND},noise=alls=12:allf=t,{box}:color=black,"
        f"{box}:color=white:enable='lt(mod(n\\,{FLASH_EVERY})\\,{FLASH_PICTURES})'"
    )
    voice = "(0.5+0.5*sin(2*PI*4*t))*(0.07*sin(2*PI*180*t)+0.05*sin(2*PI*360*t)+0.04*sin(2*PI*900*t))"
    beep = f"0.6*sin(2*PI*880*t)*lt(mod(t\\,{period:.9f})\\,{BEEP_SECONDS})+{voice}"
    files = {"video": var / "camera.y4m", "audio": var / "microphone.wav"}
    _make(picture, files["video"], "-pix_fmt", "yuv420p")
    _make(f"aevalsrc={beep}:sample_rate=48000", files["audio"], "-c:a", "pcm_s16le")
    return files


def _make(source: str, path: Path, *form: str) -> None:
    seconds = f"{float(PICTURES / PICTURES_A_SECOND):.6f}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-t", seconds, *form, "-y", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
