"""What a supervisor and a transcode child say to each other, and nothing that decodes or encodes media."""

from __future__ import annotations

from typing import Literal

import msgspec

OK, LOST, FENCED = 0, 1, 3
"""Exit statuses: over or handed on; start another; another writes already."""


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a supervisor asks for."""

    broadcast_id: str
    room_id: str
    egress_url: str
    """``ws://host:port`` of the room's node."""
    directory: str
    epoch: int
    low_latency: bool = False
    preset: str = "superfast"


class Said(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A line for the supervisor. ``slot``: the newest that every rung has; ``lag_ms``: how long ago it ended."""

    type: Literal["ready", "progress", "ended"]
    slot: int = -1
    lag_ms: int = 0
    dropped: int = 0
    reason: str = ""
