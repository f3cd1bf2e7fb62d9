"""``make run``: everything comes up, what dies comes back, Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import install
from ops.house import ROOT
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS


@pytest.fixture
def var(servers_directory: Path) -> Iterator[Path]:
    directory = servers_directory / "supervised"
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def with_environment(text: str) -> dict[int, str]:
    """Every process whose environment contains ``text``, with its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


class Run:
    """``python -m ops.supervise`` as ``make run`` starts it, and what it prints."""

    def __init__(self, var: Path) -> None:
        port = str(free_port())
        ours = ("AMQP_URL", "DATABASE_URL")
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        environment |= {
            "VAR_DIR": str(var),
            "PORT": port,
            "MEDIA_PORT": str(free_port()),
            "MEDIA_UDP_PORT": "0",
            "RABBITMQ_PORT": str(free_port(PORT_OFFSETS)),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [ROOT / ".venv/bin/python", "-m", "ops.supervise"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""

    def read_until(self, pattern: str) -> None:
        """Read lines until one matches; fails when the program ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"never said {pattern!r}:\n{self.printed}")


def test_the_house_comes_up_revives_what_dies_and_leaves_nothing_behind(var: Path) -> None:
    # Given a running house
    run = Run(var)
    try:
        run.read_until("Ctrl-C stops everything")
        assert "creator_a@demo.test" in run.printed
        assert (var / "secret_key").stat().st_mode & 0o077 == 0

        # When a child is killed
        media = [pid for pid, command in with_environment(str(var)).items() if "-m media" in command]
        os.kill(media[0], signal.SIGKILL)

        # Then it is started again and said so
        run.read_until(r"media stopped \(signal SIGKILL\); restarting")

        # And when Ctrl-C is pressed, it ends well and nothing is left
        run.process.send_signal(signal.SIGINT)
        run.read_until("stopped$")
        assert run.process.wait(timeout=120) == 0
        deadline = time.monotonic() + 60
        while (left := with_environment(str(var))) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == {}
    finally:
        run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


def test_a_wrong_setting_is_said_clearly_and_nothing_is_left(var: Path) -> None:
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-m", "ops.supervise"],
        cwd=ROOT,
        env={**os.environ, "VAR_DIR": str(var), "AMQP_URL": "amqp://127.0.0.1:1/", "HOST": "0.0.0.0", "DEMO": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "DEMO=1 needs HOST on loopback" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_ordinary_user_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = install.Need("Nothing", "no-such-package", ("/no/such/program",))
    monkeypatch.setattr(install, "RUN", (missing,))
    monkeypatch.setattr(install.os, "getuid", lambda: 1000)
    monkeypatch.setattr(install.sys, "argv", ["install", "run"])
    assert install.main() == 1
    printed = capsys.readouterr().out
    assert "Missing: Nothing" in printed
    assert "sudo apt-get install -y --no-install-recommends no-such-package" in printed
