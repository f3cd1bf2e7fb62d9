"""Movements of the same tokens at the same moment: one order or the other, never a mixture, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

import pytest
from book import Book
from together import outcomes

from models import ledger
from models.db import Database

ROUNDS = 6


@pytest.fixture
def book(database: Database, now: datetime) -> Book:
    return Book(database, now)


def test_two_settlements_of_one_hold(book: Book, make_person: Callable[..., str], creator: str) -> None:
    for number in range(ROUNDS):
        reference = f"req_{number}"
        book.hold(make_person("fan", tokens=500), 500, reference, f"hold-{number}")
        settle = partial(book.settle, creator, 240, 60, reference)
        said = outcomes(*(partial(settle, f"{key}-{number}") for key in "abc"))
        assert sorted(said) == ["HOLD_CLOSED", "HOLD_CLOSED", "done"]
    assert book.balances(creator) == {"earnings_pending": 240 * ROUNDS}
    book.check()


def test_a_dispute_while_tokens_are_held_settled_and_released(
    book: Book, make_person: Callable[..., str], creator: str
) -> None:
    """Whatever comes first, nothing of the bad purchase stays in the house."""
    for number in range(ROUNDS):
        fan = make_person("fan", tokens=900)
        for part in ("settled", "released"):
            book.hold(fan, 300, f"{part}_{number}", f"hold-{part}-{number}")
        said = outcomes(
            partial(book.hold, fan, 300, f"late_{number}", f"hold-late-{number}"),
            partial(book.settle, creator, 240, 60, f"settled_{number}", f"settle-{number}"),
            partial(book.release, f"released_{number}", f"release-{number}"),
            partial(book.mark_bad, book.lot_ids(fan)[0]),
        )
        assert set(said) <= {"done", "INSUFFICIENT_TOKENS"}
        assert said[1:] == ["done"] * 3
        book.check()
        if said[0] == "done":
            book.release(f"late_{number}", f"release-late-{number}")
        assert book.balances(fan) == {}
    assert book.balances(creator) == {}
    assert (book.platform("fees"), book.platform("gateway")) == (0, 0)
    book.check()


def test_clearing_while_a_refund_and_a_dispute_take_the_same_earnings(
    book: Book, make_person: Callable[..., str], creator: str
) -> None:
    # given
    fans = [make_person("fan", tokens=500) for _ in range(ROUNDS)]
    for number, fan in enumerate(fans):
        book.hold(fan, 500, f"req_{number}", f"hold-{number}")
        book.settle(creator, 400, 100, f"req_{number}", f"settle-{number}")
    # when
    clear = [lambda: book.clear(31)] * 2
    refund = [
        lambda number=number: book.refund(None, f"req_{number}", f"refund-{number}")  # type: ignore[misc]
        for number in range(0, ROUNDS, 2)
    ]
    dispute = [lambda fan=fan: book.mark_bad(book.lot_ids(fan)[0]) for fan in fans[1::2]]  # type: ignore[misc]
    said = outcomes(*clear, *refund, *dispute)
    # then
    assert set(said) == {"done"}
    book.check()
    assert book.balances(creator) == {}
    assert [book.balances(fan) for fan in fans] == [{"wallet": 500}, {}] * (ROUNDS // 2)


def test_many_tips_while_others_take_from_the_same_creator(
    book: Book, make_person: Callable[..., str], creator: str
) -> None:
    """Slots are credited while they are folded: not a token is lost between them."""
    fans = [make_person("fan", tokens=100) for _ in range(8)]

    def tips(fan: str) -> None:
        for number in range(10):
            book.pay(fan, creator, 10, f"tip_{fan}_{number}")

    def clearing() -> None:
        for _ in range(10):
            book.clear(31)

    said = outcomes(*(lambda fan=fan: tips(fan) for fan in fans), clearing)  # type: ignore[misc]
    assert set(said) == {"done"}
    book.clear(31)
    assert book.balances(creator) == {"earnings": 8 * 10 * 8}
    assert book.platform("fees") == 8 * 10 * 2
    book.check()


def test_one_purchase_withdrawn_spent_and_put_back_at_once(book: Book, fan: str, creator: str) -> None:
    lot = book.lot_ids(fan)[0]
    said = outcomes(
        lambda: book.withdraw(lot, 600, "w1"),
        lambda: book.withdraw(lot, 600, "w2"),
        lambda: book.pay(fan, creator, 600),
    )
    assert sorted(said)[-1] == "done"
    assert said.count("done") == 1
    assert book.balances(fan) == {"wallet": 400}
    book.check()


def test_one_payout_of_two_and_one_return_of_two(book: Book, fan: str, creator: str) -> None:
    book.pay(fan, creator, 1_000)
    book.clear()
    paid: list[ledger.Transfer] = []
    said = outcomes(*(lambda key=key: paid.append(book.payout(creator, 500, key)) for key in ("p1", "p2")))  # type: ignore[misc]
    assert sorted(said) == ["INSUFFICIENT_TOKENS", "done"]
    outcomes(*[lambda: book.payout_return(paid[0])] * 3)
    assert book.balances(creator) == {"earnings": 800}
    book.check()
