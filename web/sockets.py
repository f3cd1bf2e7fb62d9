"""A WebSocket (RFC 6455) on the socket that the WSGI server hands over: one thread, real back-pressure.

The caller's own thread reads, so nothing is buffered beyond one message and a slow consumer slows the
sender through TCP. Writes are whole and one at a time. Compression is not negotiated: a small frame must
not become a large one. Works under gunicorn's ``gthread`` and Werkzeug's threaded server.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from flask import Response
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from models import log
from models.messages.signaling import MAX_FRAME_BYTES

NORMAL, GOING_AWAY, UNSUPPORTED, POLICY, TOO_BIG = 1000, 1001, 1003, 1008, 1009
INTERNAL, RESTART, TRY_LATER = 1011, 1012, 1013
ABNORMAL = 1006

PING_SECONDS = 20.0
# A peer whose TCP window stays shut for this long is gone.
SEND_TIMEOUT_SECONDS = 10
# How long the other side may take to answer our close.
CLOSE_TIMEOUT_SECONDS = 2.0


class Closed(Exception):
    """The connection is over; ``code`` is what the other side said (1006: nothing)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class WebSocket:
    """The server's end. One thread reads; ``send`` and ``close`` may come from any."""

    def __init__(self, environ: dict[str, Any]) -> None:
        """Answer the handshake. Raises RemoteProtocolError when it is none, RuntimeError without a socket."""
        sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if sock is None:
            raise RuntimeError("This WSGI server hands over no socket.")
        self._socket: socket.socket = sock
        limit_sending(self._socket)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._lock = threading.Lock()
        self._ready: deque[str | bytes] = deque()
        self._partial: list[str | bytes] = []
        self._partial_bytes = 0
        self._closed: int | None = None
        self._unanswered_ping = False
        self._next_ping = time.monotonic() + PING_SECONDS
        self._handshake(environ)

    @property
    def closed(self) -> bool:
        """Whether anything more can be sent."""
        return self._closed is not None

    def receive(self, timeout: float | None = None, wake: int | None = None) -> str | bytes | None:
        """The next message; None when ``timeout`` seconds passed or the descriptor ``wake`` became readable.

        Raises Closed. Keeps the connection alive by pings meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            if self._closed is not None:
                raise Closed(self._closed)
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return None
            until = self._next_ping if deadline is None else min(deadline, self._next_ping)
            readable = self._wait(max(0.0, until - now), wake)
            if self._socket.fileno() in readable:
                self._read()
            elif readable:
                return None
            elif time.monotonic() >= self._next_ping:
                self._ping()
        return self._ready.popleft()

    def send(self, text: str) -> None:
        """Send one text message. Raises Closed, also when the other side takes nothing any more."""
        with self._lock:
            if self._closed is not None:
                raise Closed(self._closed)
            self._write(self._protocol.send(TextMessage(data=text)))
            if self._closed is not None:
                raise Closed(self._closed)

    def close(self, code: int = NORMAL) -> None:
        """Say goodbye and stop; does nothing when it is over already."""
        with self._lock:
            if self._closed is not None:
                return
            try:
                goodbye = self._protocol.send(CloseConnection(code=code))
            except LocalProtocolError:
                goodbye = b""
            self._write(goodbye)
            self._closed = code
        self._linger()

    def _handshake(self, environ: dict[str, Any]) -> None:
        lines = ["GET / HTTP/1.1"]
        for key, value in environ.items():
            if key.startswith("HTTP_") and isinstance(value, str):
                lines.append(f"{key[5:].replace('_', '-').title()}: {value}")
        self._protocol.receive_data(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if not any(isinstance(event, Request) for event in self._protocol.events()):
            raise RemoteProtocolError("no request")
        self._write(self._protocol.send(AcceptConnection()))

    def _wait(self, seconds: float, wake: int | None) -> set[int]:
        # poll, not select: descriptors above 1,023 are ordinary here.
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN)
        if wake is not None:
            poller.register(wake, select.POLLIN)
        return {descriptor for descriptor, _ in poller.poll(seconds * 1000)}

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        with self._lock:
            if self._closed is not None:
                return
            if not data:
                self._closed = ABNORMAL
                return
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    self._take(event)
            except (LocalProtocolError, RemoteProtocolError):
                self._closed = ABNORMAL

    def _take(self, event: object) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._collect(event)
        elif isinstance(event, Ping):
            self._write(self._protocol.send(event.response()))
        elif isinstance(event, Pong):
            self._unanswered_ping = False
        elif isinstance(event, CloseConnection):
            try:
                self._write(self._protocol.send(event.response()))
            except LocalProtocolError:
                log.event("socket_closed_both_ways", level=logging.DEBUG)
            self._closed = event.code

    def _collect(self, event: TextMessage | BytesMessage) -> None:
        """Put a message together from its frames; bounded by what the protocol allows."""
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        self._partial_bytes += len(data.encode()) if isinstance(data, str) else len(data)
        if self._partial_bytes > MAX_FRAME_BYTES:
            self._write(self._protocol.send(CloseConnection(code=TOO_BIG)))
            self._closed = TOO_BIG
            return
        self._partial.append(data)
        if event.message_finished:
            parts, self._partial, self._partial_bytes = self._partial, [], 0
            if isinstance(event, TextMessage):
                self._ready.append("".join(part for part in parts if isinstance(part, str)))
            else:
                self._ready.append(b"".join(part for part in parts if isinstance(part, bytes)))

    def _ping(self) -> None:
        with self._lock:
            if self._closed is not None:
                return
            if self._unanswered_ping:
                self._closed = ABNORMAL
                return
            self._unanswered_ping = True
            self._next_ping = time.monotonic() + PING_SECONDS
            self._write(self._protocol.send(Ping()))

    def _write(self, data: bytes) -> None:
        """Send all of it; the caller holds the lock. A peer that does not take it is gone."""
        try:
            self._socket.sendall(data)
        except OSError:
            self._closed = ABNORMAL

    def _linger(self) -> None:
        """Let the last message arrive: closing with unread bytes would reset the connection."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_SECONDS
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                if not self._wait(left, None) or not self._socket.recv(65536):
                    break
            # Also wakes a thread that still waits to read.
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.event("socket_gone_first", level=logging.DEBUG)


def limit_sending(sock: socket.socket) -> None:
    """Let a blocking send on ``sock`` fail after ``SEND_TIMEOUT_SECONDS`` instead of waiting for ever."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_SECONDS, 0))


class HandedOver(Response):
    """The answer of a view whose connection became a WebSocket: nothing more is written to it."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """WSGI's entry; gunicorn takes StopIteration as "the connection is mine no longer"."""
        if "gunicorn.socket" in environ:
            raise StopIteration
        return super().__call__(environ, start_response)


def serve(environ: dict[str, Any], talk: Callable[[WebSocket], None]) -> Response:
    """Upgrade the connection, let ``talk`` have it, and close it whatever happens."""
    connection = WebSocket(environ)
    try:
        talk(connection)
        connection.close()
    except Closed:
        log.event("socket_gone", level=logging.DEBUG)
    except Exception:
        log.failure("socket_failed")
        connection.close(INTERNAL)
    return HandedOver()
