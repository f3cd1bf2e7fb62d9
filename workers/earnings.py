"""What the clock does for creators' money, by the house's settings: receipts signed, earnings cleared, payouts
asked about again. The services decide; this only names them and how often.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from models.config import Settings
from models.receipt_keys import SigningKey, signing_key
from models.services import earnings, payouts, receipt_chain
from workers.jobs import Job

CLEAR_EVERY_MS = 10_000
ASK_EVERY_MS = 60_000


class IssueReceipts:
    """A deadline check: what has ended and has no receipt gets one."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def __call__(self, tx: Session, now: datetime) -> int:
        """How many documents were signed."""
        return receipt_chain.issue_due(tx, self._key, now)


def receipts_check(settings: Settings) -> tuple[str, IssueReceipts]:
    """The check for ``workers.deadlines``. Raises SettingsError for a key file that is none."""
    return ("receipts_issued", IssueReceipts(signing_key(settings)))


def earnings_jobs(settings: Settings) -> tuple[Job, ...]:
    """The periodic work for ``workers.jobs``."""
    return (
        Job("clear_earnings", CLEAR_EVERY_MS, partial(earnings.clear_due, clearing_days=settings.clearing_days)),
        Job("ask_payouts", ASK_EVERY_MS, payouts.ask_again),
    )
