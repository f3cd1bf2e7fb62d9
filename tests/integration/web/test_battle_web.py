"""Battles over REST and on their pages: the way from opening to the split, and what is said before each press."""

from __future__ import annotations

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from on_air import pictures_are_made
from web_people import People, Someone, code_of

from models.clock import rfc3339, utc_now
from models.messages import events
from models.services import battle_clock, media_facts, offers

PATH = "/api/streaming/battles"


def body(**more: Any) -> dict[str, Any]:
    return {
        "title": "North against South",
        "beginsAt": rfc3339(utc_now() + timedelta(minutes=15)),
        "entryFee": 50,
        "winnerPercent": 70,
        "limitMinutes": 10,
    } | more


@pytest.fixture
def host(people: People) -> Someone:
    people.node()
    return people.make("creator", tokens=100)


def opened(client: FlaskClient, host: Someone, **more: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=body(**more), headers=host.headers(idempotency_key="open"))
    assert answer.status_code == 201, answer.get_data(as_text=True)
    found: dict[str, Any] = answer.get_json()
    return found


def post(client: FlaskClient, path: str, who: Someone, json: Any = None, key: str = "key") -> Any:
    return client.post(f"{PATH}/{path}", json=json or {}, headers=who.headers(idempotency_key=key))


def text(answer: Any) -> str:
    return unescape(answer.get_data(as_text=True))


def seated(people: People, view: dict[str, Any], *who: Someone) -> None:
    for someone in who:
        said = events.ParticipantJoined(
            message_id=f"msg_{someone.user_id}",
            cause_id="test",
            node_id="media-1",
            boot_id="boot",
            at=rfc3339(utc_now()),
            room_id=view["roomId"],
            user_id=someone.user_id,
            viewers=0,
        )
        people.database.run(lambda tx, said=said: media_facts.take(tx, said, utc_now()))  # type: ignore[misc]


def test_a_battle_over_rest(client: FlaskClient, host: Someone, people: People) -> None:
    # given
    rival, fan = people.make("creator", tokens=100), people.make("fan", tokens=500)
    view = opened(client, host)
    battle_id = view["battleId"]
    assert (view["status"], view["pot"], view["remainingMs"] > 0) == ("open", 50, True)
    page = client.get(f"/battles/{battle_id}", headers=rival.headers()).get_data(as_text=True)
    assert "Enter for 50 tokens" in page
    assert "70% for the highest score, 30% shared by the others" in page
    # when
    assert post(client, f"{battle_id}/enter", rival, {"maxEntryFee": 50}).get_json()["pot"] == 100
    started = post(client, f"{battle_id}/start", host).get_json()
    assert started["status"] == "running"
    seated(people, view, host, rival)
    own = text(client.get(f"/models/{rival.person.handle}"))
    assert f'{rival.person.display_name} is in a battle now. <a href="/battles/{battle_id}">' in own
    tip = {"creatorId": rival.user_id, "amount": 200, "message": "South!"}
    answers = [post(client, f"{battle_id}/tips", fan, tip) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (answers[0].get_json()["balance"], answers[0].get_json()["battle"]["pot"]) == (300, 300)
    board = client.get(f"/battles/{battle_id}?part=board", headers=fan.headers()).get_data(as_text=True)
    assert f"Tip {rival.person.display_name}" in board
    assert "South!" in board
    # and each reads in the wallet what is in the pot, with whom, and what becomes of it
    name, other = host.person.display_name, rival.person.display_name
    staked = text(client.get("/wallet?part=figures", headers=host.headers()))
    fee = f"50 tokens ($2.50), your entry fee for “North against South” with {other}."
    assert f"In a battle’s pot: {fee}" in staked
    staked = text(client.get("/wallet", headers=fan.headers()))
    assert f"200 tokens ($10.00), tipped in “North against South” with {name} and {other}." in staked
    assert "It is shared out when the battle ends" in staked
    # then everybody reads how it ended, and what it was to them
    ended = post(client, f"{battle_id}/end", host).get_json()
    assert (ended["outcome"], [side["share"] for side in ended["sides"]]) == ("won", [90, 210])
    assert "is in a battle now" not in text(client.get(f"/models/{rival.person.handle}"))
    page = client.get(f"/battles/{battle_id}").get_data(as_text=True)
    assert f"{rival.person.display_name} has won" in page
    wallet = text(client.get("/wallet", headers=fan.headers()))
    assert "Tip into the pot of the battle “North against South”" in wallet
    assert "In a battle’s pot" not in wallet
    earned = text(client.get("/wallet", headers=rival.headers()))
    assert "Entry fee into the pot of the battle “North against South”" in earned
    won = "Earned in the battle “North against South”, out of"
    for whose in (f"what {fan.person.display_name} paid in", "your own entry fee"):
        assert f"{won} {whose}" in earned
    listed = client.get(PATH, headers=fan.headers()).get_json()["battles"]
    assert [each["battleId"] for each in listed] == [battle_id]


def test_a_pass_of_a_side_on_the_battles_page(client: FlaskClient, host: Someone, people: People) -> None:
    # given a battle whose broadcast is on, with one creator who sells passes
    rival, fan = people.make("creator", tokens=100), people.make("fan", tokens=500)
    people.database.run(lambda tx: offers.put_options(tx, rival.user_id, offers.CreatorOptions(pass_price=40)))
    view = opened(client, host)
    address = f"/battles/{view['battleId']}?part=passes"
    post(client, f"{view['battleId']}/enter", rival, {"maxEntryFee": 50})
    assert client.get(address, headers=fan.headers()).get_data(as_text=True).strip() == ""
    post(client, f"{view['battleId']}/start", host)
    seated(people, view, host, rival)
    pictures_are_made(people.database)
    # then it is offered with its price, and a visitor is led through the sign-in
    card = text(client.get(address, headers=fan.headers()))
    assert f"Buy a pass of {rival.person.display_name}" in card
    assert f"Buy a pass of {host.person.display_name}" not in card
    assert ">40</b> tokens" in card
    assert "about $2.00" in card
    assert "counts for no side" in card
    assert f"%3Fpass%3D{rival.user_id}" in text(client.get(address))
    assert text(client.get(address, headers=rival.headers())).strip() == ""
    # when it is bought
    wish = {"creatorId": rival.user_id, "maxPrice": 40}
    bought = client.post("/api/streaming/passes", json=wish, headers=fan.headers(idempotency_key="day"))
    assert bought.status_code == 201
    # then the same fan has the best picture of the battle, and is told through whom
    answer = client.post("/api/streaming/spectate", json={"roomId": view["roomId"]}, headers=fan.headers())
    assert answer.get_json()["tier"] == "premium"
    card = text(client.get(address, headers=fan.headers()))
    assert f"With your pass for {rival.person.display_name}, until" in card
    assert "Buy" not in card


def test_grants_of_a_battle(client: FlaskClient, host: Someone, people: People) -> None:
    rival, fan = people.make("creator", tokens=100), people.make("fan")
    view = opened(client, host)
    wish = {"roomId": view["roomId"], "role": "participant"}
    early = client.post("/api/rtc/grants", json=wish, headers=host.headers())
    assert code_of(early) == (404, "ROOM_NOT_FOUND")
    post(client, f"{view['battleId']}/enter", rival, {"maxEntryFee": 50})
    post(client, f"{view['battleId']}/start", host)
    for someone in (host, rival, fan):
        assert client.post("/api/rtc/grants", json=wish, headers=someone.headers()).status_code == 200
    seated(people, view, host)
    answer = client.post("/api/streaming/spectate", json={"roomId": view["roomId"]}, headers=fan.headers())
    assert (answer.status_code, answer.get_json()["tier"]) == (200, "free")


def test_what_is_refused(client: FlaskClient, host: Someone, people: People) -> None:
    fan, poor = people.make("fan", tokens=500), people.make("creator")
    battle_id = opened(client, host)["battleId"]
    assert code_of(client.post(PATH, json=body(), headers=host.headers())) == (428, "IDEMPOTENCY_KEY_REQUIRED")
    assert code_of(client.post(PATH, json=body(), headers=fan.headers(idempotency_key="a"))) == (403, "FORBIDDEN")
    assert code_of(post(client, f"{battle_id}/enter", poor, {"maxEntryFee": 50})) == (402, "INSUFFICIENT_TOKENS")
    assert code_of(post(client, f"{battle_id}/enter", poor, {"maxEntryFee": 49})) == (409, "PRICE_CHANGED")
    assert code_of(post(client, f"{battle_id}/start", host)) == (409, "TOO_FEW_CREATORS")
    assert code_of(post(client, f"{battle_id}/end", host)) == (409, "BATTLE_CLOSED")
    assert code_of(post(client, "bat_none/leave", host)) == (404, "NOT_FOUND")
    assert client.get("/battles/bat_none").status_code == 404
    wrongs = ({"entryFee": -1}, {"winnerPercent": 10}, {"mostCreators": 9}, {"limitMinutes": 0}, {"title": ""})
    for wrong in wrongs:
        answer = client.post(PATH, json=body(**wrong), headers=poor.headers(idempotency_key=str(wrong)))
        assert code_of(answer) == (422, "INVALID"), wrong
    tip = {"creatorId": host.user_id, "amount": 4}
    assert code_of(post(client, f"{battle_id}/tips", fan, tip)) == (422, "INVALID")


def test_the_pages_for_everybody(client: FlaskClient, host: Someone, people: People) -> None:
    empty = client.get("/battles").get_data(as_text=True)
    assert "No battle is on" in empty
    assert 'id="new-battle"' not in empty
    assert 'id="new-battle"' in client.get("/battles", headers=host.headers()).get_data(as_text=True)
    battle_id = opened(client, host)["battleId"]
    assert "You are in a battle" in client.get("/battles", headers=host.headers()).get_data(as_text=True)
    shown = client.get("/battles?part=list").get_data(as_text=True)
    assert "North against South" in shown
    assert "about $" in shown
    page = client.get(f"/battles/{battle_id}").get_data(as_text=True)
    assert "Sign in to tip a side" in page
    assert 'aria-live="polite" id="score-says"' in page
    assert "Call it off" in client.get(f"/battles/{battle_id}", headers=host.headers()).get_data(as_text=True)
    post(client, f"{battle_id}/leave", host)
    gone = client.get(f"/battles/{battle_id}").get_data(as_text=True)
    assert "Everybody has back what they paid in" in gone


def test_the_clock_calls_it_off(client: FlaskClient, host: Someone, people: People) -> None:
    battle_id = opened(client, host)["battleId"]
    people.database.run(lambda tx: battle_clock.begin_due(tx, utc_now() + timedelta(minutes=16)))
    view = client.get(f"{PATH}/{battle_id}", headers=host.headers()).get_json()
    assert (view["status"], view["endReason"]) == ("cancelled", "too_few")
    assert client.get("/api/wallet", headers=host.headers()).get_json()["available"] == 100


def test_a_creator_may_buy_tokens_for_a_fee(client: FlaskClient, people: People) -> None:
    creator = people.make("creator")

    def shop(query: str = "") -> bool:
        return "Get tokens" in client.get(f"/wallet{query}", headers=creator.headers()).get_data(as_text=True)

    assert [shop(), shop("?next=/battles"), shop("?next=/models/somebody")] == [False, True, False]
    wish = {"packageId": "starter", "card": "succeeds"}
    answer = client.post("/api/wallet/top-up", json=wish, headers=creator.headers(idempotency_key="buy"))
    assert answer.status_code != 403, answer.get_data(as_text=True)
