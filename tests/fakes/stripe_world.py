"""What happens inside the fake Stripe: money moves, cards do what Stripe's test numbers do, events come of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from fakes.stripe_objects import make
from fakes.stripe_wire import Refused, no_such

Object = dict[str, Any]
GOOD, DECLINED, DISPUTED = "4242424242424242", "4000000000000002", "4000000000000259"
FLAGGED, REFUND_FAILS = "4000000000005423", "4000000000005126"
DECLINED_LATER, NEEDS_OWNER = "4000000000000341", "4000002500003155"
"""Can be saved and is then refused · is refused without its owner, who would have to sign in at the bank."""


class World:
    """All objects, by kind and id; every change under one lock; ``on_event`` is told of each event."""

    def __init__(self, public_url: str = "") -> None:
        self.public_url = public_url
        self.clock: Callable[[], float] = time.time
        self.lock = threading.RLock()
        self.kinds: dict[str, dict[str, Object]] = {}
        self.numbers: dict[str, str] = {}
        """Payment method → card number; Stripe never says it again, and neither do we."""
        self.moved: list[tuple[str, int]] = []
        """What left or entered our account, in order: (``charge``, +4800), (``refund``, -100)…"""
        self.owners: dict[str, str] = {}
        """Payout → the connected account that it is made from."""
        self._asked: dict[str, Object] = {}
        """Checkout session → what it was made with."""
        self.on_event: Callable[[Object], None] = lambda event: None

    # --- looking ---------------------------------------------------------------------------------

    def all(self, kind: str, **having: Any) -> list[Object]:
        """The objects of a kind whose members are as given, oldest first."""
        rows = self.kinds.get(kind, {}).values()
        return [row for row in rows if all(row.get(name) == value for name, value in having.items())]

    def get(self, kind: str, id_: str) -> Object:
        found = self.kinds.get(kind, {}).get(id_)
        if found is None:
            raise no_such(kind, id_)
        return found

    # --- paying ----------------------------------------------------------------------------------

    def checkout(self, params: Object) -> Object:
        line = params["line_items"][0]["price_data"]
        amount = int(line["unit_amount"]) * int(params["line_items"][0]["quantity"])
        if not 1_800 - 60 <= int(params["expires_at"]) - self.clock() <= 86_400:
            raise Refused(400, "invalid_request_error", "parameter_invalid", param="expires_at")
        if (customer := params.get("customer")) is not None:
            self.get("customer", customer)
        session = self._add(
            "checkout.session",
            amount_subtotal=amount,
            amount_total=amount,
            currency=line["currency"],
            client_reference_id=params.get("client_reference_id"),
            customer=params.get("customer"),
            customer_creation=params.get("customer_creation"),
            expires_at=int(params["expires_at"]),
            metadata=params.get("metadata", {}),
            success_url=params["success_url"],
            cancel_url=params["cancel_url"],
        )
        session["url"] = f"{self.public_url}/pay/{session['id']}"
        self._asked[session["id"]] = params
        return session

    def pay(self, session_id: str, number: str = GOOD) -> Object:
        """The buyer presses Pay on Stripe's page. Raises Refused for a declined card; another may be tried."""
        with self.lock:
            session = self.get("checkout.session", session_id)
            if session["status"] != "open":
                raise Refused(400, "invalid_request_error", "checkout_session_not_open")
            wanted = self._asked[session_id].get("payment_intent_data", {})
            future = wanted.get("setup_future_usage")
            if session["customer"] is None and session["customer_creation"] == "always":
                session["customer"] = self._add("customer")["id"]
            if session["payment_intent"] is None:
                intent = self._add(
                    "payment_intent",
                    amount=session["amount_total"],
                    currency=session["currency"],
                    metadata=wanted.get("metadata", {}),
                    setup_future_usage=future,
                    customer=session["customer"],
                )
                session["payment_intent"] = intent["id"]
            intent = self.get("payment_intent", session["payment_intent"])
            intent["customer"] = session["customer"]
            method = self._method(number, session["customer"] if future else None)
            self._confirm(intent, method, on_session=True)
            session.update(status="complete", payment_status="paid", url=None)
            self.emit("checkout.session.completed", session)
            return session

    def expire(self, session_id: str) -> Object:
        with self.lock:
            session = self.get("checkout.session", session_id)
            session.update(status="expired", url=None)
            self.emit("checkout.session.expired", session)
            return session

    def charge_off_session(self, params: Object) -> Object:
        method = self.get("payment_method", params["payment_method"])
        if params.get("confirm") != "true" or method["customer"] != params["customer"]:
            raise Refused(400, "invalid_request_error", "payment_method_unexpected_state")
        intent = self._add(
            "payment_intent",
            amount=int(params["amount"]),
            currency=params["currency"],
            customer=params["customer"],
            description=params.get("description"),
            metadata=params.get("metadata", {}),
        )
        self._confirm(intent, method, on_session=False)
        return intent

    def _confirm(self, intent: Object, method: Object, *, on_session: bool) -> None:
        number = self.numbers[method["id"]]
        code = None
        if number == DECLINED or (number == DECLINED_LATER and not on_session):
            code = "card_declined"
        elif number == NEEDS_OWNER and not on_session:
            code = "authentication_required"
        if code is not None:
            intent["last_payment_error"] = {"type": "card_error", "code": code}
            self.emit("payment_intent.payment_failed", intent)
            raise Refused(402, "card_error", code, payment_intent=dict(intent))
        charge = self._add(
            "charge",
            amount=intent["amount"],
            amount_captured=intent["amount"],
            captured=True,
            currency=intent["currency"],
            customer=intent["customer"],
            payment_intent=intent["id"],
            payment_method=method["id"],
            description=intent["description"],
            metadata=intent["metadata"],
        )
        intent.update(
            status="succeeded",
            amount_received=intent["amount"],
            latest_charge=charge["id"],
            payment_method=method["id"],
            last_payment_error=None,
        )
        self.moved.append(("charge", intent["amount"]))
        self.emit("payment_intent.succeeded", intent)
        if number == DISPUTED:
            self.dispute(intent["id"])
        if number == FLAGGED:
            self.warn(intent["id"])

    def _method(self, number: str, customer: str | None) -> Object:
        method = self._add("payment_method", customer=customer, metadata={})
        self.numbers[method["id"]] = number
        return method

    # --- taking back -----------------------------------------------------------------------------

    def dispute(self, intent_id: str) -> Object:
        """The card's owner goes to their bank."""
        with self.lock:
            intent = self.get("payment_intent", intent_id)
            charge = self.get("charge", intent["latest_charge"])
            charge["disputed"] = True
            dispute = self._add(
                "dispute",
                amount=charge["amount"],
                currency=charge["currency"],
                charge=charge["id"],
                payment_intent=intent_id,
                status="needs_response",
                reason="fraudulent",
                is_charge_refundable=False,
            )
            dispute["evidence_details"]["due_by"] = int(self.clock()) + 7 * 86_400
            self.moved.append(("dispute", -charge["amount"]))
            self.emit("charge.dispute.created", dispute)
            return dispute

    def close_dispute(self, dispute_id: str, *, won: bool) -> Object:
        with self.lock:
            dispute = self.get("dispute", dispute_id)
            dispute["status"] = "won" if won else "lost"
            if won:
                self.moved.append(("dispute_won", dispute["amount"]))
            self.emit("charge.dispute.closed", dispute)
            return dispute

    def warn(self, intent_id: str) -> Object:
        with self.lock:
            intent = self.get("payment_intent", intent_id)
            warning = self._add(
                "radar.early_fraud_warning", charge=intent["latest_charge"], payment_intent=intent_id
            )
            self.emit("radar.early_fraud_warning.created", warning)
            return warning

    def refund(self, params: Object) -> Object:
        intent = self.get("payment_intent", params["payment_intent"])
        if intent["status"] != "succeeded":
            raise Refused(400, "invalid_request_error", "payment_intent_unexpected_state")
        charge = self.get("charge", intent["latest_charge"])
        amount = int(params.get("amount", charge["amount"]))
        if charge["disputed"]:
            raise Refused(400, "invalid_request_error", "charge_disputed")
        if charge["amount_refunded"] == charge["amount"]:
            raise Refused(400, "invalid_request_error", "charge_already_refunded")
        if amount > charge["amount"] - charge["amount_refunded"]:
            raise Refused(400, "invalid_request_error", param="amount")
        fails = self.numbers[intent["payment_method"]] == REFUND_FAILS
        refund = self._add(
            "refund",
            amount=amount,
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=intent["id"],
            reason=params.get("reason"),
            metadata=params.get("metadata", {}),
            status="pending" if fails else "succeeded",
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.moved.append(("refund", -amount))
        self.emit("charge.refunded", charge)
        self.emit("refund.created", refund)
        return refund

    def fail_refund(self, refund_id: str) -> Object:
        """The bank sends a refund back, as it may after days."""
        with self.lock:
            refund = self.get("refund", refund_id)
            refund.update(status="failed", failure_reason="expired_or_canceled_card")
            charge = self.get("charge", refund["charge"])
            charge.update(amount_refunded=charge["amount_refunded"] - refund["amount"], refunded=False)
            self.moved.append(("refund_failed", refund["amount"]))
            self.emit("refund.failed", refund)
            return refund

    # --- paying out ------------------------------------------------------------------------------

    def account(self, params: Object) -> Object:
        account = self._add("account", email=None, metadata=params.get("metadata", {}))
        account["capabilities"]["transfers"] = "inactive"
        return account

    def finish_onboarding(self, account_id: str) -> Object:
        """The creator has filled in Stripe's form."""
        with self.lock:
            account = self.get("account", account_id)
            account.update(payouts_enabled=True, details_submitted=True)
            account["capabilities"]["transfers"] = "active"
            account["requirements"].update(currently_due=[], eventually_due=[], disabled_reason=None)
            self.emit("account.updated", account, account=account_id)
            return account

    def transfer(self, params: Object) -> Object:
        account = self.get("account", params["destination"])
        if account["capabilities"]["transfers"] != "active":
            raise Refused(400, "invalid_request_error", "insufficient_capabilities_for_transfer")
        amount = int(params["amount"])
        self.moved.append(("transfer", -amount))
        return self._add(
            "transfer",
            amount=amount,
            currency=params["currency"],
            destination=account["id"],
            transfer_group=params.get("transfer_group"),
        )

    def reverse_transfer(self, transfer_id: str, params: Object) -> Object:
        transfer = self.get("transfer", transfer_id)
        if transfer["reversed"]:
            raise Refused(400, "invalid_request_error", "transfer_already_reversed")
        transfer.update(reversed=True, amount_reversed=transfer["amount"])
        self.moved.append(("transfer_reversal", transfer["amount"]))
        return self._add(
            "transfer_reversal", amount=transfer["amount"], currency=transfer["currency"], transfer=transfer_id
        )

    def payout(self, params: Object, account_id: str) -> Object:
        account = self.get("account", account_id)
        if account["metadata"].get("refuse_payouts"):
            raise Refused(400, "invalid_request_error", "payouts_not_allowed")
        payout = self._add(
            "payout",
            amount=int(params["amount"]),
            currency=params["currency"],
            metadata=params.get("metadata", {}),
            status="pending",
        )
        self.owners[payout["id"]] = account_id
        return payout

    def finish_payout(self, payout_id: str, *, failure: str | None = None) -> Object:
        with self.lock:
            payout = self.get("payout", payout_id)
            payout.update(status="failed" if failure else "paid", failure_code=failure)
            self.emit(f"payout.{payout['status']}", payout, account=self.owners[payout_id])
            return payout

    # --- underneath ------------------------------------------------------------------------------

    def emit(self, type_: str, about: Object, account: str | None = None) -> Object:
        more = {} if account is None else {"account": account}
        event = self._add("event", type=type_, data={"object": dict(about)}, **more)
        self.on_event(event)
        return event

    def _add(self, kind: str, **values: Any) -> Object:
        made = make(kind, created=int(self.clock()), **values)
        self.kinds.setdefault(kind, {})[made["id"]] = made
        return made
