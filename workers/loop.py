"""A loop that never dies silently: whatever a step raises is said, waited out and tried again.

An outage of the broker or the database is said once when it begins and once when it is over, not every
second of it. Anything else is a defect: logged with its traceback each time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pika.exceptions
from sqlalchemy.exc import InterfaceError, OperationalError

from models import log
from models.errors import Unavailable

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0

Step = Callable[[], float]
"""Does one round and says how many seconds to wait before the next; 0 for at once."""


class Loop:
    """Runs ``step`` until ``stop`` is set. ``recover`` is called after a failed step, before the next."""

    def __init__(
        self, name: str, step: Step, stop: threading.Event, recover: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self._step = step
        self._stop = stop
        self._recover = recover
        self._backoff = FIRST_BACKOFF_SECONDS
        self._outage: str | None = None

    def run(self) -> None:
        """The whole life of the thread."""
        log.event("loop_started", loop=self.name)
        while not self._stop.is_set():
            pause = self._round()
            if pause > 0:
                self._stop.wait(pause)
        log.event("loop_stopped", loop=self.name)

    def _round(self) -> float:
        try:
            pause = self._step()
        except (pika.exceptions.AMQPError, OSError) as error:
            return self._failed("broker", error)
        except (OperationalError, InterfaceError, Unavailable) as error:
            return self._failed("database", error)
        except Exception as error:
            log.failure("loop_failed", loop=self.name)
            return self._failed(None, error)
        if self._outage is not None:
            log.event("outage_over", loop=self.name, of=self._outage)
        self._outage = None
        self._backoff = FIRST_BACKOFF_SECONDS
        return pause

    def _failed(self, outage: str | None, error: Exception) -> float:
        if outage is not None and outage != self._outage:
            log.event("outage", level=logging.WARNING, loop=self.name, of=outage, error=type(error).__name__)
        self._outage = outage or self._outage
        try:
            self._recover()
        except Exception:
            log.failure("loop_recovery_failed", loop=self.name)
        pause = self._backoff
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
        return pause
