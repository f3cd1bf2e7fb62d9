"""A low-latency player as those are that browsers have built in: blocking reloads, and each part asked for before
it is there, as the playlist hints. Nothing is decoded; measured is how old a part is when it has arrived.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from bench.spectators_origin import Answer, Connection
from models.live_edge import edge_of

PATIENCE_SECONDS = 10.0
_HINT = re.compile(r'^#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', re.MULTILINE)
_PART = re.compile(r'#EXT-X-PART:DURATION=([0-9.]+),URI="([^"]+)"')


class Seen(msgspec.Struct):
    """What the player got."""

    ages: list[float] = msgspec.field(default_factory=list)
    """Seconds from the capture of a part's last picture to its last byte here."""
    refused: int = 0
    """Parts that were hinted and did not come."""
    idle: int = 0
    """Reloads that brought nothing new."""
    skipped: int = 0
    """Parts that came to be without having been hinted in time."""


async def play(address: str, prefix: str, rung: str, seconds: float) -> Seen:
    """Play one rung of a signed prefix for ``seconds``. Raises TimeoutError, ConnectionError."""
    where = urlsplit(address)
    host, port = where.hostname or "", where.port or 80
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Connection, host, port))[1] for _ in range(2)]
    reloads, parts = connections

    async def get(connection: Connection, name: str) -> tuple[Answer, float]:
        request = f"GET {prefix}/{rung}/{name} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        answer = await asyncio.wait_for(connection.ask(request, keep=True), PATIENCE_SECONDS)
        return answer, time.time()

    seen = Seen()
    text = (await get(reloads, "index.m3u8"))[0].body.decode()
    known = {name for name, _ in _ends(text)}
    until = time.monotonic() + seconds
    while time.monotonic() < until and (hint := _HINT.search(text)) is not None:
        edge = edge_of(text)
        asked = f"index.m3u8?_HLS_msn={edge.segment}&_HLS_part={edge.parts}"
        (part, came_at), (playlist, _) = await asyncio.gather(get(parts, hint[1]), get(reloads, asked))
        text = playlist.body.decode()
        new = {name: ends for name, ends in _ends(text) if name not in known}
        known |= new.keys()
        seen.idle += not new
        seen.refused += part.status != 200 or part.size == 0
        seen.skipped += len(new.keys() - {hint[1]})
        if hint[1] in new:
            seen.ages.append(came_at - new[hint[1]])
    for connection in connections:
        connection.close()
    return seen


def _ends(playlist: str) -> Iterator[tuple[str, float]]:
    """Each part, and the Unix time at which its last picture was captured."""
    clock = 0.0
    for line in playlist.splitlines():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            clock = datetime.fromisoformat(line.partition(":")[2]).timestamp()
        elif part := _PART.match(line):
            clock += float(part[1])
            yield part[2], clock
