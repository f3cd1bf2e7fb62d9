"""The media node: its rooms, its one timer, its grants, and what it does with each command.

Commands come in as values and are carried out at once, without waiting; events go out through one function.
Knows neither RabbitMQ nor WebSockets, so that either can break without a packet being lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from media.call import TICK_MS
from media.egress import MOST_READERS
from media.exposition import NodeFigures
from media.participants import Participant, Wire
from media.plane import Peer
from media.port import Port
from media.reports import Reporter
from media.rooms import Refused, Room
from models import egress_tickets, grants, ids, log, turn
from models.clock import monotonic_ms, utc_now
from models.config import IceServer, Settings
from models.errors import Forbidden
from models.grants import Grant
from models.messages import commands, events
from models.messages.commands import Reply, RoomSpec
from models.messages.figures import KEY_PURPOSE as FIGURES
from models.messages.health import Health

# A tick this late means that we stood still; nobody else's silence is measured by it.
ASLEEP_MS = 1_000
ENDED_REMEMBERED = 10_000
READY_AGAIN_SECONDS = 1.0
READABLE_ROOMS = ("live-", "battle-")
"""What egress may always read: rooms that anybody may watch. A private room's media stays within it, unless
both parties have agreed to be recorded."""
REPORT_SECONDS = 5.0

NOT_HERE = Reply(ok=False, code="NOT_CONNECTED")
MOVED = Reply(ok=False, code="MOVED")
"""A wish from before the room was taken from us."""
DONE = Reply(ok=True)


class Node:
    """Everything that one media process holds. Call ``start`` inside its event loop."""

    def __init__(self, settings: Settings, publish: Callable[[events.AnyEvent], None], port: Port) -> None:
        self.boot_id = ids.new_id(ids.BOOT)
        self.node_id = settings.media_node_id
        self.rooms: dict[str, Room] = {}
        self.figures = NodeFigures(
            self.node_id, self.rooms.values, lambda: port.untold, most_seats=settings.metrics_seats
        )
        self.figures_key = settings.key(FIGURES)
        self.metrics_token = settings.metrics_token
        self.reporter = Reporter(self.node_id, self.boot_id, self._said)
        self._settings = settings
        self._port = port
        self._publish = publish
        self._grant_key = settings.key("grants")
        self._egress_key = settings.key(egress_tickets.KEY_PURPOSE)
        self._booted_at = utc_now().timestamp()
        self._used_grants: dict[str, float] = {}
        self._revoked_keys: dict[str, float] = {}
        """Until every grant that was given on them has run out."""
        self._ended: OrderedDict[str, events.CallEnded] = OrderedDict()
        self._released: OrderedDict[str, int] = OrderedDict()
        """Rooms that were taken from us, each with the epoch from which on it may come back."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = self._awake_since = monotonic_ms()
        self._forget_grants_at = 0.0
        self._report_at = self._booted_at + REPORT_SECONDS

    # --- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick."""
        self._ticked_at = self._awake_since = monotonic_ms()
        self._timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._tick)

    def suspend(self) -> None:
        """Stop forwarding, report the meters, let clients go: they rejoin the next boot."""
        if self._timer is not None:
            self._timer.cancel()
        for room in self.rooms.values():
            room.suspend()

    async def close(self) -> None:
        """Free everything; after :meth:`suspend`."""
        everybody = [participant for room in self.rooms.values() for participant in room.participants.values()]
        await asyncio.gather(*(participant.close() for participant in everybody), *self._tasks)

    def ready(self) -> None:
        """Say that the node is here: on boot and whenever the broker was away."""
        self.reporter.say(
            events.NodeReady,
            self.node_id,
            signaling_url=f"ws://{self._settings.media_host}:{self._settings.media_port}/signaling",
            rooms=tuple(self.rooms),
            capacity=self._settings.media_capacity,
            participants=self.load,
        )

    @property
    def health(self) -> Health:
        """Who answers here: the clock asks, and takes nobody else for this node."""
        return Health(node_id=self.node_id, boot_id=self.boot_id)

    @property
    def load(self) -> int:
        """How many participants all rooms have."""
        return sum(len(room.participants) for room in self.rooms.values())

    def _ice_servers(self, user_id: str) -> tuple[IceServer, ...]:
        return turn.ice_servers(self._settings, user_id, utc_now().timestamp())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else; its failure is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger("greenroom").error("task_failed", exc_info=error)

    def _tick(self) -> None:
        now_ms = monotonic_ms()
        self._timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._tick)
        if now_ms - self._ticked_at > ASLEEP_MS:
            self._awake_since = now_ms
            log.event("stood_still", level=logging.WARNING, for_ms=now_ms - self._ticked_at)
        self._ticked_at = now_ms
        for room in tuple(self.rooms.values()):
            try:
                room.tick(now_ms, self._awake_since)
            except Exception:
                self._failed(room)
        self._forget_grants()
        self._report()

    def _report(self) -> None:
        """What rooms there are, now and then: a command that was lost on the way shows as a difference."""
        now = utc_now().timestamp()
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            self.reporter.say(
                events.NodeReport, self.node_id, rooms=tuple(self.rooms), participants=self.load
            )

    def _failed(self, room: Room) -> None:
        """A defect of ours in one room ends that room, as our fault, and no other."""
        log.failure("room_failed", room_id=room.room_id)
        self.rooms.pop(room.room_id, None)
        try:
            room.close("MEDIA_FAILURE")
        except Exception:
            log.failure("room_close_failed", room_id=room.room_id)

    # --- joins --------------------------------------------------------------------------------------

    def check_grant(self, text: str, room_id: str, user_id: str) -> Grant:
        """The grant that permits this join. Raises Forbidden, and Refused for one issued before this boot."""
        grant = grants.verify(text, self._grant_key, utc_now().timestamp())
        if (grant.room_id, grant.user_id) != (room_id, user_id):
            raise Forbidden("The grant is for another room or user.")
        if grant.jti in self._used_grants:
            raise Forbidden("The grant has been used.")
        if grant.issued_at < self._booted_at:
            # Maybe used on an earlier boot, maybe only unlucky: a fresh one tells.
            raise Refused("The media service restarted; ask for a new grant.", code="UNAVAILABLE")
        room = self.rooms.get(room_id)
        if room is not None and room.spec.epoch > 0 and grant.issued_at < room.opened_at:
            # Likewise: it may have been used on the node that the room was on before.
            raise Refused("The room was moved; ask for a new grant.", code="UNAVAILABLE")
        return grant

    def room_to_join(self, grant: Grant) -> Room:
        """The room that the grant opens now. Raises Forbidden, Refused."""
        if grant.jti in self._used_grants:
            raise Forbidden("The grant has been used.")
        room = self.rooms.get(grant.room_id)
        if room is None:
            raise Refused("There is no such room.", code="ROOM_NOT_FOUND")
        if grant.key_id and grant.key_id in self._revoked_keys:
            raise Refused("The stream key was revoked.", code="FORBIDDEN")
        return room

    def join(self, grant: Grant, wire: Wire) -> tuple[Room, Participant]:
        """Seat the grant's user; the grant is used up. Raises Forbidden, Refused."""
        room = self.room_to_join(grant)
        participant = room.join(grant, wire)
        self._used_grants[grant.jti] = grant.expires_at
        return room, participant

    def seat(self, grant: Grant, room: Room, participant: Participant) -> None:
        """Seat whom the room prepared, if everything still is as it was; the grant is used up. Raises Forbidden,
        Refused."""
        if self.room_to_join(grant) is not room:
            raise Refused("The room has been opened anew.", code="ROOM_NOT_FOUND")
        room.seat(grant, participant)
        self._used_grants[grant.jti] = grant.expires_at

    def peer_of_no_room(self, user_id: str) -> Peer:
        """To see whether an offer can be answered; to be closed."""
        return Peer(
            user_id=user_id, port=self._port, on_connected=lambda pc: None, on_lost=lambda pc: None, answers=()
        )

    def watch(self, grant: Grant) -> None:
        """Let the grant's user watch without a seat; the grant is used up. Raises Refused."""
        room = self.rooms.get(grant.room_id)
        if room is None:
            raise Refused("There is no such room.", code="ROOM_NOT_FOUND")
        if grant.user_id in room.barred:
            raise Refused("You may not enter this room.", code="FORBIDDEN")
        if not grant.stream_url:
            raise Refused("This room cannot be watched without a seat.", code="UNAVAILABLE")
        self._used_grants[grant.jti] = grant.expires_at

    # --- egress -------------------------------------------------------------------------------------

    def check_egress_ticket(self, ticket: str, room_id: str) -> None:
        """Raises Forbidden."""
        key = egress_tickets.room_key(self._egress_key, room_id)
        egress_tickets.verify(ticket, room_id, key, utc_now().timestamp())

    def readable_room(self, room_id: str) -> Room:
        """The room of this id, if one more may read its media. Raises Refused."""
        room = self.rooms.get(room_id)
        if not room_id.startswith(READABLE_ROOMS) and (room is None or not room.outlet.readable):
            raise Refused("This room's media stays within it.", code="FORBIDDEN")
        if room is None:
            raise Refused("There is no such room.", code="ROOM_NOT_FOUND")
        if room.outlet.egress is not None and len(room.outlet.egress.readers) >= MOST_READERS:
            raise Refused("This room is read already.", code="UNAVAILABLE")
        return room

    def _forget_grants(self) -> None:
        now = utc_now().timestamp()
        if now < self._forget_grants_at:
            return
        self._forget_grants_at = now + 10
        self._used_grants = {jti: expires for jti, expires in self._used_grants.items() if expires > now}
        self._revoked_keys = {key: expires for key, expires in self._revoked_keys.items() if expires > now}

    # --- commands -----------------------------------------------------------------------------------

    def carry_out(self, command: commands.AnyCommand) -> Reply:
        """Do it now. When this returns, forwarding that had to stop has stopped."""
        match command:
            case commands.OpenRoom():
                return self._open(command.room)
            case commands.GrantBudget():
                return self._grant(command)
            case commands.TerminateCall():
                return self._terminate(command)
            case commands.CloseRoom():
                return self._close(command.room_id, command.reason)
            case commands.SyncRooms():
                return self._sync(command)
            case commands.ReleaseRoom():
                return self._release(command.room_id, command.epoch)
            case commands.PermitRecording():
                room = self._room_of(command)
                given = room is not None and room.permit_recording(command.recording_id, command.epoch)
                return DONE if given else NOT_HERE
            case commands.StopRecording():
                if (room := self._room_of(command)) is None:
                    return NOT_HERE
                room.outlet.stop()
                return DONE
            case commands.RevokeKey():
                self._remember_revoked(command.key_id)
                for room in tuple(self.rooms.values()):
                    room.revoke(command.key_id)
                return DONE

    def _remember_revoked(self, key_id: str) -> None:
        self._revoked_keys[key_id] = utc_now().timestamp() + 2 * grants.LIFETIME_SECONDS

    def _open(self, spec: RoomSpec) -> Reply:
        session_id = spec.budget.session_id if spec.budget is not None else None
        if spec.epoch < self._released.get(spec.room_id, 0):
            return MOVED
        ended = self._ended.get(session_id or "")
        if ended is not None and ended.epoch >= spec.epoch:
            # A wish from before the end. The end is said again, in case it was not heard; under an id of its own,
            # for it may have been heard when it did not count yet: before the word that this life had begun.
            self._publish(msgspec.structs.replace(ended, message_id=ids.new_id(ids.MESSAGE)))
            return Reply(ok=False, code="ENDED")
        room = self.rooms.get(spec.room_id)
        if room is not None and spec.epoch < room.spec.epoch:
            return MOVED
        for key_id in spec.revoked_keys:
            self._remember_revoked(key_id)
        if room is not None and spec.epoch > room.spec.epoch:
            # It was elsewhere meanwhile, and we did not hear of it.
            room.release()
            room = None
        if room is None:
            room = self.rooms[spec.room_id] = Room(
                spec,
                reporter=self.reporter,
                spawn=self.spawn,
                port=self._port,
                ice_servers=self._ice_servers,
                on_closed=self._closed,
                last_n=self._settings.media_last_n,
            )
            log.event("room_opened", room_id=spec.room_id, cause_id=session_id)
        else:
            room.update(spec)
        self.reporter.say(
            events.RoomOpened,
            session_id or spec.room_id,
            room_id=spec.room_id,
            epoch=room.spec.epoch,
            session_id=session_id,
            paid_ms=room.paid_ms,
            creator_here=spec.creator_id in room.participants,
            publishers_here=tuple(user_id for user_id in spec.publishers if user_id in room.participants),
        )
        return DONE

    def _grant(self, command: commands.GrantBudget) -> Reply:
        room = self.rooms.get(command.room_id)
        if room is None or room.call is None or room.call.budget.session_id != command.session_id:
            return NOT_HERE
        return DONE if room.call.grant(command.paid_ms, command.spent_reason) else NOT_HERE

    def _room_of(self, command: commands.PermitRecording | commands.StopRecording) -> Room | None:
        """The room, if it is still that session's."""
        room = self.rooms.get(command.room_id)
        if room is None or room.call is None or room.call.budget.session_id != command.session_id:
            return None
        return room

    def _terminate(self, command: commands.TerminateCall) -> Reply:
        room = self.rooms.get(command.room_id)
        return DONE if room is not None and room.cut(command.user_id, command.reason) else NOT_HERE

    def _close(self, room_id: str, reason: commands.Reason) -> Reply:
        room = self.rooms.get(room_id)
        if room is None:
            return NOT_HERE
        room.close(reason)
        return DONE

    def _release(self, room_id: str, epoch: int) -> Reply:
        """The room lives on another node: here, it is over without an end."""
        self._released[room_id] = max(epoch, self._released.pop(room_id, 0))
        if len(self._released) > ENDED_REMEMBERED:
            self._released.popitem(last=False)
        room = self.rooms.get(room_id)
        if room is None or room.spec.epoch >= epoch:
            return NOT_HERE
        room.release()
        return DONE

    def _sync(self, command: commands.SyncRooms) -> Reply:
        if command.boot_id != self.boot_id:
            # A former life's word was taken for the latest: what this one reports is not listened to.
            asyncio.get_running_loop().call_later(READY_AGAIN_SECONDS, self.ready)
            return Reply(ok=False, code="OTHER_BOOT")
        for moved in command.elsewhere:
            self._release(moved.room_id, moved.epoch)
        for room_id in command.release:
            if (room := self.rooms.get(room_id)) is not None:
                room.release()
        for room_id in command.close:
            self._close(room_id, "MEDIA_FAILURE")
        for spec in command.open:
            self._open(spec)
        return DONE

    def _closed(self, room: Room) -> None:
        self.figures.ended(room)
        if self.rooms.get(room.room_id) is room:
            del self.rooms[room.room_id]

    def _said(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.CallEnded):
            self._ended[event.session_id] = event
            if len(self._ended) > ENDED_REMEMBERED:
                self._ended.popitem(last=False)
            log.event(
                "call_ended",
                session_id=event.session_id,
                fact=event.fact,
                delivered_ms=event.delivered_ms,
                paid_ms=event.paid_ms,
            )
        self._publish(event)
