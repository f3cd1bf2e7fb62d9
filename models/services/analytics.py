"""How a creator's private streams went: asked, accepted, delivered, earned, and by whom again. Reads only.

Counts and sums, never a fan's name: who came back is the creator's to see in the receipts.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.books import AccountRow, EntryRow, TransferRow
from models.requests import RequestRow
from models.sessions import SessionRow

LONGEST_DAYS = 365


class EndCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many calls ended for a reason."""

    end_reason: str
    calls: int


class Week(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Calls that ended in the week that begins on ``monday`` (UTC), and what they earned, in tokens."""

    monday: date
    calls: int
    earned: int


class Analytics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last ``days`` days. Requests by when they were asked, calls by when they ended; tokens net."""

    days: int
    asked: int
    accepted: int
    declined: int
    unanswered: int
    calls: int
    fans: int
    returning_fans: int
    """Of them, with more than one call."""
    delivered_ms: int
    billed_minutes: int
    earned_calls: int
    earned_tips: int
    earned_subscriptions: int
    earned_passes: int
    earned_battles: int
    earned_recordings: int
    ends: tuple[EndCount, ...]
    weeks: tuple[Week, ...]


def analytics(tx: Session, creator_id: str, days: int, now: datetime) -> Analytics:
    """What happened since ``days`` days ago."""
    since = now - timedelta(days=days)
    answers = _requests(tx, creator_id, since)
    ended = (
        SessionRow.creator_id == creator_id,
        SessionRow.status == "ended",
        SessionRow.end_time >= since,
        SessionRow.end_time <= now,
    )
    per_fan = select(func.count().label("calls")).where(*ended).group_by(SessionRow.fan_id).subquery()
    fans = tx.execute(select(func.count(), func.count().filter(per_fan.c.calls > 1)).select_from(per_fan)).one()
    rows = tx.execute(
        select(
            SessionRow.end_time,
            SessionRow.end_reason,
            SessionRow.delivered_ms,
            SessionRow.billed_minutes,
            SessionRow.total_earnings,
        ).where(*ended)
    ).all()
    paid = _paid(tx, creator_id, since)
    reasons = sorted({str(row.end_reason) for row in rows})
    ends = [EndCount(end_reason=each, calls=sum(row.end_reason == each for row in rows)) for each in reasons]
    return Analytics(
        days=days,
        asked=sum(answers.values()),
        accepted=answers.get("accepted", 0),
        declined=answers.get("declined", 0),
        unanswered=answers.get("expired", 0),
        calls=len(rows),
        fans=fans[0],
        returning_fans=fans[1],
        delivered_ms=sum(row.delivered_ms for row in rows),
        billed_minutes=sum(row.billed_minutes or 0 for row in rows),
        earned_calls=sum(row.total_earnings or 0 for row in rows),
        earned_tips=paid.get("tip", 0),
        earned_subscriptions=paid.get("subscription", 0),
        earned_passes=paid.get("pass", 0),
        earned_battles=paid.get("share", 0),
        earned_recordings=paid.get("recording", 0),
        ends=tuple(sorted(ends, key=lambda each: -each.calls)),
        weeks=_weeks([(row.end_time, row.total_earnings or 0) for row in rows if row.end_time], since, now),
    )


def _requests(tx: Session, creator_id: str, since: datetime) -> dict[str, int]:
    query = (
        select(RequestRow.status, func.count().label("asked"))
        .where(RequestRow.creator_id == creator_id, RequestRow.created_at >= since)
        .group_by(RequestRow.status)
    )
    return {row.status: row.asked for row in tx.execute(query)}


def _paid(tx: Session, creator_id: str, since: datetime) -> dict[str, int]:
    query = (
        select(TransferRow.kind, func.sum(EntryRow.amount))
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(
            AccountRow.owner_id == creator_id,
            AccountRow.kind == "earnings_pending",
            TransferRow.kind.in_(("tip", "subscription", "pass", "share", "recording")),
            TransferRow.created_at >= since,
        )
        .group_by(TransferRow.kind)
    )
    return {kind: int(tokens) for kind, tokens in tx.execute(query)}


def _weeks(calls: list[tuple[datetime, int]], since: datetime, now: datetime) -> tuple[Week, ...]:
    """Every week of the window, also those without a call."""
    first, last = _monday(since), _monday(now)
    mondays = [first + timedelta(weeks=number) for number in range((last - first).days // 7 + 1)]
    return tuple(
        Week(
            monday=monday,
            calls=sum(_monday(at) == monday for at, _ in calls),
            earned=sum(tokens for at, tokens in calls if _monday(at) == monday),
        )
        for monday in mondays
    )


def _monday(at: datetime) -> date:
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())
