"""docs/contract.md section 3 over HTTP: streams, requests, sessions, each with its status and codes."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from web_people import People, Someone, code_of

ASK = "/api/streaming/private-request"


def body_for(creator: Someone, stream: Any, minutes: Any = 5, **more: Any) -> dict[str, Any]:
    return {"creatorId": creator.user_id, "streamId": stream.stream_id, "minutes": minutes} | more


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL."""
    return environment | {"DATABASE_URL": database_url}


def test_a_creator_goes_live_is_listed_and_ends(client: FlaskClient, people: People, creator: Someone) -> None:
    people.node()

    began = client.post("/api/streaming/streams", json={"title": "Hello"}, headers=creator.headers())
    assert began.status_code == 201
    assert began.json["status"] == "live"
    assert began.json["roomId"] == f"live-{began.json['streamId']}"
    listed = client.get("/api/streaming/streams").json["streams"]
    assert [stream["handle"] for stream in listed] == [creator.person.handle]
    again = client.post("/api/streaming/streams", headers=creator.headers())
    assert code_of(again) == (409, "ALREADY_LIVE")
    assert again.json["streamId"] == began.json["streamId"]
    ended = client.delete(f"/api/streaming/streams/{began.json['streamId']}", headers=creator.headers())
    assert (ended.status_code, ended.json["status"]) == (200, "ended")
    assert client.get("/api/streaming/streams").json == {"streams": []}


def test_without_a_media_node_nobody_goes_live(client: FlaskClient, creator: Someone) -> None:
    assert code_of(client.post("/api/streaming/streams", headers=creator.headers())) == (503, "NO_MEDIA_NODE")


def test_a_stream_is_ended_by_its_creator_alone(client: FlaskClient, people: People, creator: Someone) -> None:
    stream, other = people.live(creator), people.creator()

    refused = client.delete(f"/api/streaming/streams/{stream.stream_id}", headers=other.headers())
    assert code_of(refused) == (404, "NOT_FOUND")
    assert client.post("/api/streaming/streams", headers=people.fan().headers()).status_code == 403


def test_settings_are_saved_and_quoted_to_fans(client: FlaskClient, creator: Someone, fan: Someone) -> None:
    wanted = {"enabled": True, "ratePerMinute": 120, "minMinutes": 3, "autoAccept": "subscribers"}

    saved = client.put("/api/streaming/private-settings", json=wanted, headers=creator.headers())
    assert saved.status_code == 200
    assert saved.json == {"creatorId": creator.user_id, **wanted}
    address = f"/api/streaming/private-settings/{creator.user_id}"
    quoted = client.get(f"{address}?minutes=4", headers=fan.headers()).json["quote"]
    assert (quoted["totalCost"], quoted["balance"], quoted["affordable"]) == (480, 5_000, True)
    assert "quote" not in client.get(address, headers=creator.headers()).json
    assert code_of(client.get(address)) == (401, "UNAUTHENTICATED")
    missing = client.get("/api/streaming/private-settings/usr_none", headers=fan.headers())
    assert code_of(missing) == (404, "NOT_FOUND")
    assert code_of(client.put("/api/streaming/private-settings", json=wanted, headers=fan.headers()))[0] == 403


@pytest.mark.parametrize("minutes", ["0", "-1", "2.5", "241", "abc", "1" * 30])
def test_a_quote_for_minutes_that_are_none_is_refused(
    client: FlaskClient, creator: Someone, fan: Someone, minutes: str
) -> None:
    address = f"/api/streaming/private-settings/{creator.user_id}?minutes={minutes}"

    refused = client.get(address, headers=fan.headers())
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == "minutes"


def test_a_request_is_made_seen_and_taken_back(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)

    asked = client.post(ASK, json=body_for(creator, stream), headers=fan.headers(idempotency_key="k1"))
    assert asked.status_code == 201, asked.json
    assert (asked.json["status"], asked.json["totalCost"], asked.json["balance"]) == ("pending", 500, 4_500)
    seen = client.get("/api/streaming/private-requests", headers=creator.headers()).json["requests"]
    assert [(one["requestId"], one["minutes"], one["fan"]["handle"]) for one in seen] == [
        (asked.json["requestId"], 5, fan.person.handle)
    ]
    assert fan.user_id not in str(seen)
    assert fan.email not in str(seen)
    wallet = client.get("/api/wallet", headers=fan.headers()).json
    assert (wallet["available"], wallet["held"]) == (4_500, 500)
    named = {"requestId": asked.json["requestId"]}
    taken = client.post("/api/streaming/private-cancel", json=named, headers=fan.headers())
    assert (taken.status_code, taken.json) == (200, {"status": "cancelled"})
    again = client.post("/api/streaming/private-cancel", json=named, headers=fan.headers())
    assert code_of(again) == (409, "REQUEST_NOT_PENDING")
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 5_000


def test_a_request_is_declined_by_its_creator_alone(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)
    asked = client.post(ASK, json=body_for(creator, stream), headers=fan.headers(idempotency_key="k1"))
    named = {"requestId": asked.json["requestId"]}

    for stranger in (people.creator(), fan):
        refused = client.post("/api/streaming/private-decline", json=named, headers=stranger.headers())
        assert refused.status_code in (403, 404)
    seen_by_stranger = client.get(
        f"/api/streaming/private-requests/{named['requestId']}", headers=people.fan().headers()
    )
    assert code_of(seen_by_stranger) == (404, "NOT_FOUND")
    declined = client.post("/api/streaming/private-decline", json=named, headers=creator.headers())
    assert (declined.status_code, declined.json) == (200, {"status": "declined"})


def test_accepting_opens_a_session_that_either_may_end(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)
    people.present(fan)
    asked = client.post(ASK, json=body_for(creator, stream), headers=fan.headers(idempotency_key="k1"))
    named = {"requestId": asked.json["requestId"]}

    accepted = client.post("/api/streaming/private-accept", json=named, headers=creator.headers())
    assert accepted.status_code == 200, accepted.json
    session_id = accepted.json["sessionId"]
    assert accepted.json["roomId"] == f"private-{session_id}"
    again = client.post("/api/streaming/private-accept", json=named, headers=creator.headers())
    assert code_of(again) == (409, "REQUEST_NOT_PENDING")
    address = f"/api/streaming/private-sessions/{session_id}"
    assert client.get(address, headers=fan.headers()).json["status"] == "connecting"
    assert code_of(client.get(address, headers=people.fan().headers())) == (404, "NOT_FOUND")
    stranger = people.fan()
    ended = client.post("/api/streaming/private-end", json={"sessionId": session_id}, headers=stranger.headers())
    assert code_of(ended) == (404, "NOT_FOUND")
    ended = client.post("/api/streaming/private-end", json={"sessionId": session_id}, headers=fan.headers())
    assert (ended.status_code, ended.json) == (202, {"status": "settling"})


def test_a_fan_without_a_feed_cannot_be_accepted(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)
    asked = client.post(ASK, json=body_for(creator, stream), headers=fan.headers(idempotency_key="k1"))

    named = {"requestId": asked.json["requestId"]}
    refused = client.post("/api/streaming/private-accept", json=named, headers=creator.headers())
    assert code_of(refused) == (409, "FAN_AWAY")


def test_each_refusal_of_a_request_has_its_code(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream, poor = people.live(creator), people.fan(tokens=100)

    def ask(who: Someone, key: str, body: dict[str, Any]) -> Any:
        return client.post(ASK, json=body, headers=who.headers(idempotency_key=key))

    short = ask(poor, "a", body_for(creator, stream))
    assert code_of(short) == (402, "INSUFFICIENT_TOKENS")
    assert (short.json["required"], short.json["balance"]) == (500, 100)
    assert code_of(ask(fan, "b", body_for(creator, stream, maxTotalCost=499))) == (409, "PRICE_CHANGED")
    assert code_of(ask(fan, "c", body_for(creator, stream) | {"streamId": "str_none"})) == (404, "NOT_FOUND")
    assert code_of(ask(fan, "d", body_for(creator, stream) | {"creatorId": "usr_none"})) == (404, "NOT_FOUND")
    assert code_of(ask(creator, "e", body_for(creator, stream)))[0] == 403
    blocked = client.post("/api/streaming/blocks", json={"handle": poor.person.handle}, headers=creator.headers())
    assert [one["handle"] for one in blocked.json["blocked"]] == [poor.person.handle]
    assert code_of(ask(poor, "f", body_for(creator, stream))) == (403, "BLOCKED")
    unblocked = client.delete(f"/api/streaming/blocks/{poor.person.handle}", headers=creator.headers())
    assert unblocked.json == {"blocked": []}
    assert ask(fan, "g", body_for(creator, stream)).status_code == 201
    assert code_of(ask(fan, "h", body_for(creator, stream))) == (409, "REQUEST_PENDING")
    off = {"enabled": False, "ratePerMinute": 100, "minMinutes": 5, "autoAccept": "manual"}
    client.put("/api/streaming/private-settings", json=off, headers=creator.headers())
    assert code_of(ask(people.fan(), "i", body_for(creator, stream))) == (409, "PRIVATE_DISABLED")
    client.delete(f"/api/streaming/streams/{stream.stream_id}", headers=creator.headers())
    assert code_of(ask(people.fan(), "j", body_for(creator, stream))) == (409, "STREAM_NOT_LIVE")


@pytest.mark.parametrize("minutes", [-1, 0, 2.5, "5", 241, 1441, 2**64, None, True])
def test_bad_minutes_hold_nothing(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, minutes: Any
) -> None:
    stream = people.live(creator)

    body = body_for(creator, stream, minutes)
    refused = client.post(ASK, json=body, headers=fan.headers(idempotency_key="k"))
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == "minutes"
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 0


def test_a_key_is_required_and_replays_the_first_success(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream = people.live(creator)
    body = body_for(creator, stream)

    assert code_of(client.post(ASK, json=body, headers=fan.headers())) == (428, "IDEMPOTENCY_KEY_REQUIRED")
    first = client.post(ASK, json=body, headers=fan.headers(idempotency_key="same"))
    second = client.post(ASK, json=body, headers=fan.headers(idempotency_key="same"))
    assert (second.status_code, second.data) == (201, first.data)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert client.get("/api/wallet", headers=fan.headers()).json["held"] == 500
    other_body = client.post(ASK, json=body | {"minutes": 6}, headers=fan.headers(idempotency_key="same"))
    assert code_of(other_body) == (422, "IDEMPOTENCY_KEY_REUSED")
    # Another person's key is another key.
    other = client.post(ASK, json=body, headers=people.fan().headers(idempotency_key="same"))
    assert (other.status_code, "Idempotent-Replayed" in other.headers) == (201, False)


def test_a_refusal_is_not_remembered_under_its_key(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    stream, headers = people.live(creator), fan.headers(idempotency_key="k")
    refused = client.post(ASK, json=body_for(creator, stream, maxTotalCost=1), headers=headers)
    assert code_of(refused) == (409, "PRICE_CHANGED")

    assert client.post(ASK, json=body_for(creator, stream), headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "k\u00e9y"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, fan: Someone, key: str) -> None:
    body = {"creatorId": "c", "streamId": "s", "minutes": 5}

    refused = client.post(ASK, json=body, headers=fan.headers(idempotency_key=key))
    assert code_of(refused) == (422, "INVALID")
    assert refused.json["field"] == "Idempotency-Key"


@pytest.mark.usefixtures("still_window")
def test_requests_are_limited(app: Flask, people: People, creator: Someone, fan: Someone) -> None:
    client = app.test_client()
    answers = [client.post(ASK, json={}, headers=fan.headers(idempotency_key="k")) for _ in range(61)]

    assert {answer.status_code for answer in answers[:60]} == {422}
    assert code_of(answers[60]) == (429, "RATE_LIMITED")
    assert int(answers[60].headers["Retry-After"]) >= 1
    assert client.post(ASK, json={}, headers=people.fan().headers(idempotency_key="k")).status_code == 422


def test_buying_tokens_charges_once(client: FlaskClient, people: People) -> None:
    fan = people.fan(tokens=0)
    package = client.get("/api/wallet/packages").json["packages"][0]
    order = {"packageId": package["packageId"], "card": "succeeds"}

    assert client.post("/api/wallet/top-up", json=order, headers=fan.headers()).status_code == 428
    bought = [
        client.post("/api/wallet/top-up", json=order, headers=fan.headers(idempotency_key="k")) for _ in range(2)
    ]
    assert [answer.status_code for answer in bought] == [201, 201]
    assert bought[0].data == bought[1].data
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == package["tokens"]
    other = order | {"card": "disputed"}
    refused = client.post("/api/wallet/top-up", json=other, headers=fan.headers(idempotency_key="k"))
    assert code_of(refused) == (422, "IDEMPOTENCY_KEY_REUSED")
    lines = client.get("/api/wallet/statement?limit=5", headers=fan.headers()).json["lines"]
    assert [line["available"] for line in lines] == [package["tokens"]]


def test_a_declined_card_and_an_unknown_one_credit_nothing(client: FlaskClient, people: People) -> None:
    fan = people.fan(tokens=0)
    package = client.get("/api/wallet/packages").json["packages"][0]["packageId"]

    def buy(card: str, key: str) -> Any:
        order = {"packageId": package, "card": card}
        return client.post("/api/wallet/top-up", json=order, headers=fan.headers(idempotency_key=key))

    assert code_of(buy("fails", "a")) == (402, "CARD_DECLINED")
    unknown = buy("4242", "b")
    assert code_of(unknown) == (422, "INVALID")
    assert unknown.json["field"] == "card"
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 0
