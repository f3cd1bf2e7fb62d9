"""The signaling server: docs/contract.md §4 over WebSockets (RFC 6455), and ``GET /healthz`` on the same port
(and what ``operators`` tells).

Reads frames, checks them, calls the node; writes through one bounded queue a connection. Every refusal of
the node becomes an ERROR here, in one place. Knows nothing of packets, budgets or the broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from media.egress import Reader
from media.node import Node
from media.operators import answer as operators_answer
from media.participants import Participant
from media.plane import BadSdp
from media.rooms import Refused, Room
from media.whip import Desk
from models import log
from models.clock import monotonic_ms
from models.errors import DomainError, Forbidden
from models.grants import Grant
from models.messages import egress as egress_messages
from models.messages import health, resources
from models.messages import signaling as say
from models.messages.signaling import JOIN_TIMEOUT_SECONDS, MAX_FRAME_BYTES, ServerMessage

MOST_CONNECTIONS = 2_000
MOST_QUEUED = 256
MOST_MALFORMED = 5
# A browser trickles some forty candidates at once; nobody has a reason to send thirty messages a second.
MESSAGES = (120, 30.0)
# Descriptions cost milliseconds each. This is for those that a client sends by itself: how many offers it has to
# answer is not up to it, but to how many come and go.
DESCRIPTIONS = (10, 0.5)
CLOSE_SECONDS = 2.0
NORMAL_CLOSURE, POLICY_VIOLATION = 1000, 1008

_EGRESS_STATUS = {
    "FORBIDDEN": HTTPStatus.FORBIDDEN,
    "ROOM_NOT_FOUND": HTTPStatus.NOT_FOUND,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}

_quiet = logging.getLogger("greenroom.websockets")
_quiet.setLevel(logging.CRITICAL)  # every port scan would be a traceback


class Flooded(Exception):
    """More messages than the bucket holds."""


class Bucket:
    """A token bucket: a burst of ``size``, refilled by ``per_second``."""

    def __init__(self, size: int, per_second: float, now_ms: int) -> None:
        self._size = self._level = float(size)
        self._per_ms = per_second / 1000
        self._at = now_ms

    def take(self, now_ms: int) -> None:
        """One message. Raises Flooded."""
        self._level = min(self._size, self._level + (now_ms - self._at) * self._per_ms)
        self._at = now_ms
        if self._level < 1:
            raise Flooded
        self._level -= 1


class Connection:
    """One client's WebSocket: a reader (this task) and a writer of its own."""

    def __init__(self, socket: ServerConnection, node: Node) -> None:
        now_ms = monotonic_ms()
        self._socket = socket
        self._node = node
        self._queue: deque[str | int] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._messages = Bucket(*MESSAGES, now_ms)
        self._descriptions = Bucket(*DESCRIPTIONS, now_ms)
        self._malformed = 0
        self._seat: tuple[Room, Participant] | None = None

    # --- what rooms use (participants.Wire) ---------------------------------------------------------

    def send(self, message: ServerMessage) -> None:
        """Queue one message. Who does not read loses the connection, not the seat."""
        if self._closing:
            return
        if len(self._queue) >= MOST_QUEUED:
            self._closing = True
            self._socket.transport.abort()
            return
        self._queue.append(say.encode(message).decode())
        self._wake.set()

    def close(self, code: int) -> None:
        """Close once everything queued is out, or after two seconds."""
        if self._closing:
            return
        self._closing = True
        self._queue.append(code)
        self._wake.set()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._socket.transport.abort)

    # --- the connection's life ----------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until either side closes."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        except ConnectionClosed:
            pass
        finally:
            if self._seat is not None:
                room, participant = self._seat
                room.lost(participant, self)
            if not self._closing:
                writer.cancel()
            await asyncio.wait([writer], timeout=CLOSE_SECONDS + 1)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    item = self._queue.popleft()
                    if isinstance(item, int):
                        await self._socket.close(item)
                        return
                    await self._socket.send(item)
        except ConnectionClosed:
            return

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_SECONDS):
                while self._seat is None and not self._closing:
                    await self._take(await self._socket.recv())
        except TimeoutError:
            self.close(POLICY_VIOLATION)
        while not self._closing:
            await self._take(await self._socket.recv())

    async def _take(self, frame: str | bytes) -> None:
        now_ms = monotonic_ms()
        try:
            self._messages.take(now_ms)
            message = self._decode(frame)
            if self._is_unasked(message):
                self._descriptions.take(now_ms)
            await self._answer(message)
            self._malformed = 0
        except Flooded:
            self.send(say.Error(code="RATE_LIMITED", message="Too many messages."))
            self.close(POLICY_VIOLATION)
        except (msgspec.DecodeError, BadSdp, RecursionError, UnicodeError) as error:
            log.event("bad_message", level=logging.DEBUG, kind=type(error).__name__)
            self._bad()
        except DomainError as refusal:
            self._refuse(refusal)

    def _is_unasked(self, message: say.ClientMessage) -> bool:
        """Whether it brings, or asks for, a description that answers none of ours."""
        if isinstance(message, say.SubscribeAnswer):
            return self._seat is None or not self._seat[1].first_answer(message.revision)
        return isinstance(message, say.PublishOffer | say.RestartIce)

    @staticmethod
    def _decode(frame: str | bytes) -> say.ClientMessage:
        if isinstance(frame, bytes):
            raise msgspec.DecodeError("not a text frame")
        return say.decode_client(frame)

    def _bad(self) -> None:
        self._malformed += 1
        self.send(say.Error(code="BAD_MESSAGE", message="This message cannot be used."))
        if self._malformed >= MOST_MALFORMED:
            self.close(POLICY_VIOLATION)

    def _refuse(self, refusal: DomainError) -> None:
        for code in ("FORBIDDEN", "ROOM_FULL", "ROOM_NOT_FOUND", "ALREADY_JOINED", "UNAVAILABLE"):
            if refusal.code == code:
                self.send(say.Error(code=code, message=refusal.detail))
                return
        raise refusal

    # --- messages -----------------------------------------------------------------------------------

    async def _answer(self, message: say.ClientMessage) -> None:
        if isinstance(message, say.Ping):
            self.send(say.Pong())
        if isinstance(message, say.JoinRoom):
            self._join(message)
        elif self._seat is not None:
            room, participant = self._seat
            participant.heard(monotonic_ms())
            if not participant.stopped:
                await self._of_seated(room, participant, message)

    def _join(self, message: say.JoinRoom) -> None:
        if self._seat is not None:
            raise Refused("This connection has joined already.", code="ALREADY_JOINED")
        grant = self._node.check_grant(message.grant or self._bearer(), message.room_id, message.user_id)
        if message.is_spectator or grant.role == "spectator":
            self._watch(grant)
            return
        try:
            self._seat = self._node.join(grant, self)
            self._seat[1].takes_tracks = message.takes_tracks
        except Refused as refusal:
            if refusal.code != "ROOM_FULL" or not grant.stream_url:
                raise
            self._watch(grant)

    def _watch(self, grant: Grant) -> None:
        """Say where the room is to be seen without a seat; that is all a spectator needs of us."""
        self._node.watch(grant)
        self.send(say.SpectatorUrl(stream_url=grant.stream_url))
        self.close(NORMAL_CLOSURE)

    def _bearer(self) -> str:
        return bearer(self._socket.request)

    async def _of_seated(self, room: Room, participant: Participant, message: say.ClientMessage) -> None:
        match message:
            case say.PublishOffer():
                await room.publish(participant, message.sdp)
            case say.SubscribeAnswer():
                await participant.answered(message.sdp, message.revision)
            case say.IceCandidate():
                participant.peer.add_candidate(message.pc, message.candidate)
            case say.RestartIce():
                await participant.restart_ice()
            case say.SelectLayer():
                room.select(participant, message.track_id, message.layer)
            case say.MuteTrack():
                room.mute(participant, message.kind, muted=message.muted)
            case say.LeaveRoom():
                room.leave(participant)
            case say.StopRecording():
                room.outlet.stop()
            case _:
                pass


def bearer(request: Request | None) -> str:
    """The token of ``Authorization: Bearer`` (RFC 6750 section 2.1), or nothing."""
    header = request.headers.get("Authorization") if request is not None else None
    scheme, _, token = (header or "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _path(request: Request | None) -> str:
    return request.path.partition("?")[0] if request is not None else ""


def egress_room(request: Request | None) -> str | None:
    """Which room's media the request wants to read."""
    path = _path(request)
    return path.removeprefix(egress_messages.PATH) if path.startswith(egress_messages.PATH) else None


class SignalingServer:
    """Listens; one ``Connection`` a client."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._desk = Desk(node)
        self._server: Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``; the port, chosen by the system if ``port`` is 0."""
        self._server = await serve(
            self._handle,
            host,
            port,
            process_request=self._route,
            compression=None,
            server_header=None,
            max_size=MAX_FRAME_BYTES,
            max_queue=8,
            open_timeout=5,
            ping_interval=4,
            ping_timeout=5,
            close_timeout=CLOSE_SECONDS,
            logger=_quiet,
        )
        bound: int = next(iter(self._server.sockets)).getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close all connections with 1012 (service restart: come back)."""
        if self._server is not None:
            self._server.close(code=1012)
            await self._server.wait_closed()

    async def _handle(self, socket: ServerConnection) -> None:
        self._open += 1
        room_id = egress_room(socket.request)
        try:
            if _path(socket.request) == resources.PATH:
                await self._desk.serve(socket)
            elif room_id is None:
                await Connection(socket, self._node).run()
            else:
                await Reader(socket, self._node.readable_room(room_id).tap()).run()
        except Refused:
            await socket.close(POLICY_VIOLATION)  # since the upgrade was granted the room ended, or was taken
        except Exception:
            log.failure("signaling_failed")
        finally:
            self._open -= 1

    def _route(self, socket: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == health.PATH:
            return socket.respond(HTTPStatus.OK, msgspec.json.encode(self._node.health).decode())
        peer = str((socket.remote_address or ("",))[0])
        if (told := operators_answer(self._node, path, request.headers, bearer(request), peer)) is not None:
            response = socket.respond(told.status, told.body)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = told.content_type
            return response
        if (room_id := egress_room(request)) is not None:
            return self._route_egress(socket, request, room_id)
        if path not in ("/signaling", resources.PATH):
            return socket.respond(HTTPStatus.NOT_FOUND, "not here\n")
        if self._open >= MOST_CONNECTIONS:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full\n")
        return None

    def _route_egress(self, socket: ServerConnection, request: Request, room_id: str) -> Response | None:
        try:
            self._node.check_egress_ticket(bearer(request), room_id)
            self._node.readable_room(room_id)
        except Forbidden:
            return socket.respond(HTTPStatus.UNAUTHORIZED, "no good ticket\n")
        except Refused as refusal:
            return socket.respond(_EGRESS_STATUS[refusal.code], f"{refusal.code}\n")
        return None
