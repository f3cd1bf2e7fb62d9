"""/admin, one room: who is in it and how the media of each does, as its node says at this moment."""

from __future__ import annotations

import msgspec

from models.messages.figures import RoomFigures, Seat
from models.services import room_view
from web import node_figures
from web.auth import role_required
from web.pages import blueprint
from web.pages.admin import shown
from web.pages.deps import database, settings

EVERY_SECONDS = 3
QUALITIES = {
    "good": ("good", "Good"), "fair": ("warn", "Fair"), "poor": ("bad", "Poor"), "lost": ("bad", "Lost"),
    None: ("", "Not measured yet"),
}  # fmt: skip
CAUSES = {
    "unknown": "of no known source", "unopened": "not authentic", "refused": "socket full",
    "gated": "not to pass now", "repeated": "came twice",
}  # fmt: skip


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """The figures above the table; None where nobody knows."""

    kbit_in: float
    kbit_out: float
    worst_loss: float | None
    worst_rtt_ms: float | None
    dropped: float
    """Without what came twice: browsers probe for bandwidth with repeats."""


@blueprint.get("/admin/rooms/<room_id>")
@role_required("admin")
def admin_room(room_id: str) -> str:
    """One room with live figures; what its node does not tell is said to be untold."""
    with database().reading() as tx:
        room = room_view.watched(tx, room_id)
    told: RoomFigures | str = "closed" if room.status == "closed" else "unplaced"
    if room.status != "closed" and room.node_url is not None:
        told = node_figures.ask(settings(), room.node_url, room_id)
    live = told if isinstance(told, RoomFigures) else None
    seats = live.seats if live is not None else ()
    with database().reading() as tx:
        return shown(
            tx,
            "room",
            room.title or f"Room of {room.creator_handle}",
            tab="rooms",
            every_s=EVERY_SECONDS,
            room=room,
            live=live,
            absent=told if isinstance(told, str) else "",
            seats=seats,
            sums=_sums(seats),
            handles=room_view.handles(tx, [seat.user_id for seat in seats]),
            qualities=QUALITIES,
            causes=CAUSES,
        )


def _sums(seats: tuple[Seat, ...]) -> Sums:
    figures = [seat.figures for seat in seats if seat.figures is not None]
    losses = [loss for each in figures for loss in (each.loss_in, each.loss_out) if loss is not None]
    return Sums(
        kbit_in=sum(each.kbit_in for each in figures),
        kbit_out=sum(each.kbit_out for each in figures),
        worst_loss=max(losses, default=None),
        worst_rtt_ms=max((each.rtt_ms for each in figures if each.rtt_ms is not None), default=None),
        dropped=sum(rate for each in figures for cause, rate in each.dropped.items() if cause != "repeated"),
    )
