"""Who one is: sign-up, sign-in, tokens, passwords, over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from models.errors import Unauthenticated
from models.services import accounts
from models.services.accounts import Person
from web import sign_in
from web.api.schema import ANYONE, SIGNED_IN, Api, Call, Nothing
from web.auth import authenticated_by, bearer_token, current_person

api = Api("auth")

Email = Annotated[str, msgspec.Meta(min_length=3, max_length=accounts.LONGEST_EMAIL)]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=sign_in.LONGEST_PASSWORD)]
NewPassword = Annotated[
    str, msgspec.Meta(min_length=sign_in.SHORTEST_PASSWORD, max_length=sign_in.LONGEST_PASSWORD)
]


class Credentials(msgspec.Struct, frozen=True, rename="camel"):
    """E-mail and password."""

    email: Email
    password: Password


class SignUp(msgspec.Struct, frozen=True, rename="camel"):
    """A new person."""

    email: Email
    password: NewPassword
    handle: Annotated[str, msgspec.Meta(min_length=3, max_length=30)]
    display_name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    role: Literal["fan", "creator"] = "fan"


class PasswordChange(msgspec.Struct, frozen=True, rename="camel"):
    """The e-mail and the present password prove who asks."""

    email: Email
    current_password: Password
    new_password: NewPassword


class Token(msgspec.Struct, frozen=True, rename="camel"):
    """A bearer token; shown this once."""

    token: str
    expires_at: datetime
    user_id: str


class Me(msgspec.Struct, frozen=True, rename="camel"):
    """Who is signed in."""

    user_id: str
    handle: str
    display_name: str
    roles: tuple[str, ...]


def _me(person: Person) -> Me:
    return Me(person.user_id, person.handle, person.display_name, person.roles)


@api.own("POST", "/api/auth/token", access=ANYONE, body=Credentials, answer=Token, csrf=False,
         errors=("UNAUTHENTICATED", "RATE_LIMITED", "UNAVAILABLE"))  # fmt: skip
def issue_token(call: Call[Credentials]) -> Token:
    """Exchange e-mail and password for a bearer token. Looks at no cookie and sets none."""
    opened = sign_in.open_sign_in(call.body.email, call.body.password, "token")
    return Token(opened.token, opened.expires_at, opened.user_id)


@api.own("POST", "/api/auth/sign-in", access=ANYONE, body=Credentials, answer=Me,
         errors=("UNAUTHENTICATED", "RATE_LIMITED", "UNAVAILABLE"))  # fmt: skip
def sign_in_here(call: Call[Credentials]) -> Me:
    """Sign this browser in: sets the session cookie; a new CSRF token comes with the next page."""
    sign_in.sign_in_browser(call.body.email, call.body.password)
    person = current_person()
    if person is None:
        raise Unauthenticated("This sign-in is over already.")
    return _me(person)


@api.own("POST", "/api/auth/signup", access=ANYONE, body=SignUp, answer=Me, status=201,
         errors=("EMAIL_TAKEN", "HANDLE_TAKEN", "RATE_LIMITED", "UNAVAILABLE"))  # fmt: skip
def sign_up(call: Call[SignUp]) -> Me:
    """Sign up, and sign this browser in."""
    body = call.body
    person = sign_in.sign_up_browser(
        email=body.email,
        handle=body.handle,
        display_name=body.display_name,
        password=body.password,
        role=body.role,
    )
    return _me(person)


@api.own("POST", "/api/auth/sign-out", access=SIGNED_IN, answer=Nothing)
def sign_out(call: Call[Nothing]) -> Nothing:
    """End this sign-in: the browser's, or the bearer token's."""
    token = bearer_token()
    if authenticated_by() == "bearer" and token is not None:
        sign_in.sign_out_token(token)
    else:
        sign_in.sign_out_browser()
    call.house.hub.recheck(call.person.user_id)
    return Nothing()


@api.own("POST", "/api/auth/sign-out-everywhere", access=SIGNED_IN, answer=Nothing)
def sign_out_everywhere(call: Call[Nothing]) -> Nothing:
    """End every sign-in of the caller, browsers and tokens, this one included."""
    sign_in.sign_out_everywhere(call.person)
    return Nothing()


@api.own("POST", "/api/auth/password", access=SIGNED_IN, body=PasswordChange, answer=Nothing,
         errors=("RATE_LIMITED", "UNAVAILABLE"))  # fmt: skip
def change_password(call: Call[PasswordChange]) -> Nothing:
    """Change the password; every sign-in ends, this one included."""
    body = call.body
    sign_in.change_password(call.person, body.email, body.current_password, body.new_password)
    return Nothing()


@api.own("GET", "/api/auth/me", access=SIGNED_IN, answer=Me)
def me(call: Call[Nothing]) -> Me:
    """Who is signed in."""
    return _me(call.person)
