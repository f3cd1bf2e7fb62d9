"""What a call says when the paid time is used up, and which of several grants counts: on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from media import call as call_module
from media.call import Call
from media.participants import Watch
from media.plane import PublishedTrack
from media.reports import Reporter
from models.messages import events
from models.messages.commands import Budget, Reason, SpentReason
from models.messages.signaling import SessionClock
from models.timing import timers_for

MINUTE = 60_000


class Played:
    """A call between two people whose creator sends 25 frames a second, key frames all."""

    def __init__(self, clock: Clock, **changed: Any) -> None:
        self.clock = clock
        self.said: list[Any] = []
        self.shown: list[SessionClock] = []
        self.reasons: list[Reason] = []
        self.call = Call(
            Budget(
                **{
                    "session_id": "ses_1",
                    "paid_ms": MINUTE,
                    "rate_per_minute": 100,
                    "timers": timers_for(MINUTE),
                }
                | changed
            ),
            room_id="private-ses_1",
            epoch=3,
            creator_id="usr_creator",
            reporter=Reporter("media-1", "boot_1", self.said.append),
            read_what_waits=lambda: True,
            announce=self.shown.append,
            on_end=self.reasons.append,
        )

    def connect(self) -> None:
        self.call.seated("usr_creator")
        self.call.seated("usr_fan")
        self.call.connected("usr_fan")

    def frames_until(self, at_ms: int) -> None:
        while self.clock.ms < at_ms and not self.reasons:
            self.clock.ms += 40
            self.call.meter.video_frame(self.clock.ms, key=True)
            self.call.look()

    @property
    def acknowledged(self) -> list[int]:
        return [event.paid_ms for event in self.said if isinstance(event, events.MediaDelivered)]


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(call_module, "monotonic_ms", clock)
    return clock


def play(scene: Callable[[], None]) -> None:
    async def inside_a_loop() -> None:
        scene()

    asyncio.run(inside_a_loop())


def ended_with(clock: Clock, *grants: tuple[int, SpentReason], **changed: Any) -> Played:
    """The call with these grants, all given at 0:30, run to its end."""
    clock.ms = 0
    played = Played(clock, **changed)

    def scene() -> None:
        played.connect()
        played.frames_until(MINUTE // 2)
        for paid_ms, reason in grants:
            assert played.call.grant(paid_ms, reason)
        played.frames_until(10 * MINUTE)

    play(scene)
    return played


def test_time_that_runs_out_is_said_as_such(clock: Clock) -> None:
    played = ended_with(clock)
    assert played.reasons == ["TIME_EXPIRED"]
    assert (played.said[-1].fact, played.said[-1].delivered_ms) == ("time_expired", MINUTE)


def test_time_that_runs_out_for_want_of_tokens_is_said_by_the_node_itself(clock: Clock) -> None:
    played = ended_with(clock, (MINUTE, "PAYMENT_FAILED"))
    assert played.reasons == ["PAYMENT_FAILED"]
    assert (played.said[-1].fact, played.said[-1].delivered_ms) == ("time_expired", MINUTE)


@pytest.mark.parametrize(
    ("grants", "reason", "delivered_ms"),
    [
        ([(2 * MINUTE, "TIME_EXPIRED")], "TIME_EXPIRED", 2 * MINUTE),
        # Refused, then paid after all: the refusal was about the first minute.
        ([(MINUTE, "PAYMENT_FAILED"), (2 * MINUTE, "TIME_EXPIRED")], "TIME_EXPIRED", 2 * MINUTE),
        # The same, delivered the other way round.
        ([(2 * MINUTE, "TIME_EXPIRED"), (MINUTE, "PAYMENT_FAILED")], "TIME_EXPIRED", 2 * MINUTE),
        ([(2 * MINUTE, "TIME_EXPIRED"), (2 * MINUTE, "PAYMENT_FAILED")], "PAYMENT_FAILED", 2 * MINUTE),
        ([(2 * MINUTE, "PAYMENT_FAILED"), (2 * MINUTE, "TIME_EXPIRED")], "PAYMENT_FAILED", 2 * MINUTE),
        ([(MINUTE, "PAYMENT_FAILED"), (MINUTE, "PAYMENT_FAILED")], "PAYMENT_FAILED", MINUTE),
    ],
)
def test_of_several_grants_in_any_order_the_highest_counts(
    clock: Clock, grants: list[tuple[int, SpentReason]], reason: str, delivered_ms: int
) -> None:
    played = ended_with(clock, *grants)
    assert (played.reasons, played.said[-1].delivered_ms) == ([reason], delivered_ms)


def test_each_grant_is_acknowledged_and_shown_at_once(clock: Clock) -> None:
    played = Played(clock)

    def scene() -> None:
        played.connect()
        played.frames_until(1_000)
        played.call.grant(2 * MINUTE)
        assert (played.acknowledged[-1], played.shown[-1].paid_ms) == (2 * MINUTE, 2 * MINUTE)
        said = len(played.said)
        played.call.grant(2 * MINUTE)
        assert len(played.said) == said + 1, "a repeated command is acknowledged again"
        assert played.acknowledged[-1] == 2 * MINUTE

    play(scene)


def test_a_grant_that_lost_the_race_is_refused_and_never_acknowledged(clock: Clock) -> None:
    played = ended_with(clock)
    assert not played.call.grant(2 * MINUTE)
    assert max(played.acknowledged) == played.said[-1].paid_ms == MINUTE


def test_the_desired_state_carries_paid_time_and_reason_too(clock: Clock) -> None:
    played = Played(clock)

    def scene() -> None:
        played.connect()
        played.frames_until(1_000)
        wish = played.call.budget
        said = len(played.said)
        played.call.update(wish)
        assert len(played.said) == said, "nothing new"
        played.call.update(Budget(**_fields(wish) | {"paid_ms": 2 * MINUTE, "spent_reason": "PAYMENT_FAILED"}))
        assert played.acknowledged[-1] == 2 * MINUTE
        played.call.update(wish)
        played.frames_until(10 * MINUTE)

    play(scene)
    assert played.reasons == ["PAYMENT_FAILED"]
    assert played.said[-1].delivered_ms == 2 * MINUTE


def test_a_reborn_call_knows_that_no_more_could_be_held(clock: Clock) -> None:
    assert ended_with(clock, spent_reason="PAYMENT_FAILED").reasons == ["PAYMENT_FAILED"]


def test_after_a_stall_everything_that_queued_up_is_read_before_a_frame_counts(clock: Clock) -> None:
    played = Played(clock)
    parts = 5

    def read_a_part() -> bool:
        nonlocal parts
        parts -= 1
        # Even a key frame: it had been waiting.
        played.call.meter.video_frame(clock.ms, key=True)
        assert not played.call.meter.may_forward(clock.ms)
        return parts == 0

    played.call._read_what_waits = read_a_part

    async def scene() -> None:
        played.connect()
        played.frames_until(10_000)
        before = played.call.meter.figures
        # Given a stall of ten seconds, and a queue that is read in parts, slowly
        clock.ms += 10_000
        played.call.look()
        assert (parts, played.call.meter.state) == (4, "paused")
        for left in (3, 2, 1):
            clock.ms += 200
            await asyncio.sleep(0)
            assert (parts, played.call.meter.behind) == (left, True)
        await asyncio.sleep(0)
        # Then it goes on only when it was read to its end
        assert (parts, played.call.meter.behind, played.call.meter.state) == (0, False, "paused")
        assert played.call.meter.figures.delivered_ms == before.delivered_ms
        assert played.call.meter.figures.creator_pause_ms == 0
        played.frames_until(clock.ms + 1_000)
        assert played.call.meter.state == "running"

    asyncio.run(scene())


def test_a_frame_that_finds_us_late_has_the_queue_read_without_waiting_for_the_next_tick(clock: Clock) -> None:
    played = Played(clock)
    read: list[int] = []

    def read_all() -> bool:
        read.append(clock.ms)
        return True

    played.call._read_what_waits = read_all
    track = PublishedTrack(track_id="trk_1", user_id="usr_creator", kind="video", codec="VP8", clock_rate=90_000)

    async def scene() -> None:
        played.connect()
        played.call.attach(track, Watch("video", clock.ms))
        played.frames_until(10_000)
        clock.ms += 10_000
        assert track.on_frame is not None
        track.on_frame(clock.ms, True, 1_000)
        assert read == [], "not in the middle of a packet"
        await asyncio.sleep(0)
        assert read == [20_000]

    asyncio.run(scene())


def _fields(budget: Budget) -> dict[str, Any]:
    return {name: getattr(budget, name) for name in budget.__struct_fields__}
