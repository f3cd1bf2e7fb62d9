"""Ports for servers of our own, below the range from which the kernel takes those of outgoing connections.

A port from that range may be free when asked and taken a moment later by anybody's outgoing connection.
"""

from __future__ import annotations

import random
import socket

FIRST, LAST = 10_000, 28_999
_given: set[int] = set()


class NoPort(Exception):
    """Every port that was tried is taken."""


def free_port(offsets: tuple[int, ...] = (0,)) -> int:
    """A free TCP port on loopback, and free ones at those offsets from it; never given twice."""
    for _ in range(1000):
        port = random.randint(FIRST, LAST)  # noqa: S311 (so that two processes seldom meet)
        ports = {port + offset for offset in offsets}
        if not ports & _given and all(_is_free(one) for one in ports):
            _given.update(ports)
            return port
    raise NoPort("no free port")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
