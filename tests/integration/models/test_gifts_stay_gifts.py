"""Gift tokens never become money, on no way round: not as another session's refund, nor as another's debt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from book import Book

from models.db import Database
from models.errors import Conflict

MakePerson = Callable[..., str]


@pytest.fixture
def book(database: Database, now: datetime) -> Book:
    return Book(database, now)


def given(book: Book, make_person: MakePerson, tokens: int) -> str:
    """Somebody who has nothing but a gift."""
    person = make_person("fan")
    book.gift(person, tokens)
    return person


def test_a_refund_is_not_paid_with_what_gifts_earned(
    book: Book, fan: str, creator: str, make_person: MakePerson
) -> None:
    """Else: pay with money, pay that out, earn gifts, and give the money back out of those."""
    # given: 800 earned of money and paid out, 800 pending of a gift
    book.pay(fan, creator, 1_000, "tip_money")
    book.clear()
    book.payout(creator, 800)
    book.pay(given(book, make_person, 1_000), creator, 1_000, "tip_gift")
    # when / then
    with pytest.raises(Conflict) as refusal:
        book.refund(None, "tip_money")
    assert refusal.value.code == "NOT_REVERSIBLE"
    assert book.balances(fan) == {}
    # and the gift's part clears to nobody
    book.clear()
    assert book.balances(creator) == {}
    book.check()


def test_a_bad_payment_is_not_made_good_with_what_gifts_earned(
    book: Book, fan: str, creator: str, make_person: MakePerson
) -> None:
    book.pay(fan, creator, 1_000, "tip_money")
    book.clear()
    book.payout(creator, 800)
    book.pay(given(book, make_person, 1_000), creator, 1_000, "tip_gift")
    book.mark_bad(book.lot_ids(fan)[0])
    assert book.balances(creator) == {"earnings_pending": 800, "debt": -800}
    book.clear()
    assert book.balances(creator) == {"debt": -800}
    book.check()


def test_what_money_earned_in_a_mixed_session_still_makes_another_good(
    book: Book, fan: str, creator: str, make_person: MakePerson
) -> None:
    # given: a session paid half by a gift and half by money
    book.pay(fan, creator, 1_000, "tip_money")
    book.clear()
    book.payout(creator, 800)
    mixed = given(book, make_person, 500)
    book.top_up(mixed, 500, "pur_mixed")
    book.pay(mixed, creator, 1_000, "tip_mixed")
    # when
    book.mark_bad(book.lot_ids(fan)[0])
    # then: the 400 that money earned go, the 400 that the gift earned wait for promo
    assert book.balances(creator) == {"earnings_pending": 400, "debt": -400}
    # and they are not what a refund of the mixed session's money is paid with
    with pytest.raises(Conflict):
        book.refund(500, "tip_mixed")
    book.clear()
    assert book.balances(creator) == {"debt": -400}
    book.check()
