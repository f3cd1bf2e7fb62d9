"""Where the pipe leads while a node is dying: the room is looked up anew, as long as there is hope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from live_web import FakeNode

from models.errors import NotFound, Unavailable
from models.services import rooms
from ops.ports import free_port
from web import signaling
from web.context import Greenroom

Look = Callable[[], str]


class House:
    """As much of one as the pipe asks for."""

    @property
    def database(self) -> House:
        return self

    @contextmanager
    def reading(self) -> Iterator[None]:
        yield None


def reach(monkeypatch: pytest.MonkeyPatch, *places: str | Exception, patient: float = 120.0) -> Any:
    """A connection to the room; each time that it is looked up, it is at the next place, and stays at the last."""
    looked = iter(places)
    last = places[-1]

    def where(tx: None, room_id: str) -> str:
        place = next(looked, last)
        if isinstance(place, Exception):
            raise place
        return place

    monkeypatch.setattr(rooms, "signaling_url", where)
    monkeypatch.setattr(signaling, "OPENING_SECONDS", patient)
    return signaling._reach(cast(Greenroom, House()), "private-ses_1")


def nobody() -> str:
    """An address where nobody listens."""
    return f"ws://127.0.0.1:{free_port()}/signaling"


@pytest.fixture
def node() -> Iterator[FakeNode]:
    opened = FakeNode()
    yield opened
    opened.close()


def test_who_joins_while_a_node_dies_is_led_to_where_the_room_is_then(
    monkeypatch: pytest.MonkeyPatch, node: FakeNode
) -> None:
    opening = Unavailable("The room is not open yet.", code="ROOM_OPENING")
    with reach(monkeypatch, nobody(), nobody(), opening, node.url) as connection:
        connection.send("hello")
        assert node.hear() == "hello"


def test_a_node_that_stays_away_is_unavailable_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(signaling.Refused) as refusal:
        reach(monkeypatch, nobody(), patient=0.3)
    assert (refusal.value.code, refusal.value.close) == ("UNAVAILABLE", 1013)


def test_a_room_that_is_closed_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(signaling.Refused) as refusal:
        reach(monkeypatch, nobody(), NotFound("There is no such room.", code="ROOM_NOT_FOUND"))
    assert refusal.value.code == "ROOM_NOT_FOUND"
