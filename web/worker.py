"""gunicorn's threaded worker, for clients that do not finish what they began.

gthread gives a request its thread at the first byte and then waits for the rest for ever, so that as many
half-sent requests as there are threads are the end of the service. Here a request has a time to arrive in,
and an answer a time to be taken in. gthread also waits, two seconds each and in the one thread that accepts
connections, for clients to hang up; here the request's own thread does. Sockets that a view has taken over
are its own business.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.http import get_parser  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

ARRIVAL_SECONDS = 15.0
SEND_SECONDS = 15
LINGER_SECONDS = 2.0
LINGER_BYTES = 65536


class Arriving:
    """A client's socket as the HTTP parser reads it: all of one request within ``seconds``."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket, self._seconds = sock, seconds
        self._until: float | None = None
        self.late = False

    def begin(self) -> None:
        """The next byte is the first of another request."""
        self._until = None

    def recv(self, size: int) -> bytes:
        """Some bytes, or none at the end. Raises ConnectionResetError when the time is over."""
        now = time.monotonic()
        self._until = now + self._seconds if self._until is None else self._until
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if not poller.poll(max(0.0, self._until - now) * 1000):
            self.late = True
            raise ConnectionResetError(errno.ECONNRESET, "The request did not arrive in time.")
        return self._socket.recv(size)

    def gettimeout(self) -> float | None:
        """For gunicorn's draining of bodies that nobody read."""
        return self._socket.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """The same."""
        self._socket.settimeout(seconds)


class Worker(ThreadWorker):  # type: ignore[misc]
    """What ``--worker-class`` names in the Procfile."""

    arrival_seconds = ARRIVAL_SECONDS

    def init_process(self) -> None:
        """Called in the worker's process, before it serves."""
        self.log.error_log.addFilter(worth_saying)
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        """Each request passes here once (a deferred one again): the first of a connection and all others."""
        if conn.parser is None:
            limit = struct.pack("ll", SEND_SECONDS, 0)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            conn.parser = get_parser(self.cfg, Arriving(conn.sock, self.arrival_seconds), conn.client)
            conn.close = partial(close, conn.sock)
        conn.parser.unreader.sock.begin()
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """One request, in a thread of the pool. What is not kept alive is over when this returns."""
        going_on = super().handle(conn)
        if not going_on and not conn.parser.unreader.sock.late:
            linger(conn.sock)
        return going_on


def linger(sock: socket.socket) -> None:
    """Let the last bytes arrive: closing with unread ones would reset the connection (RFC 9112 section 9.6)."""
    deadline, unread = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
    poller = select.poll()
    with suppress(OSError, ValueError):
        sock.shutdown(socket.SHUT_WR)
        poller.register(sock, select.POLLIN)
        while unread > 0 and poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            got = len(sock.recv(LINGER_BYTES))
            unread = unread - got if got else 0


def close(sock: socket.socket, graceful: bool = False) -> None:
    """Close at once, whatever gunicorn asks for: who had to linger has done so."""
    with suppress(OSError):
        sock.close()


def worth_saying(record: logging.LogRecord) -> bool:
    """Not who sent what is no HTTP (with address and words), nor the traceback of who stopped reading."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, BlockingIOError) or str(record.msg).startswith("Invalid request from ip="))
