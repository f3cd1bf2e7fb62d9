"""The web app as it is deployed (gunicorn, one process, threads), and a media node that says what a test wants."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from ops.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
START_SECONDS = 120.0
SECRET = "a-key-for-tests-only-that-is-long-enough"
# Nothing listens there: REST needs no broker.
NO_BROKER = "amqp://guest:guest@127.0.0.1:9/"


def environment_for(database_url: str, amqp_url: str = NO_BROKER) -> dict[str, str]:
    """What an application of these tests is started with."""
    return {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "PUBLIC_URL": "http://localhost:8080",
        "CORS_ORIGINS": "https://partner.example",
        "TESTING": "1",
    }


class LiveWeb:
    """One gunicorn process that serves ``web:create_app()``."""

    def __init__(
        self,
        environment: dict[str, str],
        *,
        worker: str = "web.worker.Worker",
        threads: int = 64,
        log: IO[bytes] | None = None,
    ) -> None:
        self.port = free_port()
        self.origin = f"http://localhost:{self.port}"
        # Warnings are errors here too.
        strict = {"PYTHONWARNINGS": "error::DeprecationWarning:web,error::DeprecationWarning:models"}
        settings = environment | strict | {"PUBLIC_URL": self.origin, "LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", worker]
        command += ["--threads", str(threads)]
        command += ["--worker-connections", "200", "--graceful-timeout", "1", "--log-level", "warning"]
        command += ["-b", f"127.0.0.1:{self.port}", "web:create_app()"]
        self._addresses = itertools.count(1)
        self.address = ""
        self.move()
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stderr=log)

    def __enter__(self) -> LiveWeb:
        given_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < given_up_at:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                    return self
            except OSError:
                assert self._process.poll() is None, "the web app did not start"
                threading.Event().wait(0.05)
        # Nobody else ends what was never entered, and what is left would fail some later test.
        self._end()
        raise AssertionError("the web app does not answer")

    def move(self) -> None:
        """Call from another address from now on."""
        self.address = f"198.18.{next(self._addresses)}.1"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def socket(
        self, path: str, *, bearer: str | None = None, origin: str | None = "own", **more: Any
    ) -> ClientConnection:
        """A WebSocket to ``path``, from our own pages unless told otherwise."""
        headers = {"X-Forwarded-For": self.address} | more.pop("headers", {})
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            origin=self.origin if origin == "own" else origin,
            additional_headers=headers,
            proxy=None,
            compression=None,
            close_timeout=10,
            max_size=None,
            **more,
        )


class FakeNode:
    """A media node's signaling side: remembers what it hears, says what it is told."""

    def __init__(self) -> None:
        self.heard: queue.Queue[str | int | None] = queue.Queue()
        self.connections: queue.Queue[ServerConnection] = queue.Queue()
        self.reading = threading.Event()
        self.reading.set()
        self._server: Server = serve(self._serve, "127.0.0.1", 0, max_size=None, compression=None)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/signaling"

    def _serve(self, connection: ServerConnection) -> None:
        self.connections.put(connection)
        try:
            while True:
                self.reading.wait()
                message = connection.recv()
                assert isinstance(message, str)
                self.heard.put(message)
        except ConnectionClosed:
            self.heard.put(connection.close_code)

    def connection(self) -> ServerConnection:
        """The next one that the web app opened."""
        return self.connections.get(timeout=PATIENCE)

    def hear(self) -> str | int | None:
        """The next message, or the close code."""
        return self.heard.get(timeout=PATIENCE)

    def vanish(self) -> None:
        """Die as a killed process does: no goodbye on any connection."""
        connection = self.connection()
        connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.reading.set()
        self._server.shutdown()
        self._thread.join(PATIENCE)


def close_code(client: ClientConnection) -> int | None:
    """Read until the other side closes; the code it closed with."""
    try:
        while True:
            client.recv(timeout=PATIENCE)
    except ConnectionClosed:
        return client.close_code
