"""A creator who sends black or silence is flagged by what the node reports; the bill stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from stage import Call, Stage

from models.db import Database
from models.flags import FlagRow
from models.services import complaints, floor


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    return made


def flagged(stage: Stage) -> list[tuple[str, str]]:
    with stage.database.reading() as tx:
        return sorted((flag.kind, flag.session_id) for flag in tx.scalars(select(FlagRow)))


def end(stage: Stage, call: Call, delivered_ms: int, **changed: Any) -> None:
    stage.call_ended(call.session_id, "time_expired", delivered_ms, **changed)


@pytest.mark.parametrize(
    ("black_ms", "silent_ms", "kinds"),
    [
        (0, 0, []),
        (29_999, 0, []),
        (30_000, 0, ["black_picture"]),
        # Silence is flagged when it is nearly all that there was to hear.
        (0, 479_999, []),
        (0, 480_000, ["silent_sound"]),
        (600_000, 595_000, ["black_picture", "silent_sound"]),
    ],
)
def test_what_was_delivered_black_or_silent_for_long_is_flagged_and_billed_the_same(
    stage: Stage, black_ms: int, silent_ms: int, kinds: list[str]
) -> None:
    call = stage.running()
    end(stage, call, 600_000, black_ms=black_ms, silent_ms=silent_ms)
    assert flagged(stage) == [(kind, call.session_id) for kind in kinds]
    row = stage.session(call.session_id)
    assert (row.black_ms, row.silent_ms) == (black_ms, silent_ms)
    assert (row.billed_minutes, row.refunded, row.end_reason) == (10, 0, "TIME_EXPIRED")


def test_the_flag_is_there_while_the_session_runs_and_once(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 30_000, black_ms=20_000, silent_ms=25_000)
    assert flagged(stage) == []
    stage.delivered(call.session_id, 3, 60_000, black_ms=50_000, silent_ms=55_000)
    wanted = [("black_picture", call.session_id), ("silent_sound", call.session_id)]
    assert flagged(stage) == wanted
    # A report that comes late or again says nothing new
    stage.delivered(call.session_id, 2, 30_000, black_ms=20_000)
    end(stage, call, 600_000, black_ms=300_000, silent_ms=60_000)
    assert flagged(stage) == wanted
    with stage.database.reading() as tx:
        shown = {flag.kind: flag for flag in floor.flags(tx)}
    black = shown["black_picture"]
    assert (black.delivered_ms, black.black_ms, black.silent_ms) == (600_000, 300_000, 60_000)


def test_figures_of_a_node_that_began_anew_do_not_fall(stage: Stage) -> None:
    call = stage.running()
    stage.delivered(call.session_id, 2, 60_000, black_ms=20_000, silent_ms=7_000)
    stage.delivered(call.session_id, 3, 90_000, black_ms=1_000, silent_ms=9_000)
    row = stage.session(call.session_id)
    assert (row.black_ms, row.silent_ms) == (20_000, 9_000)


def test_who_decides_a_complaint_finds_the_figures_beside_it(stage: Stage) -> None:
    call = stage.running()
    end(stage, call, 600_000, black_ms=312_000, silent_ms=5_000)
    stage.run(
        lambda tx: complaints.complain(
            tx, call.session_id, by_id=call.fan.user_id, reason="Nothing to be seen", now=stage.now
        )
    )
    with stage.database.reading() as tx:
        [found] = complaints.open_ones(tx)
    assert (found.delivered_ms, found.black_ms, found.silent_ms) == (600_000, 312_000, 5_000)
