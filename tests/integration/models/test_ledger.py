"""Every movement of tokens: what it does, that a repeat does nothing, and what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from book import Book
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models import ledger
from models.db import Database
from models.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, PaymentRequired
from models.people import PersonRow
from models.postings import post


@pytest.fixture
def book(database: Database, now: datetime) -> Book:
    return Book(database, now)


def test_a_hold_moves_tokens_from_wallet_to_held(book: Book, fan: str) -> None:
    # when
    transfer = book.hold(fan, 400)
    # then
    assert book.balances(fan) == {"wallet": 600, "held": 400}
    assert transfer.kind == "hold"
    assert [(entry.account, entry.amount) for entry in transfer.entries] == [
        (f"wallet:{fan}", -400),
        (f"held:{fan}", 400),
    ]
    book.check()


def test_a_hold_repeated_with_its_key_is_the_first_one(book: Book, fan: str) -> None:
    first = book.hold(fan, 400)
    assert book.hold(fan, 400) == first
    assert book.balances(fan) == {"wallet": 600, "held": 400}
    book.check()


def test_a_key_of_another_movement_is_refused(book: Book, fan: str) -> None:
    book.hold(fan, 400)
    with pytest.raises(Conflict) as refusal:
        book.hold(fan, 400, reference="req_2")
    assert refusal.value.code == "IDEMPOTENCY_KEY_REUSED"
    assert book.balances(fan) == {"wallet": 600, "held": 400}


def test_more_than_the_wallet_has_is_refused_with_both_figures(book: Book, fan: str) -> None:
    with pytest.raises(PaymentRequired) as refusal:
        book.hold(fan, 1_001)
    assert refusal.value.code == "INSUFFICIENT_TOKENS"
    assert refusal.value.fields == {"required": 1_001, "balance": 1_000}
    assert book.balances(fan) == {"wallet": 1_000}


@pytest.mark.parametrize("amount", [0, -1, 2**63, 10**30, True])
def test_what_is_no_amount_of_tokens_is_refused_before_the_database(book: Book, fan: str, amount: int) -> None:
    with pytest.raises(Invalid):
        book.hold(fan, amount)
    with pytest.raises(Invalid):
        book.top_up(fan, amount, "pur_2")


def test_a_balance_beyond_64_bits_is_refused(book: Book, fan: str) -> None:
    with pytest.raises(Invalid):
        book.top_up(fan, ledger.MAX_TOKENS, "pur_2")
    assert book.balances(fan) == {"wallet": 1_000}
    book.check()


def test_nobody_without_an_account_can_hold(book: Book, creator: str) -> None:
    with pytest.raises(PaymentRequired):
        book.hold(creator, 1)
    assert book.balances(creator) == {}


def test_a_second_hold_for_the_same_reference_adds(book: Book, fan: str) -> None:
    book.hold(fan, 400)
    book.hold(fan, 100, key="hold-2")
    assert book.balances(fan) == {"wallet": 500, "held": 500}
    book.release()
    assert book.balances(fan) == {"wallet": 1_000}
    book.check()


def test_a_release_gives_everything_back_once(book: Book, fan: str) -> None:
    book.hold(fan, 400)
    first = book.release()
    assert book.release() == first
    assert book.balances(fan) == {"wallet": 1_000}
    with pytest.raises(Conflict) as refusal:
        book.release(key="release-2")
    assert refusal.value.code == "HOLD_CLOSED"
    book.check()


def test_a_part_can_be_released(book: Book, fan: str) -> None:
    book.hold(fan, 400)
    book.release(amount=150)
    assert book.balances(fan) == {"wallet": 750, "held": 250}
    with pytest.raises(Invalid):
        book.release(key="release-2", amount=251)
    book.check()


def test_a_hold_that_was_released_can_hold_again_and_a_settled_one_cannot(
    book: Book, fan: str, creator: str
) -> None:
    book.hold(fan, 400)
    book.release()
    book.hold(fan, 100, key="hold-2")
    assert book.balances(fan) == {"wallet": 900, "held": 100}
    book.settle(creator, 80, 20)
    with pytest.raises(Conflict) as refusal:
        book.hold(fan, 100, key="hold-3")
    assert refusal.value.code == "HOLD_CLOSED"
    book.check()


def test_nothing_held_is_nothing_to_release_or_settle(book: Book, creator: str) -> None:
    with pytest.raises(NotFound):
        book.release("req_unknown")
    with pytest.raises(NotFound):
        book.settle(creator, 1, 0, reference="req_unknown")


def test_a_settlement_pays_creator_and_fees_and_returns_the_rest(book: Book, fan: str, creator: str) -> None:
    book.hold(fan, 500)
    transfer = book.settle(creator, 240, 60)
    assert book.balances(fan) == {"wallet": 700}
    assert book.balances(creator) == {"earnings_pending": 240}
    assert book.platform("fees") == 60
    assert [(entry.account, entry.amount) for entry in transfer.entries] == [
        (f"wallet:{fan}", 200),
        (f"held:{fan}", -500),
        (f"earnings_pending:{creator}", 240),
        ("fees", 60),
    ]
    book.check()


def test_a_settlement_happens_once(book: Book, fan: str, creator: str) -> None:
    book.hold(fan, 500)
    first = book.settle(creator, 240, 60)
    assert book.settle(creator, 240, 60) == first
    with pytest.raises(Conflict) as refusal:
        book.settle(creator, 240, 60, key="settle-2")
    assert refusal.value.code == "HOLD_CLOSED"
    with pytest.raises(Conflict):
        book.release()
    assert book.balances(creator) == {"earnings_pending": 240}
    book.check()


def test_a_settlement_may_return_everything_and_has_no_empty_entries(book: Book, fan: str, creator: str) -> None:
    book.hold(fan, 500)
    transfer = book.settle(creator, 0, 0)
    assert {entry.account for entry in transfer.entries} == {f"wallet:{fan}", f"held:{fan}"}
    assert book.balances(fan) == {"wallet": 1_000}
    book.check()


@pytest.mark.parametrize(("earnings", "commission"), [(500, 1), (-1, 0), (0, -1)])
def test_a_settlement_cannot_charge_more_than_was_held(
    book: Book, fan: str, creator: str, earnings: int, commission: int
) -> None:
    book.hold(fan, 500)
    with pytest.raises(Invalid):
        book.settle(creator, earnings, commission)
    assert book.balances(fan) == {"wallet": 500, "held": 500}


def test_lots_are_spent_first_in_first_out(book: Book, fan: str, creator: str) -> None:
    # given: 1,000 tokens of a first purchase, 300 of a second
    book.top_up(fan, 300, "pur_2")
    # when: 1,200 are held and 1,100 of them spent
    book.hold(fan, 1_200)
    with book.database.reading() as tx:
        behind = ledger.lots_behind(tx, "req_1")
    book.settle(creator, 1_100, 0)
    # then: the first is used up, the second gave 100
    assert len(behind) == 2
    assert behind[1] == "pur_2"
    assert book.lots(fan) == [(0, 1_000), (200, 100)]
    book.check()


def test_a_release_returns_to_the_lots_it_came_from(book: Book, fan: str) -> None:
    book.top_up(fan, 300, "pur_2")
    book.hold(fan, 1_200)
    book.release(amount=150)
    assert book.lots(fan) == [(0, 0), (250, 0)]
    book.release(key="release-2")
    assert book.lots(fan) == [(1_000, 0), (300, 0)]
    book.check()


def test_gift_tokens_come_from_promo_and_are_marked(book: Book, creator: str, now: datetime) -> None:
    def give(tx: Session) -> ledger.Transfer:
        return ledger.gift(tx, creator, 5_000, key=f"gift:{creator}", cause_id="test", now=now)

    first = book.database.run(give)
    assert book.database.run(give) == first
    assert book.balances(creator) == {"wallet": 5_000}
    assert book.platform("promo") == -5_000
    with book.database.reading() as tx:
        source = tx.execute(
            text("SELECT source FROM token_lots WHERE owner_id = :id"), {"id": creator}
        ).scalar_one()
    assert source == "promo"
    book.check()


def test_a_transfer_that_does_not_balance_is_a_mistake_of_the_program(book: Book, fan: str) -> None:
    with pytest.raises(ValueError, match="zero"):
        _move(book, "from nothing", {f"wallet:{fan}": 1})
    book.check()


def test_frozen_spending_holds_nothing(book: Book, fan: str, now: datetime) -> None:
    def freeze(tx: Session) -> None:
        tx.get_one(PersonRow, fan).spending_frozen_at = now

    book.database.run(freeze)
    with pytest.raises(Forbidden) as refusal:
        book.hold(fan, 1)
    assert refusal.value.code == "SPENDING_FROZEN"


def test_a_daily_cap_counts_what_went_and_did_not_come_back(book: Book, fan: str) -> None:
    # given
    def cap(tx: Session) -> None:
        tx.get_one(PersonRow, fan).daily_cap_tokens = 500

    book.database.run(cap)
    book.hold(fan, 400)
    # then: no second 400 …
    with pytest.raises(Forbidden) as refusal:
        book.hold(fan, 400, reference="req_2", key="hold-2")
    assert refusal.value.code == "SPENDING_CAP"
    assert refusal.value.fields == {"cap": 500, "spent": 400}
    # … but after a release, and on the next day
    book.release()
    book.hold(fan, 400, reference="req_2", key="hold-2")
    book.now += timedelta(days=1)
    book.hold(fan, 400, reference="req_3", key="hold-3")


def test_a_bad_payment_returns_free_tokens_at_once_and_held_ones_with_their_release(book: Book, fan: str) -> None:
    # given: 1,000 good tokens, then 300 that turn out bad; 1,200 held
    book.top_up(fan, 300, "pur_bad")
    book.hold(fan, 1_200)
    # when
    assert book.mark_bad("pur_bad") == 100
    # then
    with book.database.reading() as tx:
        assert ledger.bad_tokens_in(tx, "req_1") == 200
    assert book.balances(fan) == {"held": 1_200}
    book.release()
    assert book.balances(fan) == {"wallet": 1_000}
    assert book.platform("gateway:sandbox") == -1_000
    assert book.mark_bad("pur_bad") == 0
    book.check()


def test_good_tokens_pay_first_and_the_bad_rest_goes_back_to_the_gateway(
    book: Book, fan: str, creator: str
) -> None:
    # given: the older purchase is the bad one, and all of both is held
    book.top_up(fan, 300, "pur_good")
    first_lot = book.lot_ids(fan)[0]
    book.hold(fan, 1_300)
    book.mark_bad(first_lot)
    # when
    book.settle(creator, 240, 60)
    # then: the 300 good ones paid, the 1,000 bad ones are with the gateway
    assert book.balances(creator) == {"earnings_pending": 240}
    assert book.balances(fan) == {}
    assert book.platform("gateway:sandbox") == -300
    book.check()


def test_what_bad_tokens_paid_comes_back_from_pending_earnings_with_its_fee(
    book: Book, fan: str, creator: str
) -> None:
    book.hold(fan, 500)
    book.settle(creator, 241, 60)
    lot = book.lot_ids(fan)[0]
    assert [book.mark_bad(lot), book.mark_bad(lot)] == [1_000, 0]
    assert book.balances(fan) == {}
    assert book.balances(creator) == {}
    assert book.platform("fees") == 0
    assert book.platform("gateway:sandbox") == 0
    book.check()


def test_what_the_creator_no_longer_has_becomes_debt(book: Book, fan: str, creator: str) -> None:
    # given: 700 earned and cleared, 500 of them paid out, and 100 earned since
    book.hold(fan, 875)
    book.settle(creator, 700, 175)
    assert book.clear() == 1
    book.payout(creator, 500)
    book.hold(fan, 125, "req_2", "hold-2")
    book.settle(creator, 100, 25, "req_2", "settle-2")
    # when
    assert book.mark_bad(book.lot_ids(fan)[0]) == 1_000
    # then: 100 pending and 200 cleared came back; 500 are owed
    assert book.balances(creator) == {"debt": -500}
    assert book.platform("fees") == 0
    assert book.platform("gateway:sandbox") == 0
    book.check()


def test_a_settlement_with_bad_tokens_is_recovered_at_once(book: Book, fan: str, creator: str) -> None:
    book.hold(fan, 1_000)
    book.mark_bad(book.lot_ids(fan)[0])
    book.settle(creator, 400, 100)
    assert book.balances(fan) == book.balances(creator) == {}
    assert book.platform("gateway:sandbox") == 0
    book.check()


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
@pytest.mark.parametrize(("table", "column"), [("transfers", "reference"), ("entries", "amount")])
def test_history_cannot_be_changed(book: Book, fan: str, statement: str, table: str, column: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        book.database.run(lambda tx: tx.execute(text(statement.format(table, column, column))))
    assert book.balances(fan) == {"wallet": 1_000}


def test_a_refusal_in_a_transaction_leaves_nothing(book: Book, fan: str, now: datetime) -> None:
    def two_holds(tx: Session) -> None:
        ledger.hold(tx, fan, 900, key="hold-1", reference="req_1", cause_id="test", now=now)
        ledger.hold(tx, fan, 900, key="hold-2", reference="req_2", cause_id="test", now=now)

    with pytest.raises(DomainError):
        book.database.run(two_holds)
    assert book.balances(fan) == {"wallet": 1_000}
    book.check()


def _move(book: Book, words: str, entries: dict[str, int]) -> None:
    book.database.run(
        lambda tx: post(tx, "reverse", entries, key=words, reference=words, cause_id="test", now=book.now)
    )
