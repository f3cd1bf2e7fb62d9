"""/admin, people: whoever signs in, integrators' tokens, and the record of what admins did."""

from __future__ import annotations

from flask import request

from models.services import accounts, book_search, floor, moderation, operations, payment_search, wallet
from web.auth import current_person, role_required
from web.pages import blueprint
from web.pages.admin import shown
from web.pages.deps import database


@blueprint.get("/admin/people")
@role_required("admin")
def admin_people() -> str:
    """People, the latest first, or those that were searched for."""
    with database().reading() as tx:
        return shown(tx, "people", "People", people=moderation.find(tx, request.args.get("q", "")))


@blueprint.get("/admin/people/<user_id>")
@role_required("admin")
def admin_one_person(user_id: str) -> str:
    """One person: standing, tokens, what was done to them."""
    admin = current_person()
    assert admin is not None
    with database().reading() as tx:
        case = moderation.case_of(tx, user_id)
        return shown(
            tx,
            "person",
            case.display_name,
            tab="people",
            case=case,
            oneself=case.user_id == admin.user_id,
            roles=accounts.ROLES,
            purse=wallet.wallet(tx, user_id),
            purchases=payment_search.purchases(tx, words=user_id, limit=20),
            movements=book_search.search(tx, user_id, 20),
            acts=operations.acts(tx, subject=user_id),
        )


@blueprint.get("/admin/integrators")
@role_required("admin")
def admin_integrators() -> str:
    """Other people's programs and what they may do."""
    with database().reading() as tx:
        return shown(tx, "integrators", "Integrators", tokens=floor.api_tokens(tx), scopes=accounts.SCOPES)


@blueprint.get("/admin/acts")
@role_required("admin")
def admin_acts() -> str:
    """What admins did; nothing is ever taken out of it."""
    with database().reading() as tx:
        return shown(tx, "acts", "Acts", acts=operations.acts(tx, subject=request.args.get("q") or None))
