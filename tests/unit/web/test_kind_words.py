"""Every kind of movement that the ledger knows has words wherever a person reads it; a new one without fails."""

from __future__ import annotations

import pytest

from models.books import TRANSFER_KINDS
from models.services import wallet
from web.api import earnings
from web.pages import movements

NEVER_EARNED = {
    "top_up",
    "gift",
    "hold",
    "release",
    "stake",
    "stake_return",
    "purchase_refund",
    "purchase_refund_return",
}
"""Kinds that move nothing of a creator's earnings, and so are in no statement of them."""
PATRON_KINDS = ("tip", "subscription", "pass", "recording", "stake", "stake_return", "share")


def line(kind: str, **more: int) -> wallet.StatementLine:
    amounts = {"available": -50, "held": 0, "earnings": 0} | more
    return wallet.StatementLine(
        transfer_id="trf_1",
        at="2026-01-02T12:00:00Z",
        kind=kind,
        words=wallet.WORDS[kind],
        reference="ref_1",
        **amounts,
    )


def test_the_wallet_has_words_for_every_kind() -> None:
    assert set(wallet.WORDS) == set(TRANSFER_KINDS)
    assert set(wallet.EARNED_WORDS) <= set(TRANSFER_KINDS) - NEVER_EARNED


def test_the_statement_has_words_for_every_kind_of_earnings() -> None:
    assert set(earnings.WORDS) == set(TRANSFER_KINDS) - NEVER_EARNED


@pytest.mark.parametrize("kind", PATRON_KINDS)
def test_what_a_patron_pays_is_said_with_its_name(kind: str) -> None:
    patron = movements.Patron("North against South", "bat_1")
    given, earned = line(kind), line(kind, available=0, earnings=40)
    texts = {movements.patron_words(one, patron) for one in (given, earned)}
    assert all("North against South" in text and kind not in text for text in texts)


def test_an_entry_fee_is_no_tip() -> None:
    paid = line("stake")
    as_fan = movements.patron_words(paid, movements.Patron("Duel", "bat_1"))
    as_creator = movements.patron_words(paid, movements.Patron("Duel", "bat_1", competes=True))
    assert (as_fan, as_creator) == (
        "Tip into the pot of the battle “Duel”",
        "Entry fee into the pot of the battle “Duel”",
    )
