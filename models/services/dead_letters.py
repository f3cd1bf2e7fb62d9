"""Dead letters: kept for good with why they died, run again or thrown away by an admin.

A letter that runs again has the id that it had, so a worker that did it after all does nothing. What ran
again and died again is a new death of the same row. Knows no broker: whoever takes letters out of one
calls ``take_in``, commits, and only then lets go of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from models import ids, log, outbox
from models.db import insert_into
from models.errors import Conflict, NotFound
from models.machine import move
from models.operations import DeadLetterRow, MessageFailureRow
from models.plumbing import InboxRow, OutboxRow
from models.redaction import redacted, redacted_json
from models.services import operations
from models.services.locks import locked

Status = Literal["waiting", "requeued", "discarded"]

LONGEST_TRACEBACK = 20_000
LONGEST_ERROR = 500
LONGEST_BODY = 256 * 1024
MOST_LISTED = 200


class Corpse(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it was found among the broker's dead. ``why`` is RabbitMQ's reason.

    ``died_at`` None: it does not say, somebody put it there by hand.
    """

    queue: str
    message_id: str | None
    body: bytes
    why: str
    died_at: datetime | None


class Letter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One dead letter in a list. ``done``: it was run again, and a worker has noted it as done."""

    message_id: str
    status: Status
    queue: str
    actor: str
    cause_id: str
    why: str
    error: str
    attempts: int
    deaths: int
    first_died_at: datetime
    died_at: datetime
    runnable: bool
    done: bool
    decided_by: str | None
    decided_at: datetime | None
    decided_why: str | None


class OpenLetter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One dead letter, read. Secrets in ``payload`` and ``traceback`` are hidden."""

    letter: Letter
    payload: str
    traceback: str


class _Envelope(msgspec.Struct, frozen=True):
    """What of Dramatiq's message format says who is to do what."""

    actor_name: str
    message_id: str
    args: tuple[str, ...]
    kwargs: dict[str, object] = {}
    options: dict[str, object] = {}


# --- how letters get here ----------------------------------------------------------------------------


def note_failure(
    tx: Session, message_id: str, *, attempts: int, error: str, traceback: str, now: datetime
) -> None:
    """Remember how a message failed; its letter, which has no room for that, follows through the broker."""
    values = {
        "attempts": attempts,
        "error": _line(error),
        "traceback": redacted(traceback)[-LONGEST_TRACEBACK:],
        "failed_at": now,
    }
    tx.execute(
        insert_into(tx, MessageFailureRow)
        .values(message_id=message_id, **values)
        .on_conflict_do_update(index_elements=["message_id"], set_=values)
    )


def take_in(tx: Session, corpse: Corpse, now: datetime) -> bool:
    """Keep a letter; False when this very death is kept already (it was delivered again)."""
    text = corpse.body[:LONGEST_BODY].decode(errors="replace").replace("\0", "�")
    envelope = _read(corpse.body)
    death_key = hashlib.sha256(f"{corpse.died_at}|".encode() + corpse.body).hexdigest()
    died_at = corpse.died_at or now
    message_id = envelope.message_id if envelope else corpse.message_id or f"{ids.MESSAGE}_{death_key[:26]}"
    row = locked(tx, DeadLetterRow, message_id)
    if row is not None and row.death_key == death_key:
        return False
    failure = tx.get(MessageFailureRow, message_id, populate_existing=True)
    cause_id = _cause(tx, message_id, envelope)
    values = {
        "queue": corpse.queue,
        "actor": envelope.actor_name if envelope else "",
        "arguments": _arguments(envelope, corpse.body),
        "body": text,
        "cause_id": cause_id,
        "why": corpse.why,
        **_last_words(failure, envelope),
        "death_key": death_key,
        "died_at": died_at,
    }
    if row is None:
        tx.add(DeadLetterRow(id=message_id, status="waiting", deaths=1, first_died_at=died_at, **values))
        tx.flush()
    else:
        move(tx, DeadLetterRow, row.id, row.status, "waiting", deaths=row.deaths + 1, **values)
    if failure is not None:
        tx.delete(failure)
    log.event(
        "dead_letter", logging.WARNING, message_id=message_id, queue=corpse.queue, why=corpse.why,
        cause_id=cause_id or None,
    )  # fmt: skip
    return True


def forget_failures(tx: Session, before: datetime) -> None:
    """Failures whose letters never came: the message was done after all, or its letter was taken by hand."""
    tx.execute(delete(MessageFailureRow).where(MessageFailureRow.failed_at < before))


def _read(body: bytes) -> _Envelope | None:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _arguments(envelope: _Envelope | None, body: bytes) -> str | None:
    """What to call the actor with again; None where that would not be the same call."""
    if envelope is None or envelope.kwargs or len(body) > LONGEST_BODY:
        return None
    return msgspec.json.encode(envelope.args).decode()


def _cause(tx: Session, message_id: str, envelope: _Envelope | None) -> str:
    """The wish behind the message: its outbox row knows, or the media event that it carries."""
    cause = tx.scalar(select(OutboxRow.cause_id).where(OutboxRow.message_id == message_id))
    if cause:
        return cause
    former = tx.scalar(select(DeadLetterRow.cause_id).where(DeadLetterRow.id == message_id))
    if former or envelope is None or not envelope.args:
        return former or ""
    try:
        said = msgspec.json.decode(envelope.args[0])
    except msgspec.DecodeError:
        return envelope.args[0] if len(envelope.args[0]) <= 64 else ""
    cause = said.get("cause_id") if isinstance(said, dict) else None
    return cause if isinstance(cause, str) else ""


def _last_words(failure: MessageFailureRow | None, envelope: _Envelope | None) -> dict[str, object]:
    """How it failed, as far as is known: the worker's note, else what an earlier attempt left in the letter."""
    if failure is not None:
        return {"attempts": failure.attempts, "error": failure.error, "traceback": failure.traceback}
    options = envelope.options if envelope else {}
    retries, earlier = options.get("retries"), options.get("traceback")
    traceback = redacted(earlier)[-LONGEST_TRACEBACK:] if isinstance(earlier, str) else ""
    lines = [line for line in traceback.splitlines() if line.strip()]
    return {
        "attempts": retries if isinstance(retries, int) else 0,
        "error": _line(lines[-1]) if lines else "",
        "traceback": traceback,
    }


def _line(text: str) -> str:
    return " ".join(redacted(text).split())[:LONGEST_ERROR]


# --- what admins do with them ------------------------------------------------------------------------


def requeue(
    tx: Session, message_ids: Sequence[str], *, admin_id: str, reason: str, cause_id: str, now: datetime
) -> tuple[str, ...]:
    """Run letters again, all or none; their ids. One that is on its way already stays so.

    Raises NotFound, Conflict LETTER_UNREADABLE for what no actor can be called with.
    """
    done = []
    for row in _chosen(tx, message_ids):
        if row.status == "requeued":
            continue
        if row.arguments is None or not row.actor:
            raise Conflict("No worker can read this letter.", code="LETTER_UNREADABLE", messageId=row.id)
        outbox.again(tx, row.id, row.queue, row.actor, row.arguments, cause_id=row.cause_id, now=now)
        _decide(tx, row, "requeued", admin_id, reason, cause_id, now)
        done.append(row.id)
    return tuple(done)


def discard(
    tx: Session, message_ids: Sequence[str], *, admin_id: str, reason: str, cause_id: str, now: datetime
) -> tuple[str, ...]:
    """Throw letters away, all or none; the rows stay. Raises NotFound, Conflict for one that runs again."""
    done = []
    for row in _chosen(tx, message_ids):
        if row.status == "discarded":
            continue
        if row.status == "requeued":
            raise Conflict("This letter is being run again.", code="LETTER_REQUEUED", messageId=row.id)
        _decide(tx, row, "discarded", admin_id, reason, cause_id, now)
        done.append(row.id)
    return tuple(done)


def _chosen(tx: Session, message_ids: Sequence[str]) -> list[DeadLetterRow]:
    found = []
    for message_id in sorted(set(message_ids)):
        row = locked(tx, DeadLetterRow, message_id)
        if row is None:
            raise NotFound("There is no such letter.")
        found.append(row)
    return found


def _decide(
    tx: Session, row: DeadLetterRow, to: Status, admin_id: str, reason: str, cause_id: str, now: datetime
) -> None:
    before = row.status
    why = operations.checked_reason(reason)
    move(tx, DeadLetterRow, row.id, before, to, decided_by=admin_id, decided_at=now, decided_why=why)
    operations.record(
        tx, admin_id, f"letter_{to}", row.id, why, before={"status": before}, after={"status": to},
        cause_id=cause_id, now=now,
    )  # fmt: skip


# --- what admins see ---------------------------------------------------------------------------------


def letters(tx: Session, status: Status | None = "waiting", limit: int = 100) -> tuple[Letter, ...]:
    """Letters of one status (or of any), the last to die first."""
    query = select(DeadLetterRow, InboxRow.message_id).outerjoin(InboxRow, InboxRow.message_id == DeadLetterRow.id)
    if status is not None:
        query = query.where(DeadLetterRow.status == status)
    rows = tx.execute(
        query.order_by(DeadLetterRow.died_at.desc(), DeadLetterRow.id).limit(max(1, min(limit, MOST_LISTED)))
    )
    return tuple(_shown(row, noted is not None) for row, noted in rows)


def letter(tx: Session, message_id: str) -> OpenLetter:
    """One letter with payload and traceback. Raises NotFound."""
    row = tx.get(DeadLetterRow, message_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such letter.")
    noted = tx.get(InboxRow, message_id) is not None
    return OpenLetter(letter=_shown(row, noted), payload=redacted_json(row.body), traceback=row.traceback)


def counts(tx: Session) -> dict[str, int]:
    """How many letters there are of each status."""
    rows = tx.execute(select(DeadLetterRow.status, func.count()).group_by(DeadLetterRow.status))
    found = {status: int(count) for status, count in rows}
    return {status: found.get(status, 0) for status in DeadLetterRow.ALLOWED}


def _shown(row: DeadLetterRow, noted: bool) -> Letter:
    return Letter(
        message_id=row.id,
        status=msgspec.convert(row.status, Status),
        queue=row.queue,
        actor=row.actor,
        cause_id=row.cause_id,
        why=row.why,
        error=row.error,
        attempts=row.attempts,
        deaths=row.deaths,
        first_died_at=row.first_died_at,
        died_at=row.died_at,
        runnable=row.arguments is not None and bool(row.actor) and row.status != "requeued",
        done=noted and row.status == "requeued",
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        decided_why=row.decided_why,
    )
