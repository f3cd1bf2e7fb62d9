"""A room seen from outside: looks are spread, failures end nothing, and who left is remembered in sums."""

from __future__ import annotations

from typing import Any, cast

import pytest

from media.outside import FAILED_MS, MOST_A_TICK, Outside
from media.participants import Participant
from media.stats import SAMPLE_MS, InCounts, Sample

TICK_MS = 50


class Seat:
    """What the look reads of a participant and of its peer; ``looks``: when it was looked at."""

    def __init__(self, user_id: str) -> None:
        self.user_id = self.display_name = user_id
        self.publishes = True
        self.up = {"publish"}
        self.muted: set[str] = set()
        self.published: dict[str, Any] = {}
        self.peer = self
        self.last_heard_ms = 0
        self.packets = self.looks = 0
        self.broken = False
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.told.append(message)

    def sample(self) -> Sample:
        self.looks += 1
        if self.broken:
            raise RuntimeError("a defect")
        self.packets += 10
        return Sample({"in1": InCounts(self.packets, 100 * self.packets, 0, 0, 0)})


def room_of(*names: str) -> tuple[Outside, list[Seat]]:
    seats = [Seat(name) for name in names]
    everybody = cast(dict[str, Participant], {seat.user_id: seat for seat in seats})
    return Outside(everybody, private=True), seats


def test_a_full_room_is_looked_at_over_many_ticks_and_everybody_once_a_second() -> None:
    outside, seats = room_of(*(f"usr_{number}" for number in range(20)))
    for now_ms in range(0, 10 * SAMPLE_MS, TICK_MS):
        before = sum(seat.looks for seat in seats)
        outside.tick(now_ms, 0)
        assert sum(seat.looks for seat in seats) - before <= MOST_A_TICK
    assert {seat.looks for seat in seats} == {10}


def test_a_look_that_fails_ends_nothing_and_is_not_repeated_at_once(caplog: pytest.LogCaptureFixture) -> None:
    outside, (well, broken) = room_of("usr_well", "usr_broken")
    broken.broken = True
    for now_ms in range(0, FAILED_MS, TICK_MS):
        outside.tick(now_ms, now_ms)
    assert (broken.looks, well.looks) == (1, FAILED_MS // SAMPLE_MS)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["look_failed"]


def test_who_left_is_in_the_sums_and_in_nothing_else() -> None:
    outside, (one, other) = room_of("usr_one", "usr_other")
    for now_ms in range(0, 3 * SAMPLE_MS, TICK_MS):
        outside.tick(now_ms, 0)
    before = outside.totals()["packets_in"]
    outside.gone(cast(Participant, one))
    assert outside.totals()["packets_in"] == before + 10  # counted for the last time
    assert len(outside.grades()) == 1
    outside.gone(cast(Participant, one))
    assert outside.totals()["packets_in"] == one.packets + other.packets


def test_everybody_has_a_number_that_is_given_again_when_they_have_left() -> None:
    outside, seats = room_of("usr_one", "usr_other", "usr_third")
    everybody = cast(dict[str, Any], outside._everybody)

    def numbers() -> dict[str, int]:
        return {seat.user_id: seat.number for seat in outside.seats(0)}

    assert numbers() == dict.fromkeys(everybody, 0), "they have just come"
    for now_ms in (0, TICK_MS):
        outside.tick(now_ms, 0)
    assert numbers() == {"usr_one": 1, "usr_other": 2, "usr_third": 3}
    outside.gone(cast(Participant, everybody.pop("usr_other")))
    everybody |= {"usr_fourth": Seat("usr_fourth"), "usr_fifth": Seat("usr_fifth")}
    outside.tick(2 * TICK_MS, 0)
    assert numbers() == {"usr_one": 1, "usr_third": 3, "usr_fourth": 2, "usr_fifth": 4}
    assert len(seats) == 3


def test_our_own_sleep_is_nobodys_silence() -> None:
    # given a node that stood still for a minute, when it looks again, then who was not heard meanwhile is not lost
    outside, (one,) = room_of("usr_one")
    for now_ms in range(60_000, 70_000, TICK_MS):
        outside.tick(now_ms, now_ms)
    assert outside.grades() == ["good"]
    for now_ms in range(70_000, 80_000, TICK_MS):
        outside.tick(now_ms, 70_000)
    assert outside.grades() == ["lost"]
    assert [message.quality for message in one.told] == ["good", "lost"]
