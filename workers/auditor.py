"""Runs the audits that were asked for, one at a time, on a snapshot: a thread of the clock of its own.

No actor does it, for an audit of large books takes longer than a message may.
"""

from __future__ import annotations

from models import audit, log
from models.clock import utc_now
from models.db import Database
from models.errors import Conflict
from models.services import audits

IDLE_SECONDS = 1.0


class Auditor:
    """Used by the thread that calls ``step``."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def step(self) -> float:
        """Run the next audit if there is one; seconds until the next look."""
        with self._db.reading() as tx:
            due = audits.due(tx, utc_now())
        if due is None:
            return IDLE_SECONDS
        audit_id, status = due
        try:
            self._db.run(lambda tx: audits.begin(tx, audit_id, status, utc_now()))
        except Conflict:
            return 0.0
        try:
            with self._db.reading() as tx:
                report = audit.audit(tx)
        except Exception:
            self._db.run(lambda tx: audits.finish(tx, audit_id, None, utc_now()))
            raise
        self._db.run(lambda tx: audits.finish(tx, audit_id, report, utc_now()))
        log.event("books_audited", ok=report.ok, problems=len(report.problems), transfers=report.transfers)
        return 0.0
