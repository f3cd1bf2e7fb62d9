"""One private stream's recording, one process: ``python -m workers.transcode.recorder``.

As a broadcast's child (``child``) it reads the room from its node, which hands out nothing without both
parties' permission; instead of a ladder there is one file. Standard input: a line of JSON (``RecordingJob``),
then ``END`` when nothing more may be recorded; its end without one: another recorder will go on. Standard
output: ``Said``. Whatever stops it, the node's last frame is the file's last.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from models import egress_tickets, log
from models.messages import egress
from workers.transcode import surroundings
from workers.transcode.composer import Buffers
from workers.transcode.film import Film
from workers.transcode.jobs import HANDED_ON, LOST, OK, RecordingJob, Said
from workers.transcode.program import Behind, Program, SteadyClock
from workers.transcode.reel import Recorded, Reel
from workers.transcode.source import Egress, Room

PERMITTED_WITHIN_SECONDS = 10.0
"""The word that permits us takes another way than the one that sent us."""
WATCH_SECONDS = 0.5
POLL_SECONDS = 0.02
HEADER_BYTES = 4_096
"""A file that is larger has pictures, not only the header that players need first."""


def main() -> int:
    """Exit status."""
    log.configure("transcode", surroundings.log_level())
    with open(0, "rb", buffering=0, closefd=False) as lines:
        job = msgspec.json.decode(lines.readline(), type=RecordingJob)
    return Recorder(job).run()


class NoPosters:
    """A private stream has none."""

    def offer(self, picture: Buffers, captured_at: float) -> None:
        """Left."""


class Recorder:
    """Everything of one job, wired together."""

    def __init__(self, job: RecordingJob) -> None:
        self._job = job
        self._clock = SteadyClock()
        self._room = Room()
        self._egress = Egress(
            self._room,
            f"{job.egress_url}{egress.PATH}{job.room_id}",
            lambda: egress_tickets.sign(job.room_id, job.egress_key, time.time()),
            self._clock.now,
            patience=PERMITTED_WITHIN_SECONDS,
        )
        self._reel = Reel(Path(job.directory), job.epoch)
        self._told_to_end = threading.Event()
        self._handed_on = threading.Event()
        self._no_space = threading.Event()
        self._closed = threading.Event()
        """Of this process: its watch ends."""

    def run(self) -> int:
        """From the first frame to the complete file; the exit status."""
        for work in (self._listen, self._watch):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        if self._job.egress_url and not self._record():
            log.event("recorder_lost", recording_id=self._job.recording_id, epoch=self._job.epoch)
            return LOST
        if self._handed_on.is_set() and not self._over():
            self._say(HANDED_ON)
            return OK
        self._say(self._reason(), self._reel.complete())
        return OK

    def _record(self) -> bool:
        """Until it is over; False when our own encoder failed before."""
        self._egress.start()
        # Not before the node hands something out: a recording of nothing would look like one.
        while not self._stops() and not (self._room.pictures() or self._room.sounds()):
            self._clock.wait(self._clock.now() + POLL_SECONDS)
        if self._stops():
            self._egress.stop()
            return True
        program, film, kept_up = Program(self._room, self._clock), Film(self._job.preset, self._reel.part), True
        try:
            if program.begin(self._stops) is not None:
                program.run(film, NoPosters(), lambda: self._stops() or film.process.poll() is not None)
        except Behind:
            log.event("recorder_behind", recording_id=self._job.recording_id)
            kept_up = False
        self._egress.stop()
        film.end_input()
        status = film.stop()
        # An encoder that fails in the last moment does not keep a recording open.
        return self._over() or (kept_up and status == 0)

    def _over(self) -> bool:
        """Nothing more may be recorded, by anybody."""
        return self._room.over.is_set() or self._told_to_end.is_set() or self._no_space.is_set()

    def _stops(self) -> bool:
        return self._over() or self._handed_on.is_set()

    def _reason(self) -> str:
        if self._no_space.is_set():
            return "NO_SPACE"
        return self._room.over_reason or "ENDED"

    def _listen(self) -> None:
        # Not through sys.stdin, whose lock this thread would still hold when the process ends.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            over = any(line.strip() == b"END" for line in lines)
        (self._told_to_end if over else self._handed_on).set()

    def _watch(self) -> None:
        """Say that we are alive once there is something on disk, and stop before the disk is full."""
        while not self._closed.wait(WATCH_SECONDS):
            if self._reel.free_bytes() < self._job.free_bytes:
                self._no_space.set()
            if self._reel.size > HEADER_BYTES or self._over():
                _tell(Said(type="progress"))

    def _say(self, reason: str, recorded: Recorded = Recorded(0, 0)) -> None:
        self._closed.set()
        _tell(Said(type="ended", reason=reason, duration_ms=recorded.duration_ms, size=recorded.size))


def _tell(said: Said) -> None:
    # A supervisor that is gone reads nothing; standard input ends then, too.
    try:
        os.write(1, msgspec.json.encode(said) + b"\n")
    except BrokenPipeError:
        log.event("supervisor_gone")


if __name__ == "__main__":
    sys.exit(main())
