"""WebSockets (RFC 6455): flask-sock's routes over a simple-websocket server that cannot be filled or torn.

The library parses, pings and keeps the connection; it trusts both sides to be quick and polite. What is
added here bounds what a peer may leave unread, makes writes whole and one at a time, and lets the last
message arrive before the end. Why each override: docs/decisions/0003-websockets.md. Works under gunicorn's
``gthread`` and Werkzeug's threaded server. Must not know what the messages mean.
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any

import flask_sock
import simple_websocket
from flask import Blueprint, Flask
from werkzeug.exceptions import BadRequest
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
# Above this many unread messages nothing more is read, and TCP holds the sender back.
MOST_UNREAD = 4

# The connection is over; ``reason`` is the code that the other side said (1005: nothing).
Closed = simple_websocket.ConnectionClosed


class Wire:
    """The WSGI server's socket as simple-websocket gets it: whole writes, one at a time, no hard close."""

    def __init__(self, sock: socket.socket) -> None:
        limit_sending(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.writing = threading.RLock()
        self._socket = sock
        self._cut = False

    def fileno(self) -> int:
        """For the selector that waits for the next ping or message."""
        return self._socket.fileno()

    def recv(self, size: int) -> bytes:
        """At most ``size`` bytes; none when either side has ended."""
        return b"" if self._cut else self._socket.recv(size)

    def send(self, data: bytes) -> int:
        """Send all of it. Raises OSError when the other side takes nothing; half a frame ends the connection."""
        with self.writing:
            try:
                self._socket.sendall(data)
            except OSError:
                self.cut()
                raise
        return len(data)

    def close(self) -> None:
        """Nothing: the socket is the WSGI server's. Closed over unread bytes, it would reset the connection."""

    def drain(self) -> None:
        """Say that no more comes, and read until the other side has ended too, or ``cut``."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self.recv(65536):
                pass

    def cut(self) -> None:
        """End it now; also wakes a thread that still waits to read."""
        self._cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class BoundedServer(simple_websocket.Server):  # type: ignore[misc]
    """The server's end. Its own thread reads; ``send`` and ``close`` may come from any, ``receive`` from one."""

    def __init__(self, environ: dict[str, Any], **options: Any) -> None:
        self._room = threading.Condition()
        self._over = False
        # Not offered, not negotiated: a small compressed frame must not become a large message.
        offered = {key: value for key, value in environ.items() if key != "HTTP_SEC_WEBSOCKET_EXTENSIONS"}
        for key in ("werkzeug.socket", "gunicorn.socket"):
            if key in offered:
                offered[key] = Wire(offered[key])
        super().__init__(offered, **options)

    def handshake(self) -> None:
        """Answer it; raises BadRequest when it is none."""
        try:
            super().handshake()
        except (RemoteProtocolError, OSError) as error:
            raise BadRequest("This is no WebSocket handshake.") from error

    def send(self, data: str | bytes) -> None:
        """Send one message. Raises Closed, also when the other side takes nothing any more."""
        with self.sock.writing:
            try:
                super().send(data)
            except (OSError, LocalProtocolError) as error:
                raise Closed(ABNORMAL) from error

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message; None after ``timeout`` seconds. Raises Closed."""
        message: str | bytes | None = super().receive(timeout)
        with self._room:
            self._room.notify_all()
        # The library's limit counts characters.
        if isinstance(message, str) and len(message.encode()) > MAX_FRAME_BYTES:
            self.close(TOO_BIG)
            raise Closed(TOO_BIG)
        return message

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Say goodbye once, and wait a little until the other side has taken all and ended."""
        with self.sock.writing:
            if not self._over and self.connected:
                with suppress(OSError, LocalProtocolError):
                    super().close(reason, message)
            self._end()
        if threading.current_thread() is not self.thread:
            self.thread.join(CLOSE_TIMEOUT_SECONDS)
            self.sock.cut()
            self.thread.join()

    def _end(self) -> None:
        with self._room:
            self._over, self.connected = True, False
            self._room.notify_all()
        self.event.set()

    def _handle_events(self) -> bool:
        """What the library does with what was just read; back for more when there is room for it."""
        with self.sock.writing:
            going: bool = super()._handle_events()
        # Whoever says anything lives; their pong may be far behind what nobody has read yet.
        self.pong_received = True
        with self._room:
            self._room.wait_for(lambda: not going or self._over or len(self.input_buffer) <= MOST_UNREAD)
        return going and not self._over

    def _thread(self) -> None:
        """The library's reader, whose end is heard by whoever waits to receive."""
        try:
            super()._thread()
        finally:
            self._end()
            self.sock.drain()


Talk = Callable[[BoundedServer], None]
_sock = flask_sock.Sock()


def init_app(app: Flask) -> None:
    """Let flask-sock serve ``app`` with servers of ours."""
    # flask-sock has no option for it; a test holds that its routes look the class up by this name.
    flask_sock.Server = BoundedServer
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_FRAME_BYTES,
        # A process that ends does not wait for its readers.
        "thread_class": partial(threading.Thread, daemon=True),
        # epoll would cost a second descriptor for each socket.
        "selector_class": selectors.PollSelector,
    }


def route(blueprint: Blueprint, path: str) -> Callable[[Talk], Talk]:
    """flask-sock's route; a ``talk`` that fails closes with 1011 and writes no HTTP error to the socket."""

    def decorate(talk: Talk) -> Talk:
        @wraps(talk)
        def guarded(ws: BoundedServer) -> None:
            try:
                talk(ws)
            except Closed:
                log.event("socket_gone", level=logging.DEBUG)
            except Exception:
                log.failure("socket_failed")
                ws.close(INTERNAL)

        _sock.route(path, bp=blueprint)(guarded)
        return talk

    return decorate


def limit_sending(sock: socket.socket) -> None:
    """Let a blocking send on ``sock`` fail after ``SEND_TIMEOUT_SECONDS`` instead of waiting for ever."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_SECONDS, 0))
