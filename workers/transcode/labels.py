"""The names on a battle's composed picture: each drawn once by ffmpeg, and blended in from then on.

ffmpeg is there anyway, and the font; its drawing costs a tenth of a second once for a name, apart from the clock.
Knows nothing of rooms and layouts. A name that could not be drawn is left out: the page has it as text.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models import log
from models.ladder import WIDTH

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
"""Of Debian's fonts-dejavu-core. Without it ffmpeg takes what it finds, and draws boxes for what that lacks."""
FONT_SIZE = 36
"""Of 720 lines: still to be read where a phone shows all of them in a third of their size."""
NAME_HEIGHT = 56
PADDING = 16
LONGEST_NAME = 20
DRAW_SECONDS = 10.0
_SCRIM = 0.35
"""How much of the picture is left behind the letters."""
_DARK, _LIGHT, _GREY = 16.0, 235.0, 128.0

Plane = npt.NDArray[np.uint8]
Part = npt.NDArray[np.float32]


class Label(NamedTuple):
    """A name on its dark ground, as what is kept of the picture below and what is added; both sides are even."""

    keep: Part
    add: Part

    @property
    def width(self) -> int:
        """In brightness samples; the height is NAME_HEIGHT."""
        return int(self.keep.shape[1])

    def blend(self, bright: Plane, blue: Plane, red: Plane, x: int, y: int) -> None:
        """Onto a picture's planes, its upper left corner at these even coordinates."""
        below = bright[y : y + NAME_HEIGHT, x : x + self.width]
        below[:] = below * self.keep + self.add
        for plane in (blue, red):
            colour = plane[y // 2 : (y + NAME_HEIGHT) // 2, x // 2 : (x + self.width) // 2]
            colour[:] = (colour - _GREY) * _SCRIM + _GREY


class Labels:
    """The labels of all names that were asked for."""

    def __init__(self) -> None:
        self._drawn: dict[str, Label | None] = {}

    def of(self, name: str) -> Label | None:
        """The name's label; None while it is being drawn, and for a name that cannot be."""
        if name not in self._drawn:
            self._drawn[name] = None
            threading.Thread(target=self._draw, args=(name,), name="label", daemon=True).start()
        return self._drawn[name]

    def _draw(self, name: str) -> None:
        try:
            self._drawn[name] = label_of(letters(name))
        except (OSError, subprocess.SubprocessError) as error:
            log.event("label_not_drawn", error=type(error).__name__)


def label_of(mask: Plane) -> Label | None:
    """Of letters, bright on black, NAME_HEIGHT lines; None where there are none."""
    columns = np.flatnonzero(mask.max(axis=0))
    if not columns.size:
        return None
    width = min(int(columns[-1]) + 1 + PADDING, mask.shape[1]) & ~1
    alpha = mask[:, :width] / np.float32(255)
    keep = (1 - alpha) * _SCRIM
    add = alpha * _LIGHT + (1 - alpha) * (1 - _SCRIM) * _DARK
    return Label(keep.astype(np.float32), add.astype(np.float32))


def has_all(font: Path, text: str) -> bool:
    """Whether the font has a picture of each letter. FreeType says it, which ffmpeg draws with. Raises OSError."""
    freetype = ctypes.CDLL("libfreetype.so.6")
    library, face = ctypes.c_void_p(), ctypes.c_void_p()
    if freetype.FT_Init_FreeType(ctypes.byref(library)):
        raise OSError("FreeType does not start")
    try:
        if freetype.FT_New_Face(library, bytes(font), ctypes.c_long(0), ctypes.byref(face)):
            raise OSError(f"not a font: {font}")
        return all(freetype.FT_Get_Char_Index(face, ctypes.c_ulong(ord(letter))) for letter in text)
    finally:
        freetype.FT_Done_FreeType(library)


def letters(name: str) -> Plane:
    """The name in white on black, NAME_HEIGHT lines; nothing where the font lacks a letter, for boxes name nobody.

    Raises OSError, SubprocessError.
    """
    text = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    width = WIDTH // 2
    if FONT.exists() and not has_all(FONT, text):
        return np.zeros((NAME_HEIGHT, width), np.uint8)
    font = f":fontfile={FONT}" if FONT.exists() else ""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="greenroom-label-") as file:
        # From a file and without expansion: a name is never part of ffmpeg's language.
        file.write(text)
        file.flush()
        drawn = (
            f"drawtext=textfile={file.name}:expansion=none{font}:fontsize={FONT_SIZE}:fontcolor=white"
            f":x={PADDING}:y=(h-text_h)/2"
        )
        source = f"color=black:s={width}x{NAME_HEIGHT}"
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source]
        command += ["-vf", f"{drawn},format=gray", "-frames:v", "1", "-f", "rawvideo", "pipe:1"]
        made = subprocess.run(command, check=True, capture_output=True, timeout=DRAW_SECONDS).stdout
    return np.frombuffer(made, np.uint8).reshape(NAME_HEIGHT, width)
