"""What a creator offers beside the plain private stream, and paying in those ways, over HTTP."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from web_people import NODE, People, Someone

from models import ids
from models.clock import utc_now
from models.messages import events
from models.services import presence, private_streams, sessions

OPTIONS = "/api/streaming/creator-options"
OFFERED: dict[str, Any] = {
    "queue": True,
    "requestPriority": "highest_total",
    "perMinute": True,
    "instantUnlockPrice": 500,
    "subscriptionPrice": 999,
    "passPrice": 55,
    "subscriptionMinutes": 30,
    "subscriberDiscountPercent": 15,
}
NOTHING_OFFERED = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": None,
    "passPrice": None,
    "subscriptionMinutes": 0,
    "subscriberDiscountPercent": 0,
}


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL."""
    return environment | {"DATABASE_URL": database_url}


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


# --- asking in one of the ways -----------------------------------------------------------------------

ASK = "/api/streaming/private-request"
EXTEND = "/api/streaming/private-extend"
_keys = itertools.count()


def offered(client: FlaskClient, creator: Someone, **changed: Any) -> None:
    assert client.put(OPTIONS, json=NOTHING_OFFERED | changed, headers=creator.headers()).status_code == 200


def ask(client: FlaskClient, fan: Someone, creator: Someone, stream: Any, **more: Any) -> Any:
    body = {"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 10} | more
    return client.post(ASK, json=body, headers=fan.headers(idempotency_key=f"ask{next(_keys)}"))


def refusal(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    return response.status_code, response.json["code"]


def test_a_quote_is_for_the_way_that_is_chosen(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    offered(client, creator, perMinute=True, instantUnlockPrice=250, subscriptionPrice=900, subscriptionMinutes=20)
    address = f"/api/streaming/private-settings/{creator.user_id}?minutes=10"

    def quote(more: str = "") -> Any:
        return client.get(address + more, headers=fan.headers()).json["quote"]

    plain = quote()
    assert (plain["totalCost"], plain["perMinute"], plain["unlockPrice"]) == (1_000, True, 250)
    assert (plain["subscriber"], plain["includedMinutes"], plain["includedLeft"]) == (False, 0, 0)
    assert plain["subscription"] == {"price": 900, "minutes": 20}
    assert quote("&instantUnlock=1")["totalCost"] == 1_250
    assert (quote("&perMinute=1")["totalCost"], quote("&perMinute=1")["minutes"]) == (500, 5)
    for wrong in ("&perMinute=2", "&instantUnlock=yes"):
        assert client.get(address + wrong, headers=fan.headers()).status_code == 422


def test_a_request_by_the_minute_holds_the_minimum(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    offered(client, creator, perMinute=True)
    stream = people.live(creator)

    asked = ask(client, fan, creator, stream, minutes=100, paymentMode="per_minute", maxTotalCost=500)

    assert asked.status_code == 201
    assert (asked.json["minutes"], asked.json["totalCost"], asked.json["balance"]) == (5, 500, 4_500)
    assert asked.json["paymentMode"] == "per_minute"
    seen = client.get("/api/streaming/private-requests", headers=creator.headers()).json["requests"]
    assert (seen[0]["paymentMode"], seen[0]["totalCost"], seen[0]["includedMinutes"]) == ("per_minute", 500, 0)


def test_an_unlock_is_part_of_the_total_that_was_seen(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    offered(client, creator, instantUnlockPrice=250)
    stream = people.live(creator)

    dearer = ask(client, fan, creator, stream, instantUnlock=True, maxTotalCost=1_249)
    assert refusal(dearer) == (409, "PRICE_CHANGED")
    assert dearer.json["totalCost"] == 1_250
    asked = ask(client, fan, creator, stream, instantUnlock=True, maxTotalCost=1_250)
    assert (asked.status_code, asked.json["totalCost"], asked.json["unlockPrice"]) == (201, 1_250, 250)


@pytest.mark.parametrize("wish", [{"paymentMode": "per_minute"}, {"instantUnlock": True}])
def test_what_is_not_offered_is_refused_and_holds_nothing(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, wish: dict[str, Any]
) -> None:
    stream = people.live(creator)

    refused = ask(client, fan, creator, stream, **wish)

    assert refusal(refused) == (409, "NOT_OFFERED")
    assert refused.json["field"] == next(iter(wish))
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("paymentMode", "later"),
        ("paymentMode", None),
        ("paymentMode", 1),
        ("instantUnlock", "true"),
        ("instantUnlock", 1),
        ("instantUnlock", None),
    ],
)
def test_a_way_of_the_wrong_type_is_named(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, field: str, value: Any
) -> None:
    stream = people.live(creator)
    refused = ask(client, fan, creator, stream, **{field: value})
    assert (refusal(refused), refused.json["field"]) == ((422, "INVALID"), field)


# --- extending ---------------------------------------------------------------------------------------


@pytest.fixture
def call(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> str:
    """The id of a session of ten minutes in which the meter runs."""
    stream = people.live(creator)
    people.present(fan)
    people.database.run(lambda tx: presence.web_heartbeat(tx, "boot_test", utc_now()))
    asked = ask(client, fan, creator, stream)
    accepted = client.post(
        "/api/streaming/private-accept", json={"requestId": asked.json["requestId"]}, headers=creator.headers()
    )
    assert accepted.status_code == 200, accepted.json
    session_id: str = accepted.json["sessionId"]
    say(people, session_id, events.RoomOpened, paid_ms=600_000)
    say(people, session_id, events.MediaDelivered, **RUNNING)
    return session_id


RUNNING = {
    "sequence": 1,
    "state": "running",
    "cause": None,
    "delivered_ms": 0,
    "paid_ms": 600_000,
    "creator_pause_ms": 0,
    "node_pause_ms": 0,
}


def say(people: People, session_id: str, kind: Any, **fields: Any) -> None:
    """What the media node reports."""
    event = kind(
        message_id=ids.new_id(ids.MESSAGE),
        cause_id=session_id,
        node_id=NODE,
        boot_id="boot_1",
        at="2026-01-02T12:00:00.000Z",
        session_id=session_id,
        room_id=ids.private_room(session_id),
        **fields,
    )
    people.database.run(lambda tx: sessions.on_event(tx, event, utc_now()))


def extend(client: FlaskClient, who: Someone, session_id: Any, minutes: Any = 5, key: str = "") -> Any:
    headers = who.headers(idempotency_key=key or f"extend{next(_keys)}")
    return client.post(EXTEND, json={"sessionId": session_id, "minutes": minutes}, headers=headers)


def test_an_extension_answers_what_is_paid_and_what_is_left(client: FlaskClient, call: str, fan: Someone) -> None:
    extended = extend(client, fan, call)

    assert (extended.status_code, extended.json) == (200, {"paidMinutes": 15, "balance": 3_500})
    view = client.get(f"/api/streaming/private-sessions/{call}", headers=fan.headers()).json
    assert (view["paidMinutes"], view["paidMs"], view["totalHeld"]) == (15, 900_000, 1_500)
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 1_500


def test_a_repeated_extension_is_the_first_one(client: FlaskClient, call: str, fan: Someone) -> None:
    first, again = (extend(client, fan, call, key="same") for _ in range(2))
    assert (first.json, again.json) == ({"paidMinutes": 15, "balance": 3_500},) * 2
    assert again.headers["Idempotent-Replayed"] == "true"
    assert refusal(extend(client, fan, call, 6, key="same")) == (422, "IDEMPOTENCY_KEY_REUSED")
    without = client.post(EXTEND, json={"sessionId": call, "minutes": 5}, headers=fan.headers())
    assert refusal(without) == (428, "IDEMPOTENCY_KEY_REQUIRED")


@pytest.mark.parametrize("minutes", [0, -1, 241, 10**30, 1.5, "5", True, None, []])
def test_minutes_that_are_none_are_named(client: FlaskClient, call: str, fan: Someone, minutes: Any) -> None:
    refused = extend(client, fan, call, minutes)
    assert (refusal(refused), refused.json["field"]) == ((422, "INVALID"), "minutes")


def test_an_extension_without_tokens_says_what_is_required(client: FlaskClient, call: str, fan: Someone) -> None:
    refused = extend(client, fan, call, 41)
    assert refusal(refused) == (402, "INSUFFICIENT_TOKENS")
    assert (refused.json["required"], refused.json["balance"]) == (4_100, 4_000)


def test_nobody_else_extends_a_call(client: FlaskClient, people: People, call: str, creator: Someone) -> None:
    assert refusal(extend(client, people.fan(), call)) == (404, "NOT_FOUND")
    assert refusal(extend(client, creator, call)) == (403, "FORBIDDEN")
    assert refusal(extend(client, people.fan(), "ses_none")) == (404, "NOT_FOUND")
    unsigned = client.post(EXTEND, json={"sessionId": call, "minutes": 5}, headers={"Idempotency-Key": "k"})
    assert refusal(unsigned) == (401, "UNAUTHENTICATED")


def test_a_call_that_ends_or_has_ended_is_not_extended(
    client: FlaskClient, people: People, call: str, fan: Someone
) -> None:
    client.post("/api/streaming/private-end", json={"sessionId": call}, headers=fan.headers())
    late = extend(client, fan, call)
    assert refusal(late) == (409, "SESSION_NOT_LIVE")
    assert late.json["state"] == "settling"
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 1_000


def test_parallel_extensions_hold_for_each_and_never_more_than_there_is(
    people: People, app: Flask, call: str, fan: Someone
) -> None:
    """4,000 tokens are free: eight of five minutes each fit, of twelve."""
    answers: list[int] = []

    def press() -> None:
        answers.append(extend(app.test_client(), fan, call).status_code)

    presses = [threading.Thread(target=press) for _ in range(12)]
    for thread in presses:
        thread.start()
    for thread in presses:
        thread.join(60)
    assert sorted(answers) == [200] * 8 + [402] * 4
    view = app.test_client().get(f"/api/streaming/private-sessions/{call}", headers=fan.headers()).json
    assert (view["paidMinutes"], view["totalHeld"]) == (50, 5_000)


def test_a_receipt_names_the_way_it_was_paid(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    offered(client, creator, perMinute=True, instantUnlockPrice=250)
    stream = people.live(creator)
    people.present(fan)
    people.database.run(lambda tx: presence.web_heartbeat(tx, "boot_test", utc_now()))
    asked = ask(client, fan, creator, stream, paymentMode="per_minute", instantUnlock=True).json
    assert people.database.run(lambda tx: private_streams.apply_rule(tx, asked["requestId"], utc_now()))
    request = f"/api/streaming/private-requests/{asked['requestId']}"
    session_id = client.get(request, headers=fan.headers()).json["sessionId"]
    say(people, session_id, events.RoomOpened, paid_ms=300_000)
    say(people, session_id, events.MediaDelivered, **RUNNING | {"paid_ms": 300_000})
    end = {
        "sequence": 2,
        "fact": "fan_left",
        "delivered_ms": 61_000,
        "paid_ms": 300_000,
        "creator_pause_ms": 0,
        "node_pause_ms": 0,
        "pause_cause": None,
        "paused_for_ms": 0,
        "creator_connected": True,
        "fan_connected": True,
    }
    say(people, session_id, events.CallEnded, **end)

    receipt = client.get(f"/api/streaming/private-sessions/{session_id}", headers=fan.headers()).json

    assert (receipt["paymentMode"], receipt["unlockPrice"], receipt["unlockEarned"]) == ("per_minute", 250, 250)
    assert (receipt["earnings"], receipt["commission"], receipt["refunded"]) == (600, 150, 0)
    assert "includedMinutes" not in receipt
