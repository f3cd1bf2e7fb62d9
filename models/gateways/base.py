"""What the house asks of a payment provider. A gateway knows payments, never tokens or sessions.

Calls go over a network: never make one inside a database transaction.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

PaymentStatus = Literal["succeeded", "failed", "disputed"]


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as the provider sees it now. ``reference`` is the provider's own id of it."""

    reference: str
    status: PaymentStatus

    @property
    def good(self) -> bool:
        """Whether what was bought with it may be spent."""
        return self.status == "succeeded"


class PaymentGateway(Protocol):
    """A provider of payments.

    A provider has three more things that nothing here uses yet: refunding a payment, verifying a webhook's
    signature over its raw body, and paying out to a creator. They join this protocol with their first user.
    """

    @property
    def name(self) -> str:
        """Names the ledger account ``gateway:<name>``."""

    def checkout(self, purchase_id: str, *, amount_minor: int, currency: str, card: str) -> Payment:
        """Charge ``amount_minor`` (cents) to ``card``. Asking again for a purchase gives the first answer.

        Raises Invalid for a card that the provider does not know, Unavailable when it cannot be reached:
        then nobody knows whether money moved, and asking again is the way to find out.
        """

    def status(self, reference: str) -> Payment:
        """The truth about a payment now. Raises Unavailable, which says nothing about the payment, and
        NotFound for a reference that was never given out."""
