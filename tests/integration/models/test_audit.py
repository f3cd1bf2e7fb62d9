"""The audit finds each kind of wrong: a clean house is damaged in one place, and that place is named."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from stage import Call, Stage

from models.audit import audit
from models.db import Database

# What is done to a house with one ended and one running session and one open request, and what is said.
DAMAGE = {
    "an entry is missing its other side": (
        (
            "INSERT INTO entries (transfer_id, account_id, amount) SELECT t.id, 'gateway:sandbox', 1"
            " FROM transfers t WHERE t.kind = 'settle'"
        ),
        "not to zero",
    ),
    "a transfer without entries": (
        (
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, created_at)"
            " SELECT 'trf_empty', 'hold', 'k', 'r', 'c', created_at FROM transfers WHERE kind = 'settle'"
        ),
        "transfer trf_empty",
    ),
    "a cached balance": ("UPDATE accounts SET balance = balance + 1 WHERE id = 'fees'", "account fees says"),
    "the sum of all": ("UPDATE accounts SET balance = balance + 1 WHERE id = 'fees'", "all accounts together sum"),
    "a hold": ("UPDATE holds SET amount = amount + 1 WHERE status = 'open'", "the open holds sum to"),
    "a lot's free tokens": ("UPDATE token_lots SET free = free - 1 WHERE free > 0", "its lots have"),
    "a lot's size": ("UPDATE token_lots SET tokens = tokens + 1", "accounts for"),
    "a lot's use": ("UPDATE lot_uses SET spent = spent + 1 WHERE spent > 0", "its lots hold"),
    "an open request": (
        "UPDATE private_stream_requests SET total_cost = total_cost + 1 WHERE status = 'pending'",
        "is pending: held should be",
    ),
    "a running session": (
        "UPDATE private_stream_sessions SET total_held = total_held + 1 WHERE status <> 'ended'",
        "is connecting: held should be",
    ),
    "a hold that outlived its request": (
        "UPDATE private_stream_requests SET status = 'expired' WHERE status = 'pending'",
        "neither an open request nor a booking nor a running",
    ),
    "a settlement of a running session": (
        "UPDATE private_stream_sessions SET status = 'settling' WHERE status = 'ended'",
        "is settling and has 1 settlements",
    ),
    "a settlement of no session": (
        (
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, created_at)"
            " SELECT 'trf_empty', 'settle', 'k', 'r', 'c', created_at FROM transfers WHERE kind = 'settle'"
        ),
        "settlement trf_empty belongs to no session",
    ),
    "a bill": (
        (
            "UPDATE private_stream_sessions SET total_earnings = total_earnings + 1, commission = commission - 1"
            " WHERE status = 'ended'"
        ),
        "its settlement says",
    ),
}


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    ended: Call = stage.running()
    stage.later(minutes=7)
    stage.call_ended(ended.session_id, "fan_left", 7 * 60_000)
    stage.connecting(tokens=1_500)
    _, stream = stage.live()
    stage.ask(stage.fan(tokens=1_500), stream)
    return stage


def test_a_house_in_order_is_said_to_be(stage: Stage) -> None:
    with stage.database.reading() as tx:
        report = audit(tx)
    assert report.problems == ()
    assert report.ok
    assert (report.accounts, report.transfers) == (9, 7)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(stage: Stage, damage: str) -> None:
    statement, words = DAMAGE[damage]
    changed = stage.run(lambda tx: tx.execute(text(statement)).rowcount)  # type: ignore[attr-defined]
    assert changed > 0
    with stage.database.reading() as tx:
        report = audit(tx)
    assert not report.ok
    assert any(words in problem for problem in report.problems), report.problems
