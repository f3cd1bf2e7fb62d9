"""Retries and dead letters over a real broker."""

from __future__ import annotations

import base64
import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pika
import pytest

from models.config import Settings
from models.errors import Unavailable
from models.messages.codec import UnknownMessage, decode_event
from models.messages.routing import dramatiq_envelope
from ops.rabbitmq import RabbitNode
from workers.broker import Broker, configure, declare_dead_letters, parameters

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    made = configure(settings, min_backoff_ms=20, max_backoff_ms=50)
    yield made
    made.close()


@pytest.fixture
def working(broker: Broker) -> Iterator[Callable[[], dramatiq.Worker]]:
    """Starts a worker on the broker's actors; stopped after the test."""
    workers: list[dramatiq.Worker] = []

    def start() -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(timeout=5000)


def dead_letters(amqp_url: str, queue: str) -> int:
    connection = pika.BlockingConnection(parameters(amqp_url))
    count: int = declare_dead_letters(connection.channel(), queue).method.message_count
    connection.close()
    return count


def manage(node: RabbitNode, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.port + 1000}/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Authorization": f"Basic {base64.b64encode(b'guest:guest').decode()}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def virtual_host(amqp_url: str) -> str:
    return urllib.parse.urlsplit(amqp_url).path.lstrip("/")


def test_what_cannot_be_read_is_dead_at_once_and_stays(
    broker: Broker,
    working: Callable[[], dramatiq.Worker],
    amqp_url: str,
    rabbit: RabbitNode,
    eventually: Eventually,
) -> None:
    # given
    attempts: list[str] = []

    @dramatiq.actor(broker=broker, actor_name="read", queue_name="media-events", throws=(UnknownMessage,))
    def read(body: str) -> None:
        attempts.append(body)
        decode_event(body)

    working()
    # when
    broker.declare_queue("media-events", ensure=True)
    broker.channel.basic_publish(
        "", "media-events", dramatiq_envelope("media-events", "read", "m1", '{"type":"FromTheFuture"}')
    )
    # then
    eventually(lambda: dead_letters(amqp_url, "media-events") == 1)
    assert len(attempts) == 1
    queue = manage(rabbit, "GET", f"queues/{virtual_host(amqp_url)}/media-events.XQ")
    assert "x-message-ttl" not in queue["arguments"]
    assert queue["durable"]
    assert queue["type"] == "quorum"


def test_a_defect_is_tried_six_times_and_then_kept(
    broker: Broker, working: Callable[[], dramatiq.Worker], amqp_url: str, eventually: Eventually
) -> None:
    # given
    attempts: list[int] = []

    @dramatiq.actor(broker=broker, actor_name="break", queue_name="rules")
    def broken() -> None:
        attempts.append(1)
        raise ZeroDivisionError("a defect")

    working()
    # when
    broken.send()
    # then
    eventually(lambda: dead_letters(amqp_url, "rules") == 1)
    assert len(attempts) == 6


def test_what_is_away_for_a_while_is_asked_until_it_is_back(
    broker: Broker, working: Callable[[], dramatiq.Worker], amqp_url: str, eventually: Eventually
) -> None:
    # given
    attempts: list[int] = []

    @dramatiq.actor(broker=broker, actor_name="ask", queue_name="payments")
    def ask() -> None:
        attempts.append(1)
        if len(attempts) < 10:
            raise Unavailable("not there")

    working()
    # when
    ask.send()
    # then
    eventually(lambda: len(attempts) == 10)
    assert dead_letters(amqp_url, "payments") == 0


def test_a_retry_that_cannot_be_enqueued_is_kept(
    broker: Broker,
    working: Callable[[], dramatiq.Worker],
    amqp_url: str,
    rabbit: RabbitNode,
    eventually: Eventually,
) -> None:
    # given a worker whose threads can open no connection of their own to publish a retry with
    limit = f"vhost-limits/{virtual_host(amqp_url)}/max-connections"
    attempts: list[int] = []

    @dramatiq.actor(broker=broker, actor_name="pay", queue_name="payments")
    def pay() -> None:
        attempts.append(1)
        manage(rabbit, "PUT", limit, {"value": 1})
        raise Unavailable("the database is down")

    pay.send()
    working()
    # when
    eventually(lambda: len(attempts) == 1)
    # then it is neither lost nor acknowledged
    eventually(lambda: _messages(rabbit, amqp_url, "payments.XQ") == 1)
    manage(rabbit, "DELETE", limit)


def _messages(rabbit: RabbitNode, amqp_url: str, queue: str) -> int:
    """Through the management API, which needs no AMQP connection."""
    found = manage(rabbit, "GET", f"queues/{virtual_host(amqp_url)}/{queue}")
    return int(found.get("messages", 0))
