"""What operators see and do, on both databases: searches, figures, a trace to the payout, two admins at once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from stage import Stage

from models.db import Database
from models.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from models.services import (
    audits,
    book_search,
    figures,
    floor,
    moderation,
    operations,
    payment_search,
    processes,
    queues,
    trace,
)
from models.services.moderation import By
from models.services.queues import Sample

WHY = "Because of a test"


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    return stage


def by(stage: Stage, admin_id: str) -> By:
    return By(admin_id=admin_id, reason=WHY, cause_id="click", now=stage.now)


def test_everything_that_pages_read_can_be_read(stage: Stage) -> None:
    # given a session that was paid, and a running one
    call = stage.running()
    stage.later(minutes=3)
    stage.delivered(call.session_id, 2, 180_000)
    stage.end(call.session_id, call.fan)
    stage.call_ended(call.session_id, "closed", 3, 180_000)
    other = stage.running()
    with stage.database.reading() as tx:
        # then it is found by each of its ids
        for words in (call.request_id, call.session_id, call.room_id):
            found = trace.trace(tx, words, stage.now)
            assert (found.request_id, found.session_id, found.ended) == (call.request_id, call.session_id, True)
        words = [(moment.stage, moment.words, moment.due) for moment in found.moments]
        assert ("ledger", "hold", False) in words
        assert ("ledger", "settle", False) in words
        assert ("payout", "To be cleared", True) in words
        for moment in found.moments:
            assert sum(posting.amount for posting in moment.postings) == 0
        # and transfers by reference and by person, with every entry
        by_reference = book_search.search(tx, call.request_id)
        assert {each.kind for each in by_reference} == {"hold", "settle"}
        assert {each.transfer_id for each in by_reference} <= {
            each.transfer_id for each in book_search.search(tx, call.fan.user_id)
        }
        assert book_search.search(tx, "nothing") == ()
        assert sum(book_search.totals(tx).values()) == 0
        # and the running one with its room, its people and its clock
        [room] = [room for room in floor.rooms(tx) if room.kind == "private" and room.status != "closed"]
        assert (room.session_id, {party.side for party in room.parties}) == (other.session_id, {"fan", "creator"})
        [session] = floor.sessions(tx)
        assert (session.session_id, session.status, session.delivered_ms) == (other.session_id, "live", 0)
        assert floor.flags(tx) == ()
        assert floor.api_tokens(tx) == ()
        # and purchases
        assert payment_search.purchases(tx) == ()
        assert payment_search.disputes(tx) == ()
        assert payment_search.refunds(tx) == ()
        assert payment_search.payouts(tx) == ()
        with pytest.raises(NotFound):
            payment_search.history(tx, "pur_nobody")
        told = {(figure.name, figure.labels): figure.value for figure in figures.figures(tx, stage.now)}
        assert told["sessions", (("status", "live"),)] == 1
        assert told["sessions", (("status", "ended"),)] == 1
        assert told["receipts_waiting", ()] == 1
        assert told["settlements_last_hour", ()] == 1
        assert told["media_node_up", (("node", "media-1"),)] == 0, "not heard of for three minutes"


def test_people_are_found_by_what_is_known_of_them(stage: Stage) -> None:
    fan = stage.fan()
    stage.creator()
    with stage.database.reading() as tx:
        for words in (fan.handle, fan.handle[:4].upper(), f"{fan.handle}@people.test", fan.user_id):
            assert fan.user_id in [case.user_id for case in moderation.find(tx, words)]
        assert moderation.find(tx, "fa%") == ()
        assert len(moderation.find(tx, "")) == 2


def test_two_admins_who_take_the_role_from_each_other_leave_one(stage: Stage) -> None:
    one, two = stage.person("admin"), stage.person("admin")
    outcomes: list[str] = []
    ready = threading.Barrier(2)

    def take(from_: str, by_: str) -> None:
        ready.wait(60)
        try:
            stage.run(lambda tx: moderation.set_roles(tx, from_, ["fan"], by(stage, by_)))
            outcomes.append("taken")
        except DomainError as error:
            outcomes.append(error.code)

    threads = [
        threading.Thread(target=take, args=pair)
        for pair in ((one.user_id, two.user_id), (two.user_id, one.user_id))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == ["LAST_ADMIN", "taken"]


def test_what_is_so_already_is_not_recorded_twice(stage: Stage) -> None:
    admin, fan = stage.person("admin"), stage.fan()
    for _ in range(2):
        stage.run(lambda tx: moderation.lock(tx, fan.user_id, by(stage, admin.user_id)))
        stage.run(lambda tx: moderation.set_roles(tx, fan.user_id, ["fan", "creator"], by(stage, admin.user_id)))
    with stage.database.reading() as tx:
        acts = operations.acts(tx, subject=fan.user_id)
        assert sorted(act.act for act in acts) == ["roles_changed", "sign_in_locked"]
    refusals = (
        (lambda tx: moderation.freeze(tx, "usr_nobody", by(stage, admin.user_id)), NotFound),
        (lambda tx: moderation.lock(tx, admin.user_id, by(stage, admin.user_id)), Forbidden),
        (lambda tx: moderation.set_roles(tx, fan.user_id, [], by(stage, admin.user_id)), Invalid),
    )
    for wrong, error in refusals:
        with pytest.raises(error):
            stage.run(wrong)


def test_an_admin_s_freeze_stands_over_a_dispute_s(stage: Stage) -> None:
    # given a freeze that a bad payment made
    admin, fan = stage.person("admin"), stage.fan()
    stage.run(lambda tx: moderation.freeze(tx, fan.user_id, by(stage, admin.user_id)))
    stage.later(minutes=5)
    # when an admin freezes as well
    case = stage.run(lambda tx: moderation.freeze(tx, fan.user_id, by(stage, admin.user_id)))
    # then it is the admin's: a won dispute lifts only a freeze of its own moment
    assert case.spending_frozen_at == stage.now


def test_the_record_is_append_only_on_both_databases(stage: Stage) -> None:
    admin, fan = stage.person("admin"), stage.fan()
    stage.run(lambda tx: moderation.freeze(tx, fan.user_id, by(stage, admin.user_id)))
    for statement in ("UPDATE admin_acts SET reason = ''", "DELETE FROM admin_acts"):
        with pytest.raises(DatabaseError, match="append-only"):
            stage.run(lambda tx, each=statement: tx.execute(text(each)))  # type: ignore[misc]


def test_an_audit_that_was_killed_is_run_again(stage: Stage) -> None:
    run = stage.run(lambda tx: audits.ask(tx, asked_by=None, now=stage.now))
    stage.run(lambda tx: audits.begin(tx, run.audit_id, "asked", stage.now))
    with pytest.raises(Conflict):
        stage.run(lambda tx: audits.begin(tx, run.audit_id, "asked", stage.now))
    with stage.database.reading() as tx:
        assert audits.due(tx, stage.now) is None
        assert audits.due(tx, stage.now + audits.GIVE_UP + timedelta(seconds=1)) == (run.audit_id, "running")


def test_samples_and_processes_are_kept_as_long_as_they_say_something(stage: Stage) -> None:
    sample = Sample(
        queue="rules", declared=True, managed=True, ready=1, unacked=0, delayed=0, consumers=1,
        in_rate=0.5, out_rate=0.5, oldest_ms=3, dead=0,
    )  # fmt: skip
    for seconds in (0, 2, 2, 4):
        at = stage.now + timedelta(seconds=seconds)
        stage.run(lambda tx, at=at: queues.keep(tx, [sample], at))  # type: ignore[misc]
    stage.run(
        lambda tx: processes.beat(tx, "boot_w", "worker", pid=7, started_at=stage.now, now=stage.now)
    )
    now = stage.now + timedelta(seconds=5)
    with stage.database.reading() as tx:
        [latest] = queues.latest(tx, now)
        assert latest.at == stage.now + timedelta(seconds=4)
        assert queues.last_empty(tx) == {}
        for seconds, alive in ((5, True), (60, False)):
            found = processes.processes(tx, stage.now + timedelta(seconds=seconds))
            assert [each.alive for each in found if each.kind == "worker"] == [alive]
