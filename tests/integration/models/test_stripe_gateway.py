"""What is Stripe's alone: keys on every write, unknown outcomes, secrets that stay secret; the fake's shape."""

from __future__ import annotations

import json
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.stripe_objects import EXAMPLES, problems
from fakes.stripe_server import KEY, SECRET, StripeServer
from fakes.stripe_wire import Refused, encoded, form, signature
from fakes.stripe_world import DECLINED, NEEDS_OWNER
from providers import StripeProvider, order

from models.errors import Invalid, NotFound, Unavailable
from models.gateways import stripe as gateway_module
from models.gateways.base import PaymentGateway
from models.gateways.stripe import API_VERSION, StripeGateway
from ops.ports import free_port


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer() as made:
        yield made


@pytest.fixture
def provider(server: StripeServer) -> StripeProvider:
    return StripeProvider(server)


CALLS: list[Callable[[PaymentGateway], Any]] = [
    lambda gateway: gateway.create_checkout(order(), return_url="https://x.test"),
    lambda gateway: gateway.recall(order()),
    lambda gateway: gateway.status("pi_1"),
    lambda gateway: gateway.status("cs_test_1"),
    lambda gateway: gateway.charge_saved(order(customer_ref="cus_1")),
    lambda gateway: gateway.refund("pi_1", 1, "rfd_1"),
    lambda gateway: gateway.refund_status("re_1"),
    lambda gateway: gateway.onboard("usr_1", account_ref=None, return_url="https://x.test"),
    lambda gateway: gateway.account_status("acct_1"),
    lambda gateway: gateway.payout("acct_1", 1, "USD", "pay_1"),
    lambda gateway: gateway.payout_status("acct_1/po_1"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_does_not_answer_is_an_unknown_outcome(
    provider: StripeProvider, call: Callable[[PaymentGateway], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "RETRIES", 0)
    provider.server.away = True
    with pytest.raises(Unavailable):
        call(StripeGateway(KEY, (SECRET,), provider.server.url))
    # nobody listens, our key is refused, and somebody listens and says nothing: the same
    with pytest.raises(Unavailable):
        call(StripeGateway(KEY, (SECRET,), f"http://127.0.0.1:{free_port()}"))
    provider.server.away = False
    with pytest.raises(Unavailable):
        call(StripeGateway("sk_test_of_somebody_else", (SECRET,), provider.server.url))


def test_an_answer_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "READ_SECONDS", 0.2)
    monkeypatch.setattr(gateway_module, "RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gateway = StripeGateway(KEY, (SECRET,), f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unavailable):
            gateway.status("pi_1")


def test_every_write_has_a_key_and_every_call_the_version(provider: StripeProvider) -> None:
    # given: everything that the gateway can be asked for
    payment = provider.pay(order(save_card=True))
    provider.gateway.charge_saved(order(500, customer_ref=payment.customer_ref))
    provider.gateway.refund(payment.reference, 1, "rfd_1")
    provider.gateway.payout(provider.account("fails"), 100, "USD", "pay_1")
    # then
    writes = [(path, headers) for method, path, headers in provider.server.asked if method == "POST"]
    assert len({path.split("/")[2] for path, _ in writes}) >= 6
    assert all(headers.get("Idempotency-Key") for _, headers in writes)
    keys = {path: headers["Idempotency-Key"] for path, headers in writes}
    assert keys["/v1/refunds"] == "rfd_1:refund"
    assert keys["/v1/transfers"] == "pay_1:transfer"
    assert {headers["Stripe-Version"] for _, _, headers in provider.server.asked} == {API_VERSION}


def test_a_lost_answer_is_tried_again_by_the_sdk_and_done_once(provider: StripeProvider) -> None:
    payment = provider.pay(order())
    provider.server.lose_answers = 1
    assert provider.gateway.refund(payment.reference, 100, "rfd_1").status == "succeeded"
    assert len(provider.world.all("refund")) == 1


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_payout_that_crashes_anywhere_is_one_payout(provider: StripeProvider, lost: int) -> None:
    account = provider.account("pays")
    provider.server.lose_answers = lost
    for _ in range(3):
        with suppress(Unavailable):
            provider.gateway.payout(account, 900, "USD", "pay_1")
    assert provider.gateway.payout(account, 900, "USD", "pay_1").status == "pending"
    assert len(provider.world.all("payout")) == 1
    assert provider.money() == -900


def test_cards_alone_and_the_buyers_consent(provider: StripeProvider) -> None:
    provider.gateway.create_checkout(order(save_card=True), return_url="https://x.test/back")
    (session,) = provider.world.all("checkout.session")
    assert (session["mode"], session["customer_creation"]) == ("payment", "always")
    assert session["success_url"] == session["cancel_url"] == "https://x.test/back"
    provider.world.pay(session["id"])
    (intent,) = provider.world.all("payment_intent")
    assert intent["setup_future_usage"] == "off_session"


def test_a_buyer_is_the_same_customer_the_next_time(provider: StripeProvider) -> None:
    first = provider.pay(order(save_card=True))
    again = provider.pay(order(customer_ref=first.customer_ref, save_card=True))
    assert again.customer_ref == first.customer_ref
    assert len(provider.world.all("customer")) == 1
    with pytest.raises(NotFound):
        provider.gateway.create_checkout(order(customer_ref="cus_unknown"), return_url="https://x.test")


def test_a_card_that_wants_its_owner_is_a_refusal_without_them(provider: StripeProvider) -> None:
    wanted = order(save_card=True)
    checkout = provider.gateway.create_checkout(wanted, return_url="https://x.test")
    provider.world.pay(checkout.reference, NEEDS_OWNER)
    customer = provider.gateway.status(checkout.reference).customer_ref
    refused = provider.gateway.charge_saved(order(customer_ref=customer))
    assert (refused.status, refused.detail) == ("failed", "authentication_required")


def test_a_refused_card_leaves_the_page_open_for_another(provider: StripeProvider) -> None:
    checkout = provider.gateway.create_checkout(order(), return_url="https://x.test")
    with pytest.raises(Refused):
        provider.world.pay(checkout.reference, DECLINED)
    assert provider.gateway.status(checkout.reference).status == "pending"
    (intent,) = provider.world.all("payment_intent")
    assert provider.gateway.status(intent["id"]).status == "pending"
    provider.world.pay(checkout.reference)
    assert provider.gateway.status(checkout.reference).good


def test_what_stripe_refuses_is_said_with_its_word(provider: StripeProvider) -> None:
    late = order(created_at=datetime.now(UTC) - timedelta(hours=3))
    with pytest.raises(Invalid) as refusal:
        provider.gateway.create_checkout(late, return_url="https://x.test")
    assert (refusal.value.code, refusal.value.fields["reason"]) == ("GATEWAY_REFUSED", "parameter_invalid")


def test_either_secret_signs_while_one_is_exchanged(provider: StripeProvider) -> None:
    body = encoded(provider.world.emit("payment_intent.succeeded", {"id": "pi_1"}))
    for secret in ("whsec_of_before", SECRET):
        event = provider.gateway.verify_webhook(body, {"Stripe-Signature": signature(body, secret)})
        assert event.reference == "pi_1"
    both = f"{signature(body, 'whsec_of_nobody')},{signature(body, SECRET).split(',')[1]}"
    assert provider.gateway.verify_webhook(body, {"Stripe-Signature": both}).reference == "pi_1"


@pytest.mark.parametrize(
    ("type_", "about", "account", "kind", "reference"),
    [
        ("checkout.session.completed", {"id": "cs_1"}, None, "payment", "cs_1"),
        ("payment_intent.payment_failed", {"id": "pi_1"}, None, "payment", "pi_1"),
        ("charge.dispute.created", {"id": "dp_1", "payment_intent": "pi_1"}, None, "payment", "pi_1"),
        ("charge.dispute.closed", {"id": "dp_1", "payment_intent": {"id": "pi_1"}}, None, "payment", "pi_1"),
        ("charge.dispute.funds_withdrawn", {"id": "dp_1", "charge": "ch_1"}, None, "payment", "ch_1"),
        ("radar.early_fraud_warning.created", {"id": "issfr_1", "charge": "ch_1"}, None, "payment", "ch_1"),
        ("refund.failed", {"id": "re_1", "charge": "ch_1"}, None, "refund", "re_1"),
        ("charge.refund.updated", {"id": "re_1"}, None, "refund", "re_1"),
        ("payout.failed", {"id": "po_1"}, "acct_1", "payout", "acct_1/po_1"),
        ("payout.paid", {"id": "po_ours"}, None, "other", ""),
        ("account.updated", {"id": "acct_1"}, "acct_1", "account", "acct_1"),
        ("charge.succeeded", {"id": "ch_1"}, None, "other", ""),
        ("customer.created", {"id": "cus_1"}, None, "other", ""),
    ],
)
def test_what_an_event_is_about(
    provider: StripeProvider, type_: str, about: dict[str, Any], account: str | None, kind: str, reference: str
) -> None:
    body = encoded(provider.world.emit(type_, about, account))
    event = provider.gateway.verify_webhook(body, {"Stripe-Signature": signature(body, SECRET)})
    assert (event.kind, event.reference, event.type) == (kind, reference, type_)


def test_a_charge_leads_to_its_payment(provider: StripeProvider) -> None:
    payment = provider.pay(order())
    (charge,) = provider.world.all("charge")
    assert provider.gateway.status(charge["id"]) == payment


def test_no_key_and_no_body_is_ever_logged(
    provider: StripeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    payment = provider.pay(order(save_card=True))
    provider.gateway.refund(payment.reference, 10**9, "rfd_1")
    with pytest.raises(Unavailable):
        StripeGateway("sk_test_secret_of_another", (SECRET,), provider.server.url).status("pi_1")
    with pytest.raises(Invalid):
        provider.gateway.verify_webhook(b"{}", {"Stripe-Signature": "t=1,v1=0"})
    said = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("urllib3"))
    assert "stripe_refused" in said
    for secret in (KEY, SECRET, "sk_test_secret_of_another", "whsec_", "4242"):
        assert secret not in said


# --- the fake ---------------------------------------------------------------------------------------


def test_the_fakes_objects_have_the_shape_of_stripes_own_examples(provider: StripeProvider) -> None:
    # given: one of everything
    disputed = provider.pay(order(save_card=True), "dispute-won")
    provider.later(2)
    flagged = provider.pay(order(), "flagged")
    provider.later()
    provider.gateway.refund(flagged.reference, 100, "rfd_1")
    provider.gateway.charge_saved(order(500, customer_ref=disputed.customer_ref))
    provider.gateway.payout(provider.account("fails"), 10, "USD", "pay_0")
    provider.gateway.payout(provider.account("fails-later"), 10, "USD", "pay_1")
    provider.later()
    # then
    made = [row for rows in provider.world.kinds.values() for row in rows.values()]
    assert {row["object"] for row in made} == set(EXAMPLES) - {"account_link"}
    assert {row["id"]: problems(row) for row in made if problems(row)} == {}
    for row in provider.world.all("event"):
        assert row["data"]["object"]["object"] in EXAMPLES


def test_the_check_of_shapes_sees_what_is_wrong(provider: StripeProvider) -> None:
    provider.pay(order())
    (charge,) = provider.world.all("charge")
    assert problems(charge) == []
    for wrong in (
        {name: value for name, value in charge.items() if name != "disputed"},
        charge | {"amount": "100"},
        charge | {"paid": 1},
        charge | {"made_up": 1},
        charge | {"payment_method_details": charge["payment_method_details"] | {"type": 7}},
    ):
        assert problems(wrong), wrong


def test_the_fake_refuses_what_stripe_would(provider: StripeProvider) -> None:
    """An unknown parameter, or the same key for something else, is an error and not overlooked."""
    def post(path: str, body: str, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(
            provider.server.url + path, body.encode(), {"Authorization": f"Bearer {KEY}"} | headers
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status), json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    status, answer = post("/v1/accounts", "made_up=1")
    assert (status, answer["error"]["code"]) == (400, "parameter_unknown")
    status, answer = post("/v1/refunds", "amount=1")
    assert (status, answer["error"]["code"]) == (400, "parameter_missing")
    first = post("/v1/accounts", "metadata[a]=1", **{"Idempotency-Key": "k"})
    assert post("/v1/accounts", "metadata[a]=1", **{"Idempotency-Key": "k"}) == first
    status, answer = post("/v1/accounts", "metadata[a]=2", **{"Idempotency-Key": "k"})
    assert (status, answer["error"]["type"]) == (400, "idempotency_error")
    assert post("/v1/nonsense", "")[0] == 404
    assert form("a[b][0][c]=1&a[b][1][c]=2&d=%20") == {"a": {"b": [{"c": "1"}, {"c": "2"}]}, "d": " "}


def test_long_lists_come_in_pages(provider: StripeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = order()
    for _ in range(120):
        provider.gateway.create_checkout(order(), return_url="https://x.test")
    checkout = provider.gateway.create_checkout(wanted, return_url="https://x.test")
    sessions = provider.world.kinds["checkout.session"]
    for age, session in enumerate(sessions.values()):
        session["created"] += 0 if session["id"] == checkout.reference else 100 + age
    asked = len(provider.server.asked)
    found = provider.gateway.recall(wanted)
    assert found is not None
    assert found.reference == checkout.reference
    assert len([path for _, path, _ in provider.server.asked[asked:] if path == "/v1/checkout/sessions"]) == 2


def test_a_silent_provider_keeps_few_threads_and_answers_the_others_at_once() -> None:
    """Pages, media events and settlements have the same threads."""
    # given: Stripe takes connections and says nothing, and as many ask as may
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gateway = StripeGateway(KEY, (SECRET,), f"http://127.0.0.1:{silent.getsockname()[1]}", at_once=2)
        first = [threading.Thread(target=_ask, args=(gateway,)) for _ in range(2)]
        for thread in first:
            thread.start()
        heard = [silent.accept()[0] for _ in first]
        # when one more asks, then it is told before they are
        with pytest.raises(Unavailable):
            gateway.status("pi_1")
        assert [thread.is_alive() for thread in first] == [True, True]
        for connection in heard:
            connection.close()
    for thread in first:
        thread.join(30)
    assert [thread.is_alive() for thread in first] == [False, False]


def _ask(gateway: StripeGateway) -> None:
    with pytest.raises(Unavailable):
        gateway.status("pi_1")
