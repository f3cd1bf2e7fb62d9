"""Movements of the same tokens at the same moment: one order or the other, never a mixture, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import pytest
from book import Book
from sqlalchemy import text
from sqlalchemy.orm import Session
from together import outcomes, until_it_waits_or_is_done

from models import ledger
from models.books_rules import SLOTS
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


def test_a_tip_of_a_slot_that_is_new_while_others_are_folded(
    database: Database, book: Book, make_person: Callable[..., str], creator: str
) -> None:
    """A fold takes what it has locked: not a slot that came after, whose next tip is on its way."""
    if database.is_sqlite:
        # One writer: no slots.
        return
    first, second, third = (make_person("fan", tokens=100) for _ in range(3))
    with ExitStack() as open_here:
        mine, other = _of_two_slots(database, open_here)
        _tip(mine, first, creator, "tip_1", book.now)
        mine.commit()
        _tip(mine, first, creator, "tip_2", book.now)
        # when: a clearing waits for a slot, while another slot is made, committed, and tipped once more
        with database.engine.connect() as watching, ThreadPoolExecutor(1) as pool:
            clearing = pool.submit(book.clear, 31)
            until_it_waits_or_is_done(watching, clearing)
            _tip(other, second, creator, "tip_3", book.now)
            other.commit()
            _tip(other, third, creator, "tip_4", book.now)
            mine.commit()
            until_it_waits_or_is_done(watching, clearing)
            other.commit()
            assert clearing.result(120) == 1
    # then
    assert book.balances(creator) == {"earnings": 8, "earnings_pending": 24}
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


def _of_two_slots(database: Database, open_here: ExitStack) -> tuple[Session, Session]:
    """Two sessions whose connections post to different slots."""
    sessions: dict[int, Session] = {}
    while len(sessions) < 2:
        connection = open_here.enter_context(database.engine.connect())
        slot = connection.scalar(text("SELECT pg_backend_pid()")) % SLOTS
        connection.rollback()
        sessions[slot] = open_here.enter_context(Session(connection))
    one, other = sessions.values()
    return one, other


def _tip(tx: Session, fan: str, creator: str, reference: str, now: datetime) -> None:
    ledger.pay(
        tx,
        fan,
        creator_id=creator,
        amount=10,
        commission_percent=20,
        kind="tip",
        key=reference,
        reference=reference,
        cause_id="test",
        now=now,
    )
