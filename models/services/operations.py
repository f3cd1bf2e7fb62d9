"""What admins do is recorded: one row an act, in the transaction of the act itself.

Knows nothing of what the acts are; whoever does one calls ``record`` beside it, or ``record_at_shell``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids
from models.errors import Invalid
from models.operations import AdminActRow
from models.outbox import Json
from models.people import PersonRow

ACT = "act"
LONGEST_REASON = 500
MOST_ACTS = 500


class Act(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One act as the record shows it. ``before`` and ``after`` are JSON texts. ``adminId`` is null where it was
    done at the shell; ``handle`` says by whom there, too."""

    act_id: str
    admin_id: str | None
    handle: str
    act: str
    subject: str
    reason: str
    before: str | None
    after: str | None
    cause_id: str
    at: datetime


def record(
    tx: Session,
    admin_id: str,
    act: str,
    subject: str,
    reason: str,
    *,
    now: datetime,
    before: Mapping[str, Json] | None = None,
    after: Mapping[str, Json] | None = None,
    cause_id: str = "",
) -> str:
    """Note that this admin did ``act`` to ``subject`` (a public id), in the same transaction; the act's id.

    ``act`` is a word in the past tense, such as ``complaint_upheld``; ``before`` and ``after`` what it
    changed, never a secret. Raises Invalid (``field`` reason) for a reason that is missing or too long.
    """
    row = AdminActRow(
        id=ids.new_id(ACT),
        admin_id=admin_id,
        act=act,
        subject=subject,
        reason=checked_reason(reason),
        before=_json(before),
        after=_json(after),
        cause_id=cause_id,
        at=now,
    )
    tx.add(row)
    tx.flush()
    return row.id


def record_at_shell(tx: Session, operator: str, act: str, subject: str, reason: str, *, now: datetime) -> None:
    """The same of somebody at the shell, who is nobody of ours: a name of the operating system. Raises Invalid."""
    tx.add(
        AdminActRow(
            id=ids.new_id(ACT), operator=operator, act=act, subject=subject, reason=checked_reason(reason),
            cause_id="", at=now,
        )
    )  # fmt: skip
    tx.flush()


def checked_reason(reason: str) -> str:
    """The reason without its margins. Raises Invalid (``field`` reason) unless it has 3 to 500 characters."""
    trimmed = reason.strip()
    if not 3 <= len(trimmed) <= LONGEST_REASON:
        raise Invalid(f"A reason has 3 to {LONGEST_REASON} characters.", field="reason")
    return trimmed


def acts(tx: Session, *, subject: str | None = None, limit: int = 100) -> tuple[Act, ...]:
    """The latest acts, newest first; those on ``subject`` alone if one is named."""
    query = select(AdminActRow, PersonRow.handle).outerjoin(PersonRow, PersonRow.id == AdminActRow.admin_id)
    if subject is not None:
        query = query.where(AdminActRow.subject == subject)
    rows = tx.execute(
        query.order_by(AdminActRow.at.desc(), AdminActRow.id).limit(max(1, min(limit, MOST_ACTS)))
    )
    return tuple(
        Act(
            act_id=row.id,
            admin_id=row.admin_id,
            handle=by(row, handle),
            act=row.act,
            subject=row.subject,
            reason=row.reason,
            before=row.before,
            after=row.after,
            cause_id=row.cause_id,
            at=row.at,
        )
        for row, handle in rows
    )


def by(act: AdminActRow, handle: str | None) -> str:
    """Who did it, for whoever reads; ``handle``: the admin's, if it was one."""
    return handle or f"{act.operator} at the shell"


def _json(values: Mapping[str, Json] | None) -> str | None:
    return None if values is None else msgspec.json.encode(values).decode()
