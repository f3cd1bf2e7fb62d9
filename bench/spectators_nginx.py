"""An nginx before the bench's house, configured as deploy/nginx says, and what reached the app behind it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType

from bench.spectators_origin import Visit
from models.config import Settings
from ops.ports import free_port
from web import nginx
from web.nginx import Door

_MODULE = "/usr/lib/nginx/modules/ngx_http_js_module.so"
_MAIN = """load_module {module};
user root;
daemon off;
pid {directory}/nginx.pid;
worker_processes auto;
worker_rlimit_nofile 16384;
error_log {directory}/main.log warn;
events {{ worker_connections 8192; }}
http {{
    keepalive_requests 100000;
    {paths}
    include {include};
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_PATIENCE_SECONDS = 10.0


class Front:
    """A running nginx; ``address`` is where it answers."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        directory.mkdir()
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._where = "127.0.0.1", port
        door = Door(
            listen=f"127.0.0.1:{port}",
            access_log=str(directory / "access.log"),
            error_log=str(directory / "error.log"),
        )
        include = nginx.write(directory, settings, door)
        paths = " ".join(f"{name}_temp_path {directory}/{name};" for name in _TEMPORARY)
        self._main = directory / "nginx.conf"
        self._main.write_text(_MAIN.format(module=_MODULE, directory=directory, paths=paths, include=include))

    def __enter__(self) -> Front:
        self._process = subprocess.Popen(["/usr/sbin/nginx", "-c", str(self._main)])
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(self._where, timeout=5).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The master's."""
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE_SECONDS)


def answered(app: str) -> dict[str, int]:
    """How many requests the app itself has answered so far, by method and route. Raises OSError."""
    with urllib.request.urlopen(f"{app}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, int] = {}
    for labels, count in re.findall(r"^greenroom_http_requests_total\{(.+?)\} (\S+)$", text, re.MULTILINE):
        said = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        name = f"{said['method']} {said['route']}"
        found[name] = found.get(name, 0) + int(float(count))
    return found


def visit(app: str, room_id: str) -> Visit:
    """One visitor's page. Raises OSError."""
    with urllib.request.urlopen(f"{app}/models", timeout=30) as answer:
        text, cookies = answer.read().decode(), answer.headers.get_all("Set-Cookie") or []
    token = re.search(r'<meta name="csrf-token" content="([^"]+)"', text)
    if token is None:
        raise OSError("the page has no token")
    return Visit(room_id, "; ".join(cookie.partition(";")[0] for cookie in cookies), token[1])
