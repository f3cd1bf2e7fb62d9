"""Every cell of the end table, through media and ledger: row, way of paying, included minutes, unlock."""

from __future__ import annotations

from typing import Any

import pytest
from stage import MINUTE, Call, Stage
from ways import (
    at,
    clock,
    ended,
    live,
    running,
    subscribe,
)

from models import ledger, settlement
from models.db import Database
from models.people import PersonRow
from models.services.accounts import Person
from models.services.ending import want_end


@pytest.fixture
def stage(database: Database) -> Stage:
    stage = Stage(database)
    stage.node_ready()
    stage.heartbeat()
    return stage


FACTS: dict[str, dict[str, Any]] = {
    "time_expired": {"fact": "time_expired"},
    "payment_refused": {"fact": "time_expired", "refused": True},
    "fan_left": {"fact": "fan_left"},
    "fan_no_show": {"fact": "fan_never_connected", "fan_connected": False, "delivered_ms": 0},
    "creator_left": {"fact": "creator_left"},
    "creator_no_show": {"fact": "creator_never_connected", "creator_connected": False, "delivered_ms": 0},
    "our_fault": {"fact": "node_pause_used_up"},
    "payment_bad": {"fact": "closed", "bad": True},
    "moderation_fan": {"fact": "closed", "at_fault": "fan"},
    "moderation_creator": {"fact": "closed", "at_fault": "creator"},
    "moderation_none": {"fact": "closed", "at_fault": "none"},
}
# At 5:22 of 10 minutes paid ahead, or of the 6 that were held minute by minute; minimum 5.
BILLED = {
    "prepaid": {"time_expired": 10, "fan_left": 6, "fan_no_show": 5, "moderation_fan": 6},
    "per_minute": {"time_expired": 6, "payment_refused": 6, "fan_left": 6, "fan_no_show": 5, "moderation_fan": 6},
}
WHOLE = {"creator_left": 5, "our_fault": 5, "payment_bad": 5, "moderation_creator": 5, "moderation_none": 5}
OTHERS_FAULT = {"creator_left", "creator_no_show", "our_fault", "moderation_creator", "moderation_none"}


def test_the_facts_reach_every_row_of_the_table() -> None:
    assert set(FACTS) == set(settlement.ROWS)


@pytest.mark.parametrize("unlock", [0, 250])
@pytest.mark.parametrize("included", [0, 3])
@pytest.mark.parametrize("mode", ["prepaid", "per_minute"])
@pytest.mark.parametrize("key", sorted(settlement.ROWS))
def test_every_cell_of_the_end_table_is_what_is_settled(
    stage: Stage, key: str, mode: str, included: int, unlock: int
) -> None:
    if key == "payment_refused" and mode == "prepaid":
        return
    what = FACTS[key]
    creator, stream = live(
        stage,
        per_minute=True,
        instant_unlock_price=250,
        subscription_price=400 if included else None,
        subscription_minutes=included,
    )
    fan = stage.fan(5_000)
    if included:
        subscribe(stage, fan, creator)
    call = running(stage, creator, stream, fan, payment_mode=mode, instant_unlock=unlock > 0)
    delivered_ms = what.get("delivered_ms", 322_000)
    if mode == "per_minute" and delivered_ms:
        at(stage, call, 2, 4 * MINUTE + 40_000)
        clock(stage)
        at(stage, call, 3, 322_000)
    if what.get("refused"):
        freeze(stage, fan)
        at(stage, call, 4, 5 * MINUTE + 40_000)
        clock(stage)
    if what.get("bad"):
        stage.run(lambda tx: ledger.mark_lot_bad(tx, f"pur_{fan.handle}", cause_id="test", now=stage.now))
        wish(stage, call, "payment_failed")
    elif "at_fault" in what:
        wish(stage, call, "moderation", at_fault=what["at_fault"])
    sides = {side: what[side] for side in ("fan_connected", "creator_connected") if side in what}
    paid = {"paid_ms": stage.session(call.session_id).paid_ms}
    stage.call_ended(call.session_id, what["fact"], delivered_ms, **paid, **node_pause(key), **sides)

    receipt = ended(stage, call)
    assert stage.session(call.session_id).end_row == key
    minutes = {**BILLED[mode], **WHOLE, "creator_no_show": 0}[key]
    live_once = key != "fan_no_show"
    earned = unlock if live_once and key not in OTHERS_FAULT else 0
    if what.get("bad"):
        # Every token of this fan came from that purchase.
        minutes, earned = included, 0
    charged = max(0, minutes - included) * 100 + earned
    assert (receipt.billed_minutes, receipt.unlock_earned) == (minutes, earned)
    assert (receipt.earnings + receipt.commission, receipt.commission) == (charged, charged * 20 // 100)
    assert receipt.included_used == (0 if key in OTHERS_FAULT else min(minutes, included))
    assert receipt.refunded == receipt.total_held - charged


def node_pause(key: str) -> dict[str, int]:
    return {"node_pause_ms": 120_000} if key == "our_fault" else {}


def freeze(stage: Stage, fan: Person) -> None:
    def write(tx: Any) -> None:
        tx.get_one(PersonRow, fan.user_id).spending_frozen_at = stage.now

    stage.run(write)


def wish(stage: Stage, call: Call, cause: Any, **more: Any) -> None:
    stage.run(lambda tx: want_end(tx, call.session_id, cause, by_id="usr_admin", now=stage.now, **more))
