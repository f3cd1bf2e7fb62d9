"""What a media node has to say: facts, in the past tense. They go to the ``media-events`` queue.

``cause_id`` is the session's or the room's id, so that a fact can be followed to the wish behind it.
``sequence`` rises within one boot and one session; a lower one that arrives late is ignored.
"""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1

PauseCause = Literal["creator", "node"]

EndFact = Literal[
    "time_expired",
    "fan_left",
    "fan_absent",
    "fan_never_connected",
    "creator_left",
    "creator_pause_used_up",
    "creator_never_connected",
    "node_pause_used_up",
    "closed",
]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event carries. ``at`` is RFC 3339 UTC, by the node's clock. Money asks it one thing: whether it
    was said before the room was taken from the node."""

    message_id: str
    cause_id: str
    node_id: str
    boot_id: str
    at: str
    version: int = VERSION


class NodeReady(Event, frozen=True, kw_only=True, tag="NodeReady"):
    """The node booted, or reached the broker again. Answered by ``SyncRooms``.

    ``signaling_url`` is where the web app pipes browsers to. ``capacity``: for how many participants it is made,
    in all rooms together; 0: it does not say. ``participants``: how many it has.
    """

    signaling_url: str
    rooms: tuple[str, ...]
    capacity: int = 0
    participants: int = 0


class NodeReport(Event, frozen=True, kw_only=True, tag="NodeReport"):
    """Which rooms the node has and how many participants, every five seconds. Answered by ``SyncRooms`` only where
    the rooms are not as wished."""

    rooms: tuple[str, ...]
    participants: int = 0


class RoomOpened(Event, frozen=True, kw_only=True, tag="RoomOpened"):
    """The room takes joins. ``paid_ms`` is the budget that the node now holds, acknowledged.

    ``creator_here``: the creator's seat is taken; the room was open before. ``publishers_here``: the same of those
    who publish in a battle's room. ``epoch`` is the one under which the room was placed here.
    """

    room_id: str
    epoch: int = 0
    session_id: str | None = None
    paid_ms: int = 0
    creator_here: bool = False
    publishers_here: tuple[str, ...] = ()


class ParticipantJoined(Event, frozen=True, kw_only=True, tag="ParticipantJoined"):
    """Somebody's seat is taken. ``viewers`` counts everybody but the creator, this one included.

    ``encoder``: an encoder (WHIP) took it, no browser.
    """

    room_id: str
    user_id: str
    viewers: int
    encoder: bool = False


class ParticipantLeft(Event, frozen=True, kw_only=True, tag="ParticipantLeft"):
    """Somebody's seat is free. ``viewers`` as in ParticipantJoined, this one excluded."""

    room_id: str
    user_id: str
    viewers: int
    reason: str


class MediaDelivered(Event, frozen=True, kw_only=True, tag="MediaDelivered"):
    """A session's meter, every ``report_ms`` and at each change of state. Milliseconds.

    ``black_ms``, ``silent_ms``: of the time that this boot delivered, how much of the creator's picture was
    black, or of the sound silent, for all that packet sizes tell. ``epoch`` is that of the room.
    """

    sequence: int
    epoch: int = 0
    session_id: str
    room_id: str
    state: Literal["waiting", "running", "paused"]
    cause: PauseCause | None
    delivered_ms: int
    paid_ms: int
    creator_pause_ms: int
    node_pause_ms: int
    black_ms: int = 0
    silent_ms: int = 0


class CallEnded(Event, frozen=True, kw_only=True, tag="CallEnded"):
    """Forwarding has stopped for good; the last word on what was delivered.

    ``pause_cause`` and ``paused_for_ms`` describe the pause in which the end fell, if any;
    ``fact`` is ``closed`` when the control plane asked for the end. ``black_ms``, ``silent_ms`` and ``epoch`` as
    in ``MediaDelivered``.
    """

    sequence: int
    epoch: int = 0
    session_id: str
    room_id: str
    fact: EndFact
    delivered_ms: int
    paid_ms: int
    creator_pause_ms: int
    node_pause_ms: int
    pause_cause: PauseCause | None
    paused_for_ms: int
    creator_connected: bool
    fan_connected: bool
    black_ms: int = 0
    silent_ms: int = 0


class CallTerminated(Event, frozen=True, kw_only=True, tag="CallTerminated"):
    """One user was cut out of a room, as a ``TerminateCall`` asked."""

    room_id: str
    user_id: str


AnyEvent = (
    NodeReady
    | NodeReport
    | RoomOpened
    | ParticipantJoined
    | ParticipantLeft
    | MediaDelivered
    | CallEnded
    | CallTerminated
)
