"""What every PaymentGateway promises, asked of the sandbox and of Stripe (over HTTP, of a fake) alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fakes.stripe_server import StripeServer
from providers import Provider, SandboxProvider, StripeProvider, order

from models.db import Database
from models.errors import Invalid, NotFound


@pytest.fixture(params=["sandbox", "stripe"])
def provider(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Provider]:
    if request.param == "sandbox":
        database = Database(sqlite_url)
        yield SandboxProvider(database)
        database.close()
        return
    with StripeServer() as server:
        yield StripeProvider(server)


def test_a_payment_succeeds_once_and_knows_its_purchase(provider: Provider) -> None:
    wanted = order()
    payment = provider.pay(wanted)
    assert (payment.status, payment.good, payment.purchase_id) == ("succeeded", True, wanted.purchase_id)
    assert payment.customer_ref is None
    assert provider.gateway.status(payment.reference) == payment
    assert provider.gateway.recall(wanted) == payment
    again = provider.gateway.create_checkout(wanted, return_url="https://x.test/back")
    assert provider.gateway.status(again.reference) == payment
    assert provider.money() == wanted.amount_minor


def test_a_refused_card_has_paid_nothing(provider: Provider) -> None:
    payment = provider.pay(order(), "fails")
    assert payment.status == "failed"
    assert payment.detail
    assert provider.money() == 0


def test_what_was_never_asked_for_is_not_there(provider: Provider) -> None:
    assert provider.gateway.recall(order()) is None
    for reference in ("cs_test_unknown", "pi_unknown", "nonsense"):
        with pytest.raises(NotFound):
            provider.gateway.status(reference)
    with pytest.raises(NotFound):
        provider.gateway.refund_status("re_unknown")
    with pytest.raises(NotFound):
        provider.gateway.account_status("acct_unknown")
    with pytest.raises(NotFound):
        provider.gateway.payout_status("acct_unknown/po_unknown")


@pytest.mark.parametrize(("card", "end"), [("dispute-won", "won"), ("dispute-lost", "lost")])
def test_a_dispute_opens_and_ends(provider: Provider, card: str, end: str) -> None:
    payment = provider.pay(order(700), card)
    assert (payment.status, payment.dispute) == ("succeeded", None)
    provider.later()
    opened = provider.gateway.status(payment.reference)
    assert opened.status == "disputed"
    assert opened.dispute is not None
    assert (opened.dispute.status, opened.dispute.amount_minor) == ("opened", 700)
    assert opened.dispute.reason == "fraudulent"
    assert opened.dispute.due_at is not None
    assert opened.dispute.due_at > datetime.now(UTC)
    provider.later()
    closed = provider.gateway.status(payment.reference)
    assert closed.dispute is not None
    assert (closed.dispute.status, closed.dispute.reference) == (end, opened.dispute.reference)
    assert closed.status == ("succeeded" if end == "won" else "disputed")


def test_an_early_warning_is_a_flag_and_no_failure(provider: Provider) -> None:
    payment = provider.pay(order(), "flagged")
    assert not payment.flagged
    provider.later()
    flagged = provider.gateway.status(payment.reference)
    assert (flagged.flagged, flagged.status) == (True, "succeeded")


def test_a_saved_card_is_charged_once_for_each_purchase(provider: Provider) -> None:
    first = provider.pay(order(save_card=True))
    assert first.customer_ref is not None
    wanted = order(500, customer_ref=first.customer_ref)
    payment = provider.gateway.charge_saved(wanted)
    assert (payment.status, payment.purchase_id) == ("succeeded", wanted.purchase_id)
    assert provider.gateway.charge_saved(wanted) == payment
    assert provider.gateway.recall(wanted) == payment
    assert provider.money() == 5_300


def test_a_saved_card_may_be_refused_without_its_owner(provider: Provider) -> None:
    first = provider.pay(order(save_card=True), "saved-fails")
    assert first.good
    wanted = order(500, customer_ref=first.customer_ref)
    refused = provider.gateway.charge_saved(wanted)
    assert (refused.status, refused.detail) == ("failed", "card_declined")
    assert provider.gateway.charge_saved(wanted).status == "failed"
    assert provider.gateway.status(refused.reference).status == "failed"
    assert provider.money() == 4_800


def test_without_consent_nothing_is_saved(provider: Provider) -> None:
    paid = provider.pay(order())
    assert paid.customer_ref is None
    with pytest.raises(NotFound):
        provider.gateway.charge_saved(order(customer_ref=None))


def test_refunds_never_exceed_what_was_paid(provider: Provider) -> None:
    payment = provider.pay(order(1_000))
    first = provider.gateway.refund(payment.reference, 400, "rfd_1")
    assert first.status == "succeeded"
    assert provider.gateway.refund(payment.reference, 400, "rfd_1") == first
    assert provider.gateway.refund_status(first.reference) == first
    refused = provider.gateway.refund(payment.reference, 601, "rfd_2")
    assert refused.status == "failed"
    assert refused.detail
    assert provider.gateway.refund(payment.reference, 600, "rfd_3").status == "succeeded"
    assert provider.gateway.refund(payment.reference, 1, "rfd_4").status == "failed"
    assert provider.money() == 0


def test_a_disputed_payment_is_not_refunded_as_well(provider: Provider) -> None:
    payment = provider.pay(order(1_000), "disputed")
    provider.later()
    refused = provider.gateway.refund(payment.reference, 1_000, "rfd_1")
    assert (refused.status, refused.detail) == ("failed", "charge_disputed")
    assert provider.gateway.refund("pi_unknown", 1, "rfd_2").status == "failed"


def test_a_payout_arrives_once(provider: Provider) -> None:
    account = provider.account("pays-later")
    assert provider.gateway.account_status(account).ready
    sent = provider.gateway.payout(account, 900, "USD", "pay_1")
    assert sent.status == "pending"
    assert provider.gateway.payout(account, 900, "USD", "pay_1") == sent
    provider.later()
    assert provider.gateway.payout_status(sent.reference).status == "paid"
    assert provider.money() == -900


@pytest.mark.parametrize("kind", ["fails", "fails-later", "unready"])
def test_a_payout_that_fails_is_back_with_us(provider: Provider, kind: str) -> None:
    account = provider.account(kind)
    assert provider.gateway.account_status(account).ready == (kind != "unready")
    sent = provider.gateway.payout(account, 900, "USD", "pay_1")
    if kind == "fails-later":
        assert sent.status == "pending"
        provider.later()
        sent = provider.gateway.payout_status(sent.reference)
    assert sent.status == "failed"
    assert sent.detail
    assert provider.gateway.payout(account, 900, "USD", "pay_1").status == "failed"
    assert provider.gateway.payout_status(sent.reference).status == "failed"
    assert provider.money() == 0


def test_onboarding_again_keeps_the_account(provider: Provider) -> None:
    first = provider.gateway.onboard("usr_1", account_ref=None, return_url="https://x.test/back")
    again = provider.gateway.onboard("usr_1", account_ref=None, return_url="https://x.test/back")
    known = provider.gateway.onboard("usr_1", account_ref=first.account_ref, return_url="https://x.test/back")
    assert {first.account_ref} == {again.account_ref, known.account_ref}
    assert "https://x.test/back" in first.url


def test_a_signed_event_is_read(provider: Provider) -> None:
    body, headers = provider.webhook("payment", "pi_1")
    event = provider.gateway.verify_webhook(body, headers)
    assert (event.kind, event.reference) == ("payment", "pi_1")
    assert event.event_id.startswith("evt_")
    assert provider.gateway.verify_webhook(body, headers) == event


def test_events_that_are_not_signed_by_the_provider_are_refused(provider: Provider) -> None:
    body, headers = provider.webhook("payment", "pi_1")
    (name, value), = headers.items()
    stamp, digest = value.split(",")
    for bad in (
        {},
        {name: ""},
        {name: "t=1"},
        {name: "nonsense"},
        {name: f"{stamp},v1={'0' * 64}"},
        {name: f"{stamp},v0={digest[3:]}"},
        {name: f"t={int(stamp[2:]) + 1},{digest}"},
        {"X-Signature": value},
    ):
        with pytest.raises(Invalid) as refusal:
            provider.gateway.verify_webhook(body, bad)
        assert refusal.value.code == "BAD_SIGNATURE"
    for other in (body + b" ", body.replace(b"pi_1", b"pi_2"), b""):
        with pytest.raises(Invalid):
            provider.gateway.verify_webhook(other, headers)


def test_an_event_of_long_ago_is_a_replay(provider: Provider) -> None:
    body, headers = provider.webhook("payment", "pi_1", at=time.time() - 301)
    with pytest.raises(Invalid, match="signature"):
        provider.gateway.verify_webhook(body, headers)
    body, headers = provider.webhook("payment", "pi_1", at=time.time() - 290)
    assert provider.gateway.verify_webhook(body, headers).kind == "payment"


def test_an_old_order_is_not_charged_again_when_the_provider_has_forgotten_its_key(provider: Provider) -> None:
    first = provider.pay(order(save_card=True))
    wanted = order(500, customer_ref=first.customer_ref, created_at=datetime.now(UTC) - timedelta(days=2))
    payment = provider.gateway.charge_saved(wanted)
    refund = provider.gateway.refund(payment.reference, 100, "rfd_1")
    account = provider.account("pays-later")
    payout = provider.gateway.payout(account, 50, "USD", "pay_1")
    if isinstance(provider, StripeProvider):
        provider.server.memory.forget()
    assert provider.gateway.charge_saved(wanted) == payment
    assert provider.gateway.refund(payment.reference, 100, "rfd_1") == refund
    assert provider.gateway.payout(account, 50, "USD", "pay_1") == payout
    provider.later()
    assert provider.money() == 4_800 + 500 - 100 - 50
