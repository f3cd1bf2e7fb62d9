"""Seats of WHIP and WHEP clients (RFC 9725, draft-ietf-wish-whep): one HTTP request in, one answer out, no wire.

They are participants like any other, under the same grants, bars, limits, clock and cuts; a room never asks how
somebody signals. What differs: nobody can be told anything, so nothing is renegotiated, an offer is answered
before its seat is taken, and a seat whose media never came up is given back after a while; and what an encoder
sends everybody sees, so it is a codec that spectators can be handed. Knows no HTTP; the web app does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from media import sdp_rules
from media.depacketizing import READABLE
from media.participants import Participant
from media.plane import MOST_TRACKS, BadSdp, Peer
from media.rooms import Refused, Room
from models import log
from models.errors import DomainError
from models.grants import Grant
from models.messages import resources
from models.messages.resources import AnyReply, AnyRequest, Refusal, RefusalCode
from models.messages.signaling import Kind, ServerMessage

if TYPE_CHECKING:
    from media.node import Node

REQUEST_SECONDS = 10.0
CONNECT_SECONDS = 20.0
"""To bring ICE and DTLS up in. Who does not has the seat no longer; encoders give up sooner."""
_REFUSALS: tuple[RefusalCode, ...] = ("FORBIDDEN", "ROOM_FULL", "ROOM_NOT_FOUND", "UNAVAILABLE", "NO_RESOURCE",
                                      "WRONG_ETAG", "REPLACED")  # fmt: skip


class NoWire:
    """Stands where a browser has its WebSocket: what is said goes nowhere."""

    def send(self, message: ServerMessage) -> None:
        """There is nobody to read it."""

    def close(self, code: int) -> None:
        """There is nothing to close: the peer's end says it."""


class Desk:
    """Answers the web app's requests."""

    def __init__(self, node: Node, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._node = node
        self._connect_seconds = connect_seconds

    async def serve(self, socket: ServerConnection) -> None:
        """One request, one reply."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                frame = await socket.recv()
                reply = await self.answer(frame)
                await socket.send(resources.encode(reply).decode())
        except (ConnectionClosed, TimeoutError) as error:
            # A seat that was taken for it and that nobody knows of is given back like any that never comes up.
            log.event("resource_request_lost", level=logging.WARNING, error=type(error).__name__)

    async def answer(self, frame: str | bytes) -> AnyReply:
        """The reply to one request; whatever is wrong with it is a ``Refusal``."""
        try:
            if isinstance(frame, bytes):
                raise msgspec.DecodeError("not a text frame")
            return await self._carry_out(resources.decode_request(frame))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Refusal(code="BAD_MESSAGE", message="This request cannot be used.")
        except BadSdp as error:
            return Refusal(code="SDP_UNUSABLE", message=str(error))
        except DomainError as refusal:
            for code in _REFUSALS:
                if refusal.code == code:
                    return Refusal(code=code, message=refusal.detail)
            raise

    async def _carry_out(self, request: AnyRequest) -> AnyReply:
        match request:
            case resources.Probe():
                return await self._probe(request)
            case resources.Publish():
                return await self._publish(request)
            case resources.Play():
                return await self._play(request)
            case resources.Patch():
                return self._patch(request)
            case resources.Leave():
                room, participant = self._seat_of(request, request.resource)
                room.leave(participant)
                return resources.Done()

    async def _probe(self, request: resources.Probe) -> AnyReply:
        self._node.check_grant(request.grant, request.room_id, request.user_id)
        peer = self._node.peer_of_no_room(request.user_id)
        try:
            await peer.accept_publish(request.sdp, READABLE)
        finally:
            self._node.spawn(peer.close())
        return resources.Done()

    async def _publish(self, request: resources.Publish) -> AnyReply:
        sdp_rules.check(request.sdp, most_media=MOST_TRACKS)
        grant = self._node.check_grant(request.grant, request.room_id, request.user_id)
        if not grant.publish:
            raise Refused("You may watch here, not publish.", code="FORBIDDEN")
        return await self._seated(grant, (), lambda peer: peer.accept_publish(request.sdp, READABLE))

    async def _play(self, request: resources.Play) -> AnyReply:
        kinds = sdp_rules.kinds_to_play(request.sdp)
        grant = self._node.check_grant(request.grant, request.room_id, request.user_id)
        return await self._seated(grant, kinds, lambda peer: peer.answer_subscribe(request.sdp))

    async def _seated(
        self, grant: Grant, answers: tuple[Kind, ...], answering: Callable[[Peer], Awaitable[str]]
    ) -> AnyReply:
        """Answer, then take the seat: whoever has it goes on until there is somebody who can take their place."""
        room = self._node.room_to_join(grant)
        participant = room.prepare(grant, NoWire(), answers)
        earlier = room.participants.get(grant.user_id)
        try:
            answer = await answering(participant.peer)
            if room.participants.get(grant.user_id) not in (None, earlier):
                raise Refused("The same person took this seat meanwhile.", code="REPLACED")
            self._node.seat(grant, room, participant)
        except BaseException:
            self._node.spawn(participant.close())
            raise
        participant.resource, participant.etag = secrets.token_urlsafe(32), secrets.token_urlsafe(12)
        wire = participant.wire
        if wire is not None:
            asyncio.get_running_loop().call_later(self._connect_seconds, room.lost, participant, wire)
        log.event("resource_made", room_id=room.room_id, user_id=participant.user_id)
        return resources.Answered(sdp=answer, resource=participant.resource, etag=participant.etag)

    def _seat_of(self, request: resources.Request, resource: str) -> tuple[Room, Participant]:
        """The seat that the resource is. Raises Refused NO_RESOURCE, Forbidden."""
        self._node.check_grant(request.grant, request.room_id, request.user_id)
        room = self._node.rooms.get(request.room_id)
        participant = room.participants.get(request.user_id) if room is not None else None
        known = participant.resource if participant is not None else ""
        if room is None or participant is None or not known or not secrets.compare_digest(
            known.encode(), resource.encode()
        ):  # fmt: skip
            raise Refused("There is no such resource.", code="NO_RESOURCE")
        return room, participant

    def _patch(self, request: resources.Patch) -> AnyReply:
        """Candidates are forgotten at once: we answer addresses that check in, and never send to a named one.
        Other names are an ICE restart, which may not know the name of the present session (RFC 9725 section
        4.3.1)."""
        _, participant = self._seat_of(request, request.resource)
        if request.etag not in ("*", participant.etag):
            raise Refused("Another ICE session has begun since.", code="WRONG_ETAG")
        if request.fragment == participant.peer.remote_fragment:
            return resources.Done()
        news = participant.peer.restart(request.fragment, request.password)
        participant.etag = secrets.token_urlsafe(12)
        return resources.Restarted(sdp=news, etag=participant.etag)
