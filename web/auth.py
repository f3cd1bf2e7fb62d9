"""Who is asking: a browser by its cookie, a program by its bearer token. Pages and API ask here alone.

A bearer header counts by itself: an invalid one is refused, never quietly replaced by the cookie, and only
a valid one frees a request from the CSRF check. Must not know passwords; ``web.sign_in`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect

from models.clock import utc_now
from models.errors import Forbidden, Unauthenticated
from models.services import accounts
from models.services.accounts import Caller, OpenedSignIn, Person
from web.context import greenroom

COOKIE = "greenroom"
# Longer than any token of ours; what is longer need not be looked up.
LONGEST_TOKEN = 256
UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Way = Literal["bearer", "cookie"]

csrf = CSRFProtect()
View = TypeVar("View", bound=Callable[..., Any])


def init_app(app: Flask) -> None:
    """Cookies and CSRF of ``app``. The check itself is ``check_csrf``, called by pages and API alike."""
    app.config.update(
        SESSION_COOKIE_NAME="greenroom_page",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=app.extensions["settings"].secure,
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
    )
    csrf.init_app(app)
    app.after_request(_set_cookie)


def bearer_token() -> str | None:
    """The token of the ``Authorization: Bearer`` header (RFC 6750); None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def current_caller() -> Caller | None:
    """Who asks; None for nobody. Raises Unauthenticated for a bearer token that is not valid."""
    if "caller" not in g:
        g.caller, g.way = _authenticate()
    found: Caller | None = g.caller
    return found


def current_person() -> Person | None:
    """The person who asks; None for nobody and for integrators."""
    caller = current_caller()
    return caller.person if caller else None


def authenticated_by() -> Way | None:
    """How the present caller proved who they are."""
    current_caller()
    way: Way | None = g.way
    return way


def check_csrf() -> None:
    """Raise Flask-WTF's CSRFError for an unsafe request that proves no knowledge of this browser's token."""
    if request.method in UNSAFE_METHODS and authenticated_by() != "bearer":
        csrf.protect()


def login_required(view: View) -> View:
    """A page for people who are signed in; others go to ``/login`` and come back."""
    return role_required()(view)


def role_required(*roles: str) -> Callable[[View], View]:
    """A page for people who have one of ``roles`` (any, if none is named)."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            person = current_person()
            if person is None:
                return _to_login()
            require_role(person, *roles)
            return view(*args, **kwargs)

        return guarded  # type: ignore[return-value]

    return decorate


def require_role(person: Person, *roles: str) -> None:
    """Raises Forbidden unless ``person`` has one of ``roles``; no roles means anybody."""
    if roles and not set(roles) & set(person.roles):
        raise Forbidden("This is for " + " and ".join(f"{role}s" for role in roles) + ".")


def safe_next(target: str | None, default: str = "/") -> str:
    """``target`` if it is a path on this site, else ``default``: a sign-in never sends anybody elsewhere."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return default
    if any(ord(letter) < 32 for letter in target) or "\\" in target:
        return default
    parts = urlsplit(target)
    return default if parts.scheme or parts.netloc else target


def begin_session(opened: OpenedSignIn) -> None:
    """Give this browser the sign-in; everything it held before is forgotten, the CSRF token too."""
    session.clear()
    g.pop("csrf_token", None)
    g.new_cookie = (opened.token, opened.expires_at)
    g.pop("caller", None)
    g.pop("way", None)


def end_session() -> None:
    """Take the sign-in away from this browser."""
    session.clear()
    g.pop("csrf_token", None)
    g.new_cookie = None
    g.caller, g.way = None, None


def cookie_token() -> str | None:
    """The sign-in token that the browser sent."""
    token = request.cookies.get(COOKIE)
    return token if token and len(token) <= LONGEST_TOKEN else None


def _authenticate() -> tuple[Caller | None, Way | None]:
    bearer = bearer_token()
    if bearer is not None:
        caller = _look_up(bearer) if 0 < len(bearer) <= LONGEST_TOKEN else None
        if caller is None:
            raise Unauthenticated("The bearer token is not valid.")
        return caller, "bearer"
    # Who signed in during this very request is who asks from then on.
    token = g.new_cookie[0] if g.get("new_cookie") else cookie_token()
    caller = _look_up(token) if token else None
    return (caller, "cookie") if caller else (None, None)


def _look_up(token: str) -> Caller | None:
    with greenroom().database.reading() as tx:
        return accounts.person_by_token(tx, token, now=utc_now())


def _to_login() -> Any:
    wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("pages.login", next=safe_next(wanted)))


def _set_cookie(response: Response) -> Response:
    if "new_cookie" not in g:
        return response
    if g.new_cookie is None:
        response.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=greenroom().settings.secure)
        return response
    token, expires_at = g.new_cookie
    assert isinstance(expires_at, datetime)
    response.set_cookie(
        COOKIE, token, expires=expires_at, httponly=True, samesite="Lax", secure=greenroom().settings.secure
    )
    return response
