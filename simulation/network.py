"""The broker: delivers at least once, and nothing better than that.

Messages come late, twice and out of order; a consumer that dies before its acknowledgement gets them again.
The relay is the real one; only the connection under it is ours. Durable queues survive an outage, a node's
own queue does not, as with RabbitMQ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pika
import pika.exceptions
from sqlalchemy.exc import InterfaceError, OperationalError

from models.db import Database
from models.messages.routing import COMMANDS_EXCHANGE, FEED_EXCHANGE, TRANSCODE_QUEUE
from simulation.clock import Timeline
from simulation.crashes import Crash, Crashes
from workers.relay import Relay

Deliver = Callable[[bytes], None]


class Message(msgspec.Struct):
    """A message on a durable queue: there until somebody acknowledges it."""

    body: bytes
    deliveries: int = 0
    done: bool = False


class Broker:
    """Queues, and one line to the media node."""

    def __init__(self, timeline: Timeline, *, twice: float = 0.03) -> None:
        self._timeline = timeline
        self._twice = twice
        self.up = True
        self.workers_up = True
        self.consume: Callable[[Message], None] = lambda message: None
        self.node: Deliver | None = None
        """Where commands go; none while no node is connected."""
        self.transcode: Deliver = lambda body: None
        """Where the transcode workers' messages go."""
        self.waiting: list[Message] = []
        self.published: set[str] = set()
        """Ids of the actors' messages that ever were on a queue."""
        self.in_flight = 0
        """Messages that were not acknowledged yet."""
        self.count: Counter[str] = Counter()

    # --- queues that last ---------------------------------------------------------------------------

    def put(self, body: bytes) -> None:
        """A message is on its queue, confirmed."""
        self.in_flight += 1
        message = Message(body)
        self.deliver(message, self._delay())
        if self._timeline.chance(self._twice):
            # A consumer whose connection broke after the work and before the acknowledgement.
            self.count["twice"] += 1
            self.deliver(message, self._delay() * 3)

    def deliver(self, message: Message, delay_ms: float) -> None:
        """Have a worker take it, now or when one is there."""
        self._timeline.after(delay_ms, lambda: self._offer(message))

    def acknowledge(self, message: Message) -> None:
        """It is done: nobody gets it again, except who has it already."""
        if not message.done:
            message.done = True
            self.in_flight -= 1

    def workers_back(self) -> None:
        """Workers connect again and find what waited."""
        self.workers_up = True
        waiting, self.waiting = self.waiting, []
        for message in waiting:
            self.deliver(message, self._timeline.random.randrange(50, 2_000))

    def _offer(self, message: Message) -> None:
        if not (self.up and self.workers_up):
            self.waiting.append(message)
            return
        message.deliveries += 1
        self.count["delivered"] += 1
        self.consume(message)

    def _delay(self) -> float:
        dice = self._timeline.random.random()
        if dice < 0.95:
            return self._timeline.random.randrange(3, 120)
        if dice < 0.997:
            return self._timeline.random.randrange(120, 4_000)
        self.count["late"] += 1
        return self._timeline.random.randrange(20_000, 90_000)

    # --- the node's line ----------------------------------------------------------------------------

    def command(self, body: bytes) -> None:
        """A command on its way to the node that is connected now; sometimes twice, sometimes late."""
        node = self.node
        if node is None:
            raise pika.exceptions.UnroutableError([])
        self._send(node, body)
        if self._timeline.chance(self._twice):
            self._send(node, body)

    def _send(self, node: Deliver, body: bytes) -> None:
        def arrive() -> None:
            # Its queue was its connection's own: gone with it.
            if self.up and self.node is node:
                node(body)
            else:
                self.count["command_lost"] += 1

        late = self._timeline.chance(0.02)
        self._timeline.after(self._timeline.random.randrange(1, 5_000 if late else 60), arrive)

    # --- publishing ---------------------------------------------------------------------------------

    def basic_publish(
        self, exchange: str, routing_key: str | None, body: bytes, properties: Any = None, mandatory: bool = False
    ) -> None:
        """What the relay's channels call."""
        if not self.up or self._timeline.chance(0.001):
            raise pika.exceptions.AMQPConnectionError
        if exchange == FEED_EXCHANGE:
            self.count["feed"] += 1
        elif exchange == COMMANDS_EXCHANGE:
            self.command(body)
        else:
            self.published.add(properties.message_id)
            if routing_key == TRANSCODE_QUEUE:
                self.transcode(body)
            else:
                self.put(body)


class VirtualRelay(Relay):
    """The real relay over the broker above."""

    def __init__(self, db: Database, broker: Broker) -> None:
        super().__init__(db, "amqp://nowhere/")
        self._broker = broker

    def _connect(self) -> None:
        if not self._broker.up:
            raise pika.exceptions.AMQPConnectionError
        self._confirmed = self._transient = self._broker
        self._connection = _NoConnection()

    def _declare(self, queue: str) -> None:
        self._declared.add(queue)


class _NoConnection:
    """What the relay wants of its connection when there is nothing to say."""

    is_open = False

    def process_data_events(self, _seconds: float) -> None:
        """Nothing has happened."""


class RelayProcess:
    """Rounds of the relay: after something was written, and again after a crash or an outage."""

    def __init__(self, timeline: Timeline, db: Database, broker: Broker, crashes: Crashes) -> None:
        self._timeline, self._broker, self._crashes = timeline, broker, crashes
        self._relay = VirtualRelay(db, broker)
        self._due = False
        self.stopped = False
        self.rounds: Callable[[], None] = lambda: None
        """Called after each round, whatever became of it."""

    def nudge(self) -> None:
        """There is something to publish."""
        if not self._due and not self.stopped:
            self._due = True
            self._timeline.after(self._timeline.random.randrange(100, 900), self._round)

    def start(self) -> None:
        """After a stop."""
        self.stopped = False
        self.nudge()

    def _round(self) -> None:
        self._due = False
        if self.stopped:
            return
        try:
            with self._crashes.during():
                again = self._relay.step() == 0.0
        except (Crash, pika.exceptions.AMQPError, OperationalError, InterfaceError):
            self._relay.close()
            again = True
        self.rounds()
        if again:
            self.nudge()
