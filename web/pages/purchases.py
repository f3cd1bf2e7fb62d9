"""Purchases in words: the list in the wallet, and the page that a buyer comes back to after paying."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from flask import abort, render_template, request

from models.errors import NotFound
from models.services import payments
from models.services.purchase_refunds import BoughtView, RefundView
from web.auth import current_person, login_required
from web.pages import blueprint
from web.pages.deps import database
from web.pages.wording import plural, price, tokens


class RefundLine(NamedTuple):
    """Where a refund is."""

    icon: str
    words: str


class PurchaseLine(NamedTuple):
    """A purchase in the wallet; ``bad`` says in a word why nothing of it can be given back."""

    purchase_id: str
    tokens: int
    price: str
    price_minor: int
    currency: str
    at: datetime
    left: str
    unspent: int
    worth: str
    bad: str
    refunds: tuple[RefundLine, ...]


class _State(NamedTuple):
    mark: str
    icon: str
    heading: str
    words: str


_PAID = _State("good", "check", "Your tokens are here", "They are yours at once, and wait in your wallet.")
_STATES = {
    "succeeded": _PAID,
    "disputed": _State("bad", "warn", "Taken back", "The bank of this card has taken the payment back."),
    "failed": _State("bad", "x", "Not paid", "Nothing was charged, and no tokens were added."),
}
_WAITING = _State(
    "wait",
    "card",
    "Waiting for your payment",
    "This page changes by itself once the payment is confirmed. You may leave it: the tokens come either way.",
)
_LATER_BAD = _State("bad", "warn", "Taken back", "This payment was found bad later; its tokens were taken back.")


def purchase_line(bought: BoughtView) -> PurchaseLine:
    """One purchase as the wallet shows it."""
    left = f"{plural(bought.unspent, 'token')} unspent" if bought.unspent else "all spent or held"
    back = sum(one.tokens for one in bought.refunds if one.status != "refused")
    if back and not bought.unspent:
        left = "nothing left of it"
    bad = {"disputed": "Disputed", "failed": "Payment taken back"}.get(bought.status, "")
    return PurchaseLine(
        purchase_id=bought.purchase_id,
        tokens=bought.tokens,
        price=price(bought.price_minor, bought.currency),
        price_minor=bought.price_minor,
        currency=bought.currency,
        at=bought.bought_at,
        left="its tokens were taken back" if bad else left,
        unspent=0 if bad else bought.unspent,
        worth=price(bought.refund_minor, bought.currency),
        bad=bad,
        refunds=tuple(_refund_line(one) for one in bought.refunds),
    )


def _refund_line(refund: RefundView) -> RefundLine:
    what = f"{plural(refund.tokens, 'token')} given back for {price(refund.amount_minor, refund.currency)}"
    if refund.status == "succeeded":
        return RefundLine("check", f"{what}. The money is on its way to your card.")
    if refund.status == "refused":
        return RefundLine("warn", f"The card refused {price(refund.amount_minor, refund.currency)}. "
                                  f"{tokens(refund.tokens)} tokens are back in your wallet.")  # fmt: skip
    return RefundLine("clock", f"{what}. The payment provider is being asked.")


@blueprint.get("/wallet/purchases/<purchase_id>")
@login_required
def purchase_page(purchase_id: str) -> str:
    """Where the buyer comes back to: paid, not paid, or not known yet; ``js/pages/purchase.js`` keeps asking."""
    person = current_person()
    assert person is not None
    try:
        with database().reading() as tx:
            purchase = payments.purchase_of(tx, purchase_id, person.user_id)
            bad_later = purchase.status == "failed" and payments.was_paid(tx, purchase_id)
    except NotFound:
        abort(404)
    state = _LATER_BAD if bad_later else _STATES.get(purchase.status, _WAITING)
    return render_template(
        "purchase.html",
        purchase=purchase,
        mark=state.mark,
        mark_icon=state.icon,
        heading=state.heading,
        words=state.words,
        request=request,
    )
