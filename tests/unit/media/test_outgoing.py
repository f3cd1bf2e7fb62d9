"""What waits for the broker: in order, until confirmed, within bounds, and no end of a call is ever given up."""

from __future__ import annotations

from typing import Any

import pytest

from media import outgoing
from media.outgoing import Outgoing
from media.reports import Reporter
from models.messages import events
from models.messages.events import AnyEvent

METER: dict[str, Any] = {"room_id": "r", "paid_ms": 9, "creator_pause_ms": 0, "node_pause_ms": 0}
reporter = Reporter("media-1", "boot_1", lambda _: None)


def delivered(session: str, ms: int) -> AnyEvent:
    return reporter.say(
        events.MediaDelivered, session, session_id=session, sequence=ms, state="running", cause=None,
        delivered_ms=ms, **METER,
    )  # fmt: skip


def ended(session: str) -> AnyEvent:
    return reporter.say(
        events.CallEnded, session, session_id=session, sequence=99, fact="time_expired", delivered_ms=9,
        pause_cause=None, paused_for_ms=0, creator_connected=True, fan_connected=True, **METER,
    )  # fmt: skip


def joined(number: int) -> AnyEvent:
    return reporter.say(events.ParticipantJoined, "r", room_id="r", user_id=f"usr_{number}", viewers=1)


def take_all(buffer: Outgoing) -> list[AnyEvent]:
    taken = []
    while (event := buffer.next()) is not None:
        taken.append(event)
        buffer.sent(len(taken), event)
    return taken


def test_events_leave_in_order_and_stay_until_confirmed() -> None:
    buffer = Outgoing()
    said = [joined(1), delivered("a", 1), ended("b")]
    for event in said:
        buffer.add(event)
    assert take_all(buffer) == said
    buffer.settled(2, multiple=True, confirmed=True)
    buffer.disconnected()
    assert take_all(buffer) == said[2:]
    buffer.settled(1, multiple=False, confirmed=False)
    assert take_all(buffer) == said[2:]
    buffer.settled(1, multiple=False, confirmed=True)
    assert len(buffer) == 0


def test_only_the_newest_figure_of_a_session_waits_and_none_beside_its_end() -> None:
    buffer = Outgoing()
    for event in (delivered("a", 1), delivered("b", 1), delivered("a", 2)):
        buffer.add(event)
    assert [(e.cause_id, e.sequence) for e in take_all(buffer)] == [("b", 1), ("a", 2)]  # type: ignore[union-attr]
    buffer.disconnected()
    buffer.add(ended("a"))
    assert [type(e).__name__ for e in take_all(buffer)] == ["MediaDelivered", "CallEnded"]


def test_a_figure_under_way_is_not_taken_back() -> None:
    buffer = Outgoing()
    first = delivered("a", 1)
    buffer.add(first)
    take_all(buffer)
    buffer.add(delivered("a", 2))
    assert len(buffer) == 2
    buffer.settled(1, multiple=False, confirmed=True)
    assert [e.sequence for e in take_all(buffer)] == [2]  # type: ignore[union-attr]


def test_too_much_gives_up_news_of_people_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MOST_KEPT", 10)
    buffer = Outgoing()
    for number in range(8):
        buffer.add(ended(f"s{number}"))
    for number in range(20):
        buffer.add(joined(number))
    for number in range(8, 12):
        buffer.add(ended(f"s{number}"))
    kept = take_all(buffer)
    assert sum(isinstance(event, events.CallEnded) for event in kept) == 12
    assert len(kept) <= 12


def test_one_node_ready_is_enough() -> None:
    buffer = Outgoing()
    for _ in range(3):
        buffer.add(reporter.say(events.NodeReady, "n", signaling_url="ws://x", rooms=()))
    assert len(buffer) == 1


def test_what_is_unconfirmed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MOST_UNCONFIRMED", 3)
    buffer = Outgoing()
    for number in range(5):
        buffer.add(joined(number))
    assert len(take_all(buffer)) == 3
