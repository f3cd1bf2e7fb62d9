"""The signaling pipe: one origin for browsers, whichever media node holds the room.

Reads the first frames itself until a JOIN_ROOM whose grant is ours, then moves frames both ways unread.
Each frame is taken from one side only when the other has taken the one before, so a flood or a slow peer
fills nobody's memory. Must not know what the messages after the join mean.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec
from flask import Blueprint, request
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from models import grants, log
from models.clock import utc_now
from models.errors import DomainError, Forbidden, NotFound
from models.messages import signaling
from models.messages.signaling import ErrorCode, JoinRoom
from models.services import rooms
from web import limits, sockets
from web.api.errors import Refusal
from web.auth import bearer_token
from web.context import Greenroom, cause_id, greenroom
from web.security import origin_allowed
from web.sockets import BoundedServer, Closed

MESSAGES_PER_SECOND = 50
BURST = 100
# Before a join there is nothing to send twice.
MOST_BEFORE_JOIN = 20
NODE_OPEN_SECONDS = 3.0
NODE_CLOSE_SECONDS = 2.0
# One that stands still is taken for lost after some six seconds; whoever is in its rooms is to hear of it then.
NODE_PING_SECONDS, NODE_PONG_SECONDS = 4.0, 6.0
OPENING_SECONDS = 2.0
OPENING_LOOK_SECONDS = 0.02
GONE_LOOK_SECONDS = 0.1
# Above the 64 KiB that clients may send: an offer for a full room is the node's own affair.
MAX_NODE_FRAME_BYTES = 1024 * 1024
# Closes that say something about the node, not about the call.
_NODE_WENT_AWAY = frozenset({sockets.ABNORMAL, sockets.GOING_AWAY, sockets.INTERNAL, sockets.RESTART})


class Bucket:
    """A token bucket: ``rate`` a second, ``burst`` at once. Time in seconds, given by the caller."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        """Whether one more is within the rate."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Refused(Exception):
    """Say ERROR and close."""

    def __init__(self, code: ErrorCode, message: str, close: int = sockets.POLICY) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.close = close


class Gone(Refused):
    """The node's process is not there, at this moment."""


blueprint = Blueprint("signaling", __name__)


@blueprint.before_request
def admit() -> None:
    """Origin and rate are checked while the answer can still be a problem document."""
    check_socket_origin()
    limits.enforce((limits.SIGNALING, limits.client_address()))


def check_socket_origin() -> None:
    """Raises Refusal: a browser's page must be ours or on the list; without Origin it takes a bearer."""
    origin = request.headers.get("Origin")
    if origin is None and bearer_token() is not None:
        return
    if origin is None or not origin_allowed(greenroom().settings, origin):
        raise Refusal(403, "Sockets are for our own pages and for programs with a bearer.", code="ORIGIN_REFUSED")


@sockets.route(blueprint, "/api/rtc/signaling")
def talk(ws: BoundedServer) -> None:
    """One browser's conversation with the node that holds its room."""
    house, bearer, cause = greenroom(), bearer_token(), cause_id()
    with house.metrics.pipes.track_inprogress():
        try:
            bucket = Bucket(MESSAGES_PER_SECOND, BURST, time.monotonic())
            first, join = _await_join(ws, bearer, bucket)
            _check_grant(house, join, bearer)
            with _reach(house, join.room_id) as node:
                log.event("pipe_opened", room_id=join.room_id, user_id=join.user_id, cause_id=cause)
                code = Pipe(ws, node, bucket).run(first)
            log.event("pipe_closed", room_id=join.room_id, user_id=join.user_id, code=code, cause_id=cause)
        except Refused as refusal:
            ws.send(_error(refusal.code, refusal.message))
            ws.close(refusal.close)


def _await_join(ws: BoundedServer, bearer: str | None, bucket: Bucket) -> tuple[str, JoinRoom]:
    """The JOIN_ROOM to pass on, with its grant inside. PING is answered meanwhile."""
    deadline = time.monotonic() + signaling.JOIN_TIMEOUT_SECONDS
    for _ in range(MOST_BEFORE_JOIN):
        frame = ws.receive(timeout=max(0.0, deadline - time.monotonic()))
        if frame is None:
            raise Refused("BAD_MESSAGE", "No JOIN_ROOM in time.")
        if not bucket.take(time.monotonic()):
            break
        message = _decode(frame)
        if isinstance(message, JoinRoom):
            if message.grant is None and bearer is not None:
                message = msgspec.structs.replace(message, grant=bearer)
            return signaling.encode(message).decode(), message
        if isinstance(message, signaling.Ping):
            ws.send(signaling.encode(signaling.Pong()).decode())
        else:
            ws.send(_error("BAD_MESSAGE", "JOIN_ROOM comes first."))
    raise Refused("RATE_LIMITED", "Too many messages before a join.")


def _decode(frame: str | bytes) -> signaling.ClientMessage | None:
    if isinstance(frame, bytes):
        return None
    try:
        return signaling.decode_client(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _check_grant(house: Greenroom, join: JoinRoom, bearer: str | None) -> None:
    """Raises Refused unless it is a grant for just that room as just that user."""
    try:
        grant = grants.verify(join.grant or "", house.settings.key("grants"), utc_now().timestamp())
    except Forbidden as error:
        raise Refused("FORBIDDEN", error.detail) from error
    if (grant.room_id, grant.user_id) != (join.room_id, join.user_id):
        raise Refused("FORBIDDEN", "The grant is for another room or user.")
    if bearer is not None and bearer != join.grant:
        raise Refused("FORBIDDEN", "Two different grants.")


def _reach(house: Greenroom, room_id: str) -> ClientConnection:
    """A connection to the node that the room is on, looked up anew as long as there is hope.

    Accepted a moment ago, the node's confirmation is on its way. And a node that refuses connections has died
    just now: its next life is on its way, or the room is on another node as soon as that is noticed.
    """
    patient_until = time.monotonic() + OPENING_SECONDS
    while True:
        try:
            with house.database.reading() as tx:
                url = rooms.signaling_url(tx, room_id)
            return _connect(url)
        except NotFound as error:
            raise Refused("ROOM_NOT_FOUND", error.detail) from error
        except DomainError as error:
            if error.code != "ROOM_OPENING" or time.monotonic() > patient_until:
                raise Refused("UNAVAILABLE", error.detail, sockets.TRY_LATER) from error
            pause = OPENING_LOOK_SECONDS
        except Gone as gone:
            if time.monotonic() > patient_until:
                raise
            log.event("media_node_awaited", level=logging.DEBUG, room_id=room_id, error=gone.message)
            pause = GONE_LOOK_SECONDS
        time.sleep(pause)


def _connect(url: str) -> ClientConnection:
    """Raises Refused, and Gone when nobody listens there."""
    try:
        node = connect(
            url,
            open_timeout=NODE_OPEN_SECONDS,
            close_timeout=NODE_CLOSE_SECONDS,
            ping_interval=NODE_PING_SECONDS,
            ping_timeout=NODE_PONG_SECONDS,
            max_size=MAX_NODE_FRAME_BYTES,
            compression=None,
            proxy=None,
        )
    except ConnectionRefusedError as error:
        raise Gone("UNAVAILABLE", "The media service does not answer.", sockets.TRY_LATER) from error
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException) as error:
        log.event("media_node_unreachable", level=logging.WARNING, error=type(error).__name__)
        raise Refused("UNAVAILABLE", "The media service does not answer.", sockets.TRY_LATER) from error
    # A node that takes nothing any more is as good as gone.
    sockets.limit_sending(node.socket)
    return node


class Pipe:
    """Two sockets joined. This thread moves frames to the node, a second one moves them back.

    After the join the second thread alone writes to the browser, its last word included.
    """

    def __init__(
        self,
        ws: BoundedServer,
        node: ClientConnection,
        bucket: Bucket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ws, self._node = ws, node
        self._bucket, self._clock = bucket, clock
        self._last_word: Refused | None = None

    def run(self, first: str) -> int:
        """Move frames until either side ends; returns the code the browser's side closed with."""
        back = threading.Thread(target=self._node_to_browser, name="signaling-back", daemon=True)
        back.start()
        code = sockets.ABNORMAL
        try:
            self._node.send(first)
            self._browser_to_node()
        except Closed as closed:
            code = closed.reason
        except ConnectionClosed:
            log.event("node_closed_first", level=logging.DEBUG)
        finally:
            self._node.close()
            back.join()
        return code

    def _browser_to_node(self) -> None:
        while True:
            frame = self._ws.receive()
            if frame is None:
                continue
            if not self._bucket.take(self._clock()):
                self._last_word = Refused("RATE_LIMITED", "Too many messages.")
                return
            if isinstance(frame, bytes):
                self._last_word = Refused("BAD_MESSAGE", "Messages are text frames.", sockets.UNSUPPORTED)
                return
            self._node.send(frame)

    def _node_to_browser(self) -> None:
        try:
            for frame in self._node:
                if isinstance(frame, str):
                    self._ws.send(frame)
        except ConnectionClosed:
            log.event("node_closed_with_a_code", level=logging.DEBUG)
        except Closed:
            # The browser is gone; the other thread hears it too.
            self._node.close()
            return
        code = self._node.close_code or sockets.ABNORMAL
        if self._last_word is None:
            self._ws.close(sockets.RESTART if code in _NODE_WENT_AWAY else code)
            return
        try:
            self._ws.send(_error(self._last_word.code, self._last_word.message))
            self._ws.close(self._last_word.close)
        except Closed:
            log.event("browser_gone_before_last_word", level=logging.DEBUG)


def _error(code: ErrorCode, message: str) -> str:
    return signaling.encode(signaling.Error(code=code, message=message)).decode()
