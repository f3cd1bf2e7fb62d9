"""Asking a media node to do something now and hearing whether it has: RPC over RabbitMQ.

One thread owns the connection (pika's are not thread-safe); request threads wait on futures. Replies come
by RabbitMQ's direct reply-to. No reply means *unknown*, never "no": the command is in the outbox as well,
under the same ``message_id``, and the node carries out each id once. Knows nothing of rooms or money.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import msgspec
import pika
import pika.exceptions

from models import log
from models.errors import Unconfirmed
from models.messages import codec
from models.messages.commands import Command, Reply
from models.messages.routing import COMMANDS_EXCHANGE

REPLY_TO = "amq.rabbitmq.reply-to"
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 5.0
# Far above what request threads can ask for at once; a bound, so that a leak would show as refusals.
MOST_WAITING = 10_000

_decode_reply = msgspec.json.Decoder(Reply).decode


class NodeRpc:
    """Calls to media nodes; one object per web process, safe from any thread, starts at the first call."""

    def __init__(self, amqp_url: str) -> None:
        self._parameters = pika.URLParameters(amqp_url)
        self._parameters.heartbeat = 10
        self._parameters.socket_timeout = 3
        self._parameters.stack_timeout = 5
        self._parameters.blocked_connection_timeout = 5
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Reply]] = {}
        self._connection: Any = None
        self._channel: Any = None
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._owner = 0
        self._thread: threading.Thread | None = None

    def call(self, node_id: str, command: Command, timeout_s: float) -> Reply:
        """Send ``command`` to a node and return what it answered.

        Raises Unconfirmed when the node is not there, the broker is not there, or nothing came back within
        ``timeout_s`` seconds. Then the outcome is unknown; the same command may be sent again.
        """
        deadline = time.monotonic() + timeout_s
        self._ensure_running()
        if not self._connected.wait(timeout_s):
            raise Unconfirmed("The message bus does not answer.")
        correlation_id = uuid.uuid4().hex
        future: Future[Reply] = Future()
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Unconfirmed("Too many commands are waiting for an answer.")
            self._waiting[correlation_id] = future
        try:
            self._send(node_id, command, correlation_id, deadline)
            return future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeout as error:
            raise Unconfirmed("The media node did not answer in time.") from error
        finally:
            with self._lock:
                self._waiting.pop(correlation_id, None)

    def close(self) -> None:
        """Stop the thread; calls that wait get Unconfirmed."""
        self._stopping.set()
        thread, connection = self._thread, self._connection
        if thread is None or self._owner != os.getpid():
            return
        if connection is not None and connection.is_open:
            try:
                connection.add_callback_threadsafe(self._stop_consuming)
            except pika.exceptions.AMQPError:
                log.event("rpc_closed_while_down", level=logging.DEBUG)
        thread.join(timeout=5)

    def _ensure_running(self) -> None:
        """Start the thread in the process that asks: threads do not survive a fork."""
        with self._lock:
            if self._owner == os.getpid():
                return
            self._owner = os.getpid()
            self._waiting = {}
            self._connected = threading.Event()
            self._thread = threading.Thread(target=self._run, name="node-rpc", daemon=True)
            self._thread.start()

    def _send(self, node_id: str, command: Command, correlation_id: str, deadline: float) -> None:
        remaining_ms = max(1, int((deadline - time.monotonic()) * 1000))
        properties = pika.BasicProperties(
            content_type="application/json",
            message_id=command.message_id,
            correlation_id=correlation_id,
            reply_to=REPLY_TO,
            # A command nobody waits for any more is the outbox's business.
            expiration=str(remaining_ms),
        )
        body = codec.encode(command)

        def publish() -> None:
            self._channel.basic_publish(COMMANDS_EXCHANGE, node_id, body, properties, mandatory=True)

        try:
            self._connection.add_callback_threadsafe(publish)
        except pika.exceptions.AMQPError as error:
            raise Unconfirmed("The message bus went away.") from error

    def _run(self) -> None:
        """Own the connection until stopped; reconnect for ever, say so once per outage."""
        backoff, outage = FIRST_BACKOFF_SECONDS, False
        while not self._stopping.is_set():
            try:
                self._connect()
                backoff, outage = FIRST_BACKOFF_SECONDS, False
                self._channel.start_consuming()
            except Exception as error:
                if not outage:
                    log.event("rpc_disconnected", level=logging.WARNING, error=type(error).__name__)
                outage = True
            finally:
                self._connected.clear()
                self._fail_all()
            if self._stopping.wait(backoff):
                break
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _connect(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        channel = connection.channel()
        channel.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        channel.add_on_return_callback(self._on_return)
        channel.basic_consume(REPLY_TO, self._on_reply, auto_ack=True)
        self._connection, self._channel = connection, channel
        self._connected.set()

    def _on_reply(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        future = self._take(properties.correlation_id)
        if future is None:
            return
        try:
            future.set_result(_decode_reply(body))
        except msgspec.DecodeError:
            future.set_exception(Unconfirmed("The media node's answer cannot be read."))

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        future = self._take(properties.correlation_id)
        if future is not None:
            future.set_exception(Unconfirmed("The media node is not connected."))

    def _take(self, correlation_id: str) -> Future[Reply] | None:
        with self._lock:
            return self._waiting.pop(correlation_id, None)

    def _fail_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(Unconfirmed("The message bus went away."))

    def _stop_consuming(self) -> None:
        self._channel.stop_consuming()
