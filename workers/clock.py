"""The clock process: delivers the outbox, reads the deadlines, starts periodic work. ``python -m workers.clock``

Two threads that share nothing. Any number of clocks may run; one is enough. Killed at any instant it loses
nothing: all it knows is in rows.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from models import log
from models.config import Settings, SettingsError, load_settings
from models.db import Database
from models.timing import timers_for
from workers.deadlines import Deadlines
from workers.loop import Loop
from workers.relay import Relay

STOP_SECONDS = 2.0


def main() -> int:
    """Run until SIGTERM or SIGINT; 2 when the settings do not fit."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    log.configure("clock", settings.log_level)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    run(settings, stop)
    return 0


def run(settings: Settings, stop: threading.Event) -> None:
    """Both loops, until ``stop`` is set and at most STOP_SECONDS longer."""
    db = Database(settings.database_url)
    relay = Relay(db, settings.amqp_url)
    deadlines = Deadlines(db, timers_for(settings.minute_ms))
    threads = [
        threading.Thread(target=Loop("relay", relay.step, stop, relay.close).run, name="relay", daemon=True),
        threading.Thread(target=Loop("deadlines", deadlines.step, stop).run, name="deadlines", daemon=True),
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(timeout=STOP_SECONDS / len(threads))
    db.close()


if __name__ == "__main__":
    sys.exit(main())
