"""A whole media node in a process of its own, for benches: rooms, signaling, port and commands, without a broker.

Commands come over a Unix socket as they would over RabbitMQ: one JSON line each, answered by one line. The line
``figures`` is answered with what the process holds, ``living`` with the same after a garbage collection, ``ends``
with when each call's paid time is over, ``cpu`` with the processor seconds of all its threads, ``room ID`` with
what operators are shown of that room.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pylibsrtp
import uvloop

from media import garbage
from media.aiortc_seam.connection import PeerConnection
from media.control import CommandDesk
from media.node import Node
from media.operators import of_room
from media.plane import Peer
from media.port import Port, host_addresses
from media.signaling import SignalingServer
from media.tracks import PublishedTrack, Slot
from models import grants, ids
from models.clock import monotonic_ms, utc_now
from models.config import Settings, load_settings
from models.messages import codec
from models.messages.commands import Command, Reply
from models.messages.events import AnyEvent
from models.messages.figures import RoomFigures
from models.messages.figures import decode as decode_room

FIRST = -20
"""The highest nice of a session."""
WATCH_SECONDS = 0.02
START_SECONDS = 60
ANSWER_SECONDS = 300.0
"""A machine in other use may let a node stand still for a minute: no reason to lose an hour's measurement."""
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_COUNTED = {
    pylibsrtp.Session: "srtp",
    Slot: "slots",
    Peer: "peers",
    PublishedTrack: "tracks",
    PeerConnection: "connections",
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the process holds. ``port`` is what its tables have: fragments, addresses, open requests."""

    rss_kib: int
    descriptors: int
    tasks: int
    port: tuple[int, int, int]
    participants: int
    objects: dict[str, int]
    """Living ones: SRTP contexts (``srtp``), slots, peers, tracks, aiortc connections."""
    cpu_seconds: float


def pin(core: int) -> None:
    """Keep this process on one core, if the machine has as many; also one whose parent is kept on another."""
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def come_first() -> None:
    """This thread, the load generator's, comes before all else on its core, where that is allowed."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def favour(pid: int) -> None:
    """A process that leads a session comes before what others run on its core, where that is allowed. Not in real
    time: Python's thread and the engine's, on one core, would wait for each other by time slices. And not by its
    nice alone, which counts within a session (sched(7), autogroup)."""
    with contextlib.suppress(PermissionError, FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(FIRST))


def settings() -> Settings:
    """Of the node, and of whoever signs grants for it."""
    return load_settings({"SECRET_KEY": "only-for-this-benchmark-" + "-" * 16, "TESTING": "1"})


def grant(room_id: str, user_id: str, key: bytes | None = None) -> str:
    """What JOIN_ROOM brings; signed for the node of this module, or with a house's ``key``."""
    now = utc_now().timestamp()
    permitted = grants.Grant(
        jti=ids.new_id("jti"),
        room_id=room_id,
        user_id=user_id,
        display_name=user_id,
        role="participant",
        publish=True,
        issued_at=now,
        expires_at=now + grants.LIFETIME_SECONDS,
    )
    return grants.sign(permitted, settings().key("grants") if key is None else key)


def fields() -> dict[str, Any]:
    """What every command carries."""
    return {"message_id": ids.new_id("msg"), "cause_id": "bench", "deadline_at": utc_now().timestamp() + 30}


class NodeProcess:
    """The other end of the Unix socket; one question after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()
        self.url = url
        """Of its signaling."""

    async def order(self, command: Command) -> Reply:
        """Have it carried out."""
        return (await self.timed_order(command))[0]

    async def timed_order(self, command: Command) -> tuple[Reply, float]:
        """The same, and the monotonic second in which the command was written."""
        async with self._turn:
            asked = time.monotonic()
            return msgspec.json.decode(await self._ask(codec.encode(command)), type=Reply), asked

    async def figures(self) -> Figures:
        """What it holds now. It stands still for some ten milliseconds while it counts."""
        async with self._turn:
            return msgspec.json.decode(await self._ask(b"figures"), type=Figures)

    async def living(self) -> Figures:
        """The same without what only waits for the garbage collector."""
        async with self._turn:
            return msgspec.json.decode(await self._ask(b"living"), type=Figures)

    async def paid_until_ms(self) -> dict[str, int]:
        """By room: the monotonic millisecond in which its paid time is over, as its own meter had it last."""
        async with self._turn:
            return msgspec.json.decode(await self._ask(b"ends"), type=dict[str, int])

    async def cpu_seconds(self) -> float:
        """Of all its threads, in user mode and in the kernel; at no cost, as ``figures`` has one."""
        async with self._turn:
            return msgspec.json.decode(await self._ask(b"cpu"), type=float)

    async def room(self, room_id: str) -> RoomFigures:
        """What operators are shown of it."""
        async with self._turn:
            return decode_room(await self._ask(b"room " + room_id.encode()))

    async def _ask(self, line: bytes) -> bytes:
        self._writer.write(line + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._reader.readline()


@contextlib.asynccontextmanager
async def running_node(
    core: int | None = None, *, comes_first: bool = False, held_ms: int = 0
) -> AsyncIterator[NodeProcess]:
    """A node; on that core if it is given, and before all others there if it ``comes_first``; Python stands still
    for ``held_ms`` of each second there. It ends with the block."""
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        path = Path(directory) / "commands"
        command = [sys.executable, "-m", "bench.node_process", str(path)]
        if core is not None:
            command += ["--core", str(core)]
        if comes_first:
            command += ["--first"]
        if held_ms:
            command += ["--held", str(held_ms)]
        # In a session of its own: Ctrl-C is for the bench, which ends the node when it has asked it all.
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                url = (await process.stdout.readline()).decode().strip()
                reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
            yield NodeProcess(reader, writer, url)
            writer.close()
        finally:
            process.terminate()
            await process.wait()


# --- in that process ----------------------------------------------------------------------------------


class _Side:
    def __init__(self, node: Node, port: Port) -> None:
        self._node, self._port = node, port
        self._desk = CommandDesk(node.carry_out)
        self._paid_until: dict[str, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"figures\n":
                writer.write(codec.encode(self._figures()) + b"\n")
            elif line == b"living\n":
                gc.collect()
                writer.write(codec.encode(self._figures()) + b"\n")
            elif line == b"cpu\n":
                writer.write(codec.encode(time.process_time()) + b"\n")
            elif line.startswith(b"room "):
                room = self._node.rooms[line[5:-1].decode()]
                writer.write(codec.encode(of_room(self._node, room)) + b"\n")
            elif line == b"ends\n":
                writer.write(codec.encode(self._paid_until) + b"\n")
            else:
                writer.write(codec.encode(self._desk.handle(line, utc_now().timestamp())) + b"\n")

    async def watch(self) -> None:
        """Note every call's paid end as long as it runs: a pause moves it."""
        while True:
            for room in self._node.rooms.values():
                now_ms = monotonic_ms()
                due_ms = room.call.meter.cut_due_in_ms(now_ms) if room.call is not None else None
                if due_ms is not None:
                    self._paid_until[room.room_id] = now_ms + due_ms
            await asyncio.sleep(WATCH_SECONDS)

    def _figures(self) -> Figures:
        counts = Counter(type(one) for one in gc.get_objects())
        return Figures(
            rss_kib=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB,
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            port=self._port.tables(),
            participants=self._node.load,
            objects={name: counts[kind] for kind, name in _COUNTED.items()},
            cpu_seconds=time.process_time(),
        )


def _written(event: AnyEvent) -> None:
    codec.encode(event)


def _hold_up(held_ms: int) -> None:
    """Every second, let no line of Python run for so long: what a collection or a large room's signaling does."""
    library = ctypes.PyDLL(None)  # none of its calls lets the interpreter's lock go
    while True:
        time.sleep(1)
        library.usleep(1_000 * held_ms)


async def _serve(path: str) -> None:
    # The load generator knows IPv4 only.
    hosts = tuple(host for host in host_addresses() if ":" not in host)
    port = Port(hosts, native=os.environ.get("MEDIA_ENGINE", "native") == "native")
    # Reports are written as they would be for the broker.
    node = Node(settings(), _written, port)
    server = SignalingServer(node)
    number = await server.start("127.0.0.1", 0)
    node.start()
    side = _Side(node, port)
    watching = asyncio.create_task(side.watch())
    async with await asyncio.start_unix_server(side.serve, path, limit=1 << 20):
        garbage.settle()
        print(f"ws://127.0.0.1:{number}/signaling", flush=True)
        await watching


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--core", type=int)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--held", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.first:
        favour(os.getpid())
    if arguments.core is not None:
        pin(arguments.core)
    if arguments.held:
        threading.Thread(target=_hold_up, args=(arguments.held,), daemon=True).start()
    uvloop.run(_serve(arguments.path))


if __name__ == "__main__":
    main()
