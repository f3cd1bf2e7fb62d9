"""Which processes of the house are alive: clocks and workers beat here, web processes with their feeds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.db import insert_into
from models.operations import ProcessRow
from models.plumbing import FeedConnectionRow, WebProcessRow

HEARTBEAT_SECONDS = 5.0
GONE_SECONDS = 3 * HEARTBEAT_SECONDS
FORGET = timedelta(hours=1)
SHOWN = timedelta(minutes=10)
"""One that has gone is shown for this long."""


class Process(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One process. ``load``: event feeds that a web process serves; None for others."""

    boot_id: str
    kind: Literal["web", "clock", "worker"]
    pid: int | None
    started_at: datetime | None
    seen_at: datetime
    alive: bool
    load: int | None


def beat(
    tx: Session, boot_id: str, kind: Literal["clock", "worker"], *, pid: int, started_at: datetime, now: datetime
) -> None:
    """This process is alive."""
    tx.execute(
        insert_into(tx, ProcessRow)
        .values(boot_id=boot_id, kind=kind, pid=pid, started_at=started_at, seen_at=now)
        .on_conflict_do_update(index_elements=["boot_id"], set_={"seen_at": now})
    )


def gone(tx: Session, boot_id: str) -> None:
    """This process ends as it should; there is no more to be said of it."""
    tx.execute(delete(ProcessRow).where(ProcessRow.boot_id == boot_id))


def processes(tx: Session, now: datetime) -> tuple[Process, ...]:
    """Those that beat in the last ten minutes, by kind, the longest alive first."""
    since, heard = now - SHOWN, now - timedelta(seconds=GONE_SECONDS)
    found = [
        Process(
            boot_id=row.boot_id,
            kind="clock" if row.kind == "clock" else "worker",
            pid=row.pid,
            started_at=row.started_at,
            seen_at=row.seen_at,
            alive=row.seen_at > heard,
            load=None,
        )
        for row in tx.scalars(
            select(ProcessRow).where(ProcessRow.seen_at > since).order_by(ProcessRow.kind, ProcessRow.started_at)
        )
    ]
    webs = tx.scalars(
        select(WebProcessRow).where(WebProcessRow.seen_at > since).order_by(WebProcessRow.boot_id)
    ).all()
    return (*found, *(_web(tx, row, row.seen_at > heard) for row in webs))


def forget_gone(tx: Session, now: datetime) -> None:
    """Delete what is too old to say anything; periodic."""
    tx.execute(delete(ProcessRow).where(ProcessRow.seen_at < now - FORGET))


def _web(tx: Session, row: WebProcessRow, alive: bool) -> Process:
    feeds = tx.scalars(
        select(FeedConnectionRow.id).where(
            FeedConnectionRow.boot_id == row.boot_id, FeedConnectionRow.lost_at.is_(None)
        )
    ).all()
    return Process(
        boot_id=row.boot_id,
        kind="web",
        pid=None,
        started_at=None,
        seen_at=row.seen_at,
        alive=alive,
        load=len(feeds),
    )
