"""The observer over a real broker: what a declare sees, what only the management API sees, and either away."""

from __future__ import annotations

import http.server
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import pika
import pytest

from models.clock import utc_now
from models.config import Settings
from models.db import Database
from models.errors import Unavailable
from models.operations import QueueSampleRow
from models.services import queues
from models.services.queues import Queue
from ops.rabbitmq import RabbitNode
from workers.broker import configure, declare_all, parameters
from workers.management import Management, ManagementAway
from workers.observer import Observer

Eventually = Callable[[Callable[[], bool]], None]
Observe = Callable[..., Observer]


@pytest.fixture
def observe(db: Database, settings: Settings, rabbit: RabbitNode) -> Iterator[Observe]:
    """An observer of the queue ``rules``; ``url`` is the management API's."""
    made: list[Observer] = []

    def make(url: str = rabbit.management_url, amqp_url: str = settings.amqp_url) -> Observer:
        management = Management(url, parameters(settings.amqp_url).virtual_host)
        observer = Observer(db, amqp_url, management, ("rules",))
        made.append(observer)
        return observer

    yield make
    for observer in made:
        observer.close()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    yield f"http://guest:guest@127.0.0.1:{server.server_port}"
    server.server_close()


def seen(db: Database) -> Queue:
    with db.reading() as tx:
        return queues.queues(tx, utc_now())[0]


def sampled(db: Database, observer: Observer, fits: Callable[[Queue], bool]) -> Callable[[], bool]:
    def look() -> bool:
        observer.step()
        return fits(seen(db))

    return look


def fill(channel: Any, count: int) -> None:
    declare_all(channel, "rules")
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", "rules", b"{}", pika.BasicProperties(message_id=str(number), delivery_mode=2))


def test_both_sources_together_see_everything(
    db: Database, observe: Observe, channel: Any, eventually: Eventually
) -> None:
    # given five messages, one of them in somebody's hands
    fill(channel, 5)
    observer = observe()
    eventually(sampled(db, observer, lambda queue: queue.ready == 5))
    assert seen(db).state == "no_worker"
    channel.basic_get("rules")
    # then what waits comes from the declare, what is in hand from the management API
    eventually(sampled(db, observer, lambda queue: queue.ready == 4 and queue.unacked == 1))
    found = seen(db)
    assert (found.delayed, found.dead) == (0, 0)
    assert (found.declared, found.managed) == (True, True)
    # and the oldest has waited for as long as the queue was seen not to be empty
    eventually(sampled(db, observer, lambda queue: (queue.oldest_ms or 0) >= 2_000))


def test_retries_that_a_worker_holds_in_memory_are_counted(
    db: Database, observe: Observe, settings: Settings, eventually: Eventually
) -> None:
    # given three messages that failed and wait in a worker for their next try
    broker = configure(settings, min_backoff_ms=60_000, max_backoff_ms=120_000)

    @dramatiq.actor(broker=broker, actor_name="ask", queue_name="rules")
    def ask() -> None:
        raise Unavailable("not there")

    for _ in range(3):
        ask.send()
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    # then they are seen, though a declare of the delay queue says that it is empty
    observer = observe()
    eventually(sampled(db, observer, lambda queue: queue.delayed == 3))
    assert seen(db).consumers == 1
    worker.stop(timeout=5000)
    broker.close()


def test_without_the_management_api_the_rest_goes_on(
    db: Database, observe: Observe, channel: Any, silent_server: str
) -> None:
    fill(channel, 2)
    # given an API that never answers
    observer = observe(silent_server)
    observer.step()
    # then what the broker itself says is there, and the rest is unknown, not zero
    found = seen(db)
    assert (found.declared, found.managed) == (True, False)
    assert (found.ready, found.consumers, found.dead) == (2, 0, 0)
    assert (found.unacked, found.in_rate, found.out_rate) == (None, None, None)
    assert found.delayed == 0
    assert found.state == "no_worker"


def test_without_the_broker_there_is_a_sample_that_says_so(db: Database, observe: Observe) -> None:
    observer = observe("", "amqp://guest:guest@127.0.0.1:9/")
    observer.step()
    found = seen(db)
    assert (found.declared, found.managed, found.state) == (False, False, "unknown")
    assert (found.ready, found.unacked, found.delayed, found.consumers, found.dead) == (None,) * 5


def test_a_queue_that_is_not_there_hides_no_other(db: Database, observe: Observe, channel: Any) -> None:
    channel.queue_declare("rules", durable=True)
    observer = observe("")
    observer.step()
    assert (seen(db).ready, seen(db).dead) == (0, None)


def test_a_login_that_is_refused_is_away(settings: Settings, rabbit: RabbitNode) -> None:
    wrong = rabbit.management_url.replace("guest:guest", "guest:wrong")
    with pytest.raises(ManagementAway, match="status 401"):
        Management(wrong, "/").queues()


def test_two_observers_keep_one_sample_of_a_moment_and_old_ones_go(db: Database) -> None:
    now = utc_now()
    sample = queues.Sample(
        queue="rules", declared=True, managed=False, ready=1, unacked=None, delayed=None, consumers=1,
        in_rate=None, out_rate=None, oldest_ms=0, dead=0,
    )  # fmt: skip
    for at in (now - timedelta(hours=2), now, now):
        db.run(lambda tx, at=at: queues.keep(tx, [sample], at))  # type: ignore[misc]
    with db.reading() as tx:
        assert tx.query(QueueSampleRow).count() == 1
