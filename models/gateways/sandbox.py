"""The gateway without money: cards and bank accounts that behave as real ones do. For tests, demo, development.

Its memory is a few tables, in place of a provider's own servers, so that web and workers ask the same one.
Cards go by name; the test numbers that Stripe publishes stand for the same behaviour.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.db import Database, insert_into
from models.errors import Invalid, NotFound
from models.gateways.base import (
    Checkout,
    Dispute,
    DisputeStatus,
    EventKind,
    GatewayEvent,
    Onboarding,
    Order,
    Payment,
    PayoutAccount,
    PayoutResult,
    Refund,
)
from models.payments import SandboxPaymentRow, SandboxPayoutRow, SandboxRefundRow
from models.timing import MINUTE_MS

CARDS = {
    "succeeds": "4242424242424242",
    "fails": "4000000000000002",
    "fails-later": "4000000000000069",
    "disputed": "4000000000000259",
    "dispute-won": "4000000000002685",
    "dispute-lost": "4000000000001976",
    "saved-fails": "4000000000000341",
    "flagged": "4000000000005423",
    "refund-fails": "4000000000005126",
}
"""Name → number. Charged · declined at once · charged, and found failed 40 s later · disputed 40 s later ·
that dispute is won, or lost, another 40 s later · charged, but not without its owner · charged, and an early
warning of fraud 40 s later · charged, and refunds of it are refused."""

ACCOUNTS = ("pays", "pays-later", "fails", "fails-later", "unready")
"""Bank accounts: paid at once or 40 s later · refused at once or 40 s later · its owner's data are missing."""

TURNS_BAD_MS = 40_000
WEBHOOK_TOLERANCE_SECONDS = 300
SIGNATURE_HEADER = "Sandbox-Signature"
_DISPUTED = ("disputed", "dispute-won", "dispute-lost")
_DECIDED: dict[str, DisputeStatus] = {"dispute-won": "won", "dispute-lost": "lost"}
_DISPUTE_WINDOW = timedelta(days=7)
_SIGNATURE = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


class _Event(msgspec.Struct, frozen=True):
    id: str
    kind: EventKind
    reference: str


def card_named(card: str) -> str:
    """The card's name, for a name or a number with or without spaces. Raises Invalid ``field`` card."""
    digits = re.sub(r"[ -]", "", card)
    for name, number in CARDS.items():
        if card == name or digits == number:
            return name
    raise Invalid("The sandbox has no such card.", field="card")


def sign(body: bytes, key: bytes, at: datetime) -> str:
    """The value of SIGNATURE_HEADER: HMAC-SHA-256 over time and body, in the form that Stripe uses."""
    stamp = int(at.timestamp())
    digest = hmac.new(key, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


class SandboxGateway:
    """A PaymentGateway. The 40 s shrink with the minute's length, as every timer of a session does."""

    name = "sandbox"

    def __init__(
        self,
        db: Database,
        minute_ms: int,
        now: Callable[[], datetime] = utc_now,
        *,
        webhook_key: bytes = b"",
    ) -> None:
        self._db = db
        self._later = timedelta(milliseconds=TURNS_BAD_MS * minute_ms / MINUTE_MS)
        self._now = now
        self._webhook_key = webhook_key

    def create_checkout(self, order: Order, *, return_url: str, card: str | None = None) -> Checkout:
        """See PaymentGateway. Answers at once; without a card it is the one that succeeds."""
        payment = self._charge(order, card_named(card or "succeeds"))
        return Checkout(reference=payment.reference, payment=payment)

    def recall(self, order: Order) -> Payment | None:
        """See PaymentGateway."""
        try:
            return self.status(f"sandbox_{order.purchase_id}")
        except NotFound:
            return None

    def charge_saved(self, order: Order) -> Payment:
        """See PaymentGateway. The card is that of the customer's latest payment with a saved card."""
        saved = (
            select(SandboxPaymentRow.card)
            .where(SandboxPaymentRow.customer_ref == order.customer_ref, SandboxPaymentRow.saved)
            .order_by(SandboxPaymentRow.created_at.desc(), SandboxPaymentRow.reference.desc())
            .limit(1)
        )
        with self._db.reading() as tx:
            card = tx.scalar(saved)
        if card is None:
            raise NotFound("There is no saved card.")
        return self._charge(order, "fails" if card == "saved-fails" else card, on_session=False)

    def status(self, reference: str) -> Payment:
        """See PaymentGateway."""
        with self._db.reading() as tx:
            row = tx.get(SandboxPaymentRow, reference)
            if row is None:
                raise NotFound("The sandbox knows no such payment.")
            return self._payment(row)

    def refund(self, reference: str, amount_minor: int, key: str) -> Refund:
        """See PaymentGateway. Refused: more than was paid, a disputed payment, the card ``refund-fails``."""
        now = self._now()

        def decide(tx: Session) -> Refund:
            payment = tx.get(SandboxPaymentRow, reference, with_for_update=True)
            if payment is None:
                return Refund(reference="", status="failed", detail="no_such_payment")
            row = tx.get(SandboxRefundRow, f"sandbox_{key}")
            if row is None:
                query = select(func.coalesce(func.sum(SandboxRefundRow.amount_minor), 0))
                given = (SandboxRefundRow.payment == reference, SandboxRefundRow.detail == "")
                before = tx.scalar(query.where(*given))
                detail = ""
                if int(before or 0) + amount_minor > payment.amount_minor:
                    detail = "more_than_was_paid"
                elif not self._payment(payment).good:
                    detail = "charge_disputed"
                elif payment.card == "refund-fails":
                    detail = "expired_or_canceled_card"
                row = SandboxRefundRow(
                    reference=f"sandbox_{key}",
                    payment=reference,
                    amount_minor=amount_minor,
                    detail=detail,
                    created_at=now,
                )
                tx.add(row)
                tx.flush()
            return _refund(row)

        return self._db.run(decide)

    def refund_status(self, reference: str) -> Refund:
        """See PaymentGateway."""
        with self._db.reading() as tx:
            row = tx.get(SandboxRefundRow, reference)
            if row is None:
                raise NotFound("The sandbox knows no such refund.")
            return _refund(row)

    def onboard(
        self, creator_id: str, *, account_ref: str | None, return_url: str, account: str | None = None
    ) -> Onboarding:
        """See PaymentGateway. There is no form: the creator is back at once."""
        name = account or "pays"
        if name not in ACCOUNTS:
            raise Invalid("The sandbox has no such bank account.", field="account")
        if account_ref is None or account is not None:
            account_ref = f"sandbox:{name}:{creator_id}"
        return Onboarding(account_ref=account_ref, url=return_url)

    def account_status(self, account_ref: str) -> PayoutAccount:
        """See PaymentGateway."""
        unready = _account_named(account_ref) == "unready"
        return PayoutAccount(
            reference=account_ref, ready=not unready, detail="identity_missing" if unready else ""
        )

    def payout(self, account_ref: str, amount_minor: int, currency: str, key: str) -> PayoutResult:
        """See PaymentGateway."""
        _account_named(account_ref)
        reference, now = f"sandbox_{key}", self._now()
        self._db.run(
            lambda tx: tx.execute(
                insert_into(tx, SandboxPayoutRow)
                .values(
                    reference=reference,
                    account=account_ref,
                    amount_minor=amount_minor,
                    currency=currency,
                    created_at=now,
                )
                .on_conflict_do_nothing()
            )
        )
        return self.payout_status(reference)

    def payout_status(self, reference: str) -> PayoutResult:
        """See PaymentGateway."""
        with self._db.reading() as tx:
            row = tx.get(SandboxPayoutRow, reference)
            if row is None:
                raise NotFound("The sandbox knows no such payout.")
            account, later = _account_named(row.account), self._is_later(row.created_at)
        if account in ("pays-later", "fails-later") and not later:
            return PayoutResult(reference=reference, status="pending")
        if account in ("pays", "pays-later"):
            return PayoutResult(reference=reference, status="paid")
        detail = "account_not_ready" if account == "unready" else "account_closed"
        return PayoutResult(reference=reference, status="failed", detail=detail)

    def verify_webhook(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """See PaymentGateway. The body is ``{"id", "kind", "reference"}``, signed with ``sign``."""
        match = _SIGNATURE.fullmatch(headers.get(SIGNATURE_HEADER, ""))
        now = self._now()
        if match is None or not self._webhook_key:
            raise _bad_signature()
        # Compared as a number: most moments that somebody may claim are in no calendar.
        if abs(now.timestamp() - int(match[1])) > WEBHOOK_TOLERANCE_SECONDS:
            raise _bad_signature()
        at = datetime.fromtimestamp(int(match[1]), now.tzinfo)
        if not hmac.compare_digest(sign(body, self._webhook_key, at), match[0]):
            raise _bad_signature()
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as error:
            raise Invalid("The body is no event.", code="BAD_EVENT") from error
        return GatewayEvent(event_id=event.id, kind=event.kind, type=event.kind, reference=event.reference)

    def _charge(self, order: Order, card: str, *, on_session: bool = True) -> Payment:
        reference, now = f"sandbox_{order.purchase_id}", self._now()
        customer_ref = order.customer_ref or f"sandbox_customer_{order.buyer_id}"
        self._db.run(
            lambda tx: tx.execute(
                insert_into(tx, SandboxPaymentRow)
                .values(
                    reference=reference,
                    card=card,
                    amount_minor=order.amount_minor,
                    currency=order.currency,
                    purchase_id=order.purchase_id,
                    customer_ref=customer_ref,
                    saved=on_session and order.save_card and card != "fails",
                    created_at=now,
                )
                .on_conflict_do_nothing()
            )
        )
        return self.status(reference)

    def _payment(self, row: SandboxPaymentRow) -> Payment:
        later, much_later = self._is_later(row.created_at), self._is_later(row.created_at, 2)
        dispute = None
        if row.card in _DISPUTED and later:
            decided = _DECIDED.get(row.card) if much_later else None
            dispute = Dispute(
                reference=f"{row.reference}_dispute",
                status=decided or "opened",
                reason="fraudulent",
                amount_minor=row.amount_minor,
                due_at=row.created_at + _DISPUTE_WINDOW,
            )
        failed = row.card == "fails" or (row.card == "fails-later" and later)
        bad = dispute is not None and dispute.status != "won"
        return Payment(
            reference=row.reference,
            status="failed" if failed else "disputed" if bad else "succeeded",
            purchase_id=row.purchase_id,
            customer_ref=row.customer_ref if row.saved else None,
            dispute=dispute,
            flagged=row.card == "flagged" and later,
            detail="card_declined" if failed else "",
        )

    def _is_later(self, since: datetime, times: int = 1) -> bool:
        return self._now() - since >= self._later * times


def _account_named(account_ref: str) -> str:
    parts = account_ref.split(":")
    if len(parts) != 3 or parts[0] != "sandbox" or parts[1] not in ACCOUNTS:
        raise NotFound("The sandbox knows no such bank account.")
    return parts[1]


def _refund(row: SandboxRefundRow) -> Refund:
    return Refund(reference=row.reference, status="failed" if row.detail else "succeeded", detail=row.detail)


def _bad_signature() -> Invalid:
    return Invalid("The signature does not fit the body.", code="BAD_SIGNATURE")
