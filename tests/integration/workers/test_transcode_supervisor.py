"""A transcode worker's supervisor over a real database and real children: what it takes, loses and cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from stage import Stage

from models import egress_tickets, spectator_addresses
from models.broadcasts import BroadcastRow
from models.clock import utc_now
from models.db import Database
from models.errors import Unavailable
from models.messages import events
from models.services import broadcasts, leases, spectating, streams
from models.services.accounts import Person
from models.services.leases import Lease
from models.services.streams import StreamView
from workers.transcode.broadcasting import Broadcasting
from workers.transcode.jobs import Job
from workers.transcode.supervisor import CHILD_FILE, Mark, Supervisor

Eventually = Callable[[Callable[[], bool]], None]
MakeSupervisor = Callable[..., Supervisor]
KEY = b"k" * 32


@pytest.fixture
def stage(db: Database) -> Stage:
    made = Stage(db)
    made.node_ready()
    made.now = utc_now()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hls"


@pytest.fixture
def make(db: Database, root: Path) -> Iterator[MakeSupervisor]:
    """``make("worker_1", capacity=2)``; no child is left at the end. Their node is not there: they wait."""
    made: list[Supervisor] = []

    def supervisor(worker_id: str = "worker_1", capacity: int = 2) -> Supervisor:
        made.append(
            Broadcasting(
                db,
                worker_id=worker_id,
                root=root,
                capacity=capacity,
                preset="ultrafast",
                low_latency=False,
                spectators_key=KEY,
                egress_key=b"e" * 32,
            )
        )
        return made[-1]

    yield supervisor
    for each in made:
        each.end()


def on_air(stage: Stage) -> tuple[Person, StreamView, str]:
    """A creator in the seat: the creator, the stream and the broadcast's id."""
    creator, stream = stage.live()
    stage.event(events.ParticipantJoined, room_id=stream.room_id, user_id=creator.user_id, viewers=0)
    with stage.database.reading() as tx:
        row = tx.scalar(broadcasts.open_of(stream.room_id))
        assert row is not None
        return creator, stream, row.id


def row_of(stage: Stage, broadcast_id: str) -> BroadcastRow:
    with stage.database.reading() as tx:
        row = tx.scalars(select(BroadcastRow).where(BroadcastRow.id == broadcast_id)).one()
        tx.expunge_all()
        return row


def pid_of(root: Path, broadcast_id: str) -> int:
    mark = msgspec.json.decode((root / broadcast_id / CHILD_FILE).read_bytes(), type=Mark)
    return mark.pid


def runs(pid: int) -> bool:
    """Whether that process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_offered_is_begun_and_a_full_worker_refuses_the_next(
    stage: Stage, make: MakeSupervisor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lease that does not run out while the first child is started: how long that takes is not the subject.
    monkeypatch.setattr(leases, "LEASE_SECONDS", 3_600)
    _, _, first = on_air(stage)
    _, _, second = on_air(stage)
    supervisor = make(capacity=1)
    supervisor.offer(first)
    # then the next is refused: at once, before the first has begun, and after
    with pytest.raises(Unavailable) as refusal:
        supervisor.offer(second)
    assert refusal.value.code == "UNAVAILABLE"
    supervisor.step()
    assert runs(pid_of(root, first))
    assert (row_of(stage, first).worker_id, row_of(stage, first).epoch) == ("worker_1", 1)
    with pytest.raises(Unavailable):
        supervisor.offer(second)
    # and another worker, that heard of neither, takes the one that nobody has
    make("worker_2").step()
    assert row_of(stage, second).worker_id == "worker_2"
    assert row_of(stage, first).worker_id == "worker_1"


def test_a_child_is_given_the_key_of_its_room_alone(make: MakeSupervisor, root: Path) -> None:
    lease = Lease(work_id="brd_a", room_id="live-str_a", epoch=1, signaling_url="ws://127.0.0.1:9/signaling")
    job = make()._job(lease, root / "brd_a")
    assert isinstance(job, Job)
    assert job.egress_key == egress_tickets.room_key(b"e" * 32, "live-str_a")


def test_a_child_finds_no_secret_in_its_environment(
    stage: Stage, make: MakeSupervisor, root: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    secrets = ("SECRET_KEY", "DATABASE_URL", "AMQP_URL", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
               "S3_SECRET_ACCESS_KEY", "RECEIPT_KEY_FILE", "A_SETTING_TO_COME")  # fmt: skip
    for name in secrets:
        monkeypatch.setenv(name, "not-for-children")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    _, _, broadcast_id = on_air(stage)
    supervisor = make()
    supervisor.step()
    child = Path(f"/proc/{pid_of(root, broadcast_id)}")
    # once it is the interpreter: while the kernel exchanges programs there is nothing to read
    eventually(lambda: b"workers.transcode.child" in (child / "cmdline").read_bytes())
    eventually(lambda: b"LOG_LEVEL=WARNING" in (child / "environ").read_bytes())
    environment = (child / "environ").read_bytes()
    assert b"PATH=" in environment
    assert b"not-for-children" not in environment
    assert not [name for name in secrets if f"{name}=".encode() in environment]


def test_a_child_that_dies_is_followed_under_the_next_epoch(
    stage: Stage, make: MakeSupervisor, root: Path, eventually: Eventually
) -> None:
    _, _, broadcast_id = on_air(stage)
    supervisor = make()
    supervisor.step()
    was = pid_of(root, broadcast_id)
    os.kill(was, signal.SIGKILL)
    eventually(lambda: bool(supervisor.step()) and pid_of(root, broadcast_id) != was)
    assert runs(pid_of(root, broadcast_id))
    assert row_of(stage, broadcast_id).epoch == 2


def test_the_end_of_a_broadcast_ends_its_child_and_in_time_its_files(
    stage: Stage, make: MakeSupervisor, root: Path, eventually: Eventually
) -> None:
    creator, stream, broadcast_id = on_air(stage)
    _, _, other = on_air(stage)
    supervisor = make()
    supervisor.step()
    child = pid_of(root, broadcast_id)
    # given files that belong to no broadcast at all
    (root / "brd_of_nobody").mkdir()
    # when the stream ended long ago, though this worker hears of it only now
    long_ago = stage.now.replace(year=stage.now.year - 1)
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, long_ago))
    eventually(lambda: bool(supervisor.step()) and not runs(child))
    eventually(lambda: bool(supervisor.step()) and not (root / broadcast_id).exists())
    eventually(lambda: bool(supervisor.step()) and not (root / "brd_of_nobody").exists())
    # then the other goes on
    assert runs(pid_of(root, other))


def test_files_stay_for_a_while_after_the_end(
    stage: Stage, make: MakeSupervisor, root: Path, eventually: Eventually
) -> None:
    creator, stream, broadcast_id = on_air(stage)
    supervisor = make()
    supervisor.step()
    child = pid_of(root, broadcast_id)
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, utc_now()))
    eventually(lambda: bool(supervisor.step()) and not runs(child))
    supervisor._sweep()
    assert (root / broadcast_id).exists()


def test_who_lost_the_lease_stops_and_does_not_take_it_back(
    stage: Stage, make: MakeSupervisor, root: Path, eventually: Eventually
) -> None:
    _, _, broadcast_id = on_air(stage)
    first = make("worker_1")
    first.step()
    child = pid_of(root, broadcast_id)
    # given another worker that has it now, for so long that no slow machine lets it run out
    stage.run(lambda tx: broadcasts.forget_leases(tx, "worker_1", utc_now()))
    later = utc_now() + timedelta(hours=1)
    assert stage.run(lambda tx: broadcasts.take_lease(tx, broadcast_id, "worker_2", later)) is not None
    # then its child ends, and no round begins another
    eventually(lambda: bool(first.step()) and not runs(child))
    first._renew_at = 0.0
    first._due.clear()
    first.step()
    assert not runs(pid_of(root, broadcast_id))
    assert (row_of(stage, broadcast_id).worker_id, row_of(stage, broadcast_id).epoch) == ("worker_2", 2)


def test_a_worker_that_stops_leaves_no_child_and_no_lease(stage: Stage, make: MakeSupervisor, root: Path) -> None:
    _, _, broadcast_id = on_air(stage)
    first = make("worker_1")
    first.step()
    child = pid_of(root, broadcast_id)
    first.end()
    assert not runs(child)
    lease = stage.run(lambda tx: broadcasts.take_lease(tx, broadcast_id, "worker_2", utc_now()))
    assert lease is not None


@pytest.mark.parametrize(
    ("worker_id", "later", "ended"), [("worker_1", 0, True), ("worker_2", 0, False), ("worker_1", 1, False)]
)
def test_only_ones_own_orphan_is_ended(
    stage: Stage, make: MakeSupervisor, root: Path, worker_id: str, later: int, ended: bool
) -> None:
    # given a process that a broadcast's directory names: ours, another worker's, or another process by now
    _, _, broadcast_id = on_air(stage)
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    started = int(Path(f"/proc/{orphan.pid}/stat").read_text().rpartition(")")[2].split()[19])
    (root / broadcast_id).mkdir(parents=True)
    mark = Mark(worker_id=worker_id, pid=orphan.pid, started=started + later)
    (root / broadcast_id / CHILD_FILE).write_bytes(msgspec.json.encode(mark))
    # when the worker begins anew
    try:
        make("worker_1").step()
        if ended:
            assert orphan.wait(timeout=60) == -signal.SIGKILL
        else:
            assert orphan.poll() is None
    finally:
        orphan.kill()
        orphan.wait(timeout=60)


def test_that_it_is_ready_is_said_though_the_database_was_away(
    stage: Stage, make: MakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, broadcast_id = on_air(stage)
    supervisor = make()
    supervisor.step()
    [child] = supervisor._children.values()
    child.ready = True

    def away(*_: object) -> None:
        raise OperationalError("it is away", None, Exception())

    with monkeypatch.context() as outage:
        outage.setattr(broadcasts, "ready", away)
        with pytest.raises(OperationalError):
            supervisor.step()
    assert row_of(stage, broadcast_id).status == "wanted"
    supervisor.step()
    assert row_of(stage, broadcast_id).status == "live"


def test_who_is_barred_has_a_file_for_as_long_as_there_is_something_to_bar_from(
    stage: Stage, make: MakeSupervisor, root: Path, eventually: Eventually
) -> None:
    creator, stream, broadcast_id = on_air(stage)
    supervisor = make()
    stage.run(lambda tx: spectating.bar(tx, broadcast_id, "a_viewer", "shared", utc_now()))
    there = root / spectator_addresses.BARRED / spectator_addresses.barred_name(broadcast_id, "a_viewer")
    eventually(lambda: bool(supervisor.step()) and there.exists())
    # and when somebody has cleared the directory away
    there.unlink()
    there.parent.rmdir()
    eventually(lambda: bool(supervisor.step()) and there.exists())
    stage.run(lambda tx: streams.end_stream(tx, stream.stream_id, creator, utc_now()))
    eventually(lambda: bool(supervisor.step()) and not there.exists())
