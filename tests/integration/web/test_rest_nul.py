"""NUL, which PostgreSQL cannot store, and what the log tells of a database that fails: on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from test_rest_edges import code_of, sign_in
from web_people import PASSWORD, People

ASK = "/api/streaming/private-request"


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL, which cannot store NUL."""
    return environment | {"DATABASE_URL": database_url}


@pytest.mark.parametrize("at", ["/models/a%00b", "/call/%00", "/history/%00", "/wallet?next=%00"])
def test_nul_in_an_address_of_a_page_is_a_bad_request(
    client: FlaskClient, people: People, csrf: Any, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    sign_in(client, people, csrf)
    assert client.get(at).status_code == 400
    assert "Traceback" not in caplog.text


def test_nul_in_a_form_is_a_bad_request_and_nobody_is_signed_up(
    client: FlaskClient, people: People, csrf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"email": "a\0@people.test", "password": PASSWORD, "handle": "nul", "display_name": "N", "role": "fan"}
    for page in ("/login", "/signup"):
        answer = client.post(page, data=form | {"csrf_token": csrf(client)["X-CSRFToken"]})
        assert answer.status_code == 400
    assert "Traceback" not in caplog.text
    with people.database.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM people")) == 0


@pytest.mark.parametrize(
    ("method", "address"),
    [("GET", "private-requests/%00"), ("GET", "private-sessions/a%00"), ("DELETE", "streams/%00")],
)
def test_nul_in_an_address_of_the_api_is_a_bad_request(
    client: FlaskClient, people: People, method: str, address: str
) -> None:
    headers = people.creator().headers(idempotency_key="k")
    answer = client.open(f"/api/streaming/{address}", method=method, headers=headers)
    assert code_of(answer) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("written", "status"),
    [("a\\u0000b", 422), ("\\\\\\u0000", 422), ("a\\\\u0000b", 404)],
    ids=["nul", "odd", "even"],
)
def test_nul_in_json_is_invalid_and_its_spelling_is_not(
    client: FlaskClient, people: People, written: str, status: int
) -> None:
    body = f'{{"creatorId": "{written}", "streamId": "str_x", "minutes": 5}}'.encode()
    headers = people.fan().headers(content_type="application/json", idempotency_key="k")
    assert client.post(ASK, data=body, headers=headers).status_code == status


def test_a_failing_database_puts_nobodys_data_in_the_log(
    client: FlaskClient, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a database that has lost a table
    someone = people.fan()
    people.database.run(lambda tx: tx.execute(text("ALTER TABLE people RENAME TO elsewhere")))
    # When somebody signs in
    answer = client.post("/api/auth/token", json={"email": someone.email, "password": PASSWORD})
    # Then the log tells the statement, not whose it was
    assert code_of(answer) == (503, "UNAVAILABLE")
    assert "database_failed" in caplog.text
    assert someone.email not in caplog.text
    people.database.run(lambda tx: tx.execute(text("ALTER TABLE elsewhere RENAME TO people")))
