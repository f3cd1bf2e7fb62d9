"""What a creator offers beside the plain private stream, and paying in those ways, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from web_people import People, Someone

OPTIONS = "/api/streaming/creator-options"
OFFERED: dict[str, Any] = {
    "queue": True,
    "requestPriority": "highest_total",
    "perMinute": True,
    "instantUnlockPrice": 500,
    "subscriptionPrice": 999,
    "subscriptionMinutes": 30,
    "subscriberDiscountPercent": 15,
}
NOTHING_OFFERED = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": None,
    "subscriptionMinutes": 0,
    "subscriberDiscountPercent": 0,
}


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL."""
    return environment | {"DATABASE_URL": database_url}


@pytest.fixture
def creator(people: People) -> Someone:
    return people.creator()


@pytest.fixture
def fan(people: People) -> Someone:
    return people.fan(tokens=5_000)


def test_options_are_saved_and_read_back(client: FlaskClient, creator: Someone) -> None:
    assert client.get(OPTIONS, headers=creator.headers()).json == NOTHING_OFFERED

    saved = client.put(OPTIONS, json=OFFERED, headers=creator.headers())

    assert (saved.status_code, saved.json) == (200, OFFERED)
    assert client.get(OPTIONS, headers=creator.headers()).json == OFFERED
    client.put(OPTIONS, json=NOTHING_OFFERED, headers=creator.headers())
    assert client.get(OPTIONS, headers=creator.headers()).json == NOTHING_OFFERED


def test_saving_one_form_leaves_the_other_alone(client: FlaskClient, creator: Someone) -> None:
    settings = {"enabled": False, "ratePerMinute": 7, "minMinutes": 9, "autoAccept": "all"}
    client.put(OPTIONS, json=OFFERED, headers=creator.headers())

    client.put("/api/streaming/private-settings", json=settings, headers=creator.headers())

    assert client.get(OPTIONS, headers=creator.headers()).json == OFFERED
    client.put(OPTIONS, json=NOTHING_OFFERED, headers=creator.headers())
    address = f"/api/streaming/private-settings/{creator.user_id}"
    assert client.get(address, headers=creator.headers()).json == {"creatorId": creator.user_id, **settings}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue", "yes"),
        ("requestPriority", "loudest"),
        ("perMinute", 1),
        ("instantUnlockPrice", 0),
        ("instantUnlockPrice", 1_000_001),
        ("instantUnlockPrice", "5"),
        ("subscriptionPrice", -1),
        ("subscriptionPrice", 10**30),
        ("subscriptionMinutes", 601),
        ("subscriberDiscountPercent", 91),
        ("subscriberDiscountPercent", True),
    ],
)
def test_what_does_not_fit_is_named(client: FlaskClient, creator: Someone, field: str, value: Any) -> None:
    refused = client.put(OPTIONS, json=OFFERED | {field: value}, headers=creator.headers())

    assert (refused.status_code, refused.json["code"], refused.json["field"]) == (422, "INVALID", field)
    assert client.get(OPTIONS, headers=creator.headers()).json == NOTHING_OFFERED


def test_options_are_a_creators_own(client: FlaskClient, fan: Someone) -> None:
    assert client.get(OPTIONS, headers=fan.headers()).status_code == 403
    assert client.put(OPTIONS, json=OFFERED, headers=fan.headers()).status_code == 403
    assert client.get(OPTIONS).status_code == 401
