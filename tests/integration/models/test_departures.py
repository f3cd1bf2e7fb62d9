"""Whether a node that a room was moved away from may still be forwarding in it: on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from stage import Stage

from models.db import Database
from models.messages import events
from models.services import departures
from models.streams import RoomDepartureRow

ROOM, OTHER = "live-one", "live-two"


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    moved(stage)
    return stage


def moved(stage: Stage, room_id: str = ROOM, old: str = "media-1", new: str = "media-2") -> None:
    stage.run(lambda tx: departures.moved(tx, room_id, old, new, stage.now))


def lingers(stage: Stage, room_id: str = ROOM) -> bool:
    with stage.database.reading() as tx:
        return departures.may_linger(tx, room_id, stage.now)


def says(stage: Stage, *rooms: str, boot: str = "boot_1", node_id: str = "media-1") -> None:
    stage.event(
        events.NodeReport, boot=boot, node_id=node_id, rooms=rooms, participants=0, at=stage.now.isoformat()
    )


def test_until_the_old_node_reports_without_the_room(stage: Stage) -> None:
    assert lingers(stage)
    assert not lingers(stage, OTHER)
    # what it said before it was told does not count
    says(stage)
    stage.later(seconds=1)
    says(stage, OTHER, ROOM)
    says(stage, boot="boot_0")
    assert lingers(stage)
    says(stage, OTHER)
    assert not lingers(stage)


def test_a_new_life_of_it_has_nothing(stage: Stage) -> None:
    stage.later(seconds=1)
    stage.event(
        events.NodeReady, boot="boot_2", rooms=(), signaling_url="ws://h/signaling", at=stage.now.isoformat()
    )
    assert not lingers(stage)


def test_a_node_that_is_not_heard_of_any_more_has_lost_its_clients(stage: Stage) -> None:
    stage.later(seconds=29)
    assert lingers(stage)
    stage.later(seconds=1)
    assert not lingers(stage)
    # and nothing is kept of it
    moved(stage, OTHER)
    with stage.database.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(RoomDepartureRow)) == 1


def test_a_room_that_moves_on_has_left_both(stage: Stage) -> None:
    stage.event(events.NodeReady, node_id="media-2", boot="boot_m2", rooms=(), signaling_url="ws://h/signaling")
    stage.later(seconds=1)
    moved(stage, old="media-2", new="media-3")
    stage.later(seconds=1)
    says(stage, boot="boot_m2", node_id="media-2")
    assert lingers(stage)
    says(stage)
    assert not lingers(stage)


def test_the_node_that_has_it_again_speaks_for_itself(stage: Stage) -> None:
    moved(stage, old="media-2", new="media-1")
    stage.event(events.NodeReady, node_id="media-2", boot="boot_m2", rooms=(), signaling_url="ws://h/signaling")
    stage.later(seconds=1)
    says(stage, boot="boot_m2", node_id="media-2")
    assert not lingers(stage)
