"""What admins do to people: freeze spending, lock sign-in, give and take roles. Each act is recorded.

Repeating an act changes and records nothing. No admin takes the role from themselves, and the last one
who can sign in stays.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from models import ids
from models.battles import BattleSideRow
from models.bookings import BookingRow
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.outbox import Json
from models.people import PersonRow
from models.services import accounts, battle_clock, battle_views, operations, rooms, streams
from models.services.accounts import ROLES
from models.services.closing import close_request, open_requests
from models.services.locks import lock_people, locked
from models.sessions import SessionRow
from models.streams import StreamRow

MOST_FOUND = 50


class PersonCase(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One person as admins see them."""

    user_id: str
    handle: str
    display_name: str
    email: str
    roles: tuple[str, ...]
    is_mock: bool
    spending_frozen_at: datetime | None
    locked_at: datetime | None
    created_at: datetime


class By(msgspec.Struct, frozen=True, kw_only=True):
    """Who does it, why, and by which click."""

    admin_id: str
    reason: str
    cause_id: str
    now: datetime


def freeze(tx: Session, user_id: str, by: By) -> PersonCase:
    """Nothing may be spent any more; open requests are closed and their tokens come back. Raises NotFound.

    A freeze that a dispute made becomes the admin's: a won dispute does not lift it.
    """
    row = _locked(tx, user_id)
    before = row.spending_frozen_at
    row.spending_frozen_at = by.now
    tx.flush()
    for request in open_requests(tx, fan_id=user_id):
        close_request(tx, request, "cancelled", by.now, "payment_failed")
    battle_clock.spending_frozen(tx, user_id, by.now)
    _record(tx, by, "spending_frozen", user_id, {"frozen": before is not None}, {"frozen": True})
    return _case(row)


def unfreeze(tx: Session, user_id: str, by: By) -> PersonCase:
    """Tokens may be spent again, whatever froze them. Raises NotFound, Forbidden OWN_ACCOUNT."""
    if user_id == by.admin_id:
        raise Forbidden("Nobody thaws their own account.", code="OWN_ACCOUNT")
    row = _locked(tx, user_id)
    if row.spending_frozen_at is not None:
        row.spending_frozen_at = None
        tx.flush()
        _record(tx, by, "spending_unfrozen", user_id, {"frozen": True}, {"frozen": False})
    return _case(row)


def lock(tx: Session, user_id: str, by: By) -> PersonCase:
    """Nobody signs in as this person, every sign-in ends, and so does a public stream of theirs.

    A running call goes on to its end.

    Raises NotFound, Forbidden OWN_ACCOUNT, Conflict LAST_ADMIN.
    """
    if user_id == by.admin_id:
        raise Forbidden("Nobody locks themselves out.", code="OWN_ACCOUNT")
    admins = _locked_admins(tx)
    row = _locked(tx, user_id)
    if row.locked_at is None:
        _keep_an_admin(admins, user_id)
        row.locked_at = by.now
        tx.flush()
        accounts.sign_out_everywhere(tx, user_id, by.now)
        _off_the_air(tx, user_id, by)
        _record(tx, by, "sign_in_locked", user_id, {"locked": False}, {"locked": True})
    return _case(row)


def unlock(tx: Session, user_id: str, by: By) -> PersonCase:
    """The person may sign in again. Raises NotFound."""
    row = _locked(tx, user_id)
    if row.locked_at is not None:
        row.locked_at = None
        tx.flush()
        _record(tx, by, "sign_in_unlocked", user_id, {"locked": True}, {"locked": False})
    return _case(row)


def set_roles(tx: Session, user_id: str, roles: Collection[str], by: By) -> PersonCase:
    """Give exactly these roles.

    Raises NotFound, Invalid (``field`` roles) for none or unknown ones, Forbidden OWN_ACCOUNT for taking one's
    own admin role, Conflict LAST_ADMIN, Conflict PERSON_BUSY while a role that goes is in use.
    """
    wanted = set(roles)
    if not wanted or not wanted <= set(ROLES):
        raise Invalid(f"One or more of {', '.join(ROLES)}.", field="roles")
    admins = _locked_admins(tx)
    row = _locked(tx, user_id)
    before = set(accounts.person_of(row).roles)
    if wanted == before:
        return _case(row)
    lost = before - wanted
    if "admin" in lost:
        if user_id == by.admin_id:
            raise Forbidden("Nobody takes the admin role from themselves.", code="OWN_ACCOUNT")
        _keep_an_admin(admins, user_id)
    _require_idle(tx, user_id, lost)
    row.is_fan, row.is_creator, row.is_admin = ("fan" in wanted, "creator" in wanted, "admin" in wanted)
    tx.flush()
    _record(tx, by, "roles_changed", user_id, {"roles": sorted(before)}, {"roles": sorted(wanted)})
    return _case(row)


def case_of(tx: Session, user_id: str) -> PersonCase:
    """One person. Raises NotFound."""
    row = tx.get(PersonRow, user_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such person.")
    return _case(row)


def find(tx: Session, words: str, limit: int = MOST_FOUND) -> tuple[PersonCase, ...]:
    """People whose handle or name begins so, or whose e-mail or id is exactly that; all of them for nothing."""
    query = select(PersonRow)
    text = words.strip()
    if text:
        begins = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        query = query.where(
            or_(
                PersonRow.id == text,
                PersonRow.email == text.lower(),
                PersonRow.handle.like(begins.lower(), escape="\\"),
                PersonRow.display_name.ilike(begins, escape="\\"),
            )
        )
    rows = tx.scalars(query.order_by(PersonRow.created_at.desc(), PersonRow.id).limit(limit))
    return tuple(_case(row) for row in rows)


def _locked(tx: Session, user_id: str) -> PersonRow:
    lock_people(tx, user_id)
    row = tx.get(PersonRow, user_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such person.")
    return row


def _locked_admins(tx: Session) -> set[str]:
    """Who can act as an admin; nobody else changes that before this transaction ends."""
    active = select(PersonRow.id).where(PersonRow.is_admin, PersonRow.locked_at.is_(None)).order_by(PersonRow.id)
    return set(tx.scalars(active.with_for_update(key_share=True)))


def _keep_an_admin(admins: set[str], going: str) -> None:
    if going in admins and len(admins) == 1:
        raise Conflict("This is the last admin.", code="LAST_ADMIN")


def _off_the_air(tx: Session, user_id: str, by: By) -> None:
    """Its media would go on: a seat that is taken needs no sign-in any more."""
    live = select(StreamRow.id).where(StreamRow.creator_id == user_id, StreamRow.status == "live")
    for stream_id in tx.scalars(live).all():
        stream = locked(tx, StreamRow, stream_id)
        if stream is not None and stream.status == "live":
            streams.finish(tx, stream, "MODERATION", by.admin_id, by.now)
    battle_id = battle_views.current_of(tx, user_id)
    if battle_id is not None:
        room_id = ids.battle_room(battle_id)
        battle_clock.thrown_out(tx, battle_id, user_id, by.now)
        rooms.cut(tx, room_id, user_id, "MODERATION", cause_id=by.cause_id, now=by.now)


def _require_idle(tx: Session, user_id: str, lost: set[str]) -> None:
    in_use: list[Select[str]] = []
    if "creator" in lost:
        in_use += [
            select(StreamRow.id).where(StreamRow.creator_id == user_id, StreamRow.status != "ended"),
            select(SessionRow.id).where(SessionRow.creator_id == user_id, SessionRow.status != "ended"),
            select(BookingRow.id).where(BookingRow.creator_id == user_id, BookingRow.status == "booked"),
            select(BattleSideRow.battle_id).where(
                BattleSideRow.creator_id == user_id, BattleSideRow.status == "in"
            ),
        ]
    if "fan" in lost:
        in_use += [
            select(SessionRow.id).where(SessionRow.fan_id == user_id, SessionRow.status != "ended"),
            select(BookingRow.id).where(BookingRow.fan_id == user_id, BookingRow.status == "booked"),
        ]
    busy = any(tx.scalar(query.limit(1)) is not None for query in in_use)
    if busy or ("fan" in lost and open_requests(tx, fan_id=user_id)):
        raise Conflict("That role is in use: a stream, request, booking or call is open.", code="PERSON_BUSY")


def _record(
    tx: Session, by: By, act: str, user_id: str, before: dict[str, Json], after: dict[str, Json]
) -> None:
    operations.record(
        tx, by.admin_id, act, user_id, by.reason, before=before, after=after, cause_id=by.cause_id, now=by.now
    )


def _case(row: PersonRow) -> PersonCase:
    person = accounts.person_of(row)
    return PersonCase(
        user_id=row.id,
        handle=row.handle,
        display_name=row.display_name,
        email=row.email,
        roles=person.roles,
        is_mock=row.is_mock,
        spending_frozen_at=row.spending_frozen_at,
        locked_at=row.locked_at,
        created_at=row.created_at,
    )
