"""The live feed, ``/api/events``: what the broker has to say to a person, to each of that person's sockets.

One consumer thread a process, on a queue of its own that holds everything; a bounded queue for each socket.
Nothing is kept for those who are away: they get RESYNC on their return and refetch. Starts with the first
socket, so after any fork. Must not know what the notifications mean.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pika
import pika.exceptions
from flask import Blueprint

from models import log
from models.clock import rfc3339, utc_now
from models.db import Database
from models.errors import Unauthenticated
from models.ids import BOOT, new_id
from models.messages.routing import FEED_EXCHANGE, feed_key
from models.services import accounts, presence
from web import limits, sockets
from web.auth import bearer_token, cookie_token, current_person
from web.context import Greenroom, cause_id, greenroom
from web.metrics import Metrics
from web.signaling import BURST, MESSAGES_PER_SECOND, Bucket, check_socket_origin
from web.sockets import BoundedServer

MOST_QUEUED = 100
RECHECK_SECONDS = 30.0
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.2, 5.0
_EVERYBODY = feed_key(None)


class Feed:
    """What waits for one socket. The hub offers, wakes and never blocks; the socket's thread takes."""

    def __init__(self, user_id: str, wake: Callable[[], None]) -> None:
        self.user_id = user_id
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._overflowed = self._recheck = False

    def offer(self, text: str) -> bool:
        """Queue ``text``; False when there was no room, and then nothing more is taken."""
        with self._lock:
            if self._overflowed:
                return True
            if len(self._waiting) >= MOST_QUEUED:
                self._overflowed = True
                self._wake()
                return False
            self._waiting.append(text)
            self._wake()
            return True

    def recheck(self) -> None:
        """Ask the socket's thread to look again whether its person is still signed in."""
        with self._lock:
            self._recheck = True
            self._wake()

    def take(self) -> tuple[list[str], bool, bool]:
        """What waited, whether it overflowed, whether to recheck."""
        with self._lock:
            waiting, recheck = list(self._waiting), self._recheck
            self._waiting.clear()
            self._recheck = False
            return waiting, self._overflowed, recheck


class Hub:
    """All feeds of this process, and the threads that serve them."""

    def __init__(self, amqp_url: str, database: Database, metrics: Metrics) -> None:
        self._amqp_url = amqp_url
        self._database = database
        self._metrics = metrics
        self._lock = threading.Lock()
        self._feeds: dict[str, set[Feed]] = {}
        self._owner = 0
        self._boot_id = ""
        self._stopping = threading.Event()

    def subscribe(self, user_id: str, wake: Callable[[], None]) -> Feed:
        """A feed for one socket, beginning with RESYNC; ``wake`` is called when there is something to take."""
        self._ensure_running()
        feed = Feed(user_id, wake)
        feed.offer(resync())
        with self._lock:
            self._feeds.setdefault(user_id, set()).add(feed)
        return feed

    def unsubscribe(self, feed: Feed) -> None:
        """The socket is gone."""
        with self._lock:
            feeds = self._feeds.get(feed.user_id, set())
            feeds.discard(feed)
            if not feeds:
                self._feeds.pop(feed.user_id, None)

    def deliver(self, routing_key: str, body: bytes) -> None:
        """Hand a notification to everybody it is for."""
        text = body.decode("utf-8", "replace")
        for feed in self._addressed(routing_key):
            if not feed.offer(text):
                self._metrics.feed_overflows.inc()

    def recheck(self, user_id: str) -> None:
        """Sign-ins of this person ended: let each open feed find out whether it was one of theirs."""
        with self._lock:
            feeds = list(self._feeds.get(user_id, ()))
        for feed in feeds:
            feed.recheck()

    @property
    def boot_id(self) -> str:
        """Names this process in the table of present feeds."""
        return self._boot_id

    def close(self) -> None:
        """Stop the threads; open sockets stay as they are."""
        self._stopping.set()

    def _addressed(self, routing_key: str) -> list[Feed]:
        with self._lock:
            if routing_key == _EVERYBODY:
                return [feed for feeds in self._feeds.values() for feed in feeds]
            return list(self._feeds.get(routing_key.removeprefix("user."), ()))

    def _ensure_running(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                return
            self._owner = os.getpid()
            self._boot_id = new_id(BOOT)
            self._feeds = {}
            self._stopping = threading.Event()
        for target, name in ((self._consume_forever, "feed-hub"), (self._beat_forever, "feed-heartbeat")):
            threading.Thread(target=target, args=(self._stopping,), name=name, daemon=True).start()

    def _beat_forever(self, stopping: threading.Event) -> None:
        while not stopping.wait(presence.HEARTBEAT_SECONDS):
            try:
                self._database.run(lambda tx: presence.web_heartbeat(tx, self._boot_id, utc_now()))
            except Exception:
                log.failure("feed_heartbeat_failed")

    def _consume_forever(self, stopping: threading.Event) -> None:
        backoff, outage = FIRST_BACKOFF_SECONDS, False
        while not stopping.is_set():
            try:
                connection, channel, queue = self._connect()
                self._metrics.broker_reconnects.inc()
                backoff, outage = FIRST_BACKOFF_SECONDS, False
                # Whatever was said while nobody listened is lost: everybody looks again.
                self.deliver(_EVERYBODY, resync().encode())
                self._consume(channel, queue, stopping)
                connection.close()
            except Exception as error:
                if not outage:
                    log.event("feed_disconnected", level=logging.WARNING, error=type(error).__name__)
                outage = True
                stopping.wait(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _connect(self) -> tuple[Any, Any, str]:
        parameters = pika.URLParameters(self._amqp_url)
        parameters.heartbeat = 10
        parameters.socket_timeout = 3
        parameters.stack_timeout = 5
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.exchange_declare(FEED_EXCHANGE, exchange_type="topic", durable=True)
        queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
        channel.queue_bind(queue, FEED_EXCHANGE, "#")
        return connection, channel, queue

    def _consume(self, channel: Any, queue: str, stopping: threading.Event) -> None:
        for method, _properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            if stopping.is_set():
                return
            if method is not None:
                self.deliver(method.routing_key, body)


def resync() -> str:
    """``RESYNC``: refetch over REST."""
    return msgspec.json.encode({"type": "RESYNC", "at": rfc3339(utc_now())}).decode()


blueprint = Blueprint("events", __name__)


@blueprint.before_request
def admit() -> None:
    """Origin, rate and sign-in are checked while the answer can still be a problem document."""
    check_socket_origin()
    limits.enforce((limits.EVENTS, limits.client_address()))
    _listener()


def _listener() -> tuple[str, str]:
    """The user's id and the sign-in token, by cookie or bearer. Raises Unauthenticated."""
    person, token = current_person(), bearer_token() or cookie_token()
    if person is None or token is None:
        raise Unauthenticated("Sign in, or send a bearer token.")
    return person.user_id, token


@sockets.route(blueprint, "/api/events")
def talk(ws: BoundedServer) -> None:
    """One socket of one person, present for as long as it lasts."""
    house, cause = greenroom(), cause_id()
    user_id, token = _listener()
    feed = house.hub.subscribe(user_id, ws.event.set)
    connection_id = None
    try:
        connection_id = house.database.run(
            lambda tx: presence.feed_opened(tx, user_id, house.hub.boot_id, utc_now())
        )
        log.event("feed_opened", user_id=user_id, cause_id=cause)
        with house.metrics.feeds.track_inprogress():
            ws.close(_pump(ws, house, feed, token))
    finally:
        house.hub.unsubscribe(feed)
        if connection_id is not None:
            gone = connection_id
            house.database.run(lambda tx: presence.feed_closed(tx, gone, utc_now()))
        log.event("feed_closed", user_id=user_id, cause_id=cause)


def _pump(ws: BoundedServer, house: Greenroom, feed: Feed, token: str) -> int:
    """Pass on what waits until the feed must end; returns the close code. Raises Closed."""
    next_check = time.monotonic() + RECHECK_SECONDS
    bucket = Bucket(MESSAGES_PER_SECOND, BURST, time.monotonic())
    while True:
        # Set by what was read, by the end and by the feed; receiving may clear it too, so the feed comes last.
        ws.event.wait(max(0.0, next_check - time.monotonic()))
        ws.event.clear()
        # What the client says is read and forgotten; there is nothing to say.
        while ws.receive(timeout=0) is not None:
            if not bucket.take(time.monotonic()):
                return sockets.POLICY
        waiting, overflowed, recheck = feed.take()
        for text in waiting:
            ws.send(text)
        if overflowed:
            return sockets.TRY_LATER
        if recheck or time.monotonic() >= next_check:
            if not _still_signed_in(house, token):
                return sockets.POLICY
            next_check = time.monotonic() + RECHECK_SECONDS


def _still_signed_in(house: Greenroom, token: str) -> bool:
    with house.database.reading() as tx:
        return accounts.person_by_token(tx, token, now=utc_now()) is not None
