"""``flask --app web …`` does what an operator asks and says what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session
from test_page_words import ended_call
from web_people import PASSWORD, People

from models.books import AccountRow
from models.clock import utc_now
from models.config import Settings
from models.receipt_keys import signing_key
from models.services import receipt_chain

ROOT = Path(__file__).resolve().parents[3]


def run(app: Flask, *words: str, said: str | None = None) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=list(words), input=said)
    return result.exit_code, result.output


def test_the_database_is_upgraded_again_without_harm(app: Flask) -> None:
    assert run(app, "db", "upgrade")[0] == 0


def test_an_account_is_created_and_can_sign_in(app: Flask, client: FlaskClient) -> None:
    words = ("accounts", "create", "--email", "Ada@people.test", "--handle", "ada", "--name", "Ada")
    words += ("--role", "admin")

    status, output = run(app, *words, said=f"{PASSWORD}\n{PASSWORD}\n")
    assert status == 0, output
    assert "ada admin" in output
    assert PASSWORD not in output
    given = client.post("/api/auth/token", json={"email": "ada@people.test", "password": PASSWORD})
    assert given.status_code == 200
    again, output = run(app, *words, said=f"{PASSWORD}\n{PASSWORD}\n")
    assert (again, "e-mail" in output) == (1, True)
    assert run(app, *words, said="short\nshort\n")[0] == 1


def test_the_audit_tells_clean_books_from_others(
    app: Flask, people: People, without_rules: Callable[[Session], None]
) -> None:
    fan = people.fan(tokens=500)
    assert run(app, "ledger", "audit")[0] == 0

    def tamper(tx: Session) -> None:
        without_rules(tx)
        people_accounts = update(AccountRow).where(AccountRow.owner_id == fan.user_id, AccountRow.kind == "wallet")
        tx.execute(people_accounts.values(balance=501))

    people.database.run(tamper)
    status, output = run(app, "ledger", "audit")
    assert (status, "PROBLEM" in output, "NOT CLEAN" in output) == (1, True, True)


def test_an_integrators_token_works_until_it_is_revoked(app: Flask, client: FlaskClient) -> None:
    status, output = run(app, "integrators", "create-token", "Partner", "--scope", "rtc:terminate")
    assert status == 0
    token_id, token = output.split()
    headers = {"Authorization": f"Bearer {token}"}
    body = {"roomId": "live-none", "userId": "usr_none", "reason": "MODERATION"}

    assert client.post("/api/rtc/terminate-stream", json=body, headers=headers).status_code == 404
    assert run(app, "integrators", "revoke", token_id)[0] == 0
    assert client.post("/api/rtc/terminate-stream", json=body, headers=headers).status_code == 401
    assert run(app, "integrators", "revoke", "int_none")[0] == 1
    assert run(app, "integrators", "create-token", "Partner", "--scope", "everything")[0] == 2


def test_receipts_are_exported_and_verified_offline(
    app: Flask, people: People, settings: Settings, tmp_path: Path
) -> None:
    creator, fan = people.creator(), people.fan()
    ended_call(people, settings, creator, fan)
    key = signing_key(settings)
    people.database.run(lambda tx: receipt_chain.issue_due(tx, key, utc_now()))
    file, keys = tmp_path / "receipts.jsonl", tmp_path / "keys.json"
    file.write_text(run(app, "receipts", "export", creator.person.handle)[1])
    keys.write_text(run(app, "receipts", "keys")[1])

    status, output = run(app, "receipts", "verify", str(file), "--keys", str(keys))
    assert (status, output.splitlines()[0]) == (0, f"VALID: export of {creator.user_id}")
    file.write_text(file.read_text().replace('"earnings":480', '"earnings":481'))
    status, output = run(app, "receipts", "verify", str(file), "--keys", str(keys))
    assert (status, "NOT VALID" in output, "its signature does not fit" in output) == (1, True, True)
    assert run(app, "receipts", "export", "nobody")[0] == 1


def test_what_cannot_be_verified_is_said_to_be_unchecked(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text("{}")
    status, output = run(app, "receipts", "verify", str(tmp_path / "receipt.json"))
    assert (status, "NOT CHECKED" in output) == (2, True)
    (tmp_path / "greenroom-receipt-keys.json").write_text("[]")
    assert run(app, "receipts", "verify", str(tmp_path / "receipt.json"))[0] == 2
    (tmp_path / "greenroom-receipt-keys.json").write_text('{"keys": []}')
    assert run(app, "receipts", "verify", str(tmp_path / "receipt.json"))[0] == 1


def test_the_checker_runs_without_settings_and_database(tmp_path: Path) -> None:
    """On somebody else's machine: an environment that holds nothing of ours."""
    words = [sys.executable, "-m", "models.receipt_check", str(tmp_path / "none.json")]
    done = subprocess.run(words, capture_output=True, text=True, env={}, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, "NOT CHECKED" in done.stdout) == (2, True), done.stderr
