"""The studio's Earnings tab: figures and words for ``partials/studio_earnings.html``. Decides nothing."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from models.clock import utc_now
from models.services.earnings import EarningsView, PayoutView, earnings, terms_of
from web.context import greenroom
from web.pages.wording import plural, price, tokens

DAYS_SHOWN = 5
SANDBOX_ACCOUNTS = (
    ("pays", "An account that is paid at once"),
    ("pays-later", "An account that is paid 40 s later"),
    ("fails", "An account that is refused at once"),
    ("fails-later", "An account that is refused 40 s later"),
    ("unready", "An account that lacks its owner’s data"),
)
_STATES = {"requested": "On its way", "paid": "Paid", "failed": "Came back"}


class PayoutLine(NamedTuple):
    """One payout in the history."""

    at: datetime
    tokens: int
    money: str
    status: str
    words: str


class StatementLink(NamedTuple):
    """A month to download."""

    words: str
    href: str


def earnings_part(tx: Session, creator_id: str) -> dict[str, Any]:
    """What the partial is rendered with."""
    house, now = greenroom(), utc_now()
    terms = terms_of(house.settings)
    view = earnings(tx, creator_id, terms, house.gateway.name, now)
    shown, rest = view.next_clearings[:DAYS_SHOWN], view.next_clearings[DAYS_SHOWN:]
    return {
        "money": view,
        "payable_money": price(view.payable.amount_minor, terms.currency),
        "per_token": price(terms.minor_per_token, terms.currency),
        "minimum_money": price(terms.minimum_tokens * terms.minor_per_token, terms.currency),
        "clearings": shown,
        "clearings_rest": sum(each.tokens for each in rest),
        "blocked_words": blocked_words(view),
        "payout_lines": [_payout(each) for each in view.payouts],
        "statements": _statements(now.date()),
        "sandbox_accounts": SANDBOX_ACCOUNTS if house.gateway.name == "sandbox" else (),
    }


def blocked_words(view: EarningsView) -> str:
    """Why nothing can be paid out now, and what changes it; empty when something can."""
    terms, payable = view.terms, view.payable
    match view.blocked:
        case "PAYOUTS_FROZEN":
            return "Payouts are stopped until a question about your account is cleared up. Write to us."
        case "DEBT_FIRST":
            return f"{plural(payable.debt, 'token')} are owed back. What clears next pays them first."
        case "PAYOUT_PENDING":
            return "A payout is on its way. The next can be asked for when it has arrived."
        case "BELOW_MINIMUM":
            missing = plural(terms.minimum_tokens - payable.tokens, "token")
            return f"The smallest payout is {tokens(terms.minimum_tokens)} tokens: {missing} to go."
        case "NO_PAYOUT_ACCOUNT" if view.account == "unfinished":
            return "The payment provider still needs something from you."
        case "NO_PAYOUT_ACCOUNT":
            return "Tell the payment provider first where your money goes."
        case _:
            return ""


def _payout(payout: PayoutView) -> PayoutLine:
    words = _STATES[payout.status]
    if payout.status == "failed":
        words = f"{words}: {payout.detail.replace('_', ' ')}" if payout.detail else words
    money = price(payout.amount_minor, payout.currency)
    return PayoutLine(payout.requested_at, payout.tokens, money, payout.status, words)


def _statements(today: date) -> list[StatementLink]:
    """This month and the two before it."""
    links, year, month = [], today.year, today.month
    for _ in range(3):
        href = f"/api/earnings/statement?year={year}&month={month}"
        links.append(StatementLink(f"{date(year, month, 1):%B %Y}", href))
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return links
