"""Many spectators at the app itself, as players are: both playlists every two seconds, and each new segment.

Every viewer has an address and a connection of its own, and connects again when the server has closed it.
Nothing is decoded. Knows HTTP/1.1 as far as it needs it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from urllib.parse import urlsplit

import msgspec

from models.ladder import AUDIO, SLOT_SECONDS

RUNG = "480p"
LARGEST_ANSWER = 4 * 1024 * 1024
PATIENCE_SECONDS = 20.0
AT_START = 2
"""Segments of each rung that a player fetches before it begins."""


class Load(msgspec.Struct):
    """What all of them saw."""

    kinds: dict[str, list[float]] = msgspec.field(default_factory=lambda: {"playlist": [], "segment": []})
    """Milliseconds from the request to the answer's last byte."""
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    size: int = 0
    late: int = 0
    """Rounds that took longer than a segment plays: a player would run dry."""
    rounds: int = 0


class Connection:
    """One viewer's keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; raises OSError, asyncio.IncompleteReadError or TimeoutError."""
        kept = self._streams is not None
        try:
            return await self._get(path)
        except (OSError, asyncio.IncompleteReadError):
            # A kept connection may have been closed between two requests; a new one has no excuse.
            self.close()
            if not kept:
                raise
            return await self._get(path)

    async def _get(self, path: str) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=LARGEST_ANSWER)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        lines = head.split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        """Let go of it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def load(address: str, prefixes: list[str], seconds: float) -> Load:
    """One spectator for each signed prefix, for ``seconds``; they begin within one segment's time."""
    found = Load()
    until = time.monotonic() + seconds
    await asyncio.gather(*(_spectate(address, prefix, until, found) for prefix in prefixes))
    return found


async def _spectate(address: str, prefix: str, until: float, found: Load) -> None:
    await asyncio.sleep(random.uniform(0, SLOT_SECONDS))
    where = urlsplit(address)
    connection = Connection(where.hostname or "", where.port or 80)
    newest = {RUNG: "", AUDIO: ""}
    await _fetch(connection, f"{prefix}/master.m3u8", "playlist", found)
    while (began := time.monotonic()) < until:
        for rung in newest:
            text = await _fetch(connection, f"{prefix}/{rung}/index.m3u8", "playlist", found)
            names = [line for line in text.decode().split("\n") if line.endswith(".m4s") and line[0] == "s"]
            new = [name for name in names if name > newest[rung]] if newest[rung] else names[-AT_START:]
            for name in new:
                await _fetch(connection, f"{prefix}/{rung}/{name}", "segment", found)
                newest[rung] = name
        took = time.monotonic() - began
        found.rounds += 1
        found.late += took > SLOT_SECONDS
        await asyncio.sleep(max(0.0, SLOT_SECONDS - took))
    connection.close()


async def _fetch(connection: Connection, path: str, kind: str, found: Load) -> bytes:
    """The body, empty if there was none: a player tries again next time."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            status, body = await connection.get(path)
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        connection.close()
        found.failures[type(error).__name__] += 1
        return b""
    if status != 200:
        found.failures[str(status)] += 1
        return b""
    found.kinds[kind].append((time.perf_counter() - began) * 1000)
    found.size += len(body)
    return body
