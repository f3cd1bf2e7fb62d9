"""A private RabbitMQ node: its own ports, directory, cookie and epmd; touches no system node.

Debian's wrapper script refuses ordinary users and the system's directories, so the server program is
called directly. One object is one node; ``make run`` owns one under ``var/``, each test run another.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PORT_OFFSETS = (0, 1000, 2000, 3000)
"""A node's ports, from its first: AMQP, management, distribution, epmd."""
START_SECONDS = 120
STOP_SECONDS = 30


class RabbitError(Exception):
    """The node did not start; the text ends with the last lines of its log."""


class RabbitNode:
    """A broker at ``port``; management at ``port`` + 1000, distribution + 2000, epmd + 3000."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory.resolve()
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What AMQP_URL has to be to reach this node."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str:
        """What RABBITMQ_MANAGEMENT_URL has to be to see into this node."""
        return f"http://guest:guest@127.0.0.1:{self.port + 1000}"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The running server, if this object started one."""
        return self._process

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start the node and wait until it takes connections; RabbitError, and nothing of it is left, when it does
        not within so many seconds."""
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise RabbitError("rabbitmq-server is not installed")
        self.spawn()
        try:
            self.wait(seconds)
        except BaseException:
            self.discard()
            raise

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the node without waiting for it, in a process group of its own."""
        self._prepare()
        with (self.directory / "log" / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        return self._process

    def wait(self, seconds: float) -> None:
        """Wait until the node answers an AMQP handshake."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if self.answers():
                return
            time.sleep(0.1)
        raise RabbitError(f"RabbitMQ did not start on port {self.port}:\n{self._last_log()}")

    def answers(self) -> bool:
        """Whether an AMQP 0-9-1 protocol header is answered with Connection.Start."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.settimeout(2)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def virtual_host(self, name: str) -> str:
        """Create a virtual host through the management API and give its address."""
        login = base64.b64encode(b"guest:guest").decode()
        for path, body in (
            (f"vhosts/{name}", b"{}"),
            (f"permissions/{name}/guest", b'{"configure": ".*", "write": ".*", "read": ".*"}'),
        ):
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port + 1000}/api/{path}",
                data=body,
                method="PUT",
                headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=10).close()
        return f"{self.url}{name}"

    def stop(self) -> None:
        """Shut the node down, then its epmd; whatever does not go is killed."""
        process = self._process
        if process is not None and process.poll() is None:
            # One that does not even answer is killed below.
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [PROGRAMS / "rabbitmqctl", "shutdown", "--timeout", str(STOP_SECONDS)],
                    env=self._environment(),
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=STOP_SECONDS + 15,
                    check=False,
                )
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        self._end_epmd()

    def died(self) -> bool:
        """Whether a node that this object started has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL, as a power cut would; the directory stays for the next start."""
        process = self._process
        if process is not None:
            _kill_session(process.pid)
            process.wait(timeout=STOP_SECONDS)
            self._process = None

    def discard(self) -> None:
        """End the node and its epmd at once; for one whose messages nobody will want again."""
        self.kill()
        self._end_epmd()

    def _prepare(self) -> None:
        for name in ("home", "log", "mnesia"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        # epmd and the helper programs drop to no other user: the directory must be ours alone.
        self.directory.chmod(0o700)
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.port + 1000}\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self.directory / "home"),
            "ERL_EPMD_PORT": str(self.port + 3000),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"greenroom{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 2000),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_PID_FILE": str(self.directory / "rabbit.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # Busy-waiting schedulers would take both cores of a small machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }

    def _end_epmd(self) -> None:
        """End the private epmd, which outlives its node: it is the one that listens on our port."""
        for pid in _pids():
            try:
                arguments = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
                name = (Path("/proc") / str(pid) / "comm").read_text().strip()
            except OSError:
                continue
            if name == "epmd" and f"ERL_EPMD_PORT={self.port + 3000}".encode() in arguments:
                os.kill(pid, signal.SIGTERM)

    def _last_log(self) -> str:
        try:
            lines = (self.directory / "log" / "console.log").read_text(errors="replace").split("\n")
        except OSError:
            return "(no log)"
        return "\n".join(lines[-20:])


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _kill_session(leader: int) -> None:
    """SIGKILL every process of the session that ``leader`` leads, epmd excepted by being a daemon."""
    for pid in _pids():
        try:
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
