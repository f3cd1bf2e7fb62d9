"""What one web process holds for as long as it lives, and what belongs to one request.

Everything here is made by ``create_app`` and handed out by name, so that nothing is a global and two
applications may live side by side in a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request

from models.config import Settings
from models.ids import new_id
from models.sharing import Players
from models.timing import Timers

if TYPE_CHECKING:
    from models.db import Database
    from models.gateways.base import PaymentGateway
    from web.audience import Audience
    from web.blocking import Waiting
    from web.crowd import Crowd
    from web.events import Hub
    from web.metrics import Metrics
    from web.rpc import NodeRpc

EXTENSION = "greenroom"
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")


@dataclass(frozen=True, slots=True)
class Greenroom:
    """The parts that requests work with."""

    settings: Settings
    timers: Timers
    database: Database
    rpc: NodeRpc
    gateway: PaymentGateway
    hub: Hub
    audience: Audience
    players: Players
    waiting: Waiting
    films: Crowd
    metrics: Metrics


def greenroom() -> Greenroom:
    """The parts of the application that serves this request."""
    return cast(Greenroom, current_app.extensions[EXTENSION])


def cause_id() -> str:
    """The id that follows this request to the ledger: the caller's ``X-Request-Id`` if it is a sane one."""
    if "cause_id" not in g:
        offered = request.headers.get("X-Request-Id", "")
        g.cause_id = offered if _ACCEPTABLE_ID.fullmatch(offered) else new_id("cau")
    return cast(str, g.cause_id)
