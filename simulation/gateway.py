"""A payment provider with a truth of its own, a bad line, and cards that turn out badly.

It remembers every charge, refund and payout, so that at the end our books can be held against its. Its
answers get lost, sometimes after it has charged.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from models.errors import Invalid, NotFound, Unavailable
from models.gateways.base import (
    Checkout,
    Dispute,
    DisputeStatus,
    GatewayEvent,
    Onboarding,
    Order,
    Payment,
    PaymentStatus,
    PayoutAccount,
    PayoutResult,
    Refund,
)
from simulation.clock import Timeline

Card = Literal["succeeds", "fails", "fails-later", "disputed", "dispute-won", "page", "refund-fails"]
CARDS: tuple[Card, ...] = ("succeeds", "fails", "fails-later", "disputed", "dispute-won", "page", "refund-fails")
WEIGHTS = (69, 5, 3, 3, 3, 12, 5)
SIGNATURE = "Simulated-Signature"
_SECRET = b"what only the provider and the house know"
DAY_MS = 86_400_000

Hook = Callable[[bytes, dict[str, str]], None]


class Charge(msgspec.Struct):
    """A payment, as the provider knows it."""

    reference: str
    purchase_id: str
    buyer_id: str
    amount_minor: int
    card: str
    saved: bool
    status: PaymentStatus
    ever_charged: bool = False
    dispute: DisputeStatus | None = None
    refunds: dict[str, int] = {}
    asked: int = 0


class _Payout(msgspec.Struct):
    amount_minor: int
    result: PayoutResult


class _Event(msgspec.Struct):
    id: str
    kind: Literal["payment", "refund", "payout"]
    reference: str


class SimulatedGateway:
    """A PaymentGateway."""

    name = "sandbox"

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.up = True
        self.loses = 0.03
        """How often an answer is lost."""
        self.charges: dict[str, Charge] = {}
        self.payouts: dict[str, _Payout] = {}
        self.refunds: dict[str, Refund] = {}
        self.hook: Hook = lambda body, headers: None
        self._events = 0

    # --- what the house asks ------------------------------------------------------------------------

    def create_checkout(self, order: Order, *, return_url: str, card: str | None = None) -> Checkout:
        """See PaymentGateway. The card ``page`` is paid later, on a page of the provider's."""
        self._line()
        charge = self._charge(order, card or "succeeds")
        self._line(after=True)
        if charge.status == "pending":
            return Checkout(reference=charge.reference, url="https://pay.test/")
        return Checkout(reference=charge.reference, payment=self._payment(charge))

    def recall(self, order: Order) -> Payment | None:
        """See PaymentGateway."""
        self._line()
        charge = self.charges.get(order.purchase_id)
        return None if charge is None else self._payment(charge)

    def status(self, reference: str) -> Payment:
        """See PaymentGateway."""
        self._line()
        charge = self.charges.get(reference.removeprefix("pay_"))
        if charge is None:
            raise NotFound("No such payment.")
        charge.asked += 1
        return self._payment(charge)

    def charge_saved(self, order: Order) -> Payment:
        """See PaymentGateway."""
        self._line()
        mine = (charge for charge in self.charges.values() if charge.buyer_id == order.buyer_id)
        cards = [charge.card for charge in mine if charge.saved]
        if not cards:
            raise NotFound("No saved card.")
        charge = self._charge(order, "fails" if cards[-1] == "fails-later" else "succeeds")
        self._line(after=True)
        return self._payment(charge)

    def refund(self, reference: str, amount_minor: int, key: str) -> Refund:
        """See PaymentGateway."""
        self._line()
        known = self.refunds.get(key)
        if known is None:
            charge = self.charges[reference.removeprefix("pay_")]
            detail = ""
            if sum(charge.refunds.values()) + amount_minor > charge.amount_minor:
                detail = "more_than_was_paid"
            elif charge.status != "succeeded":
                detail = "charge_disputed"
            elif charge.card == "refund-fails":
                detail = "expired_card"
            else:
                charge.refunds[key] = amount_minor
            known = Refund(reference=f"ref_{key}", status="failed" if detail else "succeeded", detail=detail)
            self.refunds[key] = known
            self._tell("refund", known.reference)
        self._line(after=True)
        return known

    def refund_status(self, reference: str) -> Refund:
        """See PaymentGateway."""
        self._line()
        return self.refunds[reference.removeprefix("ref_")]

    def onboard(
        self, creator_id: str, *, account_ref: str | None, return_url: str, account: str | None = None
    ) -> Onboarding:
        """See PaymentGateway."""
        return Onboarding(account_ref=account_ref or f"acct_{creator_id}", url=return_url)

    def account_status(self, account_ref: str) -> PayoutAccount:
        """See PaymentGateway."""
        self._line()
        return PayoutAccount(reference=account_ref, ready=True)

    def payout(self, account_ref: str, amount_minor: int, currency: str, key: str) -> PayoutResult:
        """See PaymentGateway."""
        self._line()
        known = self.payouts.get(key)
        if known is None:
            dice = self._timeline.random.random()
            status: Literal["pending", "paid", "failed"] = (
                "paid" if dice < 0.6 else "pending" if dice < 0.85 else "failed"
            )
            detail = "closed" if status == "failed" else ""
            result = PayoutResult(reference=f"out_{key}", status=status, detail=detail)
            known = self.payouts[key] = _Payout(amount_minor, result)
            if status == "pending":
                self._timeline.after(self._timeline.random.randrange(DAY_MS), lambda: self._decide_payout(key))
        self._line(after=True)
        return known.result

    def payout_status(self, reference: str) -> PayoutResult:
        """See PaymentGateway."""
        self._line()
        return self.payouts[reference.removeprefix("out_")].result

    def verify_webhook(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """See PaymentGateway."""
        if not hmac.compare_digest(sign(body), headers.get(SIGNATURE, "")):
            raise Invalid("The signature does not fit the body.", code="BAD_SIGNATURE")
        event = msgspec.json.decode(body, type=_Event)
        return GatewayEvent(event_id=event.id, kind=event.kind, type=event.kind, reference=event.reference)

    # --- what only the provider knows ---------------------------------------------------------------

    def was_charged(self, purchase_id: str) -> bool:
        """Whether the buyer's money was ever here."""
        charge = self.charges.get(purchase_id)
        return charge is not None and charge.ever_charged

    def _charge(self, order: Order, card: str) -> Charge:
        charge = self.charges.get(order.purchase_id)
        if charge is not None:
            return charge
        charge = Charge(
            reference=f"pay_{order.purchase_id}",
            purchase_id=order.purchase_id,
            buyer_id=order.buyer_id,
            amount_minor=order.amount_minor,
            card=card,
            saved=order.save_card,
            status="failed" if card == "fails" else "pending" if card == "page" else "succeeded",
            refunds={},
        )
        charge.ever_charged = charge.status == "succeeded"
        self.charges[order.purchase_id] = charge
        later = self._later(charge)
        if later is not None:
            self._timeline.after(*later)
        if charge.status != "pending":
            self._tell("payment", charge.reference)
        return charge

    def _later(self, charge: Charge) -> tuple[int, Callable[[], None]] | None:
        random = self._timeline.random
        soon_or_late = random.choice((random.randrange(20_000, 300_000), random.randrange(20_000, 12 * DAY_MS)))
        match charge.card:
            case "fails-later":
                return random.randrange(30_000, 400_000), lambda: self._turn(charge, "failed")
            case "disputed":
                return soon_or_late, lambda: self._turn(charge, "disputed", "opened")
            case "dispute-won":
                return soon_or_late, lambda: self._dispute_and_win(charge)
            case "page":
                return random.randrange(3_000, 600_000), lambda: self._paid_on_page(charge)
        return None

    def _paid_on_page(self, charge: Charge) -> None:
        charge.ever_charged = self._timeline.chance(0.8)
        self._turn(charge, "succeeded" if charge.ever_charged else "failed")

    def _dispute_and_win(self, charge: Charge) -> None:
        if charge.refunds:
            return
        self._turn(charge, "disputed", "opened")
        wait = self._timeline.random.randrange(60_000, 5 * DAY_MS)
        self._timeline.after(wait, lambda: self._turn(charge, "succeeded", "won"))

    def _turn(self, charge: Charge, status: PaymentStatus, dispute: DisputeStatus | None = None) -> None:
        if status == "disputed" and charge.refunds:
            return
        charge.status, charge.dispute = status, dispute or charge.dispute
        self._tell("payment", charge.reference)

    def _payment(self, charge: Charge) -> Payment:
        dispute = None
        if charge.dispute is not None:
            dispute = Dispute(
                reference=f"dp_{charge.purchase_id}",
                status=charge.dispute,
                reason="fraudulent",
                amount_minor=charge.amount_minor,
            )
        return Payment(
            reference=charge.reference,
            status=charge.status,
            purchase_id=charge.purchase_id,
            customer_ref=f"cus_{charge.buyer_id}" if charge.saved else None,
            dispute=dispute,
        )

    def _decide_payout(self, key: str) -> None:
        known = self.payouts[key]
        status: Literal["paid", "failed"] = "paid" if self._timeline.chance(0.7) else "failed"
        known.result = msgspec.structs.replace(known.result, status=status)
        self._tell("payout", known.result.reference)

    def _line(self, *, after: bool = False) -> None:
        if not self.up or self._timeline.chance(self.loses):
            raise Unavailable("The provider did not answer." if not after else "The answer was lost.")

    def _tell(self, kind: Literal["payment", "refund", "payout"], reference: str) -> None:
        """A webhook: once, twice, late, never; and now and then somebody else's."""
        self._events += 1
        body = msgspec.json.encode(_Event(f"evt_{self._events}", kind, reference))
        random = self._timeline.random
        for _ in range(random.choices((0, 1, 2), (10, 70, 20))[0]):
            delay = random.choice((random.randrange(50, 2_000), random.randrange(2_000, 200_000)))
            self._timeline.after(delay, lambda: self.hook(body, {SIGNATURE: sign(body)}))
        if self._timeline.chance(0.05):
            forged = msgspec.json.encode(_Event(f"forged_{self._events}", kind, reference))
            self._timeline.after(random.randrange(5_000), lambda: self.hook(forged, {SIGNATURE: "0" * 64}))


def sign(body: bytes) -> str:
    """The provider's signature over a raw body."""
    return hmac.new(_SECRET, body, hashlib.sha256).hexdigest()
