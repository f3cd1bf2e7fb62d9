"""The ledger against a model of a few lines: movements in any order, all invariants after each step.

The model knows what each wallet, hold and creator should have while no payment is bad, and at all times what
each creator was paid in all; the books' own audit knows the rest.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import hypothesis
import pytest
from book import Book
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import ledger
from models.audit import books_problems
from models.books import HoldRow
from models.db import Database
from models.errors import Conflict, Invalid, PaymentRequired
from models.services import accounts
from tests.effort import examples

_numbers = itertools.count()
# Mostly small, so that they meet each other; some near what 64 bits hold.
AMOUNTS = st.one_of(st.integers(1, 300), st.integers(1, 7), st.integers(1, 7), st.integers(2**58, 2**59))
SHARES = st.one_of(st.integers(0, 100), st.sampled_from((50, 100)))
WHO = st.integers(0, 1)


class LedgerMachine(RuleBasedStateMachine):
    """Two fans who buy, hold, tip and are charged; two creators who earn and are paid out; bad payments."""

    purchases = Bundle("purchases")
    holds = Bundle("holds")
    payments = Bundle("payments")
    withdrawals = Bundle("withdrawals")
    payouts = Bundle("payouts")

    def __init__(self, new_database: Callable[[], Database], now: datetime) -> None:
        super().__init__()
        self.book = Book(new_database(), now)
        self.fans = [self._person("fan"), self._person("fan")]
        self.creators = [self._person("creator"), self._person("creator")]
        self.wallet = dict.fromkeys(self.fans, 0)
        self.held: dict[str, int] = {}
        self.owner: dict[str, str] = {}
        self.payee: dict[str, str] = {}
        self.paid: dict[str, tuple[int, int]] = {}
        self.withdrawn: dict[str, tuple[str, int, bool]] = {}
        self.paid_out = dict.fromkeys(self.creators, 0)
        self.returned: set[str] = set()
        # Of refunds while a part of the payment was bad: what their rounding left the creator, and is owed.
        self.rounding = dict.fromkeys(self.creators, 0)
        # While a purchase of a fan is bad, what comes back where is the audit's to say.
        self.bad: set[str] = set()

    @initialize(target=purchases, gifts=st.booleans(), tokens=st.integers(100, 400))
    def begin(self, gifts: bool, tokens: int) -> object:
        """Nothing can be done without tokens."""
        if gifts:
            self.gift(0, tokens)
        return multiple(*(self.top_up(fan, tokens, False) for fan in (0, 1)))

    # --- tokens come and go ------------------------------------------------------------------------------

    @rule(target=purchases, fan=WHO, tokens=AMOUNTS, twice=st.booleans())
    def top_up(self, fan: int, tokens: int, twice: bool) -> str:
        purchase_id, owner = f"pur_{next(_numbers)}", self.fans[fan]
        for _ in range(1 + twice):
            self.book.top_up(owner, tokens, purchase_id)
        self.wallet[owner] += tokens
        return purchase_id

    @rule(target=purchases, fan=WHO, creator=WHO, tokens=st.integers(5, 500), out=st.booleans())
    def earn_and_clear(self, fan: int, creator: int, tokens: int, out: bool) -> str:
        """A purchase that is spent whole, cleared and perhaps paid out: what late disputes are about."""
        purchase_id = self.top_up(fan, tokens, False)
        self.pay(fan, creator, 100, False)
        self.clear(31)
        if out:
            self.payout(creator, 100, False)
        return purchase_id

    @rule(fan=WHO, tokens=st.integers(1, 50))
    def gift(self, fan: int, tokens: int) -> None:
        key = f"gift:{next(_numbers)}"
        self.book.database.run(
            lambda tx: ledger.gift(tx, self.fans[fan], tokens, key=key, cause_id="test", now=self.book.now)
        )
        self.wallet[self.fans[fan]] += tokens

    @rule(target=withdrawals, purchase_id=purchases, tokens=AMOUNTS, twice=st.booleans())
    def withdraw(self, purchase_id: str, tokens: int, twice: bool) -> object:
        key = f"withdraw-{next(_numbers)}"
        try:
            transfer = self.book.withdraw(purchase_id, tokens, key)
        except Conflict:
            return multiple()
        if twice:
            assert self.book.withdraw(purchase_id, tokens, key) == transfer
        owner = transfer.entries[0].account.partition(":")[2]
        self.wallet[owner] -= tokens
        self.withdrawn[transfer.transfer_id] = (owner, tokens, False)
        return transfer

    @rule(transfer=withdrawals)
    def put_back(self, transfer: ledger.Transfer) -> None:
        self.book.put_back(transfer)
        owner, tokens, done = self.withdrawn[transfer.transfer_id]
        self.wallet[owner] += 0 if done else tokens
        self.withdrawn[transfer.transfer_id] = (owner, tokens, True)

    # --- holds and payments ------------------------------------------------------------------------------

    @rule(target=holds, fan=WHO, share=SHARES, twice=st.booleans())
    def hold(self, fan: int, share: int, twice: bool) -> object:
        reference = f"req_{next(_numbers)}"
        amount = self._available(self.fans[fan]) * share // 100 or 1
        if not self._hold(self.fans[fan], amount, reference, twice):
            return multiple()
        self.owner[reference] = self.fans[fan]
        self.held[reference] = amount
        return reference

    @rule(reference=holds, amount=AMOUNTS, twice=st.booleans())
    def hold_more(self, reference: str, amount: int, twice: bool) -> None:
        if reference in self.paid:
            with pytest.raises((Conflict, PaymentRequired)):
                self.book.hold(self.owner[reference], amount, reference, f"more-{next(_numbers)}")
            return
        if self._hold(self.owner[reference], amount, reference, twice):
            self.held[reference] += amount

    @rule(reference=holds, share=SHARES, twice=st.booleans())
    def release(self, reference: str, share: int, twice: bool) -> None:
        amount, key = self.held[reference] * share // 100 or self.held[reference], f"release-{next(_numbers)}"
        if self.held[reference] == 0:
            with pytest.raises(Conflict):
                self.book.release(reference, key)
            return
        for _ in range(1 + twice):
            self.book.release(reference, key, amount=amount)
        self.held[reference] -= amount
        self.wallet[self.owner[reference]] += amount

    @rule(target=payments, reference=holds, creator=WHO, paid=SHARES, fee=SHARES, twice=st.booleans())
    def settle(self, reference: str, creator: int, paid: int, fee: int, twice: bool) -> object:
        held, payee, key = self.held[reference], self.creators[creator], f"settle-{next(_numbers)}"
        charged = held * paid // 100
        commission = charged * fee // 100
        arguments = (payee, charged - commission, commission, reference, key)
        if held == 0:
            with pytest.raises(Conflict):
                self.book.settle(*arguments)
            return multiple()
        transfer = self.book.settle(*arguments)
        if twice:
            assert self.book.settle(*arguments) == transfer
        self.held[reference] = 0
        self.wallet[self.owner[reference]] += held - charged
        self.payee[reference], self.paid[reference] = payee, (charged - commission, commission)
        return reference

    @rule(target=payments, fan=WHO, creator=WHO, share=SHARES, twice=st.booleans())
    def pay(self, fan: int, creator: int, share: int, twice: bool) -> object:
        reference, owner, payee = f"tip_{next(_numbers)}", self.fans[fan], self.creators[creator]
        available = self._available(owner)
        with pytest.raises((PaymentRequired, Invalid)):
            self.book.pay(owner, payee, available + 1, reference)
        amount = available * share // 100
        if amount == 0:
            return multiple()
        for _ in range(1 + twice):
            self.book.pay(owner, payee, amount, reference)
        commission = amount * 20 // 100
        self.wallet[owner] -= amount
        self.owner[reference], self.payee[reference] = owner, payee
        self.paid[reference] = (amount - commission, commission)
        return reference

    @rule(reference=payments, share=st.one_of(st.integers(1, 110), st.none()), twice=st.booleans())
    def refund(self, reference: str, share: int | None, twice: bool) -> None:
        key, before = f"refund-{next(_numbers)}", self.book.hold_of(reference)
        tokens = None if share is None else before.refundable * share // 100 or 1
        amount = before.refundable if tokens is None else tokens
        try:
            transfer = self.book.refund(tokens, reference, key)
        except Conflict:
            balances = self.book.balances(self.payee[reference])
            has = balances.get("earnings_pending", 0) + balances.get("earnings", 0)
            # Promo gives its part of what gifts paid for.
            assert amount == 0 or amount > before.refundable or has < amount
            return
        if twice:
            assert self.book.refund(tokens, reference, key) == transfer
        after = self.book.hold_of(reference)
        assert after.refunded == before.refunded + amount
        self.rounding[self.payee[reference]] += max(0, self._would_return(before) - self._would_return(after))
        self.wallet[self.owner[reference]] += amount

    # --- time, complaints, payouts ------------------------------------------------------------------------

    @rule(days=st.sampled_from((0, 1, 31)))
    def clear(self, days: int) -> None:
        by = self.book.now + timedelta(days=days)
        before = {reference: self.book.hold_of(reference) for reference in self.paid}
        gifts = {reference: (self._gifts(reference), self._gift_tokens(reference)) for reference in self.paid}
        self.book.clear(days)
        assert self.book.clear(0) == 0
        for reference, was in before.items():
            due = not was.contested and was.clears_at is not None and was.clears_at <= by
            assert self.book.hold_of(reference).pending == (0 if due else was.pending)
            if due and was.pending:
                returned, given = gifts[reference]
                net = was.earnings - (was.recovered + was.refunded) * was.earnings // (
                    was.earnings + was.commission
                )
                least = min(was.pending, max(0, net * given // was.refundable - returned - 1))
                assert self._gifts(reference) - returned >= least
                assert given or self._gifts(reference) == returned

    @rule(reference=payments, contested=st.booleans())
    def complain(self, reference: str, contested: bool) -> None:
        def change(tx: Session) -> None:
            if contested:
                ledger.contest(tx, reference, self.book.now)
            else:
                ledger.uncontest(tx, reference)

        self.book.database.run(change)

    @rule(target=payouts, creator=WHO, share=SHARES, twice=st.booleans())
    def payout(self, creator: int, share: int, twice: bool) -> object:
        payee, key = self.creators[creator], f"payout-{next(_numbers)}"
        earnings = self.book.balances(payee).get("earnings", 0)
        with pytest.raises((PaymentRequired, Invalid)):
            self.book.payout(payee, earnings + 1, f"{key}-too-much")
        tokens = earnings * share // 100
        if tokens == 0:
            return multiple()
        transfer = self.book.payout(payee, tokens, key)
        if twice:
            assert self.book.payout(payee, tokens, key) == transfer
        self.paid_out[payee] += tokens
        return transfer

    @rule(transfer=payouts)
    def payout_fails(self, transfer: ledger.Transfer) -> None:
        self.book.payout_return(transfer)
        if transfer.transfer_id not in self.returned:
            self.returned.add(transfer.transfer_id)
            paid = transfer.entries[0]
            self.paid_out[paid.account.partition(":")[2]] += paid.amount

    # --- bad payments -------------------------------------------------------------------------------------

    @rule(purchase_id=purchases, twice=st.booleans())
    def turn_bad(self, purchase_id: str, twice: bool) -> None:
        self.book.mark_bad(purchase_id)
        if twice:
            assert self.book.mark_bad(purchase_id) == 0
        self.bad.add(purchase_id)
        self._look_again()

    @rule(purchase_id=purchases)
    def win_dispute(self, purchase_id: str) -> None:
        self.book.good_again(purchase_id)
        assert self.book.good_again(purchase_id) == 0
        self.bad.discard(purchase_id)
        self._look_again()

    @rule(creator=WHO, share=SHARES)
    def write_off(self, creator: int, share: int) -> None:
        payee = self.creators[creator]
        tokens = -self.book.balances(payee).get("debt", 0) * share // 100
        if tokens:
            self.book.write_off(payee, tokens, f"loss-{next(_numbers)}")

    # --- what holds always --------------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        with self.book.database.reading() as tx:
            assert books_problems(tx) == ()

    @invariant()
    def each_fan_has_what_the_model_says(self) -> None:
        for fan in self.fans:
            found = self.book.balances(fan)
            held = sum(tokens for reference, tokens in self.held.items() if self.owner[reference] == fan)
            assert found.get("held", 0) == held
            if not self.bad:
                assert found.get("wallet", 0) == self.wallet[fan]

    @invariant()
    def each_creator_was_paid_what_the_holds_say(self) -> None:
        """Pending, cleared, owed, paid out and lost: together the net of all payments, whatever came between."""
        for creator in self.creators:
            found = self.book.balances(creator)
            has = sum(found.get(kind, 0) for kind in ("earnings_pending", "earnings", "debt"))
            lost = self.book.platform(f"chargeback_loss:{creator}")
            net = 0
            for reference, payee in self.payee.items():
                if payee == creator:
                    hold, (earnings, commission) = self.book.hold_of(reference), self.paid[reference]
                    assert (hold.earnings, hold.commission) == (earnings, commission)
                    back = hold.recovered + hold.refunded
                    fee = back * commission // (earnings + commission) if back else 0
                    net += earnings - (back - fee) - self._gifts(reference)
            assert has + self.paid_out[creator] + lost == net

    def teardown(self) -> None:
        """Every won dispute restores what was taken: with all payments good, the model is right again."""
        for purchase_id in sorted(self.bad):
            self.book.good_again(purchase_id)
        self.bad.clear()
        self.the_books_are_right()
        self.each_creator_was_paid_what_the_holds_say()
        assert not any(self.book.hold_of(reference).recovered for reference in self.paid)
        for creator in self.creators:
            owed = -self.book.balances(creator).get("debt", 0)
            lost = -self.book.platform(f"chargeback_loss:{creator}")
            # A refund takes its part of the fee by the sum of all that was taken back until then, the bad part
            # too. A token of fee that so went to the refund and not to the bad part is a token less that the
            # won dispute returns: the creator, who was paid it, owes it on, unless that was written off.
            assert min(owed, lost) >= 0
            assert owed + lost <= self.rounding[creator]

    def _would_return(self, hold: ledger.HoldView) -> int:
        """What the creator gets back of a payment when none behind it is bad any more; gifts' part included."""
        back, paid = hold.recovered + hold.refunded, hold.earnings + hold.commission
        return hold.recovered - back * hold.commission // paid + hold.refunded * hold.commission // paid

    def _look_again(self) -> None:
        """What bad payments did to wallets, the audit judges; afterwards the model goes on from there."""
        for fan in self.fans:
            self.wallet[fan] = self.book.balances(fan).get("wallet", 0)

    def _gifts(self, reference: str) -> int:
        with self.book.database.reading() as tx:
            return tx.get_one(HoldRow, reference).promo

    def _gift_tokens(self, reference: str) -> int:
        """How many gift tokens paid."""
        with self.book.database.reading() as tx:
            query = (
                "SELECT COALESCE(SUM(u.spent - u.recovered), 0) FROM lot_uses u"
                " JOIN token_lots l ON l.id = u.lot_id WHERE l.source = 'promo' AND u.reference = :reference"
            )
            return int(tx.execute(text(query), {"reference": reference}).scalar_one())

    def _available(self, fan: str) -> int:
        return self.book.balances(fan).get("wallet", 0)

    def _hold(self, fan: str, amount: int, reference: str, twice: bool) -> bool:
        key = f"hold-{next(_numbers)}"
        if amount > self._available(fan):
            with pytest.raises(PaymentRequired):
                self.book.hold(fan, amount, reference, key)
            return False
        for _ in range(1 + twice):
            self.book.hold(fan, amount, reference, key)
        self.wallet[fan] -= amount
        return True

    def _person(self, role: str) -> str:
        name = f"{role}_{next(_numbers)}"
        return self.book.database.run(
            lambda tx: accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",
                roles=(role,),
                now=self.book.now,
            )
        ).user_id


@pytest.fixture
def new_database(
    database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Database]]:
    """Makes an empty database; so that examples do not see each other's tokens and can be replayed alone."""
    with ExitStack() as made:

        def make() -> Database:
            made.close()
            if database_url.startswith("sqlite"):
                url = f"sqlite:///{tmp_path / f'ledger{next(_numbers)}'}"
                shutil.copy(request.getfixturevalue("sqlite_template"), url.removeprefix("sqlite:///"))
            else:
                url = made.enter_context(request.getfixturevalue("postgres_databases").lent()).url
            database = Database(url)
            made.callback(database.close)
            return database

        yield make


def _run(new_database: Callable[[], Database], now: datetime, tries: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: LedgerMachine(new_database, now + timedelta()),
        settings=hypothesis.settings(
            max_examples=tries,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
def test_any_order_of_movements_keeps_the_books(new_database: Callable[[], Database], now: datetime) -> None:
    _run(new_database, now, tries=examples(12), steps=30)


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_very_many_orders_of_movements_keep_the_books(new_database: Callable[[], Database], now: datetime) -> None:
    _run(new_database, now, tries=150, steps=60)
