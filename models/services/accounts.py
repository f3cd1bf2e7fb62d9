"""People: signing up, sign-ins and tokens, passwords, blocks, subscriptions.

Tokens are 256 random bits, shown once and stored as SHA-256: enough for random values, and fast on every
request. Passwords are argon2id; hashing takes tens of milliseconds and belongs outside any transaction.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from models import ids
from models.db import insert_into
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.months import next_month
from models.people import ApiTokenRow, BlockRow, PersonRow, SignInRow
from models.subscriptions import SubscriptionRow

Kind = Literal["browser", "token"]
Role = Literal["fan", "creator"]

ROLES = ("fan", "creator", "admin")
SCOPES = ("rooms:write", "rtc:terminate")
LIFETIMES: dict[Kind, timedelta] = {"browser": timedelta(days=30), "token": timedelta(days=7)}
LONGEST_EMAIL = 254
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
_HANDLE = re.compile(r"[a-z0-9_]{3,30}")
_hasher = PasswordHasher()


class Person(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One person, as everybody may see them; ``roles`` are of fan, creator, admin."""

    user_id: str
    handle: str
    display_name: str
    roles: tuple[str, ...]
    avatar_url: str | None = None
    is_mock: bool = False


class OpenedSignIn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A fresh sign-in; the only time that its token is seen."""

    token: str
    expires_at: datetime
    user_id: str


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who a token speaks for: a person, or an integrator with scopes."""

    person: Person | None
    integrator_id: str | None
    scopes: frozenset[str]
    sign_in_id: str


# --- passwords --------------------------------------------------------------------------------------


def hash_password(password: str) -> str:
    """Argon2id (RFC 9106), with its parameters and salt inside. Slow on purpose: call it outside transactions."""
    return _hasher.hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Whether ``password`` is the one; an unreadable hash fits none. As slow as hashing."""
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


# --- people -----------------------------------------------------------------------------------------


def sign_up(
    tx: Session,
    *,
    email: str,
    handle: str,
    display_name: str,
    password_hash: str,
    role: Role,
    now: datetime,
) -> Person:
    """A new fan or creator. Raises Invalid (``field``), Conflict EMAIL_TAKEN or HANDLE_TAKEN."""
    return create_person(
        tx,
        email=email,
        handle=handle,
        display_name=display_name,
        password_hash=password_hash,
        roles=(role,),
        now=now,
    )


def create_person(
    tx: Session,
    *,
    email: str,
    handle: str,
    display_name: str,
    password_hash: str,
    roles: Collection[str],
    now: datetime,
    avatar_url: str | None = None,
    is_mock: bool = False,
) -> Person:
    """A new person with any roles, for operators and the demo. Raises as ``sign_up``."""
    if not roles or not set(roles) <= set(ROLES):
        raise Invalid("Roles are fan, creator and admin.", field="role")
    values = {
        "id": ids.new_id(ids.PERSON),
        "email": normalise_email(email),
        "handle": checked_handle(handle),
        "display_name": _checked_name(display_name),
        "avatar_url": avatar_url,
        "password_hash": password_hash,
        "is_fan": "fan" in roles,
        "is_creator": "creator" in roles,
        "is_admin": "admin" in roles,
        "is_mock": is_mock,
        "created_at": now,
    }
    new = insert_into(tx, PersonRow).values(values).on_conflict_do_nothing().returning(PersonRow.id)
    if tx.scalar(new) is None:
        if tx.scalar(select(PersonRow.id).where(PersonRow.email == values["email"])) is not None:
            raise Conflict("Somebody has this e-mail address.", code="EMAIL_TAKEN", field="email")
        raise Conflict("Somebody has this handle.", code="HANDLE_TAKEN", field="handle")
    return person_of(tx.get_one(PersonRow, values["id"]))


def normalise_email(email: str) -> str:
    """Trimmed and lower case. Raises Invalid (``field``) for what cannot be an address."""
    address = email.strip().lower()
    if len(address) > LONGEST_EMAIL or not _EMAIL.fullmatch(address) or not address.isprintable():
        raise Invalid("This is no e-mail address.", field="email")
    return address


def checked_handle(handle: str) -> str:
    """The handle, lower case. Raises Invalid (``field``) unless it is 3 to 30 of ``a-z0-9_``."""
    name = handle.strip().lower()
    if not _HANDLE.fullmatch(name):
        raise Invalid("A handle has 3 to 30 letters, digits or underscores.", field="handle")
    return name


def person_of(row: PersonRow) -> Person:
    """What others may know of a row."""
    has = {"fan": row.is_fan, "creator": row.is_creator, "admin": row.is_admin}
    return Person(
        user_id=row.id,
        handle=row.handle,
        display_name=row.display_name,
        roles=tuple(role for role in ROLES if has[role]),
        avatar_url=row.avatar_url,
        is_mock=row.is_mock,
    )


def find_person(tx: Session, user_id: str) -> Person | None:
    """The person with this id."""
    row = tx.get(PersonRow, user_id, populate_existing=True)
    return person_of(row) if row else None


def find_by_handle(tx: Session, handle: str) -> Person | None:
    """The person with this handle, in whatever case it was typed."""
    row = tx.scalar(select(PersonRow).where(PersonRow.handle == handle.strip().lower()))
    return person_of(row) if row else None


def find_credentials(tx: Session, email: str) -> tuple[str, str] | None:
    """The user id and the password hash to verify against, outside the transaction."""
    query = select(PersonRow.id, PersonRow.password_hash).where(PersonRow.email == email.strip().lower())
    found = tx.execute(query).one_or_none()
    return (found[0], found[1]) if found else None


def require_patron(tx: Session, person: Person, creator_id: str, only: str) -> None:
    """Who gives a creator tokens is a fan, and somebody else; ``only`` is said to whoever is no fan.

    Raises NotFound when that is no creator, Forbidden OWN_STREAM, NOT_A_FAN.
    """
    require_creator(tx, creator_id)
    if person.user_id == creator_id:
        raise Forbidden("This is yourself.", code="OWN_STREAM")
    if "fan" not in person.roles:
        raise Forbidden(only, code="NOT_A_FAN")


def require_creator(tx: Session, creator_id: str) -> None:
    """Raises NotFound when that is no creator."""
    creator = tx.get(PersonRow, creator_id, populate_existing=True)
    if creator is None or not creator.is_creator:
        raise NotFound("There is no such creator.")


def is_locked(tx: Session, user_id: str) -> bool:
    """Whether an admin has locked this person's sign-in."""
    return tx.scalar(select(PersonRow.locked_at).where(PersonRow.id == user_id)) is not None


def change_password(tx: Session, user_id: str, new_hash: str, now: datetime) -> None:
    """Replace the password and sign out everywhere. Raises NotFound."""
    row = tx.get(PersonRow, user_id)
    if row is None:
        raise NotFound("There is no such person.")
    row.password_hash = new_hash
    sign_out_everywhere(tx, user_id, now)


# --- sign-ins and tokens ----------------------------------------------------------------------------


def open_sign_in(tx: Session, user_id: str, *, kind: Kind, now: datetime) -> OpenedSignIn:
    """A sign-in of a browser (30 days) or a program (7 days)."""
    token, expires_at = secrets.token_urlsafe(32), now + LIFETIMES[kind]
    tx.add(
        SignInRow(
            id=ids.new_id("sgn"),
            user_id=user_id,
            kind=kind,
            token_hash=_digest(token),
            created_at=now,
            expires_at=expires_at,
        )
    )
    tx.flush()
    return OpenedSignIn(token=token, expires_at=expires_at, user_id=user_id)


def person_by_token(tx: Session, token: str, *, now: datetime) -> Caller | None:
    """Who this token speaks for, whatever kind it is; None for unknown, revoked and expired ones."""
    digest = _digest(token)
    signed_in = tx.execute(
        select(SignInRow.id, PersonRow)
        .join(PersonRow, PersonRow.id == SignInRow.user_id)
        .where(
            SignInRow.token_hash == digest,
            SignInRow.revoked_at.is_(None),
            SignInRow.expires_at > now,
            PersonRow.locked_at.is_(None),
        )
    ).one_or_none()
    if signed_in is not None:
        sign_in_id, row = signed_in
        return Caller(person=person_of(row), integrator_id=None, scopes=frozenset(), sign_in_id=sign_in_id)
    api_token = tx.scalar(
        select(ApiTokenRow).where(ApiTokenRow.token_hash == digest, ApiTokenRow.revoked_at.is_(None))
    )
    if api_token is None or (api_token.expires_at is not None and api_token.expires_at <= now):
        return None
    scopes = frozenset(api_token.scopes.split())
    return Caller(person=None, integrator_id=api_token.id, scopes=scopes, sign_in_id=api_token.id)


def sign_out(tx: Session, token: str, now: datetime) -> None:
    """End the sign-in that has this token; an unknown one is no error."""
    _revoke(tx, SignInRow.token_hash == _digest(token), now)


def sign_out_everywhere(tx: Session, user_id: str, now: datetime) -> None:
    """End all sign-ins of a person, browsers' and programs'."""
    _revoke(tx, SignInRow.user_id == user_id, now)


def create_integrator_token(
    tx: Session, name: str, scopes: Collection[str], now: datetime, *, expires_at: datetime | None = None
) -> tuple[str, str]:
    """An integrator's token: its id, and the token that is shown this once. Raises Invalid (``field``)."""
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Invalid(f"Scopes are of {', '.join(SCOPES)}.", field="scopes")
    token_id, token = ids.new_id("int"), secrets.token_urlsafe(32)
    tx.add(
        ApiTokenRow(
            id=token_id,
            name=_checked_name(name),
            scopes=" ".join(sorted(set(scopes))),
            token_hash=_digest(token),
            created_at=now,
            expires_at=expires_at,
        )
    )
    tx.flush()
    return token_id, token


def revoke_token(tx: Session, token_id: str, now: datetime) -> None:
    """An integrator's token stops working; again is no harm. Raises NotFound."""
    row = tx.get(ApiTokenRow, token_id)
    if row is None:
        raise NotFound("There is no such token.")
    row.revoked_at = row.revoked_at or now


# --- blocks and subscriptions -----------------------------------------------------------------------


def block(tx: Session, creator_id: str, fan_id: str, now: datetime) -> None:
    """The creator takes no more requests from this fan; again is no harm. Raises Invalid for oneself."""
    if creator_id == fan_id:
        raise Invalid("Nobody can block themselves.", field="handle")
    row = insert_into(tx, BlockRow).values(creator_id=creator_id, fan_id=fan_id, created_at=now)
    tx.execute(row.on_conflict_do_nothing())


def unblock(tx: Session, creator_id: str, fan_id: str) -> None:
    """The creator takes requests again; harmless when there was no block."""
    tx.execute(delete(BlockRow).where(BlockRow.creator_id == creator_id, BlockRow.fan_id == fan_id))


def is_blocked(tx: Session, creator_id: str, fan_id: str) -> bool:
    """Whether the creator has blocked the fan."""
    return tx.get(BlockRow, (creator_id, fan_id), populate_existing=True) is not None


def blocked(tx: Session, creator_id: str) -> list[Person]:
    """Whom the creator has blocked, the latest first."""
    query = select(PersonRow).join(BlockRow, BlockRow.fan_id == PersonRow.id)
    rows = tx.scalars(query.where(BlockRow.creator_id == creator_id).order_by(BlockRow.created_at.desc()))
    return [person_of(row) for row in rows]


def set_subscription(tx: Session, fan_id: str, creator_id: str, active: bool, now: datetime) -> None:
    """Give the fan a subscription to the creator that costs nothing, or end what there is: for demos and tests."""
    theirs = (SubscriptionRow.fan_id == fan_id, SubscriptionRow.creator_id == creator_id)
    if not active:
        ended = {"status": "ended", "ended_at": now, "end_reason": "cancelled"}
        tx.execute(update(SubscriptionRow).where(*theirs, SubscriptionRow.status == "active").values(ended))
        return
    if tx.scalar(select(SubscriptionRow.id).where(*theirs, SubscriptionRow.status == "active")) is not None:
        return
    end = next_month(now, now)
    tx.add(
        SubscriptionRow(
            id=ids.new_id(ids.SUBSCRIPTION),
            fan_id=fan_id,
            creator_id=creator_id,
            status="active",
            price_tokens=0,
            included_minutes=0,
            commission_percent=0,
            paid_by="tokens",
            anchor_at=now,
            period=1,
            period_start=now,
            period_end=end,
            next_try_at=end,
            cause_id="gift",
            created_at=now,
        )
    )
    tx.flush()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _checked_name(name: str) -> str:
    trimmed = name.strip()
    if not 1 <= len(trimmed) <= 60 or not trimmed.isprintable():
        raise Invalid("A name has 1 to 60 characters.", field="displayName")
    return trimmed


def _revoke(tx: Session, which: ColumnElement[bool], now: datetime) -> None:
    tx.execute(update(SignInRow).where(which, SignInRow.revoked_at.is_(None)).values(revoked_at=now))
