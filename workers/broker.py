"""The Dramatiq broker: where the queues are, how a failed message is retried, where dead ones are kept.

Knows nothing about what the actors do. Publishing from here is for retries only: everything the house
itself has to say goes through the outbox. Why the queues are what they are: docs/decisions/0004-queues.md.
"""

from __future__ import annotations

from typing import Any

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import dq_name, xq_name
from dramatiq.middleware import AgeLimit, CurrentMessage, Retries, ShutdownNotifications, TimeLimit
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.config import Settings
from models.errors import Unavailable
from models.messages.routing import MEDIA_EVENTS_QUEUE, TRANSCODE_QUEUE

QUEUES = (MEDIA_EVENTS_QUEUE, "rules", "payments", TRANSCODE_QUEUE)
"""Every queue that an actor reads; the outbox may name no other."""

# RabbitMQ 4's own default: a message that took twenty workers down with it is not given to another.
DELIVERY_LIMIT = 20
LONGEST_QUEUE = 200_000
TIME_LIMIT_MS = 60_000
ATTEMPTS = 6
TRANSIENT = (OperationalError, InterfaceError, PoolTimeout, Unavailable)
"""The database or an outside party is away: worth trying again for as long as it takes."""


class SafeRetries(Retries):
    """Dramatiq's retries, except that a message whose retry cannot be enqueued is never acknowledged.

    The stock middleware acks it, and it is gone. Failed to the dead letters it can be sent again.
    """

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Called by Dramatiq after each attempt."""
        try:
            super().after_process_message(  # type: ignore[no-untyped-call]
                broker, message, result=result, exception=exception
            )
        except Exception:
            message.fail()
            raise


class Broker(RabbitmqBroker):
    """Quorum queues for messages and dead letters; dead letters have no time to live."""

    def _declare_queue(self, queue_name: str) -> Any:
        return declare_queue(self.channel, queue_name)

    def _declare_dq_queue(self, queue_name: str) -> Any:
        return declare_delay_queue(self.channel, queue_name)

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return declare_dead_letters(self.channel, queue_name)


def declare_queue(channel: Any, queue_name: str) -> Any:
    """Declare the queue that actors read; the same arguments wherever it is declared, or it is a 406."""
    return channel.queue_declare(
        queue=queue_name,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": xq_name(queue_name),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-max-length": LONGEST_QUEUE,
        },
    )


def declare_delay_queue(channel: Any, queue_name: str) -> Any:
    """Declare where retries wait. Classic: held messages count as deliveries and would hit the limit."""
    return channel.queue_declare(
        queue=dq_name(queue_name),
        durable=True,
        arguments={
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": xq_name(queue_name),
        },
    )


def declare_dead_letters(channel: Any, queue_name: str) -> Any:
    """Declare where failed messages stay until somebody sends them again or throws them away."""
    return channel.queue_declare(queue=xq_name(queue_name), durable=True, arguments={"x-queue-type": "quorum"})


def declare_all(channel: Any, queue_name: str) -> None:
    """Declare a queue, its delay queue and its dead letters."""
    declare_queue(channel, queue_name)
    declare_delay_queue(channel, queue_name)
    declare_dead_letters(channel, queue_name)


def parameters(amqp_url: str) -> pika.URLParameters:
    """How every process of ours connects: a dead peer is noticed within seconds, nothing waits forever."""
    chosen = pika.URLParameters(amqp_url)
    chosen.heartbeat = 10
    chosen.blocked_connection_timeout = 10
    chosen.socket_timeout = 5
    chosen.stack_timeout = 10
    return chosen


def worth_retrying(retries: int, exception: BaseException) -> bool:
    """Whether a message that failed ``retries`` times before should be tried again."""
    return isinstance(exception, TRANSIENT) or retries + 1 < ATTEMPTS


def configure(settings: Settings, *, min_backoff_ms: int = 500, max_backoff_ms: int = 30_000) -> Broker:
    """The broker of this process, made Dramatiq's global one. Connects only when first used."""
    broker = Broker(
        confirm_delivery=True,
        middleware=[
            AgeLimit(),
            TimeLimit(time_limit=TIME_LIMIT_MS),
            ShutdownNotifications(),
            CurrentMessage(),
            SafeRetries(retry_when=worth_retrying, min_backoff=min_backoff_ms, max_backoff=max_backoff_ms),
        ],
    )
    broker.parameters = parameters(settings.amqp_url)
    dramatiq.set_broker(broker)
    return broker
