"""The programme: thirty ticks a second of a clock of its own, each one composed picture and its sound.

A tick shows the room as it was ``DELAY_SECONDS`` ago, so that late frames are there. When the encoders
cannot keep up, whole ticks are left out: media time then runs slower than the clock, nothing grows, and
``capture_time`` still knows what moment each picture is of.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

from models.ladder import FRAMES_PER_SECOND, SAMPLES_PER_SECOND
from workers.transcode.composer import Buffers, Composer
from workers.transcode.labels import Labels
from workers.transcode.ladder import AAC_PRIMING_SAMPLES
from workers.transcode.posters import EVERY_SECONDS
from workers.transcode.sound import mix, position
from workers.transcode.source import Room

DELAY_SECONDS = 0.45
"""Behind capture: network, resends and decoding take less, or their frames come too late."""
FIRST_PICTURE_SECONDS = 2.0
"""How long to wait for somebody's picture before beginning without."""
LATE_SECONDS = 0.5
"""A tick that is later is left out, not composed: a machine that is too busy has no time for the past."""
FAR_BEHIND_SECONDS = 5.0
"""A process that was stopped that long starts again with a gap that playlists name."""
TICK_SAMPLES = SAMPLES_PER_SECOND // FRAMES_PER_SECOND
MOST_SLIPS = 1000
POLL_SECONDS = 0.02


class Behind(Exception):
    """The clock jumped over more than may be left out without saying so."""


class Encoders(Protocol):
    """What takes the programme."""

    def offer(self, picture: Buffers, sound: bytes) -> bool:
        """False when it cannot be taken now."""


class Drawer(Protocol):
    """What takes a picture now and then."""

    def offer(self, picture: Buffers, captured_at: float) -> None:
        """Take it or leave it."""


class Clock(Protocol):
    """What the programme plays by."""

    def now(self) -> float:
        """Unix seconds."""

    def wait(self, until: float) -> None:
        """Return at ``until``, or at once when that is past."""


class SteadyClock:
    """Unix time that never jumps: the wall clock at the start, and from there the monotonic one."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return time.monotonic() + self._offset

    def wait(self, until: float) -> None:
        """Return at ``until``, or at once when that is past."""
        early = until - self.now()
        if early > 0:
            time.sleep(early)


class Timeline:
    """What moment of capture each media time is. One thread slips, another asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begins = 0.0
        self._at: list[int] = []
        self._lost: list[int] = []
        self.dropped = 0

    def begin(self, captured_at: float) -> None:
        """Media time 0."""
        self._begins = captured_at

    def slip(self, media_tick: int) -> None:
        """A tick was left out right before ``media_tick``."""
        with self._lock:
            self.dropped += 1
            if self._at and self._at[-1] == media_tick:
                self._lost[-1] = self.dropped
                return
            self._at.append(media_tick)
            self._lost.append(self.dropped)
            if len(self._at) > MOST_SLIPS:
                del self._at[0], self._lost[0]

    def capture_time(self, media_seconds: float) -> float:
        """Unix seconds of capture."""
        with self._lock:
            index = bisect_right(self._at, media_seconds * FRAMES_PER_SECOND + 1e-6)
            lost = self._lost[index - 1] if index else 0
        return self._begins + media_seconds + lost / FRAMES_PER_SECOND


class Program:
    """Plays one room into the encoders."""

    def __init__(self, room: Room, clock: Clock, labels: Labels | None = None) -> None:
        """With ``labels`` each picture of several has its name on it."""
        self._room = room
        self._clock = clock
        self._composer = Composer()
        self._labels = labels
        self._timeline = Timeline()
        self._begins = 0.0
        self._poster_at = FRAMES_PER_SECOND
        self.capture_time = self._timeline.capture_time

    @property
    def dropped(self) -> int:
        """Ticks left out so far."""
        return self._timeline.dropped

    def begin(self, over: Callable[[], bool]) -> float | None:
        """Wait for the first picture, not for ever; the Unix time of capture at which media time is 0.

        The clock starts on a picture, so that a lone publisher's pictures and our ticks agree. None when it
        was over before.
        """
        deadline = self._clock.now() + FIRST_PICTURE_SECONDS
        while not over():
            firsts = [first for track in self._room.pictures() if (first := track.first_at()) is not None]
            late = self._clock.now() >= deadline
            if firsts or late:
                begins = max(min(firsts, default=0.0), self._clock.now() - DELAY_SECONDS)
                self._begins = begins
                self._timeline.begin(begins)
                return begins
            self._clock.wait(self._clock.now() + POLL_SECONDS)
        return None

    def run(self, encoders: Encoders, posters: Drawer, over: Callable[[], bool]) -> None:
        """Tick until it is over and what was captured before is played. Raises Behind."""
        tick = media_tick = 0
        last: int | None = None
        while last is None or tick < last:
            moment = self._begins + tick / FRAMES_PER_SECOND
            self._clock.wait(moment + DELAY_SECONDS)
            if last is None and over():
                last = tick + round(DELAY_SECONDS * FRAMES_PER_SECOND)
            late = self._clock.now() - moment - DELAY_SECONDS
            if late > FAR_BEHIND_SECONDS:
                raise Behind
            if late <= LATE_SECONDS and self._show(encoders, posters, tick, moment):
                media_tick += 1
            else:
                self._timeline.slip(media_tick)
            tick += 1

    def _show(self, encoders: Encoders, posters: Drawer, tick: int, moment: float) -> bool:
        """Compose a tick; whether the encoders took it."""
        shown = [(track, frame) for track in self._room.pictures() if (frame := track.look(moment)) is not None]
        frames = [frame for _, frame in shown]
        names = self._labels if len(shown) > 1 else None
        picture = self._composer.picture(frames, [names.of(track.name) for track, _ in shown] if names else ())
        if frames and tick >= self._poster_at:
            self._poster_at = tick + EVERY_SECONDS * FRAMES_PER_SECOND
            posters.offer(picture, moment)
        return encoders.offer(picture, self._sound(tick))

    def _sound(self, tick: int) -> bytes:
        start = position(round(self._begins * 1e6)) + AAC_PRIMING_SAMPLES + tick * TICK_SAMPLES
        heard = [sound.read(start, TICK_SAMPLES) for sound in self._room.sounds()]
        return mix([samples for samples in heard if samples is not None], TICK_SAMPLES)
