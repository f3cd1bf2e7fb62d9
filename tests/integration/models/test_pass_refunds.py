"""A creator who blocks a fan gives back what is left of the pass; once, on both databases."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
from patrons import buy_pass, on_air, refused
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from stage import Stage
from together import crossing, until_it_waits_or_is_done

from models import ledger
from models.db import Database
from models.errors import Forbidden
from models.requests import RequestRow
from models.services import accounts, blocks, pass_refunds, passes, streams
from models.services.accounts import Person
from models.services.locks import locked
from models.subscriptions import PassRow
from tests.databases import Databases


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def sold(stage: Stage, price: int = 40) -> tuple[Person, Person]:
    """A creator, and a fan who has bought a pass just now."""
    stage.node_ready()
    stage.heartbeat()
    creator, fan = on_air(stage, price), stage.fan(100)
    buy_pass(stage, fan, creator)
    return creator, fan


def block(stage: Stage, creator: Person, fan: Person) -> None:
    stage.run(lambda tx: blocks.block(tx, creator.user_id, fan.user_id, stage.now))


def row_of(stage: Stage) -> PassRow:
    with stage.database.reading() as tx:
        row = tx.scalars(select(PassRow)).one()
        tx.expunge_all()
        return row


def clock(stage: Stage) -> None:
    stage.run(lambda tx: pass_refunds.give_back_due(tx, stage.now))


@pytest.mark.parametrize(
    ("after", "fan_has", "creator_has"),
    [
        (timedelta(), 100, 0),
        (timedelta(seconds=1), 100, 0),
        (timedelta(hours=12), 80, 16),
        (timedelta(hours=12, seconds=1), 80, 16),
        (timedelta(hours=23, minutes=59), 61, 31),
        (timedelta(hours=24), 60, 32),
    ],
    ids=["at once", "a second", "half", "rounded in the fan's favour", "the last minute", "used up"],
)
def test_what_is_unused_comes_back_with_its_commission(
    stage: Stage, after: timedelta, fan_has: int, creator_has: int
) -> None:
    creator, fan = sold(stage)
    stage.now += after
    # when, also twice
    for _ in range(2):
        block(stage, creator, fan)
    clock(stage)
    # then
    assert (stage.balances(fan)["wallet"], stage.balances(creator)["earnings_pending"]) == (fan_has, creator_has)
    kinds = [each.kind for each in stage.run(lambda tx: ledger.transfers_of(tx, row_of(stage).id))]
    assert sorted(kinds) == (["pass", "reverse"] if fan_has > 60 else ["pass"])
    stage.audit()


def test_a_pass_that_was_given_back_is_void_for_good(stage: Stage) -> None:
    creator, fan = sold(stage)
    block(stage, creator, fan)
    stage.run(lambda tx: accounts.unblock(tx, creator.user_id, fan.user_id))
    assert not stage.run(lambda tx: passes.is_valid(tx, fan.user_id, creator.user_id, stage.now))
    assert len(stage.told(fan, "PASS_CHANGED")) == 2
    # and another may be bought
    buy_pass(stage, fan, creator, "again")
    assert stage.balances(fan)["wallet"] == 60


def test_what_the_bank_has_taken_back_is_given_back_when_it_turns_out_good(stage: Stage) -> None:
    creator, fan = sold(stage)
    pass_id, lot = row_of(stage).id, f"pur_{fan.handle}"
    stage.run(lambda tx: passes.payment_taken_back(tx, pass_id, stage.now))
    stage.run(lambda tx: ledger.mark_lot_bad(tx, lot, cause_id="test", now=stage.now))
    stage.later(hours=6)
    block(stage, creator, fan)
    clock(stage)
    assert (stage.balances(fan)["wallet"], row_of(stage).refund_due_at) == (0, None)
    # then as much as was unused at the block, however late, and once
    stage.later(hours=30)
    for _ in range(2):
        stage.run(lambda tx: passes.payment_good_again(tx, pass_id, stage.now))
        stage.run(lambda tx: ledger.lot_good_again(tx, lot, cause_id="test", now=stage.now))
        clock(stage)
        clock(stage)
    assert stage.balances(fan)["wallet"] == 90
    assert row_of(stage).refund_due_at is None
    stage.audit()


@pytest.mark.parametrize(
    ("bad", "hours", "at_the_block", "then"),
    [
        ((0,), 0, 20, (40,)),
        ((0,), 12, 20, (20,)),
        ((1,), 18, 10, (10,)),
        ((1,), 6, 20, (30,)),
        ((0, 1), 0, 0, (20, 40)),
        ((0, 1), 12, 0, (20, 20)),
        ((0, 1), 6, 0, (20, 30)),
    ],
)
def test_what_good_tokens_paid_comes_back_and_never_more_than_was_unused(
    stage: Stage, bad: tuple[int, ...], hours: int, at_the_block: int, then: tuple[int, ...]
) -> None:
    """Two payments of 20 tokens each bought the pass; the bank takes back some, and decides one by one for us."""
    stage.node_ready()
    stage.heartbeat()
    creator, fan = on_air(stage), stage.fan(20)
    lots = (f"pur_{fan.handle}", "pur_second")
    stage.run(lambda tx: stage._buy(tx, fan.user_id, 20, lots[1]))
    pass_id = buy_pass(stage, fan, creator).pass_id
    for each in bad:
        stage.run(lambda tx: passes.payment_taken_back(tx, pass_id, stage.now))
        stage.run(lambda tx, lot=lots[each]: ledger.mark_lot_bad(tx, lot, cause_id="test", now=stage.now))  # type: ignore[misc]
    # when
    stage.later(hours=hours)
    block(stage, creator, fan)
    clock(stage)
    # then
    assert (stage.balances(fan)["wallet"], row_of(stage).refund_due_at) == (at_the_block, None)
    for left, each, wallet in zip(reversed(range(len(bad))), bad, then, strict=True):
        stage.run(lambda tx, wholly=not left: passes.payment_good_again(tx, pass_id, stage.now, wholly=wholly))  # type: ignore[misc]
        stage.run(lambda tx, lot=lots[each]: ledger.lot_good_again(tx, lot, cause_id="test", now=stage.now))  # type: ignore[misc]
        clock(stage)
        clock(stage)
        assert (stage.balances(fan)["wallet"], row_of(stage).refund_due_at) == (wallet, None)
    stage.audit()


def test_what_was_given_back_before_the_block_is_no_part_of_the_unused_time(stage: Stage) -> None:
    creator, fan = sold(stage)
    pass_id = row_of(stage).id
    stage.run(lambda tx: ledger.refund(tx, pass_id, 10, key="kind", cause_id="test", now=stage.now))
    stage.later(hours=12)
    block(stage, creator, fan)
    clock(stage)
    assert stage.balances(fan)["wallet"] == 90
    stage.audit()


def test_what_the_creator_has_not_got_is_owed_and_the_block_stands(stage: Stage) -> None:
    creator, fan = sold(stage)
    # given earnings that are paid out already
    stage.run(lambda tx: ledger.clear_due(tx, stage.now + timedelta(days=31)))
    stage.run(
        lambda tx: ledger.payout(
            tx, creator.user_id, 32, key="out", reference="out", cause_id="test", now=stage.now
        )
    )
    block(stage, creator, fan)
    clock(stage)
    assert stage.run(lambda tx: accounts.is_blocked(tx, creator.user_id, fan.user_id))
    assert stage.balances(fan)["wallet"] == 60
    assert row_of(stage).refund_due_at == stage.now
    # when they have earned again, a day later
    stage.later(days=1)
    other = stage.fan(100)
    stage.run(
        lambda tx: ledger.pay(
            tx, other.user_id, creator_id=creator.user_id, amount=100, commission_percent=0, kind="tip",
            key="earned", reference="earned", cause_id="test", now=stage.now,
        )
    )  # fmt: skip
    clock(stage)
    assert (stage.balances(fan)["wallet"], row_of(stage).refund_due_at) == (100, None)
    stage.audit()


def test_who_is_blocked_in_the_moment_of_buying_has_not_bought(postgres_databases: Databases) -> None:
    with crossing(postgres_databases) as (stage, pool, watching):
        creator, fan = on_air(stage), stage.fan(100)
        wishes: list[Future[Any]] = []

        def work(tx: Any) -> None:
            blocks.block(tx, creator.user_id, fan.user_id, stage.now)
            wishes.append(pool.submit(buy_pass, stage, fan, creator))
            until_it_waits_or_is_done(watching, wishes[0])

        stage.run(work)
        with pytest.raises(Forbidden) as refusal:
            wishes[0].result(60)
        assert refusal.value.code == "BLOCKED"
        refused("BLOCKED", buy_pass, stage, fan, creator)
        assert stage.balances(fan)["wallet"] == 100


def test_a_block_takes_requests_before_accounts(postgres_databases: Databases) -> None:
    """As everybody does: who has the request and wants the fan's wallet waits for nobody who waits for them."""
    with crossing(postgres_databases) as (stage, pool, watching):
        creator, fan = on_air(stage), stage.fan(1_000)
        buy_pass(stage, fan, creator)
        stream = stage.run(lambda tx: streams.stream_of(tx, creator.user_id, stage.now))
        assert stream is not None
        request = stage.ask(fan, stream, 5)
        wishes: list[Future[Any]] = []

        def work(tx: Session) -> None:
            assert locked(tx, RequestRow, request.request_id) is not None
            wishes.append(pool.submit(block, stage, creator, fan))
            until_it_waits_or_is_done(watching, wishes[0])
            assert not wishes[0].done()
            theirs = {"wallet": f"wallet:{fan.user_id}"}
            tx.execute(text("SELECT id FROM accounts WHERE id = :wallet FOR NO KEY UPDATE NOWAIT"), theirs)

        stage.run(work)
        wishes[0].result(60)
        assert stage.balances(fan) | {"wallet": 1_000, "held": 0} == stage.balances(fan)
        stage.audit()
