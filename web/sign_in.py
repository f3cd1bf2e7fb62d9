"""Signing up, in and out: what the pages' forms and the API share.

Passwords are hashed outside every transaction, a few at a time (one takes 64 MiB), and an unknown e-mail
costs as much time as a wrong password.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

from models import log
from models.clock import utc_now
from models.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from models.services import accounts
from models.services.accounts import OpenedSignIn, Person
from web import limits
from web.auth import begin_session, cookie_token, current_person, end_session
from web.context import cause_id, greenroom

Kind = Literal["browser", "token"]
Role = Literal["fan", "creator"]

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
_AT_ONCE = 4
_WAIT_SECONDS = 10
_hashing = threading.BoundedSemaphore(_AT_ONCE)


def open_sign_in(email: str, password: str, kind: Kind) -> OpenedSignIn:
    """A new sign-in. Raises Unauthenticated (which of the two was wrong stays unsaid), Forbidden, RateLimited."""
    address = limits.client_address()
    account = email.strip().lower()[: accounts.LONGEST_EMAIL]
    limits.enforce(
        (limits.SIGN_IN_ADDRESS, address),
        (limits.SIGN_IN_ACCOUNT, account),
        (limits.SIGN_IN_ACCOUNT_LONG, account),
    )
    database = greenroom().database
    with database.reading() as tx:
        found = accounts.find_credentials(tx, account)
    user_id, stored = found if found else (None, _nobodys_hash())
    if not _verify(stored, password) or user_id is None:
        log.event("sign_in_refused", cause_id=cause_id())
        raise Unauthenticated("The e-mail or the password is wrong.")
    # Said only to who knows the password.
    with database.reading() as tx:
        if accounts.is_locked(tx, user_id):
            log.event("sign_in_locked", user_id=user_id, cause_id=cause_id())
            raise Forbidden("An admin has locked this account.", code="ACCOUNT_LOCKED")
    opened = database.run(lambda tx: accounts.open_sign_in(tx, user_id, kind=kind, now=utc_now()))
    log.event("signed_in", user_id=user_id, kind=kind, cause_id=cause_id())
    return opened


def sign_in_browser(email: str, password: str) -> OpenedSignIn:
    """Sign this browser in, in place of whoever it was before."""
    opened = open_sign_in(email, password, "browser")
    _drop_old_cookie()
    begin_session(opened)
    return opened


def sign_up(*, email: str, handle: str, display_name: str, password: str, role: Role) -> Person:
    """A new person, not yet signed in. Raises Invalid with ``field``, Conflict EMAIL_TAKEN or HANDLE_TAKEN."""
    limits.enforce((limits.SIGN_UP, limits.client_address()))
    hashed = new_hash(password, "password")
    person = greenroom().database.run(
        lambda tx: accounts.sign_up(
            tx,
            email=email,
            handle=handle,
            display_name=display_name,
            password_hash=hashed,
            role=role,
            now=utc_now(),
        )
    )
    log.event("signed_up", user_id=person.user_id, role=role, cause_id=cause_id())
    return person


def sign_up_browser(*, email: str, handle: str, display_name: str, password: str, role: Role) -> Person:
    """Sign up, and sign this browser in."""
    person = sign_up(email=email, handle=handle, display_name=display_name, password=password, role=role)
    opened = greenroom().database.run(
        lambda tx: accounts.open_sign_in(tx, person.user_id, kind="browser", now=utc_now())
    )
    _drop_old_cookie()
    begin_session(opened)
    return person


def sign_out_browser() -> None:
    """Sign this browser out; harmless when nobody was in. Its event feeds close."""
    person = current_person()
    _drop_old_cookie()
    end_session()
    if person is not None:
        greenroom().hub.recheck(person.user_id)


def sign_out_token(token: str) -> None:
    """End the sign-in that ``token`` opened."""
    greenroom().database.run(lambda tx: accounts.sign_out(tx, token, utc_now()))


def sign_out_everywhere(person: Person) -> None:
    """End every sign-in of a person, this one included; their event feeds close."""
    greenroom().database.run(lambda tx: accounts.sign_out_everywhere(tx, person.user_id, utc_now()))
    greenroom().hub.recheck(person.user_id)
    end_session()


def change_password(person: Person, email: str, current: str, new: str) -> None:
    """Replace the password and sign out everywhere. Raises Invalid with ``field`` when the old one is wrong."""
    limits.enforce((limits.PASSWORD, person.user_id))
    database = greenroom().database
    with database.reading() as tx:
        found = accounts.find_credentials(tx, email.strip().lower())
    if found is None or found[0] != person.user_id or not _verify(found[1], current):
        raise Invalid("This is not your e-mail and present password.", field="currentPassword")
    hashed = new_hash(new, "newPassword")
    database.run(lambda tx: accounts.change_password(tx, person.user_id, hashed, utc_now()))
    log.event("password_changed", user_id=person.user_id, cause_id=cause_id())
    greenroom().hub.recheck(person.user_id)
    end_session()


def new_hash(password: str, field: str) -> str:
    """The hash to store. Raises Invalid for a password that is too short or absurdly long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Invalid(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.", field=field)
    with _one_of_few():
        return accounts.hash_password(password)


def _verify(stored: str, password: str) -> bool:
    with _one_of_few():
        return accounts.verify_password(stored, password[: LONGEST_PASSWORD + 1])


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _hashing.acquire(timeout=_WAIT_SECONDS):
        raise Unavailable("Too many sign-ins at once.", retry_after_seconds=_WAIT_SECONDS)
    try:
        yield
    finally:
        _hashing.release()


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """A hash that no password fits, so that an unknown e-mail takes as long as a known one."""
    return accounts.hash_password("nobody has this password")


def _drop_old_cookie() -> None:
    if (token := cookie_token()) is not None:
        sign_out_token(token)
