"""Subscriptions, tips and the daily limit over HTTP, with those who should not be let through."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from web_people import People, Someone, code_of

from models.clock import utc_now
from models.config import load_settings
from models.errors import Unavailable
from models.services import accounts, offers, payments, subscriptions, tips
from web.pages import movements

SUBSCRIPTIONS = "/api/streaming/subscriptions"
TIPS = "/api/streaming/tips"
CAP = "/api/account/spending-cap"
OPTIONS = {
    "queue": False,
    "requestPriority": "first_come",
    "perMinute": False,
    "instantUnlockPrice": None,
    "subscriptionPrice": 300,
    "subscriptionMinutes": 20,
    "subscriberDiscountPercent": 10,
}


@pytest.fixture
def environment(environment: dict[str, str], database_url: str) -> dict[str, str]:
    """On SQLite and on PostgreSQL."""
    return environment | {"DATABASE_URL": database_url}


@pytest.fixture
def fan(people: People) -> Someone:
    return people.fan(tokens=1_000)


@pytest.fixture
def offered(client: FlaskClient, creator: Someone) -> dict[str, Any]:
    """The body with which a fan subscribes to the creator, who offers it."""
    saved = client.put("/api/streaming/creator-options", json=OPTIONS, headers=creator.headers())
    assert saved.status_code == 200
    return {"creatorId": creator.user_id, "maxPrice": 300, "minMinutes": 20}


def subscribe(client: FlaskClient, fan: Someone, body: dict[str, Any], key: str = "k") -> Any:
    return client.post(SUBSCRIPTIONS, json=body, headers=fan.headers(idempotency_key=key))


def available(client: FlaskClient, person: Someone) -> int:
    return int(client.get("/api/wallet", headers=person.headers()).json["available"])


# --- subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_from_the_offer_to_its_end(
    client: FlaskClient, creator: Someone, fan: Someone, offered: dict[str, Any]
) -> None:
    # given
    address = f"/api/streaming/subscription-offer/{creator.user_id}"
    seen = client.get(address, headers=fan.headers()).json
    renews_at = datetime.fromisoformat(seen.pop("renewsAt"))
    assert seen == {
        "creatorId": creator.user_id,
        "balance": 1_000,
        "priceTokens": 300,
        "includedMinutes": 20,
        "discountPercent": 10,
    }
    # when
    answer = subscribe(client, fan, offered)
    # then
    assert answer.status_code == 201
    assert (answer.json["status"], answer.json["minutesLeft"]) == ("active", 20)
    # The day of the next payment that was announced is the one that holds.
    assert timedelta(0) <= datetime.fromisoformat(answer.json["periodEnd"]) - renews_at < timedelta(days=1)
    repeated = subscribe(client, fan, offered)
    assert (repeated.json, repeated.headers["Idempotent-Replayed"]) == (answer.json, "true")
    assert available(client, fan) == 700
    assert client.get(address, headers=fan.headers()).json["subscription"] == answer.json
    assert client.get("/api/streaming/subscribers", headers=creator.headers()).json == {"count": 1}
    quote = client.get(f"/api/streaming/private-settings/{creator.user_id}", headers=fan.headers()).json["quote"]
    assert (quote["ratePerMinute"], quote["discountPercent"]) == (90, 10)
    # and it is cancelled, resumed and cancelled again
    one = f"{SUBSCRIPTIONS}/{answer.json['subscriptionId']}"
    assert client.delete(one, headers=fan.headers()).json["status"] == "ending"
    assert client.post(f"{one}/resume", headers=fan.headers()).json["status"] == "active"
    assert client.delete(one, headers=fan.headers()).json["status"] == "ending"
    listed = client.get(SUBSCRIPTIONS, headers=fan.headers()).json["subscriptions"]
    assert [view["status"] for view in listed] == ["ending"]
    assert available(client, fan) == 700


def test_who_may_not_subscribe_and_how(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, offered: dict[str, Any]
) -> None:
    other, poor = people.creator(), people.fan(tokens=0)
    assert code_of(client.post(SUBSCRIPTIONS, json=offered)) == (401, "UNAUTHENTICATED")
    assert code_of(client.post(SUBSCRIPTIONS, json=offered, headers=fan.headers()))[0] == 428
    assert code_of(subscribe(client, creator, offered)) == (403, "FORBIDDEN")
    assert code_of(subscribe(client, poor, offered)) == (402, "INSUFFICIENT_TOKENS")
    assert code_of(subscribe(client, fan, offered | {"creatorId": "usr_nobody"})) == (404, "NOT_FOUND")
    none = subscribe(client, fan, offered | {"creatorId": other.user_id})
    assert code_of(none) == (409, "SUBSCRIPTION_NOT_OFFERED")
    changed = subscribe(client, fan, offered | {"maxPrice": 299})
    assert code_of(changed) == (409, "PRICE_CHANGED")
    assert changed.json["totalCost"] == 300
    assert code_of(subscribe(client, fan, offered | {"payWith": "gateway"})) == (402, "NO_SAVED_CARD")
    assert available(client, fan) == 1_000
    # and no card is asked for what the fan's own limit would refuse afterwards
    client.put(CAP, json={"dailyCapTokens": 299}, headers=fan.headers())
    assert code_of(subscribe(client, fan, offered | {"payWith": "gateway"})) == (403, "SPENDING_CAP")


@pytest.mark.parametrize(
    "wrong",
    [
        {"creatorId": ""},
        {"creatorId": None},
        {"payWith": "gold"},
        {"maxPrice": -1},
        {"maxPrice": "300"},
        {"minMinutes": 601},
    ],
)
def test_bodies_that_are_refused_by_name(
    client: FlaskClient, fan: Someone, offered: dict[str, Any], wrong: dict[str, Any]
) -> None:
    answer = subscribe(client, fan, offered | wrong)
    assert code_of(answer) == (422, "INVALID")
    assert answer.json["field"] == next(iter(wrong))


def test_a_subscription_is_its_fans_alone(
    client: FlaskClient, people: People, fan: Someone, offered: dict[str, Any]
) -> None:
    one = f"{SUBSCRIPTIONS}/{subscribe(client, fan, offered).json['subscriptionId']}"
    other = people.fan()
    assert code_of(client.delete(one, headers=other.headers())) == (404, "NOT_FOUND")
    assert code_of(client.post(f"{one}/resume", headers=other.headers())) == (404, "NOT_FOUND")
    assert client.get(SUBSCRIPTIONS, headers=other.headers()).json == {"subscriptions": []}
    assert code_of(subscribe(client, other, offered | {"maxPrice": 1}, "k2")) == (409, "PRICE_CHANGED")


def test_the_first_month_by_saved_card(
    app: Flask, client: FlaskClient, people: People, creator: Someone, offered: dict[str, Any]
) -> None:
    """Exactly the price is charged, once, whatever is repeated."""
    poor, house = people.fan(tokens=0), app.extensions["greenroom"]
    payments.top_up(
        house.database, house.gateway, user_id=poor.user_id, package_id="tokens-200", card="succeeds",
        key="save", cause_id="test", now=utc_now(), save_card=True,
    )  # fmt: skip
    address = f"/api/streaming/subscription-offer/{creator.user_id}"
    assert client.get(address, headers=poor.headers()).json["cardPriceMinor"] == 1_500
    body = offered | {"payWith": "gateway"}
    answers = [subscribe(client, poor, body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert answers[0].json["paidBy"] == "gateway"
    assert available(client, poor) == 200
    # and a second press with another key pays nothing
    assert code_of(subscribe(client, poor, body, "k2")) == (409, "ALREADY_SUBSCRIBED")
    assert available(client, poor) == 200


def test_a_crash_after_the_charge_is_no_second_charge(
    app: Flask,
    client: FlaskClient,
    people: People,
    offered: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: the card is charged, and then nothing more is done
    poor, house = people.fan(tokens=0), app.extensions["greenroom"]
    payments.top_up(
        house.database, house.gateway, user_id=poor.user_id, package_id="tokens-200", card="succeeds",
        key="save", cause_id="test", now=utc_now(), save_card=True,
    )  # fmt: skip
    body = offered | {"payWith": "gateway"}

    def die(*_args: Any, **_more: Any) -> None:
        raise Unavailable("The process is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(subscriptions, "subscribe", die)
        assert subscribe(client, poor, body).status_code == 503
    assert available(client, poor) == 500
    # when the same press comes again
    assert subscribe(client, poor, body).status_code == 201
    # then it goes on with what was charged
    assert available(client, poor) == 200


# --- tips --------------------------------------------------------------------------------------------


def give(client: FlaskClient, fan: Someone, key: str = "k", **body: Any) -> Any:
    return client.post(TIPS, json=body, headers=fan.headers(idempotency_key=key))


def test_a_tip_is_paid_once_and_seen(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> None:
    stream = people.live(creator)
    body = {"creatorId": creator.user_id, "amount": 50, "message": "For the <mug>"}
    first, again = give(client, fan, **body), give(client, fan, **body)
    assert (first.status_code, again.json) == (201, first.json)
    assert (first.json["balance"], first.json["private"]) == (950, False)
    assert code_of(give(client, fan, **body | {"amount": 60})) == (422, "IDEMPOTENCY_KEY_REUSED")
    listed = client.get(f"/api/streaming/streams/{stream.stream_id}/tips", headers=creator.headers()).json
    assert listed["total"] == 50
    assert listed["tips"][0]["handle"] == fan.person.handle
    assert fan.user_id not in str(listed)
    earned = client.get("/api/wallet", headers=creator.headers()).json["earningsPending"]
    assert (available(client, fan), earned) == (950, 40)


def test_who_may_not_tip(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> None:
    body = {"creatorId": creator.user_id, "amount": 50}
    assert code_of(give(client, fan, **body)) == (409, "STREAM_NOT_LIVE")
    people.live(creator)
    assert code_of(client.post(TIPS, json=body)) == (401, "UNAUTHENTICATED")
    assert code_of(client.post(TIPS, json=body, headers=fan.headers()))[0] == 428
    assert code_of(give(client, people.creator(), **body)) == (403, "FORBIDDEN")
    both = people.make("fan", "creator", tokens=100)
    people.live(both)
    assert code_of(give(client, both, creatorId=both.user_id, amount=50)) == (403, "OWN_STREAM")
    assert code_of(give(client, people.fan(tokens=49), **body)) == (402, "INSUFFICIENT_TOKENS")
    assert code_of(give(client, fan, **body | {"sessionId": "ses_none"})) == (404, "NOT_FOUND")
    people.database.run(lambda tx: accounts.block(tx, creator.user_id, fan.user_id, utc_now()))
    assert code_of(give(client, fan, **body)) == (403, "BLOCKED")
    assert available(client, fan) == 1_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 4),
        ("amount", 100_001),
        ("amount", 5.5),
        ("amount", "50"),
        ("amount", True),
        ("amount", 10**30),
        ("message", "x" * 201),
        ("message", "a\u202eb"),
        ("message", None),
        ("creatorId", "x" * 65),
        ("sessionId", 7),
    ],
)
def test_tips_that_are_refused_by_name(
    client: FlaskClient, people: People, creator: Someone, fan: Someone, field: str, value: Any
) -> None:
    people.live(creator)
    answer = give(client, fan, **{"creatorId": creator.user_id, "amount": 50, field: value})
    assert code_of(answer) == (422, "INVALID")
    assert answer.json["field"] == field


@pytest.mark.usefixtures("still_window")
def test_thirty_tips_a_minute(client: FlaskClient, people: People, creator: Someone, fan: Someone) -> None:
    people.live(creator)
    codes = [
        give(client, fan, f"k{number}", creatorId=creator.user_id, amount=5).status_code for number in range(31)
    ]
    assert codes == [201] * 30 + [429]


def test_tips_of_a_session_are_for_its_two_sides(client: FlaskClient, people: People, fan: Someone) -> None:
    answer = client.get("/api/streaming/private-sessions/ses_none/tips", headers=fan.headers())
    assert code_of(answer) == (404, "NOT_FOUND")
    assert client.get("/api/streaming/streams/str_none/tips", headers=fan.headers()).json == {
        "tips": [],
        "total": 0,
    }


# --- the daily limit ---------------------------------------------------------------------------------


def test_the_daily_limit_is_lowered_at_once_and_raised_tomorrow(
    client: FlaskClient, people: People, creator: Someone, fan: Someone
) -> None:
    people.live(creator)

    def put(tokens: Any) -> Any:
        return client.put(CAP, json={"dailyCapTokens": tokens}, headers=fan.headers())

    assert client.get(CAP, headers=fan.headers()).json["dailyCapTokens"] is None
    assert put(100).json["dailyCapTokens"] == 100
    give(client, fan, creatorId=creator.user_id, amount=60)
    over = give(client, fan, "k2", creatorId=creator.user_id, amount=60)
    assert code_of(over) == (403, "SPENDING_CAP")
    assert (over.json["cap"], over.json["spent"]) == (100, 60)
    raised = put(None).json
    assert (raised["dailyCapTokens"], raised["spentToday"], raised["nextDailyCapTokens"]) == (100, 60, None)
    assert raised["changesAt"].endswith("T00:00:00Z")
    assert code_of(give(client, fan, "k3", creatorId=creator.user_id, amount=60)) == (403, "SPENDING_CAP")


@pytest.mark.parametrize("body", [{}, {"dailyCapTokens": -1}, {"dailyCapTokens": "5"}, {"dailyCapTokens": 1.5}])
def test_limits_that_are_refused(client: FlaskClient, fan: Someone, body: dict[str, Any]) -> None:
    answer = client.put(CAP, json=body, headers=fan.headers())
    assert code_of(answer) == (422, "INVALID")
    assert answer.json["field"] == "dailyCapTokens"


def test_limits_are_fans(client: FlaskClient, creator: Someone) -> None:
    assert code_of(client.put(CAP, json={"dailyCapTokens": 5}, headers=creator.headers())) == (403, "FORBIDDEN")
    assert code_of(client.get(CAP)) == (401, "UNAUTHENTICATED")


# --- pages -------------------------------------------------------------------------------------------


def test_the_wallet_says_to_whom_it_went(people: People, creator: Someone, fan: Someone) -> None:
    """Tips and months in words, on both sides."""
    now, settings = utc_now(), load_settings({"SECRET_KEY": "x" * 32, "TESTING": "1"})
    people.live(creator)

    def give_and_subscribe(tx: Session) -> None:
        offers.put_options(tx, creator.user_id, offers.CreatorOptions(subscription_price=300))
        about: dict[str, Any] = {"fan": fan.person, "creator_id": creator.user_id}
        about |= {"now": now, "settings": settings, "cause_id": "test"}
        tips.tip(tx, amount=50, key="k", **about)
        subscriptions.subscribe(tx, **about)

    people.database.run(give_and_subscribe)
    with people.database.reading() as tx:
        paid = {line.words for line in movements.movements(tx, fan.user_id, 650, 10)}
        earned = {line.words for line in movements.movements(tx, creator.user_id, 0, 10)}
    name, other = creator.person.display_name, fan.person.display_name
    assert {f"Tip to {name}", f"Subscription to {name}, one month"} <= paid
    assert earned == {f"Tip from {other}", f"Subscription of {other}"}
