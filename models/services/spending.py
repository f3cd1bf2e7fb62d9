"""A fan's own limit on what may be spent in a UTC day.

Lowering it holds at once; raising it, or doing away with it, waits for the next day, so that it cannot be
undone in the moment that it is for. The ledger enforces it.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import msgspec
from sqlalchemy import bindparam, update
from sqlalchemy.orm import Session

from models import ledger
from models.errors import Invalid, NotFound
from models.people import PersonRow
from models.postings import MAX_TOKENS
from models.services.locks import locked


class SpendingCap(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens a UTC day; None: no limit. ``changesAt`` says when it becomes ``nextDailyCapTokens``, if it does."""

    daily_cap_tokens: int | None
    spent_today: int
    next_daily_cap_tokens: int | None
    changes_at: datetime | None


def cap_of(tx: Session, person_id: str, now: datetime) -> SpendingCap:
    """The limit, and what was spent of it today. Raises NotFound."""
    row = tx.get(PersonRow, person_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such person.")
    due = row.next_daily_cap_at is not None and row.next_daily_cap_at <= now
    return SpendingCap(
        daily_cap_tokens=row.next_daily_cap_tokens if due else row.daily_cap_tokens,
        spent_today=ledger.spent_today(tx, person_id, now),
        next_daily_cap_tokens=None if due else row.next_daily_cap_tokens,
        changes_at=None if due else row.next_daily_cap_at,
    )


def set_cap(tx: Session, person_id: str, tokens: int | None, now: datetime) -> SpendingCap:
    """Choose another limit, None for none. Setting what it is now takes a waiting change back.

    Raises Invalid (``field``), NotFound.
    """
    if tokens is not None and not 0 <= tokens <= MAX_TOKENS:
        raise Invalid("Choose 0 or more tokens.", field="dailyCapTokens")
    row = locked(tx, PersonRow, person_id)
    if row is None:
        raise NotFound("There is no such person.")
    present = cap_of(tx, person_id, now).daily_cap_tokens
    row.daily_cap_tokens = present
    row.next_daily_cap_tokens = row.next_daily_cap_at = None
    if _is_raised(present, tokens):
        midnight = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        row.next_daily_cap_tokens, row.next_daily_cap_at = tokens, midnight
    else:
        row.daily_cap_tokens = tokens
    tx.flush()
    return cap_of(tx, person_id, now)


# Built once: the clock asks each round, and building it took longer than executing it.
_RAISE = (
    update(PersonRow)
    .where(PersonRow.next_daily_cap_at <= bindparam("now"))
    .values(daily_cap_tokens=PersonRow.next_daily_cap_tokens, next_daily_cap_tokens=None, next_daily_cap_at=None)
    .returning(PersonRow.id)
    .execution_options(synchronize_session=False)
)


def raise_caps_due(tx: Session, now: datetime) -> int:
    """The day has come: limits that were to be raised are; how many."""
    return len(tx.execute(_RAISE, {"now": now}).all())


def _is_raised(present: int | None, wished: int | None) -> bool:
    return present is not None and (wished is None or wished > present)
