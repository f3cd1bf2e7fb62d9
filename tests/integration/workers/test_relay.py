"""The relay over a real broker: everything arrives, in order, whoever dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from models.db import Database
from models.messages.routing import COMMANDS_EXCHANGE, FEED_EXCHANGE
from models.plumbing import OutboxRow
from ops.rabbitmq import RabbitNode
from workers.loop import Loop
from workers.relay import Relay

ROOT = Path(__file__).resolve().parents[3]
Say = Callable[..., None]


def waiting(db: Database) -> int:
    with db.reading() as tx:
        return tx.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.published_at.is_(None))) or 0


def drain(channel: Any, queue: str) -> list[bytes]:
    bodies = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        bodies.append(got[2])
    return bodies


def bind(channel: Any, exchange: str, kind: str, key: str) -> str:
    channel.exchange_declare(exchange, exchange_type=kind, durable=True)
    queue: str = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, key)
    return queue


def test_each_kind_goes_where_it_belongs_in_order(db: Database, amqp_url: str, channel: Any, say: Say) -> None:
    # given
    node = bind(channel, COMMANDS_EXCHANGE, "direct", "media-1")
    feed = bind(channel, FEED_EXCHANGE, "topic", "user.usr_1")
    everyone = bind(channel, FEED_EXCHANGE, "topic", "all")
    for number in range(5):
        say(f"c{number}", "command", "media-1", json.dumps({"n": number}))
    say("f1", "feed", "usr_1", '{"type":"TIP"}')
    say("f2", "feed", None, '{"type":"STREAM_STARTED"}')
    say("a1", "actor", "rules", '["req_1"]', actor="apply_auto_accept")
    # when
    relay = Relay(db, amqp_url)
    relay.step()
    relay.close()
    # then
    assert [json.loads(body)["n"] for body in drain(channel, node)] == [0, 1, 2, 3, 4]
    assert drain(channel, feed) == [b'{"type":"TIP"}']
    assert drain(channel, everyone) == [b'{"type":"STREAM_STARTED"}']
    [message] = [json.loads(body) for body in drain(channel, "rules")]
    assert (message["actor_name"], message["args"], message["message_id"]) == (
        "apply_auto_accept",
        ["req_1"],
        "a1",
    )
    assert waiting(db) == 0


def test_a_command_for_nobody_is_dropped_and_holds_nothing_up(
    db: Database, amqp_url: str, channel: Any, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    node = bind(channel, COMMANDS_EXCHANGE, "direct", "media-1")
    say("lost", "command", "media-gone", "{}")
    say("kept", "command", "media-1", '{"n":1}')
    # when
    with caplog.at_level("WARNING"):
        relay = Relay(db, amqp_url)
        relay.step()
        relay.close()
    # then
    assert drain(channel, node) == [b'{"n":1}']
    assert waiting(db) == 0
    assert "command_dropped" in caplog.text
    assert "message_id=lost" in caplog.text


def test_a_row_that_is_no_message_stops_no_other(
    db: Database, amqp_url: str, channel: Any, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    say("broken", "actor", "rules", "no JSON", actor="apply_auto_accept")
    say("sound", "actor", "rules", '["req_1"]', actor="apply_auto_accept")
    # when
    relay = Relay(db, amqp_url)
    relay.step()
    relay.close()
    # then
    assert [json.loads(body)["message_id"] for body in drain(channel, "rules")] == ["sound"]
    assert waiting(db) == 0
    assert "outbox_row_dropped message_id=broken" in caplog.text


def test_a_deleted_queue_comes_back_with_its_message(
    db: Database, amqp_url: str, channel: Any, say: Say, eventually: Callable[..., None]
) -> None:
    # given
    relay = Relay(db, amqp_url)
    relay.step()
    channel.queue_delete("rules")
    say("a1", "actor", "rules", '["req_1"]', actor="apply_auto_accept")
    # when
    stop = threading.Event()
    thread = threading.Thread(target=Loop("relay", relay.step, stop, relay.close).run)
    thread.start()
    eventually(lambda: waiting(db) == 0)
    stop.set()
    thread.join(60)
    relay.close()
    # then
    assert len(drain(channel, "rules")) == 1


def test_the_outbox_survives_the_death_of_the_broker(
    db: Database, amqp_url: str, rabbit: RabbitNode, say: Say, eventually: Callable[..., None]
) -> None:
    # given a relay at work
    stop = threading.Event()
    relay = Relay(db, amqp_url)
    thread = threading.Thread(target=Loop("relay", relay.step, stop, relay.close).run)
    thread.start()
    say("before", "actor", "rules", '["before"]', actor="apply_auto_accept")
    eventually(lambda: waiting(db) == 0)
    # when the broker is killed, the house goes on talking, and the broker comes back
    rabbit.kill()
    try:
        for number in range(20):
            say(f"during{number}", "actor", "rules", f'["during{number}"]', actor="apply_auto_accept")
    finally:
        rabbit.start()
    eventually(lambda: waiting(db) == 0)
    stop.set()
    thread.join(60)
    relay.close()
    # then nothing is missing, in order, and what was confirmed before the kill is still there
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    seen = list(dict.fromkeys(json.loads(body)["args"][0] for body in drain(connection.channel(), "rules")))
    connection.close()
    assert seen == ["before", *(f"during{number}" for number in range(20))]


def test_killed_between_publish_and_mark_it_publishes_again(
    db: Database, sqlite_url: str, amqp_url: str, channel: Any, say: Say
) -> None:
    # given
    for number in range(3):
        say(f"m{number}", "actor", "rules", f'["{number}"]', actor="apply_auto_accept")
    # when a relay dies after its first batch was published and before it was marked
    died = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("dying_relay.py")), sqlite_url, amqp_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert waiting(db) == 3
    relay = Relay(db, amqp_url)
    relay.step()
    relay.close()
    # then each message is there twice under one id, first copies in order; the inbox takes one of them
    ids = [json.loads(body)["message_id"] for body in drain(channel, "rules")]
    assert ids == ["m0", "m1", "m2", "m0", "m1", "m2"]
    assert waiting(db) == 0
