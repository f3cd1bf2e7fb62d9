"""What the house asks of a payment provider. A gateway knows payments, never tokens or sessions.

Calls go over a network: never make one inside a database transaction. Amounts are in the currency's minor
unit (cents). Each call that moves money names something of ours (a purchase, a refund, a payout) and is
safe to repeat with the same name: it moves money once.

Every call may raise Unavailable: the provider did not answer, and nobody knows what it did. That says
nothing about a payment; asking again, or asking for the truth, is the way to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, Protocol

import msgspec

PaymentStatus = Literal["pending", "succeeded", "failed", "disputed"]
"""``pending``: the buyer has not paid yet · ``disputed``: a dispute is open or was lost (one won: succeeded)."""
DisputeStatus = Literal["opened", "won", "lost"]
RefundStatus = Literal["pending", "succeeded", "failed"]
PayoutStatus = Literal["pending", "paid", "failed"]
PAY_WITHIN = timedelta(hours=1)
"""A checkout that is not paid by then cannot be paid any more."""
EventKind = Literal["payment", "refund", "payout", "account", "other"]


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A buyer's bank takes a payment back; ``due_at`` is until when evidence may be handed in."""

    reference: str
    status: DisputeStatus
    reason: str
    amount_minor: int
    due_at: datetime | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as the provider sees it now. ``reference`` is the provider's own id of it.

    An early answer may carry the checkout's id, a later one the payment's: keep the latest.
    """

    reference: str
    status: PaymentStatus
    purchase_id: str | None = None
    """Ours, as the provider keeps it with the payment."""
    customer_ref: str | None = None
    """Whom ``charge_saved`` may charge; None when no card was saved."""
    dispute: Dispute | None = None
    flagged: bool = False
    """The provider has an early warning of fraud; no money has moved because of it."""
    refunded_outside_minor: int = 0
    """Given back without our asking, such as by hand on the provider's own pages; in the minor unit."""
    detail: str = ""
    """Why it failed, in the provider's word such as ``card_declined``."""

    @property
    def good(self) -> bool:
        """Whether what was bought with it may be spent."""
        return self.status == "succeeded"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be paid. ``title`` is what the buyer reads on the provider's page."""

    purchase_id: str
    buyer_id: str
    title: str
    amount_minor: int
    currency: str
    """ISO 4217, upper case."""
    created_at: datetime
    customer_ref: str | None = None
    """Known from an earlier payment of this buyer."""
    save_card: bool = False
    """The buyer agreed that the card is charged later without being asked (a subscription paid by card)."""


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """Either the buyer goes on at ``url``, or the answer is there already, in ``payment``."""

    reference: str
    url: str | None = None
    payment: Payment | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way back to a buyer. A refund that had succeeded may still fail days later."""

    reference: str
    status: RefundStatus
    detail: str = ""
    payment: str | None = None
    """Of which payment, where the provider says so."""


class PayoutResult(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way to a creator's bank. A ``failed`` one is back with us, whole."""

    reference: str
    status: PayoutStatus
    detail: str = ""


class Onboarding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a creator tells the provider who they are and which bank account is theirs."""

    account_ref: str
    url: str


class PayoutAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A creator's account at the provider. ``detail`` says in a word what is missing when it is not ready."""

    reference: str
    ready: bool
    detail: str = ""


class GatewayEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook whose signature holds: a hint to ask for the truth, never the truth itself.

    ``reference`` is what to ask about (a payment's, refund's, payout's or account's); empty for ``other``.
    """

    event_id: str
    kind: EventKind
    type: str
    """The provider's own word, such as ``charge.dispute.created``."""
    reference: str


class PaymentGateway(Protocol):
    """A provider of payments."""

    @property
    def name(self) -> str:
        """Names the ledger account ``gateway:<name>`` and the webhook's address."""

    def create_checkout(self, order: Order, *, return_url: str, card: str | None = None) -> Checkout:
        """Begin a payment. Again for the same purchase gives the first answer.

        ``return_url`` is where the buyer's browser comes back to; ``card`` chooses one of a sandbox's.
        Raises Invalid (``field``) for a card that the provider does not know.
        """

    def recall(self, order: Order) -> Payment | None:
        """What became of an order whose answer was lost; None when the provider never had it."""

    def status(self, reference: str) -> Payment:
        """The truth about a payment now. Raises NotFound for a reference that was never given out."""

    def charge_saved(self, order: Order) -> Payment:
        """Charge the saved card of ``order.customer_ref`` without the buyer. Again gives the first answer.

        A refused card is an answer (``failed`` with ``detail``). Raises NotFound when there is no saved card.
        """

    def refund(self, reference: str, amount_minor: int, key: str) -> Refund:
        """Give back ``amount_minor`` of a payment; ``key`` is our refund's id. A refusal is ``failed``."""

    def refund_status(self, reference: str) -> Refund:
        """The truth about a refund now. Raises NotFound."""

    def onboard(
        self, creator_id: str, *, account_ref: str | None, return_url: str, account: str | None = None
    ) -> Onboarding:
        """Send a creator to the provider's form; ``account_ref`` goes on with an account made before.

        ``account`` chooses one of a sandbox's. Again for the same creator does not make a second account.
        """

    def account_status(self, account_ref: str) -> PayoutAccount:
        """Whether payouts may be sent there. Raises NotFound."""

    def payout(self, account_ref: str, amount_minor: int, currency: str, key: str) -> PayoutResult:
        """Send money to a creator's bank; ``key`` is our payout's id. A refusal is ``failed``."""

    def payout_status(self, reference: str) -> PayoutResult:
        """The truth about a payout now. Raises NotFound."""

    def verify_webhook(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """The event in a raw body. Raises Invalid BAD_SIGNATURE, also for one that is too old.

        Asks nobody. ``headers`` have their usual names, such as ``Stripe-Signature``.
        """
