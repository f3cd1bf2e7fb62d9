"""What of a line's bandwidth goes to which picture: everybody's smallest first, then more by rank. Pure.

Sound is no part of it: it is always sent, and the bandwidth that is divided here is what it leaves. What flows is
kept a little longer than something better is begun, so that a rate between two layers changes nothing to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from media.layers import HIGH, LOW, NONE

KEEP = 1.2
"""What flows may need so much more than there is: an estimate falls below what arrives (``congestion.BACKOFF``)
also on a line that just carries it."""
KEEP_SINGLE = 1.6
"""The same of a publisher with one size: it is told to send less, and takes a moment."""
RAISE = 1.1
"""What is begun has to fit with so much to spare."""
MOST_TIMES = 3.0
"""No attempt asks for more than so many times what is known to get through."""


class Want(NamedTuple):
    """A picture that would be sent."""

    rank: int
    """The highest first."""
    wanted: int
    """LOW to HIGH: no more than this."""
    rates: tuple[float, float, float]
    """Bits a second at LOW, MEDIUM and HIGH; 0 where nothing is known yet."""
    limit: int
    """What it has now, NONE to HIGH."""
    single: bool = False
    """Its publisher has one size, and may be told to send less."""
    full: float = 0.0
    """Bits a second that it would send, had it not been told to send less; 0: it was not."""


class Division(NamedTuple):
    """Who gets what."""

    limits: tuple[int, ...]
    rooms: tuple[float, ...]
    """Bits a second that each could have, if it could be made smaller to fit."""
    more: float | None
    """Bits a second in all that the next better picture takes; None: everybody has what it wants."""


def divide(budget: float, wants: Sequence[Want]) -> Division:
    """Divide ``budget`` bits a second."""
    order = sorted(range(len(wants)), key=lambda at: -wants[at].rank)
    limits = [NONE] * len(wants)
    costs = [0.0] * len(wants)
    spent = 0.0

    def try_level(at: int, level: int) -> bool:
        nonlocal spent
        want = wants[at]
        keep = KEEP_SINGLE if want.single else KEEP
        cost = want.rates[level] * (1 / keep if level <= want.limit else RAISE)
        if spent - costs[at] + cost > budget:
            return False
        spent += cost - costs[at]
        costs[at], limits[at] = cost, level
        return True

    for at in order:
        try_level(at, LOW)
    for rank in sorted({want.rank for want in wants}, reverse=True):
        for level in range(LOW + 1, HIGH + 1):
            for at in order:
                if wants[at].rank == rank and limits[at] == level - 1 and wants[at].wanted >= level:
                    try_level(at, level)
    share = budget / len(wants) if wants else 0.0
    rooms = tuple(max(0.0, share, budget - spent + cost) for cost in costs)
    return Division(tuple(limits), rooms, _more(wants, order, limits))


def _more(wants: Sequence[Want], order: Sequence[int], limits: Sequence[int]) -> float | None:
    now = sum(want.rates[limit] for want, limit in zip(wants, limits, strict=True) if limit > NONE)
    for at in order:
        want, limit = wants[at], limits[at]
        if limit < want.wanted:
            has = want.rates[limit] if limit > NONE else 0.0
            return (now - has + max(want.full, want.rates[limit + 1])) * RAISE
        if limit > NONE and want.full > want.rates[limit]:
            return (now - want.rates[limit] + want.full) * RAISE
    return None
