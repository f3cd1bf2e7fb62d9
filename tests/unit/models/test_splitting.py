"""The split of a battle's pot: whole tokens, all of them, by rank; whatever the figures."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.splitting import commission_of, parts_of, split, winners

SCORES = st.lists(st.integers(0, 10**9), min_size=1, max_size=4)
PERCENTS = st.none() | st.integers(50, 100)


@pytest.mark.parametrize(
    ("pot", "scores", "percent", "shares"),
    [
        (100, (30, 70), None, (50, 50)),
        (101, (30, 70), None, (50, 51)),  # the odd one to the higher score
        (101, (5, 5), None, (51, 50)),  # or to who entered first
        (100, (30, 70), 70, (30, 70)),
        (100, (30, 70), 100, (0, 100)),
        (10, (0, 0), 100, (5, 5)),  # a draw of all
        (100, (9, 5, 1), 70, (70, 15, 15)),
        (101, (9, 5, 1), 70, (71, 15, 15)),
        (100, (9, 9, 1), 70, (43, 42, 15)),  # what the first two places get, in two
        (100, (7, 9, 9, 9), 100, (0, 34, 33, 33)),
        (1, (1, 2, 3, 4), 50, (0, 0, 0, 1)),
        (0, (1, 2), 70, (0, 0)),
        (77, (0,), 70, (77,)),
    ],
)
def test_shares_as_they_are_told(
    pot: int, scores: tuple[int, ...], percent: int | None, shares: tuple[int, ...]
) -> None:
    assert split(pot, scores, percent) == shares


@given(pot=st.integers(0, 10**12), scores=SCORES, percent=PERCENTS)
def test_nothing_is_lost_and_nobody_gets_more_than_their_rank(
    pot: int, scores: list[int], percent: int | None
) -> None:
    shares = split(pot, scores, percent)
    assert sum(shares) == pot
    assert min(shares) >= 0
    # who scored more never gets less, and equal scores differ by the one token that cannot be divided
    for one, other in zip(scores, shares, strict=True):
        for another, share in zip(scores, shares, strict=True):
            if one > another:
                assert other >= share
            if one == another:
                assert abs(other - share) <= 1
    # and each is within a token of its exact part
    top, sides = winners(scores), len(scores)
    for side, share in enumerate(shares):
        exact = Fraction(pot, sides)
        if percent is not None and 1 < sides != len(top):
            together = Fraction(percent, 100) + Fraction(100 - percent, 100) * Fraction(len(top) - 1, sides - 1)
            rest = Fraction(100 - percent, 100 * (sides - 1))
            exact = pot * (together / len(top) if side in top else rest)
        assert abs(share - exact) < 1


@given(data=st.data(), stakes=st.lists(st.integers(0, 500), max_size=12), sides=st.integers(1, 4))
def test_every_token_of_every_stake_goes_to_one_share(data: st.DataObject, stakes: list[int], sides: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, sum(stakes)), min_size=sides - 1, max_size=sides - 1)))
    shares = [after - before for before, after in zip([0, *cuts], [*cuts, sum(stakes)], strict=True)]
    found = parts_of(stakes, shares)
    assert [sum(part.tokens for part in parts) for parts in found] == stakes
    for share, tokens in enumerate(shares):
        assert sum(part.tokens for parts in found for part in parts if part.share == share) == tokens
    # few are divided, so that few payments are made
    assert sum(len(parts) for parts in found) <= len(stakes) + sides - 1


def test_sums_that_differ_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="different sums"):
        parts_of([5], [4])


@given(share=st.integers(0, 10**12), percent=st.integers(0, 100))
def test_the_commission_is_rounded_down(share: int, percent: int) -> None:
    assert 0 <= Fraction(share * percent, 100) - commission_of(share, percent) < 1
