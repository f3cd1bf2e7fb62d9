"""A worker's recordings over a real database: stopped by the row alone, lost files found, none kept too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filmed import DAYS, both_agree, row, withdraw
from stage import Call, Stage

from models.clock import utc_now
from models.db import Database
from models.services import recording_ends, recording_work
from workers.transcode import recording
from workers.transcode.jobs import WHOLE
from workers.transcode.recording import MARKER, Recording

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def stage(db: Database) -> Stage:
    made = Stage(db)
    made.now = utc_now()
    made.node_ready()
    made.heartbeat()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def supervisor(db: Database, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Its children's node is not there: they wait."""
    monkeypatch.setattr(recording, "LOST_SECONDS", 0.0)
    made = Recording(
        db,
        worker_id="worker_1",
        root=root,
        capacity=1,
        preset="ultrafast",
        free_bytes=0,
        egress_key=b"k" * 32,
    )
    yield made
    made.end()


def complete(stage: Stage, call: Call, root: Path) -> Path:
    """As if worker_1 had recorded it; its file."""
    lease = stage.run(lambda tx: recording_work.take_lease(tx, row(stage, call).id, "worker_1", stage.now))
    assert lease is not None
    withdraw(stage, call, call.fan)
    film = root / lease.work_id / WHOLE
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    stage.run(
        lambda tx: recording_work.finished(
            tx, lease.work_id, lease.epoch, stage.now, duration_ms=1_000, size=4, reason="ENDED"
        )
    )
    return film


def test_a_withdrawal_stops_the_recorder_though_no_node_said_so(
    stage: Stage, supervisor: Recording, root: Path, eventually: Eventually
) -> None:
    call = both_agree(stage)
    eventually(lambda: bool(supervisor.step()) and row(stage, call).worker_id == "worker_1")
    assert (root / row(stage, call).id).stat().st_mode & 0o777 == 0o700
    assert row(stage, call).status == "wanted", "nothing is on disk"
    withdraw(stage, call, call.creator)
    # then its recorder ends, and nothing came of it
    eventually(lambda: bool(supervisor.step()) and row(stage, call).status == "gone")
    eventually(lambda: bool(supervisor.step()) and not (root / row(stage, call).id).exists())


def test_a_file_that_is_not_there_any_more_is_found_out(
    stage: Stage, supervisor: Recording, root: Path, eventually: Eventually
) -> None:
    supervisor.step()
    assert (root / MARKER).exists()
    film = complete(stage, both_agree(stage), root)
    call_id = film.parent.name
    supervisor._look_after()
    with stage.database.reading() as tx:
        assert recording_work.kept_by(tx, "worker_1") == [call_id]
    # when the disk is away, that is no loss
    away = root.rename(root.with_name("away"))
    root.mkdir()
    supervisor._look_after()
    with stage.database.reading() as tx:
        assert recording_work.kept_by(tx, "worker_1") == [call_id]
    root.rmdir()
    away.rename(root)
    film.unlink()
    supervisor._look_after()
    with stage.database.reading() as tx:
        assert recording_work.kept_by(tx, "worker_1") == []


def test_what_expired_is_removed(stage: Stage, supervisor: Recording, root: Path, eventually: Eventually) -> None:
    film = complete(stage, both_agree(stage), root)
    supervisor.step()
    supervisor._sweep()
    assert film.exists()
    stage.later(days=DAYS)
    stage.run(lambda tx: recording_ends.expire_due(tx, stage.now))
    supervisor._sweep()
    assert not film.parent.exists()
