"""Looks at every queue each two seconds, in two ways, since each alone is blind somewhere.

A passive declare is immediate and exact about what is ready and who consumes, and cannot see what a worker
holds: messages in hand, and retries that wait in its memory. The management API sees those and counts what
passed, a few seconds late, and may be away. What neither says is None. A thread and connections of its own:
however slow either is, nothing else waits for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pika
import pika.exceptions
from dramatiq.common import dq_name, xq_name

from models import log
from models.clock import utc_now
from models.db import Database
from models.services import queues
from models.services.queues import SAMPLE_SECONDS, Sample
from workers.broker import QUEUES, parameters
from workers.management import ManagedQueue, Management, ManagementAway

_HISTORY = int(queues.KEEP.total_seconds() / SAMPLE_SECONDS)


class Declared(NamedTuple):
    """What a passive declare says."""

    ready: int
    consumers: int


class Seen(NamedTuple):
    """Counters of a queue at a moment, from which rates and ages are derived."""

    at: datetime
    published: int
    acked: int


class Observer:
    """One connection, used by the thread that calls ``step``."""

    def __init__(
        self, db: Database, amqp_url: str, management: Management, names: Sequence[str] = QUEUES
    ) -> None:
        self._db = db
        self._parameters = parameters(amqp_url)
        self._management = management
        self._names = tuple(names)
        self._connection: Any = None
        self._memory: Memory | None = None
        self._away: set[str] = set()

    def step(self) -> float:
        """Take one sample of each queue; seconds until the next. Raises when the database is away."""
        if self._memory is None:
            with self._db.reading() as tx:
                self._memory = Memory(queues.last_empty(tx))
        now = on_grid(utc_now())
        declared, managed = self._declared(), self._managed()
        memory = self._memory
        samples = [sample_of(name, declared, managed, memory, now) for name in self._names]
        self._db.run(lambda tx: queues.keep(tx, samples, now))
        return max(0.1, (now + timedelta(seconds=SAMPLE_SECONDS) - utc_now()).total_seconds())

    def close(self) -> None:
        """Let go of the connection; the next step opens another."""
        connection, self._connection = self._connection, None
        if connection is None or not connection.is_open:
            return
        try:
            connection.close()
        except pika.exceptions.AMQPError:
            log.event("observer_connection_lost", level=logging.DEBUG)

    def _declared(self) -> dict[str, Declared]:
        """What the broker itself says; nothing while it is away."""
        found: dict[str, Declared] = {}
        try:
            if self._connection is None or not self._connection.is_open:
                self._connection = pika.BlockingConnection(self._parameters)
            for name in self._names:
                for queue in (name, dq_name(name), xq_name(name)):
                    if (answer := self._passive(queue)) is not None:
                        found[queue] = answer
        except (pika.exceptions.AMQPError, OSError) as error:
            self.close()
            self._say("broker", type(error).__name__)
            return {}
        self._say("broker", None)
        return found

    def _passive(self, queue: str) -> Declared | None:
        """A channel for each question: one about a queue that is not there closes its channel."""
        channel = self._connection.channel()
        try:
            said = channel.queue_declare(queue, passive=True).method
        except pika.exceptions.ChannelClosedByBroker:
            return None
        channel.close()
        return Declared(said.message_count, said.consumer_count)

    def _managed(self) -> dict[str, ManagedQueue] | None:
        try:
            found = self._management.queues()
        except ManagementAway as error:
            self._say("management", str(error))
            return None
        self._say("management", None)
        return found

    def _say(self, source: str, error: str | None) -> None:
        """Once when a source goes, once when it is back."""
        if error is not None and source not in self._away:
            self._away.add(source)
            log.event("queue_source_away", level=logging.WARNING, source=source, error=error)
        elif error is None and source in self._away:
            self._away.discard(source)
            log.event("queue_source_back", source=source)


class Memory:
    """What earlier samples said: when each queue was empty last, and how its counters grew."""

    def __init__(self, empty_at: Mapping[str, datetime] | None = None) -> None:
        self._empty_at = dict(empty_at or {})
        self._seen: dict[str, deque[Seen]] = {}

    def rates(self, queue: str, now: Seen | None) -> tuple[float | None, float | None]:
        """Messages in and out a second, over the last ten seconds; None without counters to compare.

        Remembers ``now``. Counters that fall belong to a broker that began anew.
        """
        history = self._seen.setdefault(queue, deque(maxlen=_HISTORY))
        if now is None:
            return None, None
        if history and (now.published < history[-1].published or now.acked < history[-1].acked):
            history.clear()
        recent = [seen for seen in history if seen.at >= now.at - timedelta(seconds=10)]
        history.append(now)
        if not recent or recent[0].at >= now.at:
            return None, None
        seconds = (now.at - recent[0].at).total_seconds()
        return (
            round((now.published - recent[0].published) / seconds, 2),
            round((now.acked - recent[0].acked) / seconds, 2),
        )

    def age_ms(self, queue: str, ready: int | None, at: datetime) -> int | None:
        """How long the first of ``ready`` messages has waited, at most; exact to a sample.

        Nobody may look at the head of a quorum queue without counting as a delivery, so it is derived: it
        came after the queue was last seen empty, and after the last moment at which fewer had come than
        have left since.
        """
        if ready is None:
            return None
        if ready == 0:
            self._empty_at[queue] = at
            return 0
        since = self._empty_at.setdefault(queue, at)
        history = self._seen.get(queue, ())
        if history:
            left = history[-1].published - ready
            older = [seen.at for seen in history if seen.published <= left]
            since = max([since, *older[-1:]])
        return max(0, (at - since) // timedelta(milliseconds=1))


def sample_of(
    name: str,
    declared: Mapping[str, Declared],
    managed: Mapping[str, ManagedQueue] | None,
    memory: Memory,
    at: datetime,
) -> Sample:
    """One queue's sample from what either source said; the broker's own word counts where both spoke."""
    own, theirs = declared.get(name), (managed or {}).get(name)
    waiting, held = declared.get(dq_name(name)), (managed or {}).get(dq_name(name))
    dead, dead_there = declared.get(xq_name(name)), (managed or {}).get(xq_name(name))
    ready = own.ready if own else theirs.messages_ready if theirs else None
    stats = theirs.message_stats if theirs else None
    counters = Seen(at, stats.publish, stats.ack or 0) if stats and stats.publish is not None else None
    in_rate, out_rate = memory.rates(name, counters)
    return Sample(
        queue=name,
        declared=own is not None,
        managed=theirs is not None,
        ready=ready,
        unacked=theirs.messages_unacknowledged if theirs else None,
        delayed=_delayed(waiting, held),
        consumers=own.consumers if own else theirs.consumers if theirs else None,
        in_rate=in_rate,
        out_rate=out_rate,
        oldest_ms=memory.age_ms(name, ready, at),
        dead=dead.ready if dead else dead_there.messages_ready if dead_there else None,
    )


def _delayed(declared: Declared | None, managed: ManagedQueue | None) -> int | None:
    """Retries that wait: those no worker has fetched yet, and those that one holds in memory unacknowledged.

    A declare sees the first alone; without the management API the sum is unknown, unless nobody could hold any.
    """
    if managed is not None and managed.messages_unacknowledged is not None:
        return (declared.ready if declared else managed.messages_ready or 0) + managed.messages_unacknowledged
    if declared is not None and declared.consumers == 0:
        return declared.ready
    return None


def on_grid(moment: datetime) -> datetime:
    """The last even second: two clocks that look at once keep one sample between them."""
    seconds = int(moment.timestamp()) // SAMPLE_SECONDS * SAMPLE_SECONDS
    return datetime.fromtimestamp(seconds, UTC)
