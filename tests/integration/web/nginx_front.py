"""A real nginx with the configuration of deploy/nginx, and raw requests that no client tidies up."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from models.config import Settings
from ops.ports import free_port
from web import nginx
from web.nginx import Door

START_SECONDS = 120.0
MODULE = "/usr/lib/nginx/modules/ngx_http_js_module.so"
MAIN = """load_module {module};
user root;
daemon off;
pid {directory}/nginx.pid;
worker_processes 1;
error_log {directory}/main.log warn;
events {{ worker_connections 512; }}
http {{
    {paths}
    include {include};
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of a problem document; empty when it is none."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(msgspec.json.decode(self.body)["code"])


def ask(port: int, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own, its path sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Nginx:
    """nginx in front of whatever listens at the settings' HOST and PORT."""

    def __init__(self, directory: Path, settings: Settings, *, certificate: tuple[str, str] = ("", "")) -> None:
        self.port = free_port()
        self.access_log, self.error_log = directory / "access.log", directory / "error.log"
        door = Door(
            listen=f"127.0.0.1:{self.port}",
            certificate=certificate[0],
            certificate_key=certificate[1],
            access_log=str(self.access_log),
            error_log=str(self.error_log),
        )
        include = nginx.write(directory, settings, door)
        paths = " ".join(f"{name}_temp_path {directory}/{name};" for name in TEMPORARY)
        self._main = directory / "nginx.conf"
        self._main.write_text(MAIN.format(module=MODULE, directory=directory, paths=paths, include=include))

    def __enter__(self) -> Nginx:
        self._process = subprocess.Popen(["/usr/sbin/nginx", "-c", str(self._main)])
        given_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < given_up_at:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return self
            except OSError:
                assert self._process.poll() is None, "nginx did not start"
                threading.Event().wait(0.05)
        self._end()
        raise AssertionError("nginx takes no connections")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
