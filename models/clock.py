"""The two clocks: wall time for what people read, monotonic time for what is measured.

Rules take ``now`` as an argument; only edges read a clock, and they read it here.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Wall time, aware, UTC."""
    return datetime.now(UTC)


def monotonic_ms() -> int:
    """Milliseconds of a clock that never jumps; no relation to wall time."""
    return time.monotonic_ns() // 1_000_000


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, ``2026-01-02T03:04:05.678Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
