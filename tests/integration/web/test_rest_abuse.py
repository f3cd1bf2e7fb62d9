"""What people try who mean no good, over REST: each is answered by a rule, and by an answer in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from stage import Call, Stage
from web_people import People, Someone, code_of

from models import ledger
from models.clock import utc_now
from models.config import load_settings
from models.operations import AdminActRow
from models.outbox import Json
from models.people import PersonRow
from models.plumbing import OutboxRow
from models.services import booking_clock, complaints, offers, payments, renewals, subscriptions
from models.services.offers import CreatorOptions
from models.streams import StreamRow
from web import create_app

WHY = "Somebody asked for it"
SUBSCRIPTIONS = "/api/streaming/subscriptions"


def post(client: FlaskClient, who: Someone, path: str, body: Any = None, key: str = "a-key-of-mine") -> Any:
    return client.post(path, json=body, headers=who.headers(idempotency_key=key))


def make_admin(people: People, user_id: str) -> None:
    def work(tx: Any) -> None:
        tx.get_one(PersonRow, user_id).is_admin = True

    people.database.run(work)


# --- webhooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["0", "253402300800", "999999999999"])
def test_a_webhook_of_a_moment_in_no_calendar_is_forged(client: FlaskClient, moment: str) -> None:
    headers = {"Sandbox-Signature": f"t={moment},v1={'0' * 64}"}
    assert code_of(client.post("/api/payments/webhooks/sandbox", data=b"{}", headers=headers)) == (
        400, "BAD_SIGNATURE")  # fmt: skip


# --- refunds and complaints --------------------------------------------------------------------------


def test_a_creator_cannot_answer_a_complaint_before_the_admin_does(
    client: FlaskClient, people: People, stage: Stage, admin: Someone, ended: Call
) -> None:
    """The complaint's id is no secret from the creator, nor is it a key that the admin's refund goes by."""
    # given a complaint, and a creator who gives one token back under its id
    made = stage.run(
        lambda tx: complaints.complain(
            tx, ended.session_id, by_id=ended.fan.user_id, reason="Black all along", now=stage.now
        )
    )
    creator = people.signed_in(ended.creator.user_id)
    body = {"tokens": 1, "reason": "Sorry."}
    path = f"/api/receipts/{ended.session_id}/refund"
    assert post(client, creator, path, body, made.complaint_id).status_code == 201
    # when the admin decides for 400
    decided = post(
        client, admin, f"/api/admin/complaints/{made.complaint_id}/decide", {"refundTokens": 400, "reason": WHY}
    )
    # then the fan has 401
    assert decided.status_code == 200
    assert stage.balances(ended.fan)["wallet"] == 401
    stage.audit()


@pytest.mark.parametrize("side", ["fan", "creator"])
def test_no_admin_decides_about_a_session_of_their_own(
    client: FlaskClient, people: People, stage: Stage, ended: Call, side: str
) -> None:
    person = ended.fan if side == "fan" else ended.creator
    make_admin(people, person.user_id)
    made = stage.run(
        lambda tx: complaints.complain(
            tx, ended.session_id, by_id=ended.fan.user_id, reason="Black all along", now=stage.now
        )
    )
    judge = people.signed_in(person.user_id)
    path, body = f"/api/admin/complaints/{made.complaint_id}/decide", {"refundTokens": 400, "reason": WHY}
    assert code_of(post(client, judge, path, body)) == (403, "OWN_ACCOUNT")
    if side == "fan":
        path, body = f"/api/admin/sessions/{ended.session_id}/refund", {"reason": WHY}
        assert code_of(post(client, judge, path, body)) == (403, "OWN_ACCOUNT")
    assert stage.balances(ended.fan)["wallet"] == 0


def test_a_frozen_admin_does_not_thaw_themselves(client: FlaskClient, people: People, admin: Someone) -> None:
    path = f"/api/admin/people/{admin.user_id}"
    post(client, admin, f"{path}/freeze", {"reason": WHY}, "freeze")
    assert code_of(post(client, admin, f"{path}/unfreeze", {"reason": WHY})) == (403, "OWN_ACCOUNT")
    thawed = post(client, people.make("admin"), f"{path}/unfreeze", {"reason": WHY})
    assert thawed.json["spendingFrozenAt"] is None


# --- subscriptions -----------------------------------------------------------------------------------


def offering(people: People, price: int = 300) -> Someone:
    creator = people.creator()
    options = CreatorOptions(subscription_price=price, subscription_minutes=5, subscriber_discount_percent=0)
    people.database.run(lambda tx: offers.put_options(tx, creator.user_id, options))
    return creator


@pytest.fixture
def careful(environment: dict[str, str]) -> Iterator[Flask]:
    """A house in which new buyers may spend 20.00 a day."""
    made = create_app(load_settings(environment | {"NEW_BUYER_DAILY_MINOR": "2000"}))
    yield made
    made.extensions["greenroom"].rpc.close()
    made.extensions["database"].close()


def test_a_saved_card_is_no_way_around_the_velocity_cap(careful: Flask, password_hash: str) -> None:
    """A stolen card would be saved with the smallest package, and emptied into a friend's subscription."""
    client, house = careful.test_client(), careful.extensions["greenroom"]
    people = People(house.database, password_hash)
    creator, fan = offering(people, price=3_000), people.fan(tokens=0)
    payments.top_up(
        house.database, house.gateway, user_id=fan.user_id, package_id="tokens-200", card="succeeds",
        key="save", cause_id="test", now=utc_now(), save_card=True,
    )  # fmt: skip
    body = {"creatorId": creator.user_id, "payWith": "gateway"}
    assert code_of(post(client, fan, SUBSCRIPTIONS, body)) == (403, "PURCHASE_LIMIT")
    assert client.get("/api/wallet", headers=fan.headers()).json == {
        "available": 200, "held": 0, "earningsPending": 0, "earnings": 0, "debt": 0,
    }  # fmt: skip


def test_a_creator_is_not_told_again_and_again(client: FlaskClient, people: People, still_window: None) -> None:
    """Each press of cancel and resume tells the creator: there is a limit to it."""
    creator, fan = offering(people), people.fan()
    made: Any = post(client, fan, SUBSCRIPTIONS, {"creatorId": creator.user_id}).json
    path, answers = f"{SUBSCRIPTIONS}/{made['subscriptionId']}", []
    for _ in range(15):
        answers.append(client.delete(path, headers=fan.headers()))
        answers.append(client.post(f"{path}/resume", headers=fan.headers()))
    assert answers[0].status_code == 200
    assert code_of(answers[-1]) == (429, "RATE_LIMITED")


# --- who is locked out -------------------------------------------------------------------------------


def lock(client: FlaskClient, admin: Someone, who: Someone) -> None:
    answer = post(client, admin, f"/api/admin/people/{who.user_id}/lock", {"reason": WHY})
    assert answer.status_code == 200, answer.json


def test_who_is_locked_goes_off_the_air(client: FlaskClient, people: People, admin: Someone) -> None:
    creator = people.creator()
    stream = people.live(creator)
    lock(client, admin, creator)
    assert client.get("/api/streaming/streams").json == {"streams": []}
    with people.database.reading() as tx:
        assert tx.get_one(StreamRow, stream.stream_id).status == "ended"
        bodies = tx.scalars(select(OutboxRow.body)).all()
        assert [act.act for act in tx.scalars(select(AdminActRow))] == ["sign_in_locked"]
    told: list[Json] = [body for body in bodies if "MODERATION" in str(body)]
    assert len(told) == 1


def test_who_is_locked_pays_for_no_month_that_they_cannot_cancel(
    client: FlaskClient, people: People, admin: Someone
) -> None:
    creator, fan = offering(people), people.fan()
    other = people.fan()
    assert post(client, fan, SUBSCRIPTIONS, {"creatorId": creator.user_id}).status_code == 201
    lock(client, admin, fan)
    later = utc_now() + timedelta(days=32)
    people.database.run(lambda tx: renewals.renew_due(tx, later))
    (seen,) = people.database.run(lambda tx: subscriptions.of_fan(tx, fan.user_id, later))
    assert (seen.status, seen.end_reason) == ("ended", "cancelled")
    # and nobody pays a month to a creator who cannot come
    assert post(client, other, SUBSCRIPTIONS, {"creatorId": creator.user_id}).status_code == 201
    lock(client, admin, creator)
    people.database.run(lambda tx: renewals.renew_due(tx, later))
    (seen,) = people.database.run(lambda tx: subscriptions.of_fan(tx, other.user_id, later))
    assert (seen.status, seen.end_reason) == ("ended", "not_offered")
    again = post(client, people.fan(), SUBSCRIPTIONS, {"creatorId": creator.user_id})
    assert code_of(again) == (409, "SUBSCRIPTION_NOT_OFFERED")


@pytest.mark.parametrize("side", ["fan", "creator"])
def test_a_booking_of_who_is_locked_is_given_back(
    client: FlaskClient, people: People, admin: Someone, side: str
) -> None:
    creator, fan = people.creator(), people.fan()
    starts = [(utc_now() + timedelta(hours=hours)).isoformat() for hours in (3, 6)]
    slots = {"slots": [{"startsAt": start, "minutes": 10} for start in starts]}
    opened: Any = client.post("/api/streaming/slots", json=slots, headers=creator.headers())
    first, second = opened.json["slots"]
    booked = post(client, fan, "/api/streaming/bookings", {"slotId": first["slotId"]})
    assert booked.status_code == 201
    who = fan if side == "fan" else creator
    # a role that a booking needs stays
    roles = client.put(
        f"/api/admin/people/{who.user_id}/roles",
        json={"roles": ["admin"], "reason": WHY},
        headers=admin.headers(),
    )
    assert code_of(roles) == (409, "PERSON_BUSY")
    # when
    lock(client, admin, who)
    people.database.run(lambda tx: booking_clock.release_impossible(tx, utc_now()))
    # then
    balances = people.database.run(lambda tx: ledger.balances(tx, fan.user_id))
    assert (balances["wallet"], balances["held"]) == (5_000, 0)
    if side == "creator":
        again = post(client, people.fan(), "/api/streaming/bookings", {"slotId": second["slotId"]})
        assert code_of(again) == (409, "PRIVATE_DISABLED")


# --- downloads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/earnings/statement", "/api/receipts/export"])
def test_who_reads_a_download_slowly_keeps_no_connection_to_the_database(
    app: Flask, client: FlaskClient, people: People, path: str
) -> None:
    creator, pool = people.creator(), app.extensions["database"].engine.pool
    with client.get(path, headers=creator.headers(), buffered=False) as answer:
        assert next(iter(answer.response))
        assert pool.checkedout() == 0


@pytest.mark.parametrize("path", ["/api/earnings/statement", "/api/receipts/export"])
def test_whole_histories_are_read_so_often_and_no_more(
    client: FlaskClient, people: People, still_window: None, path: str
) -> None:
    creator = people.creator()
    answers = [client.get(path, headers=creator.headers()) for _ in range(21)]
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    assert code_of(answers[20]) == (429, "RATE_LIMITED")
