"""The kills: which part dies when, by seed. What died is started again, by the house or here."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from ops.house import House
from ops.postgres import PostgresError, PostgresServer

PROCESSES = ("web", "worker", "clock", "media")
SERVERS = ("rabbitmq", "postgresql")
PAUSE_SECONDS = (2.0, 8.0)
RECOVER_SECONDS = 60.0


class Kills:
    """Kills one part after another, with SIGKILL as a power cut would."""

    def __init__(
        self, house: House, postgres: PostgresServer | None, seed: int, say: Callable[[str], None] = print
    ) -> None:
        self._house = house
        self._postgres = postgres
        self._random = random.Random(seed)  # noqa: S311 (repeatable on purpose)
        self._say = say
        self.done: Counter[str] = Counter()

    async def rage(self, stop: asyncio.Event) -> None:
        """Until ``stop``; afterwards everything has been started again."""
        victims = PROCESSES * 2 + tuple(name for name in SERVERS if name != "postgresql" or self._postgres)
        while not stop.is_set():
            pause = self._random.uniform(*PAUSE_SECONDS)
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                victim = self._random.choice(victims)
                self._say(f"kill -9 {victim}")
                self.done[victim] += 1
                await asyncio.to_thread(self._kill, victim)

    def _kill(self, victim: str) -> None:
        if victim == "rabbitmq":
            assert self._house.broker is not None
            self._house.broker.kill()
            # The watcher revives only what died by itself; this one is ours to start.
            self._house.broker.start()
        elif victim == "postgresql":
            assert self._postgres is not None
            self._postgres.kill()
            self._restart(self._postgres)
        else:
            self._house.children[victim].signal(signal.SIGKILL)

    def _restart(self, postgres: PostgresServer) -> None:
        """The former server's children hold its memory for a moment: tried until they are gone."""
        deadline = time.monotonic() + RECOVER_SECONDS
        while True:
            try:
                postgres.start()
            except PostgresError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return
