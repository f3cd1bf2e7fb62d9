"""What a media node tells operators of one room: ``GET /figures/<roomId>`` on its private listener, as JSON.

Asked with a ticket (``models.egress_tickets``, under ``KEY_PURPOSE``) as ``Authorization: Bearer``. Bounded by the
seats of a room. Nobody but operators is shown any of it.
"""

from __future__ import annotations

import msgspec

PATH = "/figures/"
KEY_PURPOSE = "figures"
"""``settings.key(KEY_PURPOSE)`` is the key that rooms' keys are derived from."""
MAX_BYTES = 256 * 1024


class Line(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A published track as it is now."""

    track_id: str
    kind: str
    codec: str
    subscribers: int
    layers: tuple[str, ...] = ()
    """Simulcast layers that flow, the best first; empty where there is but one."""


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last seconds of one participant. Rates are per second, losses percent; None: not known (yet).

    ``rtt_ms``: from the node to the participant and back, as its reports on what it is sent tell; who is sent
    nothing has none. ``frames``: video frames in; None without a camera. ``dropped``: by cause, what there was.
    ``kbit_line``: what the line to it carries, as far as estimated. ``pictures``: that it is to be sent; of these,
    made smaller, and left out, as the line carries no more.
    """

    kbit_in: float
    kbit_out: float
    packets_in: float
    packets_out: float
    dropped: dict[str, float]
    loss_in: float | None
    loss_out: float | None
    frames: float | None
    rtt_ms: float | None
    jitter_in_ms: float | None
    jitter_out_ms: float | None
    lines: tuple[Line, ...]
    kbit_line: float | None = None
    pictures: tuple[int, int, int] = (0, 0, 0)


class Seat(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A participant. ``quality``: good, fair, poor or lost, as it was told; None: not graded yet. ``up``: which of
    its connections stand. ``totals``: every counter since it came (``media.stats.MEANINGS``). ``number``: what
    Prometheus calls it, from 1, given again when it has left; 0: it has just come."""

    user_id: str
    display_name: str
    publishes: bool
    up: tuple[str, ...]
    muted: tuple[str, ...]
    here_ms: int
    quality: str | None
    figures: Figures | None
    totals: dict[str, int]
    number: int = 0


class RoomFigures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A room now; ``totals`` includes those who have left."""

    room_id: str
    node_id: str
    boot_id: str
    speaker: str | None
    readers: int
    seats: tuple[Seat, ...]
    totals: dict[str, int]


decode = msgspec.json.Decoder(RoomFigures).decode
