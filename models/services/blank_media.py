"""Flags for a creator who sends black or silence in a paid session, by what the media node reports.

docs/money.md ("Abuse that the rules already answer"): a complaint decides, the flag only says where to look.
It bills nothing and refunds nothing, and neither side is told: the fan has seen and heard it, and complains
from the receipt; an admin who decides the complaint finds the flag beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from models import log
from models.db import insert_into
from models.flags import FlagRow
from models.messages.events import CallEnded, MediaDelivered
from models.sessions import SessionRow
from models.timing import MINUTE_MS

# Half of the shortest session that can be bought, in a minute of 60 s; ours to choose.
BLACK_TO_FLAG_MS = 30_000
# Silence is longer an honest thing: a creator who only listens behind a noise gate is silent for a while. So
# all of the shortest session, and nearly all of what was delivered.
SILENT_TO_FLAG_MS = 45_000
SILENT_PERCENT = 80


def flag(tx: Session, session: SessionRow, event: MediaDelivered | CallEnded, now: datetime) -> None:
    """Flag the pair, once a day, if this report says that the picture or the sound was empty for long."""
    if event.black_ms * MINUTE_MS >= BLACK_TO_FLAG_MS * session.minute_ms:
        _flag(tx, session, "black_picture", now)
    long_silent = event.silent_ms * MINUTE_MS >= SILENT_TO_FLAG_MS * session.minute_ms
    if long_silent and event.silent_ms * 100 >= event.delivered_ms * SILENT_PERCENT:
        _flag(tx, session, "silent_sound", now)


def _flag(tx: Session, session: SessionRow, kind: str, now: datetime) -> None:
    found = tx.execute(
        insert_into(tx, FlagRow)
        .values(
            kind=kind,
            creator_id=session.creator_id,
            fan_id=session.fan_id,
            day=now.astimezone(UTC).date().isoformat(),
            session_id=session.id,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(FlagRow.session_id)
    ).first()
    if found is not None:
        log.event("session_flagged", session_id=session.id, cause_id=session.cause_id, kind=kind)
