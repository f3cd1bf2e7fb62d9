"""A RabbitMQ that does not answer is ended all the same: nothing that was started is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from ops import rabbitmq
from ops.ports import free_port


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_broker_that_does_not_answer_its_shutdown_is_killed(
    servers_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a node that stands still
    node = rabbitmq.RabbitNode(servers_directory / "stubborn", free_port(rabbitmq.PORT_OFFSETS))
    node.start()
    try:
        before = _of(node.directory)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(rabbitmq, "STOP_SECONDS", 5)
        # when
        node.stop()
        # then
        assert before
        assert not _of(node.directory)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", node.port), timeout=5)
    finally:
        node.discard()


def test_a_broker_that_does_not_start_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a server that runs, and takes no connection
    program = tmp_path / "rabbitmq-server"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(rabbitmq, "PROGRAMS", tmp_path)
    node = rabbitmq.RabbitNode(tmp_path / "node", free_port(rabbitmq.PORT_OFFSETS))
    spawned: list[subprocess.Popen[bytes]] = []
    spawn = node.spawn

    def remembered() -> subprocess.Popen[bytes]:
        spawned.append(spawn())
        return spawned[-1]

    monkeypatch.setattr(node, "spawn", remembered)
    try:
        # when
        with pytest.raises(rabbitmq.RabbitError, match="did not start"):
            node.start(seconds=0)
        # then
        assert [process.poll() for process in spawned] == [-signal.SIGKILL]
        assert node.process is None
    finally:
        node.discard()


def _of(directory: Path) -> list[int]:
    """The node's own process, told by the directory that its command line names."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"beam" in command and str(directory).encode() in command:
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
