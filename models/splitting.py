"""How a battle's pot is split: whole tokens, nothing left over, the same result whoever computes it.

Pure arithmetic; knows no ledger and no database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """Tokens of one stake that go to one share, named by its place."""

    share: int
    tokens: int


def split(pot: int, scores: Sequence[int], winner_percent: int | None) -> tuple[int, ...]:
    """The share of each side, in the order of ``scores``; they sum to ``pot``.

    ``winner_percent`` None: equal shares. Else the highest score gets that percentage and the others share the
    rest equally; sides that are equal at the top share what their places would have got. Shares are rounded
    down, and the tokens that this leaves, fewer than there are sides, go one each to the sides in the order of
    their scores; of equal ones to the earlier in ``scores``.
    """
    weights = _weights(scores, winner_percent)
    whole = sum(weights)
    shares = [pot * weight // whole for weight in weights]
    order = sorted(range(len(scores)), key=lambda side: (-scores[side], side))
    for side in order[: pot - sum(shares)]:
        shares[side] += 1
    return tuple(shares)


def winners(scores: Sequence[int]) -> tuple[int, ...]:
    """The sides with the highest score."""
    return tuple(side for side, score in enumerate(scores) if score == max(scores))


def commission_of(share: int, percent: int) -> int:
    """The platform's part of a share, rounded down."""
    return share * percent // 100


def parts_of(stakes: Sequence[int], shares: Sequence[int]) -> list[list[Part]]:
    """Which tokens of each stake go to which share: in order, so that few stakes are divided.

    All sums are kept: each stake is used up, each share filled. Raises ValueError when the sums differ.
    """
    if sum(stakes) != sum(shares):
        raise ValueError("stakes and shares have different sums")
    left, place = list(shares), 0
    found: list[list[Part]] = []
    for stake in stakes:
        parts: list[Part] = []
        while stake:
            while not left[place]:
                place += 1
            tokens = min(stake, left[place])
            parts.append(Part(place, tokens))
            left[place] -= tokens
            stake -= tokens
        found.append(parts)
    return found


def _weights(scores: Sequence[int], winner_percent: int | None) -> list[int]:
    sides, top = len(scores), winners(scores)
    if winner_percent is None or sides == 1 or len(top) == sides:
        return [1] * sides
    loser = 100 - winner_percent
    # What the first places get together, each place being worth so many hundredths of (sides - 1).
    together = winner_percent * (sides - 1) + (len(top) - 1) * loser
    return [together if side in top else loser * len(top) for side in range(sides)]
