"""Events on their way to the broker: what waits, what is unconfirmed, and what is given up when there is too much.

Pure bookkeeping, no I/O. Everything stays until the broker confirmed it, so that an outage loses no fact
about money; the order in which things were said is kept.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from models import log
from models.messages import events
from models.messages.events import AnyEvent

MOST_KEPT = 5_000
MOST_UNCONFIRMED = 500


class Outgoing:
    """The buffer. Bounded: beyond ``MOST_KEPT`` the oldest news of people goes first, never a ``CallEnded``.

    Of a session only the newest ``MediaDelivered`` waits, and none beside its ``CallEnded``: each says all
    that the one before said. Of the node only the newest ``NodeReady`` and ``NodeReport`` wait.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, AnyEvent] = OrderedDict()
        self._sent: dict[int, str] = {}
        self._in_flight: set[str] = set()
        self._meters: dict[str, str] = {}
        self._ready = self._report = ""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, event: AnyEvent) -> None:
        """Keep ``event`` until it is confirmed."""
        if isinstance(event, events.MediaDelivered | events.CallEnded):
            self._supersede(self._meters.pop(event.session_id, ""))
            if isinstance(event, events.MediaDelivered):
                self._meters[event.session_id] = event.message_id
        if isinstance(event, events.NodeReady):
            self._supersede(self._ready)
            self._ready = event.message_id
        if isinstance(event, events.NodeReport):
            self._supersede(self._report)
            self._report = event.message_id
        self._kept[event.message_id] = event
        if len(self._kept) > MOST_KEPT:
            self._give_one_up()

    def next(self) -> AnyEvent | None:
        """The oldest event that is not under way; None if there is none, or too many are unconfirmed."""
        if len(self._in_flight) >= MOST_UNCONFIRMED:
            return None
        for message_id, event in self._kept.items():
            if message_id not in self._in_flight:
                return event
        return None

    def sent(self, tag: int, event: AnyEvent) -> None:
        """``event`` is under way as the channel's delivery ``tag``."""
        self._sent[tag] = event.message_id
        self._in_flight.add(event.message_id)

    def settled(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """The broker took what went out as ``tag`` (and before, if ``multiple``), or refused it."""
        tags = [known for known in self._sent if known <= tag] if multiple else [tag]
        for known in tags:
            message_id = self._sent.pop(known, "")
            self._in_flight.discard(message_id)
            if confirmed:
                self._forget(message_id)

    def disconnected(self) -> None:
        """Nothing that was under way is known to have arrived: all of it goes again."""
        self._sent.clear()
        self._in_flight.clear()

    def _supersede(self, message_id: str) -> None:
        if message_id not in self._in_flight:
            self._kept.pop(message_id, None)

    def _forget(self, message_id: str) -> None:
        event = self._kept.pop(message_id, None)
        if isinstance(event, events.MediaDelivered) and self._meters.get(event.session_id) == message_id:
            del self._meters[event.session_id]

    def _give_one_up(self) -> None:
        for message_id, event in self._kept.items():
            if message_id in self._in_flight or isinstance(event, events.CallEnded | events.NodeReady):
                continue
            self._forget(message_id)
            log.event(
                "event_given_up", level=logging.WARNING, type=type(event).__name__, cause_id=event.cause_id
            )
            return
