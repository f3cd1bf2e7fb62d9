"""RabbitMQ's management API, as far as the observer asks it: one bounded GET, every queue of our virtual host."""

from __future__ import annotations

import base64
import http.client
import time
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

SECONDS = 2.0
MOST_BYTES = 4 * 1024 * 1024
COLUMNS = "name,messages_ready,messages_unacknowledged,consumers,head_message_timestamp,message_stats"


class ManagementAway(Exception):
    """The management API did not answer as it should; the text says how, without its address."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the queue was declared."""

    publish: int | None = None
    ack: int | None = None


class ManagedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue as the API tells it; absent where its statistics have not been gathered yet."""

    name: str
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    consumers: int | None = None
    head_message_timestamp: int | None = None
    """Unix seconds; classic queues only (quorum queues do not tell it)."""
    message_stats: Stats = Stats()


_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Management:
    """The API at ``url`` (``http://user:password@host:15672``); an empty one is never there."""

    def __init__(self, url: str, virtual_host: str) -> None:
        parts = urlsplit(url)
        self._there = bool(parts.hostname)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        self._headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        self._path = f"{parts.path.rstrip('/')}/api/queues/{quote(virtual_host, safe='')}?columns={COLUMNS}"

    def queues(self) -> dict[str, ManagedQueue]:
        """Every queue by name. Raises ManagementAway within about twice SECONDS."""
        if not self._there:
            raise ManagementAway("no address is set")
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=SECONDS)
        try:
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            body = _read(answer)
            if answer.status != 200:
                raise ManagementAway(f"status {answer.status}")
            found = [msgspec.convert(each, ManagedQueue) for each in _decode(body)]
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            raise ManagementAway(type(error).__name__) from error
        finally:
            connection.close()
        return {queue.name: queue for queue in found}


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The whole body, within a time and a size: a trickle would pass the socket's own timeout for ever."""
    until, chunks, size = time.monotonic() + SECONDS, [], 0
    while chunk := answer.read1(65_536):
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES or time.monotonic() > until:
            raise ManagementAway("too much or too slow")
    return b"".join(chunks)
