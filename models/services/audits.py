"""Audits of the books as jobs: somebody asks, the clock runs it on a snapshot, the result stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models import ids
from models.audit import AuditReport
from models.errors import NotFound
from models.machine import move
from models.operations import AuditRunRow

AUDIT = "aud"
KEEP = timedelta(days=30)
GIVE_UP = timedelta(minutes=30)
"""A run that has not ended by then was killed with its clock; it is begun again."""
RUNNING = ("asked", "running")


class AuditRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One audit. ``problems`` are sentences; ``asked_by`` None: the house itself."""

    audit_id: str
    status: Literal["asked", "running", "done", "failed"]
    asked_by: str | None
    asked_at: datetime
    finished_at: datetime | None
    ok: bool | None
    problems: tuple[str, ...]
    accounts: int | None
    transfers: int | None


def ask(tx: Session, *, asked_by: str | None, now: datetime) -> AuditRun:
    """Have the books audited; one that has not begun yet serves everybody who asks."""
    waiting = tx.scalar(select(AuditRunRow).where(AuditRunRow.status == "asked").limit(1))
    if waiting is not None:
        return _view(waiting)
    row = AuditRunRow(id=ids.new_id(AUDIT), status="asked", asked_by=asked_by, asked_at=now)
    tx.add(row)
    tx.flush()
    return _view(row)


def due(tx: Session, now: datetime) -> tuple[str, str] | None:
    """The oldest audit that somebody has to run: its id and status."""
    stuck = (AuditRunRow.status == "running") & (AuditRunRow.started_at < now - GIVE_UP)
    row = tx.execute(
        select(AuditRunRow.id, AuditRunRow.status)
        .where((AuditRunRow.status == "asked") | stuck)
        .order_by(AuditRunRow.asked_at)
        .limit(1)
    ).one_or_none()
    return (row[0], row[1]) if row else None


def begin(tx: Session, audit_id: str, status: str, now: datetime) -> None:
    """Whoever calls this runs the audit. Raises Conflict when another clock was quicker."""
    move(tx, AuditRunRow, audit_id, status, "running", started_at=now)


def finish(tx: Session, audit_id: str, report: AuditReport | None, now: datetime) -> None:
    """The result; None: it broke, and the clock's log says how."""
    if report is None:
        move(tx, AuditRunRow, audit_id, "running", "failed", finished_at=now)
        return
    move(
        tx,
        AuditRunRow,
        audit_id,
        "running",
        "done",
        finished_at=now,
        ok=report.ok,
        problems=msgspec.json.encode(report.problems).decode(),
        accounts=report.accounts,
        transfers=report.transfers,
    )


def run_of(tx: Session, audit_id: str) -> AuditRun:
    """One audit. Raises NotFound."""
    row = tx.get(AuditRunRow, audit_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such audit.")
    return _view(row)


def runs(tx: Session, limit: int = 10) -> tuple[AuditRun, ...]:
    """The latest audits, newest first."""
    rows = tx.scalars(select(AuditRunRow).order_by(AuditRunRow.asked_at.desc(), AuditRunRow.id).limit(limit))
    return tuple(_view(row) for row in rows)


def forget_old(tx: Session, now: datetime) -> None:
    """Delete runs older than 30 days; periodic."""
    tx.execute(delete(AuditRunRow).where(AuditRunRow.asked_at < now - KEEP))


def _view(row: AuditRunRow) -> AuditRun:
    return AuditRun(
        audit_id=row.id,
        status=msgspec.convert(row.status, Literal["asked", "running", "done", "failed"]),
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        finished_at=row.finished_at,
        ok=row.ok,
        problems=msgspec.json.decode(row.problems, type=tuple[str, ...]) if row.problems else (),
        accounts=row.accounts,
        transfers=row.transfers,
    )
