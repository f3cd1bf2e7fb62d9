"""What the control plane tells a media node to do. A command goes to one place and may fail loudly.

All are safe to repeat: the node remembers ``message_id`` and what it answered. A command whose
``deadline_at`` has passed is not carried out. None needs to survive a node: whatever must still hold is
in the desired state (``SyncRooms``) that a node is told on boot and on every reconnect.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from models.timing import Timers

VERSION = 1

Reason = Literal[
    "PAYMENT_FAILED",
    "TIME_EXPIRED",
    "ENDED_BY_FAN",
    "ENDED_BY_CREATOR",
    "NO_SHOW",
    "STREAM_PRIVATE",
    "STREAM_ENDED",
    "MODERATION",
    "REPLACED",
    "MEDIA_FAILURE",
]

SpentReason = Literal["TIME_EXPIRED", "PAYMENT_FAILED"]
"""What both sides are told when the paid time is used up: ``PAYMENT_FAILED`` if more could not be held."""


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every command carries. ``deadline_at`` is Unix seconds."""

    message_id: str
    cause_id: str
    deadline_at: float
    version: int = VERSION


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a private room may forward, and what it has forwarded in an earlier life of the node.

    ``paid_ms`` is the sum of all minutes paid so far. The other counters let a restarted node go on
    where the last report ended. Milliseconds throughout.
    """

    session_id: str
    paid_ms: int
    rate_per_minute: int
    timers: Timers
    delivered_ms: int = 0
    creator_pause_ms: int = 0
    node_pause_ms: int = 0
    resumed: bool = False
    """The session was live on an earlier boot: begin paused, by our cause."""
    paused_for_ms: int = 0
    """How long that pause has lasted already; ``node_pause_ms`` includes it."""
    spent_reason: SpentReason = "TIME_EXPIRED"


class RoomSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A room as it should be. ``parties`` empty: any valid grant; else those users and nobody else.

    ``publishers``: who sends picture and sound, where that is not the creator alone. ``epoch`` rises when the room
    is taken from a node that was lost: whatever a node still has of a lower one is over.
    """

    room_id: str
    epoch: int = 0
    creator_id: str
    parties: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()
    revoked_keys: tuple[str, ...] = ()
    """Of a public stream: ids of its creator's stream keys that may not publish any more, should ``RevokeKey`` not
    have been heard."""
    budget: Budget | None = None
    recording_id: str = ""
    """Of a private room: both its parties have agreed to this recording, so its media may be read."""
    recording_epoch: int = 0
    """The recording's epoch when this was stated. Without ``recording_id`` it takes back permissions up to that
    one, and none that was given since and overtook it."""


class OpenRoom(Command, frozen=True, kw_only=True, tag="OpenRoom"):
    """Open a room, or bring an open one to this state. Answered by ``RoomOpened``."""

    room: RoomSpec


class GrantBudget(Command, frozen=True, kw_only=True, tag="GrantBudget"):
    """Raise a session's paid time to ``paid_ms`` in all. Answered by ``MediaDelivered`` with the new figure.

    ``spent_reason`` belongs to exactly that ``paid_ms``: with a higher one it may be another.
    """

    room_id: str
    session_id: str
    paid_ms: int
    spent_reason: SpentReason = "TIME_EXPIRED"


class TerminateCall(Command, frozen=True, kw_only=True, tag="TerminateCall"):
    """Cut one user out of a room and bar that user until the room closes. Confirmed once forwarding stopped."""

    room_id: str
    user_id: str
    reason: Reason


class CloseRoom(Command, frozen=True, kw_only=True, tag="CloseRoom"):
    """Stop forwarding in a room, tell everybody why, close all connections. A session gets its ``CallEnded``."""

    room_id: str
    reason: Reason


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A room that lives on another node, and under which epoch."""

    room_id: str
    epoch: int


class SyncRooms(Command, frozen=True, kw_only=True, tag="SyncRooms"):
    """The desired state, in answer to a node's ``NodeReady``: open or update these, close or release those."""

    boot_id: str
    open: tuple[RoomSpec, ...]
    close: tuple[str, ...]
    elsewhere: tuple[Elsewhere, ...] = ()
    """As so many ``ReleaseRoom``: what has come back under that epoch or a higher one meanwhile stays."""
    release: tuple[str, ...] = ()
    """Rooms that live elsewhere, without their epochs: what a control plane said before ``elsewhere``. As it may
    be late, such a room is let go and may come back under any epoch."""


class ReleaseRoom(Command, frozen=True, kw_only=True, tag="ReleaseRoom"):
    """The room lives on another node, under ``epoch``: stop forwarding and metering, let everybody go there.

    Nobody's call ends by it, and nothing is reported of it any more. Not carried out on a room that has come back
    under that epoch or a higher one meanwhile.
    """

    room_id: str
    epoch: int


class PermitRecording(Command, frozen=True, kw_only=True, tag="PermitRecording"):
    """Both parties of a private room have agreed: tell them, and let its media be read from now on.

    Not after that recording was stopped, and not in another session's room. ``epoch``: the recording's own.
    """

    room_id: str
    session_id: str
    recording_id: str
    epoch: int = 0


class StopRecording(Command, frozen=True, kw_only=True, tag="StopRecording"):
    """From the answer on not one frame more of that room is handed out, ever."""

    room_id: str
    session_id: str
    recording_id: str


class RevokeKey(Command, frozen=True, kw_only=True, tag="RevokeKey"):
    """A stream key was revoked: whoever publishes with it leaves the room, and nobody joins with it any more.

    Nobody is barred: the creator goes on with a browser, or with another key.
    """

    room_id: str
    key_id: str


AnyCommand = (
    OpenRoom
    | GrantBudget
    | TerminateCall
    | CloseRoom
    | SyncRooms
    | ReleaseRoom
    | PermitRecording
    | StopRecording
    | RevokeKey
)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The node's answer to a command that was sent with ``reply_to``. ``code`` is set when not ``ok``."""

    ok: bool
    code: str = ""
