"""The running house: the private broker and every process of the Procfile, started, watched, stopped.

``make run``, ``make demo`` and the tests all start the product through this one class. Children are
started in the order of the Procfile and stopped in reverse; one that dies is started again and said so.
No child outlives its supervisor: each asks the kernel for SIGTERM at the supervisor's death.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.rabbitmq import RabbitNode

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120
STOP_SECONDS = 8
FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 10.0
# A child that lived this long was no crash loop.
STEADY_SECONDS = 30.0


class HouseError(Exception):
    """The house did not come up; the text says which part and shows the end of its log."""


def procfile() -> dict[str, str]:
    """The process types and their commands, in order."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines if line.strip())}


class Child:
    """One process of the Procfile, and what has become of it."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environment = dict(environment)
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self.started_at = 0.0
        self.delay = FIRST_RESTART_SECONDS

    def start(self) -> None:
        """Start it in a session of its own, so that its whole family can be ended."""
        self.wanted = True
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "sh", "-c", f"exec {self._command}"],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the running child; HouseError when there is none."""
        if self.process is None or self.process.poll() is not None:
            raise HouseError(f"{self.name} is not running")
        return self.process.pid

    def signal(self, number: int) -> None:
        """Signal the whole family: a master's workers too."""
        if self.process is not None:
            for pid in session_members(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> None:
        """SIGTERM to the head, SIGKILL to what is left after STOP_SECONDS."""
        self.wanted = False
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STOP_SECONDS)
        self.signal(signal.SIGKILL)
        self.process.wait(timeout=STOP_SECONDS)

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class House:
    """Everything that ``make run`` starts. ``say`` hears of starts, crashes and restarts."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        var: Path,
        names: tuple[str, ...] | None = None,
        broker: RabbitNode | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """``broker``: a node to start and stop with the house; without one, AMQP_URL must be answered."""
        self.var = var.resolve()
        self.broker = broker
        self.environment = {**os.environ, **environment, "VAR_DIR": str(self.var)}
        self.environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{self.environment['PATH']}"
        self.environment.setdefault("PYTHONUNBUFFERED", "1")
        if broker is not None:
            self.environment["AMQP_URL"] = broker.url
            self.environment["RABBITMQ_MANAGEMENT_URL"] = broker.management_url
        (self.var / "log").mkdir(parents=True, exist_ok=True)
        wanted = names if names is not None else tuple(procfile())
        self.children = {
            name: Child(name, command, self.environment, self.var / "log" / f"{name}.log")
            for name, command in procfile().items()
            if name in wanted
        }
        self._say = say
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where the web app answers on this machine."""
        return f"http://{self.environment['HOST']}:{self.environment['PORT']}"

    def start(self) -> None:
        """Broker, migrations, then every process; returns when the web app says that all is there."""
        if self.broker is not None:
            self._say("starting RabbitMQ")
            self.broker.start()
        self.prepare_database()
        for child in self.children.values():
            child.start()
        if "web" in self.children:
            self._await_ready()

    def prepare_database(self) -> None:
        """The newest schema, and the demo's people if this is one; done again, it changes nothing."""
        self.command("-m", "migrations")
        if self.environment.get("DEMO") == "1":
            self.command("-m", "demo.people")

    def command(self, *arguments: str) -> str:
        """Run Python with the house's environment; its output, or HouseError."""
        done = subprocess.run(
            [ROOT / ".venv" / "bin" / "python", *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise HouseError(f"python {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def add(self, name: str, like: str, **environment: str) -> Child:
        """Start another process of a type, with settings of its own; watched and stopped like all others."""
        log = self.var / "log" / f"{name}.log"
        child = Child(name, procfile()[like], {**self.environment, **environment}, log)
        child.start()
        self.children = {**self.children, name: child}
        return child

    def watch(self) -> None:
        """Restart what dies, until ``stop`` is called; run it in the main thread or one of its own."""
        while not self._stopping.wait(0.2):
            if self.broker is not None and self.broker.died():
                self._say("RabbitMQ stopped; restarting it")
                self.broker.start()
            for child in self.children.values():
                self._revive(child)

    def stop(self) -> None:
        """Stop everything in reverse order; nothing that the house started is left."""
        self._stopping.set()
        for child in reversed(self.children.values()):
            child.stop()
        if self.broker is not None:
            self.broker.stop()

    def _revive(self, child: Child) -> None:
        process = child.process
        if not child.wanted or process is None or process.poll() is None:
            return
        lived = time.monotonic() - child.started_at
        if lived > STEADY_SECONDS:
            child.delay = FIRST_RESTART_SECONDS
        if lived < child.delay:
            return
        self._say(f"{child.name} stopped ({_how_it_ended(process.returncode)}); restarting it")
        child.signal(signal.SIGKILL)
        child.delay = min(child.delay * 2, LONGEST_RESTART_SECONDS)
        child.start()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for child in self.children.values():
                if child.process is not None and child.process.poll() is not None:
                    raise HouseError(f"{child.name} did not start:\n{child.last_lines()}")
            # Nobody answers yet, or what does is not ready.
            with contextlib.suppress(OSError):
                if self._is_all_there():
                    return
            time.sleep(0.1)
        asked = (child for name, child in self.children.items() if name in ("web", "media", "worker"))
        ends = (f"{child.name}:\n{child.last_lines()}" for child in asked)
        raise HouseError("\n".join([f"the house was not ready in {READY_SECONDS} s", *ends]))

    def _is_all_there(self) -> bool:
        """Raises OSError while the web app does not answer, or answers that it is not ready."""
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=3) as answer:
            ready: dict[str, str] = json.load(answer)
        # Nobody can go live before a media node has reported.
        return ready["media"] == "ok" or not {"media", "worker"} <= self.children.keys()


def secret_key(var: Path) -> str:
    """This installation's SECRET_KEY, made at the first start and readable by its owner only."""
    path = var / "secret_key"
    if not path.exists():
        var.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def session_members(leader: int) -> list[int]:
    """The processes of the session that ``leader`` leads."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == leader:
                    members.append(int(entry.name))
    return members


def _how_it_ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
