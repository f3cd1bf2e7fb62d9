"""One room's transcoding, one process: ``python -m workers.transcode.child``.

Standard input: first a line of JSON (``Job``), then, when the broadcast is over, a line ``END``; its end
without one means that the supervisor is gone, and that another child will go on. Standard output: a line of
JSON for each thing the supervisor must know (``Said``). The environment has no settings (``surroundings``).

When ffmpeg dies or this process falls far behind, it ends with a status that is not 0; its supervisor
starts the next epoch, which goes on from what is on disk. That is the only way back: there is no second one.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import msgspec

from models import egress_tickets, log
from models.messages import egress
from workers.transcode import surroundings
from workers.transcode.directory import Directory, Fenced
from workers.transcode.jobs import FENCED, HANDED_ON, LOST, OK, Job, Said
from workers.transcode.labels import Labels
from workers.transcode.ladder import Ladder
from workers.transcode.packager import Packager
from workers.transcode.posters import Posters
from workers.transcode.program import Behind, Program, SteadyClock
from workers.transcode.source import Egress, Room


def main() -> int:
    """Exit status."""
    log.configure("transcode", surroundings.log_level())
    with open(0, "rb", buffering=0, closefd=False) as lines:
        job = msgspec.json.decode(lines.readline(), type=Job)
    return Child(job).run()


class _Lost(Exception):
    """Nothing takes the programme any more."""


class Child:
    """Everything of one job, wired together."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._clock = SteadyClock()
        self._room = Room()
        self._egress = Egress(
            self._room,
            f"{job.egress_url}{egress.PATH}{job.room_id}",
            lambda: egress_tickets.sign(job.room_id, job.egress_key, time.time()),
            self._clock.now,
        )
        self._ended = threading.Event()
        """The broadcast is over: by the node's word or by the supervisor's."""
        self._handed_on = threading.Event()
        self._failure: BaseException | None = None
        self._ready = False

    def run(self) -> int:
        """From the first frame to the last file; the exit status."""
        directory = Directory(Path(self._job.directory), self._job.epoch)
        self._program = Program(self._room, self._clock, Labels())
        self._packager = Packager(
            directory, self._program.capture_time, low_latency=self._job.low_latency, on_slot=self._on_slot
        )
        try:
            self._packager.resume()
            if self._packager.state.ended:
                _say(Said(type="ended", reason="ENDED"))
                return OK
            return self._transcode(directory)
        except Fenced:
            log.event("transcode_fenced", broadcast_id=self._job.broadcast_id, epoch=self._job.epoch)
            return FENCED

    def _transcode(self, directory: Directory) -> int:
        # From this thread, which lives as long as the process: ffmpeg dies with it.
        ladder = Ladder(self._job.preset)
        pump = threading.Thread(target=self._pump, args=(ladder,), name="packager", daemon=True)
        posters = Posters(directory, self._packager.state)
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        self._egress.start()
        begun = None
        try:
            begun = self._program.begin(self._over)
            if begun is not None:
                self._packager.begin(begun)
                pump.start()
                self._program.run(ladder, posters, self._over)
        except Behind:
            log.event("transcode_behind", broadcast_id=self._job.broadcast_id)
            self._failure = Behind()
        except _Lost:
            # Not even what was captured before is shown: viewers wait for the next child.
            self._egress.stop()
            ladder.process.kill()
            pump.join()
            return self._finish(ladder.process.wait())
        self._egress.stop()
        ladder.end_input()
        status = ladder.stop()
        if pump.ident is not None:
            pump.join()
        posters.stop()
        # An encoder that was given nothing says so with a status; that is no failure.
        return self._finish(status if begun is not None else 0)

    def _over(self) -> bool:
        """Whether to make no more pictures. Raises _Lost when they would be for nobody."""
        if self._room.over.is_set():
            self._ended.set()
        if self._ended.is_set() or self._handed_on.is_set():
            return True
        if self._failure is not None:
            raise _Lost
        return False

    def _finish(self, status: int) -> int:
        job, dropped = self._job, self._program.dropped
        log.event("transcode_ended", broadcast_id=job.broadcast_id, epoch=job.epoch, dropped=dropped)
        if isinstance(self._failure, Fenced):
            raise self._failure
        failed = self._failure is not None or status != 0
        over = self._ended.is_set()
        # A failure in the last moment does not keep an ended broadcast open.
        self._packager.finish(ended=over)
        if failed and not over:
            log.event("transcode_lost", broadcast_id=self._job.broadcast_id, ffmpeg_status=status)
            return LOST
        _say(Said(type="ended", reason=self._room.over_reason or ("ENDED" if over else HANDED_ON)))
        return OK

    def _pump(self, ladder: Ladder) -> None:
        try:
            self._packager.pump(ladder.outputs)
            if not self._over():
                self._failure = ChildProcessError("ffmpeg ended by itself")
        except BaseException as error:
            self._failure = error
            if not isinstance(error, Fenced):
                log.failure("packager_failed", broadcast_id=self._job.broadcast_id)

    def _listen(self) -> None:
        # Not through sys.stdin, whose lock this thread would still hold when the process ends.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            over = any(line.strip() == b"END" for line in lines)
        (self._ended if over else self._handed_on).set()

    def _on_slot(self, slot: int) -> None:
        lag = self._clock.now() - self._packager.newest_end()
        kind: Literal["ready", "progress"] = "progress" if self._ready else "ready"
        self._ready = True
        _say(Said(type=kind, slot=slot, lag_ms=round(lag * 1000), dropped=self._program.dropped))


def _say(said: Said) -> None:
    # A supervisor that is gone reads nothing; standard input ends then, too.
    try:
        os.write(1, msgspec.json.encode(said) + b"\n")
    except BrokenPipeError:
        log.event("supervisor_gone")


if __name__ == "__main__":
    sys.exit(main())
