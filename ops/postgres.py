"""A private PostgreSQL server in a directory of its own, for the tests and for trying the product on it.

``initdb`` and the server refuse root: as root they run under another uid that owns the directory.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from ops.ports import free_port

INSTALLATIONS = Path("/usr/lib/postgresql")
UNPRIVILEGED = ("postgres", "nobody")
PATIENCE = 11
"""How often the server is asked again while others are connected; it waits five seconds itself each time."""


class PostgresError(Exception):
    """The server could not be made or started."""


class PostgresServer:
    """One server on loopback; ``url(name)`` addresses a database that ``create`` made."""

    def __init__(self, directory: Path, port: int | None = None, *, durable: bool = True) -> None:
        """Without ``durable`` nothing waits for the disk: what a killed server wrote is still there, what a power
        cut interrupts is not. For tests, which make and drop databases by the hundred."""
        self.directory = directory.resolve()
        self.port = port or free_port()
        self._options = "" if durable else " -c fsync=off -c full_page_writes=off -c autovacuum=off"
        self._user = _unprivileged_user() if os.getuid() == 0 else None

    def start(self) -> None:
        """Make the cluster if there is none, start the server, wait until it answers."""
        if not (self.directory / "data" / "PG_VERSION").exists():
            self._make_cluster()
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
            f" -c max_connections=200{self._options}"
        )
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", "data", "-l", "server.log", "-o", options)

    def stop(self) -> None:
        """Stop without waiting for clients."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", "data")

    def kill(self) -> None:
        """SIGKILL the postmaster, as a power cut would; its children notice and follow."""
        pid = int((self.directory / "data" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, signal.SIGKILL)

    def create(self, name: str) -> str:
        """Create an empty database and give its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "greenroom", name)
        return self.url(name)

    def clone(self, template: str, name: str) -> str:
        """Create a database as a copy of another that nobody is connected to, and give its URL."""
        # Files are copied: cheaper than through the log where nothing waits for the disk.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._ask(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop(self, name: str) -> None:
        """Drop a database, its connections notwithstanding."""
        self._ask(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, name: str) -> str:
        """What DATABASE_URL has to be."""
        return f"postgresql://greenroom@127.0.0.1:{self.port}/{name}"

    def _ask(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for _ in range(PATIENCE):
                # On a busy machine a connection that was told to end may take longer than the server waits.
                with suppress(psycopg.errors.ObjectInUse):
                    connection.execute(statement)
                    return
            connection.execute(statement)

    def _make_cluster(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._run("initdb", "-D", "data", "-U", "greenroom", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def _run(self, program: str, *arguments: str) -> None:
        with (self.directory / "commands.log").open("ab") as log:
            # Not a pipe: the server inherits it from pg_ctl and would keep us waiting for its end.
            done = subprocess.run(
                [_programs() / program, *arguments],
                cwd=self.directory,
                env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": str(self.directory)},
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=120,
                check=False,
            )
        if done.returncode:
            raise PostgresError(f"{program} failed; see {self.directory / 'commands.log'}")


def _programs() -> Path:
    versions = sorted(INSTALLATIONS.glob("*/bin/initdb")) if INSTALLATIONS.exists() else []
    if not versions:
        raise PostgresError("postgresql is not installed")
    return versions[-1].parent


def _unprivileged_user() -> str:
    for name in UNPRIVILEGED:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresError("no unprivileged user to run PostgreSQL as")
