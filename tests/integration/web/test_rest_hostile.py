"""Requests that no honest client sends: refused in words, and nothing grows by them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from test_rest_edges import code_of, sign_in
from web_people import PASSWORD, People


def test_an_email_of_control_characters_is_none(client: FlaskClient, csrf: Any) -> None:
    body = {"email": "a\x01@b.test", "password": PASSWORD, "handle": "abc", "displayName": "N"}
    assert code_of(client.post("/api/auth/signup", json=body, headers=csrf(client))) == (422, "INVALID")


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_moment_beyond_the_calendar_is_no_page(
    client: FlaskClient, people: People, csrf: Any, moment: str
) -> None:
    sign_in(client, people, csrf)
    assert client.get("/history", query_string={"before": moment}).status_code == 404


def test_methods_that_nobody_knows_are_counted_as_one(client: FlaskClient) -> None:
    for number in range(5):
        assert client.open("/", method=f"BREW{number}").status_code == 405
    counted = client.get("/metrics").get_data(as_text=True)
    assert set(re.findall(r'requests_total{method="(\w+)"', counted)) <= {"GET", "other"}
    assert 'method="other"' in counted


@pytest.mark.parametrize("address", ["/wallet", "/history", "/account", "/models", "/login"])
def test_pages_are_not_stored(client: FlaskClient, people: People, csrf: Any, address: str) -> None:
    """After a sign-out nobody at that browser may page back to what it showed."""
    sign_in(client, people, csrf)
    assert client.get(address).headers["Cache-Control"] == "no-store"


def test_scripts_and_styles_are_stored(client: FlaskClient) -> None:
    with client.get("/static/js/api.js") as answer:
        assert answer.headers["Cache-Control"] != "no-store"


def test_signing_out_on_the_page_looks_at_the_feeds_at_once(
    app: Flask, client: FlaskClient, people: People, csrf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rechecked: list[str] = []
    monkeypatch.setattr(app.extensions["greenroom"].hub, "recheck", rechecked.append)
    headers = sign_in(client, people, csrf)
    rechecked.clear()
    assert client.post("/logout", headers=headers).status_code == 303
    assert len(rechecked) == 1
