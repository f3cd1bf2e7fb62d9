"""A full room on a whole node: everybody sends and receives everybody else, over real signaling, ICE and DTLS."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench.callers import Caller
from bench.load import Load
from bench.node_process import NodeProcess, fields, grant
from models.messages.commands import OpenRoom, RoomSpec

ROOM = "live-str_full"
FOUND_SECONDS = 120.0
"""A line that carries everything is known to within some probes."""


class Wired(NamedTuple):
    """A caller whose packets the load sends and receives; numbers are the load's."""

    streams: list[int]
    sink: int


def spec_of(people: int) -> RoomSpec:
    """The room as a node is told of it."""
    names = tuple(f"usr_{number:02}" for number in range(people))
    return RoomSpec(room_id=ROOM, creator_id=names[0], publishers=names)


async def full_room(node: NodeProcess, load: Load, people: int) -> list[Wired]:
    """Open it and connect everybody; the load says when they begin to send."""
    await node.order(OpenRoom(room=spec_of(people), **fields()))
    return await connected(node.url, load, people)


async def connected(url: str, load: Load, people: int, key: bytes | None = None) -> list[Wired]:
    """The same in a room that is open, with grants signed with ``key``."""
    callers = [Caller(ROOM, name) for name in spec_of(people).publishers]
    for caller in callers:
        await caller.join(url, grant(ROOM, caller.user_id, key))
        await caller.publish()
    wanted = 2 * (people - 1)
    for caller in callers:
        await caller.until(lambda one=caller: len(one.tracks) == wanted and one.subscribing is not None)  # type: ignore[misc]
    return [Wired(load.sends(*caller.sends()), load.receives(caller.receives())) for caller in callers]


async def until_all_is_sent(node: NodeProcess) -> None:
    """The load runs: wait until every line is known to carry every picture. Raises TimeoutError."""
    until = time.monotonic() + FOUND_SECONDS
    while True:
        seats = (await node.room(ROOM)).seats
        figures = [seat.figures for seat in seats if seat.figures is not None]
        if len(figures) == len(seats) and all(
            one.kbit_line is not None and one.pictures[0] and not any(one.pictures[1:]) for one in figures
        ):
            return
        if time.monotonic() > until:
            raise TimeoutError(f"pictures are still left out: {[one.pictures for one in figures]}")
        await asyncio.sleep(1)


async def what_is_on(node: NodeProcess) -> str:
    """As the node's own figures of the room have it."""
    room = await node.room(ROOM)
    figures = [seat.figures for seat in room.seats if seat.figures is not None]
    lines = sorted(one.kbit_line / 1000 for one in figures if one.kbit_line is not None)
    trips = sorted(one.rtt_ms for one in figures if one.rtt_ms is not None)
    pictures, smaller, none = (sum(one.pictures[at] for one in figures) for at in range(3))
    return (
        f"of {len(room.seats)} lines {len(lines)} are estimated by transport-wide feedback"
        + (f" (median {lines[len(lines) // 2]:.0f} Mbit/s)" if lines else "")
        + f", round trips by reports of both sides known of {len(trips)}"
        + (f" (median {trips[len(trips) // 2]:.1f} ms)" if trips else "")
        + f"; {room.totals['nacks']:,} NACKs, {room.totals['retransmitted']:,} packets sent again, "
        f"{room.totals['probed']:,} bytes of probes; of {pictures} pictures {smaller} made smaller, "
        f"{none} left out; speaker {room.speaker}"
    )
