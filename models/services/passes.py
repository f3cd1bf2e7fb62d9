"""Passes: a day of a creator's best picture, bought with tokens by who has no subscription.

Paid at once and for good, while there is a picture to watch: the creator's own, or that of a battle they are in.
It lasts a day whether or not the creator stays on the air, which is said before it is paid. A payment that is
taken back takes the pass with it; a creator who blocks the fan gives the rest back (``pass_refunds``).

Locks: the fan, the broadcast, then accounts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.battles import BattleRow, BattleSideRow
from models.broadcasts import BroadcastRow
from models.clock import rfc3339
from models.config import Settings
from models.errors import Conflict, Forbidden
from models.services import accounts, broadcasts, included_minutes, rooms
from models.services.accounts import Person
from models.services.announcements import balance_changed, tell
from models.services.locks import lock_people
from models.streams import CreatorSettingsRow, RoomRow
from models.subscriptions import PassRow

LASTS = timedelta(hours=24)


class PassView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pass as its fan sees it."""

    pass_id: str
    creator_id: str
    price_tokens: int
    starts_at: datetime
    ends_at: datetime


def price_of(tx: Session, creator_id: str) -> int | None:
    """Tokens for a day; None: the creator sells no passes."""
    row = tx.get(CreatorSettingsRow, creator_id, populate_existing=True)
    return None if row is None or accounts.is_locked(tx, creator_id) else row.pass_price


def is_valid(tx: Session, fan_id: str, creator_id: str, now: datetime) -> bool:
    """Whether the fan has a pass for this creator now."""
    return tx.scalar(_valid(fan_id, creator_id, now)) is not None


def between(tx: Session, fan_id: str, creator_id: str, now: datetime) -> PassView | None:
    """The fan's pass for this creator that is valid now."""
    row = tx.scalar(_valid(fan_id, creator_id, now))
    return None if row is None else _view(row)


def buy(
    tx: Session,
    *,
    fan: Person,
    creator_id: str,
    max_price: int,
    key: str,
    now: datetime,
    settings: Settings,
    cause_id: str,
) -> PassView:
    """Pay the creator's price of now, once; the same ``key`` again is the same pass.

    Raises NotFound, Forbidden (OWN_STREAM, NOT_A_FAN, BLOCKED, SPENDING_FROZEN, SPENDING_CAP), Conflict
    (PASS_NOT_OFFERED, STREAM_NOT_LIVE, ALREADY_SUBSCRIBED, PASS_ACTIVE, PRICE_CHANGED when it costs more than
    ``max_price``, IDEMPOTENCY_KEY_REUSED), PaymentRequired, Unavailable while no worker makes the picture.
    """
    accounts.require_patron(tx, fan, creator_id, "Only fans buy passes.")
    lock_people(tx, fan.user_id)
    # Not before: who blocks takes this lock, too, and gives back what was sold until then.
    if accounts.is_blocked(tx, creator_id, fan.user_id):
        raise Forbidden("This creator has blocked you.", code="BLOCKED")
    before = tx.scalar(select(PassRow).where(PassRow.fan_id == fan.user_id, PassRow.key == key))
    if before is not None:
        if before.creator_id != creator_id:
            raise Conflict("This key was used for another pass.", code="IDEMPOTENCY_KEY_REUSED")
        return _view(before)
    price = _offered_price(tx, fan.user_id, creator_id, max_price, now)
    row = PassRow(
        id=ids.new_id(ids.DAY),
        fan_id=fan.user_id,
        creator_id=creator_id,
        key=key,
        price_tokens=price,
        starts_at=now,
        ends_at=now + LASTS,
    )
    tx.add(row)
    tx.flush()
    ledger.pay(
        tx,
        fan.user_id,
        creator_id=creator_id,
        amount=price,
        commission_percent=settings.commission_percent,
        kind="pass",
        key=f"pass:{row.id}",
        reference=row.id,
        cause_id=cause_id,
        now=now,
    )
    balance_changed(tx, fan.user_id, now)
    balance_changed(tx, creator_id, now)
    changed(tx, row, now)
    log.event("pass_bought", pass_id=row.id, cause_id=cause_id)
    return _view(row)


def payment_taken_back(tx: Session, reference: str, now: datetime) -> None:
    """The payment ``reference`` was found bad: its pass gives nothing from now on. Harmless for any other one."""
    row = tx.get(PassRow, reference, populate_existing=True)
    if row is not None and row.taken_back_at is None:
        row.taken_back_at = now
        tx.flush()
        changed(tx, row, now)


def payment_good_again(tx: Session, reference: str, now: datetime, *, wholly: bool = True) -> None:
    """The payment is good after all: what is left of the day is the fan's again. Harmless for any other one.

    Not ``wholly``: a part of what was paid is, the rest is still bad, and the pass gives nothing yet.
    """
    row = tx.get(PassRow, reference, populate_existing=True)
    if row is not None and row.taken_back_at is not None:
        if wholly:
            row.taken_back_at = None
        if row.revoked_at is not None:
            # Nothing is given back of what is the bank's; given back before, it is not again.
            row.refund_due_at = now
        tx.flush()
        changed(tx, row, now)


def _offered_price(tx: Session, fan_id: str, creator_id: str, max_price: int, now: datetime) -> int:
    """What it costs, if it can be sold: nobody pays for a picture that is not there or that is theirs already."""
    price = price_of(tx, creator_id)
    if price is None:
        raise Conflict("This creator offers no pass now.", code="PASS_NOT_OFFERED")
    if included_minutes.is_active(tx, fan_id, creator_id, now):
        raise Conflict("Your subscription includes the best picture.", code="ALREADY_SUBSCRIBED")
    if (valid := tx.scalar(_valid(fan_id, creator_id, now))) is not None:
        raise Conflict("You have a pass.", code="PASS_ACTIVE", ends_at=rfc3339(valid.ends_at))
    shown_in = _shown_in(tx, creator_id)
    if shown_in and price > max_price:
        raise Conflict("The pass has become dearer.", code="PRICE_CHANGED", total_cost=price)
    broadcasts.require_picture(tx, shown_in, now)
    return price


def _shown_in(tx: Session, creator_id: str) -> list[str]:
    """The rooms whose pictures are broadcast with this creator in them: their own stream's, or a battle's."""
    fights = (
        select(BattleRow.room_id)
        .join(BattleSideRow, BattleSideRow.battle_id == BattleRow.id)
        .where(BattleSideRow.creator_id == creator_id, BattleRow.status == "running")
    )
    shown = select(RoomRow).join(BroadcastRow, BroadcastRow.room_id == RoomRow.id)
    theirs = or_(RoomRow.creator_id == creator_id, RoomRow.id.in_(fights))
    found = tx.scalars(shown.where(BroadcastRow.status == "live", theirs))
    return [room.id for room in found if creator_id in rooms.creators_of(tx, room)]


def _valid(fan_id: str, creator_id: str, now: datetime) -> Select[PassRow]:
    mine = select(PassRow).where(PassRow.fan_id == fan_id, PassRow.creator_id == creator_id)
    good = PassRow.taken_back_at.is_(None) & PassRow.revoked_at.is_(None)
    valid = mine.where(PassRow.starts_at <= now, PassRow.ends_at > now, good)
    return valid.order_by(PassRow.ends_at.desc()).limit(1)


def changed(tx: Session, row: PassRow, now: datetime) -> None:
    """Its fan looks again at what may be watched."""
    tell(tx, row.fan_id, "PASS_CHANGED", now, passId=row.id, creatorId=row.creator_id, endsAt=rfc3339(row.ends_at))


def _view(row: PassRow) -> PassView:
    return PassView(
        pass_id=row.id,
        creator_id=row.creator_id,
        price_tokens=row.price_tokens,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
