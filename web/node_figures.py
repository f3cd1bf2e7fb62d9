"""Asking a media node how one of its rooms does: HTTP to the address that signaling goes to, for operators' pages.

Bounded in time and size, never inside a transaction. No answer is said to be no answer: old figures are not kept.
"""

from __future__ import annotations

import http.client
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from models import egress_tickets, log
from models.clock import utc_now
from models.config import Settings
from models.messages import figures
from models.messages.figures import RoomFigures

PATIENCE_SECONDS = 2.0
"""For each step of the exchange; the page is asked for again every few seconds."""

Absent = Literal["unreachable", "not_there"]


def ask(settings: Settings, node_url: str, room_id: str) -> RoomFigures | Absent:
    """The room's figures, or why there are none: the node does not answer, or does not have the room."""
    address = urlsplit(node_url)
    key = egress_tickets.room_key(settings.key(figures.KEY_PURPOSE), room_id)
    ticket = egress_tickets.sign(room_id, key, utc_now().timestamp())
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", figures.PATH + room_id, headers={"Authorization": f"Bearer {ticket}"})
        answer = connection.getresponse()
        if answer.status == http.client.NOT_FOUND:
            return "not_there"
        body = answer.read(figures.MAX_BYTES + 1)
        if answer.status == http.client.OK and len(body) <= figures.MAX_BYTES:
            return figures.decode(body)
        log.event("node_figures_refused", room_id=room_id, status=answer.status)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        log.event("node_figures_missing", room_id=room_id, error=type(error).__name__)
    finally:
        connection.close()
    return "unreachable"
