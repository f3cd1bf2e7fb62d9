"""The clock signs receipts, clears earnings and has payouts asked about; a worker pays them out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select
from stage import MINUTE, Stage, settings

from models.db import Database
from models.gateways.sandbox import SandboxGateway
from models.plumbing import ScheduledJobRow
from models.receipts import ReceiptRow
from models.services import payouts
from models.services.earnings import terms_of
from models.timing import timers_for
from workers.clock import main
from workers.deadlines import Deadlines


@pytest.fixture
def stage(database: Database) -> Stage:
    made = Stage(database)
    made.node_ready()
    return made


def clock(stage: Stage) -> Deadlines:
    return Deadlines(stage.database, timers_for(60_000), settings=settings(), now=lambda: stage.now)


def test_a_receipt_is_there_after_one_round_and_stays_the_only_one(stage: Stage) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, "time_expired", 10 * MINUTE)
    for _ in range(3):
        clock(stage).step()

    with stage.database.reading() as tx:
        assert [row.session_id for row in tx.scalars(select(ReceiptRow))] == [call.session_id]


def test_earnings_clear_by_the_clock_and_a_silent_payout_is_asked_about(stage: Stage) -> None:
    call = stage.running()
    stage.call_ended(call.session_id, "time_expired", 10 * MINUTE)
    clock(stage).step()
    stage.later(days=30)
    clock(stage).step()
    assert stage.balances(call.creator)["earnings"] == 800

    gateway = SandboxGateway(stage.database, 60_000, now=lambda: stage.now)
    creator_id = call.creator.user_id
    payouts.onboard(stage.database, gateway, creator_id, return_url="https://x.test", account=None, now=stage.now)
    terms = terms_of(settings())
    request = stage.run(
        lambda tx: payouts.request(
            tx,
            creator_id,
            tokens=700,
            terms=msgspec.structs.replace(terms, minimum_tokens=1),
            gateway="sandbox",
            cause_id="test",
            now=stage.now,
        )
    )
    stage.later(minutes=6)
    clock(stage).step()
    asked = [body for _, actor, body in stage.actors() if actor == "send_payout"]
    assert asked == [f'["{request.payout_id}"]'] * 2
    with stage.database.reading() as tx:
        names = set(tx.scalars(select(ScheduledJobRow.name)))
    assert {"clear_earnings", "ask_payouts"} <= names


def test_the_clock_refuses_a_key_file_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.pem").write_text("no key")
    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    monkeypatch.setenv("RECEIPT_KEY_FILE", str(tmp_path / "key.pem"))
    assert main() == 2
    assert "RECEIPT_KEY_FILE" in capsys.readouterr().err
