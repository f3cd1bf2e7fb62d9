"""Webhooks, purchases and refunds over HTTP, with those who should not be let through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.stripe_server import KEY, SECRET, StripeServer
from fakes.stripe_wire import encoded, signature
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from web_people import People, Someone, code_of

from models.clock import utc_now
from models.payments import GatewayEventRow
from models.plumbing import OutboxRow
from models.services import disputes, webhooks

WEBHOOK = "/api/payments/webhooks/stripe"
TOP_UP = "/api/wallet/top-up"
REFUNDS = "/api/wallet/refunds"


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def environment(environment: dict[str, str], database_url: str, stripe: StripeServer) -> dict[str, str]:
    """On SQLite and on PostgreSQL, with Stripe as the provider."""
    return environment | {
        "DATABASE_URL": database_url,
        "GATEWAY": "stripe",
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_API_BASE": stripe.url,
        "NEW_BUYER_DAILY_MINOR": "10000",
    }


@pytest.fixture
def fan(people: People) -> Someone:
    return people.fan(tokens=0)


def buy(client: FlaskClient, fan: Someone, key: str = "k", package: str = "tokens-1000", **more: Any) -> Any:
    return client.post(TOP_UP, json={"packageId": package, **more}, headers=fan.headers(idempotency_key=key))


def bought(client: FlaskClient, stripe: StripeServer, fan: Someone, key: str = "k") -> str:
    """A purchase that is paid and known to be."""
    purchase_id: str = buy(client, fan, key).json["purchaseId"]
    (session,) = stripe.world.all("checkout.session", client_reference_id=purchase_id)
    stripe.world.pay(session["id"])
    answer = client.post(f"/api/wallet/purchases/{purchase_id}/refresh", headers=fan.headers())
    assert answer.json["status"] == "succeeded"
    return purchase_id


def send(client: FlaskClient, event: dict[str, Any], **headers: str) -> Any:
    body = encoded(event)
    return client.post(WEBHOOK, data=body, headers={"Stripe-Signature": signature(body, SECRET), **headers})


def count(app: Flask, table: Any) -> int:
    with app.extensions["database"].reading() as tx:
        return int(tx.scalar(select(func.count()).select_from(table)) or 0)


# --- webhooks ---------------------------------------------------------------------------------------


def test_a_webhook_is_stored_once_and_answered_at_once(
    app: Flask, client: FlaskClient, stripe: StripeServer
) -> None:
    event = stripe.world.emit("checkout.session.completed", {"id": "cs_test_1"})
    asked = len(stripe.asked)
    for _ in range(3):
        answer = send(client, event)
        assert (answer.status_code, answer.json) == (200, {"received": True})
    assert count(app, GatewayEventRow) == 1
    assert count(app, OutboxRow) == 1
    # Stripe is asked by the worker, not while it waits for our answer.
    assert len(stripe.asked) == asked


def test_a_cookie_or_a_token_makes_no_difference(client: FlaskClient, stripe: StripeServer, fan: Someone) -> None:
    event = stripe.world.emit("checkout.session.completed", {"id": "cs_test_1"})
    for headers in (fan.headers(), {"Authorization": "Bearer nonsense"}, {"Cookie": "session=nonsense"}):
        assert send(client, event, **headers).status_code == 200


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "nonsense",
        "t=,v1=",
        "t=99999999999999999999,v1=" + "0" * 64,
        "t=1,v1=" + "0" * 64,
        "v1=" + "0" * 64,
        "t=-1,v1=\u00e9",
    ],
)
def test_forged_webhooks_are_refused_and_leave_nothing(
    app: Flask, client: FlaskClient, stripe: StripeServer, bad: str
) -> None:
    body = encoded(stripe.world.emit("checkout.session.completed", {"id": "cs_test_1"}))
    answer = client.post(WEBHOOK, data=body, headers={"Stripe-Signature": bad})
    assert code_of(answer) == (400, "BAD_SIGNATURE")
    assert code_of(client.post(WEBHOOK, data=body)) == (400, "BAD_SIGNATURE")
    assert count(app, GatewayEventRow) == 0


def test_a_signature_holds_for_one_body_and_for_five_minutes(
    app: Flask, client: FlaskClient, stripe: StripeServer
) -> None:
    body = encoded(stripe.world.emit("checkout.session.completed", {"id": "cs_test_1"}))
    good = signature(body, SECRET)
    for other in (body + b"\n", body.replace(b"cs_test_1", b"cs_test_2"), body[:-1], b""):
        answer = client.post(WEBHOOK, data=other, headers={"Stripe-Signature": good})
        assert code_of(answer) == (400, "BAD_SIGNATURE")
    old = signature(body, SECRET, utc_now().timestamp() - 301)
    assert code_of(client.post(WEBHOOK, data=body, headers={"Stripe-Signature": old})) == (400, "BAD_SIGNATURE")
    other_secret = signature(body, "whsec_of_somebody_else")
    answer = client.post(WEBHOOK, data=body, headers={"Stripe-Signature": other_secret})
    assert code_of(answer) == (400, "BAD_SIGNATURE")
    assert count(app, GatewayEventRow) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"null",
        b'"text"',
        b'{"object": "event"}',
        b'{"object": "event", "id": "evt_1", "type": "payment_intent.succeeded"}',
        b'{"object": "event", "id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {}}}',
        b'{"object": "event", "id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": 7}}',
        b'{"object": "event", "id": 1, "type": 2, "data": {"object": {"id": 3}}}',
        b'{"object": "event", "id": "evt_1", "type": "payout.x", "account": 5, "data": {"object": {"id": "p"}}}',
        b'{"object": "event", "id": "evt\\u0000", "type": "payment_intent.x", "data": {"object": {"id": "pi"}}}',
        b'{"object": "event", "id": "evt_1", "type": "refund.x", "data": {"object": {"id": "\\u0000"}}}',
        b'{"object": "v2.core.event", "id": "evt_1", "type": "v1.billing"}',
        b"\xff\xfe\x00",
        b"[" * 20_000,
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(app: Flask, client: FlaskClient, body: bytes) -> None:
    answer = client.post(WEBHOOK, data=body, headers={"Stripe-Signature": signature(body, SECRET)})
    assert answer.status_code == 400, answer.get_data()
    assert answer.json["code"] in ("BAD_EVENT", "BAD_SIGNATURE")
    assert count(app, GatewayEventRow) == 0


def test_large_bodies_and_other_providers_are_refused(client: FlaskClient) -> None:
    large = b"x" * (256 * 1024 + 1)
    assert code_of(client.post(WEBHOOK, data=large))[0] == 413
    assert code_of(client.post("/api/payments/webhooks/sandbox", data=b"{}")) == (404, "NOT_FOUND")
    assert code_of(client.post("/api/payments/webhooks/..%2fstripe", data=b"{}"))[0] == 404
    assert client.get(WEBHOOK).status_code == 405


def test_pages_of_elsewhere_send_no_webhooks(client: FlaskClient, stripe: StripeServer) -> None:
    event = stripe.world.emit("checkout.session.completed", {"id": "cs_test_1"})
    assert code_of(send(client, event, Origin="https://evil.example")) == (403, "ORIGIN_REFUSED")


# --- buying -----------------------------------------------------------------------------------------


def test_buying_leads_to_the_providers_page_and_back(
    client: FlaskClient, stripe: StripeServer, fan: Someone
) -> None:
    answer = buy(client, fan)
    assert (answer.status_code, answer.json["status"]) == (201, "pending")
    assert answer.json["checkoutUrl"].startswith(stripe.url)
    assert buy(client, fan).json == answer.json
    (session,) = stripe.world.all("checkout.session")
    assert session["success_url"] == f"http://localhost:8080/wallet/purchases/{answer.json['purchaseId']}"
    assert session["client_reference_id"] == answer.json["purchaseId"]
    path = f"/api/wallet/purchases/{answer.json['purchaseId']}"
    assert client.post(f"{path}/refresh", headers=fan.headers()).json["status"] == "pending"
    stripe.world.pay(session["id"])
    stripe.away = True
    assert client.post(f"{path}/refresh", headers=fan.headers()).json["status"] == "pending"
    stripe.away = False
    assert client.post(f"{path}/refresh", headers=fan.headers()).json["status"] == "succeeded"
    assert client.get(path, headers=fan.headers()).json["checkoutUrl"] is None
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 1_000


def test_a_purchase_is_its_buyers_alone(client: FlaskClient, people: People, fan: Someone) -> None:
    path = f"/api/wallet/purchases/{buy(client, fan).json['purchaseId']}"
    other = people.fan(tokens=0)
    assert code_of(client.get(path, headers=other.headers())) == (404, "NOT_FOUND")
    assert code_of(client.post(f"{path}/refresh", headers=other.headers())) == (404, "NOT_FOUND")
    assert code_of(client.get(path)) == (401, "UNAUTHENTICATED")
    assert client.get("/api/wallet/purchases", headers=other.headers()).json == {"purchases": []}


def test_a_provider_that_is_away_charges_nobody_and_the_same_call_goes_on(
    client: FlaskClient, stripe: StripeServer, fan: Someone
) -> None:
    stripe.away = True
    assert code_of(buy(client, fan)) == (503, "UNAVAILABLE")
    stripe.away = False
    assert buy(client, fan).json["status"] == "pending"
    assert len(stripe.world.all("checkout.session")) == 1


def test_new_buyers_go_slowly(client: FlaskClient, fan: Someone) -> None:
    for key in ("a", "b"):
        assert buy(client, fan, key).status_code == 201
    answer = buy(client, fan, "c")
    assert code_of(answer) == (403, "PURCHASE_LIMIT")
    assert (answer.json["limitMinor"], answer.json["spentMinor"]) == (10_000, 9_600)


def test_a_frozen_buyer_buys_nothing(app: Flask, client: FlaskClient, stripe: StripeServer, fan: Someone) -> None:
    purchase_id = bought(client, stripe, fan)
    app.extensions["database"].run(lambda tx: disputes.mark_bad(tx, purchase_id, utc_now(), status="disputed"))
    assert code_of(buy(client, fan, "again")) == (403, "SPENDING_FROZEN")


# --- giving back ------------------------------------------------------------------------------------


def test_unused_tokens_go_back_once(app: Flask, client: FlaskClient, stripe: StripeServer, fan: Someone) -> None:
    purchase_id = bought(client, stripe, fan)
    (shown,) = client.get("/api/wallet/purchases", headers=fan.headers()).json["purchases"]
    assert (shown["unspent"], shown["refundMinor"]) == (1_000, 4_800)
    body = {"purchaseId": purchase_id, "tokens": 250}
    first = client.post(REFUNDS, json=body, headers=fan.headers(idempotency_key="r"))
    assert (first.status_code, first.json["amountMinor"], first.json["status"]) == (202, 1_200, "requested")
    again = client.post(REFUNDS, json=body, headers=fan.headers(idempotency_key="r"))
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 750
    assert client.post(REFUNDS, json=body, headers=fan.headers()).status_code == 428


@pytest.mark.parametrize("tokens", [0, -1, 1.5, "1", True, 2**53 + 1, 2**63, [], {}])
def test_numbers_that_are_none_are_refused(
    client: FlaskClient, stripe: StripeServer, fan: Someone, tokens: object
) -> None:
    purchase_id = bought(client, stripe, fan)
    body = {"purchaseId": purchase_id, "tokens": tokens}
    answer = client.post(REFUNDS, json=body, headers=fan.headers(idempotency_key="r"))
    assert code_of(answer) == (422, "INVALID")
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 1_000


def test_more_than_is_unspent_is_refused(client: FlaskClient, stripe: StripeServer, fan: Someone) -> None:
    body = {"purchaseId": bought(client, stripe, fan), "tokens": 1_001}
    answer = client.post(REFUNDS, json=body, headers=fan.headers(idempotency_key="r"))
    assert code_of(answer) == (409, "NOT_UNSPENT")
    assert answer.json["unspent"] == 1_000


def test_somebody_elses_purchase_is_not_there(
    client: FlaskClient, stripe: StripeServer, people: People, fan: Someone
) -> None:
    body = {"purchaseId": bought(client, stripe, fan)}
    other = people.fan(tokens=0)
    answer = client.post(REFUNDS, json=body, headers=other.headers(idempotency_key="r"))
    assert code_of(answer) == (404, "NOT_FOUND")
    assert code_of(client.post(REFUNDS, json=body)) == (401, "UNAUTHENTICATED")


def test_ten_refunds_at_once_give_back_no_more_than_there_is(
    app: Flask, client: FlaskClient, stripe: StripeServer, fan: Someone
) -> None:
    purchase_id = bought(client, stripe, fan)
    answers: list[int] = []

    def press(number: int) -> None:
        headers = fan.headers(idempotency_key=f"r{number}")
        body = {"purchaseId": purchase_id, "tokens": 300}
        answers.append(app.test_client().post(REFUNDS, json=body, headers=headers).status_code)

    threads = [threading.Thread(target=press, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202] * 3 + [409] * 7
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 100


def test_ten_webhooks_and_presses_at_once_credit_once(
    app: Flask, client: FlaskClient, stripe: StripeServer, fan: Someone
) -> None:
    # given: paid; the webhook comes ten times while the buyer's page asks ten times
    purchase_id = buy(client, fan).json["purchaseId"]
    stripe.world.pay(stripe.world.all("checkout.session")[0]["id"])
    event = stripe.world.all("event", type="checkout.session.completed")[0]
    house = app.extensions["greenroom"]
    statuses: list[int] = []

    def webhook() -> None:
        statuses.append(send(app.test_client(), event).status_code)
        webhooks.act_on(house.database, house.gateway, "stripe", event["id"], utc_now())

    def press() -> None:
        path = f"/api/wallet/purchases/{purchase_id}/refresh"
        statuses.append(app.test_client().post(path, headers=fan.headers()).status_code)

    threads = [threading.Thread(target=act) for act in (webhook, press) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then
    assert set(statuses) == {200}
    assert count(app, GatewayEventRow) == 1
    assert client.get("/api/wallet", headers=fan.headers()).json["available"] == 1_000


def test_the_pages_of_a_purchase_say_what_is_true(
    app: Flask, client: FlaskClient, stripe: StripeServer, fan: Someone, people: People
) -> None:
    from test_page_words import signed_in, words

    pending = buy(client, fan).json["purchaseId"]
    paid = bought(client, stripe, fan, "paid")
    browser = signed_in(app.test_client(), fan)
    assert "Waiting for your payment" in words(browser, f"/wallet/purchases/{pending}")
    assert "Your tokens are here" in words(browser, f"/wallet/purchases/{paid}")
    wallet = words(browser, "/wallet")
    assert "You pay on Stripe's page" in wallet
    assert "A card that works" not in wallet
    assert "1,000 tokens for $48.00" in wallet
    words(browser, "/wallet/purchases/pur_unknown", 404)
    words(signed_in(app.test_client(), people.fan(tokens=0)), f"/wallet/purchases/{paid}", 404)
    app.extensions["database"].run(lambda tx: disputes.mark_bad(tx, paid, utc_now(), status="disputed"))
    assert "Taken back" in words(browser, f"/wallet/purchases/{paid}")
    frozen = words(browser, "/wallet")
    assert "Spending is frozen" in frozen
    assert "Get tokens" not in frozen
