"""``make bench-cut``, third part: ``terminate-stream`` over HTTP while the node carries a full room.

The whole house is there: web app, outbox, broker, clock, a worker, and the media node as it is in production. On
that node are the full room of ``bench-forwarding``, 76,000 packets a second out, and two small ones with fifteen
hostile viewers each, who ignore what they are told and go on sending NACKs, PLIs and STUN checks a hundred times a
second.
They are cut one after the other: from the moment in which the HTTP call is begun to the last packet (RTP or RTCP)
that the kernel had for that viewer, and to the answer. Beside them, what this machine takes by itself: the same
call for a room that there is not, which is refused before anything is done. The node has one core, the load
generator comes first on the other, which has everything else, too. The last line is the bound over the p99.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import aioice.ice
from sqlalchemy.orm import Session

from bench import full_room
from bench.callers import Caller, no_media_by_aiortc
from bench.cut_load import (
    AFTERWARDS_SECONDS,
    CALL_SECONDS,
    LOAD_CORE,
    MEDIA_CORE,
    TERMINATE_BOUND_MS,
    FansLoad,
    p99,
)
from bench.full_room import Wired
from bench.load import FRAMES, PACKETS_A_FRAME, PACKETS_IN
from bench.node_process import come_first, favour, fields, grant, pin
from demo.peer import ApiError, Peer
from demo.run import environment, integrator_token
from models import outbox
from models.clock import utc_now
from models.config import load_settings
from models.db import Database
from models.messages.commands import OpenRoom, RoomSpec
from models.people import PersonRow
from models.streams import RoomRow
from ops.house import House
from ops.ports import free_port
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

VIEWERS, ROOMS = 15, 2
NODE, PATH = "media-1", "/api/rtc/terminate-stream"
OPENING_SECONDS = 30.0
WARM_SECONDS = 20.0
"""Until every line is known to carry every picture."""
LONGEST_SECONDS = 600.0


def rooms(people: int) -> list[RoomSpec]:
    """The full one, and those of which viewers are cut."""
    small = [
        RoomSpec(room_id=f"live-str_cut{number}", creator_id=f"usr_creator_{number}") for number in range(ROOMS)
    ]
    return [full_room.spec_of(people), *small]


def open_rooms(house: House, people: int) -> None:
    """As the product does, in one transaction with its outbox; but nobody went live in them."""
    database = Database(house.environment["DATABASE_URL"])
    wanted, now = rooms(people), utc_now()

    def write(tx: Session) -> None:
        for user_id in [spec.creator_id for spec in wanted] + [viewer(*each) for each in everybody()]:
            name = user_id.removeprefix("usr_")
            tx.add(
                PersonRow(
                    id=user_id, email=f"{name}@bench.test", handle=f"bench_{name}", display_name=name,
                    password_hash="", is_fan=True, is_creator=True, is_admin=False, created_at=now,
                )
            )  # fmt: skip
        tx.flush()
        for spec in wanted:
            tx.add(
                RoomRow(
                    id=spec.room_id, node_id=NODE, kind="live", creator_id=spec.creator_id, status="opening",
                    created_at=now, placed_at=now,
                )
            )  # fmt: skip
            outbox.command(tx, NODE, OpenRoom(room=spec, **fields()), now=now)

    def opened(tx: Session) -> bool:
        return all(tx.get_one(RoomRow, spec.room_id).status == "open" for spec in wanted)

    database.run(write)
    until = time.monotonic() + OPENING_SECONDS
    while not database.run(opened):
        if time.monotonic() > until:
            raise TimeoutError("the rooms do not open")
        time.sleep(0.1)
    database.close()


def everybody() -> list[tuple[int, int]]:
    """Who is cut: room and number, in turn."""
    return [(room, number) for number in range(VIEWERS) for room in range(ROOMS)]


def viewer(room: int, number: int) -> str:
    """Its user id."""
    return f"usr_viewer_{room}_{number}"


async def small_room(load: FansLoad, url: str, key: bytes, room: int) -> dict[str, Wired]:
    """One who sends, and the hostile viewers of it, by user id."""
    room_id = f"live-str_cut{room}"
    shows = Caller(room_id, f"usr_creator_{room}")
    await shows.join(url, grant(room_id, shows.user_id, key))
    await shows.publish()
    # Single packets, evenly spread: what came last is known to some milliseconds.
    streams = load.sends(*shows.sends(), frames=FRAMES * PACKETS_A_FRAME, packets=1)
    wired = {}
    for number in range(VIEWERS):
        watches = Caller(room_id, viewer(room, number))
        await watches.join(url, grant(room_id, watches.user_id, key))
        await watches.subscribed()
        sink = load.receives(watches.receives())
        load.turns_hostile(sink, watches)
        wired[watches.user_id] = Wired(streams, sink)
    return wired


class Cut(NamedTuple):
    """Milliseconds from the call, and how long one takes that is refused."""

    last: float
    answered: float
    refused: float


async def measure(house: House, people: int) -> list[Cut]:
    """Every cut, one after the other."""
    no_media_by_aiortc()
    # Their sockets are read by the load, so they never hear that they are still wanted.
    aioice.ice.CONSENT_FAILURES = 1_000_000
    settings = load_settings(house.environment)
    key, url = settings.key("grants"), f"ws://127.0.0.1:{settings.media_port}/signaling"
    integrator, load = Peer(house.environment["PUBLIC_URL"]), FansLoad()
    integrator.token = await asyncio.to_thread(integrator_token, house)
    room = await full_room.connected(url, load, people, key)
    wired: dict[str, Wired] = {}
    for number in range(ROOMS):
        wired |= await small_room(load, url, key, number)
    print(f"a room of {people} and {len(wired)} hostile viewers are connected", flush=True)

    running = asyncio.create_task(asyncio.to_thread(load.library.load_run, LONGEST_SECONDS))
    try:
        await asyncio.sleep(WARM_SECONDS)
        pid = house.children["media"].pid
        began, before, used = time.monotonic(), received(load, room), cpu_seconds(pid)
        cuts = [await cut(load, integrator, *each, wired[viewer(*each)]) for each in everybody()]
        seconds = time.monotonic() - began
        rate, busy = (received(load, room) - before) / seconds, (cpu_seconds(pid) - used) / seconds
        wanted = people * (people - 1) * PACKETS_IN
        print(
            f"meanwhile in the full room: {rate:,.0f} of {wanted:,} packets/s out, "
            f"{100 * busy:.0f} % of the node's core"
        )
        print(f"hostile viewers made it send {sum(again(load, one) for one in wired.values()):,} packets again")
    finally:
        load.library.load_stop()
        await running
    return cuts


async def cut(load: FansLoad, integrator: Peer, room: int, number: int, wired: Wired) -> Cut:
    """One of them, by an integrator's call."""
    async with asyncio.timeout(CALL_SECONDS):
        while time.monotonic() - load.library.load_last_ns(wired.sink) / 1e9 > 0.05:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    wish = {"roomId": f"live-str_cut{room}", "userId": viewer(room, number), "reason": "MODERATION"}
    began = time.monotonic()
    await integrator.call("POST", PATH, wish)
    answered = time.monotonic()
    await asyncio.sleep(AFTERWARDS_SECONDS)
    last_ms = float(load.library.load_last_ns(wired.sink)) / 1e6
    asked = time.monotonic()
    with contextlib.suppress(ApiError):
        await integrator.call("POST", PATH, wish | {"roomId": "live-str_none"})
    refused = time.monotonic() - asked
    return Cut(last_ms - began * 1000, (answered - began) * 1000, refused * 1000)


def received(load: FansLoad, room: list[Wired]) -> int:
    """Packets, by everybody there."""
    return sum(load.library.load_received(wired.sink) for wired in room)


def again(load: FansLoad, wired: Wired) -> int:
    """Packets that one was sent a second time."""
    return int(load.library.load_again(wired.sink))


def give_a_core(pid: int, core: int) -> None:
    """A process that runs already, with all its threads; it comes before all else there, where that is allowed."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    favour(pid)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Start a house, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, default=20)
    arguments = parser.parse_args()
    pin(LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as directory:
        var = Path(directory)
        house = House(
            environment(var),
            var=var,
            names=("media", "worker", "clock", "web"),
            broker=RabbitNode(var / "rabbitmq", free_port(PORT_OFFSETS)),
            say=lambda text: None,
        )
        try:
            house.start()
            threading.Thread(target=house.watch, daemon=True).start()
            give_a_core(house.children["media"].pid, MEDIA_CORE)
            open_rooms(house, arguments.participants)
            come_first()
            cuts = asyncio.run(measure(house, arguments.participants))
        finally:
            house.stop()
    for name, values in (
        ("terminate-stream → hostile viewer's last packet", [each.last for each in cuts]),
        ("terminate-stream → answer                      ", [each.answered for each in cuts]),
        ("terminate-stream of no room → refused          ", [each.refused for each in cuts]),
    ):
        print(
            f"{name} p50 {statistics.median(values):6.1f} ms   p99 {p99(values):6.1f} ms   "
            f"worst {max(values):6.1f} ms   n={len(values)}"
        )
    print(f"bound: {TERMINATE_BOUND_MS:.0f} ms to the last packet")
    print(f"ratio: {TERMINATE_BOUND_MS / max(1.0, p99([each.last for each in cuts])):.2f}")


if __name__ == "__main__":
    main()
