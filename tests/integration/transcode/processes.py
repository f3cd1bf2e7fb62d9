"""Children of a transcode worker, started as a supervisor does: a job goes in, lines come out."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from workers.transcode import surroundings

ROOT = Path(__file__).resolve().parents[3]
SECRET = "no-business-of-an-encoder"
KEY = b"k" * 32
PATIENCE_SECONDS = 60


class Process:
    """A running child."""

    def __init__(self, module: str, job: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            # Nothing that a supervisor withholds is needed; what a child has by mistake, its encoder has not.
            env={**surroundings.for_children(), "STRIPE_SECRET_KEY": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell(json.dumps({**job, "egressKey": base64.b64encode(KEY).decode()}))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def until(self, kind: str) -> dict[str, Any]:
        """The next line of that type; what came before it is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["type"] == kind:
                return said
        pytest.fail(f"ended without {kind}")

    def child(self) -> int:
        """Its encoder's process id."""
        pid = self.process.pid
        (child,) = (Path(f"/proc/{pid}/task/{pid}/children").read_text()).split()
        return int(child)

    def status(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(module: str, job: dict[str, Any]) -> Iterator[Process]:
    """Killed at the end, whatever it does."""
    started = Process(module, job)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        for stream in (started.process.stdin, started.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def kill(pid: int) -> None:
    """As machines do."""
    os.kill(pid, signal.SIGKILL)


def ends(pid: int) -> bool:
    """Whether that process, which is not ours, ends by itself."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended = bool(select.select([fd], [], [], PATIENCE_SECONDS)[0])
        if not ended:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        return ended
    finally:
        os.close(fd)
