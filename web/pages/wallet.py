"""/wallet: what is free, what is held or in a battle’s pot and for what, buying, and every movement in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from flask import render_template, request

from models.gateways.sandbox import CARDS as CARD_NUMBERS
from models.services import disputes, payments, purchase_refunds, sessions, wallet
from web.auth import current_person, login_required, safe_next
from web.pages import blueprint, wording
from web.pages.deps import database, settings
from web.pages.movements import held_lines, movements, stake_lines
from web.pages.purchases import purchase_line

LINES = 50


class CardChoice(NamedTuple):
    """A card of the sandbox and how it behaves."""

    code: str
    name: str
    text: str

    @property
    def number(self) -> str:
        """Its number in groups of four."""
        digits = CARD_NUMBERS[self.code]
        return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


CARDS = (
    CardChoice("succeeds", "A card that works", "Charged, and it stays that way."),
    CardChoice("fails", "A card that is refused", "Declined at once. Nothing is credited."),
    CardChoice("fails-later", "A card that fails later", "Charged, and found bad 40 s afterwards."),
    CardChoice("disputed", "A card that is disputed", "Charged, and disputed 40 s afterwards."),
)
RARE_CARDS = (
    CardChoice("dispute-won", "A dispute that we win", "Disputed after 40 s, decided for us after 80 s."),
    CardChoice("dispute-lost", "A dispute that we lose", "Disputed after 40 s, decided against us after 80 s."),
    CardChoice("flagged", "A card with a warning", "Charged; its bank suspects fraud 40 s afterwards."),
    CardChoice("refund-fails", "A card without refunds", "Charged. Giving tokens back is refused."),
    CardChoice("saved-fails", "A card that wants its owner", "Charged now, refused when a subscription renews."),
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
        bought = purchase_refunds.bought(tx, person.user_id)
        frozen = disputes.is_frozen(tx, person.user_id)
        holds = held_lines(tx, person.user_id, call) if purse.held else []
        stakes = stake_lines(tx, person.user_id)
    creator = "creator" in person.roles
    # A creator's tokens are earned; only a battle's entry fee takes bought ones.
    for_a_battle = creator and (request.args.get("next") or "").startswith("/battles")
    shown: dict[str, Any] = {
        "purse": purse,
        "holds": holds,
        "stakes": stakes,
        "movements": lines,
        "can_buy": "fan" in person.roles or for_a_battle,
        "purchases": [purchase_line(one) for one in bought],
        "frozen": frozen,
        "disputed": any(one.status in ("disputed", "failed") for one in bought),
        "earnings": Earnings(purse.earnings_pending, purse.earnings, purse.debt) if creator else None,
        "commission_percent": settings().commission_percent,
        "clearing_days": settings().clearing_days,
    }
    if request.args.get("part") == "figures":
        return render_template("partials/wallet_figures.html", **shown)
    packages = payments.packages(settings().currency)
    sandbox = settings().gateway == "sandbox"
    need = request.args.get("need", 0, type=int)
    chosen = next((pack for pack in packages if pack.tokens >= need), packages[-1])
    return render_template(
        "wallet.html",
        packages=packages,
        cards=CARDS if sandbox else (),
        rare_cards=RARE_CARDS if sandbox else (),
        need=need if 0 < need < 1_000_000 else 0,
        next=safe_next(request.args.get("next"), ""),
        chosen=chosen.package_id,
        chosen_price=wording.price(chosen.price_minor, chosen.currency),
        **shown,
    )
