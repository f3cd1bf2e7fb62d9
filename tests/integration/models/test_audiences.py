"""Audiences: what web processes say is added up while it is fresh and the broadcast goes on: both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from stage import Stage

from models.broadcasts import AudienceRow
from models.db import Database
from models.messages import events
from models.services import audiences, broadcasts, streams
from models.services.accounts import Person
from models.services.streams import StreamView

_SECOND = timedelta(seconds=1)


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    return stage


@pytest.fixture
def on_air(stage: Stage) -> tuple[Person, StreamView]:
    """A creator who is live, and whose broadcast is wanted."""
    creator, stream = stage.live()
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=creator.user_id, viewers=0)
    return creator, stream


def broadcast_of(stage: Stage, stream: StreamView) -> str:
    with stage.database.reading() as tx:
        return tx.scalars(broadcasts.open_of(stream.room_id)).one().id


def report(stage: Stage, process: str, **viewers: int) -> None:
    stage.run(lambda tx: audiences.report(tx, process, viewers, stage.now))


def watching(stage: Stage, creator: Person) -> tuple[int, int]:
    """All viewers, and the spectators among them."""
    found = stage.run(lambda tx: streams.stream_of(tx, creator.user_id, stage.now))
    assert found is not None
    return found.viewers, found.spectators


def test_the_processes_and_the_seats_are_added_up(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    creator, stream = on_air
    broadcast = broadcast_of(stage, stream)
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=stage.fan().user_id, viewers=2)
    report(stage, "boot_a", **{broadcast: 30})
    report(stage, "boot_b", **{broadcast: 12})
    assert watching(stage, creator) == (44, 42)
    # a process says it anew
    report(stage, "boot_a", **{broadcast: 31})
    assert watching(stage, creator) == (45, 43)
    assert stage.run(lambda tx: streams.creators(tx, stage.now))[0].stream == stage.run(
        lambda tx: streams.list_streams(tx, stage.now)
    )[0]
    # one hears of nobody any more
    report(stage, "boot_b", **{broadcast: 0})
    assert watching(stage, creator) == (33, 31)


def test_what_a_dead_process_said_ages_out_and_is_cleared_away(
    stage: Stage, on_air: tuple[Person, StreamView]
) -> None:
    creator, stream = on_air
    broadcast = broadcast_of(stage, stream)
    report(stage, "boot_dead", **{broadcast: 30})
    stage.now += audiences.FRESH_SECONDS * _SECOND
    assert watching(stage, creator) == (0, 0)
    stage.now += 60 * _SECOND
    report(stage, "boot_b", **{broadcast: 1})
    assert watching(stage, creator) == (1, 1)
    with stage.database.reading() as tx:
        assert tx.scalars(select(AudienceRow.boot_id)).all() == ["boot_b"]


def test_another_streams_viewers_are_not_this_ones(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    creator, stream = on_air
    other, others = stage.live()
    stage.event(events.ParticipantJoined, room_id=others.room_id, user_id=other.user_id, viewers=0)
    report(stage, "boot_a", **{broadcast_of(stage, stream): 3, broadcast_of(stage, others): 5})
    assert (watching(stage, creator), watching(stage, other)) == ((3, 3), (5, 5))


def test_nobody_watches_a_broadcast_that_has_ended(stage: Stage, on_air: tuple[Person, StreamView]) -> None:
    creator, stream = on_air
    broadcast = broadcast_of(stage, stream)
    report(stage, "boot_a", **{broadcast: 30})
    stage.run(lambda tx: broadcasts.end(tx, stream.room_id, "STREAM_PRIVATE", stage.now))
    assert watching(stage, creator) == (0, 0)
    # nor the next one of the same room, until somebody is heard of there
    stage.run(lambda tx: broadcasts.want(tx, stream.room_id, stage.now))
    report(stage, "boot_a", **{broadcast: 30})
    assert watching(stage, creator) == (0, 0)
