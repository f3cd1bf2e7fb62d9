"""Deadlines are rows; this is where they are looked at. What a passed deadline means is the services' part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.orm import Session

from models import log
from models.clock import utc_now
from models.config import Settings
from models.db import Database
from models.services import (
    battle_clock,
    booking_clock,
    private_streams,
    queueing,
    recording_ends,
    renewals,
    sessions,
    spending,
    streams,
)
from models.timing import Timers
from workers.earnings import earnings_jobs, receipts_check
from workers.jobs import Job, jobs_for, run_due

ROUND_SECONDS = 0.25
UNHURRIED = frozenset(
    {
        "requests_let_go", "bookings_let_go", "sessions_never_opened", "sessions_overdue", "battles_deserted",
        "recordings_given_up", "recordings_expired", "subscriptions_due", "caps_raised", "streams_abandoned",
    }
)  # fmt: skip
"""Nobody sits before a page and waits for these: they have a grace of seconds to days, and looking at them in each
round was half of what a round costs."""
UNHURRIED_EVERY = timedelta(seconds=1)

Check = Callable[[Session, datetime], int]
"""Acts on what is overdue; how many."""


def checks_for(timers: Timers) -> tuple[tuple[str, Check], ...]:
    """All deadlines of the house."""
    return (
        ("requests_expired", private_streams.expire_due),
        ("requests_let_go", queueing.release_impossible),
        ("bookings_let_go", booking_clock.release_impossible),
        ("bookings_reminded", partial(booking_clock.remind_due, minute_ms=timers.minute_ms)),
        ("bookings_started", booking_clock.start_due),
        ("sessions_never_opened", sessions.open_overdue),
        ("sessions_overdue", sessions.settle_overdue),
        ("next_minutes_held", sessions.hold_next_minutes),
        ("booked_streams_ended", booking_clock.end_streams),
        ("battles_begun", battle_clock.begin_due),
        ("battles_ended", battle_clock.end_due),
        ("battles_deserted", battle_clock.drop_absent),
        ("queues_called", queueing.call_waiting),
        ("recordings_given_up", recording_ends.give_up_due),
        ("recordings_expired", recording_ends.expire_due),
        ("subscriptions_due", renewals.renew_due),
        ("caps_raised", spending.raise_caps_due),
        ("streams_abandoned", partial(streams.end_absent, absent_ms=timers.creator_absent_ms)),
    )


class Deadlines:
    """One round looks at every kind of deadline and every periodic job, each in its own transaction; at those that
    are UNHURRIED once in UNHURRIED_EVERY.

    With ``settings`` also at those that depend on them: receipts need their key, clearing its period.
    """

    def __init__(
        self,
        db: Database,
        timers: Timers,
        *,
        settings: Settings | None = None,
        checks: Sequence[tuple[str, Check]] | None = None,
        jobs: Sequence[Job] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._db = db
        self._checks = checks_for(timers) if checks is None else checks
        self._jobs = jobs_for(timers) if jobs is None else jobs
        if settings is not None:
            self._checks = (*self._checks, receipts_check(settings))
            self._jobs = (*self._jobs, *earnings_jobs(settings))
        self._now = now
        self._all_at = datetime.min.replace(tzinfo=UTC)

    def step(self) -> float:
        """One round; seconds until the next. One check that fails keeps no other from its turn."""
        failed: Exception | None = None
        now = self._now()
        # Not longer than that either, should somebody set the clock back.
        hurried = timedelta(0) < self._all_at - now <= UNHURRIED_EVERY
        if not hurried:
            self._all_at = now + UNHURRIED_EVERY
        for word, check in self._checks:
            if hurried and word in UNHURRIED:
                continue
            try:
                self._look(word, check)
            except Exception as error:
                failed = failed or error
        run_due(self._db, self._jobs, self._now())
        if failed is not None:
            raise failed
        return ROUND_SECONDS

    def _look(self, word: str, check: Check) -> None:
        count = self._db.run(lambda tx: check(tx, self._now()))
        if count:
            log.event(word, count=count)
