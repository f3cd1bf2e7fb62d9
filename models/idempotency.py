"""Idempotency keys: the first success of a call is stored and replayed, so that a client may retry safely.

``claim`` and ``store`` belong into the transaction of the work itself: a refusal leaves no trace, and of
two at once the second waits and then replays.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from models.db import insert_into
from models.errors import Conflict, Invalid
from models.plumbing import IdempotencyKeyRow

LONGEST_KEY = 255


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The first answer: HTTP status and body."""

    status: int
    body: bytes


def claim(
    tx: Session, *, person_id: str, route: str, key: str, body: bytes, now: datetime
) -> StoredResponse | None:
    """The stored answer, or None when the work is the caller's to do and to ``store``.

    Raises Invalid IDEMPOTENCY_KEY_REUSED when the first call under this key had another body.
    """
    if not 1 <= len(key) <= LONGEST_KEY:
        raise Invalid(f"An idempotency key has 1 to {LONGEST_KEY} characters.", field="Idempotency-Key")
    body_hash = hashlib.sha256(body).hexdigest()
    row = insert_into(tx, IdempotencyKeyRow).values(
        person_id=person_id, route=route, key=key, body_hash=body_hash, created_at=now
    )
    if tx.scalar(row.on_conflict_do_nothing().returning(IdempotencyKeyRow.key)) is not None:
        return None
    first = tx.execute(
        select(IdempotencyKeyRow.body_hash, IdempotencyKeyRow.status, IdempotencyKeyRow.response).where(
            *_is(person_id, route, key)
        )
    ).one()
    if first.body_hash != body_hash:
        raise Invalid("This key came with another body before.", code="IDEMPOTENCY_KEY_REUSED")
    if first.status is None or first.response is None:
        raise Conflict("The first call under this key has no answer yet.", code="IN_PROGRESS")
    return StoredResponse(status=first.status, body=first.response)


def store(tx: Session, *, person_id: str, route: str, key: str, status: int, body: bytes) -> None:
    """Keep the answer of the work that ``claim`` left to the caller."""
    tx.execute(update(IdempotencyKeyRow).where(*_is(person_id, route, key)).values(status=status, response=body))


def _is(person_id: str, route: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyKeyRow.person_id == person_id,
        IdempotencyKeyRow.route == route,
        IdempotencyKeyRow.key == key,
    )
