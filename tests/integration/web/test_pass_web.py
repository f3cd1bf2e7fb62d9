"""Passes over REST and on the pages: the price before the press, the best picture after it."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from on_air import OnAir, pictures_are_made, watch
from web_people import People, Someone, code_of

from models.config import Settings
from models.db import Database

OPTIONS = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": None,
    "subscriptionMinutes": 0,
    "subscriberDiscountPercent": 0,
}


@pytest.fixture
def on_air(app: Flask, people: People, settings: Settings) -> OnAir:
    people.node()
    creator = people.make("creator")
    database: Database = people.database
    made = OnAir(creator, people.live(creator), database, settings.hls_dir)
    pictures_are_made(database)
    return made


def offered(client: FlaskClient, creator: Someone, price: int | None) -> None:
    wish = OPTIONS | {"passPrice": price}
    answer = client.put("/api/streaming/creator-options", json=wish, headers=creator.headers())
    assert (answer.status_code, answer.get_json()["passPrice"]) == (200, price)


def test_a_pass_is_bought_and_shown(client: FlaskClient, on_air: OnAir, people: People) -> None:
    # given
    creator, fan = on_air.creator, people.make("fan", tokens=100)
    page = f"/models/{creator.person.handle}?part=pass"
    wish = {"creatorId": creator.user_id, "maxPrice": 40}
    assert client.get(page, headers=fan.headers()).get_data(as_text=True).strip() == ""
    refused = client.post("/api/streaming/passes", json=wish, headers=fan.headers(idempotency_key="early"))
    assert code_of(refused) == (409, "PASS_NOT_OFFERED")
    offered(client, creator, 40)
    offer = client.get(f"/api/streaming/pass-offer/{creator.user_id}", headers=fan.headers()).get_json()
    assert offer == {"creatorId": creator.user_id, "balance": 100, "hours": 24, "priceTokens": 40}
    shown = client.get(page, headers=fan.headers()).get_data(as_text=True)
    assert ">40</b> tokens" in shown
    assert "about $" in shown
    assert ".free." in watch(client, on_air, fan)
    # when
    once = fan.headers(idempotency_key="once")
    answers = [client.post("/api/streaming/passes", json=wish, headers=once) for _ in range(2)]
    # then
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].get_json() == answers[1].get_json()
    assert ".premium." in watch(client, on_air, fan)
    assert "Your pass" in client.get(page, headers=fan.headers()).get_data(as_text=True)
    offer = client.get(f"/api/streaming/pass-offer/{creator.user_id}", headers=fan.headers()).get_json()
    assert (offer["balance"], offer["current"]["passId"]) == (60, answers[0].get_json()["passId"])
    # and both read in words what was paid
    statement = client.get("/wallet", headers=fan.headers()).get_data(as_text=True)
    assert f"Pass for {creator.person.display_name}" in statement


def test_what_is_asked_wrongly(client: FlaskClient, on_air: OnAir, people: People) -> None:
    fan = people.make("fan", tokens=100)
    offered(client, on_air.creator, 40)
    wish = {"creatorId": on_air.creator.user_id, "maxPrice": 40}

    def post(body: object, **more: str) -> tuple[int, str]:
        return code_of(client.post("/api/streaming/passes", json=body, headers=fan.headers(**more)))

    assert post(wish) == (428, "IDEMPOTENCY_KEY_REQUIRED")
    assert post(wish | {"maxPrice": 39}, idempotency_key="a") == (409, "PRICE_CHANGED")
    assert post(wish | {"maxPrice": -1}, idempotency_key="b") == (422, "INVALID")
    assert post(wish | {"creatorId": "usr_nobody"}, idempotency_key="c") == (404, "NOT_FOUND")
    for price in (0, 1_000_001):
        put = client.put(
            "/api/streaming/creator-options", json=OPTIONS | {"passPrice": price}, headers=on_air.creator.headers()
        )
        assert code_of(put) == (422, "INVALID")
