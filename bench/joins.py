"""``make bench-joins``: what a node holds while a full room of twenty comes and goes for as long as you like.

Everybody publishes sound and picture and receives the other nineteen, over real signaling, ICE, DTLS and SRTP.
After a while each leaves, vanishes without a word, or comes back before its old connection is gone, and takes its
seat again. Every few seconds the node's memory, descriptors, tasks, port tables, SRTP contexts and slots are
counted; what grows shows in the slope after the warm-up. SECONDS=600 by default. Writes ``docs/joins.svg``,
which says from which commit and when. Interrupted, it shows what it has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import subprocess
import time
from pathlib import Path

import msgspec
from websockets.exceptions import WebSocketException

from bench.callers import Caller, no_media_by_aiortc
from bench.node_process import Figures, NodeProcess, fields, grant, running_node
from bench.plots import Panel, write_svg
from models.messages.commands import OpenRoom, RoomSpec

ROOM = "live-str_joins"
PEOPLE = tuple(f"usr_{number:02}" for number in range(20))
SAMPLE_SECONDS = 5.0
SAMPLES = 360
"""At most about so many: each costs the node some ten milliseconds, and the plot room."""
WARM_SHARE = 0.25
STAY_SECONDS = (5.0, 40.0)
BEAT_SECONDS = 0.1
"""Everybody sends a packet of picture and one of sound so often."""
VANISHED_SECONDS = 9.0
"""Silence after which the node gives a seat up, and one more."""
PLOT = Path(__file__).resolve().parent.parent / "docs" / "joins.svg"


class Sample(msgspec.Struct, frozen=True):
    """What was counted ``at`` seconds after the beginning."""

    at: float
    joins: int
    leaves: int
    figures: Figures

    def values(self) -> dict[str, float]:
        """By the names of the table and the plot."""
        figures = self.figures
        return {
            "RSS MiB": figures.rss_kib / 1024,
            "descriptors": figures.descriptors,
            "tasks": figures.tasks,
            "port tables": sum(figures.port),
            **{name: float(count) for name, count in figures.objects.items()},
        }


class Crowd:
    """Twenty people who come and go."""

    def __init__(self, node: NodeProcess, seed: int) -> None:
        self.joins = self.leaves = self.failed = 0
        self.sitting: set[Caller] = set()
        self.packets = 0
        self._node = node
        self._chance = random.Random(seed)

    async def person(self, user_id: str, first_after: float) -> None:
        """One seat's life, until cancelled."""
        caller: Caller | None = None
        try:
            await asyncio.sleep(first_after)
            while True:
                fresh = Caller(ROOM, user_id)
                try:
                    await self._sit(fresh)
                except (TimeoutError, OSError, WebSocketException):
                    # A machine that is too busy; who was late tries again.
                    self.failed += 1
                    await fresh.close()
                    continue
                except asyncio.CancelledError:
                    await fresh.close()
                    raise
                if caller is not None:
                    self.sitting.discard(caller)
                    await caller.close()
                caller = fresh
                await asyncio.sleep(self._chance.uniform(*STAY_SECONDS))
                caller = await self._go(caller)
        finally:
            if caller is not None:
                await caller.close()

    async def _sit(self, caller: Caller) -> None:
        await caller.join(self._node.url, grant(ROOM, caller.user_id))
        await caller.publish()
        self.sitting.add(caller)
        self.joins += 1

    async def _go(self, caller: Caller) -> Caller | None:
        """Leave in one of three ways; who comes back to replace itself is returned."""
        way = self._chance.random()
        if way < 0.2:
            return caller
        self.sitting.discard(caller)
        self.leaves += 1
        self.packets += caller.subscribing.received if caller.subscribing is not None else 0
        if way < 0.4:
            await caller.close()
            await asyncio.sleep(VANISHED_SECONDS)
        else:
            await caller.leave()
        return None

    async def send(self) -> None:
        """Everybody's media."""
        while True:
            for caller in tuple(self.sitting):
                if caller.publishing is not None:
                    caller.publishing.send(caller.lines["video"].packet(1200, 9_000))
                    caller.publishing.send(caller.lines["audio"].packet(120, 4_800))
            await asyncio.sleep(BEAT_SECONDS)


async def measure(seconds: float, seed: int) -> list[Sample]:
    """Come and go for so long, and count."""
    no_media_by_aiortc()
    samples = []
    async with running_node() as node:
        room = RoomSpec(room_id=ROOM, creator_id=PEOPLE[0], publishers=PEOPLE)
        assert (await node.order(OpenRoom(room=room, **fields()))).ok
        crowd = Crowd(node, seed)
        work = [asyncio.create_task(crowd.person(name, number * 0.5)) for number, name in enumerate(PEOPLE)]
        work.append(asyncio.create_task(crowd.send()))
        enough = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, enough.set)
        began = time.monotonic()
        while (at := time.monotonic() - began) < seconds and not any(task.done() for task in work):
            samples.append(Sample(at, crowd.joins, crowd.leaves, await node.figures()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), max(SAMPLE_SECONDS, seconds / SAMPLES))
                break
        for task in work:
            task.cancel()
        for end in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(end, Exception):
                # What was measured until then is shown all the same.
                print(f"somebody could not go on: {end!r}")
        last = await emptied(node)
        print(f"{crowd.joins} joins, {crowd.leaves} leaves, {crowd.failed} too late; {crowd.packets:,} packets")
        print(f"{last.cpu_seconds:.0f} CPU seconds of the node, {last.cpu_seconds / samples[-1].at:.2f} of a core")
        print(
            f"everybody gone: {last.participants} participants, port tables {last.port}, {last.objects}, "
            f"{last.tasks} tasks, {last.descriptors} descriptors"
        )
    return samples


async def emptied(node: NodeProcess) -> Figures:
    """What is left once the last seat was given up."""
    for _ in range(60):
        figures = await node.living()
        if figures.participants == 0 and sum(figures.port) == 0 and figures.objects["peers"] == 0:
            break
        await asyncio.sleep(1)
    return figures


def slope_an_hour(samples: list[Sample], name: str) -> float:
    """By how much ``name`` grows in an hour, by the straight line that fits best; 0 where nobody can tell."""
    if len(samples) < 2:
        return 0.0
    line = statistics.linear_regression([one.at for one in samples], [one.values()[name] for one in samples])
    return line.slope * 3600


def commit() -> str:
    """Of the code that runs, for whoever reads the plot later."""
    asked = ("git", "describe", "--always", "--dirty")
    said = subprocess.run(asked, cwd=PLOT.parent, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "an unknown commit"


def main() -> None:
    """Measure, print, plot; the last line is the memory's end over its start, after the warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, default=PLOT)
    arguments = parser.parse_args()
    load, began, of_commit = os.getloadavg()[1], time.strftime("%Y-%m-%d"), commit()
    samples = asyncio.run(measure(arguments.seconds, arguments.seed))
    warm = [one for one in samples if one.at >= WARM_SHARE * samples[-1].at]
    names = list(samples[0].values())
    print("    s joins  " + "".join(f"{name:>13}" for name in names))
    for one in samples[:: max(1, len(samples) // 15)]:
        print(f"{one.at:5.0f} {one.joins:5}  " + "".join(f"{value:13.1f}" for value in one.values().values()))
    print("slope an hour" + "".join(f"{slope_an_hour(warm, name):13.1f}" for name in names))
    said = (
        f"A full room for {samples[-1].at / 60:.0f} minutes: {samples[-1].joins:,} joins, "
        f"{samples[-1].leaves:,} leaves; {began} at {of_commit}, "
        f"{os.cpu_count()} cores, load {max(load, os.getloadavg()[1]):.0f}"
    )
    times = [one.at for one in samples]
    panels = [Panel(name, [one.values()[name] for one in samples]) for name in names]
    write_svg(arguments.plot, said, times, panels, warm[0].at)
    print(said)
    tenth = max(1, len(warm) // 10)
    memory = [one.figures.rss_kib for one in warm]
    print(f"ratio: {statistics.mean(memory[-tenth:]) / statistics.mean(memory[:tenth]):.3f}")


if __name__ == "__main__":
    main()
