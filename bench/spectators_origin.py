"""Many spectators at one door, as players are: both playlists every two seconds, and each new segment once.

Every viewer has an address, a connection of its own that is kept, and a network of its own (127.0.0.0/8 has
enough for everybody); who is told where to renews the signed address as the page does. Nothing is decoded, and of
a segment nothing is kept: this runs on the machine that it measures. Knows HTTP/1.1 as far as it needs it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from models.ladder import AUDIO, SLOT_SECONDS

RUNG = "480p"
PATIENCE_SECONDS = 20.0
AT_START = 2
"""Segments of each rung that a player fetches before it begins."""
RENEW_SECONDS = 55.0
"""As web/static/js/spectator_player.js."""
RAMP_SECONDS = 8.0
"""They come within this time, and are counted from then on."""
_HEAD_END = b"\r\n\r\n"


class Load(msgspec.Struct):
    """What all of them saw."""

    kinds: dict[str, list[float]] = msgspec.field(
        default_factory=lambda: {"playlist": [], "segment": [], "renewal": []}
    )
    """Milliseconds from the request to the answer's last byte."""
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    size: int = 0
    late: int = 0
    """Rounds that took longer than a segment plays: a player would run dry."""
    rounds: int = 0


class Answer(NamedTuple):
    """Status, length of the body, and the body for who asked for it."""

    status: int
    size: int
    body: bytes


class Visit(NamedTuple):
    """What a page has that asks for an address: the room, and what its browser sends along."""

    room_id: str
    cookie: str
    token: str


class Connection(asyncio.Protocol):
    """One viewer's connection. One request at a time; bodies are kept only for who asks for them."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._keep = False
        self._begin()

    def _begin(self) -> None:
        self._head = b""
        self._status = self._left = self._size = 0
        self._last = False
        self._body: list[bytes] = []

    @property
    def usable(self) -> bool:
        """Whether it can take another request."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's is none of asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("closed"))

    def ask(self, request: bytes, *, keep: bool) -> asyncio.Future[Answer]:
        """The answer; its body is there with ``keep``. Raises ConnectionError, in the future, when it is cut."""
        self._keep = keep
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._waiting.set_exception(ConnectionError("closed"))
        else:
            self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if not self._status:
            self._head += data
            head, found, data = self._head.partition(_HEAD_END)
            if not found:
                return
            self._take_head(head.lower())
        self._left -= len(data)
        if self._keep:
            self._body.append(data)
        if self._left <= 0 and self._waiting is not None:
            answer = Answer(self._status, self._size, b"".join(self._body))
            if self._last:
                self.close()
            waiting, self._waiting = self._waiting, None
            self._begin()
            if not waiting.done():
                waiting.set_result(answer)

    def _take_head(self, head: bytes) -> None:
        self._status = int(head[9:12])
        at = head.find(b"content-length:")
        self._left = self._size = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        self._last = b"connection: close" in head

    def close(self) -> None:
        """Let go of it."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class Viewer:
    """One of them. ``renews``: how it asks for a new address, if it does."""

    def __init__(self, address: str, prefix: str, number: int, found: Load, renews: Visit | None) -> None:
        where = urlsplit(address)
        self._host, self._port = where.hostname or "", where.port or 80
        self._prefix, self._found, self._renews = prefix, found, renews
        # A network of its own, as viewers have; the last number is never 0 or 255.
        self._from = f"127.{1 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
        self._connection: Connection | None = None
        self._newest = {RUNG: "", AUDIO: ""}
        self.counts = False

    async def watch(self, begins: float, counts_from: float, until: float) -> None:
        """By the monotonic clock."""
        await asyncio.sleep(begins - time.monotonic())
        renew_at = begins + random.uniform(0, RENEW_SECONDS)
        await self._get("master.m3u8", "playlist")
        while (began := time.monotonic()) < until:
            self.counts = began >= counts_from
            if self._renews and began >= renew_at:
                renew_at += RENEW_SECONDS
                await self._renew(self._renews)
            await self._round()
            took = time.monotonic() - began
            self._found.rounds += self.counts
            self._found.late += self.counts and took > SLOT_SECONDS
            await asyncio.sleep(max(0.0, SLOT_SECONDS - took))
        self.close()

    async def _round(self) -> None:
        for rung, newest in self._newest.items():
            text = await self._get(f"{rung}/index.m3u8", "playlist")
            names = [line for line in text.decode().split("\n") if line[:1] == "s"]
            for name in [name for name in names if name > newest] if newest else names[-AT_START:]:
                await self._get(f"{rung}/{name}", "segment")
                self._newest[rung] = name

    async def _get(self, name: str, kind: str) -> bytes:
        request = f"GET {self._prefix}/{name} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n"
        return await self._fetch(request.encode(), kind)

    async def _renew(self, visit: Visit) -> None:
        body = msgspec.json.encode({"roomId": visit.room_id})
        head = (
            f"POST /api/streaming/spectate HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Cookie: {visit.cookie}\r\nX-CSRFToken: {visit.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await self._fetch(head.encode() + body, "renewal")

    async def _fetch(self, request: bytes, kind: str) -> bytes:
        """The body, empty if there was none: a player tries again next time."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await self._ask(request, keep=kind == "playlist")
        except (OSError, TimeoutError) as error:
            self.close()
            self._found.failures[type(error).__name__] += 1
            return b""
        if answer.status != 200:
            self._found.failures[str(answer.status)] += 1
            return b""
        if self.counts:
            self._found.size += answer.size
            self._found.kinds[kind].append((time.perf_counter() - began) * 1000)
        return answer.body

    async def _ask(self, request: bytes, *, keep: bool) -> Answer:
        kept = self._connection is not None and self._connection.usable
        for again in (False, True):
            connection = self._connection
            if connection is None or not connection.usable:
                connection = await self._connect()
            try:
                return await connection.ask(request, keep=keep)
            except ConnectionError:
                # A kept connection may have been closed between two requests; a new one has no excuse.
                self.close()
                if again or not kept:
                    raise
        raise ConnectionError("closed twice")

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            Connection, self._host, self._port, local_addr=(self._from, 0)
        )
        self._connection = made
        return made

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def load(
    address: str, prefixes: list[str], seconds: float, *, renews: Visit | None, on_counting: asyncio.Event
) -> Load:
    """One spectator for each signed prefix. They come within RAMP_SECONDS, and are counted for ``seconds`` after
    that; ``on_counting`` is set at that moment. With ``renews`` they renew their address."""
    found = Load()
    now = time.monotonic()
    counts_from = now + RAMP_SECONDS
    until = counts_from + seconds
    viewers = [Viewer(address, prefix, number, found, renews) for number, prefix in enumerate(prefixes)]
    watching = [
        asyncio.create_task(viewer.watch(now + random.uniform(0, RAMP_SECONDS), counts_from, until))
        for viewer in viewers
    ]
    await asyncio.sleep(RAMP_SECONDS)
    on_counting.set()
    await asyncio.gather(*watching)
    return found
