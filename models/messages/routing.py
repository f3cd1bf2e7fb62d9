"""Where each message goes: the names of exchanges and queues, and the envelope that workers read.

A media node publishes its events straight onto the workers' queue in Dramatiq's documented message
format, so that retries and dead letters are the same for everything the workers do.
"""

from __future__ import annotations

import time

import msgspec

COMMANDS_EXCHANGE = "greenroom.commands"
"""Direct; the routing key is a node id. Each boot of a node binds its own exclusive queue."""

FEED_EXCHANGE = "greenroom.feed"
"""Topic; routing keys ``user.<userId>`` and ``all``. Each web process binds its own exclusive queue."""

MEDIA_EVENTS_QUEUE = "media-events"
MEDIA_EVENTS_ACTOR = "on_media_event"

TRANSCODE_QUEUE = "transcode"
TRANSCODE_ACTOR = "transcode_broadcast"
RECORDING_ACTOR = "record_session"

MAX_COMMANDS_QUEUED = 10_000


def command_queue(node_id: str, boot_id: str) -> str:
    """A queue of its own for each boot: a frozen predecessor may keep its name locked for half a minute."""
    return f"greenroom.media.{node_id}.{boot_id}"


def feed_key(user_id: str | None) -> str:
    """The routing key of a notification: one person's, or everybody's."""
    return "all" if user_id is None else f"user.{user_id}"


def dramatiq_envelope(queue: str, actor: str, message_id: str, *args: str) -> bytes:
    """A Dramatiq message (its JSON encoder's format) that calls ``actor`` with ``args``."""
    return msgspec.json.encode(
        {
            "queue_name": queue,
            "actor_name": actor,
            "args": args,
            "kwargs": {},
            "options": {},
            "message_id": message_id,
            "message_timestamp": int(time.time() * 1000),
        }
    )
