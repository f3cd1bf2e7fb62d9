"""Calendar months: a month after 31 January is the last of February, and a month after that is 31 March.

Pure functions of UTC moments. Knows nothing of subscriptions.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime


def months_after(anchor: datetime, count: int) -> datetime:
    """``anchor`` moved by ``count`` months; a day that the month does not have becomes its last."""
    moment = anchor.astimezone(UTC)
    month = moment.year * 12 + moment.month - 1 + count
    year, month = divmod(month, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def next_month(anchor: datetime, after: datetime) -> datetime:
    """The first moment later than ``after`` that is a whole number of months from ``anchor``, one at least."""
    moment, start = after.astimezone(UTC), anchor.astimezone(UTC)
    count = max(1, (moment.year - start.year) * 12 + moment.month - start.month)
    while months_after(anchor, count) <= after:
        count += 1
    return months_after(anchor, count)
