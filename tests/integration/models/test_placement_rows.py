"""Rooms are placed by what the rows say of the nodes: on both databases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select
from stage import Stage

from models.config import MEDIA_CAPACITY
from models.db import Database
from models.errors import Unavailable
from models.messages import codec, events
from models.services import failover, nodes, placement, streams
from models.streams import MediaNodeRow, RoomRow


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    for name in ("media-1", "media-2"):
        ready(stage, name)
    return stage


def ready(stage: Stage, name: str, boot: str | None = None, **more: Any) -> None:
    url = f"ws://127.0.0.1/{name}"
    stage.event(events.NodeReady, node_id=name, boot=boot or f"boot_{name}", signaling_url=url, rooms=(), **more)


def reports(stage: Stage, name: str, participants: int) -> None:
    stage.event(events.NodeReport, node_id=name, boot=f"boot_{name}", rooms=(), participants=participants)


def go_live(stage: Stage) -> str:
    """Where a new stream's room is."""
    creator = stage.creator()
    stream = stage.run(lambda tx: streams.go_live(tx, creator, title="", now=stage.now))
    return node_of(stage, stream.room_id)


def node_of(stage: Stage, room_id: str) -> str:
    with stage.database.reading() as tx:
        return tx.scalar(select(RoomRow.node_id).where(RoomRow.id == room_id)) or ""


def refused(stage: Stage) -> str:
    with pytest.raises(Unavailable) as refusal:
        go_live(stage)
    assert refusal.value.code == "NO_MEDIA_NODE"
    return refusal.value.detail


def test_several_rooms_at_once_do_not_all_land_on_one_node(stage: Stage) -> None:
    assert Counter(go_live(stage) for _ in range(6)) == {"media-1": 3, "media-2": 3}


def test_a_room_goes_where_the_most_room_is_left(stage: Stage) -> None:
    stage.later(seconds=1)
    reports(stage, "media-1", 150)
    assert [go_live(stage) for _ in range(3)] == ["media-2"] * 3
    # and a bigger node takes more
    ready(stage, "media-3", capacity=1_000)
    assert go_live(stage) == "media-3"


def test_who_watches_counts_before_the_node_reports_it(stage: Stage) -> None:
    room_on = go_live(stage)
    other = {"media-1": "media-2", "media-2": "media-1"}[room_on]
    with stage.database.reading() as tx:
        room_id = tx.scalars(select(RoomRow.id).where(RoomRow.node_id == room_on)).one()
    joined = {"node_id": room_on, "boot": f"boot_{room_on}", "user_id": "usr_fan", "viewers": 15}
    stage.event(events.ParticipantJoined, room_id=room_id, **joined)  # type: ignore[arg-type]
    assert [go_live(stage) for _ in range(3)] == [other] * 3


def test_what_a_report_says_is_not_counted_on_top_of_the_same_rooms(stage: Stage) -> None:
    go_live(stage)
    stage.later(seconds=1)
    reports(stage, "media-1", 2)
    with stage.database.reading() as tx:
        loads = {load.node_id: load.load for load in placement.counted(tx)}
    assert loads == {"media-1": 2, "media-2": 0}


def test_a_node_of_an_earlier_release_says_no_capacity_and_gets_the_usual_one(stage: Stage) -> None:
    old = b'{"type":"NodeReady","message_id":"m","cause_id":"c","node_id":"media-9","boot_id":"b",'
    event = codec.decode_event(old + b'"at":"2026-01-02T12:00:00Z","signaling_url":"ws://h/signaling","rooms":[]}')
    stage.say(event)
    with stage.database.reading() as tx:
        row = tx.get_one(MediaNodeRow, "media-9")
        assert (row.capacity, row.participants) == (MEDIA_CAPACITY, 0)


def test_a_draining_node_keeps_its_rooms_and_takes_no_new_one(stage: Stage) -> None:
    first = go_live(stage)
    stage.run(lambda tx: nodes.drain(tx, first, stage.now))
    assert first not in {go_live(stage) for _ in range(4)}
    # also in its next life, and nothing of what it had is moved
    ready(stage, first, boot="boot_next")
    assert first not in {go_live(stage) for _ in range(4)}
    with stage.database.reading() as tx:
        assert len(tx.scalars(select(RoomRow).where(RoomRow.node_id == first)).all()) == 1
    # until it is undone
    stage.run(lambda tx: nodes.undrain(tx, first))
    assert first in {go_live(stage) for _ in range(8)}


def test_a_house_that_is_full_says_so(stage: Stage) -> None:
    for name in ("media-1", "media-2"):
        ready(stage, name, capacity=3)
    assert {go_live(stage), go_live(stage)} == {"media-1", "media-2"}
    assert "full" in refused(stage)


def test_where_all_is_full_a_creator_may_still_go_private_as_the_public_room_closes(stage: Stage) -> None:
    # Given two creators on the air, one with people in the room, and no room for a third
    for name in ("media-1", "media-2"):
        ready(stage, name, capacity=2)
    (creator, stream), (other, others_stream) = stage.live(), stage.live()
    on = node_of(stage, stream.room_id)
    joined = {"node_id": on, "boot": f"boot_{on}", "user_id": "usr_fan", "viewers": 7}
    stage.event(events.ParticipantJoined, room_id=stream.room_id, **joined)  # type: ignore[arg-type]
    assert "full" in refused(stage)
    # When a request to the one is accepted, then the private room is where the public one was
    accepted = stage.accept(stage.ask(stage.fan(), stream, 10).request_id, creator)
    assert node_of(stage, accepted.room_id) == on
    # And that has made no room for anybody else, but for the other creator's own
    assert "full" in refused(stage)
    again = stage.accept(stage.ask(stage.fan(), others_stream, 10).request_id, other)
    assert node_of(stage, again.room_id) != on


def test_without_any_node_it_is_another_sentence(stage: Stage) -> None:
    for name in ("media-1", "media-2"):
        stage.run(lambda tx, name=name: tx.delete(tx.get_one(MediaNodeRow, name)))  # type: ignore[misc]
    assert "ready" in refused(stage)


def test_a_lost_node_is_given_nothing_while_another_lives_and_is_waited_for_when_none_does(stage: Stage) -> None:
    stage.run(lambda tx: failover.node_lost(tx, "media-1", "boot_media-1", stage.now))
    assert [go_live(stage) for _ in range(3)] == ["media-2"] * 3
    # given that the other is lost, too: whoever was lost just now may only be restarting
    stage.later(seconds=20)
    stage.run(lambda tx: failover.node_lost(tx, "media-2", "boot_media-2", stage.now))
    assert go_live(stage) in ("media-1", "media-2")
    stage.later(seconds=31)
    assert "ready" in refused(stage)
    # and who is back is there
    ready(stage, "media-1", boot="boot_anew")
    assert go_live(stage) == "media-1"


def test_a_node_that_nobody_hears_of_is_given_nothing_while_another_is_heard_of(stage: Stage) -> None:
    """It answers the clock, or somebody else does under its address; it would never open a room."""
    stage.later(seconds=20)
    ready(stage, "media-3", capacity=3)
    assert go_live(stage) == "media-3"
    # not either when the other is full
    assert "full" in refused(stage)


def test_nodes_that_are_all_silent_are_tried(stage: Stage) -> None:
    """Whoever carries what they say may be late for all of them."""
    stage.later(hours=1)
    assert {go_live(stage) for _ in range(4)} == {"media-1", "media-2"}
