"""A movement in one call to PostgreSQL writes what the ledger itself would have written by statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from book import Book
from sqlalchemy import text

from models import ledger, statements
from models.db import Database
from models.errors import DomainError
from models.people import PersonRow

# What is written about a fan, names of things apart.
_WRITTEN = (
    (
        "SELECT status, amount, earnings, commission, pending, promo, recovered, refunded, fee_back, creator_id,"
        " created_at, closed_at, clears_at FROM holds WHERE fan_id = :fan ORDER BY reference"
    ),
    (
        "SELECT l.tokens, l.free, u.held, u.spent, u.recovered FROM token_lots l LEFT JOIN lot_uses u"
        " ON u.lot_id = l.id WHERE l.owner_id = :fan ORDER BY l.created_at, u.reference"
    ),
    (
        "SELECT t.kind, t.cause_id, t.created_at, t.moves FROM transfers t JOIN holds h"
        " ON h.reference = t.reference WHERE h.fan_id = :fan ORDER BY t.created_at, t.kind, t.id"
    ),
    (
        "SELECT e.account_id, e.amount FROM entries e JOIN transfers t ON t.id = e.transfer_id JOIN holds h"
        " ON h.reference = t.reference WHERE h.fan_id = :fan ORDER BY e.account_id, e.amount"
    ),
    "SELECT kind, balance FROM balances WHERE owner_id = :fan ORDER BY kind",
)

# Movements: (a hold's tokens, earnings and commission of its settlement, tokens of each lot).
PLAIN = {
    "a part of a lot, a part of it paid": (500, (240, 60), (1_000,)),
    "a part of a lot, all of it paid": (500, (400, 100), (1_000,)),
    "all of a lot": (1_000, (800, 200), (1_000,)),
    "the first of two lots": (500, (240, 60), (600, 400)),
}
OTHERS = {
    "two lots": (500, (240, 60), (300, 700)),
    "nothing paid": (500, (0, 0), (1_000,)),
    "no commission": (500, (500, 0), (1_000,)),
    "commission alone": (500, (0, 1), (1_000,)),
}


@pytest.fixture
def book(database: Database, now: Any) -> Book:
    return Book(database, now)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that the ledger wrote by itself."""
    found: list[str] = []
    write = statements.write

    def noted(tx: Any, writes: Any) -> None:
        found.extend(each.sql for each in writes)
        write(tx, writes)

    monkeypatch.setattr(ledger, "write", noted)
    return found


def without_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger asks PostgreSQL to read only."""
    read = statements.read

    def reads(tx: Any, wanted: Any, values: Any, more: Any = ()) -> Any:
        return read(tx, wanted, values, (None,) * len(more))

    monkeypatch.setattr(ledger, "read", reads)


@pytest.mark.parametrize("case", PLAIN | OTHERS)
def test_both_ways_write_the_same(
    case: str,
    book: Book,
    make_person: Callable[..., str],
    creator: str,
    written: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: two fans whose tokens came in alike
    amount, (earnings, commission), lots = (PLAIN | OTHERS)[case]
    fans, started = [make_person("fan"), make_person("fan")], book.now
    for fan in fans:
        book.now = started
        for number, tokens in enumerate(lots):
            book.top_up(fan, tokens, f"pur_{fan}_{number}")
    written.clear()
    # when
    answers = []
    for fan in fans:
        answers.append(
            (
                book.hold(fan, amount, f"req_{fan}", f"hold-{fan}"),
                book.settle(creator, earnings, commission, f"req_{fan}", f"settle-{fan}"),
            )
        )
        if fan == fans[0]:
            by_call = not book.database.is_sqlite and case in PLAIN
            assert (written == []) is by_call
            without_calls(monkeypatch)
    # then
    first, second = (_everything_about(book, fan) for fan in fans)
    assert first == second
    assert _answers(answers[0], fans[0]) == _answers(answers[1], fans[1])
    for answer, fan in zip(answers, fans, strict=True):
        again = book.hold(fan, amount, f"req_{fan}", f"hold-{fan}")
        assert (again, book.settle(creator, earnings, commission, f"req_{fan}", f"settle-{fan}")) == answer
    book.check()


@pytest.mark.parametrize("calls", ["one call", "read first"])
def test_what_is_in_the_way_is_in_the_way_of_both(
    calls: str, book: Book, fan: str, creator: str, now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if calls == "read first":
        without_calls(monkeypatch)

    def refused(code: str, movement: Callable[..., object], *values: object) -> None:
        with pytest.raises(DomainError) as refusal:
            movement(*values)
        assert refusal.value.code == code

    def person(**values: object) -> None:
        with book.database.transaction() as tx:
            for name, value in values.items():
                setattr(tx.get_one(PersonRow, fan), name, value)

    refused("INSUFFICIENT_TOKENS", book.hold, fan, 1_001)
    person(spending_frozen_at=now)
    refused("SPENDING_FROZEN", book.hold, fan, 100)
    person(spending_frozen_at=None, daily_cap_tokens=150)
    refused("SPENDING_CAP", book.hold, fan, 151)
    book.hold(fan, 150)
    person(daily_cap_tokens=None)
    refused("IDEMPOTENCY_KEY_REUSED", book.hold, fan, 100, "req_2", "hold-1")
    refused("INVALID", book.settle, creator, 140, 11)
    refused("INVALID", book.settle, creator, 2**63, 1)
    refused("INVALID", book.settle, creator, 151, -1)
    refused("NOT_FOUND", book.settle, creator, 1, 1, "req_2")
    refused("IDEMPOTENCY_KEY_REUSED", book.settle, creator, 100, 20, "req_1", "hold-1")
    book.settle(creator, 100, 20)
    refused("HOLD_CLOSED", book.settle, creator, 100, 20, "req_1", "settle-2")
    refused("HOLD_CLOSED", book.hold, fan, 100, "req_1", "hold-2")
    book.hold(fan, 100, "req_2", "hold-3")
    book.mark_bad(book.lot_ids(fan)[0])
    refused("INSUFFICIENT_TOKENS", book.hold, fan, 1, "req_3", "hold-4")
    book.settle(creator, 80, 10, "req_2", "settle-3")
    assert book.balances(fan) == {}
    assert book.balances(creator) == {}
    book.check()


@pytest.mark.parametrize("calls", ["one call", "read first"])
def test_a_lot_that_was_given_back_whole_is_not_in_the_way(
    calls: str, book: Book, make_person: Callable[..., str], creator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held from one lot, released, held again from the next: the first is still named, and holds nothing."""
    if calls == "read first":
        without_calls(monkeypatch)
    fan = make_person("fan")
    for number in (1, 2):
        book.top_up(fan, 300, f"pur_{number}")
    book.hold(fan, 200)
    book.release()
    book.hold(fan, 300, "req_2", "hold-2")
    book.hold(fan, 250, "req_1", "hold-3")
    # when
    book.settle(creator, 160, 40)
    # then
    assert book.balances(creator) == {"earnings_pending": 160}
    assert book.balances(fan) == {"wallet": 100, "held": 300}
    assert book.lots(fan) == [(0, 0), (100, 200)]
    book.check()


def _everything_about(book: Book, fan: str) -> list[list[tuple[str, ...]]]:
    with book.database.reading() as tx:
        return [
            [
                tuple(str(value).replace(fan, "FAN") for value in row)
                for row in tx.execute(text(query), {"fan": fan})
            ]
            for query in _WRITTEN
        ]


def _answers(transfers: tuple[ledger.Transfer, ...], fan: str) -> list[tuple[str, ...]]:
    return [
        (each.kind, each.at, each.reference.replace(fan, "FAN"), str(each.entries).replace(fan, "FAN"))
        for each in transfers
    ]
