"""All publishers in one picture and one sound, thirty times a second, by a clock of its own.

Whatever publishers do – join, leave, stall, turn their phones – a tick makes one picture and its sound.
Knows nothing of connections or encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from models.ladder import HEIGHT, WIDTH
from workers.transcode.labels import NAME_HEIGHT, Label

Canvas = npt.NDArray[np.uint8]
"""Planar 4:2:0, flat: brightness, then both colours at half the size."""
Buffers = tuple[memoryview, ...]

MOST_PANES = 16
_BRIGHT, _COLOUR = WIDTH * HEIGHT, WIDTH * HEIGHT // 4
_DARK, _GREY, _LIGHT = 16, 128, 96
_GAP = 16
"""Between a name and its picture's edges."""


class Pane(NamedTuple):
    """A rectangle of the composed picture; all four are even."""

    x: int
    y: int
    width: int
    height: int


def panes(count: int) -> list[Pane]:
    """Where ``count`` pictures go: one fills everything, two share it, more make a grid; a last row is centred."""
    count = min(count, MOST_PANES)
    if count < 3:
        return [Pane(index * WIDTH // count, 0, WIDTH // count, HEIGHT) for index in range(count)]
    columns = next(side for side in (2, 3, 4) if side * side >= count)
    rows = -(-count // columns)
    width, height = WIDTH // columns & ~1, HEIGHT // columns & ~1
    top = (HEIGHT - rows * height) // 2 & ~1
    places = []
    for index in range(count):
        row, column = divmod(index, columns)
        in_row = min(columns, count - row * columns)
        left = (WIDTH - in_row * width) // 2 & ~1
        places.append(Pane(left + column * width, top + row * height, width, height))
    return places


def fit(width: int, height: int, pane: Pane) -> Pane:
    """The largest rectangle of that shape within ``pane``, centred."""
    if width * pane.height >= height * pane.width:
        its_width, its_height = pane.width, pane.width * height // width
    else:
        its_width, its_height = pane.height * width // height, pane.height
    its_width, its_height = max(2, its_width & ~1), max(2, its_height & ~1)
    # Less than a hundredth missing is no border but a rounding.
    if pane.width - its_width <= pane.width // 100 and pane.height - its_height <= pane.height // 100:
        return pane
    left = (pane.width - its_width) // 2 & ~1
    top = (pane.height - its_height) // 2 & ~1
    return Pane(pane.x + left, pane.y + top, its_width, its_height)


class Composer:
    """Makes pictures of pictures, and does again only what has changed."""

    def __init__(self) -> None:
        self._card = _buffers_of(_card())
        self._shown: tuple[int, ...] = ()
        self._held: list[VideoFrame] = []
        self._buffers = self._card
        self._canvas: Canvas | None = None
        self._places: list[Pane] = []
        self._scalers: list[VideoReformatter] = [VideoReformatter() for _ in range(MOST_PANES)]

    def picture(self, frames: list[VideoFrame], names: Sequence[Label | None] = ()) -> Buffers:
        """All ``frames`` composed, with those ``names`` that there are; the stand-in card for none. Never changed
        after it was given out."""
        frames = frames[:MOST_PANES]
        shown = tuple(id(frame) for frame in frames)
        if shown == self._shown:
            return self._buffers
        self._buffers = self._render(frames, names)
        # Held, so that no other frame can have one of these ids.
        self._shown, self._held = shown, frames
        return self._buffers

    def _render(self, frames: list[VideoFrame], names: Sequence[Label | None]) -> Buffers:
        places = [
            fit(frame.width, frame.height, pane)
            for frame, pane in zip(frames, panes(len(frames)), strict=True)
        ]
        if not places:
            self._canvas = None
            return self._card
        if places[0] == Pane(0, 0, WIDTH, HEIGHT):
            self._canvas = None
            return _planes(self._scale(0, frames[0], places[0]))
        if self._canvas is None or places != self._places:
            canvas, changed = _blank(), set(range(len(frames)))
        else:
            canvas = self._canvas.copy()
            changed = {index for index, frame in enumerate(frames) if frame is not self._held[index]}
        for index in changed:
            _paste(canvas, self._scale(index, frames[index], places[index]), places[index])
            if index < len(names) and (label := names[index]) is not None:
                _name(canvas, label, places[index])
        self._canvas, self._places = canvas, places
        return _buffers_of(canvas)

    def _scale(self, index: int, frame: VideoFrame, place: Pane) -> VideoFrame:
        return self._scalers[index].reformat(
            frame, place.width, place.height, "yuv420p", interpolation=Interpolation.FAST_BILINEAR, threads=1
        )


def _plane(frame: VideoFrame, index: int) -> Canvas:
    plane = frame.planes[index]
    rows = np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _planes(frame: VideoFrame) -> Buffers:
    """A frame's planes without what its rows are padded with; not copied where there is no padding."""
    return tuple(np.ascontiguousarray(_plane(frame, index)).reshape(-1).data for index in range(3))


def _views(canvas: Canvas) -> tuple[Canvas, Canvas, Canvas]:
    bright, blue, red = np.split(canvas, (_BRIGHT, _BRIGHT + _COLOUR))
    half = (HEIGHT // 2, WIDTH // 2)
    return bright.reshape(HEIGHT, WIDTH), blue.reshape(half), red.reshape(half)


def _paste(canvas: Canvas, frame: VideoFrame, place: Pane) -> None:
    for index, view in enumerate(_views(canvas)):
        x, y, width, height = place if index == 0 else (number // 2 for number in place)
        view[y : y + height, x : x + width] = _plane(frame, index)


def _name(canvas: Canvas, label: Label, place: Pane) -> None:
    """In a picture's upper right corner, where a player has nothing; not in one that is too small for it."""
    if label.width + 2 * _GAP > place.width or place.height < NAME_HEIGHT + 2 * _GAP:
        return
    label.blend(*_views(canvas), place.x + place.width - label.width - _GAP, place.y + _GAP)


def _blank() -> Canvas:
    canvas = np.full(_BRIGHT + 2 * _COLOUR, _GREY, np.uint8)
    canvas[:_BRIGHT] = _DARK
    return canvas


def _card() -> Canvas:
    """What is shown when nobody has a picture: the sign for a pause, which needs no language."""
    canvas = _blank()
    bright = _views(canvas)[0]
    for left in (WIDTH // 2 - 60, WIDTH // 2 + 24):
        bright[HEIGHT // 2 - 72 : HEIGHT // 2 + 72, left : left + 36] = _LIGHT
    return canvas


def _buffers_of(canvas: Canvas) -> Buffers:
    return (canvas.data,)


def as_frame(buffers: Buffers) -> VideoFrame:
    """A composed picture for who wants to draw with it."""
    flat = np.concatenate([np.frombuffer(buffer, np.uint8) for buffer in buffers])
    return VideoFrame.from_ndarray(flat.reshape(HEIGHT * 3 // 2, WIDTH), format="yuv420p")
