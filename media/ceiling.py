"""How much a publisher's cameras may send in all: what it is told by REMB (draft-alvestrand-rmcat-remb-03).

Of several sizes each subscriber gets the one that fits, and nobody is held back. A camera with a single size
(private calls, WHIP, small cameras) sends no more than the best of its subscribers' lines carries: the rest would
only be thrown away, and the picture with it. Chromium takes REMB as a cap beside its own estimate. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.tracks import PublishedTrack

MAX_VIDEO_BITRATE = 2_800_000
"""What a track is allowed at most: 720p at 2.5 Mbit/s and its sound."""
MAX_LOWER_BITRATE = 1_000_000
"""And for the smaller layers of simulcast together."""
FULL_PICTURE = 2_500_000
"""Bits a second of who is not told to send less."""
LEAST_PICTURE = 100_000
"""Below that there is no picture worth the name: who cannot take it is not sent any."""
SOUND = 60_000
"""The cap covers what the publisher sends beside the picture, too."""
SHARE = 0.85
"""Of a line: encoders do not hit their mark, key frames go beyond it, and lost packets are sent again."""
NEAR = 1.3
"""Who sends so many times less than the ceiling would be is not held back: browsers forget what their own line
carries. A ceiling that there is stays until the picture is whole again."""
WORTH = 0.95
"""A ceiling that fell so far is told at once; what is given back is told with the next report."""


class Ceiling:
    """Of one publish connection."""

    def __init__(self) -> None:
        self.bitrate: int | None = None
        """What it was told; None: it was never held back."""

    def fell(self, tracks: Sequence[PublishedTrack]) -> bool:
        """Look what there is for the tracks; whether the publisher has to know at once."""
        for track in tracks:
            track.ceiling = _ceiling(track)
        # Of what has no SSRC yet nothing can be said to it.
        known = [track for track in tracks if track.kind == "video" and any(layer.ssrc for layer in track.layers)]
        if self.bitrate is None or not known:
            return any(track.ceiling is not None for track in known)
        return self.allowed(tracks) < WORTH * self.bitrate

    def tell(self, tracks: Sequence[PublishedTrack]) -> int:
        """Bits a second in all, as it is told now."""
        self.bitrate = self.allowed(tracks)
        return self.bitrate

    @staticmethod
    def allowed(tracks: Sequence[PublishedTrack]) -> int:
        """Bits a second in all."""
        most = 0.0
        for track in tracks:
            if track.kind == "audio" or not any(layer.ssrc for layer in track.layers):
                continue
            if track.ceiling is not None:
                most += track.ceiling + SOUND
            else:
                several = sum(layer.ssrc is not None for layer in track.layers) > 1
                most += MAX_VIDEO_BITRATE + (MAX_LOWER_BITRATE if several else 0)
        return round(most)


def _ceiling(track: PublishedTrack) -> float | None:
    room = track.room(FULL_PICTURE / SHARE)
    if room is None:
        return None
    fits = max(LEAST_PICTURE, SHARE * room)
    return None if track.ceiling is None and NEAR * track.rates[0] < fits else fits
