"""Network namespaces without a name, each joined to the node's by a bad line of its own; gone with this process.

Needs root, as namespaces and TUN devices do; nothing of the machine's own network is touched. ``Net()`` moves the
calling thread, so it is made before any other thread is, and everything started afterwards is at the node's place.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shlex
import socket
import struct
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.impaired_link import Condition, Passed

NODE_ADDRESS = "10.77.0.1"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x1001
_libc = ctypes.CDLL(None, use_errno=True)


class Net:
    """The place where the node lives, and its clients' places."""

    def __init__(self) -> None:
        """Move this thread into a new namespace. OSError without the right to."""
        self._home = _new_namespace()
        shell("ip link set lo up")
        shell(f"ip address add {NODE_ADDRESS}/32 dev lo")
        # From one client to another, over both lines, as it is through the node.
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def client(self, number: int, seed: int) -> Client:
        """A place behind a line of its own."""
        address = f"10.77.{number}.2"
        here = _tun(f"client{number}")
        shell(f"ip link set client{number} up")
        shell(f"ip route add 10.77.{number}.0/24 dev client{number}")
        place = _new_namespace()
        there = _tun("line")
        for command in ("lo up", "line up"):
            shell(f"ip link set {command}")
        shell(f"ip address add {address}/32 dev line")
        shell("ip route add default dev line")
        _enter(self._home)
        return Client(place, address, there, here, seed)


class Client:
    """A namespace, and the line that joins it to the node's."""

    def __init__(self, place: int, address: str, there: int, here: int, seed: int) -> None:
        self.address = address
        self._first = address
        self._place = place
        self.enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{place}"]
        """Before a command: it runs at this place."""
        self._line = subprocess.Popen(
            [sys.executable, "-m", "bench.impaired_link", str(there), str(here), str(seed)],
            pass_fds=(there, here),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(there)
        os.close(here)

    def set(self, condition: Condition) -> tuple[Passed, Passed]:
        """The line is so from now on; what passed until now, from the client and to it."""
        assert self._line.stdin is not None
        assert self._line.stdout is not None
        self._line.stdin.write(msgspec.json.encode(condition).decode() + "\n")
        self._line.stdin.flush()
        up, down = (msgspec.convert(each, Passed) for each in json.loads(self._line.stdout.readline()))
        return up, down

    def move(self) -> None:
        """Another address, as a phone gets that leaves its Wi-Fi; back to the first one if it has moved before."""
        prefix, _, last = self.address.rpartition(".")
        new = f"{prefix}.{5 - int(last)}"
        for command in (f"add {new}/32", f"del {self.address}/32"):
            change = ["ip", "address", *command.split(), "dev", "line"]
            subprocess.run([*self.enter, *change], check=True, timeout=10)
        self.address = new

    def reset(self) -> None:
        """As it was at first."""
        if self.address != self._first:
            self.move()
        self.set(Condition())

    def program(self, path: Path, command: str) -> Path:
        """A script at ``path`` that runs ``command`` in this place, for who only takes a program's name."""
        path.write_text(f'#!/bin/sh\nexec {shlex.join(self.enter)} {command} "$@"\n')
        path.chmod(0o755)
        return path

    def connected(self, port: int) -> socket.socket:
        """A socket at this place, connected to something that listens there on loopback. OSError if nothing does.

        Moves the calling thread for a moment.
        """
        with open("/proc/thread-self/ns/net") as before:
            _enter(self._place)
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5)
            finally:
                _enter(before.fileno())

    def close(self) -> None:
        """End the line."""
        assert self._line.stdin is not None
        self._line.stdin.close()
        self._line.wait(10)


def shell(command: str) -> None:
    """Run a command; CalledProcessError when it fails."""
    subprocess.run(command.split(), check=True, timeout=10)


def _new_namespace() -> int:
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace: this needs root")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(place: int) -> None:
    if _libc.setns(place, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the namespace is gone")


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_WITHOUT_HEADER))
    return device
