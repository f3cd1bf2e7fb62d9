"""Dead letters over a real broker: kept for good with their traceback, run again once, never lost in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq.middleware import CurrentMessage
from sqlalchemy import select

from models import inbox, outbox
from models.clock import utc_now
from models.config import Settings
from models.db import Database
from models.errors import Conflict, NotFound, Unavailable
from models.messages.codec import UnknownMessage, decode_event
from models.messages.routing import dramatiq_envelope
from models.operations import AdminActRow, DeadLetterRow
from models.services import accounts, dead_letters
from models.services.dead_letters import OpenLetter
from ops.rabbitmq import RabbitNode
from workers.broker import Broker, SafeRetries, configure, declare_all
from workers.dead_letters import Collector
from workers.failures import Failures
from workers.jobs import housekeeping
from workers.relay import Relay

Eventually = Callable[[Callable[[], bool]], None]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def broker(settings: Settings, db: Database) -> Iterator[Broker]:
    made = configure(settings, min_backoff_ms=20, max_backoff_ms=50)
    made.add_middleware(Failures(db), before=SafeRetries)
    yield made
    made.close()


@pytest.fixture
def working(broker: Broker) -> Iterator[Callable[[], dramatiq.Worker]]:
    workers: list[dramatiq.Worker] = []

    def start() -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(timeout=5000)


@pytest.fixture
def collector(db: Database, settings: Settings) -> Iterator[Collector]:
    made = Collector(db, settings.amqp_url)
    yield made
    made.close()


@pytest.fixture
def relay(db: Database, settings: Settings) -> Iterator[Relay]:
    made = Relay(db, settings.amqp_url)
    yield made
    made.close()


@pytest.fixture
def admin(db: Database) -> str:
    def make(tx: Any) -> str:
        person = accounts.create_person(
            tx,
            email="admin@people.test",
            handle="admin_z",
            display_name="Admin",
            password_hash="x",
            roles=("admin",),
            now=utc_now(),
        )
        return person.user_id

    return db.run(make)


def collected(db: Database, collector: Collector, message_id: str, deaths: int = 1) -> Callable[[], bool]:
    """Takes in what there is, and says whether that letter has died so often."""

    def look() -> bool:
        collector.step()
        with db.reading() as tx:
            row = tx.get(DeadLetterRow, message_id)
            return row is not None and row.deaths == deaths

    return look


def open_letter(db: Database, message_id: str) -> OpenLetter:
    with db.reading() as tx:
        return dead_letters.letter(tx, message_id)


def run_again(db: Database, admin: str, *message_ids: str) -> tuple[str, ...]:
    return db.run(
        lambda tx: dead_letters.requeue(
            tx, message_ids, admin_id=admin, reason="The defect is mended", cause_id="click", now=utc_now()
        )
    )


def present_id() -> str:
    """The id of the message that the actor of this thread works on."""
    message = CurrentMessage.get_current_message()
    assert message is not None
    return str(message.message_id)


def count(channel: Any, queue: str) -> int:
    found: int = channel.queue_declare(queue, passive=True).method.message_count
    return found


def test_a_letter_is_kept_with_its_last_traceback_and_runs_again_once(
    db: Database,
    broker: Broker,
    working: Callable[[], dramatiq.Worker],
    collector: Collector,
    relay: Relay,
    channel: Any,
    admin: str,
    eventually: Eventually,
) -> None:
    # given an actor with a defect that depends on the day
    broken = [True]
    done: list[str] = []
    attempts: list[str] = []

    @dramatiq.actor(broker=broker, actor_name="bill", queue_name="payments")
    def bill(session_id: str) -> None:
        attempts.append(session_id)

        def work(tx: Any) -> None:
            assert inbox.first_time(tx, present_id(), utc_now())
            if broken[0]:
                raise ZeroDivisionError(f"attempt {len(attempts)} of somebody@people.test")

        db.run(work)
        done.append(session_id)

    message_id = db.run(lambda tx: outbox.actor(tx, "payments", "bill", "ses_1", cause_id="req_1"))
    working()
    # when it is announced and fails for good
    relay.step()
    eventually(collected(db, collector, message_id))
    # then the letter is here, not there, and says how it ended: the last attempt, without the address
    letter = open_letter(db, message_id)
    assert count(channel, "payments.XQ") == 0
    assert letter.letter.attempts == len(attempts) == 6
    assert letter.letter.error == "ZeroDivisionError: attempt 6 of (hidden)"
    assert 'raise ZeroDivisionError(f"attempt' in letter.traceback
    assert "somebody@people.test" not in letter.traceback + letter.payload
    assert (letter.letter.why, letter.letter.actor, letter.letter.cause_id) == ("rejected", "bill", "req_1")
    # when it runs again unmended, it dies a second death of the same row
    assert run_again(db, admin, message_id) == (message_id,)
    relay.step()
    eventually(collected(db, collector, message_id, deaths=2))
    assert open_letter(db, message_id).letter.status == "waiting"
    # when it is mended
    broken[0] = False
    run_again(db, admin, message_id)
    assert run_again(db, admin, message_id) == ()
    relay.step()
    eventually(lambda: len(done) == 1)
    # then it is done, once, and the record says who wanted that
    letter = open_letter(db, message_id)
    assert (letter.letter.status, letter.letter.done) == ("requeued", True)
    with db.reading() as tx:
        acts = tx.scalars(select(AdminActRow)).all()
        assert {(act.admin_id, act.act, act.subject) for act in acts} == {(admin, "letter_requeued", message_id)}
        assert len(acts) == 2


def test_what_was_done_already_is_not_done_again(
    db: Database,
    broker: Broker,
    working: Callable[[], dramatiq.Worker],
    collector: Collector,
    relay: Relay,
    channel: Any,
    admin: str,
    eventually: Eventually,
) -> None:
    # given an actor that does its work and fails afterwards
    effects: list[str] = []
    runs: list[str] = []

    @dramatiq.actor(broker=broker, actor_name="settle", queue_name="rules", throws=(UnknownMessage,))
    def settle(session_id: str) -> None:
        try:
            if db.run(lambda tx: inbox.first_time(tx, present_id(), utc_now())):
                effects.append(session_id)
                raise UnknownMessage("after the effect")
        finally:
            runs.append(session_id)

    message_id = db.run(lambda tx: outbox.actor(tx, "rules", "settle", "ses_1", cause_id="req_1"))
    working()
    relay.step()
    eventually(collected(db, collector, message_id))
    # when a long time passes and it is run again
    db.run(lambda tx: housekeeping(tx, utc_now() + timedelta(days=90)))
    run_again(db, admin, message_id)
    relay.step()
    eventually(lambda: len(runs) == 2)
    # then there is one effect
    assert effects == ["ses_1"]


def test_a_letter_that_is_delivered_again_is_one_death(
    db: Database,
    collector: Collector,
    channel: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    # given a dead letter
    channel.confirm_delivery()
    declare_all(channel, "rules")
    body = dramatiq_envelope("rules", "apply_auto_accept", "msg_1", "req_1")
    channel.basic_publish("", "rules", body, pika.BasicProperties(message_id="msg_1"))
    method, _, _ = channel.basic_get("rules")
    channel.basic_nack(method.delivery_tag, requeue=False)
    # and a collector that is killed after it committed, before it acknowledged
    doomed = Collector(db, settings.amqp_url)

    def killed(*_: Any, **__: Any) -> None:
        raise pika.exceptions.AMQPConnectionError

    while not _letters(db):
        doomed._connection or doomed._connect()
        monkeypatch.setattr(doomed._channel, "basic_ack", killed)
        try:
            doomed.step()
        except pika.exceptions.AMQPConnectionError:
            break
    doomed.close()
    assert _letters(db) == [("msg_1", "waiting", 1)]
    # The broker gives it back when it has taken in that the connection is gone.
    eventually(lambda: count(channel, "rules.XQ") == 1)
    # when another takes it in
    while count(channel, "rules.XQ"):
        collector.step()
    # then it is the same death
    assert _letters(db) == [("msg_1", "waiting", 1)]


def test_while_the_database_is_away_letters_wait_in_the_broker(
    db: Database, settings: Settings, channel: Any, eventually: Eventually, collector: Collector
) -> None:
    # given a letter, and a collector whose database fails
    declare_all(channel, "rules")
    channel.basic_publish("", "rules.XQ", dramatiq_envelope("rules", "apply_auto_accept", "msg_2", "req_1"))

    class Away:
        def run(self, _fn: Any) -> None:
            raise Unavailable("away")

    failing = Collector(Away(), settings.amqp_url)  # type: ignore[arg-type]

    def refused() -> bool:
        try:
            failing.step()
        except Unavailable:
            return True
        return False

    eventually(refused)
    failing.close()
    # then it is still there, and is taken in when the database is back
    eventually(lambda: count(channel, "rules.XQ") == 1)
    eventually(collected(db, collector, "msg_2"))


def test_a_letter_without_a_traceback_arrives_when_the_database_was_away(
    db: Database,
    settings: Settings,
    working: Callable[[], dramatiq.Worker],
    collector: Collector,
    eventually: Eventually,
) -> None:
    # given a worker that cannot note failures
    class Away:
        def run(self, _fn: Any) -> None:
            raise Unavailable("away")

    broker = configure(settings, min_backoff_ms=20, max_backoff_ms=50)
    broker.add_middleware(Failures(Away()), before=SafeRetries)  # type: ignore[arg-type]

    @dramatiq.actor(broker=broker, actor_name="read", queue_name="media-events", throws=(UnknownMessage,))
    def read(body: str) -> None:
        decode_event(body)

    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    # when
    sent = read.send('{"type":"FromTheFuture","cause_id":"ses_9","grant":"s3cret"}')
    eventually(collected(db, collector, sent.message_id))
    worker.stop(timeout=5000)
    broker.close()
    # then
    letter = open_letter(db, sent.message_id)
    assert (letter.traceback, letter.letter.error, letter.letter.cause_id) == ("", "", "ses_9")
    assert "FromTheFuture" in letter.payload
    assert "s3cret" not in letter.payload


def test_each_retry_waits_longer_up_to_a_bound(
    settings: Settings, working: Callable[[], dramatiq.Worker], broker: Broker, eventually: Eventually
) -> None:
    # given an actor that fails, and somebody who notes for how long its message is put off
    planned: list[int] = []
    attempts: list[int] = []

    class Delays(dramatiq.Middleware):
        def after_enqueue(self, broker: dramatiq.Broker, message: Any, delay: int | None) -> None:
            if delay is not None:
                planned.append(delay)

    broker.add_middleware(Delays())

    @dramatiq.actor(broker=broker, actor_name="wait", queue_name="payments")
    def wait() -> None:
        attempts.append(1)
        if len(attempts) < 6:
            raise Unavailable("not there")

    # when it fails again and again
    wait.send()
    working()
    eventually(lambda: len(attempts) == 6)
    # then the wait doubles from 20 ms, up to twice that by chance, and never passes 50 ms
    for retry, delay in enumerate(planned):
        assert min(20 * 2**retry, 25) <= delay <= min(40 * 2**retry, 50), planned


def test_what_is_no_message_is_kept_and_cannot_be_run(
    db: Database, collector: Collector, channel: Any, admin: str, eventually: Eventually
) -> None:
    declare_all(channel, "rules")
    channel.basic_publish("", "rules.XQ", b"\xff\x00 no message", pika.BasicProperties(message_id="odd"))
    eventually(collected(db, collector, "odd"))
    assert not open_letter(db, "odd").letter.runnable
    with pytest.raises(Conflict) as refused:
        run_again(db, admin, "odd")
    assert refused.value.code == "LETTER_UNREADABLE"
    # all or none
    with pytest.raises(NotFound):
        db.run(
            lambda tx: dead_letters.discard(
                tx, ["odd", "nobody"], admin_id=admin, reason="not ours", cause_id="c", now=utc_now()
            )
        )
    assert open_letter(db, "odd").letter.status == "waiting"
    db.run(
        lambda tx: dead_letters.discard(
            tx, ["odd"], admin_id=admin, reason="not ours", cause_id="c", now=utc_now()
        )
    )
    letter = open_letter(db, "odd").letter
    assert (letter.status, letter.decided_by, letter.decided_why) == ("discarded", admin, "not ours")


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    db: Database, settings: Settings, channel: Any, relay: Relay, tmp_path: Path, eventually: Eventually
) -> None:
    # given a worker process whose actor never ends at its first run
    script = tmp_path / "stuck.py"
    script.write_text(
        "import os, time, dramatiq, pathlib\n"
        "from models.config import load_settings\n"
        "from workers.broker import configure\n"
        "broker = configure(load_settings())\n"
        "here = pathlib.Path(os.environ['HERE'])\n"
        "@dramatiq.actor(broker=broker, actor_name='stick', queue_name='rules')\n"
        "def stick(word):\n"
        "    with (here / 'runs').open('a') as runs: runs.write(word + '\\n')\n"
        "    if not (here / 'second').exists():\n"
        "        time.sleep(60)\n"
    )
    environment = {
        **os.environ,
        "AMQP_URL": settings.amqp_url,
        "SECRET_KEY": settings.secret_key,
        "TESTING": "1",
        "HERE": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    command = [str(Path(sys.executable).with_name("dramatiq")), "stuck", "--processes", "1", "--threads", "1"]
    runs = tmp_path / "runs"
    db.run(lambda tx: outbox.actor(tx, "rules", "stick", "once", cause_id="c"))
    relay.step()
    first = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        eventually(lambda: runs.exists() and runs.read_text() == "once\n")
        # when it is killed while it works
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(60)
        (tmp_path / "second").touch()
        second = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            # then the next one does it, and the queue is empty only after that
            eventually(lambda: runs.read_text() == "once\nonce\n")
            eventually(lambda: count(channel, "rules") == 0)
        finally:
            os.killpg(second.pid, signal.SIGKILL)
            second.wait(60)
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait(60)


def test_a_broker_that_is_down_at_the_retry_loses_nothing(
    db: Database, settings: Settings, eventually: Eventually, tmp_path: Path, rabbit: RabbitNode
) -> None:
    # given a message that fails while the broker goes away under it
    broker = configure(settings, min_backoff_ms=20, max_backoff_ms=50)
    broker.add_middleware(Failures(db), before=SafeRetries)
    attempts: list[int] = []

    @dramatiq.actor(broker=broker, actor_name="pay", queue_name="payments")
    def pay() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            rabbit.kill()
            raise Unavailable("the gateway is away, and so is the broker")

    pay.send()
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        eventually(lambda: len(attempts) == 1 and rabbit.process is None)
        # when the broker is back
        rabbit.start()
        # then the message is tried again: it was never acknowledged
        eventually(lambda: len(attempts) >= 2)
    finally:
        if rabbit.process is None:
            rabbit.start()
        worker.stop(timeout=5000)
        broker.close()
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    eventually(lambda: count(connection.channel(), "payments") == 0)
    connection.close()


def _letters(db: Database) -> list[tuple[str, str, int]]:
    with db.reading() as tx:
        return [(row.id, row.status, row.deaths) for row in tx.scalars(select(DeadLetterRow))]
