"""What the node's private listener tells operators: ``GET /metrics`` for Prometheus, ``GET /figures/<roomId>``.

Metrics are for scrapers on this machine, or with ``METRICS_TOKEN``; a room's figures, which name people, are for
the web app alone, with a ticket. Neither changes anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from media.node import Node
from media.rooms import Room
from models import egress_tickets
from models.clock import monotonic_ms, utc_now
from models.config import is_loopback
from models.errors import Forbidden
from models.messages import figures
from models.messages.figures import RoomFigures

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Answer(NamedTuple):
    """A short HTTP answer."""

    status: HTTPStatus
    body: str
    content_type: str = "text/plain; charset=utf-8"


def answer(node: Node, path: str, headers: Mapping[str, str], bearer: str, peer: str) -> Answer | None:
    """What ``path`` has for whoever asks from the address ``peer``; None: it is not ours."""
    if path == "/metrics":
        if not _may_scrape(node, headers, bearer, peer):
            return Answer(HTTPStatus.UNAUTHORIZED, "for operators\n")
        return Answer(HTTPStatus.OK, node.figures.text().decode(), CONTENT_TYPE_LATEST)
    if not path.startswith(figures.PATH):
        return None
    room_id = path.removeprefix(figures.PATH)
    try:
        key = egress_tickets.room_key(node.figures_key, room_id)
        egress_tickets.verify(bearer, room_id, key, utc_now().timestamp())
    except Forbidden:
        return Answer(HTTPStatus.UNAUTHORIZED, "no good ticket\n")
    room = node.rooms.get(room_id)
    if room is None:
        return Answer(HTTPStatus.NOT_FOUND, "ROOM_NOT_FOUND\n")
    return Answer(HTTPStatus.OK, msgspec.json.encode(of_room(node, room)).decode(), "application/json")


def of_room(node: Node, room: Room) -> RoomFigures:
    """The room as of its last sample."""
    return RoomFigures(
        room_id=room.room_id,
        node_id=node.node_id,
        boot_id=node.boot_id,
        speaker=room.attention.speakers.active,
        readers=len(room.outlet.egress.readers) if room.outlet.egress is not None else 0,
        seats=room.outside.seats(monotonic_ms()),
        totals=room.outside.totals(),
    )


def _may_scrape(node: Node, headers: Mapping[str, str], bearer: str, peer: str) -> bool:
    if is_loopback(peer) and not any(name in headers for name in FORWARDED):
        return True
    wanted = node.metrics_token
    return bool(wanted) and hmac.compare_digest(bearer.encode(), wanted.encode())
