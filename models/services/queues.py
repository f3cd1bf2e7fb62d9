"""How the queues are and were: samples that the clock takes, and what they say in a word.

A sample has up to two sources, the broker itself and its management API, for each alone is blind somewhere;
what neither said is None, never 0. Knows no broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from models.db import insert_into
from models.operations import QueueSampleRow
from models.plumbing import OutboxRow

SAMPLE_SECONDS = 2
KEEP = timedelta(hours=1)
WINDOW = timedelta(minutes=10)
"""What a sparkline shows."""
STALE = timedelta(seconds=5 * SAMPLE_SECONDS)
_TREND = timedelta(seconds=30)
_POINTS = 60

State = Literal["unknown", "no_worker", "growing", "working_off", "keeping_up"]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One queue at one moment; see QueueSampleRow."""

    queue: str
    declared: bool
    managed: bool
    ready: int | None
    unacked: int | None
    delayed: int | None
    consumers: int | None
    in_rate: float | None
    out_rate: float | None
    oldest_ms: int | None
    dead: int | None


class Queue(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One queue as an operator sees it. ``points``: how many waited, the last ten minutes, oldest first."""

    queue: str
    state: State
    at: datetime
    declared: bool
    managed: bool
    ready: int | None
    unacked: int | None
    delayed: int | None
    consumers: int | None
    in_rate: float | None
    out_rate: float | None
    oldest_ms: int | None
    dead: int | None
    points: tuple[int | None, ...]


class Outbox(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What committed and is not published yet."""

    depth: int
    oldest_ms: int


def keep(tx: Session, samples: Sequence[Sample], at: datetime) -> None:
    """Keep samples of the moment ``at``; those that another clock took for the same moment stand."""
    if samples:
        rows = [{"at": at, **msgspec.to_builtins(sample)} for sample in samples]
        tx.execute(insert_into(tx, QueueSampleRow).values(rows).on_conflict_do_nothing())
    tx.execute(delete(QueueSampleRow).where(QueueSampleRow.at < at - KEEP))


def queues(tx: Session, now: datetime) -> tuple[Queue, ...]:
    """Every queue of which there is a sample in the window, by name."""
    rows = tx.scalars(
        select(QueueSampleRow)
        .where(QueueSampleRow.at > now - WINDOW)
        .order_by(QueueSampleRow.queue, QueueSampleRow.at)
    )
    by_name: dict[str, list[QueueSampleRow]] = {}
    for row in rows:
        by_name.setdefault(row.queue, []).append(row)
    return tuple(_queue(samples, now) for samples in by_name.values())


def latest(tx: Session, now: datetime) -> tuple[QueueSampleRow, ...]:
    """The last sample of each queue, none that is stale."""
    newest = (
        select(QueueSampleRow.queue, func.max(QueueSampleRow.at).label("at"))
        .where(QueueSampleRow.at > now - STALE)
        .group_by(QueueSampleRow.queue)
        .subquery()
    )
    return tuple(
        tx.scalars(
            select(QueueSampleRow)
            .join(newest, (QueueSampleRow.queue == newest.c.queue) & (QueueSampleRow.at == newest.c.at))
            .order_by(QueueSampleRow.queue)
        )
    )


def outbox_depth(tx: Session, now: datetime) -> Outbox:
    """How many rows the relay has not published, and the age of the oldest in milliseconds."""
    depth, oldest = tx.execute(
        select(func.count(), func.min(OutboxRow.created_at)).where(OutboxRow.published_at.is_(None))
    ).one()
    age = max(0, (now - oldest) // timedelta(milliseconds=1)) if oldest else 0
    return Outbox(depth=int(depth), oldest_ms=age)


def last_empty(tx: Session) -> dict[str, datetime]:
    """When each queue was last seen with nothing waiting."""
    rows = tx.execute(
        select(QueueSampleRow.queue, func.max(QueueSampleRow.at))
        .where(QueueSampleRow.ready == 0)
        .group_by(QueueSampleRow.queue)
    )
    return {row[0]: row[1] for row in rows}


def _queue(samples: list[QueueSampleRow], now: datetime) -> Queue:
    last = samples[-1]
    return Queue(
        queue=last.queue,
        state=_state(samples, now),
        at=last.at,
        declared=last.declared,
        managed=last.managed,
        ready=last.ready,
        unacked=last.unacked,
        delayed=last.delayed,
        consumers=last.consumers,
        in_rate=last.in_rate,
        out_rate=last.out_rate,
        oldest_ms=last.oldest_ms,
        dead=last.dead,
        points=_points(samples, now),
    )


def _state(samples: list[QueueSampleRow], now: datetime) -> State:
    last = samples[-1]
    if last.at < now - STALE or last.ready is None or last.consumers is None:
        return "unknown"
    if last.consumers == 0:
        return "no_worker"
    before = [row.ready for row in samples if row.at > last.at - _TREND and row.ready is not None]
    if last.ready and last.ready > before[0]:
        return "growing"
    return "working_off" if last.ready and last.ready < max(before) else "keeping_up"


def _points(samples: list[QueueSampleRow], now: datetime) -> tuple[int | None, ...]:
    """The window in equal parts; of each the most that waited, None where nobody looked."""
    width = WINDOW / _POINTS
    points: list[int | None] = [None] * _POINTS
    for row in samples:
        place = min(_POINTS - 1, max(0, int((row.at - (now - WINDOW)) / width)))
        if row.ready is not None:
            points[place] = max(points[place] or 0, row.ready)
    return tuple(points)
