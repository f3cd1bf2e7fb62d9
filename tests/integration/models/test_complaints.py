"""Complaints and refunds: who may, until when, how much, from whom; never more than was paid, never twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from stage import MINUTE, Call, Stage

from models import ledger
from models.db import Database
from models.earnings import AmendmentRow, ComplaintRow
from models.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from models.receipt_keys import signing_key
from models.services import after_receipt, complaints, receipt_chain, refunds
from models.services.accounts import Person
from models.services.complaints import ComplaintView
from models.services.refunds import RefundView
from models.sessions import SessionRow
from tests.effort import examples

_keys = itertools.count()


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    return made


@pytest.fixture
def call(stage: Stage) -> Call:
    """Paid 500: 400 to the creator, 100 commission."""
    return ended(stage)


def ended(stage: Stage, fact: str = "fan_left", delivered_ms: int = 4 * MINUTE + 1) -> Call:
    call = stage.running()
    stage.call_ended(call.session_id, fact, delivered_ms)
    stage.run(lambda tx: receipt_chain.issue_due(tx, signing_key(stage.settings), stage.now))
    return call


def complain(stage: Stage, call: Call, by: Person, reason: str = "No sound.") -> ComplaintView:
    return stage.run(
        lambda tx: complaints.complain(tx, call.session_id, by_id=by.user_id, reason=reason, now=stage.now)
    )


def decide(stage: Stage, complaint: ComplaintView, tokens: int, reason: str = "It was so.") -> ComplaintView:
    admin = stage.person("admin")
    return stage.run(
        lambda tx: complaints.decide(
            tx,
            complaint.complaint_id,
            admin_id=admin.user_id,
            refund_tokens=tokens,
            reason=reason,
            cause_id="test",
            now=stage.now,
        )
    )


def give(
    stage: Stage, call: Call, tokens: int | None, key: str | None = None, by: str | None = None
) -> RefundView:
    key = key or f"key{next(_keys)}"
    return stage.run(
        lambda tx: refunds.give(
            tx,
            call.session_id,
            by_id=by or call.creator.user_id,
            side="creator",
            tokens=tokens,
            reason="Sorry.",
            key=key,
            cause_id="test",
            now=stage.now,
        )
    )


def later(stage: Stage, call: Call, person: Person) -> after_receipt.AfterReceipt:
    with stage.database.reading() as tx:
        return after_receipt.after_receipt(tx, call.session_id, person.user_id, stage.now)


def code(act: Callable[[], object]) -> str:
    with pytest.raises(DomainError) as found:
        act()
    return found.value.code


# --- complaints ---------------------------------------------------------------------------------------


def test_each_side_may_complain_once_and_both_are_told(stage: Stage, call: Call) -> None:
    complain(stage, call, call.fan)
    complain(stage, call, call.creator)

    assert code(lambda: complain(stage, call, call.fan)) == "COMPLAINT_MADE"
    for person in (call.fan, call.creator):
        assert [each["side"] for each in stage.told(person, "COMPLAINT_CHANGED")] == ["fan", "creator"]


def test_a_stranger_learns_nothing(stage: Stage, call: Call) -> None:
    with pytest.raises(NotFound):
        complain(stage, call, stage.fan())
    with pytest.raises(NotFound):
        later(stage, call, stage.fan())


def test_a_complaint_is_taken_for_48_hours_from_the_receipt(stage: Stage, call: Call) -> None:
    issued = stage.now
    assert later(stage, call, call.fan).complain_until == issued + timedelta(hours=48)
    stage.later(hours=48)
    complain(stage, call, call.fan)
    stage.later(seconds=1)
    assert code(lambda: complain(stage, call, call.creator)) == "COMPLAINT_LATE"
    assert later(stage, call, call.creator).complain_until is None


def test_a_receipt_that_came_late_gives_its_48_hours_all_the_same(stage: Stage) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, "fan_left", MINUTE)
    stage.later(hours=72)
    assert code(lambda: complain(stage, call, call.fan)) == "COMPLAINT_LATE"
    stage.run(lambda tx: receipt_chain.issue_due(tx, signing_key(stage.settings), stage.now))
    complain(stage, call, call.fan)


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 1_001])
def test_a_reason_is_needed(stage: Stage, call: Call, reason: str) -> None:
    with pytest.raises(Invalid):
        complain(stage, call, call.fan, reason)


def test_a_running_session_cannot_be_complained_about(stage: Stage) -> None:
    call = stage.running()
    with pytest.raises(NotFound):
        complain(stage, call, call.fan)


def test_a_session_that_cost_nothing_can(stage: Stage) -> None:
    call = ended(stage, "creator_left", 30_000)
    decided = decide(stage, complain(stage, call, call.fan), 0)
    assert decided.status == "upheld"
    stage.audit()


def test_the_other_side_does_not_read_the_words(stage: Stage, call: Call) -> None:
    complain(stage, call, call.fan, "He was rude.")
    assert later(stage, call, call.fan).complaints[0].reason == "He was rude."
    assert later(stage, call, call.creator).complaints[0].reason == ""


def test_an_admin_sees_what_is_open_with_what_may_be_given_back(stage: Stage, call: Call) -> None:
    give(stage, call, 100)
    complaint = complain(stage, call, call.fan)
    with stage.database.reading() as tx:
        (found,) = complaints.open_ones(tx)
        assert complaints.count_open(tx) == 1
    assert (found.complaint_id, found.charged, found.refundable) == (complaint.complaint_id, 500, 400)
    decide(stage, complaint, 0)
    with stage.database.reading() as tx:
        assert (complaints.open_ones(tx), complaints.count_open(tx)) == ((), 0)


def test_a_decision_gives_a_part_back_once(stage: Stage, call: Call) -> None:
    complaint = complain(stage, call, call.fan)
    decided = decide(stage, complaint, 250, "Half of it had no sound.")
    assert (decided.status, decided.refunded_tokens, decided.decision) == (
        "refunded", 250, "Half of it had no sound.")  # fmt: skip
    assert code(lambda: decide(stage, complaint, 250)) == "COMPLAINT_DECIDED"

    assert stage.balances(call.fan)["wallet"] == 750
    assert stage.balances(call.creator)["earnings_pending"] == 200
    assert later(stage, call, call.fan).refunds[0].by == "admin"
    stage.audit()


def test_the_hold_is_free_only_when_both_complaints_are_decided(stage: Stage, call: Call) -> None:
    first, second = complain(stage, call, call.fan), complain(stage, call, call.creator)

    def contested() -> bool:
        with stage.database.reading() as tx:
            hold = ledger.hold_of(tx, call.request_id)
        assert hold is not None
        return hold.contested

    assert contested()
    decide(stage, first, 0)
    assert contested()
    decide(stage, second, 0)
    assert not contested()


def test_a_decision_that_cannot_be_paid_changes_nothing(stage: Stage, call: Call) -> None:
    complaint = complain(stage, call, call.fan)
    before = stage.balances(call.fan)
    assert code(lambda: decide(stage, complaint, 501)) == "INVALID"
    assert code(lambda: decide(stage, complaint, 100, " ")) == "INVALID"
    with stage.database.reading() as tx:
        assert tx.scalars(select(ComplaintRow.status)).one() == "open"
    assert stage.balances(call.fan) == before


def test_unknown_complaints_are_not_decided(stage: Stage, call: Call) -> None:
    ghost = msgspec.structs.replace(complain(stage, call, call.fan), complaint_id="cpl_none")
    with pytest.raises(NotFound):
        decide(stage, ghost, 0)


# --- refunds ------------------------------------------------------------------------------------------


def test_all_of_it_comes_from_earnings_and_commission(stage: Stage, call: Call) -> None:
    given = give(stage, call, None)
    assert (given.tokens, given.from_earnings, given.from_commission) == (500, 400, 100)
    assert stage.balances(call.fan)["wallet"] == 1_000
    assert stage.balances(call.creator)["earnings_pending"] == 0
    assert code(lambda: give(stage, call, None)) == "NOT_REVERSIBLE"
    stage.audit()


def test_the_same_key_gives_once(stage: Stage, call: Call) -> None:
    first = give(stage, call, 100, "same")
    assert give(stage, call, 100, "same") == first
    assert stage.balances(call.fan)["wallet"] == 600
    with stage.database.reading() as tx:
        assert len(tx.scalars(select(AmendmentRow)).all()) == 1


def test_the_same_key_gives_once_also_when_it_was_all_that_was_left(stage: Stage, call: Call) -> None:
    first = give(stage, call, None, "same")
    assert give(stage, call, None, "same") == first


def test_only_who_was_paid_gives_it_back(stage: Stage, call: Call) -> None:
    with pytest.raises(Forbidden):
        give(stage, call, 100, by=call.fan.user_id)
    with pytest.raises(Forbidden):
        give(stage, call, 100, by=stage.creator().user_id)


@pytest.mark.parametrize("tokens", [0, -1, 501])
def test_no_more_than_was_paid_and_no_less_than_one(stage: Stage, call: Call, tokens: int) -> None:
    with pytest.raises(Invalid):
        give(stage, call, tokens)


def test_nothing_is_given_back_of_nothing(stage: Stage) -> None:
    call = ended(stage, "creator_never_connected", 0)
    with pytest.raises(Conflict):
        give(stage, call, None)


def test_a_refund_while_it_runs_is_none(stage: Stage) -> None:
    call = stage.running()
    with pytest.raises(NotFound):
        give(stage, call, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(12))
@given(parts=st.lists(st.integers(1, 170), min_size=1, max_size=6), percent=st.integers(0, 100))
def test_parts_are_quoted_as_they_are_given_and_add_up(stage: Stage, parts: list[int], percent: int) -> None:
    """Whatever the commission and however often: what was said before the click is what moves."""
    call = stage.running()
    commission = update(SessionRow).where(SessionRow.id == call.session_id)
    stage.run(lambda tx: tx.execute(commission.values(commission_percent=percent)))
    stage.call_ended(call.session_id, "fan_left", 4 * MINUTE + 1)
    given = []
    for tokens in parts:
        left = 500 - sum(each.tokens for each in given)
        if tokens > left:
            with pytest.raises((Invalid, Conflict)):
                give(stage, call, tokens)
            continue
        with stage.database.reading() as tx:
            said = refunds.quote(tx, call.session_id, tokens)
        given.append(give(stage, call, tokens))
        assert (said.from_earnings, said.from_commission, said.most) == (
            given[-1].from_earnings,
            given[-1].from_commission,
            left,
        )
    if sum(each.tokens for each in given) < 500:
        given.append(give(stage, call, None))
    receipt = stage.receipt(call.session_id)
    assert sum(each.from_earnings for each in given) == receipt.earnings
    assert sum(each.from_commission for each in given) == receipt.commission
    assert stage.balances(call.fan)["wallet"] == 1_000
    stage.audit()
