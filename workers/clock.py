"""The clock process: delivers the outbox, reads the deadlines, starts periodic work. ``python -m workers.clock``

It also takes in dead letters, watches queues and media nodes and runs audits: a thread each, which share
nothing. Any number of clocks may run; one is enough. Killed at any instant it loses nothing: all it knows is in
rows.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType

from sqlalchemy.exc import OperationalError

from models import log
from models.config import Settings, SettingsError, load_settings
from models.db import Database
from models.errors import Unavailable
from models.receipt_keys import signing_key
from models.timing import timers_for
from workers.auditor import Auditor
from workers.broker import parameters
from workers.dead_letters import Collector
from workers.deadlines import Deadlines
from workers.heartbeat import Heartbeat
from workers.loop import Loop
from workers.management import Management
from workers.node_watch import NodeWatch
from workers.observer import Observer
from workers.relay import Relay

STOP_SECONDS = 2.0


def main() -> int:
    """Run until SIGTERM or SIGINT; 2 when the settings do not fit."""
    try:
        settings = load_settings()
        signing_key(settings)
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
    """All loops, until ``stop`` is set and at most STOP_SECONDS longer."""
    db = Database(settings.database_url)
    relay = Relay(db, settings.amqp_url)
    deadlines = Deadlines(db, timers_for(settings.minute_ms), settings=settings)
    heartbeat = Heartbeat(db, "clock")
    collector = Collector(db, settings.amqp_url)
    management = Management(settings.rabbitmq_management_url, parameters(settings.amqp_url).virtual_host)
    observer = Observer(db, settings.amqp_url, management)
    node_watch = NodeWatch(db)
    loops = [
        Loop("relay", relay.step, stop, relay.close),
        Loop("deadlines", deadlines.step, stop),
        Loop("dead_letters", collector.step, stop, collector.close),
        Loop("observer", observer.step, stop, observer.close),
        Loop("auditor", Auditor(db).step, stop),
        Loop("nodes", node_watch.step, stop),
        Loop("heartbeat", heartbeat.step, stop),
    ]
    threads = [threading.Thread(target=loop.run, name=loop.name, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    stop.wait()
    until = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(timeout=max(0.0, until - time.monotonic()))
    node_watch.close()
    try:
        heartbeat.end()
    except (OperationalError, Unavailable) as error:
        log.event("heartbeat_not_ended", error=type(error).__name__)
    db.close()


if __name__ == "__main__":
    sys.exit(main())
