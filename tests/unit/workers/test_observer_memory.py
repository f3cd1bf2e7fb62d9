"""Rates and ages out of counters, and what a row of samples says in a word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.operations import QueueSampleRow
from models.services.queues import _state
from workers.observer import Memory, Seen, on_grid

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_rates_are_differences_of_counters() -> None:
    memory = Memory()
    assert memory.rates("q", Seen(at(0), 100, 90)) == (None, None)
    assert memory.rates("q", Seen(at(4), 120, 100)) == (5.0, 2.5)
    # Counters that fall are a new broker's.
    assert memory.rates("q", Seen(at(6), 3, 0)) == (None, None)
    assert memory.rates("q", None) == (None, None)


def test_the_oldest_came_after_the_queue_was_empty() -> None:
    memory = Memory({"q": at(-10)})
    assert memory.age_ms("q", 3, at(0)) == 10_000
    assert memory.age_ms("q", 0, at(2)) == 0
    assert memory.age_ms("q", 1, at(5)) == 3_000
    assert memory.age_ms("q", None, at(6)) is None
    assert memory.age_ms("new", 7, at(6)) == 0


def test_in_a_queue_that_is_never_empty_the_oldest_is_the_first_that_has_not_left() -> None:
    # given ten messages a second in and out, and always twenty waiting
    memory = Memory({"q": at(-1000)})
    for second in range(0, 60, 2):
        memory.rates("q", Seen(at(second), 1000 + 10 * second, 980 + 10 * second))
    # then the first of them came two seconds ago
    assert memory.age_ms("q", 20, at(58)) == 2_000


@pytest.mark.parametrize(
    ("ready", "consumers", "word"),
    [
        ([0, 0, 0], 1, "keeping_up"),
        ([0, 2, 5], 1, "growing"),
        ([9, 5, 2], 1, "working_off"),
        ([4, 4, 4], 1, "keeping_up"),
        ([0, 2, 5], 0, "no_worker"),
        ([0, 2, None], 0, "unknown"),
    ],
)
def test_the_state_in_a_word(ready: list[int | None], consumers: int, word: str) -> None:
    rows = [
        QueueSampleRow(queue="q", at=at(index * 2), ready=count, consumers=consumers)
        for index, count in enumerate(ready)
    ]
    assert _state(rows, at(5)) == word
    assert _state(rows, at(60)) == "unknown"


def test_two_clocks_look_at_the_same_moment() -> None:
    assert on_grid(at(1.9)) == on_grid(at(0.1)) == START
