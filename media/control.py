"""The node's line to the control plane: commands in, replies and events out, over RabbitMQ.

Every failure here is the line's own: the node never waits for it, a call runs to its paid end without it.
One connection on the node's event loop, with one channel for commands and one, with publisher confirms, for
events. It reconnects for ever. Knows nothing of what a command does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from media.outgoing import Outgoing
from models import log
from models.clock import utc_now
from models.messages import codec
from models.messages.commands import AnyCommand, Reply
from models.messages.events import AnyEvent
from models.messages.routing import (
    COMMANDS_EXCHANGE,
    MAX_COMMANDS_QUEUED,
    MEDIA_EVENTS_ACTOR,
    MEDIA_EVENTS_QUEUE,
    command_queue,
    dramatiq_envelope,
)

REPLIES_REMEMBERED = 5_000
RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 2.0
QUEUE_RETRY_SECONDS = 0.5


class CommandDesk:
    """Each command once: repeats get the first answer, late and unreadable ones are not carried out."""

    def __init__(self, carry_out: Callable[[AnyCommand], Reply], remembered: int = REPLIES_REMEMBERED) -> None:
        self._carry_out = carry_out
        self._most = remembered
        self._replies: OrderedDict[str, Reply] = OrderedDict()

    def handle(self, body: bytes, now: float) -> Reply:
        """The answer to the command in ``body``; ``now`` in Unix seconds. Never raises."""
        try:
            command = codec.decode_command(body)
        except codec.UnknownMessage:
            log.event("command_unknown", level=logging.ERROR, bytes=len(body))
            return Reply(ok=False, code="UNKNOWN_COMMAND")
        known = self._replies.get(command.message_id)
        if known is not None:
            return known
        if command.deadline_at < now:
            log.event("command_too_late", type=type(command).__name__, cause_id=command.cause_id)
            return Reply(ok=False, code="TOO_LATE")
        try:
            reply = self._carry_out(command)
        except Exception:
            log.failure("command_failed", type=type(command).__name__, cause_id=command.cause_id)
            return Reply(ok=False, code="FAILED")
        self._replies[command.message_id] = reply
        if len(self._replies) > self._most:
            self._replies.popitem(last=False)
        log.event(
            "command_done", type=type(command).__name__, ok=reply.ok, code=reply.code or None,
            cause_id=command.cause_id,
        )  # fmt: skip
        return reply


class ControlLine:
    """The connection. ``publish`` may be called at any time, connected or not."""

    def __init__(
        self,
        amqp_url: str,
        *,
        node_id: str,
        boot_id: str,
        desk: CommandDesk,
        on_ready: Callable[[], None],
    ) -> None:
        """``on_ready`` is called at each (re)connection, once commands can arrive."""
        self.outgoing = Outgoing()
        self._parameters = pika.URLParameters(amqp_url)
        self._parameters.heartbeat = 10
        self._parameters.socket_timeout = 3
        self._parameters.stack_timeout = 5
        self._node_id = node_id
        self._boot_id = boot_id
        self._desk = desk
        self._on_ready = on_ready
        self._connection: Any = None
        self._commands: Any = None
        self._events: Any = None
        self._events_open = False
        self._tag = 0
        self._attempt = 0
        self._connections = 0
        self._stopping = False
        self._retry: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()

    # --- connection ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self._retry = None
        self._connection = AsyncioConnection(
            parameters=self._parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=asyncio.get_running_loop(),
        )

    async def stop(self, flush_seconds: float = 1.0) -> None:
        """Send what is left if the broker is there, then disconnect."""
        if self._events_open and len(self.outgoing):
            self._drained.clear()
            try:
                async with asyncio.timeout(flush_seconds):
                    await self._drained.wait()
            except TimeoutError:
                log.event("events_unconfirmed", level=logging.WARNING, count=len(self.outgoing))
        self._stopping = True
        self._events_open = False
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _opened(self, connection: Any) -> None:
        self._attempt = 0
        connection.channel(on_open_callback=self._commands_opened)
        connection.channel(on_open_callback=self._events_opened)

    def _lost(self, connection: Any, error: BaseException | str) -> None:
        if connection is not self._connection or self._stopping or self._retry is not None:
            return
        self._events_open = False
        self._commands = self._events = None
        self.outgoing.disconnected()
        delay = min(LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2.0**self._attempt)
        self._attempt += 1
        log.event("broker_lost", level=logging.WARNING, error=type(error).__name__, retry_in_s=delay)
        self._retry = asyncio.get_running_loop().call_later(delay, self.start)

    def _channel_lost(self, channel: Any, error: BaseException) -> None:
        """A channel error is a surprise; beginning anew is the one way that is always right."""
        if channel in (self._commands, self._events) and not self._stopping:
            log.event("channel_lost", level=logging.WARNING, error=type(error).__name__)
            self._events_open = False
            if self._connection.is_open:
                self._connection.close()

    # --- commands in --------------------------------------------------------------------------------

    def _commands_opened(self, channel: Any) -> None:
        self._commands = channel
        channel.add_on_close_callback(self._channel_lost)
        # A connection that broke may hold its queue for a while; the next one has its own.
        queue = f"{command_queue(self._node_id, self._boot_id)}.{self._connections}"
        self._connections += 1
        channel.exchange_declare(COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        # Full (nobody read it for long): the oldest go, and SyncRooms says again what must hold.
        channel.queue_declare(
            queue,
            exclusive=True,
            arguments={"x-max-length": MAX_COMMANDS_QUEUED, "x-overflow": "drop-head"},
        )
        channel.queue_bind(queue, COMMANDS_EXCHANGE, routing_key=self._node_id)
        channel.basic_consume(queue, self._command, auto_ack=True, callback=lambda _: self._ready())

    def _ready(self) -> None:
        log.event("broker_reached", boot_id=self._boot_id)
        self._on_ready()

    def _command(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        reply = self._desk.handle(body, utc_now().timestamp())
        if properties.reply_to:
            channel.basic_publish(
                "",
                properties.reply_to,
                codec.encode(reply),
                pika.BasicProperties(
                    content_type="application/json",
                    correlation_id=properties.correlation_id,
                    message_id=properties.message_id,
                ),
            )

    # --- events out ---------------------------------------------------------------------------------

    def publish(self, event: AnyEvent) -> None:
        """Send ``event``, now or when the broker is there; kept until confirmed."""
        self.outgoing.add(event)
        self._pump()

    def _events_opened(self, channel: Any) -> None:
        self._events = channel
        channel.add_on_close_callback(self._channel_lost)
        self._look_for_queue(channel)

    def _look_for_queue(self, channel: Any) -> None:
        """The workers declare the queue. Until they have, nothing is sent: it would be dropped."""
        if self._connection is None or not self._connection.is_open or channel is not self._events:
            return

        def looked(probe: Any) -> None:
            probe.add_on_close_callback(lambda *_: self._look_again(channel))
            probe.queue_declare(MEDIA_EVENTS_QUEUE, passive=True, callback=lambda _: found(probe))

        def found(probe: Any) -> None:
            probe.close()
            if channel is not self._events or self._events_open:
                return
            channel.confirm_delivery(self._settled, callback=lambda _: self._begin(channel))
            channel.add_on_return_callback(self._returned)

        self._connection.channel(on_open_callback=looked)

    def _look_again(self, channel: Any) -> None:
        if not self._events_open and channel is self._events:
            asyncio.get_running_loop().call_later(QUEUE_RETRY_SECONDS, self._look_for_queue, channel)

    def _begin(self, channel: Any) -> None:
        if channel is self._events:
            self._events_open = True
            self._tag = 0
            self._pump()

    def _pump(self) -> None:
        while self._events_open and self._events.is_open and (event := self.outgoing.next()) is not None:
            body = dramatiq_envelope(
                MEDIA_EVENTS_QUEUE, MEDIA_EVENTS_ACTOR, event.message_id, codec.encode(event).decode()
            )
            properties = pika.BasicProperties(
                content_type="application/json", delivery_mode=2, message_id=event.message_id
            )
            self._tag += 1
            self.outgoing.sent(self._tag, event)
            self._events.basic_publish("", MEDIA_EVENTS_QUEUE, body, properties, mandatory=True)
        if not len(self.outgoing):
            self._drained.set()

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """The queue is gone after all. A return is confirmed right afterwards, so begin anew before that."""
        log.event("events_queue_missing", level=logging.ERROR)
        self._events_open = False
        self._connection.close()

    def _settled(self, frame: Any) -> None:
        if not self._events_open:
            return
        confirmed = isinstance(frame.method, pika.spec.Basic.Ack)
        self.outgoing.settled(frame.method.delivery_tag, multiple=frame.method.multiple, confirmed=confirmed)
        if confirmed:
            self._pump()
        else:
            # The queue refuses for now (it is full): not in a tight loop.
            asyncio.get_running_loop().call_later(QUEUE_RETRY_SECONDS, self._pump)
