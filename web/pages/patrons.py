"""What the pages show of a fan's subscriptions and daily limit, and the plain forms that change them.

Knows no rule: what is allowed and what it costs is the services' part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import flash, redirect, request
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.errors import DomainError
from models.services import passes, spending, subscriptions
from models.services.accounts import Person
from web.auth import current_person, role_required
from web.pages import blueprint
from web.pages.deps import database

LATELY_ENDED = 5


def creator_context(tx: Session, viewer: Person | None, creator_id: str) -> dict[str, Any]:
    """What ``subscribe_card.html`` and ``pass_card.html`` need: what is offered now, and what the viewer has."""
    mine = subscriptions.between(tx, viewer.user_id, creator_id, utc_now()) if viewer else None
    return {
        "subscription_offer": subscriptions.offer_of(tx, creator_id),
        "subscription": mine,
        "pass_price": passes.price_of(tx, creator_id),
        "own_pass": passes.between(tx, viewer.user_id, creator_id, utc_now()) if viewer else None,
    }


def account_context(person: Person) -> dict[str, Any]:
    """What ``patron_account.html`` needs; nothing for who is no fan."""
    if "fan" not in person.roles:
        return {}
    with database().reading() as tx:
        mine = subscriptions.of_fan(tx, person.user_id, utc_now())
        cap = spending.cap_of(tx, person.user_id, utc_now())
    running = [one for one in mine if one.status != "ended"]
    ended = [one for one in mine if one.status == "ended"][:LATELY_ENDED]
    return {"is_fan": True, "subscriptions": (*running, *ended), "cap": cap}


@blueprint.post("/account/subscriptions/<subscription_id>/cancel")
@role_required("fan")
def cancel_subscription(subscription_id: str) -> Any:
    """Cancel, with its words."""
    fan_id = _fan_id()

    def work(tx: Session) -> str:
        view = subscriptions.cancel(tx, subscription_id, fan_id=fan_id, now=utc_now())
        until = "" if view.status == "ended" else " What you paid for stays until the month ends."
        return f"Your subscription to {view.display_name} is cancelled.{until}"

    return _done(work)


@blueprint.post("/account/subscriptions/<subscription_id>/resume")
@role_required("fan")
def resume_subscription(subscription_id: str) -> Any:
    """Take a cancellation back."""
    fan_id = _fan_id()

    def work(tx: Session) -> str:
        view = subscriptions.resume(tx, subscription_id, fan_id=fan_id, now=utc_now())
        return f"Your subscription to {view.display_name} goes on."

    return _done(work)


@blueprint.post("/account/spending-cap")
@role_required("fan")
def put_spending_cap() -> Any:
    """Choose a daily limit; an empty field is none."""
    text, fan_id = request.form.get("daily_cap", "").strip(), _fan_id()
    if text and not (text.isascii() and text.isdigit() and len(text) <= 15):
        flash("A limit is 0 or more tokens, or nothing at all.", "warn")
        return redirect("/account#cap-h", 303)
    cap = database().run(lambda tx: spending.set_cap(tx, fan_id, int(text) if text else None, utc_now()))
    waits = cap.changes_at is not None
    flash("Saved. It holds from the next day (0:00 UTC)." if waits else "Your daily limit is saved.")
    return redirect("/account#cap-h", 303)


def _done(work: Callable[[Session], str]) -> Any:
    try:
        flash(database().run(work))
    except DomainError as error:
        flash(error.detail, "warn")
    return redirect("/account#subs-h", 303)


def _fan_id() -> str:
    person = current_person()
    assert person is not None  # role_required has seen to it
    return person.user_id
