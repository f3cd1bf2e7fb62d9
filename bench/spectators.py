"""``make bench-spectators``: from a creator's camera to a spectator's screen, and what a room costs.

A real house, a clip of numbered pictures over WebRTC, and in one run: how old a segment is when it is on disk, how
old a picture is when Chromium shows it, how often it stands still, how far sound and picture are apart, and the
CPU of a room's child and ffmpeg. The floor is one bare ffmpeg that makes the same ladder of the same file in real
time beside them: both have the same machine at the same time, whatever else it does. ``--origin N`` adds
spectators: some at the app itself, and N at an nginx before it; ``--rooms N`` opens up to N rooms, one more after
the other, until one falls behind. The last line is a room's CPU divided by the floor's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from bench.spectators_clip import clip_file
from bench.spectators_costs import Meter, SegmentMeter, bare_ffmpeg, offspring, segments_of, written
from bench.spectators_glass import Seen, watch
from bench.spectators_lips import Kept, describe_lips
from bench.spectators_native import play
from bench.spectators_nginx import Front, answered, visit
from bench.spectators_origin import Load, Visit, load
from bench.spectators_rooms import how_many
from demo import PASSWORD
from demo.clip import Clip
from demo.peer import Peer
from demo.run import environment
from models import spectator_addresses
from models.config import Settings, load_settings
from models.ladder import RENDITIONS, RUNGS, SLOT_SECONDS, Tier
from models.spectator_addresses import Spectator
from ops.house import ROOT, House, session_members
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

SECONDS = 60.0
SPECTATORS = 2_000
MOST_AT_THE_APP = 200
"""Without nginx: more than one process of the app carries shows nothing but a queue."""
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.5
LOOK_SECONDS = 0.05
WARM_SECONDS = 4.0
KEPT_UP = 0.8
CREATOR = "creator_a"
TIER: Tier = "free"
ENOUGH_SECONDS = 120.0
"""Of what does not get better with time: only stalls and drift need long runs."""
RUNG = "480p"
"""The best that a visitor gets."""


def main() -> int:
    """Start a house, measure, print; and another one for low latency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each measurement lasts")
    parser.add_argument("--origin", type=int, nargs="?", const=SPECTATORS, default=0, help="spectators at nginx")
    parser.add_argument("--low-latency", action="store_true", help="the latencies with LOW_LATENCY_HLS=1 as well")
    parser.add_argument("--rooms", type=int, default=0, help="how many rooms at most to try at once")
    arguments = parser.parse_args()
    # Ctrl-C and SIGTERM both unwind, so that nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clip = clip_file(ROOT / "var")
    seconds = arguments.seconds
    if arguments.low_latency:
        print("low latency (LOW_LATENCY_HLS=1)")
        with running(LOW_LATENCY_HLS="1") as house:
            uvloop.run(measure(house, clip, seconds))
        print("plain")
    with running() as house:
        ratio = uvloop.run(measure(house, clip, seconds, arguments.origin, costs_too=True))
    if arguments.rooms:
        with running(TRANSCODE_ROOMS=str(arguments.rooms)) as house:
            uvloop.run(how_many(house, clip, seconds, arguments.rooms))
    print(f"ratio: {ratio:.2f}")
    return 0


@contextlib.contextmanager
def running(**settings: str) -> Iterator[House]:
    """A real house in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        var = Path(directory)
        house = House(
            environment(var) | {"TRUSTED_PROXIES": "1"} | settings,
            var=var,
            names=("media", "worker", "transcode", "clock", "web"),
            broker=RabbitNode(var / "rabbitmq", free_port(PORT_OFFSETS)),
            say=lambda text: None,
        )
        try:
            house.start()
            threading.Thread(target=house.watch, daemon=True).start()
            yield house
        finally:
            house.stop()


async def measure(
    house: House, clip: Path, seconds: float, spectators: int = 0, *, costs_too: bool = False
) -> float:
    """One after the other, of one broadcast; answers with the ratio, 0 without ``costs_too``."""
    ratio = 0.0
    async with Peer(house.environment["PUBLIC_URL"]) as creator:
        await creator.sign_in(f"{CREATOR}@demo.test", PASSWORD)
        stream = await creator.go_live()
        seat = await creator.join(stream["roomId"], decode=False)
        playing = Clip(clip)
        await seat.publish(playing)
        started_at = time.time() - playing.elapsed()
        directory = await on_air(house)
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        await latencies(house, directory, started_at, seconds)
        if house.environment.get("LOW_LATENCY_HLS") == "1":
            await native(house, directory, stream["roomId"], min(seconds, ENOUGH_SECONDS))
        if costs_too:
            ratio = await costs(house, directory, clip, min(seconds, ENOUGH_SECONDS))
        if spectators:
            await origin(house, directory, stream["roomId"], spectators, min(seconds, ENOUGH_SECONDS))
        await creator.call("DELETE", f"/api/streaming/streams/{stream['streamId']}")
    return ratio


async def on_air(house: House) -> Path:
    """The broadcast's directory, once every rung has a segment. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for directory in (house.var / "hls").glob("brd_*"):
                if all(written(directory / name / "index.m3u8") for name in RENDITIONS):
                    return directory
            await asyncio.sleep(0.1)


async def latencies(house: House, directory: Path, started_at: float, seconds: float) -> None:
    """From capture to disk and to glass, and sound against picture."""
    settled = asyncio.Event()
    watching = asyncio.create_task(watch(f"{house.url}/models/{CREATOR}", seconds, settled.set))
    waiting = asyncio.create_task(settled.wait())
    await asyncio.wait((watching, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    lags: dict[str, float] = {}
    kept = Kept(directory, RUNG, house.var / f"kept-{directory.name}")
    while not watching.done():
        lags.update(segment_lags(directory / RUNGS[0].name))
        kept.look()
        await asyncio.wait((watching,), timeout=POLL_SECONDS)
    seen = await watching
    print(f"capture → segment on disk, {RUNGS[0].name}       {spread(list(lags.values()))}")
    print(f"capture → glass, by hls.js             {spread(seen.by_date())}")
    print(f"capture → glass, by the picture itself {spread(seen.by_number(started_at))}")
    print(describe(seen, seconds))
    for line in describe_lips(await asyncio.to_thread(kept.offsets)):
        print(line)


def segment_lags(rung: Path) -> dict[str, float]:
    """Seconds from the capture of a segment's last picture to its file, for each that the playlist names."""
    return {name: one.lag for name, one in segments_of(rung).items()}


def describe(seen: Seen, seconds: float) -> str:
    """What the viewer saw, in words."""
    heights = sorted({picture.height for picture in seen.pictures})
    return (
        f"page opened → playing {seen.started_ms / 1000:.1f} s; stalls in {seconds:.0f} s: {len(seen.stalls)}, "
        f"{sum(seen.stalls):.0f} ms in all; longest picture {seen.longest_gap_ms:.0f} ms; "
        f"{seen.frames} pictures shown, {seen.dropped} not; lines: {', '.join(map(str, heights))}"
    )


async def native(house: House, directory: Path, room_id: str, seconds: float) -> None:
    """A player with blocking reloads and hinted parts, at nginx."""
    settings = load_settings(house.environment)
    with Front(house.var / "nginx", settings) as front:
        [prefix] = signed_prefixes(settings, directory.name, room_id, 1)
        seen = await play(front.address, prefix, RUNG, seconds)
    print(f"capture → part, hinted, at nginx       {spread(seen.ages)}; refused: {seen.refused}, "
          f"not hinted in time: {seen.skipped}, reloads for nothing: {seen.idle}")  # fmt: skip


def signed_prefixes(settings: Settings, broadcast_id: str, room_id: str, count: int) -> list[str]:
    """Addresses of so many viewers of the free tier."""
    key = settings.key(spectator_addresses.KEY_PURPOSE)
    expires = int(time.time()) + settings.spectator_seconds
    viewers = [spectator_addresses.viewer_id(broadcast_id, str(number), key) for number in range(count)]
    return [
        spectator_addresses.prefix(Spectator(room_id, broadcast_id, viewer, TIER, expires), key)
        for viewer in viewers
    ]


async def costs(house: House, directory: Path, clip: Path, seconds: float) -> float:
    """Prints what a room costs; answers with that, divided by the floor."""
    settings = load_settings(house.environment)
    child = int(msgspec.json.decode((directory / "child.json").read_bytes())["pid"])
    encoders = offspring(child)
    name, preset = RUNGS[0].name, settings.transcode_preset
    with tempfile.TemporaryDirectory(dir=house.var) as floors, bare_ffmpeg(clip, Path(floors), preset) as bare:
        await asyncio.sleep(WARM_SECONDS)
        ours = SegmentMeter(directory / name / "index.m3u8", [child], encoders)
        theirs = SegmentMeter(Path(floors) / f"{name}.m3u8", [bare])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ours.look()
            theirs.look()
            await asyncio.sleep(LOOK_SECONDS)
    (outside, inside), [floor] = ours.cores(), theirs.cores()
    room, cores = outside + inside, os.cpu_count() or 1
    print(f"one room, {preset}: {room:.3f} cores at real time: {outside:.3f} child, {inside:.3f} its ffmpeg")
    print(f"floor, a bare ffmpeg: {floor:.3f} cores at real time (media seen in {seconds:.0f} s: "
          f"{ours.media_seconds} s and {theirs.media_seconds} s)")  # fmt: skip
    # The first and the last segment are begun before and ended after what was seen.
    if theirs.media_seconds + 2 * SLOT_SECONDS < KEPT_UP * seconds:
        print("this machine was too busy for real time, also for a bare ffmpeg: latencies and stalls are its own")
    print(f"a machine of {cores} cores, if nothing else ran on it: {int(cores / room)} rooms; the ladder at "
          f"{cores / room:.1f}× real time, its {len(RUNGS)} rungs counted singly "
          f"{len(RUNGS) * cores / room:.1f}×")  # fmt: skip
    return room / floor


async def origin(house: House, directory: Path, room_id: str, spectators: int, seconds: float) -> None:
    """Spectators at the app itself, as many as it may carry, and then all of them at nginx."""
    settings = load_settings(house.environment)
    prefixes = signed_prefixes(settings, directory.name, room_id, spectators)
    web = session_members(house.children["web"].pid)
    few = prefixes[:MOST_AT_THE_APP]
    await crowd(house.url, few, seconds, None, {"web": web}, f"{len(few)} at the app alone")
    page = await asyncio.to_thread(visit, house.url, room_id)
    with Front(house.var / "nginx", settings) as front:
        before = await asyncio.to_thread(answered, house.url)
        groups = {"nginx": [front.pid, *offspring(front.pid)], "web": web}
        await crowd(front.address, prefixes, seconds, page, groups, f"{spectators} at nginx")
        after = await asyncio.to_thread(answered, house.url)
    of_web = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    print(f"  what the app answered meanwhile: {of_web}")


async def crowd(
    address: str,
    prefixes: list[str],
    seconds: float,
    renews: Visit | None,
    groups: dict[str, list[int]],
    what: str,
) -> None:
    """Let them come, and print what it cost and how long they waited, from when all were there."""
    counting = asyncio.Event()
    coming = asyncio.create_task(load(address, prefixes, seconds, renews=renews, on_counting=counting))
    await counting.wait()
    meters = {name: Meter(pids) for name, pids in {**groups, "this client": [os.getpid()]}.items()}
    found = await coming
    cores = ", ".join(f"{meter.cores():.2f} cores {name}" for name, meter in meters.items())
    print(f"origin, {what}, {RUNG} and sound, {seconds:.0f} s, load {os.getloadavg()[0]:.1f}: {cores}")
    describe_load(found, seconds)


def describe_load(found: Load, took: float) -> None:
    """Print requests a second, how long they took, and what went wrong."""
    answers = sum(len(times) for times in found.kinds.values())
    print(f"  {answers / took:.0f} requests/s, {found.size * 8 / took / 1e6:.0f} Mbit/s; "
          f"failed: {dict(found.failures) or 0}; rounds too late: {found.late} of {found.rounds}")  # fmt: skip
    for kind, times in found.kinds.items():
        if times:
            ordered = sorted(times)
            p50, p95, p99 = (ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.95, 0.99))
            print(f"  {kind}: p50 {p50:.1f} ms   p95 {p95:.1f} ms   p99 {p99:.1f} ms   n={len(ordered)}")


def spread(seconds: list[float]) -> str:
    """p50 and p95 in words."""
    if not seconds:
        return "nothing seen"
    ordered = sorted(seconds)
    high = ordered[round(0.95 * (len(ordered) - 1))]
    return f"p50 {statistics.median(ordered):6.3f} s   p95 {high:6.3f} s   n={len(ordered)}"


if __name__ == "__main__":
    sys.exit(main())
