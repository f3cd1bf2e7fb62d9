"""Asks every media node, several times a second, whether it is there. What follows if not, services say.

The question goes the way that browsers' signaling goes: to the address that the node named. A connection that is
refused means that its process is gone, and three in a row settle it within about a second; silence may only be
load, and has to last. Wrong either way costs those in its rooms a rejoin and nobody a token: who is only thought
dead is fenced off (models/services/failover.py), and is found again by the first answer. Any number of clocks may
watch: each move of a room happens once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from models.clock import utc_now
from models.db import Database
from models.messages import health
from models.messages.health import Health
from models.services import failover
from models.services.failover import Watched

ROUND_SECONDS = 0.25
PROBE_SECONDS = 1.0
REFUSED_TIMES = 3
SILENT_TIMES = 4
SILENT_SECONDS = 6.0
"""As long as no answer at all may take to come; beyond ``SILENT_TIMES`` questions."""
AGAIN_SECONDS = 1.0
"""How often it is tried to move what found no room."""
MOST_ASKED_AT_ONCE = 16
MOST_LOST_ASKED_AT_ONCE = 4
"""Of their own, so that questions into the void (a name that is looked up for ever, too) hold nobody else's up."""
GONE_AFTER = timedelta(minutes=1)
RARELY_SECONDS = 30.0
"""How often one that has been lost for so long is asked, when no room of it has to go anywhere."""

LONGEST_ANSWER = 4_096

_QUESTION = f"GET {health.PATH} HTTP/1.1\r\nHost: media\r\nConnection: close\r\n\r\n".encode()
_who = msgspec.json.Decoder(Health).decode

Answer = Literal["here", "refused", "silent"]


class Suspicion:
    """What the answers of one life of a node come to. Times in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._refused = self._failed = 0
        self._failing_since = 0.0

    def heard(self, answer: Answer, now: float) -> bool:
        """Take in one answer; whether the node is lost."""
        if answer == "here":
            self._refused = self._failed = 0
            return False
        if self._failed == 0:
            self._failing_since = now
        self._failed += 1
        self._refused = self._refused + 1 if answer == "refused" else 0
        silent = self._failed >= SILENT_TIMES and now - self._failing_since >= SILENT_SECONDS
        return self._refused >= REFUSED_TIMES or silent


def probe(url: str, node_id: str) -> Answer:
    """Ask whoever listens at a node's signaling address who it is; at most PROBE_SECONDS for each of two steps.

    Any life of the node counts as there: that it is a new one, it says itself (``NodeReady``). Another node under
    its address means that its process is gone, as surely as a refusal does. What is no answer of ours is none.
    """
    try:
        address = urlsplit(url)
        with socket.create_connection((address.hostname or "", address.port or 80), PROBE_SECONDS) as line:
            line.settimeout(PROBE_SECONDS)
            line.sendall(_QUESTION)
            head, _, body = _read(line).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return "silent"
        return "here" if _who(body).node_id == node_id else "refused"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, ValueError, msgspec.DecodeError):
        return "silent"


def _read(line: socket.socket) -> bytes:
    """All that is said before the connection ends; a longer or slower answer is none."""
    until, said = time.monotonic() + PROBE_SECONDS, b""
    while len(said) <= LONGEST_ANSWER:
        line.settimeout(max(0.001, until - time.monotonic()))
        more = line.recv(LONGEST_ANSWER)
        if not more:
            return said
        said += more
    raise ValueError("too long")


class NodeWatch:
    """Watches all nodes; used by the thread that calls ``step``."""

    def __init__(
        self,
        db: Database,
        ask: Callable[[str, str], Answer] = probe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._ask = ask
        self._clock = clock
        self._pool = ThreadPoolExecutor(MOST_ASKED_AT_ONCE, thread_name_prefix="node-probe")
        self._lost_pool = ThreadPoolExecutor(MOST_LOST_ASKED_AT_ONCE, thread_name_prefix="lost-node-probe")
        self._asked: dict[tuple[str, str], Future[Answer]] = {}
        self._suspicions: dict[tuple[str, str], Suspicion] = {}
        self._lost: dict[tuple[str, str], bool] = {}
        self._again_at: dict[tuple[str, str], float] = {}
        self._ask_at: dict[tuple[str, str], float] = {}

    def step(self) -> float:
        """Take in what was answered and ask again; seconds until the next. Raises when the database is away."""
        with self._db.reading() as tx:
            nodes = failover.watched(tx)
        keys = {(node.node_id, node.boot_id) for node in nodes}
        for known in (self._asked, self._suspicions, self._lost, self._again_at, self._ask_at):
            for key in known.keys() - keys:
                del known[key]
        for node in nodes:
            self._look(node, others=any(other.takes_rooms for other in nodes if other is not node))
        return ROUND_SECONDS

    def close(self) -> None:
        """Ask nobody any more."""
        for pool in (self._pool, self._lost_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, node: Watched, *, others: bool) -> None:
        key, now = (node.node_id, node.boot_id), self._clock()
        asked = self._asked.get(key)
        if asked is not None and asked.done():
            del self._asked[key]
            self._heard(node, asked.result(), now)
        if key not in self._asked and now >= self._ask_at.get(key, 0.0):
            gone = node.lost_at is not None and not node.rooms and utc_now() - node.lost_at > GONE_AFTER
            self._ask_at[key] = now + (RARELY_SECONDS if gone else 0.0)
            pool = self._pool if node.lost_at is None else self._lost_pool
            self._asked[key] = pool.submit(self._ask, node.signaling_url, node.node_id)
        # Not in the round in which it was taken for lost: by now it is known which others are, too.
        if node.lost_at and self._lost.get(key) and node.rooms and others and now >= self._again_at.get(key, 0.0):
            self._again_at[key] = now + AGAIN_SECONDS
            failover.move_rooms(self._db, *key, utc_now())

    def _heard(self, node: Watched, answer: Answer, now: float) -> None:
        key = (node.node_id, node.boot_id)
        lost = self._lost[key] = self._suspicions.setdefault(key, Suspicion()).heard(answer, now)
        if node.lost_at is None:
            if lost:
                self._db.run(lambda tx: failover.node_lost(tx, *key, utc_now()))
        elif answer == "here" and failover.may_be_found(node.lost_at, utc_now()):
            self._db.run(lambda tx: failover.node_found(tx, *key, utc_now()))
