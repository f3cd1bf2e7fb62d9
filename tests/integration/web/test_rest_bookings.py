"""Slots, bookings and turns over HTTP: each with its status and codes, and what hostile clients send."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from web_people import People, Someone, code_of

from models import ledger
from models.audit import audit
from models.clock import rfc3339, utc_now
from models.plumbing import OutboxRow
from models.services import offers, presence, queueing, sessions
from models.services.streams import StreamView

SLOTS = "/api/streaming/slots"
BOOKINGS = "/api/streaming/bookings"
RECONFIRM = "/api/streaming/private-reconfirm"
_keys = itertools.count()


def at(**ahead: float) -> str:
    return rfc3339(utc_now() + timedelta(**ahead))


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"key-{next(_keys)}"}


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL."""
    return environment | {"DATABASE_URL": database_url}


def opened(client: FlaskClient, creator: Someone, minutes: int = 10, **ahead: float) -> dict[str, Any]:
    body = {"slots": [{"startsAt": at(**(ahead or {"hours": 2})), "minutes": minutes}]}
    response = client.post(SLOTS, json=body, headers=creator.headers())
    assert response.status_code == 201, response.json
    (slot,) = response.json["slots"]
    return slot  # type: ignore[no-any-return]


def booked(client: FlaskClient, fan: Someone, slot: dict[str, Any], **more: Any) -> Any:
    return client.post(BOOKINGS, json={"slotId": slot["slotId"]} | more, headers=fan.headers() | key())


def test_a_time_is_opened_seen_booked_and_cancelled(client: FlaskClient, creator: Someone, fan: Someone) -> None:
    slot = opened(client, creator)
    assert (slot["status"], slot["minutes"], slot["totalCost"]) == ("open", 10, 1_000)

    seen = client.get(f"{SLOTS}/{creator.user_id}", headers=fan.headers()).json["slots"]
    assert [each["slotId"] for each in seen] == [slot["slotId"]]
    booking = booked(client, fan, slot, maxTotalCost=1_000)
    assert booking.status_code == 201
    assert booking.json["status"] == "booked"
    assert booking.json["counterpart"]["handle"] == creator.person.handle
    assert "email" not in booking.text
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 1_000

    own = client.get(f"{SLOTS}/{creator.user_id}", headers=creator.headers()).json["slots"][0]
    assert own["booking"]["counterpart"] == {
        "handle": fan.person.handle,
        "displayName": fan.person.handle,
        "avatarUrl": None,
        "isMock": False,
    }
    booking_id = booking.json["bookingId"]
    for person, role in ((fan, "fan"), (creator, "creator")):
        listed = client.get(BOOKINGS, headers=person.headers()).json["bookings"]
        assert [(each["bookingId"], each["role"]) for each in listed] == [(booking_id, role)]
    gone = client.delete(f"{BOOKINGS}/{booking_id}", headers=fan.headers())
    assert (gone.status_code, gone.json["status"]) == (200, "cancelled")
    assert code_of(client.delete(f"{BOOKINGS}/{booking_id}", headers=fan.headers())) == (409, "BOOKING_CLOSED")
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 0


def test_the_same_press_twice_books_once(client: FlaskClient, creator: Someone, fan: Someone) -> None:
    slot = opened(client, creator)
    headers = fan.headers() | key()
    first = client.post(BOOKINGS, json={"slotId": slot["slotId"]}, headers=headers)
    again = client.post(BOOKINGS, json={"slotId": slot["slotId"]}, headers=headers)
    assert (again.status_code, again.json) == (201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = client.post(BOOKINGS, json={"slotId": "slt_other"}, headers=headers)
    assert code_of(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    bare = client.post(BOOKINGS, json={"slotId": slot["slotId"]}, headers=fan.headers())
    assert code_of(bare) == (428, "IDEMPOTENCY_KEY_REQUIRED")
    assert code_of(booked(client, fan, slot)) == (409, "SLOT_TAKEN")


def test_of_a_crowd_one_gets_the_time(app: Flask, people: People, client: FlaskClient, creator: Someone) -> None:
    slot = opened(client, creator)
    crowd = [people.fan(tokens=5_000) for _ in range(8)]
    with ThreadPoolExecutor(len(crowd)) as pool:
        answers = list(pool.map(lambda fan: booked(app.test_client(), fan, slot), crowd))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {answer.json["code"] for answer in answers if answer.status_code == 409} == {"SLOT_TAKEN"}
    with app.extensions["database"].reading() as tx:
        held = [ledger.balances(tx, fan.user_id)["held"] for fan in crowd]
        assert sorted(held) == [0] * 7 + [1_000]
        assert audit(tx).problems == ()


@pytest.mark.parametrize(
    ("slots", "field"),
    [
        ([], "slots"),
        ([{"startsAt": "tomorrow", "minutes": 10}], "slots[0].startsAt"),
        ([{"startsAt": "2030-01-01T10:00:00", "minutes": 10}], "slots[0].startsAt"),
        ([{"startsAt": 1_900_000_000, "minutes": 10}], "slots[0].startsAt"),
        ([{"startsAt": "9999-12-31T23:59:59-14:00", "minutes": 10}], "startsAt"),
        ([{"startsAt": "0001-01-01T00:00:00+14:00", "minutes": 10}], "startsAt"),
        ([{"startsAt": "2020-01-01T10:00:00Z", "minutes": 10}], "startsAt"),
        ([{"minutes": 10}], "slots[0].startsAt"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": 0}], "slots[0].minutes"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": 241}], "slots[0].minutes"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": 1e300}], "slots[0].minutes"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": "10"}], "slots[0].minutes"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": True}], "slots[0].minutes"),
        ([{"startsAt": "2030-01-01T10:00:00Z", "minutes": 10}] * 61, "slots"),
        ("all of them", "slots"),
    ],
)
def test_times_that_do_not_fit_are_refused_and_named(
    client: FlaskClient, creator: Someone, slots: Any, field: str
) -> None:
    response = client.post(SLOTS, json={"slots": slots}, headers=creator.headers())
    assert code_of(response) == (422, "INVALID")
    assert response.json["field"] == field
    assert client.get(f"{SLOTS}/{creator.user_id}", headers=creator.headers()).json == {"slots": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slotId": ""},
        {"slotId": 7},
        {"slotId": "s" * 65},
        {"slotId": "slt_x", "maxTotalCost": -1},
        {"slotId": "slt_x", "maxTotalCost": 2**63},
        {"slotId": "slt_x", "maxTotalCost": "all"},
        [],
    ],
)
def test_bookings_that_do_not_fit_are_refused(client: FlaskClient, fan: Someone, body: Any) -> None:
    assert code_of(client.post(BOOKINGS, json=body, headers=fan.headers() | key())) == (422, "INVALID")


def test_who_may_do_what(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> None:
    slot = opened(client, creator)
    body = {"slots": [{"startsAt": at(hours=3), "minutes": 10}]}
    assert client.post(SLOTS, json=body).status_code == 401
    assert client.post(BOOKINGS, json={"slotId": slot["slotId"]}).status_code == 401
    assert code_of(client.post(SLOTS, json=body, headers=fan.headers())) == (403, "FORBIDDEN")
    assert code_of(booked(client, creator, slot)) == (403, "FORBIDDEN")
    other = people.creator()
    assert code_of(client.delete(f"{SLOTS}/{slot['slotId']}", headers=other.headers())) == (404, "NOT_FOUND")
    assert client.get(f"{SLOTS}/{fan.user_id}", headers=fan.headers()).status_code == 404
    booking_id = booked(client, fan, slot).json["bookingId"]
    for stranger in (other, people.fan()):
        assert client.get(f"{BOOKINGS}/{booking_id}", headers=stranger.headers()).status_code == 404
        assert client.delete(f"{BOOKINGS}/{booking_id}", headers=stranger.headers()).status_code == 404
    refused = client.delete(f"{SLOTS}/{slot['slotId']}", headers=creator.headers())
    assert (code_of(refused), refused.json["bookingId"]) == ((409, "SLOT_BOOKED"), booking_id)
    assert client.delete(f"{BOOKINGS}/{booking_id}", headers=creator.headers()).json["closeReason"] == "creator"


def test_refusals_of_a_booking(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> None:
    slot, soon = opened(client, creator), opened(client, creator, minutes=1, seconds=305)
    poor = booked(client, people.fan(tokens=400), slot)
    assert code_of(poor) == (402, "INSUFFICIENT_TOKENS")
    assert (poor.json["required"], poor.json["balance"]) == (1_000, 400)
    dear = booked(client, fan, slot, maxTotalCost=999)
    assert (code_of(dear), dear.json["totalCost"]) == ((409, "PRICE_CHANGED"), 1_000)
    assert code_of(booked(client, fan, {"slotId": "slt_none"})) == (404, "NOT_FOUND")
    booking = booked(client, fan, soon)
    fixed = client.delete(f"{BOOKINGS}/{booking.json['bookingId']}", headers=fan.headers())
    assert code_of(fixed) == (409, "BOOKING_FIXED")
    assert datetime.fromisoformat(fixed.json["cancelUntil"]) < datetime.now(UTC)
    overlapping = opened(client, people.creator(), minutes=1, seconds=320)
    assert code_of(booked(client, fan, overlapping)) == (409, "FAN_BOOKED")


def test_times_overlap_and_end(client: FlaskClient, creator: Someone) -> None:
    opened(client, creator, hours=2)
    body = {"slots": [{"startsAt": at(hours=5), "minutes": 10}, {"startsAt": at(hours=2), "minutes": 10}]}
    assert code_of(client.post(SLOTS, json=body, headers=creator.headers())) == (409, "SLOT_OVERLAPS")
    assert len(client.get(f"{SLOTS}/{creator.user_id}", headers=creator.headers()).json["slots"]) == 1


def test_a_request_that_runs_into_a_booking_is_refused(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)
    booked(client, fan, opened(client, creator, minutes=20, hours=1))
    asked = client.post(
        "/api/streaming/private-request",
        json={"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": 60},
        headers=people.fan(tokens=9_000).headers() | key(),
    )
    assert code_of(asked) == (409, "CREATOR_UNAVAILABLE")
    assert datetime.fromisoformat(asked.json["startsAt"]) > datetime.now(UTC)


# --- the queue ---------------------------------------------------------------------------------------


def ask(client: FlaskClient, fan: Someone, stream: StreamView) -> Any:
    body = {"creatorId": stream.creator_id, "streamId": stream.stream_id, "minutes": 5}
    return client.post("/api/streaming/private-request", json=body, headers=fan.headers() | key())


def test_a_turn_is_confirmed_by_whose_it_is_in_time_and_once(
    app: Flask, client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    database, stream = app.extensions["database"], people.live(creator)
    options = msgspec.convert({"queue": True}, offers.CreatorOptions)
    database.run(lambda tx: offers.put_options(tx, creator.user_id, options))
    first, other = people.fan(tokens=5_000), people.fan(tokens=5_000)
    for person in (creator, fan, first, other):
        database.run(lambda tx, person=person: presence.feed_opened(tx, person.user_id, "web_1", utc_now()))
    running = client.post(
        "/api/streaming/private-accept",
        json={"requestId": ask(client, first, stream).json["requestId"]},
        headers=creator.headers(),
    ).json["sessionId"]
    waits, second = ask(client, fan, stream), ask(client, other, stream)
    assert (waits.status_code, waits.json["status"], waits.json["position"]) == (201, "queued", 1)
    assert second.json["position"] == 2
    body = {"requestId": waits.json["requestId"]}
    assert code_of(client.post(RECONFIRM, json=body, headers=fan.headers())) == (409, "NOT_YOUR_TURN")

    client.post("/api/streaming/private-end", json={"sessionId": running}, headers=creator.headers())
    later = utc_now() + timedelta(minutes=2)
    database.run(lambda tx: presence.web_heartbeat(tx, "web_1", utc_now()))
    database.run(lambda tx: sessions.settle_overdue(tx, later))
    with database.reading() as tx:
        assert sessions.current_session_of(tx, creator.user_id) is None
    database.run(lambda tx: tx.execute(update(OutboxRow).values(published_at=utc_now())))
    database.run(lambda tx: sessions.settle_overdue(tx, later + timedelta(minutes=2)))
    assert database.run(lambda tx: queueing.call_waiting(tx, utc_now())) == 1

    address = f"/api/streaming/private-requests/{waits.json['requestId']}"
    assert client.get(address, headers=fan.headers()).json["turn"] is True
    assert code_of(client.post(RECONFIRM, json=body, headers=other.headers())) == (404, "NOT_FOUND")
    assert code_of(client.post(RECONFIRM, json=body, headers=creator.headers())) == (403, "FORBIDDEN")
    assert code_of(client.post(RECONFIRM, json={"requestId": 1}, headers=fan.headers())) == (422, "INVALID")
    with ThreadPoolExecutor(5) as pool:
        answers = list(
            pool.map(lambda _: app.test_client().post(RECONFIRM, json=body, headers=fan.headers()), range(5))
        )
    assert {(answer.status_code, answer.json["status"]) for answer in answers} == {(200, "pending")}
    panel = client.get("/api/streaming/private-requests", headers=creator.headers()).json["requests"]
    assert [(each["status"], each["position"], each["turn"]) for each in panel] == [
        ("pending", 1, False),
        ("queued", 1, False),
    ]
    accepted = client.post("/api/streaming/private-accept", json=body, headers=creator.headers())
    assert accepted.status_code == 200, accepted.json
    assert code_of(client.post(RECONFIRM, json=body, headers=fan.headers())) == (409, "REQUEST_NOT_PENDING")
    with database.reading() as tx:
        assert audit(tx).problems == ()
