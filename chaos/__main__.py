"""``make chaos``: load and kills, then silence, then the verdict; the exit status is 1 when that is bad.

The same seed kills the same parts after the same pauses; what the processes were doing then is real time's.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from chaos import people, verdict
from chaos.kills import Kills
from chaos.load import Counts, Couple
from demo.media_file import media_file
from models.clock import utc_now
from models.db import Database
from ops.house import ROOT, House
from ops.ports import free_port
from ops.postgres import PostgresServer
from ops.rabbitmq import PORT_OFFSETS, RabbitNode

MINUTE_SECONDS = 3
COUPLES = 5
FANS = 5
LAST_CALLS_SECONDS = 120.0
NAMES = ("media", "worker", "clock", "web")


def main() -> int:
    """0 when the books are whole and everything came to an end."""
    seconds = float(os.environ.get("SECONDS", "300"))
    seed = int(os.environ.get("SEED") or secrets.randbelow(1_000_000))
    on_sqlite = os.environ.get("CHAOS_DATABASE", "postgresql") == "sqlite"
    print(f"seed: {seed}, {seconds:.0f} s of kills (SEED=… SECONDS=… to choose)")
    clip = media_file(ROOT / "var")
    with tempfile.TemporaryDirectory(prefix="greenroom-chaos-") as name, ExitStack() as last:
        directory = Path(name)
        directory.chmod(0o755)
        broker = RabbitNode(directory / "rabbitmq", free_port(PORT_OFFSETS))
        postgres = house = None
        found: list[str] = []
        try:
            url = f"sqlite:///{directory / 'greenroom.db'}"
            if not on_sqlite:
                postgres = PostgresServer(directory / "postgres")
                postgres.start()
                last.callback(postgres.stop)
                url = postgres.create("greenroom")
            last.callback(broker.discard)
            house = House(environment(url), var=directory, names=NAMES, broker=broker, say=_say)
            last.callback(house.stop)
            house.start()
            found = run(house, postgres, url, clip, seconds, seed)
        except Exception as error:
            traceback.print_exc()
            found = [f"{type(error).__name__}: {error}"]
        if found and house is not None:
            for child in house.children.values():
                print(f"\n{child.name}:\n{child.last_lines(30)}")
    print("\n".join(["", "NOT AS PROMISED:", *found] if found else ["", "Everything was as promised."]))
    return 1 if found else 0


def environment(database_url: str) -> dict[str, str]:
    """A house of its own on free ports of this machine, with very short minutes."""
    port = free_port()
    return {
        "DATABASE_URL": database_url,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TESTING": "1",
        "MINUTE_SECONDS": str(MINUTE_SECONDS),
        "MEDIA_HOST": "127.0.0.1",
        "MEDIA_PORT": str(free_port()),
        "MEDIA_ADDRESSES": "127.0.0.1",
        "MEDIA_UDP_PORT": "0",
    }


def run(
    house: House, postgres: PostgresServer | None, url: str, clip: Path, seconds: float, seed: int
) -> list[str]:
    """Load and kills, the drain, the verdict; what was not as promised."""
    threading.Thread(target=house.watch, name="watch", daemon=True).start()
    db = Database(url)
    try:
        people.make(db, COUPLES, FANS, utc_now())
        counts, kills = Counts(), Kills(house, postgres, seed, _say)
        found = asyncio.run(_storm(house.environment["PUBLIC_URL"], clip, seconds, seed, counts, kills))
        _say("no more kills; waiting until everything has come to its end")
        began = time.monotonic()
        found += verdict.drain(db, house.environment["AMQP_URL"])
        _say(f"drained in {time.monotonic() - began:.1f} s")
        found += verdict.problems(db)
        letters = verdict.dead_letters(db)
        print(f"\nkilled: {dict(kills.done)}\nplayed: {counts}\nfound:  {verdict.figures(db)}")
        print(f"dead letters: {len(letters)}", *letters, sep="\n  ")
        return found + [f"dead letter {letter}" for letter in letters]
    finally:
        db.close()


async def _storm(url: str, clip: Path, seconds: float, seed: int, counts: Counts, kills: Kills) -> list[str]:
    stop = asyncio.Event()
    playing = [
        asyncio.create_task(Couple(url, number, FANS, clip, seed, counts).play(stop)) for number in range(COUPLES)
    ]
    raging = asyncio.create_task(kills.rage(stop))
    await asyncio.wait(playing, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    stop.set()
    await raging
    await asyncio.wait(playing, timeout=LAST_CALLS_SECONDS)
    found = []
    for number, task in enumerate(playing):
        if not task.done():
            task.cancel()
            found.append(f"couple {number} did not come to its end")
        elif (error := task.exception()) is not None:
            found.append(f"couple {number}: {type(error).__name__}: {error}")
    return found


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
