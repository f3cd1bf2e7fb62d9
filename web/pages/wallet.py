"""/wallet: what is free, what is held and for what, buying more, and every movement in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from flask import render_template, request

from models.services import payments, sessions, wallet
from web.auth import current_person, login_required, safe_next
from web.pages import blueprint, wording
from web.pages.deps import database, settings
from web.pages.movements import held_lines, movements

LINES = 50


class CardChoice(NamedTuple):
    """A card of the sandbox and how it behaves."""

    code: str
    name: str
    text: str


CARDS = (
    CardChoice("succeeds", "A card that works", "Charged, and it stays that way."),
    CardChoice("fails", "A card that is refused", "Declined at once. Nothing is credited."),
    CardChoice("fails-later", "A card that fails later", "Charged, and found bad 40 s afterwards."),
    CardChoice("disputed", "A card that is disputed", "Charged, and disputed 40 s afterwards."),
)


class Earnings(msgspec.Struct, frozen=True):
    """A creator's side of the wallet, in tokens; ``debt`` is what is owed back."""

    pending: int
    cleared: int
    debt: int


@blueprint.get("/wallet")
@login_required
def wallet_page() -> str:
    """The page; ``?part=figures`` is what changes by itself, ``?next=`` and ``?need=`` come from a request."""
    person = current_person()
    assert person is not None
    with database().reading() as tx:
        purse = wallet.wallet(tx, person.user_id)
        lines = movements(tx, person.user_id, purse.available, LINES)
        call = sessions.current_session_of(tx, person.user_id) if purse.held else None
        holds = held_lines(tx, person.user_id, call) if purse.held else []
    creator = "creator" in person.roles
    shown: dict[str, Any] = {
        "purse": purse,
        "holds": holds,
        "movements": lines,
        "can_buy": "fan" in person.roles,
        "earnings": Earnings(purse.earnings_pending, purse.earnings, purse.debt) if creator else None,
        "commission_percent": settings().commission_percent,
    }
    if request.args.get("part") == "figures":
        parts = ("partials/balance.html", "partials/movements.html")
        return "".join(render_template(part, **shown) for part in parts)
    packages = payments.packages()
    need = request.args.get("need", 0, type=int)
    chosen = next((pack for pack in packages if pack.tokens >= need), packages[-1])
    return render_template(
        "wallet.html",
        packages=packages,
        cards=CARDS,
        need=need if 0 < need < 1_000_000 else 0,
        next=safe_next(request.args.get("next"), ""),
        chosen=chosen.package_id,
        chosen_price=wording.price(chosen.price_minor, chosen.currency),
        **shown,
    )
