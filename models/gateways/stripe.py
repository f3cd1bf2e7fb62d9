"""Stripe, by its own SDK: Checkout on Stripe's page, saved cards, refunds, disputes, and payouts over Connect.

Imported only where the setting asks for it. Translates, and decides nothing about tokens. Whatever keeps
Stripe from answering is Unavailable: the outcome is unknown. Every write carries an idempotency key that
comes from our own id; since Stripe forgets keys after a day, a write that may be older is looked for first.
Neither keys nor bodies nor messages of Stripe's errors are logged: codes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import stripe as sdk
from stripe.params.checkout import SessionCreateParams

from models.clock import utc_now
from models.errors import Invalid, NotFound
from models.gateways.base import (
    PAY_WITHIN,
    Checkout,
    Dispute,
    DisputeStatus,
    EventKind,
    GatewayEvent,
    Order,
    Payment,
    Refund,
    RefundStatus,
)
from models.gateways.stripe_connect import StripeConnect
from models.gateways.stripe_wire import FewAtOnce, asking, id_of, meta, pages, reason_of

API_VERSION = "2026-10-28.endive"
"""What this file was written for; an upgrade of the SDK does not change it."""
CONNECT_SECONDS, READ_SECONDS, RETRIES = 4.0, 10.0, 1
WEBHOOK_TOLERANCE_SECONDS = 300
KEYS_LAST = timedelta(hours=12)
"""Stripe keeps idempotency keys for at least 24 hours; we count on half of it."""

_WON = ("won", "warning_closed", "prevented")


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class _About(msgspec.Struct):
    """What we read of the object that an event is about; all else is asked for."""

    id: _Text
    payment_intent: _Text | dict[str, Any] | None = None
    charge: _Text | dict[str, Any] | None = None


class _Data(msgspec.Struct):
    object: _About


class _Event(msgspec.Struct):
    id: _Text
    type: _Text
    data: _Data
    account: _Text | None = None


class StripeGateway(StripeConnect):
    """A PaymentGateway. Safe for threads: the SDK keeps one connection a thread."""

    name = "stripe"

    def __init__(
        self, secret_key: str, webhook_secrets: tuple[str, ...], api_base: str, *, at_once: int = 16
    ) -> None:
        self._webhook_secrets = webhook_secrets
        self._client = sdk.StripeClient(
            secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base},
            max_network_retries=RETRIES,
            http_client=FewAtOnce(at_once, timeout=(CONNECT_SECONDS, READ_SECONDS)),
        )

    def create_checkout(self, order: Order, *, return_url: str, card: str | None = None) -> Checkout:
        """See PaymentGateway. Stripe's page asks for the card; ``card`` is not looked at.

        Cards alone, because tokens are credited at once. Stripe's page says that the card is going to be
        charged later where that is so (``setup_future_usage``).
        """
        wanted: SessionCreateParams = {
            "mode": "payment",
            "allowed_payment_method_types": ["card"],
            "client_reference_id": order.purchase_id,
            "metadata": {"purchase_id": order.purchase_id},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": order.currency.lower(),
                        "unit_amount": order.amount_minor,
                        "product_data": {"name": order.title},
                    },
                }
            ],
            "payment_intent_data": {"metadata": {"purchase_id": order.purchase_id}},
            "success_url": return_url,
            "cancel_url": return_url,
            "expires_at": int((order.created_at + PAY_WITHIN).timestamp()),
        }
        if order.save_card:
            wanted["payment_intent_data"]["setup_future_usage"] = "off_session"
        if order.customer_ref is not None:
            wanted["customer"] = order.customer_ref
        else:
            wanted["customer_creation"] = "always" if order.save_card else "if_required"
        with asking():
            session = self._client.v1.checkout.sessions.create(
                wanted, {"idempotency_key": f"{order.purchase_id}:checkout"}
            )
        return Checkout(reference=session.id, url=session.url)

    def recall(self, order: Order) -> Payment | None:
        """See PaymentGateway. Looks through what was made since the order; late is found by its webhook."""
        since = int(order.created_at.timestamp()) - 60
        with asking():
            sessions = self._client.v1.checkout.sessions.list({"created": {"gte": since}, "limit": 100})
            for session in pages(sessions):
                if session.client_reference_id == order.purchase_id:
                    return self.status(session.id)
            if order.customer_ref is None:
                return None
            intents = self._client.v1.payment_intents.list(
                {"customer": order.customer_ref, "created": {"gte": since}, "limit": 100}
            )
            for intent in pages(intents):
                if meta(intent, "purchase_id") == order.purchase_id:
                    return self.status(intent.id)
        return None

    def status(self, reference: str) -> Payment:
        """See PaymentGateway. ``reference`` is a Checkout Session's id, a PaymentIntent's or a Charge's."""
        with asking():
            if reference.startswith("ch_"):
                charge = self._client.v1.charges.retrieve(reference)
                reference = id_of(charge.payment_intent) or ""
            if not reference.startswith("cs_"):
                return self._of_intent(reference)
            session = self._client.v1.checkout.sessions.retrieve(reference)
            intent = id_of(session.payment_intent)
            if session.status == "complete" and session.payment_status != "unpaid" and intent is not None:
                return self._of_intent(intent)
        expired = session.status == "expired"
        return Payment(
            reference=session.id,
            status="failed" if expired else "pending",
            purchase_id=session.client_reference_id,
            detail="expired" if expired else "",
        )

    def charge_saved(self, order: Order) -> Payment:
        """See PaymentGateway. The card that was saved last; Stripe says no where its owner is needed (3DS)."""
        if order.customer_ref is None:
            raise NotFound("There is no saved card.")
        if utc_now() - order.created_at > KEYS_LAST and (known := self.recall(order)) is not None:
            return known
        with asking():
            methods = self._client.v1.customers.payment_methods
            saved = methods.list(order.customer_ref, {"type": "card", "limit": 1})
            if not saved.data:
                raise NotFound("There is no saved card.")
            try:
                intent = self._client.v1.payment_intents.create(
                    {
                        "amount": order.amount_minor,
                        "currency": order.currency.lower(),
                        "customer": order.customer_ref,
                        "payment_method": saved.data[0].id,
                        "allowed_payment_method_types": ["card"],
                        "off_session": True,
                        "confirm": True,
                        "description": order.title,
                        "metadata": {"purchase_id": order.purchase_id, "way": "saved"},
                    },
                    {"idempotency_key": f"{order.purchase_id}:charge"},
                )
            except sdk.CardError as error:
                refused = error.error.payment_intent if error.error is not None else None
                return Payment(
                    reference=refused.id if refused is not None else f"{order.purchase_id}:refused",
                    status="failed",
                    purchase_id=order.purchase_id,
                    detail=error.code or "card_declined",
                )
            return self._of_intent(intent.id)

    def refund(self, reference: str, amount_minor: int, key: str) -> Refund:
        """See PaymentGateway."""
        try:
            with asking():
                before = self._client.v1.refunds.list({"payment_intent": reference, "limit": 100})
                for refund in pages(before):
                    if meta(refund, "refund_id") == key:
                        return _refund(refund)
                made = self._client.v1.refunds.create(
                    {
                        "payment_intent": reference,
                        "amount": amount_minor,
                        "reason": "requested_by_customer",
                        "metadata": {"refund_id": key},
                    },
                    {"idempotency_key": f"{key}:refund"},
                )
        except (Invalid, NotFound) as error:
            return Refund(reference="", status="failed", detail=reason_of(error))
        return _refund(made)

    def refund_status(self, reference: str) -> Refund:
        """See PaymentGateway."""
        with asking():
            return _refund(self._client.v1.refunds.retrieve(reference))

    def verify_webhook(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """See PaymentGateway. Any of the secrets will do, so that one can be exchanged without a gap."""
        signature = headers.get("Stripe-Signature", "")
        # The SDK compares what it is given, and comparing other than ASCII raises.
        for secret in self._webhook_secrets if signature.isascii() else ():
            try:
                event = sdk.Webhook.construct_event(body, signature, secret, WEBHOOK_TOLERANCE_SECONDS)
                return _event(event)
            except sdk.SignatureVerificationError:
                continue
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
                raise Invalid("The body is no event.", code="BAD_EVENT") from error
        raise Invalid("The signature does not fit the body.", code="BAD_SIGNATURE")

    def _of_intent(self, intent_id: str) -> Payment:
        intent = self._client.v1.payment_intents.retrieve(intent_id, {"expand": ["latest_charge"]})
        charge: Any = intent.latest_charge
        purchase_id = meta(intent, "purchase_id")
        if intent.status != "succeeded":
            failure = intent.last_payment_error.code if intent.last_payment_error else None
            # On Stripe's page another card may still be tried; without the buyer there is no other try.
            over = intent.status == "canceled" or (meta(intent, "way") == "saved" and failure is not None)
            return Payment(
                reference=intent.id,
                purchase_id=purchase_id,
                status="failed" if over else "pending",
                detail=(failure or intent.status) if over else "",
            )
        dispute = self._dispute_of(intent.id) if charge is not None and charge.disputed else None
        warnings = self._client.v1.radar.early_fraud_warnings.list({"payment_intent": intent.id, "limit": 1})
        saved = intent.setup_future_usage == "off_session"
        return Payment(
            reference=intent.id,
            purchase_id=purchase_id,
            status="disputed" if dispute is not None and dispute.status != "won" else "succeeded",
            customer_ref=id_of(intent.customer) if saved else None,
            dispute=dispute,
            flagged=bool(warnings.data),
            refunded_outside_minor=self._outside(intent.id) if charge and charge.amount_refunded else 0,
        )

    def _outside(self, intent_id: str) -> int:
        """What was given back by others than us: our refunds carry their id of ours."""
        with asking():
            refunds = self._client.v1.refunds.list({"payment_intent": intent_id, "limit": 100})
            return sum(
                refund.amount
                for refund in pages(refunds)
                if meta(refund, "refund_id") is None and _refund(refund).status != "failed"
            )

    def _dispute_of(self, intent_id: str) -> Dispute | None:
        """The dispute that counts: one that is not won, before those that are; an inquiry is none yet."""
        found = [
            one
            for one in self._client.v1.disputes.list({"payment_intent": intent_id, "limit": 100}).data
            if one.status not in ("warning_needs_response", "warning_under_review", "warning_closed")
        ]
        if not found:
            return None
        dispute = min(found, key=lambda one: (one.status in _WON, -one.created))
        due = dispute.evidence_details.due_by if dispute.evidence_details else None
        status: DisputeStatus = "opened"
        if dispute.status in _WON:
            status = "won"
        elif dispute.status == "lost":
            status = "lost"
        return Dispute(
            reference=dispute.id,
            status=status,
            reason=dispute.reason,
            amount_minor=dispute.amount,
            due_at=datetime.fromtimestamp(due, UTC) if due else None,
        )


def _event(event: sdk.Event) -> GatewayEvent:
    said = msgspec.convert(event.to_dict(), _Event)
    kind, reference = _subject(said.type, said.data.object, said.account)
    if any("\0" in text for text in (said.id, said.type, reference)):
        raise ValueError("NUL is no character of an id")
    return GatewayEvent(event_id=said.id, kind=kind, type=said.type, reference=reference)


def _subject(type_: str, about: _About, account: str | None) -> tuple[EventKind, str]:
    """What an event is about, and by which id the truth about it is asked for."""
    if type_.startswith(("refund.", "charge.refund.")):
        return "refund", about.id
    if type_.startswith("payout.") and account is not None:
        return "payout", f"{account}/{about.id}"
    if type_ == "account.updated":
        return "account", about.id
    if type_.startswith(("checkout.session.", "payment_intent.")):
        return "payment", about.id
    if type_.startswith(("charge.dispute.", "radar.early_fraud_warning.")):
        # Of an early warning Stripe names the charge at least.
        return "payment", id_of(about.payment_intent) or id_of(about.charge) or ""
    if type_ == "charge.refunded":
        return "payment", id_of(about.payment_intent) or about.id
    return "other", ""


def _refund(refund: sdk.Refund) -> Refund:
    status: RefundStatus = "pending"
    if refund.status == "succeeded":
        status = "succeeded"
    elif refund.status in ("failed", "canceled"):
        status = "failed"
    detail = getattr(refund, "failure_reason", None) or refund.status or ""
    return Refund(
        reference=refund.id,
        status=status,
        detail=detail if status == "failed" else "",
        payment=id_of(refund.payment_intent),
    )
