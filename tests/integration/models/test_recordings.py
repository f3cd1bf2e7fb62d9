"""Two keys: a recording is off unless both have signed in that call, and either ends it; both databases."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from filmed import DAYS, TERMS, agree, both_agree, finish, kept, lease, offer, ready, row, seen, withdraw
from patrons import refused
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from stage import Stage

from models import consents
from models.consents import Terms
from models.db import Database
from models.messages.commands import PermitRecording, StopRecording
from models.messages.routing import RECORDING_ACTOR, TRANSCODE_QUEUE
from models.receipt_keys import public_keys, signing_key
from models.services import recording_ends, recording_work, recordings, rooms
from models.sessions import SessionRow


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    made.heartbeat()
    return made


def told(stage: Stage) -> list[tuple[str | None, str | None]]:
    return [(queue, actor) for queue, actor, _ in stage.actors() if actor == RECORDING_ACTOR]


def test_it_is_off_until_both_have_signed(stage: Stage) -> None:
    call = stage.running()
    offer(stage, call.creator)
    # when one side agrees, and again
    agree(stage, call, call.fan)
    agree(stage, call, call.fan)
    # then nothing may be recorded, nobody is told to
    assert (row(stage, call).status, lease(stage, call)) == ("asked", None)
    assert (told(stage), stage.commands(PermitRecording)) == ([], [])
    assert (seen(stage, call, call.fan).mine, seen(stage, call, call.creator).theirs) == (True, True)
    # when the other does
    agree(stage, call, call.creator)
    # then a worker is asked; its node permits it once a worker has come, and not before
    assert told(stage) == [(TRANSCODE_QUEUE, RECORDING_ACTOR)]
    assert stage.commands(PermitRecording) == []
    held = lease(stage, call)
    assert held is not None
    assert held.signaling_url
    [permit] = stage.commands(PermitRecording)
    assert (permit.session_id, permit.room_id, permit.recording_id) == (
        call.session_id,
        call.room_id,
        held.work_id,
    )
    assert seen(stage, call, call.fan).status == "wanted"
    stage.run(lambda tx: recording_work.ready(tx, held.work_id, held.epoch, stage.now))
    assert seen(stage, call, call.creator).status == "running"
    for side in (call.fan, call.creator):
        assert [each["status"] for each in stage.told(side, "RECORDING_CHANGED")] == ["asked", "wanted", "running"]


def test_who_consents_has_seen_the_terms_and_they_do_not_change_afterwards(stage: Stage) -> None:
    call = stage.running()
    refused("RECORDING_NOT_OFFERED", agree, stage, call, call.fan)
    offer(stage, call.creator, price=300)
    changed = refused("RECORDING_TERMS_CHANGED", agree, stage, call, call.fan)
    assert changed.fields == {"price": 300, "shared": True, "keep_days": DAYS}
    dearer = Terms(price=300, shared=True, keep_days=DAYS)
    refused(
        "RECORDING_TERMS_CHANGED",
        agree,
        stage,
        call,
        call.fan,
        Terms(price=300, shared=True, keep_days=DAYS, text_version=2),
    )
    agree(stage, call, call.fan, dearer)
    # when the creator asks for more meanwhile, and wants none any more
    offer(stage, call.creator, price=900, offered=False)
    # then what the fan agreed to stands
    assert seen(stage, call, call.creator).terms == dearer
    refused(
        "RECORDING_TERMS_CHANGED", agree, stage, call, call.creator, Terms(price=900, shared=True, keep_days=DAYS)
    )
    agree(stage, call, call.creator, dearer)
    assert row(stage, call).price_tokens == 300


def test_who_takes_the_first_key_back_may_be_asked_anew(stage: Stage) -> None:
    call = stage.running()
    offer(stage, call.creator)
    agree(stage, call, call.fan)
    assert withdraw(stage, call, call.fan) is None
    assert (seen(stage, call, call.fan).status, row(stage, call).status) == ("none", "asked")
    # the other one's consent alone is not enough, on other terms now
    offer(stage, call.creator, price=50)
    cheaper = Terms(price=50, shared=True, keep_days=DAYS)
    agree(stage, call, call.creator, cheaper)
    assert row(stage, call).status == "asked"
    agree(stage, call, call.fan, cheaper)
    assert row(stage, call).status == "wanted"


def test_nobody_else_has_a_key(stage: Stage) -> None:
    call, other = stage.running(), stage.running()
    offer(stage, call.creator)
    for stranger in (other.fan, other.creator, stage.admin().person):
        assert stranger is not None
        refused("NOT_FOUND", agree, stage, call, stranger)
        refused("NOT_FOUND", withdraw, stage, call, stranger)
        refused("NOT_FOUND", seen, stage, call, stranger)
    refused("NOT_FOUND", withdraw, stage, call, call.fan)


def test_it_is_agreed_to_in_the_call_alone(stage: Stage) -> None:
    call = stage.connecting()
    offer(stage, call.creator)
    refused("SESSION_NOT_LIVE", agree, stage, call, call.fan)
    stage.opened(call.session_id)
    stage.delivered(call.session_id, 1, 0)
    agree(stage, call, call.fan)
    stage.end(call.session_id, call.fan)
    refused("SESSION_NOT_LIVE", agree, stage, call, call.creator)
    stage.call_ended(call.session_id, "closed", 60_000)
    refused("SESSION_NOT_LIVE", agree, stage, call, call.creator)
    # then one key was turned, and nothing came of it
    assert (row(stage, call).status, row(stage, call).gone_reason) == ("gone", "not_started")
    assert stage.commands(PermitRecording) == []


@pytest.mark.parametrize("side", ["fan", "creator"])
def test_a_withdrawal_stops_it_at_once_and_for_good(stage: Stage, side: str) -> None:
    call = both_agree(stage)
    held = ready(stage, call)
    person = call.fan if side == "fan" else call.creator
    # when
    sent = withdraw(stage, call, person)
    # then the command is there to be sent at once, and in the outbox as well
    assert sent is not None
    assert sent.node_id == "media-1"
    assert stage.commands(StopRecording) == [sent.command]
    assert (row(stage, call).status, row(stage, call).stop_reason) == ("finishing", "withdrawn")
    assert seen(stage, call, person).stopped_by_me
    # asked again, the node is told again: it may not have confirmed the first word
    assert withdraw(stage, call, person) is not None
    # and nobody begins again: no lease permits it, nor does a node that comes back
    refused("RECORDING_OVER", agree, stage, call, person)
    assert stage.run(lambda tx: recording_work.to_stop(tx, [held.work_id])) == [held.work_id]
    stage.later(seconds=10)
    again = lease(stage, call, "worker_2")
    assert again is not None
    assert again.signaling_url == ""
    assert len(stage.commands(PermitRecording)) == 1
    with stage.database.reading() as tx:
        assert rooms.private_spec(tx, tx.get_one(SessionRow, call.session_id)).recording_id == ""
    # but what was recorded till then is kept for both
    finish(stage, held)
    assert row(stage, call).status == "finishing", "an epoch that lost its lease is not listened to"
    finish(stage, again)
    assert seen(stage, call, call.creator).may_watch


def test_a_withdrawal_before_anybody_came_leaves_nothing(stage: Stage) -> None:
    call = both_agree(stage)
    withdraw(stage, call, call.creator)
    assert (row(stage, call).status, row(stage, call).gone_reason) == ("gone", "not_started")
    assert lease(stage, call) is None
    refused("RECORDING_OVER", agree, stage, call, call.creator)


def test_the_session_s_end_is_the_recording_s(stage: Stage) -> None:
    call = both_agree(stage)
    held = ready(stage, call)
    stage.end(call.session_id, call.creator)
    assert (row(stage, call).status, row(stage, call).stop_reason) == ("finishing", "session_over")
    stage.call_ended(call.session_id, "closed", 60_000)
    finish(stage, held)
    found = row(stage, call)
    assert (found.status, found.size, found.duration_ms) == ("kept", 1_000, 5_000)
    assert found.expires_at is not None
    assert (found.expires_at - stage.now).days == DAYS


def test_a_cut_by_the_node_ends_it_as_well(stage: Stage) -> None:
    call = both_agree(stage)
    ready(stage, call)
    stage.call_ended(call.session_id, "time_expired", 600_000)
    assert row(stage, call).status == "finishing"


def test_a_node_that_comes_back_is_told_what_still_stands(stage: Stage) -> None:
    call = both_agree(stage)

    def permitted() -> tuple[str, int]:
        with stage.database.reading() as tx:
            spec = rooms.private_spec(tx, tx.get_one(SessionRow, call.session_id))
            return spec.recording_id, spec.recording_epoch

    assert permitted() == ("", 0), "without a worker there is nothing to permit"
    held = ready(stage, call)
    stage.node_ready("boot_2")
    assert permitted() == (held.work_id, 1)
    # and what is stated without it now is younger than what was permitted, which takes it back
    withdraw(stage, call, call.fan)
    assert permitted() == ("", 1)
    assert [command.epoch for command in stage.commands(PermitRecording)] == [1]


def test_whoever_is_lost_is_followed_under_another_epoch(stage: Stage) -> None:
    call = both_agree(stage)
    first = ready(stage, call)
    assert lease(stage, call, "worker_2") is None
    stage.later(seconds=4)
    second = lease(stage, call, "worker_2")
    assert second is not None
    assert second.epoch == first.epoch + 1
    assert len(stage.commands(PermitRecording)) == 2
    held = {(first.work_id, first.epoch)}
    assert stage.run(lambda tx: recording_work.renew(tx, "worker_1", held, stage.now)) == set()
    finish(stage, first)
    assert row(stage, call).status == "running"


def test_both_agreed_and_no_worker_came(stage: Stage) -> None:
    call = both_agree(stage)
    stage.later(seconds=recording_ends.UNSTARTED_SECONDS - 1)
    assert stage.run(lambda tx: recording_ends.give_up_due(tx, stage.now)) == 0
    stage.later(seconds=1)
    assert stage.run(lambda tx: recording_ends.give_up_due(tx, stage.now)) == 1
    found = row(stage, call)
    assert (found.status, found.stop_reason, found.gone_reason) == ("gone", "no_recorder", "not_started")


@pytest.mark.parametrize(("reason", "stopped"), [("NO_SPACE", "no_space"), ("FORBIDDEN", "stopped")])
def test_a_worker_that_stops_by_itself_stops_the_recording(stage: Stage, reason: str, stopped: str) -> None:
    call = both_agree(stage)
    finish(stage, ready(stage, call), reason=reason)
    found = row(stage, call)
    assert (found.status, found.stop_reason) == ("kept", stopped)
    assert len(stage.commands(StopRecording)) == 1
    assert stage.session(call.session_id).status == "live"


def test_a_recording_of_nothing_is_none(stage: Stage) -> None:
    call = both_agree(stage)
    held = ready(stage, call)
    withdraw(stage, call, call.fan)
    finish(stage, held, size=0)
    assert (row(stage, call).status, row(stage, call).gone_reason) == ("gone", "not_started")


def test_it_expires(stage: Stage) -> None:
    call = kept(stage)
    assert stage.run(lambda tx: recording_work.worth_keeping(tx, [row(stage, call).id], stage.now, seconds=0.0))
    stage.later(days=DAYS, seconds=-1)
    assert stage.run(lambda tx: recording_ends.expire_due(tx, stage.now)) == 0
    stage.later(seconds=1)
    assert stage.run(lambda tx: recording_ends.expire_due(tx, stage.now)) == 1
    assert (row(stage, call).status, row(stage, call).gone_reason) == ("gone", "expired")
    assert not seen(stage, call, call.creator).may_watch
    left = stage.run(lambda tx: recording_work.worth_keeping(tx, [row(stage, call).id], stage.now, seconds=60.0))
    assert left == set()


def test_every_act_is_signed_and_stays(stage: Stage) -> None:
    call = both_agree(stage)
    withdraw(stage, call, call.fan)
    with stage.database.reading() as tx:
        records = recordings.consent_records(tx, call.session_id)
    keys = public_keys([signing_key(stage.settings).jwk])
    assert [consents.problems(each, keys) for each in records] == [[], [], []]
    said = [json.loads(each) for each in records]
    assert [(each["side"], each["act"]) for each in said] == [
        ("fan", "given"),
        ("creator", "given"),
        ("fan", "withdrawn"),
    ]
    assert [each["personId"] for each in said] == [call.fan.user_id, call.creator.user_id, call.fan.user_id]
    assert said[0]["at"] == "2026-01-02T12:00:00.000Z"
    assert said[0]["terms"] == {"price": 200, "shared": True, "keepDays": DAYS, "textVersion": 1}
    assert said[1]["signature"]["previousHash"] == said[0]["signature"]["hash"]
    for change in ("UPDATE recording_consents SET act = 'given'", "DELETE FROM recording_consents"):
        with pytest.raises(DBAPIError, match="append-only"):
            stage.run(lambda tx, change=change: tx.execute(text(change)))  # type: ignore[misc]


def test_no_row_says_wanted_without_two_keys(stage: Stage) -> None:
    call = both_agree(stage)
    with pytest.raises(DBAPIError):
        stage.run(lambda tx: tx.execute(text("UPDATE recordings SET fan_consent_id = NULL")))
    assert row(stage, call).status == "wanted"


def test_both_at_once_and_each_twice_is_one_recording(stage: Stage) -> None:
    call = stage.running()
    offer(stage, call.creator)
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda who: agree(stage, call, who, TERMS), [call.fan, call.creator, call.fan, call.creator])
        )
    assert row(stage, call).status == "wanted"
    with stage.database.reading() as tx:
        assert len(recordings.consent_records(tx, call.session_id)) == 2
    assert len(told(stage)) == 1
    # and a withdrawal that meets a worker's word ends it, whoever is first
    held = lease(stage, call)
    assert held is not None
    with ThreadPoolExecutor(3) as pool:
        said = pool.submit(stage.run, lambda tx: recording_work.ready(tx, held.work_id, held.epoch, stage.now))
        back = [pool.submit(withdraw, stage, call, who) for who in (call.fan, call.creator)]
        said.result()
        assert [each.result() for each in back].count(None) == 0, "each has the node told"
    assert row(stage, call).status == "finishing"
