"""Still pictures of a broadcast: a poster for pages that list it, and thumbnails with a WebVTT index.

A thread of its own, fed a composed picture now and then; busy or broken, it holds nobody up. A sprite is a
JPEG of many thumbnails, written again as it fills; only the last few are kept.
"""

from __future__ import annotations

import queue
import threading
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame

from models import log
from models.ladder import HEIGHT, WIDTH
from workers.transcode.composer import Buffers, as_frame
from workers.transcode.directory import Directory, Fenced
from workers.transcode.playlists import date_time
from workers.transcode.segments import State, Thumbnail

Sheet = npt.NDArray[np.uint8]
"""A row for each thumbnail: its planes, one after the other."""

EVERY_SECONDS = 10
POSTER_WIDTH, POSTER_HEIGHT = WIDTH // 2, HEIGHT // 2
THUMB_WIDTH, THUMB_HEIGHT = 160, 90
THUMB_BYTES = THUMB_WIDTH * THUMB_HEIGHT * 3 // 2
COLUMNS, ROWS = 5, 6
SPRITES_KEPT = 4
"""Twenty minutes."""
_QUANTISER = 5
"""2 is best, 31 is worst."""


class Posters:
    """Writes the poster, the sprites and ``storyboard.vtt``; it alone changes ``state.thumbnails``."""

    def __init__(self, directory: Directory, state: State) -> None:
        self._directory = directory
        self._state = state
        self._queue: queue.Queue[tuple[Buffers, float] | None] = queue.Queue(1)
        # A sprite that another life began is left as it is.
        self._sprite = max((one.sprite for one in state.thumbnails), default=-1) + 1
        self._index = 0
        self._thumbs = _empty()
        self._thread = threading.Thread(target=self._run, name="posters", daemon=True)
        self._thread.start()

    def offer(self, picture: Buffers, captured_at: float) -> None:
        """A composed picture of that moment; ignored while the last one is still being drawn."""
        if not self._queue.full():
            self._queue.put((picture, captured_at))

    def stop(self) -> None:
        """Finish what was offered."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._draw(*item)
            except Fenced:
                continue
            except Exception:
                log.failure("poster_failed")

    def _draw(self, picture: Buffers, captured_at: float) -> None:
        frame = as_frame(picture)
        self._directory.write("poster.jpg", jpeg(frame.reformat(POSTER_WIDTH, POSTER_HEIGHT)))
        small = frame.reformat(THUMB_WIDTH, THUMB_HEIGHT).to_ndarray()
        self._thumbs[self._index] = small.reshape(-1)
        self._directory.write(sprite_name(self._sprite), jpeg(_sheet(self._thumbs)))
        at = max(0.0, captured_at - self._state.origin)
        self._state.thumbnails.append(Thumbnail(at=at, sprite=self._sprite, index=self._index))
        self._index += 1
        if self._index == COLUMNS * ROWS:
            self._sprite, self._index, self._thumbs = self._sprite + 1, 0, _empty()
        self._forget()
        self._directory.write("storyboard.vtt", storyboard(self._state).encode())

    def _forget(self) -> None:
        kept = self._sprite - SPRITES_KEPT
        gone = {one.sprite for one in self._state.thumbnails if one.sprite <= kept}
        self._state.thumbnails = [one for one in self._state.thumbnails if one.sprite > kept]
        self._directory.remove(*(sprite_name(sprite) for sprite in gone))


def storyboard(state: State) -> str:
    """The WebVTT index (W3C WebVTT; media fragments' ``xywh``). Times are seconds since the broadcast began."""
    lines = ["WEBVTT", "", f"NOTE 00:00:00.000 is {date_time(state.origin)}", ""]
    thumbnails = state.thumbnails
    for index, one in enumerate(thumbnails):
        until = thumbnails[index + 1].at if index + 1 < len(thumbnails) else one.at + EVERY_SECONDS
        left, top = one.index % COLUMNS * THUMB_WIDTH, one.index // COLUMNS * THUMB_HEIGHT
        lines += [
            f"{_cue_time(one.at)} --> {_cue_time(max(until, one.at + 0.001))}",
            f"{sprite_name(one.sprite)}#xywh={left},{top},{THUMB_WIDTH},{THUMB_HEIGHT}",
            "",
        ]
    return "\n".join(lines)


def sprite_name(number: int) -> str:
    """``storyboard_7.jpg``."""
    return f"storyboard_{number}.jpg"


def jpeg(frame: VideoFrame) -> bytes:
    """A JPEG file of ``frame``."""
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1, 1)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = _QUANTISER
    picture = frame.reformat(format="yuvj420p")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))


def _empty() -> Sheet:
    sheet = np.full((COLUMNS * ROWS, THUMB_BYTES), 128, np.uint8)
    sheet[:, : THUMB_WIDTH * THUMB_HEIGHT] = 16
    return sheet


def _sheet(thumbs: Sheet) -> VideoFrame:
    """All thumbnails in one picture, row by row."""
    planes = []
    start = 0
    for shrink in (1, 2, 2):
        width, height = THUMB_WIDTH // shrink, THUMB_HEIGHT // shrink
        plane = thumbs[:, start : start + width * height].reshape(ROWS, COLUMNS, height, width)
        planes.append(plane.transpose(0, 2, 1, 3).reshape(-1))
        start += width * height
    flat = np.concatenate(planes)
    return VideoFrame.from_ndarray(flat.reshape(-1, COLUMNS * THUMB_WIDTH), format="yuv420p")


def _cue_time(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{thousandths:03}"
