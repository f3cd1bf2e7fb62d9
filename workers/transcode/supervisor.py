"""The supervisor of a transcode worker: takes leases, starts one child for each, and answers for them.

Each child is a session of its own that the kernel ends with this worker; its pid and start time stand in the
directory that it works in, so that one that outlived its worker after all is found and ended. A child that
dies or stands still is followed by another under the next epoch. Knows neither pictures nor playlists, nor
whether a room is broadcast (``broadcasting``) or recorded (``recording``).
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
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy.orm import Session

from models import log
from models.clock import utc_now
from models.db import Database
from models.errors import Unavailable
from models.services.leases import Lease
from workers.transcode import surroundings
from workers.transcode.jobs import FENCED, OK, Said

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


class Work(Protocol):
    """A service module whose rows are leased; each function as ``models.services.broadcasts`` has it."""

    def take_lease(self, tx: Session, work_id: str, worker_id: str, now: datetime, /) -> Lease | None: ...
    def take_over(
        self, tx: Session, worker_id: str, most: int, now: datetime, /, *, besides: Collection[str]
    ) -> list[Lease]: ...
    def renew(
        self, tx: Session, worker_id: str, held: Collection[tuple[str, int]], now: datetime, /
    ) -> set[str]: ...
    def give_back(self, tx: Session, work_id: str, worker_id: str, epoch: int, now: datetime, /) -> None: ...
    def forget_leases(self, tx: Session, worker_id: str, now: datetime, /) -> None: ...
    def ready(self, tx: Session, work_id: str, epoch: int, now: datetime, /) -> None: ...
    def still_open(self, tx: Session, work_ids: Collection[str], /) -> Sequence[str]: ...
    def worth_keeping(
        self, tx: Session, work_ids: Collection[str], now: datetime, /, *, seconds: float
    ) -> set[str]: ...


class Child:
    """One running child and what it said last."""

    def __init__(self, lease: Lease, program: str, job: msgspec.Struct, directory: Path, worker_id: str) -> None:
        """Start it. Call from a thread that lives as long as the worker: the child dies with it."""
        self.lease = lease
        self.directory = directory
        self.started_at = time.monotonic()
        self.heard_at = self.started_at
        self.ready = False
        self.said_ready = False
        self.last_said: Said | None = None
        self.stopping_since: float | None = None
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=surroundings.for_children(),
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
            log.event("child_unintelligible", level=logging.WARNING, work_id=self.lease.work_id)
            return
        self.heard_at = time.monotonic()
        self.last_said = said
        self.ready = self.ready or said.type in ("ready", "progress")


class Supervisor(ABC):
    """All children of one worker. ``step`` is called in a loop, from one thread; ``offer`` from any."""

    prefix: str
    """Of the ids of what is worked on, and so of the directories."""
    program: str
    """The child's module."""
    stop_seconds = STOP_SECONDS
    """How long a child that is told to end may take."""

    def __init__(self, db: Database, work: Work, *, worker_id: str, root: Path, capacity: int) -> None:
        self._db = db
        self._work = work
        self._worker_id = worker_id
        self._root = root
        self._capacity = capacity
        self._children: dict[str, Child] = {}
        self._offered: list[str] = []
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        """What a child failed at: not before this moment, by the monotonic clock."""
        self._delay: dict[str, float] = {}
        self._renew_at = 0.0
        self._sweep_at = 0.0
        self._begun = False

    @abstractmethod
    def _job(self, lease: Lease, directory: Path) -> msgspec.Struct:
        """What the child is told to do."""

    @abstractmethod
    def _look_after(self) -> None:
        """What else is to be done once a second."""

    @abstractmethod
    def _done(self, child: Child) -> None:
        """A child has ended as it should, before its lease is given back."""

    def offer(self, work_id: str) -> None:
        """Work on this one soon; returns at once. Raises Unavailable when there is no place for another."""
        with self._lock:
            if len(self._children) + len(self._offered) >= self._capacity:
                raise Unavailable("This worker transcodes as many rooms as it can.", code="UNAVAILABLE")
            self._offered.append(work_id)

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
            self._look_after()
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
        self._db.run(lambda tx: self._work.forget_leases(tx, self._worker_id, utc_now()))
        self._begun = True

    # --- children -----------------------------------------------------------------------------------

    def _tend(self, now: float) -> None:
        for child in tuple(self._children.values()):
            if child.ready and not child.said_ready:
                self._say_ready(child.lease)
                child.said_ready = True
            overdue = child.stopping_since is not None and now - child.stopping_since > self.stop_seconds
            if child.status is None and (overdue or child.stands_still(now)):
                log.event("child_killed", level=logging.WARNING, work_id=child.lease.work_id)
                child.kill()
            if child.status is not None:
                self._ended(child, now)

    def _say_ready(self, lease: Lease) -> None:
        self._db.run(lambda tx: self._work.ready(tx, lease.work_id, lease.epoch, utc_now()))

    def _ended(self, child: Child, now: float) -> None:
        work_id, status = child.lease.work_id, child.status
        if status == OK:
            self._done(child)
        self._gone(child)
        if status in (OK, FENCED):
            self._due[work_id] = now + FIRST_RESTART_SECONDS
            return
        steady = now - child.started_at > STEADY_SECONDS
        delay = FIRST_RESTART_SECONDS if steady else self._delay.get(work_id, FIRST_RESTART_SECONDS)
        self._due[work_id] = now + delay
        self._delay[work_id] = min(delay * 2, LONGEST_RESTART_SECONDS)
        self._renew_at = min(self._renew_at, now + delay)
        log.event("child_lost", level=logging.WARNING, work_id=work_id, status=status, again_in=delay)

    def _gone(self, child: Child) -> None:
        """It writes no more; whoever is first may go on."""
        child.kill()
        lease = child.lease
        self._children.pop(lease.work_id, None)
        self._db.run(lambda tx: self._work.give_back(tx, lease.work_id, self._worker_id, lease.epoch, utc_now()))

    def _start(self, lease: Lease) -> None:
        directory = self._root / lease.work_id
        directory.mkdir(parents=True, exist_ok=True)
        job = self._job(lease, directory)
        self._children[lease.work_id] = Child(lease, self.program, job, directory, self._worker_id)

    # --- leases -------------------------------------------------------------------------------------

    def _take_offers(self, now: float) -> None:
        with self._lock:
            offered, self._offered = self._offered, []
        for work_id in offered:
            if work_id in self._children or self._due.get(work_id, 0.0) > now:
                continue
            lease = self._lease(work_id)
            if lease is not None:
                self._start(lease)

    def _lease(self, work_id: str) -> Lease | None:
        return self._db.run(lambda tx: self._work.take_lease(tx, work_id, self._worker_id, utc_now()))

    def _take_over(self, now: float) -> None:
        places = self._capacity - len(self._children)
        waiting = {work_id for work_id, due in self._due.items() if due > now}
        for lease in self._db.run(
            lambda tx: self._work.take_over(tx, self._worker_id, places, utc_now(), besides=waiting)
        ):
            self._start(lease)

    def _renew(self) -> None:
        held = {(child.lease.work_id, child.lease.epoch) for child in self._children.values()}
        if not held:
            return
        kept = self._db.run(lambda tx: self._work.renew(tx, self._worker_id, held, utc_now()))
        lost = {work_id for work_id, _ in held} - kept
        if not lost:
            return
        with self._db.reading() as tx:
            still_open = set(self._work.still_open(tx, lost))
        for work_id in lost:
            child = self._children[work_id]
            if work_id not in still_open:
                child.end()
            else:
                log.event("lease_lost", level=logging.WARNING, work_id=work_id, epoch=child.lease.epoch)
                child.kill()

    # --- files --------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove what belongs to work that ended a while ago, or to none."""
        found = {path.name: path for path in self._directories() if path.name not in self._children}
        if not found:
            return
        with self._db.reading() as tx:
            keep = self._work.worth_keeping(tx, found, utc_now(), seconds=KEEP_ENDED_SECONDS)
        for name, path in found.items():
            if name not in keep:
                _end_orphan(path, self._worker_id)
                shutil.rmtree(path, ignore_errors=True)
                self._due.pop(name, None)
                self._delay.pop(name, None)
                log.event("files_removed", work_id=name)

    def _directories(self) -> Iterable[Path]:
        return [path for path in self._root.iterdir() if path.is_dir() and path.name.startswith(self.prefix)]


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
        log.event("orphan_ended", level=logging.WARNING, work_id=directory.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mark.pid, signal.SIGKILL)
    (directory / CHILD_FILE).unlink(missing_ok=True)
