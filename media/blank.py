"""Whether a creator's picture is black and the sound silent, as far as the sizes of packets tell.

Nothing is decoded here. A picture that does not change codes to tiny inter frames; then the size of a key
frame of the same picture, for its area, tells an empty one from one with something in it. Silence codes to
tiny Opus packets, or to none.

Measured (bytes; key frames also for each macroblock of 16×16), 1280×720 at 30 frames a second unless said:

====================== ===================== ======================= ====================== ==================
picture                Chromium 156, VP8     Chromium 156, H.264     aiortc 1.16, VP8       aiortc 1.16, H.264
====================== ===================== ======================= ====================== ==================
black: key             1,593 (0.44)          2,761 (0.77)            1,593 (0.44)           2,808 (0.78)
black, smaller: key    917 (0.45), 960×540   1,589 (0.78), 960×540   554 (0.46), 640×480    984 (0.82), 640×480
black: inter, mean     150–242               11–12                   114–241                23
colour bars: key       2,330 (0.65)          3,371 (0.94)            2,314 (0.64)           3,787 (1.05)
dim colour bars: key   2,106 (0.59)          –                       2,055 (0.57)           3,707 (1.03)
a line of text: key    3,006 (1.5), 960×540  2,714 (1.3), 960×540    3,201 (0.89)           5,335 (1.5)
bars, noise: inter     9,095                 –                       2,128                  4,046
moving: inter          8,493                 8,931                   3,145                  3,970
====================== ===================== ======================= ====================== ==================

Opus, 20 ms: silence 35 and a track that is switched off 32 or 3 (Chromium), 3 (aiortc); a quiet room, noise
66 dB below full scale, 40–56 (Chromium), 152–172 (aiortc); speech-like noise 57–105; a tone 80.

What sizes cannot tell: black from any other picture of one even colour. A lens that is covered while the
sensor makes noise, or a picture made to look busy, is not found. A still picture with anything in it, a card
with a line of text or somebody behind a photograph, is not called black, and its stillness is no offence. An
encoder squeezed below 15 kbit/s sounds like silence. So nothing but a flag for people follows from this.
"""

from __future__ import annotations

from media import rtp
from media.picture_size import macroblocks

STILL_MS = 5_000
"""A picture, or silence, counts after this long: blinks and breaths do not."""
KEY_EVERY_MS = 30_000
"""A still picture is asked for a key frame this often at most: it costs the fan some packets."""
SILENT_BYTES = 38
"""The largest Opus packet of silence, with room to the smallest of a quiet room."""
_BUCKET_MS = 1_000
# Bytes for each macroblock, and bytes for headers: a sixth above black in VP8, a tenth in H.264, and both as
# far below the emptiest picture that was lit.
_BLACK_KEY = {"VP8": (0.5, 50), "H264": (0.83, 60)}
# Twice what black needs; it only has to tell a picture that stays from one that changes.
_STILL_INTER = (0.15, 50)


class Picture:
    """One video track of a creator, frame by frame."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._macroblocks = 0
        self._timestamp: int | None = None
        self._size = 0
        self._key = False
        self._bucket_from: int | None = None
        self._bucket = (0, 0)
        self._still_since: int | None = None
        self._empty: bool | None = None
        """What the last key frame said of the picture as it still is; None: nothing, it has changed."""
        self._asked_at: int | None = None

    def packet(self, now_ms: int, timestamp: int, payload: bytes, key: bool) -> None:
        """A packet, as a track's ``on_packet`` is told; ``key``: it begins a key frame."""
        if self._timestamp is None or rtp.later(timestamp, self._timestamp):
            if self._timestamp is not None:
                self._frame(now_ms)
            self._timestamp, self._size, self._key = timestamp, 0, False
        if timestamp != self._timestamp:
            return
        self._size += len(payload)
        if key:
            self._key = True
            self._macroblocks = macroblocks(self._codec, payload) or self._macroblocks

    def black_ms(self, now_ms: int) -> int:
        """For how long it has been black beyond ``STILL_MS``; 0 while it is not, or nobody can tell."""
        return self._beyond(now_ms) if self._empty is True else 0

    def wants_key_frame(self, now_ms: int) -> bool:
        """Whether only a key frame can tell what stands still there; True at most every ``KEY_EVERY_MS``."""
        if not self._beyond(now_ms) or self._empty is True:
            return False
        if self._asked_at is not None and now_ms - self._asked_at < KEY_EVERY_MS:
            return False
        self._asked_at = now_ms
        return True

    def _beyond(self, now_ms: int) -> int:
        return 0 if self._still_since is None else max(0, now_ms - self._still_since - STILL_MS)

    def _frame(self, now_ms: int) -> None:
        """A frame is complete, as far as it ever will be."""
        if self._key:
            self._empty = self._size <= self._limit(*_BLACK_KEY.get(self._codec, (0.0, 0)))
        else:
            total, frames = self._bucket
            self._bucket = (total + self._size, frames + 1)
        if self._bucket_from is None:
            self._bucket_from = now_ms
        elif now_ms - self._bucket_from >= _BUCKET_MS:
            self._look_back(now_ms)

    def _look_back(self, now_ms: int) -> None:
        total, frames = self._bucket
        if total > frames * self._limit(*_STILL_INTER):
            self._still_since = self._empty = None
        elif self._still_since is None:
            self._still_since = self._bucket_from
        self._bucket_from, self._bucket = now_ms, (0, 0)

    def _limit(self, each: float, beside: int) -> float:
        # Nothing is known of a picture without an area: no size is small enough.
        return each * self._macroblocks + beside if self._macroblocks else -1.0


class Sound:
    """All audio of a creator; also none at all."""

    def __init__(self, now_ms: int) -> None:
        self._heard_at = now_ms

    def packet(self, now_ms: int, timestamp: int, payload: bytes, key: bool) -> None:
        """A packet, as a track's ``on_packet`` is told."""
        if len(payload) > SILENT_BYTES:
            self._heard_at = now_ms

    def silent_ms(self, now_ms: int) -> int:
        """For how long it has been silent beyond ``STILL_MS``; 0 while it is not."""
        return max(0, now_ms - self._heard_at - STILL_MS)
