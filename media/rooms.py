"""A room: who may sit in it, and in which order an end happens.

The order is the promise: forwarding stops first and synchronously, then the client is told, then its
connection is closed, then memory is freed. Knows no sockets, no broker and no money; a private call's
clock is the ``Call`` that hangs in the room. Who is sent whose tracks is ``exchange``'s, what leaves the room
to be read ``outlet``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from media.attention import Attention
from media.call import Call
from media.egress import Tap
from media.exchange import Exchange
from media.outlet import Outlet
from media.outside import Outside
from media.participants import Participant, Wire
from media.plane import Pc
from media.port import Port
from media.reports import Reporter
from models import log
from models.clock import monotonic_ms, utc_now
from models.config import IceServer
from models.errors import DomainError
from models.grants import Grant
from models.messages import events
from models.messages import signaling as say
from models.messages.commands import Reason, RoomSpec
from models.messages.signaling import Kind, Layer, ServerMessage

CAPACITY = 20

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Refused(DomainError):
    """A join or message that is not allowed; ``code`` is one of signaling's ERROR codes."""


class Room:
    """One open room. Everything happens in the node's event loop, and nothing here waits."""

    def __init__(
        self,
        spec: RoomSpec,
        *,
        reporter: Reporter,
        spawn: Spawn,
        port: Port,
        ice_servers: Callable[[str], tuple[IceServer, ...]],
        on_closed: Callable[[Room], None],
        last_n: int = 0,
    ) -> None:
        self.spec = spec
        self.room_id = spec.room_id
        self.barred = set(spec.barred)
        self.opened_at = utc_now().timestamp()
        """When it was opened here, in Unix seconds."""
        self._missed_cuts: dict[str, float] = {}
        self.participants: dict[str, Participant] = {}
        self._reporter = reporter
        self._spawn = spawn
        self._port = port
        self._ice_servers = ice_servers
        self._on_closed = on_closed
        self._closed = False
        self.outside = Outside(self.participants, private=bool(spec.parties))
        self.attention = Attention(
            self.participants, creators=lambda: self._seats_of_creators, last_n=last_n, spawn=spawn
        )
        self.outlet = Outlet(
            self.room_id, self.participants, private=bool(spec.parties), tell=self._broadcast
        )
        self.call: Call | None = None
        if spec.budget is not None:
            self.call = Call(
                spec.budget,
                room_id=spec.room_id,
                epoch=spec.epoch,
                creator_id=spec.creator_id,
                reporter=reporter,
                read_what_waits=self._read_what_waits,
                announce=self._broadcast,
                on_end=self._shut,
            )
        self._exchange = Exchange(
            self.participants, call=self.call, attention=self.attention, outlet=self.outlet, spawn=spawn
        )
        self.outlet.bring_to(spec)

    # --- seats --------------------------------------------------------------------------------------

    def update(self, spec: RoomSpec) -> None:
        """Bring the room to a newer wish: more people barred, more stream keys revoked, more time paid, never less
        of any; and whether it may be recorded."""
        self.barred |= set(spec.barred)
        for user_id in tuple(self.barred & self.participants.keys()):
            self.cut(user_id, "MODERATION")
        for key_id in spec.revoked_keys:
            self.revoke(key_id)
        if self.call is not None and spec.budget is not None:
            self.call.update(spec.budget)
        self.outlet.bring_to(spec)

    @property
    def paid_ms(self) -> int:
        """The budget held, 0 in a room without one."""
        return self.call.meter.figures.paid_ms if self.call is not None else 0

    def admit(self, grant: Grant) -> None:
        """Raise Refused unless this grant's user may take a seat now."""
        if grant.user_id in self.barred or (self.spec.parties and grant.user_id not in self.spec.parties):
            raise Refused("You may not enter this room.", code="FORBIDDEN")
        if grant.issued_at <= self._missed_cuts.get(grant.user_id, 0.0):
            raise Refused("This grant is older than a cut.", code="FORBIDDEN")
        others = [user_id for user_id in self.participants if user_id != grant.user_id]
        # The creators' own seats are never given away.
        reserved = len(self._seats_of_creators - {grant.user_id, *others})
        if len(others) + reserved >= CAPACITY:
            raise Refused("Every seat in this room is taken.", code="ROOM_FULL")

    def join(self, grant: Grant, wire: Wire) -> Participant:
        """Seat the grant's user, instead of an earlier connection of the same user. Raises Refused."""
        participant = self.prepare(grant, wire)
        self.seat(grant, participant)
        return participant

    def prepare(self, grant: Grant, wire: Wire, answers: tuple[Kind, ...] | None = None) -> Participant:
        """The grant's user without a seat yet, whom nobody hears of: to be seated, or closed. Raises Refused.

        ``answers``: of one who comes over HTTP (``media.whip``).
        """
        self.admit(grant)
        return Participant(
            user_id=grant.user_id,
            display_name=grant.display_name,
            publishes=grant.publish and self._may_publish(grant.user_id),
            wire=wire,
            now_ms=monotonic_ms(),
            port=self._port,
            on_connected=self._connected,
            answers=answers,
            key_id=grant.key_id,
        )

    def seat(self, grant: Grant, participant: Participant) -> None:
        """Seat whom ``prepare`` made, instead of an earlier connection of the same user. Raises Refused."""
        self.admit(grant)
        earlier = self.participants.get(grant.user_id)
        if earlier is not None:
            self._release(earlier)
            earlier.dismiss("REPLACED")
        self.participants[participant.user_id] = participant
        self._welcome(participant)
        if earlier is None:
            name = say.ParticipantJoined(user_id=participant.user_id, display_name=participant.display_name)
            self._broadcast(name, without=participant)
        self._reporter.say(
            events.ParticipantJoined,
            self._cause,
            room_id=self.room_id,
            user_id=participant.user_id,
            viewers=self._viewers,
            encoder=bool(participant.key_id),
        )
        if self.call is not None:
            self.call.seated(participant.user_id)
        if participant.peer.published:
            self._exchange.sync(participant)
        self._spawn(participant.offer())

    def leave(self, participant: Participant) -> None:
        """The user said that it leaves for good."""
        if self.participants.get(participant.user_id) is not participant:
            return
        self._release(participant)
        self._goodbye(participant, "left")
        if participant.wire is not None:
            participant.wire.close(1000)
            participant.wire = None
        if self.call is not None:
            self.call.left(participant.user_id)

    def revoke(self, key_id: str) -> None:
        """Whoever publishes with this stream key leaves; forwarding has stopped on return."""
        for participant in tuple(self.participants.values()):
            if participant.key_id == key_id:
                self.leave(participant)

    def lost(self, participant: Participant, wire: Wire) -> None:
        """A wire broke. The seat stays as long as the peer is heard."""
        if participant.wire is wire:
            participant.wire = None
            self._look_after(participant, monotonic_ms(), 0)

    def _may_publish(self, user_id: str) -> bool:
        if self.spec.publishers:
            return user_id in self.spec.publishers
        return bool(self.spec.parties) or user_id == self.spec.creator_id

    def _welcome(self, newcomer: Participant) -> None:
        others = [other for other in self.participants.values() if other is not newcomer]
        newcomer.send(
            say.Joined(
                room_id=self.room_id,
                user_id=newcomer.user_id,
                ice_servers=self._ice_servers(newcomer.user_id),
                participants=tuple(other.info() for other in others),
                session=self.call.info() if self.call is not None else None,
            )
        )
        if self.call is not None:
            newcomer.send(self.call.clock())
        self.outlet.welcome(newcomer)
        self.outside.welcome(newcomer)
        self.attention.welcome(newcomer)
        self._exchange.welcome(newcomer)

    def _connected(self, participant: Participant, pc: Pc) -> None:
        if self.call is None or self._closed:
            return
        if pc == "subscribe":
            self.call.connected(participant.user_id)
            return
        # What is paid for comes over the other connection. A client that sends but never answers our
        # offer counts as connected all the same, a moment later: an unanswered offer stops no clock.
        delay = self.call.budget.timers.gap_ms / 1000
        asyncio.get_running_loop().call_later(delay, self._connected_one_way, participant)

    def _connected_one_way(self, participant: Participant) -> None:
        if self.call is not None and not self._closed and "publish" in participant.up:
            self.call.connected(participant.user_id)

    # --- tracks -------------------------------------------------------------------------------------

    async def publish(self, participant: Participant, sdp: str) -> None:
        """Take a client's offer of its own tracks. Raises BadSdp, and Refused for one who only watches."""
        if not participant.publishes:
            raise Refused("You may watch here, not publish.", code="FORBIDDEN")
        answer = await participant.peer.accept_publish(sdp)
        if not participant.stopped:
            self._exchange.sync(participant)
            participant.send(say.PublishAnswer(sdp=answer))

    def _read_what_waits(self) -> bool:
        creator = self.participants.get(self.spec.creator_id)
        return creator is None or creator.peer.read_what_waits()

    def select(self, participant: Participant, track_id: str, layer: Layer) -> None:
        """``off`` stops a picture, anything else brings it back, in that quality if its publisher sends several.
        It never touches a clock."""
        self._exchange.select(participant, track_id, layer)

    def mute(self, participant: Participant, kind: Kind, *, muted: bool) -> None:
        """The user declared its own microphone or camera."""
        self._exchange.mute(participant, kind, muted=muted)

    def tap(self) -> Tap:
        """What hands out this room's media; it ends with its last reader. Raises Refused after the end."""
        if self._closed:
            raise Refused("This room has ended.", code="ROOM_NOT_FOUND")
        return self.outlet.tap()

    def permit_recording(self, recording_id: str, epoch: int) -> bool:
        """Let the media be read, and have both told before the first frame is. False once it was stopped."""
        return not self._closed and self.outlet.permit(recording_id, epoch)

    # --- time and ends ------------------------------------------------------------------------------

    def tick(self, now_ms: int, awake_since_ms: int) -> None:
        """Twenty times a second."""
        if self.call is not None:
            self.call.look()
        self.outlet.tick()
        for participant in tuple(self.participants.values()):
            self._exchange.announce(participant, now_ms, awake_since_ms)
        self.outside.tick(now_ms, awake_since_ms)
        self.attention.tick(now_ms)
        for participant in tuple(self.participants.values()):
            self._look_after(participant, now_ms, awake_since_ms)

    def _look_after(self, participant: Participant, now_ms: int, awake_since_ms: int) -> None:
        if self._closed or participant.is_here(now_ms, awake_since_ms):
            return
        self._release(participant)
        self._goodbye(participant, "lost")
        if participant.wire is not None:
            participant.wire.close(1001)
            participant.wire = None
        if self.call is not None:
            self.call.gone(participant.user_id)

    def cut(self, user_id: str, reason: Reason) -> bool:
        """Cut one user out and bar it. Forwarding has stopped on return. False if it was not there.

        Who was not there is not barred (nobody keeps that bar), but what it was granted before is void.
        A call does not go on with one party barred: it ends, for both.
        """
        known = user_id in self.barred
        participant = self.participants.get(user_id)
        if known or participant is not None or user_id in self.spec.parties:
            self.barred.add(user_id)
        else:
            self._missed_cuts[user_id] = utc_now().timestamp()
        if participant is not None:
            self._release(participant)
            self._reporter.say(events.CallTerminated, self._cause, room_id=self.room_id, user_id=user_id)
            participant.dismiss(reason)
            self._goodbye(participant, reason)
        if self.call is not None and user_id in self.spec.parties:
            self.call.close(reason)
        return known or participant is not None

    def close(self, reason: Reason) -> None:
        """End the room for everybody. Forwarding has stopped on return."""
        if self.call is not None:
            self.call.close(reason)
        self._shut(reason)

    def suspend(self) -> None:
        """The process is about to stop: no end, clients come back to the next one."""
        self._closed = True
        if self.call is not None:
            self.call.report()
        self.outlet.suspend()
        for participant in self.participants.values():
            participant.stop()
            if participant.wire is not None:
                participant.wire.close(1012)
                participant.wire = None

    def release(self) -> None:
        """The room lives on another node. Forwarding has stopped on return, and nothing more is said of it.

        Clients are let go as by a restart: they come back, and are led to where it is.
        """
        if self._closed:
            return
        self._closed = True
        if self.call is not None:
            self.call.abandon()
        self.outlet.suspend()
        everybody = tuple(self.participants.values())
        self.participants.clear()
        for participant in everybody:
            participant.stop()
            if participant.wire is not None:
                participant.wire.close(1012)
                participant.wire = None
            self._spawn(participant.close())
        log.event("room_released", room_id=self.room_id, epoch=self.spec.epoch, participants=len(everybody))
        self._on_closed(self)

    def _shut(self, reason: Reason) -> None:
        if self._closed:
            return
        self._closed = True
        everybody = tuple(self.participants.values())
        self.participants.clear()
        for participant in everybody:
            participant.stop()
        self.outlet.close(reason)
        for participant in everybody:
            participant.dismiss(reason)
            self._spawn(participant.close())
        log.event("room_closed", room_id=self.room_id, reason=reason, participants=len(everybody))
        self._on_closed(self)

    def _release(self, participant: Participant) -> None:
        """Stop forwarding, then forget and free: the part that every way out shares."""
        self.outside.gone(participant)
        participant.stop()
        self._exchange.withdraw(participant)
        del self.participants[participant.user_id]
        self.attention.gone(participant.user_id)
        self._exchange.offer_changes(participant)
        self._spawn(participant.close())

    def _goodbye(self, participant: Participant, reason: str) -> None:
        self._broadcast(
            say.ParticipantLeft(user_id=participant.user_id, display_name=participant.display_name)
        )
        self._reporter.say(
            events.ParticipantLeft,
            self._cause,
            room_id=self.room_id,
            user_id=participant.user_id,
            viewers=self._viewers,
            reason=reason,
        )

    # --- small things -------------------------------------------------------------------------------

    @property
    def _viewers(self) -> int:
        return len(self.participants.keys() - self._seats_of_creators)

    @property
    def _seats_of_creators(self) -> set[str]:
        return set(self.spec.publishers) or {self.spec.creator_id}

    @property
    def _cause(self) -> str:
        return self.spec.budget.session_id if self.spec.budget is not None else self.room_id

    def _broadcast(self, message: ServerMessage, *, without: Participant | None = None) -> None:
        for participant in tuple(self.participants.values()):
            if participant is not without:
                participant.send(message)
