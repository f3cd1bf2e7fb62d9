"""Every timer of a request and a session, derived from the length of its minute.

A minute is 60,000 ms. Demo mode and tests may shorten it (``MINUTE_SECONDS``); then every timer here
shrinks in proportion, but for those that wait until somebody has read, pressed or connected, which stop at
SHORTEST_WAIT_MS. The receipt states the minute's length. docs/money.md is the source of the values.
"""

from __future__ import annotations

import msgspec

MINUTE_MS = 60_000
# Frames further apart than this are a gap. Below this floor a shortened minute would call ordinary
# camera jitter a gap, so the threshold stops shrinking here.
SMALLEST_GAP_MS = 500
# People and browsers are as slow as ever, however short the minute is.
SHORTEST_WAIT_MS = 10_000


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """All in milliseconds."""

    minute_ms: int
    answer_ms: int
    """A pending request expires after this."""
    connecting_ms: int
    """Counted from the media node's confirmation that the room is open."""
    open_ms: int
    """No confirmation from the media node within this is our failure."""
    pause_ms: int
    """The sum of the pauses of both sides that a session may have."""
    pause_leave_ms: int
    """A fan who leaves after this much of a pause leaves by that pause's cause."""
    fan_absent_ms: int
    settle_ms: int
    """No final report within this: the last one stands."""
    report_ms: int
    poll_ms: int
    gap_ms: int
    camera_off_ms: int
    feed_gone_ms: int
    """A fan whose event feed has been gone for this long cannot be accepted."""
    creator_absent_ms: int
    """A public stream whose creator's seat has been empty for this long ends."""
    warn_first_ms: int
    warn_last_ms: int
    next_minute_ms: int
    """Minute by minute: the next one is held when this much is left of the paid ones."""


def timers_for(minute_ms: int) -> Timers:
    """The timers of a session whose minute lasts ``minute_ms``."""

    def scaled(milliseconds: int) -> int:
        return max(1, milliseconds * minute_ms // MINUTE_MS)

    def patient(milliseconds: int) -> int:
        return max(SHORTEST_WAIT_MS, scaled(milliseconds))

    return Timers(
        minute_ms=minute_ms,
        answer_ms=patient(120_000),
        connecting_ms=patient(30_000),
        open_ms=scaled(30_000),
        pause_ms=scaled(120_000),
        pause_leave_ms=scaled(10_000),
        fan_absent_ms=scaled(60_000),
        settle_ms=scaled(60_000),
        report_ms=scaled(5_000),
        poll_ms=scaled(30_000),
        gap_ms=max(SMALLEST_GAP_MS, scaled(2_000)),
        camera_off_ms=scaled(10_000),
        feed_gone_ms=patient(15_000),
        creator_absent_ms=patient(60_000),
        warn_first_ms=scaled(60_000),
        warn_last_ms=scaled(15_000),
        next_minute_ms=scaled(20_000),
    )
