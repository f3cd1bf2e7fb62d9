"""What is worth another attempt."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from models.errors import NotFound, Unavailable
from workers.broker import worth_retrying


@pytest.mark.parametrize("error", [OperationalError("", {}, Exception()), Unavailable("away")])
def test_what_is_away_is_asked_for_ever(error: Exception) -> None:
    assert worth_retrying(10_000, error)


@pytest.mark.parametrize("error", [NotFound("no such session"), KeyError("a defect")])
def test_anything_else_six_times(error: Exception) -> None:
    assert [worth_retrying(retries, error) for retries in range(7)] == [True] * 5 + [False] * 2
