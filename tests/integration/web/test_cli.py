"""``flask --app web …`` does what an operator asks and says what came of it."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from web_people import PASSWORD, People

from models.books import AccountRow


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


def test_the_audit_tells_clean_books_from_others(app: Flask, people: People) -> None:
    fan = people.fan(tokens=500)
    assert run(app, "ledger", "audit")[0] == 0

    def tamper(tx: object) -> None:
        people_accounts = update(AccountRow).where(AccountRow.owner_id == fan.user_id, AccountRow.kind == "wallet")
        tx.execute(people_accounts.values(balance=501))  # type: ignore[attr-defined]

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
