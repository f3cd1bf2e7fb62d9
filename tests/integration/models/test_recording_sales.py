"""Paying for a recording, deleting it, and getting back what was paid for one that is gone; both databases."""

from __future__ import annotations

from typing import Any

import pytest
from filmed import both_agree, kept, ready, row, seen
from patrons import refused
from stage import Call, Stage
from together import outcomes

from models import ledger
from models.db import Database
from models.services import recording_ends, recording_sales, recording_work
from models.services.accounts import Person


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def buy(stage: Stage, call: Call, price: int = 200, person: Person | None = None) -> None:
    fan_id = (person or call.fan).user_id
    recording_id = row(stage, call).id
    stage.run(
        lambda tx: recording_sales.buy(
            tx, recording_id, fan_id=fan_id, price=price, cause_id="test", now=stage.now
        )
    )


def delete(stage: Stage, call: Call, person: Person) -> None:
    recording_id = row(stage, call).id
    stage.run(lambda tx: recording_sales.delete(tx, recording_id, person_id=person.user_id, now=stage.now))


def refund(stage: Stage) -> int:
    return stage.run(lambda tx: recording_sales.refund_due(tx, stage.now))


def wallet(stage: Stage, person: Person) -> int:
    return stage.balances(person)["wallet"]


def test_the_fan_pays_what_was_agreed_once_and_the_creator_nothing(stage: Stage) -> None:
    call = kept(stage)
    had, pending = wallet(stage, call.fan), stage.balances(call.creator)["earnings_pending"]
    assert (seen(stage, call, call.fan).may_watch, seen(stage, call, call.creator).may_watch) == (False, True)
    refused("PRICE_CHANGED", buy, stage, call, 199)
    # when twice, and both at once
    assert outcomes(lambda: buy(stage, call), lambda: buy(stage, call)) == ["done", "done"]
    buy(stage, call)
    # then once, with the session's commission
    assert wallet(stage, call.fan) == had - 200
    assert stage.balances(call.creator)["earnings_pending"] == pending + 160
    [transfer] = [each for each in transfers(stage, call) if each.kind == "recording"]
    assert sum(entry.amount for entry in transfer.entries) == 0
    assert seen(stage, call, call.fan).may_watch
    stage.audit()


def transfers(stage: Stage, call: Call) -> tuple[ledger.Transfer, ...]:
    with stage.database.reading() as tx:
        return tuple(ledger.transfers_of(tx, row(stage, call).id))


def test_what_cannot_be_bought(stage: Stage) -> None:
    call = both_agree(stage)
    held = ready(stage, call)
    for person in (call.creator, stage.fan(), stage.admin().person):
        refused("NOT_FOUND", buy, stage, call, person=person)
    refused("RECORDING_NOT_READY", buy, stage, call)
    assert held
    refused("RECORDING_NOT_SHARED", buy, stage, kept(stage, shared=False))
    refused("RECORDING_FREE", buy, stage, kept(stage, price=0), 0)
    poor = kept(stage, price=1_500, tokens=1_000)
    refused("INSUFFICIENT_TOKENS", buy, stage, poor, 1_500)
    gone = kept(stage)
    delete(stage, gone, gone.creator)
    refused("RECORDING_GONE", buy, stage, gone)
    stage.audit()


def test_who_may_watch(stage: Stage) -> None:
    free, mine = kept(stage, price=0), kept(stage, shared=False, price=0)
    assert seen(stage, free, free.fan).may_watch
    assert not seen(stage, mine, mine.fan).may_watch
    assert seen(stage, mine, mine.creator).may_watch


def test_the_creator_deletes_and_the_fan_is_given_back(stage: Stage) -> None:
    call = kept(stage)
    had, pending = wallet(stage, call.fan), stage.balances(call.creator)["earnings_pending"]
    buy(stage, call)
    delete(stage, call, call.creator)
    assert (seen(stage, call, call.fan).may_watch, seen(stage, call, call.fan).refund) == (False, "due")
    assert refund(stage) == 1
    assert refund(stage) == 0
    assert (wallet(stage, call.fan), stage.balances(call.creator)["earnings_pending"]) == (had, pending)
    assert seen(stage, call, call.fan).refund == "given"
    assert stage.told(call.fan, "REFUND_GIVEN")[-1]["tokens"] == 200
    # and again is the same
    delete(stage, call, call.creator)
    assert refund(stage) == 0
    stage.audit()


def test_the_fan_deletes_and_nothing_comes_back(stage: Stage) -> None:
    call = kept(stage)
    buy(stage, call)
    had = wallet(stage, call.fan)
    delete(stage, call, call.fan)
    assert refund(stage) == 0
    assert wallet(stage, call.fan) == had
    assert (row(stage, call).gone_reason, seen(stage, call, call.fan).gone_by_me) == ("deleted", True)
    assert not seen(stage, call, call.creator).may_watch
    # nor when it expires
    other = kept(stage)
    buy(stage, other)
    stage.later(days=30)
    stage.run(lambda tx: recording_ends.expire_due(tx, stage.now))
    assert (row(stage, other).gone_reason, refund(stage)) == ("expired", 0)


def test_a_file_that_was_lost_is_given_back(stage: Stage) -> None:
    call = kept(stage)
    had = wallet(stage, call.fan)
    buy(stage, call)
    recording_id = row(stage, call).id
    assert stage.run(lambda tx: recording_work.kept_by(tx, "worker_1")) == {recording_id: ""}
    assert stage.run(lambda tx: recording_work.kept_by(tx, "worker_2")) == {}
    stage.run(lambda tx: recording_work.lost(tx, recording_id, stage.now))
    stage.run(lambda tx: recording_work.lost(tx, recording_id, stage.now))
    assert (row(stage, call).gone_reason, refund(stage), wallet(stage, call.fan)) == ("lost", 1, had)
    stage.audit()


def test_a_creator_who_has_not_got_it_owes_it_and_deletes_all_the_same(stage: Stage) -> None:
    call = kept(stage)
    buy(stage, call)
    had = wallet(stage, call.fan)
    # given that the creator's earnings have cleared and were paid out
    stage.later(days=31)
    stage.run(lambda tx: ledger.clear_due(tx, stage.now))
    paid_out = stage.balances(call.creator)["earnings"]
    stage.run(
        lambda tx: ledger.payout(
            tx, call.creator.user_id, paid_out, key="out", reference="out", cause_id="test", now=stage.now
        )
    )
    delete(stage, call, call.creator)
    assert row(stage, call).status == "gone"
    refund(stage)
    assert (wallet(stage, call.fan), seen(stage, call, call.fan).refund) == (had, "due")
    # when the creator earns again
    again = stage.running(tokens=5_000)
    assert again.creator.user_id != call.creator.user_id
    earn(stage, call.creator)
    refund(stage)
    assert (wallet(stage, call.fan), seen(stage, call, call.fan).refund) == (had + 200, "given")
    stage.audit()


def earn(stage: Stage, creator: Person) -> None:
    fan = stage.fan(1_000)
    options: dict[str, Any] = {"key": "earned", "reference": "earned", "cause_id": "test", "now": stage.now}
    stage.run(
        lambda tx: ledger.pay(
            tx, fan.user_id, creator_id=creator.user_id, amount=1_000, commission_percent=20, kind="tip", **options
        )
    )


def test_a_payment_that_was_bad_pays_for_nothing(stage: Stage) -> None:
    call = kept(stage)
    buy(stage, call)
    recording_id = row(stage, call).id
    for reference, watches in (
        ("rec_other", True),
        ("pas_other", True),
        (recording_id, False),
        (recording_id, False),
    ):
        stage.run(lambda tx, it=reference: recording_sales.payment_taken_back(tx, it, stage.now))  # type: ignore[misc]
        assert seen(stage, call, call.fan).may_watch is watches
    assert seen(stage, call, call.creator).may_watch
    buy(stage, call)
    assert not seen(stage, call, call.fan).may_watch, "what was taken back is not bought by asking again"
    # when the bank decides otherwise
    stage.run(lambda tx: recording_sales.payment_good_again(tx, recording_id, stage.now))
    assert seen(stage, call, call.fan).may_watch


def lot_of(call: Call) -> str:
    return f"pur_{call.fan.handle}"


def test_what_was_deleted_while_its_payment_was_disputed_is_given_back_once_that_is_won(stage: Stage) -> None:
    call = kept(stage)
    had = wallet(stage, call.fan)
    buy(stage, call)
    recording_id, now = row(stage, call).id, stage.now
    # given a dispute, and a creator who deletes the recording meanwhile
    stage.run(lambda tx: ledger.mark_lot_bad(tx, lot_of(call), cause_id="test", now=now))
    stage.run(lambda tx: recording_sales.payment_taken_back(tx, recording_id, now))
    delete(stage, call, call.creator)
    refund(stage)
    assert seen(stage, call, call.fan).refund == "none"
    stage.audit()
    # when the dispute is won, and the creator has the price again
    stage.run(lambda tx: recording_sales.payment_good_again(tx, recording_id, now))
    stage.run(lambda tx: ledger.lot_good_again(tx, lot_of(call), cause_id="test", now=now))
    # then it is the fan's
    assert refund(stage) == 1
    assert (wallet(stage, call.fan), seen(stage, call, call.fan).refund) == (had, "given")
    assert refund(stage) == 0
    stage.audit()


def test_what_runs_is_stopped_before_it_is_deleted(stage: Stage) -> None:
    call = both_agree(stage)
    ready(stage, call)
    refused("RECORDING_NOT_READY", delete, stage, call, call.fan)
    refused("NOT_FOUND", delete, stage, call, stage.fan())
    stage.end(call.session_id, call.fan)
    # when it is deleted while it is being completed
    delete(stage, call, call.fan)
    assert row(stage, call).status == "gone"
