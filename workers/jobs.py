"""Periodic work: a row says when a job is next due, and the clock that moves the row runs the job.

The row moves by compare-and-set in the transaction in which the job works, so any number of clocks may
run and each due time is used once. A job that fell behind runs once, not once per missed time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from models import outbox
from models.db import Database, insert_into
from models.operations import DeadLetterRow
from models.payments import GatewayEventRow
from models.plumbing import IdempotencyKeyRow, InboxRow, OutboxRow, RateLimitRow, ScheduledJobRow
from models.services import (
    audits,
    dead_letters,
    pass_refunds,
    payments,
    presence,
    processes,
    purchase_refunds,
    recording_sales,
    sessions,
)
from models.timing import Timers

KEEP_INBOX = timedelta(days=30)
"""A message may come again for this long without anything being done twice; a dead letter for ever."""
KEEP_IDEMPOTENCY_KEYS = timedelta(days=1)
KEEP_RATE_LIMITS = timedelta(days=1)
KEEP_PUBLISHED = timedelta(hours=1)
HOUSEKEEPING_MS = 600_000
RECONCILE_MS = 15_000
REFUND_RECORDINGS_MS = 5_000
REFUND_PASSES_MS = 60_000
AUDIT_MS = 3_600_000


class Job(msgspec.Struct, frozen=True):
    """``run`` is called in a transaction, every ``every_ms`` milliseconds."""

    name: str
    every_ms: int
    run: Callable[[Session, datetime], None]


def jobs_for(timers: Timers) -> tuple[Job, ...]:
    """All periodic jobs of the house."""
    return (
        Job("poll_payments", timers.poll_ms, poll_payments),
        Job("reconcile_payments", RECONCILE_MS, reconcile_payments),
        Job("refund_recordings", REFUND_RECORDINGS_MS, refund_recordings),
        Job("refund_passes", REFUND_PASSES_MS, refund_passes),
        Job("housekeeping", HOUSEKEEPING_MS, housekeeping),
        Job("audit_books", AUDIT_MS, audit_books),
    )


def run_due(db: Database, jobs: Sequence[Job], now: datetime) -> int:
    """Run the jobs that are due and that no other clock has claimed; how many ran."""
    with db.reading() as tx:
        due_at = {row.name: row.next_due_at for row in tx.scalars(select(ScheduledJobRow))}
    return sum(
        db.run(lambda tx, job=job: _claim_and_run(tx, job, due_at.get(job.name), now))  # type: ignore[misc]
        for job in jobs
        if due_at.get(job.name, now) <= now
    )


def poll_payments(tx: Session, now: datetime) -> None:
    """Have a worker ask about the payments behind each running session, open request, and booking that is near."""
    for session_id in sessions.running_sessions(tx):
        outbox.actor(tx, "payments", "poll_session_payments", session_id, cause_id=session_id, now=now)
    for request_id in (*payments.open_requests_paid(tx), *payments.bookings_paid(tx, now)):
        outbox.actor(tx, "payments", "poll_request_payments", request_id, cause_id=request_id, now=now)


def reconcile_payments(tx: Session, now: datetime) -> None:
    """Have a worker ask how purchases and refunds stand, whether or not a webhook came."""
    payments.reconcile_due(tx, now)
    purchase_refunds.ask_again(tx, now)


def refund_recordings(tx: Session, now: datetime) -> None:
    """Give back what was paid for recordings that cannot be watched any more."""
    recording_sales.refund_due(tx, now)


def refund_passes(tx: Session, now: datetime) -> None:
    """Give back what was unused of passes, where that could not be done at once."""
    pass_refunds.give_back_due(tx, now)


def audit_books(tx: Session, now: datetime) -> None:
    """Have the books audited without anybody asking; the clock's auditor does it."""
    audits.ask(tx, asked_by=None, now=now)


def housekeeping(tx: Session, now: datetime) -> None:
    """Forget what can no longer matter: old repeats, old answers, old windows, messages long delivered."""
    # Who died and was done after all (another copy) must not be done again, however late it is sent again.
    dead = select(DeadLetterRow.id)
    tx.execute(
        delete(InboxRow).where(InboxRow.received_at < now - KEEP_INBOX, InboxRow.message_id.not_in(dead)),
        execution_options={"synchronize_session": False},
    )
    tx.execute(delete(GatewayEventRow).where(GatewayEventRow.done_at < now - KEEP_INBOX))
    tx.execute(delete(OutboxRow).where(OutboxRow.published_at < now - KEEP_PUBLISHED))
    tx.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < now - KEEP_IDEMPOTENCY_KEYS))
    tx.execute(delete(RateLimitRow).where(RateLimitRow.window_started_at < now - KEEP_RATE_LIMITS))
    presence.forget_gone(tx, now)
    processes.forget_gone(tx, now)
    audits.forget_old(tx, now)
    dead_letters.forget_failures(tx, now - KEEP_INBOX)


def _claim_and_run(tx: Session, job: Job, seen: datetime | None, now: datetime) -> bool:
    if not _claim(tx, job.name, seen, now + timedelta(milliseconds=job.every_ms)):
        return False
    job.run(tx, now)
    return True


_MOVE = (
    update(ScheduledJobRow)
    .where(ScheduledJobRow.name == bindparam("job"), ScheduledJobRow.next_due_at == bindparam("seen"))
    .values(next_due_at=bindparam("next"))
    .returning(ScheduledJobRow.name)
    .execution_options(synchronize_session=False)
)
"""Built once: each round claims, and building it took longer than executing it."""


def _claim(tx: Session, name: str, seen: datetime | None, next_due_at: datetime) -> bool:
    """Move the row from the time that was seen to the next; False when another clock was quicker."""
    if seen is None:
        claimed = tx.execute(
            insert_into(tx, ScheduledJobRow)
            .values(name=name, next_due_at=next_due_at)
            .on_conflict_do_nothing()
            .returning(ScheduledJobRow.name)
        )
    else:
        claimed = tx.execute(_MOVE, {"job": name, "seen": seen, "next": next_due_at})
    return claimed.first() is not None
