"""The media node: the real meter, desk of commands, and buffer of events; packets, peers and its lives are played.

Frames come five times a second, the fewest that count as media, so that the meter does all its work on few
of them. What was physically delivered is counted here a second time, by the simplest rule there is, and the
meter's figures are held against it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from media.budget import Figures, SessionMeter
from media.control import CommandDesk
from media.outgoing import Outgoing
from media.reports import Reporter
from models import ids
from models.messages import codec, commands, events
from models.messages.commands import Budget, Reply, RoomSpec
from models.messages.routing import MEDIA_EVENTS_ACTOR, MEDIA_EVENTS_QUEUE, dramatiq_envelope
from simulation.clock import Timeline
from simulation.network import Broker
from simulation.truth import SessionTruth, Truth

NODE_ID = "media-1"
CAPACITY = 10_000
"""Participants: everybody of a world has a place, so that nobody is turned away who came to spend money."""
FRAME_MS = 200
TICK_MS = 100
KEY_FRAME_EVERY = 10
WAKE_MS = 1_000
RECONNECT_MS = 400

DONE = Reply(ok=True)
NOT_HERE = Reply(ok=False, code="NOT_CONNECTED")
Cause = Literal["creator", "node"]


class Call:
    """One private room: the meter, and the two people whose connections it has."""

    def __init__(self, node: Node, room_id: str, budget: Budget) -> None:
        self.node, self.room_id, self.budget = node, room_id, budget
        self.session_id = budget.session_id
        self.truth: SessionTruth = node.truth.session(budget.session_id)
        self.now = node.timeline.now_ms
        self.meter = SessionMeter(budget, self.now)
        self.sending = False
        self.creator_here = self.fan_here = False
        self.over = False
        self._next_frame = self._last_tick = self.now
        self._spoken: tuple[str, str | None] | None = None
        self._spoken_at = self.now
        self._sequence = 0
        self._last_frame: int | None = None
        self._frames = 0
        self.truth.begin_life(resumed=budget.resumed)
        self._plan()

    # --- people -------------------------------------------------------------------------------------

    def creator(self, *, here: bool) -> None:
        """The creator takes its seat, or its connection is lost."""
        self.advance()
        self.creator_here = here
        self.sending = here
        self._next_frame = self.now
        if here:
            self.meter.declare_camera(self.now, off=False)
        self.meter.creator_seated(self.now, here=here)
        self.look()

    def send(self, *, on: bool) -> None:
        """The creator's media stops on its way, or comes again."""
        self.advance()
        if self.creator_here:
            self.sending = on
            self._next_frame = self.now
        self.look()

    def camera(self, *, off: bool, black: bool = False) -> None:
        """The creator declares its camera; frames stop with it, or go on ``black``."""
        self.advance()
        if self.creator_here and not self.over:
            self.meter.declare_camera(self.now, off=off)
            self.truth.camera(self.now, off=off)
            self.sending = black or not off
            self._next_frame = self.now
        self.look()

    def fan(self, *, here: bool) -> None:
        """The fan takes its seat and connects, or is lost."""
        self.advance()
        self.fan_here = here
        if here:
            self.meter.fan_back(self.now)
            self.meter.fan_connected(self.now)
            # Not if the time to come was over at this very moment.
            self.truth.fan_connected |= self.meter.ending is None
        else:
            self.meter.fan_gone(self.now)
        self.look()

    def leave(self, who: Literal["fan", "creator"]) -> None:
        """Somebody presses "leave"."""
        self.advance()
        if self.over:
            return
        self.truth.left.add(who)
        if who == "creator":
            self.sending = False
            self.meter.creator_left(self.now)
        else:
            self.meter.fan_gone(self.now)
            self.meter.fan_left(self.now)
        self.look()

    # --- commands -----------------------------------------------------------------------------------

    def grant(self, paid_ms: int) -> bool:
        """More paid time; False when it is over."""
        self.advance()
        granted = self.meter.grant(paid_ms, self.now)
        self.look()
        if granted and not self.over:
            self._say(self.meter.figures)
        return granted

    def update(self, budget: Budget) -> None:
        """A newer wish for a call that is open."""
        if budget.paid_ms > self.meter.figures.paid_ms:
            self.grant(budget.paid_ms)
        self.meter.catch_up(budget, self.now)
        self.look()

    def close(self) -> None:
        """The control plane's wish."""
        self.advance()
        self.meter.close(self.now)
        self.look()

    # --- time ---------------------------------------------------------------------------------------

    def advance(self) -> None:
        """All frames and ticks that happened since the last time."""
        end = self.node.timeline.now_ms
        if self.node.stalled_until > self.now:
            # We stood still: what came meanwhile was lost, and the meter finds out by the next tick.
            self.now = min(end, self.node.stalled_until)
            self._next_frame = self._last_tick = self.now
        while not self.over and self.now < end:
            following = min(end, self._last_tick + TICK_MS if not self.sending else end)
            if self.sending:
                following = min(following, self._next_frame)
            due = self.meter.cut_due_in_ms(self.now)
            if due is not None:
                following = min(following, self.now + max(1, due))
            self.now = max(self.now, following)
            if self.sending and self.now >= self._next_frame:
                self._frame()
            else:
                self.meter.tick(self.now)
            if self.meter.behind:
                # Nothing waits in a kernel here: what came while we stood still was lost.
                self.meter.caught_up(self.now)
            self._last_tick = self.now
            if self.meter.ending is not None:
                break
        self.now = max(self.now, end) if self.meter.ending is None else self.now

    def look(self) -> None:
        """Act on what the meter says."""
        if self.over:
            return
        self.meter.tick(self.now)
        figures = self.meter.figures
        if self.meter.ending is not None:
            self._finish(figures)
        elif (figures.state, figures.cause) != self._spoken or self.now - self._spoken_at >= self._report_ms:
            self._say(figures)

    def suspend(self) -> None:
        """The process is told to stop: the last figures, and no end."""
        self.advance()
        self.look()
        if not self.over:
            self._say(self.meter.figures)
            self.over = True

    @property
    def _report_ms(self) -> int:
        return self.budget.timers.report_ms

    def _frame(self) -> None:
        self._next_frame = self.now + FRAME_MS
        self._frames += 1
        waits = self.meter.state != "running"
        key = waits and (self.meter.wants_key_frame(self.now) or self._frames % KEY_FRAME_EVERY == 1)
        self.meter.video_frame(self.now, key=key)
        self.truth.frame(self.now, self._last_frame, self.budget.timers.gap_ms)
        self._last_frame = self.now

    def _plan(self) -> None:
        if self.over:
            return
        due = self.meter.cut_due_in_ms(self.now)
        wait = WAKE_MS if due is None else max(1, min(WAKE_MS, due))
        self.node.timeline.after(wait, self._wake)

    def _wake(self) -> None:
        if self.over or self.node.dead:
            return
        if self.node.stalled_until > self.node.timeline.now_ms:
            self.node.timeline.at(self.node.stalled_until, self._wake)
            return
        self.advance()
        self.look()
        self._plan()

    def _say(self, figures: Figures) -> None:
        self._spoken, self._spoken_at = (figures.state, figures.cause), self.now
        self._sequence += 1
        self.truth.reported(figures, self.now)
        self.node.reporter.say(
            events.MediaDelivered,
            self.session_id,
            sequence=self._sequence,
            session_id=self.session_id,
            room_id=self.room_id,
            state="paused" if figures.state == "ended" else figures.state,
            cause=figures.cause,
            delivered_ms=figures.delivered_ms,
            paid_ms=figures.paid_ms,
            creator_pause_ms=figures.creator_pause_ms,
            node_pause_ms=figures.node_pause_ms,
        )

    def _finish(self, figures: Figures) -> None:
        ending = self.meter.ending
        if ending is None:
            raise RuntimeError("it has not ended")
        self.over = True
        self._sequence += 1
        self.truth.ended(figures, ending, self.now, self._last_frame, self.budget.timers.gap_ms)
        self.node.over(self)
        self.node.reporter.say(
            events.CallEnded,
            self.session_id,
            sequence=self._sequence,
            session_id=self.session_id,
            room_id=self.room_id,
            fact=ending.fact,
            delivered_ms=figures.delivered_ms,
            paid_ms=figures.paid_ms,
            creator_pause_ms=figures.creator_pause_ms,
            node_pause_ms=figures.node_pause_ms,
            pause_cause=ending.pause_cause,
            paused_for_ms=ending.paused_for_ms,
            creator_connected=ending.creator_connected,
            fan_connected=ending.fan_connected,
        )


class Room(msgspec.Struct):
    """A room of either kind; only private ones have a call."""

    spec: RoomSpec
    call: Call | None
    creator_here: bool = False
    here: set[str] = set()
    """Of a battle's room: whose seats are taken."""


class Node:
    """One life of the media process."""

    def __init__(self, timeline: Timeline, broker: Broker, truth: Truth) -> None:
        self.timeline, self.truth = timeline, truth
        self._broker = broker
        self.boot_id = ids.new_id(ids.BOOT)
        self.reporter = Reporter(NODE_ID, self.boot_id, self._said)
        self.rooms: dict[str, Room] = {}
        self.stalled_until = 0
        self.dead = False
        self.opened: Callable[[Call], None] = lambda call: None
        """Called when a private room opened in this life."""
        self.shown: Callable[[str], None] = lambda room_id: None
        """Called when a battle's room opened in this life."""
        self._desk = CommandDesk(self.carry_out)
        self._outgoing = Outgoing()
        self._ended: OrderedDict[str, events.CallEnded] = OrderedDict()
        self._tag = 0
        self._connected = False
        self.connect()

    # --- life ---------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the broker, or try again."""
        if self.dead or self._connected:
            return
        if not self._broker.up:
            self.timeline.after(RECONNECT_MS, self.connect)
            return
        self._connected = True
        self._broker.node = self._command
        self._ready()

    def disconnect(self) -> None:
        """The line broke: commands on their way are lost, events are not."""
        if self._connected and not self.dead:
            self._connected = False
            self._broker.node = None
            self._outgoing.disconnected()
            self.timeline.after(RECONNECT_MS, self.connect)

    def kill(self) -> None:
        """Gone, with everything in its memory."""
        self.dead = True
        self._connected = False
        self._broker.node = None
        for room in self.rooms.values():
            if room.call is not None:
                # What was forwarded since the last wake was forwarded all the same.
                room.call.advance()
                room.call.over = True

    def stall(self, milliseconds: int) -> None:
        """The process stands still, as if stopped by a signal."""
        for room in list(self.rooms.values()):
            if room.call is not None and not self.dead:
                room.call.advance()
                room.call.look()
        self.stalled_until = self.timeline.now_ms + milliseconds

    def suspend(self) -> None:
        """Told to stop: it says the last figures first."""
        for room in list(self.rooms.values()):
            if room.call is not None:
                room.call.suspend()
        self.kill()

    # --- commands -----------------------------------------------------------------------------------

    def _command(self, body: bytes) -> None:
        if self.dead:
            return
        if self.stalled_until > self.timeline.now_ms:
            self.timeline.at(self.stalled_until, lambda: self._command(body))
            return
        self._desk.handle(body, self.timeline.time())

    def carry_out(self, command: commands.AnyCommand) -> Reply:
        """As ``media.node`` does."""
        match command:
            case commands.OpenRoom():
                return self._open(command.room)
            case commands.GrantBudget():
                return self._grant(command)
            case commands.CloseRoom():
                return self._close(command.room_id)
            case commands.PermitRecording() | commands.StopRecording() | commands.RevokeKey():
                # What is recorded is no money's, and nobody here has an encoder.
                return NOT_HERE
            case commands.TerminateCall():
                return self._cut(command)
            case commands.ReleaseRoom():
                # There is no other node.
                return NOT_HERE
            case commands.SyncRooms():
                return self._sync(command)

    def _open(self, spec: RoomSpec) -> Reply:
        session_id = spec.budget.session_id if spec.budget is not None else None
        if session_id is not None and session_id in self._ended:
            again = msgspec.structs.replace(self._ended[session_id], message_id=ids.new_id(ids.MESSAGE))
            self._publish(again)
            return Reply(ok=False, code="ENDED")
        room = self.rooms.get(spec.room_id)
        if room is None:
            call = Call(self, spec.room_id, spec.budget) if spec.budget is not None else None
            room = self.rooms[spec.room_id] = Room(spec, call)
            if call is not None:
                self.opened(call)
            elif spec.publishers:
                self.shown(spec.room_id)
        elif room.call is not None and spec.budget is not None:
            room.call.update(spec.budget)
        paid_ms = room.call.meter.figures.paid_ms if room.call is not None else 0
        self.reporter.say(
            events.RoomOpened,
            session_id or spec.room_id,
            room_id=spec.room_id,
            session_id=session_id,
            paid_ms=paid_ms,
            creator_here=room.creator_here,
            publishers_here=tuple(sorted(room.here)),
        )
        return DONE

    def _grant(self, command: commands.GrantBudget) -> Reply:
        room = self.rooms.get(command.room_id)
        if room is None or room.call is None or room.call.session_id != command.session_id:
            return NOT_HERE
        return DONE if room.call.grant(command.paid_ms) else NOT_HERE

    def _close(self, room_id: str) -> Reply:
        room = self.rooms.get(room_id)
        if room is None:
            return NOT_HERE
        if room.call is not None:
            room.call.close()
        self.rooms.pop(room_id, None)
        return DONE

    def _cut(self, command: commands.TerminateCall) -> Reply:
        """Only battles are played as far as that: nobody else is cut out of a room that stays open."""
        room = self.rooms.get(command.room_id)
        if room is None or command.user_id not in room.here:
            return NOT_HERE
        self.seat(command.room_id, command.user_id, here=False)
        return DONE

    def _sync(self, command: commands.SyncRooms) -> Reply:
        if command.boot_id != self.boot_id:
            self.timeline.after(1_000, self._ready_again)
            return Reply(ok=False, code="OTHER_BOOT")
        for room_id in command.close:
            self._close(room_id)
        for spec in command.open:
            self._open(spec)
        return DONE

    def _ready_again(self) -> None:
        if self._connected:
            self._ready()

    def _ready(self) -> None:
        self.reporter.say(
            events.NodeReady,
            NODE_ID,
            signaling_url="ws://media.test/signaling",
            rooms=tuple(self.rooms),
            capacity=CAPACITY,
        )

    # --- seats --------------------------------------------------------------------------------------

    def call(self, room_id: str) -> Call | None:
        """The running call of a room, if it is here."""
        room = self.rooms.get(room_id)
        return None if room is None or room.call is None or room.call.over or self.dead else room.call

    def seat(self, room_id: str, user_id: str, *, here: bool) -> bool:
        """A creator's seat in a public room; False when there is no such room, or no such seat in it."""
        room = self.rooms.get(room_id)
        fights = room is not None and user_id in room.spec.publishers
        if room is None or self.dead or (room.spec.publishers and not fights):
            return False
        if (user_id in room.here if fights else room.creator_here) != here:
            if fights:
                (room.here.add if here else room.here.discard)(user_id)
            else:
                room.creator_here = here
            kind: Callable[..., events.AnyEvent] = (
                events.ParticipantJoined if here else partial(events.ParticipantLeft, reason="left")
            )
            self.reporter.say(kind, room_id, room_id=room_id, user_id=user_id, viewers=0)
        return True

    def over(self, call: Call) -> None:
        """A call ended by itself or by command."""
        self.rooms.pop(call.room_id, None)

    # --- events -------------------------------------------------------------------------------------

    def _said(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.CallEnded):
            self._ended[event.session_id] = event
        self._publish(event)

    def _publish(self, event: events.AnyEvent) -> None:
        self._outgoing.add(event)
        self._pump()

    def _pump(self) -> None:
        while self._connected and (event := self._outgoing.next()) is not None:
            self._tag += 1
            self._outgoing.sent(self._tag, event)
            if not self._broker.up:
                self.disconnect()
                return
            self._broker.put(_envelope(event))
            if self.timeline.chance(0.0005):
                # Taken by the broker, but the confirmation never came: it goes again.
                self.disconnect()
                return
            self._outgoing.settled(self._tag, multiple=False, confirmed=True)


def _envelope(event: events.AnyEvent) -> bytes:
    body: Any = codec.encode(event).decode()
    return dramatiq_envelope(MEDIA_EVENTS_QUEUE, MEDIA_EVENTS_ACTOR, event.message_id, body)
