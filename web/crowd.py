"""How many WebSockets may be open at once, and how many films be fetched: each holds a thread, and pages need
threads too.

Counted in this process, for it is this process's threads; how often one may connect is ``web.limits``.
Knows only that a route is a WebSocket, not what is said there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from flask import Flask, g, request

from models.errors import RateLimited, Unavailable
from web.limits import client_address

# Of the 480 threads that the Procfile gives.
MOST_SOCKETS = 340
# A household, an office: two sockets for each open call.
MOST_FROM_ADDRESS = 100
# A player takes a film as slowly as it shows it, over a connection or two.
MOST_FILMS = 36
MOST_FILMS_EACH = 6
RETRY_SECONDS = 10


class Crowd:
    """Who is in, by address, or by whatever else names them. Safe from any thread."""

    def __init__(
        self, most: int = MOST_SOCKETS, most_from_address: int = MOST_FROM_ADDRESS, *, of: str = "sockets"
    ) -> None:
        self._most, self._most_from_address, self._of = most, most_from_address, of
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """One more. Raises RateLimited when that address has its share, Unavailable when all have theirs."""
        with self._lock:
            if self._inside[address] >= self._most_from_address:
                raise RateLimited(f"Too many open {self._of}.", retry_after_seconds=RETRY_SECONDS)
            if self._inside.total() >= self._most:
                raise Unavailable(f"Too many open {self._of}.", retry_after_seconds=RETRY_SECONDS)
            self._inside[address] += 1

    def leave(self, address: str) -> None:
        """One less."""
        with self._lock:
            self._inside[address] -= 1
            self._inside += Counter()  # drops what is zero


class Outgoing:
    """The body of an answer; ``when_over`` is called once, when the server has sent it or given up."""

    def __init__(self, body: Iterable[bytes], when_over: Callable[[], None]) -> None:
        self._body, self._when_over = body, when_over
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Called by the server (PEP 3333), whatever happened."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            if not self._over:
                self._over = True
                self._when_over()


def init_app(app: Flask) -> None:
    """Put the bound around every WebSocket route of ``app``."""
    crowd = Crowd()

    def enter() -> None:
        if request.url_rule is not None and request.url_rule.websocket:
            address = client_address()
            crowd.enter(address)
            g.in_crowd = address

    def leave(_error: BaseException | None) -> None:
        if (address := g.pop("in_crowd", None)) is not None:
            crowd.leave(address)

    app.before_request(enter)
    app.teardown_request(leave)
