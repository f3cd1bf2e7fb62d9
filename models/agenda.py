"""Every timer of the request queue and of bookings, derived from the length of a minute as in ``timing``.

docs/money.md is the source of the values. How far ahead a time may be opened is in days, which nothing shortens,
and a turn is never too short to be read and pressed.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from models.timing import SHORTEST_WAIT_MS

LONGEST_AHEAD = timedelta(days=60)


class Agenda(msgspec.Struct, frozen=True, kw_only=True):
    """How long each thing lasts."""

    wait: timedelta
    """A queued request expires after this, unless its turn has come."""
    turn: timedelta
    """Within this a fan whose turn it is confirms again."""
    grace: timedelta
    """How long a booking's two people have to connect, and how long it waits for one who is still in a call."""
    guard: timedelta
    """Before a booking nothing else may run: pauses, connecting and settling need their time."""
    lead: timedelta
    """A time is opened and booked at least this long ahead."""
    free_cancel: timedelta
    """Until this long before the start the fan may cancel."""
    remind: tuple[timedelta, timedelta]
    """How long before the start both are reminded."""


def agenda_for(minute_ms: int) -> Agenda:
    """The timers of a house whose minute lasts ``minute_ms``."""

    def minutes(count: float) -> timedelta:
        return timedelta(milliseconds=count * minute_ms)

    return Agenda(
        wait=minutes(30),
        turn=max(minutes(1), timedelta(milliseconds=SHORTEST_WAIT_MS)),
        grace=minutes(5),
        guard=minutes(5),
        lead=minutes(5),
        free_cancel=minutes(60),
        remind=(minutes(60), minutes(5)),
    )
