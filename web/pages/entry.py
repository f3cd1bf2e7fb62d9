"""/login, /signup and signing out. The forms post here; ``web.sign_in`` decides."""

from __future__ import annotations

from typing import Any

from flask import redirect, render_template, request

from models.errors import Conflict, DomainError, Invalid
from web.auth import current_person, safe_next
from web.pages import blueprint
from web.sign_in import sign_in_browser, sign_out_browser, sign_up_browser

AFTER_SIGN_IN = "/models"
_FIELDS = {"displayName": "display_name"}
_TAKEN = {
    "EMAIL_TAKEN": ("email", "This e-mail has an account already. Sign in with it."),
    "HANDLE_TAKEN": ("handle", "This handle is taken. Choose another."),
}


@blueprint.get("/login")
def login() -> Any:
    """The form; who is signed in already goes on."""
    if current_person():
        return redirect(_next())
    return render_template("login.html", next=_wanted(), email="", message="")


@blueprint.post("/login")
def log_in() -> Any:
    """Sign this browser in."""
    email = request.form.get("email", "")
    try:
        sign_in_browser(email, request.form.get("password", ""))
    except DomainError as error:
        return render_template("login.html", next=_wanted(), email=email, message=_refusal(error)), _status(error)
    return redirect(_next(), 303)


@blueprint.get("/signup")
def signup() -> Any:
    """The form; ``?role=creator`` chooses the second kind."""
    if current_person():
        return redirect(_next())
    return _signup_form({"role": request.args.get("role", "fan")}, {}, "")


@blueprint.post("/signup")
def sign_up() -> Any:
    """Make the account and sign this browser in."""
    form = {name: request.form.get(name, "") for name in ("email", "handle", "display_name", "role")}
    try:
        sign_up_browser(
            email=form["email"],
            handle=form["handle"],
            display_name=form["display_name"],
            password=request.form.get("password", ""),
            role="creator" if form["role"] == "creator" else "fan",
        )
    except DomainError as error:
        errors, message = field_errors(error)
        return _signup_form(form, errors, message), _status(error)
    return redirect("/studio" if form["role"] == "creator" else _next(), 303)


@blueprint.post("/logout")
def log_out() -> Any:
    """Sign this browser out."""
    sign_out_browser()
    return redirect("/", 303)


def field_errors(error: DomainError) -> tuple[dict[str, str], str]:
    """What a form shows for a refusal: words beside a field, or above the form."""
    if isinstance(error, Conflict) and error.code in _TAKEN:
        taken, words = _TAKEN[error.code]
        return {taken: words}, ""
    field = error.fields.get("field")
    if isinstance(error, Invalid) and isinstance(field, str):
        return {_FIELDS.get(field, field): error.detail}, ""
    return {}, error.detail


def _signup_form(form: dict[str, str], errors: dict[str, str], message: str) -> str:
    return render_template("signup.html", next=_wanted(), form=form, errors=errors, message=message)


def _wanted() -> str:
    return safe_next(request.values.get("next"), "")


def _next() -> str:
    return _wanted() or AFTER_SIGN_IN


def _refusal(error: DomainError) -> str:
    seconds = error.fields.get("retry_after_seconds")
    return f"Too many attempts. Try again in {seconds} s." if seconds else error.detail


def _status(error: DomainError) -> int:
    return 429 if error.code == "RATE_LIMITED" else 422
