"""How many rooms one machine carries: one more after the other, until a room falls behind.

Every room has a creator who sends the clip, a child and its ladder, as in the product; creators and media node run
on the same machine, and what they take is said. A room keeps up when its segments come out as fast as they are
captured: none gets later, and next to no tick is left out. Nobody watches: ``spectators_origin`` measures what
fetching files costs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.spectators_costs import Meter, Written, offspring, segments_of, written
from demo import PASSWORD
from demo.clip import Clip
from demo.peer import Peer
from models.clock import utc_now
from models.db import Database
from models.ladder import RENDITIONS, RUNGS, SLOT_SECONDS
from models.services import accounts
from ops.house import House, session_members

HOLD_SECONDS = 30.0
SETTLE_SECONDS = 4.0
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.5
TRIES = 2
"""A machine that does something else for a moment is no limit."""
MOST_LEFT_OUT = 0.01
"""Of what was captured."""
MOST_GROWTH_SECONDS = 0.5
MOST_SILENCE_SECONDS = 2 * SLOT_SECONDS
MISSIONS_AGGREGATE = 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Pace(NamedTuple):
    """How one room went for a while."""

    lags: list[float]
    """Seconds from a segment's last capture to its file, in order."""
    left_out: float
    """Share of what was captured that is in no segment."""
    whole: bool
    """One child made all of it, up to now."""

    @property
    def growth(self) -> float:
        """By how much later segments came at the end than at the beginning."""
        third = max(1, len(self.lags) // 3)
        return statistics.median(self.lags[-third:]) - statistics.median(self.lags[:third])

    @property
    def keeps_up(self) -> bool:
        """Whether that may go on for ever."""
        return self.whole and self.left_out <= MOST_LEFT_OUT and self.growth <= MOST_GROWTH_SECONDS


def pace_of(segments: Mapping[str, Written], until: float) -> Pace:
    """Of segments by name, as they were seen until then (Unix seconds)."""
    ordered = sorted(segments.items(), key=lambda item: item[1].captured_at)
    if len(ordered) < 2:
        return Pace([], 1.0, False)
    first, last = ordered[0][1], ordered[-1][1]
    end = last.captured_at + last.seconds
    left_out = 1 - sum(one.seconds for _, one in ordered) / (end - first.captured_at)
    epochs = {name.rpartition("_")[2] for name, _ in ordered}
    silent = until - end - SLOT_SECONDS > MOST_SILENCE_SECONDS
    return Pace([one.lag for _, one in ordered], max(0.0, left_out), len(epochs) == 1 and not silent)


async def how_many(house: House, clip: Path, seconds: float, most: int) -> None:
    """Open rooms, one after the other, up to ``most``; print how each number went, and the largest that did."""
    emails = await asyncio.to_thread(_creators, house, most)
    hold, carried, full = min(seconds, HOLD_SECONDS), 0, False
    print(f"rooms: each number for {hold:.0f} s, up to {most}; load before: {os.getloadavg()[0]:.1f}")
    async with AsyncExitStack() as rooms:
        for number, email in enumerate(emails, 1):
            creator = await rooms.enter_async_context(Peer(house.environment["PUBLIC_URL"]))
            await _go_live(creator, email, clip)
            directories = await _on_air(house, number)
            for _ in range(TRIES):
                full = not await _hold(house, directories, hold)
                if not full:
                    carried = number
                    break
            if full:
                break
    renditions = len(RUNGS) * carried
    limit = "" if full else f", and perhaps more: {most} is as far as it was tried (ROOMS=)"
    print(f"rooms per machine: {carried}{limit}. Each is made at 1.0× real time, as a live room is: "
          f"{carried:.1f}× for the machine, {renditions:.1f}× if its {len(RUNGS)} renditions are counted singly; "
          f"{_against_mission(carried, renditions)}")  # fmt: skip


def _against_mission(rooms: int, renditions: int) -> str:
    if rooms >= MISSIONS_AGGREGATE:
        return f"the mission's {MISSIONS_AGGREGATE}× is reached"
    if renditions >= MISSIONS_AGGREGATE:
        return f"the mission's {MISSIONS_AGGREGATE}× is reached only by counting renditions"
    return f"the mission's {MISSIONS_AGGREGATE}× is not reached on {os.cpu_count()} cores, however it is counted"


async def _hold(house: House, directories: list[Path], seconds: float) -> bool:
    """Look at these rooms for a while and print how they went; whether all kept up."""
    children = [_child(directory) for directory in directories]
    meters = {
        "children": Meter(children),
        "their ffmpeg": Meter([each for child in children for each in offspring(child)]),
        "media node": Meter(session_members(house.children["media"].pid)),
        "creators": Meter([os.getpid()]),
    }
    busy, began = _busy(), time.monotonic()
    seen: dict[Path, dict[str, Written]] = {directory: {} for directory in directories}
    old = {directory: set(segments_of(directory / RUNGS[0].name)) for directory in directories}
    while time.monotonic() - began < seconds:
        await asyncio.sleep(LOOK_SECONDS)
        for directory, segments in seen.items():
            now = segments_of(directory / RUNGS[0].name)
            segments.update({name: one for name, one in now.items() if name not in old[directory]})
    machine = (_busy() - busy) / (time.monotonic() - began)
    try:
        cores = {name: meter.cores() for name, meter in meters.items()}
    except FileNotFoundError:
        cores = {}  # a child was replaced: that shows in its segments, too
    paces = [pace_of(segments, time.time()) for segments in seen.values()]
    _describe(paces, cores, machine)
    return all(pace.keeps_up for pace in paces)


def _describe(paces: list[Pace], cores: Mapping[str, float], machine: float) -> None:
    lags = sorted(lag for pace in paces for lag in pace.lags) or [float("nan")]
    late = f"{statistics.median(lags):.2f} / {lags[round(0.95 * (len(lags) - 1))]:.2f} s"
    kept_up = sum(pace.keeps_up for pace in paces)
    parts = ", ".join(f"{share:.2f} {name}" for name, share in cores.items())
    others = f", {max(0.0, machine - sum(cores.values())):.2f} everything else" if cores else ""
    print(f"  {len(paces)} rooms: {kept_up} kept up; on disk after {late} (p50 / p95), "
          f"at most {max(pace.left_out for pace in paces):.1%} left out; "
          f"of {os.cpu_count()} cores {machine:.2f} busy: {parts}{others}")  # fmt: skip


async def _go_live(creator: Peer, email: str, clip: Path) -> None:
    await creator.sign_in(email, PASSWORD, feed=False)
    stream = await creator.go_live()
    seat = await creator.join(stream["roomId"], decode=False)
    await seat.publish(Clip(clip))


async def _on_air(house: House, number: int) -> list[Path]:
    """The directories of so many broadcasts, once every rung of each has a segment. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found := list(_ready(house))) < number:  # noqa: ASYNC110 (files say nothing)
            await asyncio.sleep(LOOK_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)
    return found


def _ready(house: House) -> Iterable[Path]:
    for directory in (house.var / "hls").glob("brd_*"):
        if all(written(directory / name / "index.m3u8") for name in RENDITIONS):
            yield directory


def _creators(house: House, count: int) -> list[str]:
    """So many new creators' addresses; all have the demo's password."""
    db = Database(house.environment["DATABASE_URL"])
    password_hash, now = accounts.hash_password(PASSWORD), utc_now()
    handles = [f"bench_{number}" for number in range(1, count + 1)]
    for handle in handles:
        db.run(
            lambda tx, handle=handle: accounts.create_person(  # type: ignore[misc]
                tx,
                email=f"{handle}@demo.test",
                handle=handle,
                display_name=handle,
                password_hash=password_hash,
                roles=("creator",),
                now=now,
            )
        )
    db.close()
    return [f"{handle}@demo.test" for handle in handles]


def _child(directory: Path) -> int:
    return int(msgspec.json.decode((directory / "child.json").read_bytes())["pid"])


def _busy() -> float:
    """CPU seconds that all processors have worked since the machine's start (proc(5))."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _waiting, interrupts, soft = map(int, line.split()[1:8])
    return (user + nice + system + interrupts + soft) / _TICKS
