"""Audiences: how many spectators each broadcast has, as the web processes say who hear from them.

A row for each process and broadcast, never one for a viewer. Knows nothing of addresses and pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Subquery, delete, func, select
from sqlalchemy.orm import Session

from models.broadcasts import AudienceRow, BroadcastRow
from models.db import insert_into

FRESH_SECONDS = 15
"""What a process said longer ago than this counts no more: it may have been killed."""
_FORGET = timedelta(minutes=1)


def report(tx: Session, boot_id: str, viewers: Mapping[str, int], now: datetime) -> None:
    """The web process ``boot_id`` hears of so many viewers of each of these broadcasts; of none: forget it."""
    for broadcast_id, count in sorted(viewers.items()):
        if count > 0:
            said = {"viewers": count, "at": now}
            tx.execute(
                insert_into(tx, AudienceRow)
                .values(boot_id=boot_id, broadcast_id=broadcast_id, **said)
                .on_conflict_do_update(index_elements=["boot_id", "broadcast_id"], set_=said)
            )
    none = [broadcast_id for broadcast_id, count in viewers.items() if count <= 0]
    mine = (AudienceRow.boot_id == boot_id) & AudienceRow.broadcast_id.in_(none)
    # Whoever writes clears away, too, what the dead have left.
    tx.execute(
        delete(AudienceRow).where(mine | (AudienceRow.at < now - _FORGET)),
        execution_options={"synchronize_session": False},
    )


def spectators(now: datetime) -> Subquery:
    """``room_id`` and its ``spectators``, of rooms whose broadcast has not ended."""
    return (
        select(BroadcastRow.room_id, func.sum(AudienceRow.viewers).label("spectators"))
        .join(AudienceRow, AudienceRow.broadcast_id == BroadcastRow.id)
        .where(BroadcastRow.status != "ended", AudienceRow.at > now - timedelta(seconds=FRESH_SECONDS))
        .group_by(BroadcastRow.room_id)
        .subquery()
    )
