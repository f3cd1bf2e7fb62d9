"""Rate limits that all web processes share: so many per window and key, counted in one statement.

A fixed window: cheap, and at worst twice the limit around a window's edge. ``hit`` belongs into a
transaction of its own, before the work: a refusal rolls its transaction back, the count included.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy import case
from sqlalchemy.orm import Session

from models.db import insert_into
from models.errors import RateLimited
from models.plumbing import RateLimitRow


def hit(tx: Session, key: str, *, limit: int, window_seconds: int, now: datetime) -> None:
    """Count one more for ``key``; raises RateLimited (``retry_after_seconds``) beyond ``limit``."""
    window = timedelta(seconds=window_seconds)
    over = RateLimitRow.window_started_at <= now - window
    row = insert_into(tx, RateLimitRow).values(key=key, window_started_at=now, count=1)
    count, started_at = tx.execute(
        row.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "count": case((over, 1), else_=RateLimitRow.count + 1),
                "window_started_at": case((over, now), else_=RateLimitRow.window_started_at),
            },
        ).returning(RateLimitRow.count, RateLimitRow.window_started_at)
    ).one()
    if count <= limit:
        return
    left = (started_at + window - now).total_seconds()
    raise RateLimited("Too many; try again later.", retry_after_seconds=max(1, math.ceil(left)))
