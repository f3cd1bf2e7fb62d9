"""Tips: tokens from a fan to a creator who is there now, in public or in the private stream of the two once it
has begun.

Paid at once and for good, in the transaction that announces them. A public tip is told to everybody with
its fan's handle; one given in a private stream to its two sides alone.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.clock import rfc3339
from models.config import Settings
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.people import BlockRow, PersonRow
from models.services import accounts
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people
from models.sessions import RUNNING, SessionRow
from models.streams import StreamRow
from models.subscriptions import TipRow

LOWEST, HIGHEST = 5, 100_000
LONGEST_MESSAGE = 200
MOST_SHOWN = 20
# Joins the parts of one emoji; every other invisible character could make a message look like something else.
_JOINER = "\u200d"


class TipGiven(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tip as its fan sees it; amounts in tokens."""

    tip_id: str
    amount: int
    message: str
    balance: int
    at: str
    private: bool
    """Whether only the two sides of a private stream were told."""


class TipView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tip as those see it who were told."""

    tip_id: str
    handle: str
    display_name: str
    amount: int
    message: str
    at: str


class TipList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The latest tips, newest first, and how many tokens all of them are."""

    tips: tuple[TipView, ...]
    total: int


def tip(
    tx: Session,
    *,
    fan: Person,
    creator_id: str,
    amount: int,
    message: str = "",
    session_id: str | None = None,
    key: str,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> TipGiven:
    """Give ``amount`` tokens. With ``session_id`` in that private stream; the same ``key`` again is the same tip.

    Raises Invalid (``field``), NotFound, Forbidden (OWN_STREAM, NOT_A_FAN, BLOCKED, SPENDING_FROZEN,
    SPENDING_CAP), Conflict (STREAM_NOT_LIVE, SESSION_NOT_LIVE, IDEMPOTENCY_KEY_REUSED), PaymentRequired.
    """
    if not LOWEST <= amount <= HIGHEST:
        raise Invalid(f"Choose {LOWEST} to {HIGHEST:,} tokens.", field="amount")
    text = checked_message(message)
    _may_tip(tx, fan, creator_id)
    lock_people(tx, fan.user_id)
    before = tx.scalar(select(TipRow).where(TipRow.fan_id == fan.user_id, TipRow.key == key))
    if before is not None:
        if (before.creator_id, before.amount) != (creator_id, amount):
            raise Conflict("This key was used for another tip.", code="IDEMPOTENCY_KEY_REUSED")
        return _given(tx, before)
    stream_id, room_id, in_session = _where(tx, fan.user_id, creator_id, session_id)
    row = TipRow(
        id=ids.new_id(ids.TIP),
        fan_id=fan.user_id,
        creator_id=creator_id,
        stream_id=stream_id,
        session_id=in_session,
        key=key,
        amount=amount,
        message=text,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    ledger.pay(
        tx,
        fan.user_id,
        creator_id=creator_id,
        amount=amount,
        commission_percent=settings.commission_percent,
        kind="tip",
        key=f"tip:{row.id}",
        reference=row.id,
        cause_id=cause_id,
        now=now,
    )
    _announce(tx, row, fan, room_id, now)
    log.event("tipped", tip_id=row.id, stream_id=stream_id, session_id=in_session, cause_id=cause_id)
    return _given(tx, row)


def checked_message(message: str) -> str:
    """In one line, trimmed. Raises Invalid (``field``) over 200 characters, and for unprintable ones."""
    text = " ".join(message.split())
    if len(text) > LONGEST_MESSAGE or not text.replace(_JOINER, "").isprintable():
        raise Invalid(f"Choose at most {LONGEST_MESSAGE} printable characters.", field="message")
    return text


def of_stream(tx: Session, stream_id: str) -> TipList:
    """The public tips of a stream; empty for one that there is not."""
    return _listed(tx, TipRow.stream_id == stream_id, TipRow.session_id.is_(None))


def of_session(tx: Session, session_id: str, person_id: str) -> TipList:
    """The tips of a private stream, for its two sides. Raises NotFound for anybody else."""
    sides = tx.execute(
        select(SessionRow.fan_id, SessionRow.creator_id).where(SessionRow.id == session_id)
    ).one_or_none()
    if sides is None or person_id not in tuple(sides):
        raise NotFound("There is no such session.")
    return _listed(tx, TipRow.session_id == session_id)


def _may_tip(tx: Session, fan: Person, creator_id: str) -> None:
    accounts.require_patron(tx, fan, creator_id, "Only fans tip.")
    if tx.get(BlockRow, (creator_id, fan.user_id), populate_existing=True) is not None:
        raise Forbidden("This creator has blocked you.", code="BLOCKED")


def _where(tx: Session, fan_id: str, creator_id: str, session_id: str | None) -> tuple[str, str, str | None]:
    """The stream, the room and the session that a tip is given in.

    A fan in a private stream with the creator tips there, whether or not the client said so: nobody else
    is to learn of it.
    """
    session = tx.scalar(
        select(SessionRow)
        .where(SessionRow.fan_id == fan_id, SessionRow.creator_id == creator_id, SessionRow.status.in_(RUNNING))
        .execution_options(populate_existing=True)
    )
    if session_id is not None and (session is None or session.id != session_id):
        theirs = tx.get(SessionRow, session_id)
        if theirs is None or (theirs.fan_id, theirs.creator_id) != (fan_id, creator_id):
            raise NotFound("There is no such session.")
        raise Conflict("The private stream has ended.", code="SESSION_NOT_LIVE")
    if session is not None:
        if session.status == "connecting":
            # Nobody may come; what was asked for comes back then, and a tip would not.
            raise Conflict("The private stream has not begun.", code="SESSION_NOT_LIVE", connecting=True)
        return session.stream_id, session.room_id, session.id
    stream = tx.scalar(select(StreamRow).where(StreamRow.creator_id == creator_id, StreamRow.status == "live"))
    if stream is None:
        raise Conflict("The creator is not live.", code="STREAM_NOT_LIVE")
    return stream.id, stream.room_id, None


def _announce(tx: Session, row: TipRow, fan: Person, room_id: str, now: datetime) -> None:
    told = (None,) if row.session_id is None else (row.fan_id, row.creator_id)
    for user_id in told:
        tell(
            tx,
            user_id,
            "TIP",
            now,
            tipId=row.id,
            creatorId=row.creator_id,
            streamId=row.stream_id,
            roomId=room_id,
            sessionId=row.session_id,
            handle=fan.handle,
            displayName=fan.display_name,
            amount=row.amount,
            message=row.message or None,
        )
    balance_changed(tx, row.fan_id, now)
    balance_changed(tx, row.creator_id, now)


def _given(tx: Session, row: TipRow) -> TipGiven:
    return TipGiven(
        tip_id=row.id,
        amount=row.amount,
        message=row.message,
        balance=ledger.balance(tx, ledger.account_id("wallet", row.fan_id)),
        at=rfc3339(row.created_at),
        private=row.session_id is not None,
    )


def _listed(tx: Session, *which: ColumnElement[bool]) -> TipList:
    found = tx.execute(
        select(TipRow, PersonRow.handle, PersonRow.display_name)
        .join(PersonRow, PersonRow.id == TipRow.fan_id)
        .where(*which)
        .order_by(TipRow.created_at.desc(), TipRow.id)
        .limit(MOST_SHOWN)
    )
    views = tuple(
        TipView(
            tip_id=row.id,
            handle=handle,
            display_name=display_name,
            amount=row.amount,
            message=row.message,
            at=rfc3339(row.created_at),
        )
        for row, handle, display_name in found
    )
    total = tx.scalar(select(func.coalesce(func.sum(TipRow.amount), 0)).where(*which))
    return TipList(tips=views, total=int(total or 0))
