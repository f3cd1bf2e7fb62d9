"""The audit finds each kind of wrong: a clean house is damaged in one place, and that place is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from stage import Call, Stage

from models import ledger
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
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, moves, created_at)"
            " SELECT 'trf_empty', 'hold', 'k', 'r', 'c', '[]', created_at FROM transfers WHERE kind = 'settle'"
        ),
        "transfer trf_empty",
    ),
    "a cached balance": ("UPDATE accounts SET balance = balance + 1 WHERE id = 'fees'", "account fees says"),
    "the sum of all": ("UPDATE accounts SET balance = balance + 1 WHERE id = 'fees'", "all accounts together sum"),
    "what a transfer says of itself": (
        (
            "UPDATE transfers SET moves = (SELECT o.moves FROM transfers o WHERE o.kind = 'top_up' LIMIT 1)"
            " WHERE kind = 'settle'"
        ),
        "entries are not its moves",
    ),
    "a hold": ("UPDATE holds SET amount = amount + 1 WHERE status = 'open'", "the open holds sum to"),
    "a lot's free tokens": ("UPDATE token_lots SET free = free - 1 WHERE free > 0", "its lots have"),
    "a lot's size": ("UPDATE token_lots SET tokens = tokens + 1", "accounts for"),
    "a purchase that nobody paid for": (
        "UPDATE token_lots SET tokens = tokens + 1, free = free + 1",
        "its transfers brought",
    ),
    "a gift whose payment is bad": ("UPDATE token_lots SET source = 'promo'", "of source promo came from gateway"),
    "a good lot that was taken back": (
        "UPDATE token_lots SET free = 0, reversed = free WHERE free > 0",
        "is good or a gift",
    ),
    "a bad lot that was left": (
        "UPDATE token_lots SET bad_at = created_at WHERE free > 0",
        "is bad, and",
    ),
    "what was taken back": (
        "UPDATE holds SET recovered = 1 WHERE status = 'settled'",
        "taken back for bad payments",
    ),
    "pending earnings": ("UPDATE holds SET pending = pending - 1 WHERE pending > 0", "parts sum to"),
    "a fee": ("UPDATE holds SET fee_back = fee_back + 1 WHERE status = 'settled'", "the settled holds left"),
    "a settlement's parts": (
        "UPDATE holds SET earnings = earnings + 1, commission = commission - 1 WHERE status = 'settled'",
        "the settled holds left",
    ),
    "a payment of nothing": (
        "UPDATE holds SET status = 'released', creator_id = NULL WHERE status = 'settled'",
        "has no settled hold",
    ),
    "a payment under another name": (
        "UPDATE transfers SET kind = 'tip' WHERE kind = 'hold'",
        "has no settled hold",
    ),
    "a second payment": (
        (
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, moves, created_at)"
            " SELECT 'trf_again', 'tip', 'k', reference, 'c', '[]', created_at FROM transfers"
            " WHERE kind = 'settle'"
        ),
        "was paid 2 times",
    ),
    "earnings that cleared while contested": (
        (
            "UPDATE holds SET contested_at = (SELECT MIN(created_at) FROM people), clears_at = closed_at"
            " WHERE status = 'settled'"
        ),
        "is contested and cleared",
    ),
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
            "INSERT INTO transfers (id, kind, idempotency_key, reference, cause_id, moves, created_at)"
            " SELECT 'trf_empty', 'settle', 'k', 'r', 'c', '[]', created_at FROM transfers WHERE kind = 'settle'"
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
def test_damage_is_named(stage: Stage, damage: str, without_rules: Callable[[Session], None]) -> None:
    statement, words = DAMAGE[damage]

    def do_damage(tx: Session) -> int:
        if "contested" in damage:
            ledger.clear_due(tx, stage.now, clearing_days=0)
        without_rules(tx)
        return int(tx.execute(text(statement)).rowcount)  # type: ignore[attr-defined]

    assert stage.run(do_damage) > 0
    with stage.database.reading() as tx:
        report = audit(tx)
    assert not report.ok
    assert any(words in problem for problem in report.problems), report.problems
