"""Sound on the clock of capture: packets come when they come, samples are read at a steady rate.

Positions are sample numbers since 1970 at 48 kHz. Knows nothing of codecs or connections.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from models.ladder import SAMPLES_PER_SECOND

Samples = npt.NDArray[np.int16]
"""Shape (n, 2)."""

RING_SAMPLES = 2 * SAMPLES_PER_SECOND
STEADY_SAMPLES = SAMPLES_PER_SECOND // 1000
"""Within this of where it should be, a packet follows the one before without a seam."""
SEAM_SAMPLES = SAMPLES_PER_SECOND // 125
"""Further away than this (8 ms; a packet is 10 or more) something was lost or a clock was set: the packet goes
where it belongs."""
STRETCH = 96
"""One part in so many: the most that a packet is made longer or shorter, as fast as a node moves its offset."""


def position(capture_us: int) -> int:
    """The sample number of a moment, given in microseconds of Unix time."""
    return capture_us * (SAMPLES_PER_SECOND // 1000) // 1000


class SoundTrack:
    """One publisher's sound. One thread writes, another reads.

    A publisher's clock drifts against ours: a packet that would leave its place by more than a millisecond
    is made a little longer or shorter, which nobody hears, instead of a gap now and then, which everybody does.
    """

    def __init__(self) -> None:
        self._ring: Samples = np.zeros((RING_SAMPLES, 2), np.int16)
        self._lock = threading.Lock()
        self._next: int | None = None
        self._floor: int | None = None
        self._reading = False
        self._end = 0
        self._passed = 0

    @property
    def over(self) -> bool:
        """Whether all that was written has been read."""
        return self._passed >= self._end

    def write(self, capture_us: int, samples: Samples) -> None:
        """Place a packet that was captured at ``capture_us``; what is too late or far too early is left out."""
        wanted = position(capture_us)
        with self._lock:
            samples, start = self._seam(wanted, samples)
            self._next = start + len(samples)
            if self._floor is None:
                self._floor = start
            if not self._reading and self._next > self._floor + RING_SAMPLES:
                self._clear(self._next - RING_SAMPLES)
            skipped = max(0, self._floor - start)
            if skipped >= len(samples) or self._next > self._floor + RING_SAMPLES:
                return
            self._put(start + skipped, samples[skipped:])
            self._end = max(self._end, self._next)

    def _seam(self, wanted: int, samples: Samples) -> tuple[Samples, int]:
        if self._next is None or abs(wanted - self._next) > SEAM_SAMPLES:
            return samples, wanted
        away = wanted - self._next
        if abs(away) > STEADY_SAMPLES:
            most = max(1, len(samples) // STRETCH)
            samples = stretch(samples, len(samples) + max(-most, min(most, away // 4)))
        return samples, self._next

    def read(self, start: int, count: int) -> Samples | None:
        """``count`` samples from position ``start``, silence where there is none; None if all is silence.

        What was read, and everything before it, is gone.
        """
        with self._lock:
            self._reading = True
            self._passed = start + count
            if self._floor is None or start + count <= self._floor:
                return None
            heard = None
            if self._end > start:
                heard = np.zeros((count, 2), np.int16)
                first = max(start, self._floor)
                heard[first - start :] = self._get(first, start + count - first)
            self._clear(start + count)
            return heard

    def _put(self, start: int, samples: Samples) -> None:
        place = start % RING_SAMPLES
        head = min(len(samples), RING_SAMPLES - place)
        self._ring[place : place + head] = samples[:head]
        self._ring[: len(samples) - head] = samples[head:]

    def _get(self, start: int, count: int) -> Samples:
        place = start % RING_SAMPLES
        if place + count <= RING_SAMPLES:
            return self._ring[place : place + count]
        return np.concatenate((self._ring[place:], self._ring[: place + count - RING_SAMPLES]))

    def _clear(self, floor: int) -> None:
        """Forget everything before ``floor``."""
        assert self._floor is not None
        count = min(floor - self._floor, RING_SAMPLES)
        if count > 0:
            self._put(floor - count, np.zeros((count, 2), np.int16))
        self._floor = max(self._floor, floor)


def stretch(samples: Samples, count: int) -> Samples:
    """The same sound in ``count`` samples."""
    at = np.linspace(0, len(samples) - 1, count)
    between = np.arange(len(samples))
    return np.stack([np.interp(at, between, samples[:, side]) for side in (0, 1)], axis=1).astype(np.int16)


def mix(tracks: list[Samples], count: int) -> bytes:
    """All of them together as 16-bit little-endian stereo, clipped; silence for none."""
    if not tracks:
        return bytes(count * 4)
    if len(tracks) == 1:
        return tracks[0].tobytes()
    total = np.zeros((count, 2), np.int32)
    for track in tracks:
        total += track
    return np.clip(total, -32768, 32767).astype("<i2").tobytes()
