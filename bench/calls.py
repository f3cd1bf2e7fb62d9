"""``make bench-calls``: how many private calls of two one core carries with p99 under 5 ms.

Both sides of every call send 112 packets of 1,200 bytes (720p at a megabit) and 50 of 120 bytes a second, over
real signaling, ICE, DTLS and SRTP, and receive the other's. The node is whole: meters, gates, budgets, the reports
of every five seconds, feedback, one process on one core; the load generator has the other. Calls are added until
p99 is 5 ms or anything is lost, twice in a row. Latency is from the client's send to the instant at which the
kernel had the packet for the other client, so that a late reader is not counted; a late sender is said, as the
generator is the limit then. Where we may, both come before all else on their cores: the machine has other users.

The last line is the calls carried, over those that ``MEDIA_CAPACITY`` lets in (two seats each): from 1 on the
default is no promise too many.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from typing import NamedTuple

import aioice.ice
import msgspec

from bench.callers import Caller, no_media_by_aiortc
from bench.load import MOST_LATE, SOUNDS, Counts, Load
from bench.node_process import NodeProcess, come_first, fields, grant, pin, running_node
from models.config import MEDIA_CAPACITY
from models.messages.commands import Budget, OpenRoom, RoomSpec
from models.timing import Timers, timers_for

MEDIA_CORE, LOAD_CORE = 0, 1
FRAMES, PACKETS_A_FRAME = 28, 4
PACKETS_A_SIDE = FRAMES * PACKETS_A_FRAME + SOUNDS
BOUND_MS = 5.0
AT_ONCE = 4
WARM_SECONDS = 3.0
PATIENCE_MS = 3_600_000
DESCRIPTORS = 16_384


class Step(NamedTuple):
    """One number of calls."""

    calls: int
    counts: Counts
    seconds: float
    node: float
    """Of its core."""
    load: float

    @property
    def lost(self) -> float:
        """The share of what was sent that did not come."""
        return max(0.0, 1 - self.counts.received / self.counts.sent)

    @property
    def is_carried(self) -> bool:
        """Below a packet in ten thousand it is the machine's own hiccup."""
        return self.counts.p99_ms < BOUND_MS and self.lost < 1e-4

    def __str__(self) -> str:
        counts, rate = self.counts, self.counts.received / self.seconds
        return (
            f"{self.calls:5} {rate:9,.0f} "
            f"{100 * self.node:6.0f} % {rate / self.node:11,.0f} {100 * self.load:6.0f} % "
            f"{counts.p50_ms:8.2f} {counts.p99_ms:8.2f} {counts.p999_ms:8.2f} {100 * self.lost:7.3f} % "
            f"{100 * counts.late:6.2f} %"
        )


HEAD = "calls packets/s  node CPU packets/CPU s load CPU   p50 ms   p99 ms  p99.9 ms    lost  sent late"


def timers() -> Timers:
    """As ever, but that nobody's patience ends while other calls connect."""
    waits = ("connecting_ms", "pause_ms", "pause_leave_ms", "fan_absent_ms", "creator_absent_ms", "camera_off_ms")
    return msgspec.structs.replace(timers_for(60_000), **dict.fromkeys(waits, PATIENCE_MS))


async def a_call(node: NodeProcess, load: Load, number: int) -> None:
    """Two who send and receive, once the load runs."""
    parties = (f"usr_creator_{number}", f"usr_fan_{number}")
    budget = Budget(session_id=f"ses_{number}", paid_ms=PATIENCE_MS, rate_per_minute=60, timers=timers())
    spec = RoomSpec(room_id=f"private-ses_{number}", creator_id=parties[0], parties=parties, budget=budget)
    assert (await node.order(OpenRoom(room=spec, **fields()))).ok
    callers = [Caller(spec.room_id, user_id) for user_id in parties]
    for caller in callers:
        await caller.join(node.url, grant(spec.room_id, caller.user_id))
        await caller.publish()
    for caller in callers:
        await caller.subscribed()
        load.sends(*caller.sends(), frames=FRAMES, packets=PACKETS_A_FRAME)
        load.receives(caller.receives())


async def more_calls(node: NodeProcess, load: Load, first: int, last: int) -> None:
    """Calls ``first`` to ``last``, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            await a_call(node, load, number)

    async with asyncio.TaskGroup() as group:
        for number in range(first, last):
            group.create_task(one(number))


async def step(node: NodeProcess, load: Load, calls: int, seconds: float) -> Step:
    """Everybody sends for so long."""

    def run(how_long: float) -> Counts:
        come_first()
        return load.run(how_long)

    await asyncio.to_thread(run, WARM_SECONDS)
    before, ours = await node.cpu_seconds(), time.process_time()
    counts = await asyncio.to_thread(run, seconds)
    used, ours = await node.cpu_seconds() - before, time.process_time() - ours
    return Step(calls, counts, seconds, used / seconds, ours / seconds)


async def measure(by: int, most: int, seconds: float) -> tuple[int, str]:
    """How many calls are carried, and why not more."""
    no_media_by_aiortc()
    # Their sockets are read by the load, so they never hear that they are still wanted.
    aioice.ice.CONSENT_FAILURES = 1_000_000
    load, carried = Load(), 0
    async with running_node(MEDIA_CORE, comes_first=True) as node:
        print(HEAD, flush=True)
        for calls in range(by, most + 1, by):
            await more_calls(node, load, calls - by, calls)
            for _ in range(2):
                now = await step(node, load, calls, seconds)
                print(now, flush=True)
                if now.is_carried:
                    carried = calls
                    break
            else:
                late = now.counts.late > MOST_LATE
                return carried, "the load generator came too late itself" if late else "the node was too late"
    return carried, "no more were asked for"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", type=int, default=20, help="so many calls more at a time")
    parser.add_argument("--most", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    pin(LOAD_CORE)
    carried, why = asyncio.run(measure(arguments.by, arguments.most, arguments.seconds))
    rate = 2 * carried * PACKETS_A_SIDE
    print(f"{carried} calls, {rate:,} packets/s in and as many out, at p99 < {BOUND_MS:.0f} ms; then {why}")
    print(f"ratio: {2 * carried / MEDIA_CAPACITY:.2f}")


if __name__ == "__main__":
    main()
