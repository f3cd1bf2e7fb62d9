"""Calls from a web process to a media node over a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from models.errors import Unconfirmed
from models.messages import codec
from models.messages.commands import Reply, TerminateCall
from models.messages.routing import COMMANDS_EXCHANGE, command_queue
from ops.rabbitmq import RabbitNode
from web.rpc import NodeRpc


def cut(user_id: str) -> TerminateCall:
    return TerminateCall(
        message_id=f"msg_{user_id}",
        cause_id="cause",
        deadline_at=time.time() + 30,
        room_id="private-1",
        user_id=user_id,
        reason="MODERATION",
    )


class Node:
    """Stands in for a media node's command loop: answers by the user's name."""

    def __init__(self, amqp_url: str, node_id: str) -> None:
        self._url, self._id = amqp_url, node_id
        self.ready = threading.Event()
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.ready.wait(60)

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(60)

    def _run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        channel.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        queue = command_queue(self._id, "boot_1")
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, COMMANDS_EXCHANGE, self._id)
        channel.basic_consume(queue, self._answer, auto_ack=True)
        self.ready.set()
        while not self._stop.is_set():
            connection.process_data_events(0.05)
        connection.close()

    def _answer(self, channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        command = codec.decode_command(body)
        assert isinstance(command, TerminateCall)
        assert properties.message_id == command.message_id
        if command.user_id == "silent":
            return
        known = command.user_id.startswith("usr")
        reply = Reply(ok=known, code="" if known else "NOT_CONNECTED")
        channel.basic_publish(
            "",
            properties.reply_to,
            codec.encode(reply),
            pika.BasicProperties(correlation_id=properties.correlation_id),
        )


@pytest.fixture
def node(amqp_url: str) -> Iterator[Node]:
    made = Node(amqp_url, "media-1")
    yield made
    made.stop()


@pytest.fixture
def rpc(amqp_url: str) -> Iterator[NodeRpc]:
    made = NodeRpc(amqp_url)
    yield made
    made.close()


def test_the_node_answers(node: Node, rpc: NodeRpc) -> None:
    assert rpc.call("media-1", cut("usr_1"), 5) == Reply(ok=True)


def test_a_refusal_is_an_answer(node: Node, rpc: NodeRpc) -> None:
    assert rpc.call("media-1", cut("nobody"), 5) == Reply(ok=False, code="NOT_CONNECTED")


def test_no_answer_in_time_is_unknown(node: Node, rpc: NodeRpc) -> None:
    with pytest.raises(Unconfirmed):
        rpc.call("media-1", cut("silent"), 0.3)


def test_a_node_that_is_not_there_is_known_before_the_time_is_up(rpc: NodeRpc) -> None:
    with pytest.raises(Unconfirmed, match="not connected"):
        rpc.call("media-gone", cut("usr_1"), 30)


def test_many_threads_each_get_their_own_answer(node: Node, rpc: NodeRpc) -> None:
    # given
    answers: dict[str, Reply] = {}

    def ask(user_id: str) -> None:
        answers[user_id] = rpc.call("media-1", cut(user_id), 10)

    users = [f"usr_{number}" if number % 2 else f"nobody_{number}" for number in range(40)]
    threads = [threading.Thread(target=ask, args=(user_id,)) for user_id in users]
    # when
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # then
    assert {user_id: reply.ok for user_id, reply in answers.items()} == {
        user_id: user_id.startswith("usr") for user_id in users
    }


def test_it_comes_back_with_the_broker(
    amqp_url: str, rabbit: RabbitNode, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    # given
    rpc = NodeRpc(amqp_url)
    with pytest.raises(Unconfirmed):
        rpc.call("media-1", cut("usr_1"), 5)
    # when
    rabbit.kill()
    try:
        with pytest.raises(Unconfirmed):
            rpc.call("media-1", cut("usr_1"), 0.5)
    finally:
        rabbit.start()
    node = Node(amqp_url, "media-1")

    def answered() -> bool:
        try:
            return rpc.call("media-1", cut("usr_1"), 3).ok
        except Unconfirmed:
            return False

    # then
    eventually(answered)
    node.stop()
    rpc.close()
