"""What happens to tokens after they were paid: refunds, withdrawals, clearing, payouts, disputes won and lost."""

from __future__ import annotations

from datetime import datetime

import pytest
from book import Book

from models.db import Database
from models.errors import Conflict, Invalid, NotFound, PaymentRequired


@pytest.fixture
def book(database: Database, now: datetime) -> Book:
    return Book(database, now)


@pytest.fixture
def paid(book: Book, fan: str, creator: str) -> Book:
    """500 of the fan's 1,000 tokens were held, 301 of them paid: 241 to the creator, 60 to fees."""
    book.hold(fan, 500)
    book.settle(creator, 241, 60)
    return book


# --- paying at once -------------------------------------------------------------------------------------


def test_a_tip_pays_at_once_with_its_commission_rounded_down(book: Book, fan: str, creator: str) -> None:
    first = book.pay(fan, creator, 99)
    assert book.pay(fan, creator, 99) == first
    assert (book.balances(fan), book.balances(creator)) == ({"wallet": 901}, {"earnings_pending": 80})
    assert book.platform("fees") == 19
    found = book.hold_of("tip_1")
    assert (found.status, found.earnings, found.commission, found.pending) == ("settled", 80, 19, 80)
    book.check()


def test_a_tip_beyond_the_wallet_is_refused_with_both_figures(book: Book, fan: str, creator: str) -> None:
    with pytest.raises(PaymentRequired) as refusal:
        book.pay(fan, creator, 1_001)
    assert refusal.value.fields == {"required": 1_001, "balance": 1_000}
    book.check()


# --- refunds --------------------------------------------------------------------------------------------


def test_a_refund_of_everything_undoes_the_settlement_once(paid: Book, fan: str, creator: str) -> None:
    first = paid.refund(None)
    assert paid.refund(None) == first
    assert (paid.balances(fan), paid.balances(creator), paid.platform("fees")) == ({"wallet": 1_000}, {}, 0)
    assert paid.lots(fan) == [(1_000, 0)]
    with pytest.raises(Conflict) as refusal:
        paid.refund(None, key="refund-2")
    assert refusal.value.code == "NOT_REVERSIBLE"
    paid.check()


def test_refunds_in_parts_take_the_whole_fee_back_and_not_a_token_more(paid: Book, fan: str, creator: str) -> None:
    for number in range(43):
        paid.refund(7, key=f"part-{number}")
        paid.check()
    assert (paid.balances(fan), paid.balances(creator), paid.platform("fees")) == ({"wallet": 1_000}, {}, 0)


def test_more_than_was_paid_is_not_refunded(paid: Book) -> None:
    paid.refund(300)
    with pytest.raises(Conflict) as refusal:
        paid.refund(2, key="refund-2")
    assert refusal.value.code == "NOT_REVERSIBLE"
    assert paid.hold_of().refundable == 1
    paid.check()


def test_what_was_never_paid_is_not_refunded(book: Book, fan: str) -> None:
    with pytest.raises(NotFound):
        book.refund(1, "req_unknown")
    book.hold(fan, 500)
    with pytest.raises(Conflict):
        book.refund(1)
    book.check()


def test_a_refund_comes_from_cleared_earnings_when_nothing_is_pending(paid: Book, fan: str, creator: str) -> None:
    paid.clear()
    paid.refund(None)
    assert (paid.balances(fan), paid.balances(creator)) == ({"wallet": 1_000}, {})
    paid.check()


def test_a_refund_that_the_creator_has_not_got_changes_nothing(paid: Book, fan: str, creator: str) -> None:
    paid.clear()
    paid.payout(creator, 100)
    with pytest.raises(Conflict) as refusal:
        paid.refund(None)
    assert refusal.value.code == "NOT_REVERSIBLE"
    assert (paid.balances(fan), paid.balances(creator)) == ({"wallet": 699}, {"earnings": 141})
    paid.check()


def test_a_refund_of_gifts_that_cleared_comes_back_from_promo(book: Book, fan: str, creator: str) -> None:
    # given: 1,000 bought and 100 given tokens paid; what the gift paid for went back to promo
    book.gift(fan, 100)
    book.hold(fan, 1_100)
    book.settle(creator, 880, 220)
    book.clear()
    assert (book.balances(creator), book.platform("promo")) == ({"earnings": 800}, -20)
    # when
    book.refund(100)
    book.check()
    # then: the gift's tokens are gifts again, and the creator has lost nothing by it
    assert (book.balances(creator), book.platform("promo")) == ({"earnings": 800}, -100)
    assert book.lots(fan) == [(0, 1_000), (100, 0)]
    book.refund(None, key="refund-2")
    assert (book.balances(creator), book.balances(fan)) == ({}, {"wallet": 1_100})
    book.check()


# --- unspent tokens -------------------------------------------------------------------------------------


def test_unspent_tokens_leave_the_house_once_and_come_back_when_refused(book: Book, fan: str) -> None:
    lot = book.lot_ids(fan)[0]
    first = book.withdraw(lot, 400)
    assert book.withdraw(lot, 400) == first
    assert (book.balances(fan), book.platform("gateway:sandbox")) == ({"wallet": 600}, -600)
    book.check()
    assert book.put_back(first) == book.put_back(first)
    assert (book.balances(fan), book.platform("gateway")) == ({"wallet": 1_000}, -1_000)
    book.check()


def test_only_unspent_tokens_of_a_good_purchase_are_withdrawn(book: Book, fan: str, creator: str) -> None:
    lot = book.lot_ids(fan)[0]
    book.hold(fan, 700)
    book.gift(fan, 50)
    for wanted, tokens in ((lot, 301), (f"gift:{fan}", 1)):
        with pytest.raises(Conflict) as refusal:
            book.withdraw(wanted, tokens)
        assert refusal.value.code == "NOT_UNSPENT"
    book.withdraw(lot, 300)
    book.release()
    book.mark_bad(lot)
    with pytest.raises(Conflict):
        book.withdraw(lot, 1, key="withdraw-2")
    book.check()


def test_what_is_put_back_into_a_bad_purchase_goes_on_to_its_gateway(book: Book, fan: str) -> None:
    lot = book.lot_ids(fan)[0]
    withdrawn = book.withdraw(lot, 400)
    book.mark_bad(lot)
    book.put_back(withdrawn)
    assert (book.balances(fan), book.platform("gateway:sandbox")) == ({}, 0)
    book.check()


def test_only_a_withdrawal_is_put_back_and_only_a_payout_returns(paid: Book, fan: str) -> None:
    held = paid.hold(fan, 1, "req_2", "hold-2")
    for undo in (paid.put_back, paid.payout_return):
        with pytest.raises(Invalid):
            undo(held)


# --- clearing and payouts -------------------------------------------------------------------------------


def test_earnings_clear_after_thirty_days_once(paid: Book, creator: str) -> None:
    assert paid.clear(29) == 0
    assert paid.balances(creator) == {"earnings_pending": 241}
    assert [paid.clear(1), paid.clear(0)] == [1, 0]
    assert paid.balances(creator) == {"earnings": 241}
    assert paid.hold_of().cleared_at == paid.now
    paid.check()


def test_what_is_contested_stays_pending(paid: Book, creator: str) -> None:
    from models import ledger

    paid.database.run(lambda tx: ledger.contest(tx, "req_1", paid.now))
    assert paid.clear(400) == 0
    assert paid.hold_of().contested
    paid.check()
    paid.database.run(lambda tx: ledger.uncontest(tx, "req_1"))
    assert paid.clear(0) == 1
    paid.check()


def test_what_gifts_paid_for_never_pays_out_rounded_up(book: Book, fan: str, creator: str) -> None:
    # given: 2 of 3 tokens were a gift, and the creator gets 2 of them
    book.withdraw(book.lot_ids(fan)[0], 999)
    book.gift(fan, 2)
    book.hold(fan, 3)
    book.settle(creator, 2, 1)
    # when
    book.clear()
    # then: 2 × 2 / 3, rounded up
    assert (book.balances(creator), book.platform("promo")) == ({}, 0)
    book.check()


def test_a_payout_takes_cleared_earnings_and_returns_when_it_fails(paid: Book, creator: str) -> None:
    with pytest.raises(PaymentRequired):
        paid.payout(creator, 1)
    paid.clear()
    first = paid.payout(creator, 241)
    assert paid.payout(creator, 241) == first
    assert (paid.balances(creator), paid.platform("payouts")) == ({}, 241)
    assert paid.payout_return(first) == paid.payout_return(first)
    assert (paid.balances(creator), paid.platform("payouts")) == ({"earnings": 241}, 0)
    paid.check()


# --- bad payments, and good ones again ------------------------------------------------------------------


def test_a_debt_is_paid_by_what_clears_next_and_by_payouts_that_return(paid: Book, fan: str, creator: str) -> None:
    # given: all of it paid out, then the payment is bad
    paid.clear()
    payout = paid.payout(creator, 241)
    paid.top_up(fan, 100, "pur_good")
    assert paid.mark_bad(paid.lot_ids(fan)[0]) == 1_000
    assert paid.balances(creator) == {"debt": -241}
    # when
    paid.pay(fan, creator, 100)
    paid.clear()
    assert paid.balances(creator) == {"debt": -161}
    paid.payout_return(payout)
    assert paid.balances(creator) == {"earnings": 80}
    paid.check()


def test_a_debt_can_become_our_loss_and_no_more_than_the_debt(paid: Book, fan: str, creator: str) -> None:
    paid.clear()
    paid.payout(creator, 241)
    paid.mark_bad(paid.lot_ids(fan)[0])
    with pytest.raises(Invalid):
        paid.write_off(creator, 242)
    first = paid.write_off(creator, 200)
    assert paid.write_off(creator, 200) == first
    assert (paid.balances(creator), paid.platform("chargeback_loss")) == ({"debt": -41}, -200)
    paid.check()


def test_a_dispute_that_is_won_returns_everything_to_where_it_was(paid: Book, fan: str, creator: str) -> None:
    lot = paid.lot_ids(fan)[0]
    before = (paid.balances(fan), paid.balances(creator), paid.platform("fees"), paid.lots(fan))
    for _ in range(2):
        assert paid.mark_bad(lot) == 1_000
        paid.check()
        assert [paid.good_again(lot), paid.good_again(lot)] == [1_000, 0]
        paid.check()
    assert (paid.balances(fan), paid.balances(creator), paid.platform("fees"), paid.lots(fan)) == before
    assert paid.hold_of().pending == 241


def test_what_was_taken_as_debt_returns_to_debt_then_loss_then_the_creator(
    paid: Book, fan: str, creator: str
) -> None:
    # given: 241 became debt; 100 were written off, 80 paid from new earnings, 61 are owed
    paid.clear()
    paid.payout(creator, 241)
    paid.top_up(fan, 100, "pur_good")
    lot = paid.lot_ids(fan)[0]
    paid.mark_bad(lot)
    paid.write_off(creator, 100)
    paid.pay(fan, creator, 100)
    paid.clear()
    assert paid.balances(creator) == {"debt": -61}
    # when
    paid.good_again(lot)
    # then
    assert paid.balances(creator) == {"earnings": 80}
    assert paid.platform("chargeback_loss") == 0
    paid.check()


def test_a_payment_that_is_bad_twice_repays_our_loss_although_its_first_win_paid_anothers_debt(
    book: Book, fan: str, creator: str
) -> None:
    # given: two purchases of 100 to the creator, 80 paid out; the first takes earnings, the second is a debt
    book.withdraw(book.lot_ids(fan)[0], 1_000)
    for number in (1, 2):
        book.top_up(fan, 100, f"pur_{number}")
        book.pay(fan, creator, 100, f"tip_{number}")
    book.clear()
    book.payout(creator, 80)
    for purchase in ("pur_1", "pur_2"):
        book.mark_bad(purchase)
    # and the first one's win pays the second one's debt; in the end all is as it was
    for purchase in ("pur_1", "pur_2"):
        book.good_again(purchase)
    assert book.balances(creator) == {"earnings": 80}
    # when: the rest is paid out, the first is bad once more, and its debt becomes our loss
    book.payout(creator, 80, "payout-2")
    book.mark_bad("pur_1")
    book.write_off(creator, 80)
    book.good_again("pur_1")
    # then
    assert (book.balances(creator), book.platform("chargeback_loss")) == ({}, 0)
    book.check()


def test_a_token_that_rounding_moves_between_bad_payments_is_not_our_loss(
    book: Book, fan: str, creator: str
) -> None:
    # given: a tip of 16 with a fee of 3, paid from lots of 1 and 15, all of its net owed and written off
    book.withdraw(book.lot_ids(fan)[0], 1_000)
    for number, tokens in ((1, 1), (2, 15)):
        book.top_up(fan, tokens, f"pur_{number}")
    book.pay(fan, creator, 16)
    book.clear()
    book.payout(creator, 13)
    taken = []
    for purchase in ("pur_1", "pur_2"):
        book.mark_bad(purchase)
        taken.append(-book.balances(creator)["debt"])
    assert taken == [1, 13]
    book.write_off(creator, 13)
    # when: the first one to be won gives nothing but fee back, though it had taken a token from the creator
    book.good_again("pur_1")
    assert (book.balances(creator), book.platform("chargeback_loss")) == ({}, -13)
    book.good_again("pur_2")
    # then
    assert (book.balances(creator), book.platform("chargeback_loss")) == ({}, 0)
    book.check()


def test_what_a_bad_payment_took_from_another_sessions_pending_earnings_is_found_there(
    book: Book, fan: str, creator: str
) -> None:
    # given: the first purchase's session cleared and was paid out; a second one is pending
    book.top_up(fan, 500, "pur_good")
    book.hold(fan, 1_000)
    book.settle(creator, 800, 200)
    book.clear()
    book.payout(creator, 800)
    book.pay(fan, creator, 500)
    # when
    book.mark_bad(book.lot_ids(fan)[0])
    # then: pending comes before debt, whichever session it is of
    assert book.balances(creator) == {"debt": -400}
    assert book.hold_of("tip_1").pending == 0
    book.check()
    # and the tip can no more be refunded: the creator has nothing
    with pytest.raises(Conflict):
        book.refund(None, "tip_1")
    book.good_again(book.lot_ids(fan)[0])
    assert book.balances(creator) == {"earnings_pending": 400}
    book.check()


def test_a_gift_has_no_payment_that_could_be_bad(book: Book, fan: str) -> None:
    book.gift(fan, 5)
    with pytest.raises(Invalid):
        book.mark_bad(f"gift:{fan}")


def test_tokens_near_the_end_of_64_bits_are_counted_exactly(book: Book, fan: str, creator: str) -> None:
    huge = 2**62 - 1_001
    book.top_up(fan, huge, "pur_huge")
    book.hold(fan, huge)
    book.settle(creator, huge // 3 * 2, huge - huge // 3 * 2)
    book.refund(huge // 7)
    book.check()
    book.mark_bad("pur_huge")
    book.check()
    book.good_again("pur_huge")
    book.check()
    book.clear()
    book.refund(None, key="refund-2")
    assert book.balances(fan) == {"wallet": huge + 1_000}
    assert (book.balances(creator), book.platform("fees")) == ({}, 0)
    book.check()
