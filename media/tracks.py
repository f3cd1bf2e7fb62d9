"""A published track and the slots that carry it to subscribers: state only, no socket and no peer connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Kind = Literal["audio", "video"]
Codec = Literal["VP8", "H264", "opus"]


class PublishedTrack:
    """One audio or video track of one participant."""

    track_id: str
    user_id: str
    kind: Kind
    codec: Codec
    on_frame: Callable[[int, bool, int], None] | None
    """``(now_ms, keyframe, size)``: video, once per new RTP timestamp (size: bytes of its first packet);
    audio, once per packet. Called for everything that arrived, BEFORE the gate is asked for that packet and
    whether or not anyone is subscribed: a paused meter must see the key frame with which it opens the gate."""
    gate: Callable[[int], bool] | None
    """``(now_ms) -> may this packet go to anyone``: asked per packet, after ``on_frame``; False drops it before
    fan-out (no hole in subscribers' sequence numbers, so that they do not NACK what they may not have)."""

    def request_key_frame(self) -> None:
        """Ask the publisher for a key frame (video; throttled, so callers may repeat themselves)."""
        raise AssertionError("filled next")


class Slot:
    """One m-line of a subscriber's connection, carrying at most one track at a time."""

    mid: str | None
    """None until negotiated."""
    kind: Kind
    track: PublishedTrack | None
