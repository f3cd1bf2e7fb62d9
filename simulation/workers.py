"""The workers: the house's own actors and rule about retries, called by a worker that may die at any point.

What Dramatiq does around an actor is played here: a message is acknowledged after its work, a failed one is
tried again with growing pauses. One that may not be tried again would go to the dead letters: here, where
nothing stays broken, that is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dramatiq
import msgspec
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, Retries

from models.db import Database
from models.gateways.base import PaymentGateway
from simulation.clock import Timeline
from simulation.crashes import Crash, Crashes
from simulation.network import Broker, Message
from simulation.truth import Violation
from workers import broker as real_broker
from workers.registry import declare_actors

FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS = 500, 30_000


class Workers:
    """All workers together: one message at a time, since SQLite writes one at a time as well."""

    def __init__(
        self, timeline: Timeline, db: Database, broker: Broker, gateway: PaymentGateway, crashes: Crashes
    ) -> None:
        self._timeline, self._broker, self._crashes = timeline, broker, crashes
        self._actors = StubBroker(middleware=[Retries()])
        declare_actors(self._actors, db, gateway)  # type: ignore[arg-type]
        self.around: Callable[[str, tuple[str, ...]], AbstractContextManager[None]] = lambda *_: nullcontext()
        """Entered around each attempt."""
        self._current = CurrentMessage()
        broker.consume = self.consume

    def consume(self, message: Message) -> None:
        """Do what the message says, then acknowledge it."""
        envelope: dict[str, Any] = msgspec.json.decode(message.body)
        name, args = envelope["actor_name"], envelope["args"]
        actor = self._actors.get_actor(name)
        current: dramatiq.Message[None] = dramatiq.Message(**{**envelope, "args": tuple(args)})
        self._current.before_process_message(self._actors, current)  # type: ignore[no-untyped-call]
        try:
            with self.around(name, tuple(args)), self._crashes.during():
                actor.fn(*args)
        except Crash:
            # Not acknowledged: the broker gives it to another.
            self._broker.deliver(message, self._timeline.random.randrange(200, 5_000))
        except Exception as error:
            self._failed(message, name, error, actor.options.get("throws") or ())
        else:
            self._broker.acknowledge(message)
        finally:
            self._current.after_process_message(self._actors, current)  # type: ignore[no-untyped-call]

    def _failed(self, message: Message, name: str, error: Exception, throws: tuple[type[Exception], ...]) -> None:
        if message.done:
            return
        again = not isinstance(error, throws) and real_broker.worth_retrying(message.deliveries - 1, error)
        if again:
            pause = min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(10, message.deliveries - 1))
            self._broker.deliver(message, pause * self._timeline.random.uniform(0.5, 1.0))
            return
        raise Violation(f"{name} goes to the dead letters: {type(error).__name__}: {error}") from error
