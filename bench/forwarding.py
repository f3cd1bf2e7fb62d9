"""Packets per CPU second of a media node, and how long a packet stays in it, against floor and peer.

A room of twenty: every participant sends 150 packets of 1,200 bytes and 50 of 120 bytes a second over real ICE,
DTLS and SRTP, and receives the other nineteen: 76,000 packets a second out. What is measured has one core, the
load generator the other, and both come before all else there, where that is allowed. Ours is a whole node with
everything that it does in production: room, statistics, speakers, estimates of every line. Packets and feedback
are as a browser's (``load.c``, ``load_answers.c``), but that all send one size of picture; what is on is printed.

In the same run: the peer, Debian's Janus with its videoroom, under the same load; and the floor: nothing but
sealing each packet for each receiver and handing it to the kernel, in C, a picture in one train. Latency is from
the client's send to the instant at which the kernel had the packet for the other client. A measurement in which
more than one frame in a hundred was sent late is repeated. The last line is ours divided by the peer's.

Runs in a network namespace of its own, as Janus ignores the loopback interface: needs root, and Debian's janus.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import aioice.ice
import pylibsrtp

from bench.callers import no_media_by_aiortc
from bench.forwarding_janus import running
from bench.forwarding_load import Clients
from bench.full_room import full_room, until_all_is_sent, what_is_on
from bench.load import MOST_LATE, PACKETS_IN, Counts, Load
from bench.node_process import come_first, pin, running_node

ADDRESS = "10.77.0.1"
WARM_SECONDS = 3.0
MOST_TRIES = 4
LONGEST_SECONDS = 600.0
FLOOR_PICTURES = 3_000
MEDIA_CORE, LOAD_CORE = 0, 1
_INSIDE = "GREENROOM_BENCH_INSIDE"


class Result:
    """One measurement: packets out per CPU second, latencies, loss."""

    def __init__(self, counts: Counts, used: float, participants: int, on: str) -> None:
        self.counts = counts
        self.per_cpu_second = counts.received / used
        self.on = on
        self._lost = max(0.0, 1 - counts.received / (counts.sent * (participants - 1)))

    @property
    def is_void(self) -> bool:
        """The generator was the limit."""
        return self.counts.late > MOST_LATE

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"{self.per_cpu_second:10,.0f} packets per CPU second, "
            f"p50 {counts.p50_ms:.2f} p99 {counts.p99_ms:.2f} p99.9 {counts.p999_ms:.2f} ms, "
            f"{100 * self._lost:.2f} % lost, {100 * counts.late:.2f} % sent late, load {os.getloadavg()[0]:.1f}"
        )


def said(counts: Counts) -> str:
    """What clients told whoever is measured, and got for it."""
    return (
        f"{counts.feedbacks:,} feedbacks, {counts.reports:,} receiver reports, {counts.nacks:,} NACKs; "
        f"{counts.again:,} packets came again"
    )


async def measure_ours(participants: int, seconds: float, held_ms: int) -> Result:
    """A whole node."""
    no_media_by_aiortc()
    # Their sockets are read by the load, so they never hear that they are still wanted.
    aioice.ice.CONSENT_FAILURES = 1_000_000
    load = Load()

    def run(how_long: float) -> Counts:
        come_first()
        return load.run(how_long)

    async with running_node(MEDIA_CORE, comes_first=True, held_ms=held_ms) as node:
        await full_room(node, load, participants)
        warming = asyncio.create_task(asyncio.to_thread(run, LONGEST_SECONDS))
        try:
            await until_all_is_sent(node)
        finally:
            load.library.load_stop()
            await warming
        before = await node.cpu_seconds()
        counts = await asyncio.to_thread(run, seconds)
        used = await node.cpu_seconds() - before
        on = f"{await what_is_on(node)}; clients: {said(counts)}"
        return Result(counts, used, participants, on)


def measure_janus(participants: int, seconds: float) -> Result:
    """The same load through Janus."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory), ADDRESS, MEDIA_CORE, participants) as janus,
        asyncio.Runner() as runner,
    ):
        clients = Clients()
        runner.run(clients.connect(participants, janus.ask))
        come_first()
        clients.run(WARM_SECONDS)
        before = janus.cpu_seconds()
        counts = clients.run(seconds)
        used = janus.cpu_seconds() - before
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return Result(counts, used, participants, f"{clients.negotiated()}; clients: {said(counts)}")


def valid(name: str, measure: Callable[[], Result]) -> Result:
    """The first measurement that is one."""
    for _ in range(MOST_TRIES):
        result = measure()
        print(f"{name:12} {result}{'   VOID: sent too late' if result.is_void else ''}", flush=True)
        if not result.is_void:
            return result
    sys.exit("the machine is too busy: the load generator is never in time")


# --- the floor ----------------------------------------------------------------------------------------


def drain_process(pipe: Connection, receivers: int) -> None:
    """Take whatever arrives, until nothing does."""
    pin(LOAD_CORE)
    load = Load()
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(receivers)]
        for sink in sinks:
            sink.bind((ADDRESS, 0))
        pipe.send([sink.getsockname()[1] for sink in sinks])
        pipe.send(int(load.library.load_drain([sink.fileno() for sink in sinks], receivers)))


def measure_floor(participants: int) -> float:
    """Packets per CPU second of nothing but sealing and sending, in the same mix of sizes."""
    pin(MEDIA_CORE)
    sessions = [
        pylibsrtp.Session(
            pylibsrtp.Policy(
                key=bytes((number, *range(27))),
                ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
                srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
            )
        )
        for number in range(participants - 1)
    ]
    load = Load()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=drain_process, args=(theirs, len(sessions)), daemon=True)
    process.start()
    # Whoever waits for a process that has died is told by the end of its pipe.
    theirs.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        raw = [session._srtp[0] for session in sessions]
        found = load.floor(raw, out.fileno(), ADDRESS, ours.recv(), FLOOR_PICTURES)
    assert found > 0, "the kernel takes no trains"
    ours.recv()
    process.join(timeout=10)
    return found


# --- all of it ----------------------------------------------------------------------------------------


def in_a_namespace() -> None:
    """Start again where there is one address that nobody else has."""
    links = (
        "ip link set lo up && ip link add bench0 type veth peer name bench1 && "
        f"ip addr add {ADDRESS}/24 dev bench0 && ip link set bench0 up && ip link set bench1 up"
    )
    inside = ["unshare", "-n", "sh", "-c", links + ' && exec "$@"', "sh"]
    command = [*inside, sys.executable, "-m", "bench.forwarding", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=os.environ | {_INSIDE: "1"}, check=False).returncode)


def main() -> None:
    """Run all three in turn, as often as asked; the last line is the ratio, the median of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each measurement lasts")
    parser.add_argument("--participants", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held", type=int, default=0, help="ms of each second in which no Python runs; ours only")
    arguments = parser.parse_args()
    if _INSIDE not in os.environ:
        in_a_namespace()
    people, seconds = arguments.participants, arguments.seconds
    ratios: list[float] = []
    of_floor: list[float] = []
    print(f"room of {people}: {people * PACKETS_IN:,} packets/s in, {people * (people - 1) * PACKETS_IN:,} out")
    for number in range(arguments.rounds):
        pin(LOAD_CORE)
        ours = valid("ours:", lambda: asyncio.run(measure_ours(people, seconds, arguments.held)))
        if not number:
            print(f"  on: {ours.on}")
        if arguments.held:
            continue
        if shutil.which("janus"):
            theirs = valid("Janus:", lambda: measure_janus(people, seconds))
            if not number:
                print(f"  on: {theirs.on}")
            ratios.append(ours.per_cpu_second / theirs.per_cpu_second)
        floor = measure_floor(people)
        of_floor.append(ours.per_cpu_second / floor)
        print(f"floor:       {floor:10,.0f} packets per CPU second (sealed and sent in trains of a picture, in C)")
    if arguments.held:
        return
    print(f"of the floor: {statistics.median(of_floor):.2f}")
    if not ratios:
        sys.exit("Debian's package janus is not installed: there is no peer to measure against")
    print(f"ratio: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
