"""A node that missed a command and goes on is told again, at its next report: on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from stage import Stage

from models.db import Database
from models.messages import events
from models.messages.commands import SyncRooms
from models.services import termination
from models.streams import MediaNodeRow


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    return stage


def repairs(stage: Stage) -> list[Any]:
    """What the node was told besides its first greeting."""
    return stage.commands(SyncRooms)[1:]


def report(stage: Stage, *rooms: str, boot: str | None = None) -> events.AnyEvent:
    return stage.event(events.NodeReport, boot=boot, rooms=rooms)


def test_where_nothing_differs_nothing_is_said_and_the_node_is_alive(stage: Stage) -> None:
    _, stream = stage.live()
    stage.later(seconds=60)
    report(stage, stream.room_id)
    assert repairs(stage) == []
    with stage.database.reading() as tx:
        assert tx.get_one(MediaNodeRow, "media-1").seen_at == stage.now


def test_a_node_that_missed_a_close_is_told_to_close(stage: Stage) -> None:
    # given a room that the node still has, though nobody wants it
    _, stream = stage.live()
    stage.later(seconds=60)
    report(stage, stream.room_id, "live-ghost")
    # then that one is closed, and no other
    [repair] = repairs(stage)
    assert (repair.close, repair.open, repair.boot_id) == (("live-ghost",), (), stage.boot)


def test_a_node_that_missed_an_open_is_told_to_open_once_it_had_the_time(stage: Stage) -> None:
    # given a stream whose room the node lacks
    _, stream = stage.live()
    stage.later(seconds=5)
    report(stage)
    assert repairs(stage) == [], "the command may still be on its way"
    stage.later(seconds=10)
    report(stage)
    [repair] = repairs(stage)
    assert [spec.room_id for spec in repair.open] == [stream.room_id]


def test_a_private_room_that_is_missing_comes_with_its_budget(stage: Stage) -> None:
    session_id = stage.connecting().session_id
    session = stage.session(session_id)
    stage.later(seconds=15)
    report(stage)
    [repair] = repairs(stage)
    [spec] = [spec for spec in repair.open if spec.room_id == session.room_id]
    assert spec.budget is not None
    assert spec.budget.paid_ms == session.paid_ms
    # and once the node holds it, nothing more is said
    stage.opened(session_id)
    stage.later(seconds=1)
    report(stage, session.room_id)
    assert len(repairs(stage)) == 1


def test_a_cut_that_was_missed_is_said_again(stage: Stage) -> None:
    _, stream = stage.live()
    viewer, caller = stage.fan(), stage.admin()
    stage.later(seconds=60)
    stage.run(
        lambda tx: termination.terminate(
            tx, room_id=stream.room_id, user_id=viewer.user_id, reason="MODERATION", label_by=caller, now=stage.now
        )
    )
    stage.later(seconds=15)
    report(stage, stream.room_id)
    [repair] = repairs(stage)
    assert [spec.barred for spec in repair.open] == [(viewer.user_id,)]
    # and not for ever
    stage.later(seconds=120)
    report(stage, stream.room_id)
    assert len(repairs(stage)) == 1


def test_a_former_life_is_not_listened_to(stage: Stage) -> None:
    stage.live()
    stage.later(seconds=60)
    report(stage, "live-ghost", boot="boot_0")
    assert repairs(stage) == []
