"""/account: the password, every sign-in at once, and whom a creator has blocked."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request

from models.clock import utc_now
from models.errors import DomainError
from models.services import accounts, blocks
from models.services.accounts import Person
from web import sign_in
from web.auth import current_person, login_required, role_required
from web.pages import blueprint, patrons
from web.pages.deps import database
from web.pages.entry import field_errors


@blueprint.get("/account")
@login_required
def account() -> Any:
    """The page."""
    return _page()


@blueprint.post("/account/password")
@login_required
def change_password() -> Any:
    """A new password; every sign-in ends, and this browser signs in again."""
    email, new = request.form.get("email", ""), request.form.get("password", "")
    try:
        sign_in.change_password(_person(), email, request.form.get("current", ""), new)
    except DomainError as error:
        errors, message = field_errors(error)
        shown = {"newPassword": "password", "currentPassword": "current"}
        beside = {shown.get(field, field): words for field, words in errors.items()}
        return _page(beside, message, email=email), 422
    sign_in.sign_in_browser(email, new)
    flash("Your password is changed. Every other device is signed out.")
    return redirect("/account", 303)


@blueprint.post("/account/sign-out-everywhere")
@login_required
def sign_out_everywhere() -> Any:
    """End every sign-in, this one too."""
    sign_in.sign_out_everywhere(_person())
    flash("You are signed out everywhere.")
    return redirect("/login", 303)


@blueprint.post("/account/block")
@role_required("creator")
def block() -> Any:
    """Block a fan by handle."""
    creator, handle = _person(), request.form.get("handle", "").strip().lower()
    with database().reading() as tx:
        fan = accounts.find_by_handle(tx, handle)
    if fan is None or fan.user_id == creator.user_id:
        words = "Nobody has this handle." if fan is None else "This is your own handle."
        return _page({"handle": words}, block_handle=handle), 422
    database().run(lambda tx: blocks.block(tx, creator.user_id, fan.user_id, utc_now()))
    flash(f"{fan.handle} is blocked.")
    return redirect("/account#block-h", 303)


@blueprint.post("/account/unblock")
@role_required("creator")
def unblock() -> Any:
    """Take a block back."""
    creator, fan_id = _person(), request.form.get("fan_id", "")
    database().run(lambda tx: accounts.unblock(tx, creator.user_id, fan_id))
    flash("The block is taken back.")
    return redirect("/account#block-h", 303)


def _person() -> Person:
    person = current_person()
    assert person is not None  # login_required has seen to it
    return person


def _page(
    errors: dict[str, str] | None = None, message: str = "", *, email: str = "", block_handle: str = ""
) -> str:
    person = _person()
    is_creator = "creator" in person.roles
    blocked: tuple[Person, ...] = ()
    if is_creator:
        with database().reading() as tx:
            blocked = tuple(accounts.blocked(tx, person.user_id))
    return render_template(
        "account.html",
        person=person,
        is_creator=is_creator,
        blocked=blocked,
        errors=errors or {},
        message=message,
        email=email,
        block_handle=block_handle,
        **patrons.account_context(person),
    )
