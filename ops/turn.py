"""A TURN server of our own on loopback, Debian's coturn: for the tests, and for trying the product with it.

It knows no users: whoever shows a name and a password made with the secret (models/turn.py) may relay. Without
TLS, and, other than a server on the net has to be, open towards this machine itself.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from ops.ports import free_port

PROGRAM = Path("/usr/bin/turnserver")
READY_SECONDS = 60
RELAYS = 20
"""Ports for relays: two for each person of a call, and some to spare."""


class TurnError(Exception):
    """The server could not be started."""


class TurnServer:
    """One coturn, as a child process; ``start`` waits until it answers."""

    def __init__(self, directory: Path, secret: str, *, host: str = "127.0.0.1", transport: str = "udp") -> None:
        """``transport``: by which clients are to come, ``udp`` or ``tcp``; it listens for both."""
        self.directory = directory
        self.host = host
        self.port = free_port(tuple(range(RELAYS)))
        self.url = f"turn:{host}:{self.port}?transport={transport}"
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self) -> list[str]:
        """The lines of its configuration."""
        return [
            "use-auth-secret",
            f"static-auth-secret={self._secret}",
            "realm=greenroom",
            f"listening-port={self.port}",
            f"min-port={self.port + 1}",
            f"max-port={self.port + RELAYS - 1}",
            f"listening-ip={self.host}",
            f"relay-ip={self.host}",
            "allow-loopback-peers",
            "no-cli",
            "no-tls",
            "no-dtls",
            "no-multicast-peers",
            f"userdb={self.directory / 'turndb'}",
            f"pidfile={self.directory / 'turnserver.pid'}",
            "log-file=stdout",
        ]

    def start(self) -> None:
        """Raises TurnError."""
        if not PROGRAM.exists():
            raise TurnError("coturn is not installed")
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = self.directory / "turnserver.conf"
        # In a file, so that no list of processes shows the secret.
        settings.touch(mode=0o600)
        settings.write_text("\n".join([*self.settings(), ""]))
        with (self.directory / "turnserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", settings],
                cwd=self.directory,
                env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        """Until a STUN binding request is answered."""
        request = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"are you here"
        until = time.monotonic() + READY_SECONDS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            while time.monotonic() < until and self._process is not None and self._process.poll() is None:
                probe.sendto(request, (self.host, self.port))
                try:
                    if probe.recv(2048)[8:20] == request[8:20]:
                        return
                except TimeoutError:
                    continue
        self.stop()
        raise TurnError(f"coturn does not answer; see {self.directory / 'turnserver.log'}")

    def stop(self) -> None:
        """End it; harmless to repeat."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
