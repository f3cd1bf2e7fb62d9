"""A worker's recordings over a real database: stopped by the row alone, lost files found, none kept too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filmed import DAYS, both_agree, row, withdraw
from stage import Call, Stage

from models import egress_tickets
from models.clock import utc_now
from models.db import Database
from models.services import recording_ends, recording_work
from models.services.leases import Lease
from workers.transcode import recording
from workers.transcode.jobs import WHOLE, Said
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


def complete(stage: Stage, supervisor: Recording, call: Call, root: Path) -> Path:
    """As if worker_1 had recorded it; its file."""
    lease = stage.run(lambda tx: recording_work.take_lease(tx, row(stage, call).id, "worker_1", stage.now))
    assert lease is not None
    withdraw(stage, call, call.fan)
    film = root / lease.work_id / WHOLE
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    supervisor._finish(lease, Said(type="ended", reason="ENDED", duration_ms=1_000, size=4))
    return film


def kept(stage: Stage) -> list[str]:
    with stage.database.reading() as tx:
        return list(recording_work.kept_by(tx, "worker_1"))


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


def test_a_recorder_is_given_the_key_of_its_room_alone(supervisor: Recording, root: Path) -> None:
    root.mkdir(parents=True)
    lease = Lease(work_id="rec_a", room_id="private-ses_a", epoch=1, signaling_url="ws://127.0.0.1:9/signaling")
    (root / "rec_a").mkdir()
    job = supervisor._job(lease, root / "rec_a")
    assert job.egress_key == egress_tickets.room_key(b"k" * 32, "private-ses_a")


def test_a_file_that_is_not_there_any_more_is_found_out(stage: Stage, supervisor: Recording, root: Path) -> None:
    film = complete(stage, supervisor, both_agree(stage), root)
    supervisor._look_after()
    assert kept(stage) == [film.parent.name]
    # when the disk is away, that is no loss
    away = root.rename(root.with_name("away"))
    root.mkdir()
    supervisor._look_after()
    assert kept(stage) == [film.parent.name]
    root.rmdir()
    away.rename(root)
    film.unlink()
    supervisor._look_after()
    assert kept(stage) == []


def test_the_log_names_the_disk_that_is_missing(
    stage: Stage, supervisor: Recording, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    complete(stage, supervisor, both_agree(stage), root)
    named = (root / MARKER).read_text()
    root.rename(root.with_name("away"))
    root.mkdir()
    supervisor._look_after()
    [line] = [said for said in caplog.messages if said.startswith("recordings_not_there")]
    assert line == f"recordings_not_there disk_id={named} kept=1 away=1"


def test_a_disk_that_was_not_mounted_at_the_first_start_is_not_taken_for_the_right_one(
    stage: Stage, supervisor: Recording, root: Path
) -> None:
    # given a worker that began where no disk was mounted: nothing there says that this is the place
    supervisor.step()
    supervisor._look_after()
    assert not (root / MARKER).exists()
    # and even recorded there, before somebody noticed and mounted the disk
    early = complete(stage, supervisor, both_agree(stage), root)
    bare = root.rename(root.with_name("bare"))
    late = complete(stage, supervisor, both_agree(stage), root)
    assert (root / MARKER).read_text() != (bare / MARKER).read_text()
    # then neither is lost on the other's disk
    supervisor._look_after()
    assert kept(stage) == sorted([early.parent.name, late.parent.name])
    disk = root.rename(root.with_name("disk"))
    bare.rename(root)
    supervisor._look_after()
    assert kept(stage) == sorted([early.parent.name, late.parent.name])
    # and what is gone from its own is
    early.unlink()
    supervisor._look_after()
    assert kept(stage) == [late.parent.name]
    assert disk.exists()


@pytest.mark.parametrize("written", [b"", b"\xff\xfe", b"disk", b"../" * 11, None], ids=repr)
def test_a_damaged_marker_names_no_disk_and_stops_nothing(
    stage: Stage, supervisor: Recording, root: Path, written: bytes | None
) -> None:
    film = complete(stage, supervisor, both_agree(stage), root)
    named = (root / MARKER).read_text()
    (root / MARKER).unlink()
    if written is None:
        (root / MARKER).mkdir()
    else:
        (root / MARKER).write_bytes(written)
    film.unlink()
    # then nothing is taken for lost by it
    assert supervisor._disk_id() is None
    supervisor._look_after()
    assert kept(stage) == [film.parent.name]
    # but is, once it is whole again
    (root / MARKER).rename(root / "damaged")
    (root / MARKER).write_text(f"{named}\n")
    supervisor._look_after()
    assert kept(stage) == []


def test_what_expired_is_removed(stage: Stage, supervisor: Recording, root: Path, eventually: Eventually) -> None:
    film = complete(stage, supervisor, both_agree(stage), root)
    supervisor.step()
    supervisor._sweep()
    assert film.exists()
    stage.later(days=DAYS + 1)
    stage.run(lambda tx: recording_ends.expire_due(tx, stage.now))
    supervisor._sweep()
    assert not film.parent.exists()
