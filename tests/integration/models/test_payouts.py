"""From cleared to paid out: the reserve, the minimum, the gateway's answers and their absence, never twice."""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from stage import MINUTE, Call, Stage

from models import ledger
from models.books import LotUseRow
from models.clock import utc_now
from models.db import Database
from models.earnings import PayoutAccountRow, PayoutRow
from models.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Unavailable
from models.gateways.base import PayoutResult
from models.gateways.sandbox import SandboxGateway
from models.payments import SandboxPayoutRow
from models.people import PersonRow
from models.services import complaints, earnings, payouts
from models.services.accounts import Person
from models.services.analytics import analytics
from models.services.earnings import PayoutTerms, payable_of

TERMS = PayoutTerms(clearing_days=30, reserve_percent=10, minimum_tokens=300, minor_per_token=5, currency="USD")


class Gateway(SandboxGateway):
    """The sandbox, with outages: asked, it may have paid before its answer is lost."""

    def __init__(self, database: Database, stage: Stage) -> None:
        super().__init__(database, 60_000, now=lambda: stage.now)
        self.lose_before = self.lose_after = 0
        self.asked: list[str] = []

    def payout(self, account_ref: str, amount_minor: int, currency: str, key: str) -> PayoutResult:
        self.asked.append(key)
        if self.lose_before:
            self.lose_before -= 1
            raise Unavailable("No answer.")
        result = super().payout(account_ref, amount_minor, currency, key)
        if self.lose_after:
            self.lose_after -= 1
            raise Unavailable("No answer.")
        return result


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    return made


@pytest.fixture
def gateway(stage: Stage) -> Gateway:
    return Gateway(stage.database, stage)


def earned(stage: Stage, minutes: int = 10) -> Call:
    """A call that paid 80 tokens a minute to its creator."""
    call = stage.running(minutes)
    stage.call_ended(call.session_id, "time_expired", minutes * MINUTE)
    return call


def clear(stage: Stage, days: float = 30, clearing_days: int = 30) -> None:
    stage.later(days=days)
    stage.run(lambda tx: earnings.clear_due(tx, stage.now, clearing_days=clearing_days))


def cleared(stage: Stage) -> Person:
    """A creator with 800 cleared tokens, of which 80 are kept back."""
    creator = earned(stage).creator
    clear(stage)
    return creator


def onboard(stage: Stage, gateway: Gateway, creator: Person, account: str = "pays") -> None:
    payouts.onboard(
        stage.database, gateway, creator.user_id, return_url="https://x.test", account=account, now=stage.now
    )


def request(stage: Stage, creator: Person, tokens: int, terms: PayoutTerms = TERMS) -> str:
    found = stage.run(
        lambda tx: payouts.request(
            tx, creator.user_id, tokens=tokens, terms=terms, gateway="sandbox", cause_id="test", now=stage.now
        )
    )
    return found.payout_id


def view(stage: Stage, creator: Person, terms: PayoutTerms = TERMS) -> earnings.EarningsView:
    with stage.database.reading() as tx:
        return earnings.earnings(tx, creator.user_id, terms, "sandbox", stage.now)


def row(stage: Stage, payout_id: str) -> PayoutRow:
    with stage.database.reading() as tx:
        return tx.get_one(PayoutRow, payout_id)


def refused(stage: Stage, creator: Person, tokens: int = 720, **terms: Any) -> str:
    before = stage.balances(creator)
    with pytest.raises(DomainError) as found:
        request(stage, creator, tokens, msgspec.structs.replace(TERMS, **terms))
    assert stage.balances(creator) == before
    return found.value.code


# --- clearing -----------------------------------------------------------------------------------------


def test_earnings_clear_on_the_day_that_was_said(stage: Stage) -> None:
    creator = earned(stage).creator
    said = view(stage, creator)
    assert (said.pending, said.payable.tokens) == (800, 0)
    (day,) = said.next_clearings
    assert (day.day, day.tokens) == ((stage.now + timedelta(days=30)).date(), 800)

    clear(stage, days=29.9)
    assert stage.balances(creator)["earnings"] == 0
    clear(stage, days=0.1)
    assert stage.balances(creator)["earnings"] == 800
    assert view(stage, creator).next_clearings == ()
    stage.audit()


def test_what_clears_on_one_day_is_one_line(stage: Stage) -> None:
    creator = stage.creator()
    # One second before and one after midnight (UTC), then later on the second day.
    for moment in ("2026-01-02T23:59:59Z", "2026-01-03T00:00:01Z", "2026-01-03T23:00:00Z"):
        stage.now = datetime.fromisoformat(moment)
        fan = stage.fan(tokens=100)
        stage.run(
            lambda tx, fan=fan, key=f"tip_{moment}": ledger.pay(
                tx,
                fan.user_id,
                creator_id=creator.user_id,
                amount=100,
                commission_percent=20,
                kind="tip",
                key=key,
                reference=key,
                cause_id="test",
                now=stage.now,
            )
        )
    found = [(each.day, each.tokens) for each in view(stage, creator).next_clearings]
    assert found == [(date(2026, 2, 1), 80), (date(2026, 2, 2), 160)]


def test_a_shorter_clearing_period_is_a_setting(stage: Stage) -> None:
    creator = earned(stage).creator
    terms = PayoutTerms(clearing_days=7, reserve_percent=0, minimum_tokens=1, minor_per_token=5, currency="USD")
    assert view(stage, creator, terms).next_clearings[0].day == (stage.now + timedelta(days=7)).date()

    clear(stage, days=7, clearing_days=7)
    assert stage.balances(creator)["earnings"] == 800


def test_a_complaint_holds_earnings_back_until_it_is_decided(stage: Stage) -> None:
    call = earned(stage)
    complaint = stage.run(
        lambda tx: complaints.complain(
            tx, call.session_id, by_id=call.fan.user_id, reason="No sound.", now=stage.now
        )
    )
    clear(stage, days=45)
    assert stage.balances(call.creator)["earnings"] == 0
    assert (view(stage, call.creator).contested, view(stage, call.creator).next_clearings) == (800, ())

    admin = stage.person("admin")
    stage.run(
        lambda tx: complaints.decide(
            tx,
            complaint.complaint_id,
            admin_id=admin.user_id,
            refund_tokens=0,
            reason="It was there.",
            cause_id="t",
            now=stage.now,
        )
    )
    clear(stage, days=0)
    assert stage.balances(call.creator)["earnings"] == 800


# --- what is payable ----------------------------------------------------------------------------------


@given(
    cleared=st.integers(0, 10**9),
    recently=st.integers(0, 10**9),
    debt=st.integers(0, 10**6),
    percent=st.integers(0, 100),
)
def test_payable_and_reserve_never_exceed_what_is_cleared(
    cleared: int, recently: int, debt: int, percent: int
) -> None:
    terms = PayoutTerms(
        clearing_days=30, reserve_percent=percent, minimum_tokens=1, minor_per_token=4, currency="EUR"
    )
    found = payable_of(cleared=cleared, cleared_recently=recently, debt=debt, terms=terms)

    assert 0 <= found.tokens <= cleared
    assert found.reserve * 100 >= recently * percent > (found.reserve - 1) * 100
    assert found.amount_minor == found.tokens * 4
    assert found.tokens == 0 or (debt == 0 and found.tokens + found.reserve == cleared)


def test_the_reserve_is_a_part_of_the_last_90_days_also_after_a_payout(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    assert view(stage, creator).payable.tokens == 720

    payouts.send(stage.database, gateway, request(stage, creator, 720), stage.now)
    after = view(stage, creator).payable
    assert (after.cleared, after.reserve, after.tokens) == (80, 80, 0)
    stage.later(days=90)
    assert view(stage, creator).payable.tokens == 80


def test_what_gifts_paid_for_never_pays_out(stage: Stage) -> None:
    creator, stream = stage.live()
    fan = stage.fan(tokens=0)
    stage.run(lambda tx: ledger.gift(tx, fan.user_id, 1_000, key="gift:x", cause_id="t", now=stage.now))
    asked = stage.ask(fan, stream, 10)
    accepted = stage.accept(asked.request_id, creator)
    stage.opened(accepted.session_id)
    stage.delivered(accepted.session_id, 1, 0)
    stage.call_ended(accepted.session_id, "time_expired", 10 * MINUTE)
    clear(stage)

    found = view(stage, creator)
    assert (found.pending, found.payable.cleared, found.from_gifts) == (0, 0, 800)
    stage.audit()


# --- refusals: nothing moves --------------------------------------------------------------------------


def test_without_an_account_nothing_is_paid_out(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    assert refused(stage, creator) == "NO_PAYOUT_ACCOUNT"
    onboard(stage, gateway, creator, "unready")
    assert refused(stage, creator) == "NO_PAYOUT_ACCOUNT"
    assert view(stage, creator).account == "unfinished"


def test_less_than_the_minimum_and_more_than_is_payable_are_refused(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    assert refused(stage, creator, minimum_tokens=721) == "BELOW_MINIMUM"
    assert (refused(stage, creator, 721), refused(stage, creator, 299)) == ("INVALID", "INVALID")


@pytest.mark.parametrize("column", ["spending_frozen_at", "locked_at"])
def test_a_frozen_creator_gets_nothing(stage: Stage, gateway: Gateway, column: str) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    freeze = update(PersonRow).where(PersonRow.id == creator.user_id).values({column: stage.now})
    stage.run(lambda tx: tx.execute(freeze))

    assert refused(stage, creator) == "PAYOUTS_FROZEN"


def test_debt_comes_first(stage: Stage, gateway: Gateway) -> None:
    call = earned(stage)
    clear(stage)
    onboard(stage, gateway, call.creator)
    payouts.send(stage.database, gateway, request(stage, call.creator, 720), stage.now)
    with stage.database.reading() as tx:
        lot_id = tx.scalars(select(LotUseRow.lot_id)).one()
    stage.run(lambda tx: ledger.mark_lot_bad(tx, lot_id, cause_id="t", now=stage.now))

    assert view(stage, call.creator).payable.debt == 720
    assert refused(stage, call.creator) == "DEBT_FIRST"
    stage.audit()


def test_one_at_a_time_whoever_presses_twice(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    outcomes: list[str] = []

    def press() -> None:
        try:
            request(stage, creator, 300)
            outcomes.append("requested")
        except (Conflict, Invalid, Forbidden) as error:
            outcomes.append(error.code)

    presses = [threading.Thread(target=press) for _ in range(4)]
    for each in presses:
        each.start()
    for each in presses:
        each.join()
    assert sorted(outcomes) == ["PAYOUT_PENDING"] * 3 + ["requested"]
    assert stage.balances(creator)["earnings"] == 500


# --- the gateway --------------------------------------------------------------------------------------


def test_a_payout_is_asked_by_a_worker_and_told(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    payout_id = request(stage, creator, 720)
    assert ("payments", "send_payout", f'["{payout_id}"]') in stage.actors()
    assert stage.balances(creator)["earnings"] == 80

    assert payouts.send(stage.database, gateway, payout_id, stage.now) == "paid"
    done = row(stage, payout_id)
    assert (done.status, done.amount_minor, done.finished_at) == ("paid", 3_600, stage.now)
    assert stage.told(creator, "PAYOUT_CHANGED")[-1]["status"] == "paid"
    stage.audit()


@pytest.mark.parametrize("lost", ["lose_before", "lose_after"])
def test_an_answer_that_is_lost_is_asked_for_again_and_money_leaves_once(
    stage: Stage, gateway: Gateway, lost: str
) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    payout_id = request(stage, creator, 720)
    setattr(gateway, lost, 2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            payouts.send(stage.database, gateway, payout_id, stage.now)
        assert row(stage, payout_id).status == "requested"

    assert payouts.send(stage.database, gateway, payout_id, stage.now) == "paid"
    assert payouts.send(stage.database, gateway, payout_id, stage.now) == "paid"
    assert gateway.asked == [payout_id] * 3
    assert stage.balances(creator)["earnings"] == 80
    stage.audit()


def test_a_refused_payout_comes_back_once_and_is_told(stage: Stage, gateway: Gateway) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator, "fails")
    payout_id = request(stage, creator, 720)

    for _ in range(3):
        assert payouts.send(stage.database, gateway, payout_id, stage.now) == "failed"
    assert stage.balances(creator)["earnings"] == 800
    assert row(stage, payout_id).return_transfer_id is not None
    assert stage.told(creator, "PAYOUT_CHANGED")[-1]["status"] == "failed"
    onboard(stage, gateway, creator)
    assert payouts.send(stage.database, gateway, request(stage, creator, 720), stage.now) == "paid"
    stage.audit()


@pytest.mark.parametrize(("account", "end"), [("pays-later", "paid"), ("fails-later", "failed")])
def test_a_payout_that_takes_time_is_asked_about_until_it_is_known(
    stage: Stage, gateway: Gateway, account: str, end: str
) -> None:
    creator = cleared(stage)
    onboard(stage, gateway, creator, account)
    payout_id = request(stage, creator, 720)
    assert payouts.send(stage.database, gateway, payout_id, stage.now) == "requested"
    assert refused(stage, creator) == "PAYOUT_PENDING"

    stage.later(minutes=4)
    stage.run(lambda tx: payouts.ask_again(tx, stage.now))
    asked = [actor for actor in stage.actors() if actor[1] == "send_payout"]
    stage.later(minutes=1)
    stage.run(lambda tx: payouts.ask_again(tx, stage.now))
    stage.run(lambda tx: payouts.ask_again(tx, stage.now))
    assert len([actor for actor in stage.actors() if actor[1] == "send_payout"]) == len(asked) + 1
    assert payouts.send(stage.database, gateway, payout_id, stage.now) == end
    assert stage.balances(creator)["earnings"] == (80 if end == "paid" else 800)
    stage.audit()


def test_a_failed_payout_pays_a_debt_that_arose_meanwhile(stage: Stage, gateway: Gateway) -> None:
    call = earned(stage)
    clear(stage)
    onboard(stage, gateway, call.creator, "fails")
    payout_id = request(stage, call.creator, 720)
    with stage.database.reading() as tx:
        lot_id = tx.scalars(select(LotUseRow.lot_id)).one()
    stage.run(lambda tx: ledger.mark_lot_bad(tx, lot_id, cause_id="t", now=stage.now))
    payouts.send(stage.database, gateway, payout_id, stage.now)

    after = stage.balances(call.creator)
    assert (after["earnings"], after["debt"]) == (0, 0)
    stage.audit()


def test_a_payout_that_the_bank_sends_back_after_it_was_paid_is_the_creators_again(
    stage: Stage, gateway: Gateway
) -> None:
    # given: paid, as far as the provider knew
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    payout_id = request(stage, creator, 720)
    assert payouts.send(stage.database, gateway, payout_id, stage.now) == "paid"
    # when: days later its webhook says otherwise, twice
    closed = update(SandboxPayoutRow).values(account=f"sandbox:fails:{creator.user_id}")
    stage.run(lambda tx: tx.execute(closed))
    stage.later(days=2)
    for _ in range(2):
        assert payouts.send(stage.database, gateway, payout_id, stage.now) == "failed"
    # then
    assert stage.balances(creator)["earnings"] == 800
    assert row(stage, payout_id).finished_at == stage.now
    assert stage.told(creator, "PAYOUT_CHANGED")[-1]["status"] == "failed"
    assert (len(gateway.asked), stage.audit()) == (1, None)


def test_unknown_payouts_and_other_gateways_are_refused(stage: Stage, gateway: Gateway) -> None:
    with pytest.raises(NotFound):
        payouts.send(stage.database, gateway, "pyt_none", utc_now())
    creator = cleared(stage)
    onboard(stage, gateway, creator)
    payout_id = request(stage, creator, 720)
    gateway.name = "another"  # type: ignore[misc]
    with pytest.raises(Conflict):
        payouts.send(stage.database, gateway, payout_id, stage.now)


def test_an_account_that_becomes_ready_is_noticed_and_told(stage: Stage, gateway: Gateway) -> None:
    creator = stage.creator()
    assert payouts.refresh_account(stage.database, gateway, creator.user_id, stage.now) == "none"
    onboard(stage, gateway, creator, "unready")
    assert payouts.refresh_account(stage.database, gateway, creator.user_id, stage.now) == "unfinished"
    onboard(stage, gateway, creator, "pays")
    with stage.database.reading() as tx:
        account = tx.get_one(PayoutAccountRow, (creator.user_id, "sandbox"))
    assert account.ready
    assert stage.told(creator, "PAYOUT_CHANGED")[-1]["account"] == "ready"


# --- how it went --------------------------------------------------------------------------------------


def test_analytics_count_the_window_and_nothing_else(stage: Stage) -> None:
    old = earned(stage)
    stage.later(days=31)
    stage.resume(old.stream, old.creator)
    stage.run(lambda tx: ledger.gift(tx, old.fan.user_id, 1_000, key="g", cause_id="t", now=stage.now))
    for _ in range(2):
        asked = stage.ask(old.fan, old.stream, 5)
        accepted = stage.accept(asked.request_id, old.creator)
        stage.opened(accepted.session_id)
        stage.delivered(accepted.session_id, 1, 0)
        stage.later(seconds=1)
        stage.call_ended(accepted.session_id, "fan_left", 3 * MINUTE)
        stage.resume(old.stream, old.creator)
    declined = stage.ask(stage.fan(), old.stream, 5)
    stage.decline(declined.request_id, old.creator)
    stage.run(lambda tx: ledger_pay(tx, stage, old, "tip:1"))

    with stage.database.reading() as tx:
        month = analytics(tx, old.creator.user_id, 30, stage.now)
        year = analytics(tx, old.creator.user_id, 365, stage.now)
        nobody = analytics(tx, "usr_other", 30, stage.now)
    assert (month.asked, month.accepted, month.declined, month.calls) == (3, 2, 1, 2)
    assert (month.fans, month.returning_fans, month.billed_minutes) == (1, 1, 10)
    assert (month.delivered_ms, month.earned_calls, month.earned_tips) == (6 * MINUTE, 800, 8)
    assert [(each.end_reason, each.calls) for each in month.ends] == [("ENDED_BY_FAN", 2)]
    assert (year.calls, sum(week.earned for week in year.weeks)) == (3, 1_600)
    assert all(week.monday.weekday() == 0 for week in year.weeks)
    assert (nobody.asked, nobody.calls, nobody.ends) == (0, 0, ())


# --- the statement ------------------------------------------------------------------------------------


def test_the_statement_has_every_movement_of_a_month_and_sums_to_the_balances(
    stage: Stage, gateway: Gateway
) -> None:
    call = earned(stage)
    clear(stage)
    stage.later(minutes=1)
    onboard(stage, gateway, call.creator)
    payouts.send(stage.database, gateway, request(stage, call.creator, 720), stage.now)

    def rows(since: Any, until: Any) -> list[earnings.StatementRow]:
        with stage.database.reading() as tx:
            return list(earnings.statement(tx, call.creator.user_id, since, until))

    everything = rows(stage.now - timedelta(days=400), stage.now + timedelta(seconds=1))
    assert [each.kind for each in everything] == ["settle", "clear", "payout"]
    balances = stage.balances(call.creator)
    assert sum(each.pending for each in everything) == balances["earnings_pending"]
    assert sum(each.cleared for each in everything) == balances["earnings"]
    assert [each.kind for each in rows(*earnings.month(2026, 1))] == ["settle"]
    assert [each.kind for each in rows(*earnings.month(2026, 2))] == ["clear", "payout"]


def test_a_long_statement_comes_in_pages_without_a_gap(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    call = earned(stage)
    for number in range(5):
        stage.run(
            lambda tx, number=number: ledger_pay(tx, stage, call, f"tip:{number}")  # type: ignore[misc]
        )
    monkeypatch.setattr(earnings, "PAGE", 2)
    with stage.database.reading() as tx:
        found = list(earnings.statement(tx, call.creator.user_id, stage.now, stage.now + timedelta(days=1)))
    assert len({each.transfer_id for each in found}) == len(found) == 6


def ledger_pay(tx: Any, stage: Stage, call: Call, key: str) -> None:
    fan = tx.get_one(PersonRow, call.fan.user_id)
    ledger.gift(tx, fan.id, 10, key=f"gift:{key}", cause_id="t", now=stage.now)
    ledger.pay(tx, fan.id, creator_id=call.creator.user_id, amount=10, commission_percent=20, kind="tip", key=key,
               reference=key, cause_id="t", now=stage.now)  # fmt: skip


@pytest.mark.parametrize(("year", "number", "end"), [(2026, 1, (2026, 2)), (2026, 12, (2027, 1))])
def test_a_month_ends_where_the_next_begins(year: int, number: int, end: tuple[int, int]) -> None:
    since, until = earnings.month(year, number)
    assert (since.year, since.month, since.day, since.hour) == (year, number, 1, 0)
    assert (until.year, until.month, until.day) == (*end, 1)
