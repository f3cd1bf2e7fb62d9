"""The supervisor of a transcode worker: takes leases, starts one child for each, and answers for them.

Each child is a session of its own that the kernel ends with this worker; its pid and start time stand in the
broadcast's directory, so that one that outlived its worker after all is found and ended. A child that dies
or stands still is followed by another under the next epoch. Knows no pictures and no playlists.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from models import log
from models.clock import utc_now
from models.db import Database
from models.errors import Unavailable
from models.services import broadcasts, spectating
from models.services.broadcasts import Lease
from models.spectator_addresses import BARRED, barred_name
from workers.transcode.jobs import FENCED, OK, Job, Said

ROUND_SECONDS = 0.1
RENEW_SECONDS = 1.0
STILL_SECONDS = 10.0
"""A child that has begun says something every two seconds."""
STOP_SECONDS = 5.0
FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 5.0
STEADY_SECONDS = 20.0
SWEEP_SECONDS = 5.0
KEEP_ENDED_SECONDS = 60.0
"""Players finish what they have loaded of the playlist; then the files go."""
CHILD_FILE = "child.json"
_PROC = Path("/proc")


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Which process of whom works on a directory; ``started`` in clock ticks since the machine's boot."""

    worker_id: str
    pid: int
    started: int


class Child:
    """One running child and what it said last."""

    def __init__(self, lease: Lease, job: Job, directory: Path, worker_id: str) -> None:
        """Start it. Call from a thread that lives as long as the worker: the child dies with it."""
        self.lease = lease
        self.directory = directory
        self.started_at = time.monotonic()
        self.heard_at = self.started_at
        self.ready = False
        self.said_ready = False
        self.stopping_since: float | None = None
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "workers.transcode.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._write(msgspec.json.encode(job) + b"\n")
        self._listener = threading.Thread(target=self._listen, name="transcode-child", daemon=True)
        self._listener.start()
        _write_mark(directory, worker_id, self._process.pid)

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.poll()

    def stands_still(self, now: float) -> bool:
        """Whether it has begun and then fallen silent."""
        return self.ready and now - self.heard_at > STILL_SECONDS

    def end(self) -> None:
        """The broadcast is over: close the playlists."""
        self._stop(b"END\n")

    def hand_on(self) -> None:
        """Stop; somebody else goes on."""
        self._stop(b"")

    def _stop(self, words: bytes) -> None:
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self._write(words, last=True)

    def kill(self) -> None:
        """End it and its ffmpeg at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=STOP_SECONDS)
        # Its end of the pipe is closed: the listener has read the last of it.
        self._listener.join(timeout=STOP_SECONDS)
        self._write(b"", last=True)

    def _write(self, words: bytes, *, last: bool = False) -> None:
        stdin = self._process.stdin
        # One that died is found by its status.
        with contextlib.suppress(BrokenPipeError):
            if stdin is not None and not stdin.closed:
                stdin.write(words)
                stdin.flush()
        if stdin is not None and last:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()

    def _listen(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        with stdout:
            for line in stdout:
                self._heard(line)

    def _heard(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=Said)
        except msgspec.DecodeError:
            log.event("child_unintelligible", level=logging.WARNING, broadcast_id=self.lease.broadcast_id)
            return
        self.heard_at = time.monotonic()
        self.ready = self.ready or said.type in ("ready", "progress")


class Supervisor:
    """All children of one worker. ``step`` is called in a loop, from one thread; ``offer`` from any."""

    def __init__(
        self,
        db: Database,
        *,
        worker_id: str,
        root: Path,
        capacity: int,
        preset: str,
        low_latency: bool,
        spectators_key: bytes,
    ) -> None:
        self._db = db
        self._spectators_key = spectators_key
        self._worker_id = worker_id
        self._root = root
        self._capacity = capacity
        self._preset = preset
        self._low_latency = low_latency
        self._children: dict[str, Child] = {}
        self._offered: list[str] = []
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        """A broadcast whose child failed: not before this moment, by the monotonic clock."""
        self._delay: dict[str, float] = {}
        self._renew_at = 0.0
        self._sweep_at = 0.0
        self._begun = False

    def offer(self, broadcast_id: str) -> None:
        """Work on this one soon; returns at once. Raises Unavailable when there is no place for another."""
        with self._lock:
            if len(self._children) + len(self._offered) >= self._capacity:
                raise Unavailable("This worker transcodes as many rooms as it can.", code="UNAVAILABLE")
            self._offered.append(broadcast_id)

    def step(self) -> float:
        """One round; seconds until the next."""
        now = time.monotonic()
        if not self._begun:
            self._begin()
        self._tend(now)
        self._take_offers(now)
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            self._renew()
            self._take_over(now)
            self._shut_out()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._sweep()
        return ROUND_SECONDS

    def end(self) -> None:
        """The worker stops: children finish what they write, and others may go on at once."""
        for child in self._children.values():
            child.hand_on()
        until = time.monotonic() + STOP_SECONDS
        while any(child.status is None for child in self._children.values()) and time.monotonic() < until:
            time.sleep(ROUND_SECONDS)
        for child in tuple(self._children.values()):
            self._gone(child)

    def _begin(self) -> None:
        """A new life of this worker: what the former one left running ends, what it had leased is free."""
        self._root.mkdir(parents=True, exist_ok=True)
        for directory in self._directories():
            _end_orphan(directory, self._worker_id)
        self._db.run(lambda tx: broadcasts.forget_leases(tx, self._worker_id, utc_now()))
        self._begun = True

    # --- children -----------------------------------------------------------------------------------

    def _tend(self, now: float) -> None:
        for child in tuple(self._children.values()):
            if child.ready and not child.said_ready:
                self._say_ready(child.lease)
                child.said_ready = True
            overdue = child.stopping_since is not None and now - child.stopping_since > STOP_SECONDS
            if child.status is None and (overdue or child.stands_still(now)):
                log.event("child_killed", level=logging.WARNING, broadcast_id=child.lease.broadcast_id)
                child.kill()
            if child.status is not None:
                self._ended(child, now)

    def _say_ready(self, lease: Lease) -> None:
        self._db.run(lambda tx: broadcasts.ready(tx, lease.broadcast_id, lease.epoch, utc_now()))

    def _ended(self, child: Child, now: float) -> None:
        broadcast_id, status = child.lease.broadcast_id, child.status
        self._gone(child)
        if status in (OK, FENCED):
            self._due[broadcast_id] = now + FIRST_RESTART_SECONDS
            return
        steady = now - child.started_at > STEADY_SECONDS
        delay = FIRST_RESTART_SECONDS if steady else self._delay.get(broadcast_id, FIRST_RESTART_SECONDS)
        self._due[broadcast_id] = now + delay
        self._delay[broadcast_id] = min(delay * 2, LONGEST_RESTART_SECONDS)
        self._renew_at = min(self._renew_at, now + delay)
        log.event("child_lost", level=logging.WARNING, broadcast_id=broadcast_id, status=status, again_in=delay)

    def _gone(self, child: Child) -> None:
        """It writes no more; whoever is first may go on."""
        child.kill()
        lease = child.lease
        self._children.pop(lease.broadcast_id, None)
        self._db.run(
            lambda tx: broadcasts.give_back(tx, lease.broadcast_id, self._worker_id, lease.epoch, utc_now())
        )

    def _start(self, lease: Lease) -> None:
        directory = self._root / lease.broadcast_id
        directory.mkdir(parents=True, exist_ok=True)
        job = Job(
            broadcast_id=lease.broadcast_id,
            room_id=lease.room_id,
            egress_url=lease.signaling_url.rsplit("/signaling", 1)[0],
            directory=str(directory),
            epoch=lease.epoch,
            low_latency=self._low_latency,
            preset=self._preset,
        )
        self._children[lease.broadcast_id] = Child(lease, job, directory, self._worker_id)

    # --- leases -------------------------------------------------------------------------------------

    def _take_offers(self, now: float) -> None:
        with self._lock:
            offered, self._offered = self._offered, []
        for broadcast_id in offered:
            if broadcast_id in self._children or self._due.get(broadcast_id, 0.0) > now:
                continue
            lease = self._lease(broadcast_id)
            if lease is not None:
                self._start(lease)

    def _lease(self, broadcast_id: str) -> Lease | None:
        return self._db.run(lambda tx: broadcasts.take_lease(tx, broadcast_id, self._worker_id, utc_now()))

    def _take_over(self, now: float) -> None:
        places = self._capacity - len(self._children)
        waiting = {broadcast_id for broadcast_id, due in self._due.items() if due > now}
        for lease in self._db.run(
            lambda tx: broadcasts.take_over(tx, self._worker_id, places, utc_now(), besides=waiting)
        ):
            self._start(lease)

    def _renew(self) -> None:
        held = {(child.lease.broadcast_id, child.lease.epoch) for child in self._children.values()}
        if not held:
            return
        kept = self._db.run(lambda tx: broadcasts.renew(tx, self._worker_id, held, utc_now()))
        lost = {broadcast_id for broadcast_id, _ in held} - kept
        if not lost:
            return
        with self._db.reading() as tx:
            still_open = set(broadcasts.still_open(tx, lost))
        for broadcast_id in lost:
            child = self._children[broadcast_id]
            if broadcast_id not in still_open:
                child.end()
            else:
                log.event("lease_lost", level=logging.WARNING, broadcast_id=broadcast_id, epoch=child.lease.epoch)
                child.kill()

    # --- files --------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove what belongs to broadcasts that ended a while ago, or to none."""
        found = {path.name: path for path in self._directories() if path.name not in self._children}
        if not found:
            return
        with self._db.reading() as tx:
            keep = broadcasts.worth_keeping(tx, found, utc_now(), seconds=KEEP_ENDED_SECONDS)
        for name, path in found.items():
            if name not in keep:
                _end_orphan(path, self._worker_id)
                shutil.rmtree(path, ignore_errors=True)
                self._due.pop(name, None)
                self._delay.pop(name, None)
                log.event("broadcast_removed", broadcast_id=name)

    def _shut_out(self) -> None:
        """Let whoever serves the files see who is barred: a file for each, and none for what has ended."""
        barred = self._root / BARRED
        barred.mkdir(parents=True, exist_ok=True)
        with self._db.reading() as tx:
            found = spectating.barred(tx, self._spectators_key)
        wanted = {barred_name(broadcast_id, viewer_id) for broadcast_id, viewer_id in found}
        there = set(os.listdir(barred))
        for name in wanted - there:
            (barred / name).touch()
        for name in there - wanted:
            (barred / name).unlink(missing_ok=True)

    def _directories(self) -> Iterable[Path]:
        return [path for path in self._root.iterdir() if path.is_dir() and path.name.startswith("brd_")]


def _write_mark(directory: Path, worker_id: str, pid: int) -> None:
    started = _started(pid)
    if started is not None:
        mark = Mark(worker_id=worker_id, pid=pid, started=started)
        (directory / CHILD_FILE).write_bytes(msgspec.json.encode(mark))


def _started(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])


def _end_orphan(directory: Path, worker_id: str) -> None:
    """Kill the child whose mark is in this directory, if it is this worker's and still that process."""
    try:
        mark = msgspec.json.decode((directory / CHILD_FILE).read_bytes(), type=Mark)
    except (FileNotFoundError, msgspec.DecodeError):
        return
    if mark.worker_id != worker_id:
        return
    if _started(mark.pid) == mark.started:
        log.event("orphan_ended", level=logging.WARNING, broadcast_id=directory.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mark.pid, signal.SIGKILL)
    (directory / CHILD_FILE).unlink(missing_ok=True)
