"""Who has an event feed open: a fan who has not had one for a while cannot be accepted.

A connection counts as lost when the web process says so, or when that process itself has not been heard of
for a while: it may have been killed.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from models import ids
from models.db import insert_into
from models.plumbing import FeedConnectionRow, WebProcessRow

HEARTBEAT_SECONDS = 5
"""How often a web process calls ``web_heartbeat``."""
PROCESS_GONE_SECONDS = 3 * HEARTBEAT_SECONDS
FORGET_SECONDS = 3_600


def web_heartbeat(tx: Session, boot_id: str, now: datetime) -> None:
    """The web process ``boot_id`` is alive."""
    tx.execute(
        insert_into(tx, WebProcessRow)
        .values(boot_id=boot_id, seen_at=now)
        .on_conflict_do_update(index_elements=["boot_id"], set_={"seen_at": now})
    )


def forget_gone(tx: Session, now: datetime) -> None:
    """Delete what is too old to say anything; periodic."""
    old = now - timedelta(seconds=FORGET_SECONDS)
    gone = select(WebProcessRow.boot_id).where(WebProcessRow.seen_at < old)
    tx.execute(
        delete(FeedConnectionRow).where(or_(FeedConnectionRow.lost_at < old, FeedConnectionRow.boot_id.in_(gone))),
        execution_options={"synchronize_session": False},
    )
    tx.execute(delete(WebProcessRow).where(WebProcessRow.seen_at < old))


def feed_opened(tx: Session, user_id: str, boot_id: str, now: datetime) -> str:
    """A person's feed opened in that web process; returns the connection's id."""
    connection_id = ids.new_id("feed")
    web_heartbeat(tx, boot_id, now)
    tx.add(FeedConnectionRow(id=connection_id, user_id=user_id, boot_id=boot_id, opened_at=now))
    tx.flush()
    return connection_id


def feed_closed(tx: Session, connection_id: str, now: datetime) -> None:
    """That feed is gone; again is no harm."""
    tx.execute(
        update(FeedConnectionRow)
        .where(FeedConnectionRow.id == connection_id, FeedConnectionRow.lost_at.is_(None))
        .values(lost_at=now)
    )


def feed_present(tx: Session, user_id: str, now: datetime, gone_ms: int) -> bool:
    """Whether the person has a feed open, or had one within the last ``gone_ms``."""
    return user_id in present_among(tx, {user_id}, now, gone_ms)


def present_among(tx: Session, user_ids: Collection[str], now: datetime, gone_ms: int) -> set[str]:
    """Those of ``user_ids`` who have a feed open, or had one within the last ``gone_ms``."""
    heard = select(WebProcessRow.boot_id).where(
        WebProcessRow.seen_at > now - timedelta(seconds=PROCESS_GONE_SECONDS)
    )
    here = FeedConnectionRow.lost_at.is_(None) & FeedConnectionRow.boot_id.in_(heard)
    just_lost = FeedConnectionRow.lost_at > now - timedelta(milliseconds=gone_ms)
    found = select(FeedConnectionRow.user_id).where(
        FeedConnectionRow.user_id.in_(user_ids), or_(here, just_lost)
    )
    return set(tx.scalars(found.distinct()))
