"""Packets per CPU second of the media plane, and how long a packet stays in it, against floor and peer.

A room of twenty: every participant sends 150 packets of 1,200 bytes and 50 of 120 bytes a second over real ICE,
DTLS and SRTP, and receives the other nineteen: 76,000 packets a second out. What is measured has one core, the
load generator the other. In the same run: the peer, Debian's Janus with its videoroom, under the same load; and
the floor, a bare loop of protect and sendto of the same mix. The last line is ours divided by the peer's.

Runs in a network namespace of its own, as Janus ignores the loopback interface: needs root, and Debian's janus.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pylibsrtp
import uvloop

from bench.forwarding_janus import running
from bench.forwarding_load import Clients
from bench.load import AUDIO_BYTES, PACKETS_IN, VIDEO_BYTES, Counts
from bench.node_process import pin
from media import garbage
from media.aiortc_seam import lengths, srtp, workspace
from media.plane import Peer
from media.port import Port

ADDRESS = "10.77.0.1"
WARM_SECONDS = 2.0
MEDIA_CORE, LOAD_CORE = 0, 1
_INSIDE = "GREENROOM_BENCH_INSIDE"
_HELD = "GREENROOM_BENCH_HELD"


# --- the media process --------------------------------------------------------------------------------


def hold_up(held_ms: int) -> None:
    """Every second, let no line of Python run for so long: what a collection or a large room's signaling does."""
    library = ctypes.PyDLL(None)  # none of its calls lets the interpreter's lock go
    while True:
        time.sleep(1)
        library.usleep(1_000 * held_ms)


def media_process(pipe: Connection) -> None:
    """Serve ``(method, participant, text)`` from the load generator until it says ``end``."""
    pin(MEDIA_CORE)
    if held_ms := int(os.environ.get(_HELD, "0")):
        threading.Thread(target=hold_up, args=(held_ms,), daemon=True).start()
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    peers: dict[int, Peer] = {}
    port = Port((ADDRESS,), native=os.environ.get("MEDIA_ENGINE", "native") == "native")
    garbage.settle()
    while True:
        method, who, text = await loop.run_in_executor(None, pipe.recv)
        answer: Any = None
        if method == "publish":
            peers[who] = Peer(
                user_id=str(who), port=port, on_connected=lambda pc: None, on_lost=lambda pc: None
            )  # fmt: skip
            answer = await peers[who].accept_publish(text)
        elif method == "subscribe":
            for other, peer in peers.items():
                if other != who:
                    for track in peer.published.values():
                        peers[who].subscribe(track)
            answer = await peers[who].offer_subscribe()
        elif method == "answer":
            await peers[who].accept_subscribe_answer(text)
        elif method == "cpu":
            answer = time.process_time()
        else:
            await asyncio.gather(*(peer.close() for peer in peers.values()))
            port.close()
            pipe.send(None)
            return
        pipe.send(answer)


@contextlib.contextmanager
def child(target: Callable[..., None], *rest: Any) -> Iterator[Connection]:
    """``target`` in a process of its own, with a pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *rest), daemon=True)
    process.start()
    # Whoever waits for a process that has died is told by the end of its pipe.
    theirs.close()
    try:
        yield ours
    finally:
        process.join(timeout=10)
        process.kill()


# --- what is measured ---------------------------------------------------------------------------------


class Result:
    """One measurement: packets out per CPU second, latencies, loss."""

    def __init__(self, counts: Counts, used: float, participants: int) -> None:
        self._counts = counts
        self.per_cpu_second = counts.received / used
        self._lost = max(0.0, 1 - counts.received / (counts.sent * (participants - 1)))

    def __str__(self) -> str:
        counts = self._counts
        return (
            f"{self.per_cpu_second:10,.0f} packets per CPU second, "
            f"p50 {counts.p50_ms:.2f} p99 {counts.p99_ms:.2f} p99.9 {counts.p999_ms:.2f} ms, "
            f"{100 * self._lost:.2f} % lost"
        )


def measure_ours(participants: int, seconds: float) -> Result:
    """The media plane with everything that it does for a packet."""
    with child(media_process) as pipe, asyncio.Runner() as runner:

        async def ask(*message: Any) -> Any:
            pipe.send(message)
            return await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

        def used() -> float:
            pipe.send(("cpu", 0, ""))
            return float(pipe.recv())

        clients = Clients()
        runner.run(clients.connect(participants, ask))
        clients.run(WARM_SECONDS)
        before = used()
        counts = clients.run(seconds)
        result = Result(counts, used() - before, participants)
        pipe.send(("end", 0, ""))
        pipe.recv()
        return result


def measure_janus(participants: int, seconds: float) -> Result:
    """The same load through Janus."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory), ADDRESS, MEDIA_CORE, participants) as janus,
        asyncio.Runner() as runner,
    ):
        clients = Clients()
        runner.run(clients.connect(participants, janus.ask))
        clients.run(WARM_SECONDS)
        before = janus.cpu_seconds()
        counts = clients.run(seconds)
        return Result(counts, janus.cpu_seconds() - before, participants)


# --- the floor ----------------------------------------------------------------------------------------


def drain_process(pipe: Connection) -> None:
    """Take whatever arrives, until told to end."""
    pin(LOAD_CORE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((ADDRESS, 0))
        sink.settimeout(0.2)
        pipe.send(sink.getsockname())
        while not pipe.poll():
            with contextlib.suppress(TimeoutError):
                for _ in range(1000):
                    sink.recv(2048)


def measure_floor(packets: int = 120_000) -> float:
    """Packets per CPU second of nothing but protect and sendto, one by one, in the same mix of sizes."""
    pin(MEDIA_CORE)
    policy = pylibsrtp.Policy(
        key=bytes(range(28)),
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    )
    session = pylibsrtp.Session(policy)
    context: Any = session._srtp[0]
    buffer, view = workspace(2048)
    length = lengths()
    with child(drain_process) as pipe, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        address = pipe.recv()
        out.setblocking(False)
        began = time.process_time()
        for number in range(packets):
            size = AUDIO_BYTES if number % 4 == 0 else VIDEO_BYTES
            struct.pack_into("!BBHII", view, 0, 0x80, 96, number & 0xFFFF, number, 7)
            length[0] = size
            srtp.protect(context, buffer, length)
            with contextlib.suppress(BlockingIOError):
                out.sendto(view[: length[0]], address)
        used = time.process_time() - began
        pipe.send(None)
    return packets / used


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
    os.environ[_HELD] = str(arguments.held)
    whole = os.sched_getaffinity(0)
    people, ratios = arguments.participants, []
    print(f"room of {people}: {people * PACKETS_IN:,} packets/s in, {people * (people - 1) * PACKETS_IN:,} out")
    for _ in range(arguments.rounds):
        pin(LOAD_CORE)
        ours = measure_ours(people, arguments.seconds)
        print(f"media plane: {ours}", flush=True)
        if arguments.held:
            os.sched_setaffinity(0, whole)
            continue
        if shutil.which("janus"):
            theirs = measure_janus(people, arguments.seconds)
            print(f"Janus:       {theirs}", flush=True)
            ratios.append(ours.per_cpu_second / theirs.per_cpu_second)
        os.sched_setaffinity(0, whole)
        print(f"floor:       {measure_floor():10,.0f} packets per CPU second (protect and sendto, one by one)")
        os.sched_setaffinity(0, whole)
    if arguments.held:
        return
    if not ratios:
        sys.exit("Debian's package janus is not installed: there is no peer to measure against")
    print(f"ratio: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
