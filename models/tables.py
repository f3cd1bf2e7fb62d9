"""All tables at once, for whoever needs the whole schema: migrations and tests."""

from __future__ import annotations

from models import (
    battles,
    bookings,
    books,
    broadcasts,
    earnings,
    flags,
    operations,
    payments,
    people,
    plumbing,
    receipts,
    recordings,
    requests,
    sessions,
    streams,
    subscriptions,
)
from models.db import Base

TABLES = (
    people,
    streams,
    broadcasts,
    requests,
    sessions,
    bookings,
    subscriptions,
    payments,
    books,
    flags,
    plumbing,
    operations,
    earnings,
    receipts,
    recordings,
    battles,
)
metadata = Base.metadata
