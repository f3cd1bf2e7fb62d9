"""Moves by compare-and-set: what is in hand of a row follows its move, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session
from stage import Stage

from models.db import Database
from models.errors import Conflict
from models.machine import move
from models.services.locks import one_by_one
from models.streams import StreamRow


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


def test_a_row_in_hand_follows_its_move(stage: Stage) -> None:
    """What was pending of the row is written before, what it was moved to is not written again."""
    stream_id = stage.live()[1].stream_id
    later = stage.now + timedelta(seconds=7)

    def go(tx: Session) -> StreamRow:
        row = tx.get_one(StreamRow, stream_id)
        row.title = "Another"
        move(tx, StreamRow, stream_id, "live", "ended", ended_at=later, creator_gone_at=None)
        assert (row.status, row.ended_at, row.creator_gone_at, row.title) == ("ended", later, None, "Another")
        assert row not in tx.dirty
        return row

    stage.run(go)
    found = stage.run(lambda tx: tx.get_one(StreamRow, stream_id, populate_existing=True))
    assert (found.status, found.ended_at, found.title) == ("ended", later, "Another")


def test_who_comes_second_moves_nothing(stage: Stage) -> None:
    """The row in hand stays what it is."""
    stream_id = stage.live()[1].stream_id

    def go(tx: Session) -> None:
        row = tx.get_one(StreamRow, stream_id)
        with pytest.raises(Conflict):
            move(tx, StreamRow, stream_id, "private", "ended", ended_at=stage.now)
        assert (row.status, row.ended_at) == ("live", None)

    stage.run(go)


def test_a_row_in_hand_follows_the_rollback_of_its_move(stage: Stage) -> None:
    """Whoever comes after it in the same transaction sees what is in the database."""
    streams = [stage.live()[1].stream_id for _ in range(2)]

    def go(tx: Session) -> None:
        rows = [tx.get_one(StreamRow, stream_id) for stream_id in streams]
        rows[0].title = "Another"

        def end(row: StreamRow) -> None:
            move(tx, StreamRow, row.id, "live", "ended", ended_at=stage.now, creator_gone_at=None)
            if row is rows[0]:
                raise ValueError("a defect")

        assert one_by_one(tx, rows, end) == 1
        assert [(row.status, row.ended_at) for row in rows] == [("live", None), ("ended", stage.now)]
        assert rows[0].title == "Another", "what was done before it stays"
        move(tx, StreamRow, rows[0].id, rows[0].status, "private", creator_gone_at=None)

    stage.run(go)
    found = [stage.run(lambda tx, it=each: tx.get_one(StreamRow, it).status) for each in streams]  # type: ignore[misc]
    assert found == ["private", "ended"]


def test_a_move_that_the_map_does_not_have_is_a_mistake(stage: Stage) -> None:
    stream_id = stage.live()[1].stream_id
    with pytest.raises(ValueError, match="ended -> live"):
        stage.run(lambda tx: move(tx, StreamRow, stream_id, "ended", "live"))
