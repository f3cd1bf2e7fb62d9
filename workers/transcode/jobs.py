"""What a supervisor and a transcode child say to each other, and nothing that decodes or encodes media."""

from __future__ import annotations

from typing import Literal

import msgspec

OK, LOST, FENCED = 0, 1, 3
"""Exit statuses: over or handed on; start another; another writes already."""
HANDED_ON = "HANDED_ON"
"""The reason of a child that was told that another will go on."""
WHOLE = "recording.mp4"
"""The one file that is made of a recording, and given out."""
COMPLETE_SECONDS = 1_800.0
"""How long the making of it may take."""
PRIVATE_DIRECTORY = 0o700


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a supervisor asks for."""

    broadcast_id: str
    room_id: str
    egress_url: str
    """``ws://host:port`` of the room's node."""
    directory: str
    epoch: int
    egress_key: bytes
    """Its room's: signs its own egress tickets, and those of no other room. It is given no other key."""
    low_latency: bool = False
    preset: str = "superfast"


class RecordingJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a supervisor asks of a recorder."""

    recording_id: str
    room_id: str
    egress_url: str
    """``ws://host:port`` of the room's node; empty: record nothing more, complete what there is."""
    directory: str
    epoch: int
    egress_key: bytes
    preset: str
    free_bytes: int
    """Stop rather than leave less than this on the disk."""


class Said(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A line for the supervisor. ``slot``: the newest that every rung has; ``lag_ms``: how long ago it ended."""

    type: Literal["ready", "progress", "ended"]
    slot: int = -1
    lag_ms: int = 0
    dropped: int = 0
    reason: str = ""
    duration_ms: int = 0
    size: int = 0
    """Of a recording that is complete: the file's length in time and in bytes."""
