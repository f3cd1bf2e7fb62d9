"""Turning what happened into events: ids, times and the node's name are added here, once.

Knows nothing of where events go.
"""

from __future__ import annotations

from collections.abc import Callable

from models import ids
from models.clock import rfc3339, utc_now
from models.messages.events import AnyEvent

Field = str | int | bool | tuple[str, ...] | None


class Reporter:
    """Says facts in this node's name."""

    def __init__(self, node_id: str, boot_id: str, publish: Callable[[AnyEvent], None]) -> None:
        self.node_id = node_id
        self.boot_id = boot_id
        self._publish = publish

    def say(self, event: Callable[..., AnyEvent], cause_id: str, **fields: Field) -> AnyEvent:
        """Publish a fact of type ``event``; ``cause_id`` is the session's or the room's id."""
        said = event(
            message_id=ids.new_id(ids.MESSAGE),
            cause_id=cause_id,
            node_id=self.node_id,
            boot_id=self.boot_id,
            at=rfc3339(utc_now()),
            **fields,
        )
        self._publish(said)
        return said
