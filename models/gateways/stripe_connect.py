"""Payouts over Stripe Connect: a creator's account, its form, and money on its way to the creator's bank."""

from __future__ import annotations

import stripe as sdk

from models.errors import Invalid, NotFound
from models.gateways.base import Onboarding, PayoutAccount, PayoutResult, PayoutStatus
from models.gateways.stripe_wire import asking, meta, pages, reason_of


class StripeConnect:
    """The half of StripeGateway that pays creators."""

    _client: sdk.StripeClient

    def onboard(
        self, creator_id: str, *, account_ref: str | None, return_url: str, account: str | None = None
    ) -> Onboarding:
        """See PaymentGateway. Stripe's Express form; payouts of the account happen when we say so."""
        with asking():
            if account_ref is None:
                account_ref = self._client.v1.accounts.create(
                    {
                        "controller": {
                            "fees": {"payer": "application"},
                            "losses": {"payments": "application"},
                            "stripe_dashboard": {"type": "express"},
                        },
                        "capabilities": {"transfers": {"requested": True}},
                        "settings": {"payouts": {"schedule": {"interval": "manual"}}},
                        "metadata": {"creator_id": creator_id},
                    },
                    {"idempotency_key": f"{creator_id}:account"},
                ).id
            link = self._client.v1.account_links.create(
                {
                    "account": account_ref,
                    "type": "account_onboarding",
                    "return_url": return_url,
                    "refresh_url": return_url,
                }
            )
        return Onboarding(account_ref=account_ref, url=link.url)

    def account_status(self, account_ref: str) -> PayoutAccount:
        """See PaymentGateway."""
        with asking():
            account = self._client.v1.accounts.retrieve(account_ref)
        transfers = account.capabilities.transfers if account.capabilities else None
        due = (account.requirements.currently_due if account.requirements else None) or []
        ready = bool(account.payouts_enabled) and transfers == "active"
        return PayoutAccount(
            reference=account.id, ready=ready, detail="" if ready else ", ".join(due[:3]) or "under_review"
        )

    def payout(self, account_ref: str, amount_minor: int, currency: str, key: str) -> PayoutResult:
        """See PaymentGateway. First to the account's balance at Stripe, then on to its bank; never half of it."""
        try:
            with asking():
                transfer = self._transfer_of(key)
                if transfer is None:
                    transfer = self._client.v1.transfers.create(
                        {
                            "amount": amount_minor,
                            "currency": currency.lower(),
                            "destination": account_ref,
                            "transfer_group": key,
                        },
                        {"idempotency_key": f"{key}:transfer"},
                    )
        except (Invalid, NotFound) as error:
            return PayoutResult(reference=f"{account_ref}/{key}", status="failed", detail=reason_of(error))
        if transfer.reversed:
            return PayoutResult(reference=f"{account_ref}/{transfer.id}", status="failed", detail="taken_back")
        try:
            with asking():
                earlier = self._client.v1.payouts.list({"limit": 100}, {"stripe_account": account_ref})
                payout = next((one for one in pages(earlier) if meta(one, "payout_id") == key), None)
                if payout is None:
                    payout = self._client.v1.payouts.create(
                        {
                            "amount": amount_minor,
                            "currency": currency.lower(),
                            "metadata": {"payout_id": key, "transfer": transfer.id},
                        },
                        {"idempotency_key": f"{key}:payout", "stripe_account": account_ref},
                    )
        except (Invalid, NotFound) as error:
            self._take_back(transfer.id)
            return PayoutResult(
                reference=f"{account_ref}/{transfer.id}",
                status="failed",
                detail=reason_of(error),
            )
        return self._of_payout(account_ref, payout)

    def payout_status(self, reference: str) -> PayoutResult:
        """See PaymentGateway. ``reference`` is account and payout: ``acct_…/po_…``."""
        account_ref, _, payout_id = reference.partition("/")
        with asking():
            if not payout_id.startswith("po_"):
                # It never got as far as a payout, and the transfer was taken back.
                return PayoutResult(reference=reference, status="failed", detail="refused")
            payout = self._client.v1.payouts.retrieve(payout_id, {}, {"stripe_account": account_ref})
        return self._of_payout(account_ref, payout)

    def _transfer_of(self, key: str) -> sdk.Transfer | None:
        return next(iter(self._client.v1.transfers.list({"transfer_group": key, "limit": 1}).data), None)

    def _of_payout(self, account_ref: str, payout: sdk.Payout) -> PayoutResult:
        status: PayoutStatus = "pending"
        if payout.status == "paid":
            status = "paid"
        elif payout.status in ("failed", "canceled"):
            status = "failed"
            if (transfer_id := meta(payout, "transfer")) is not None:
                self._take_back(transfer_id)
        return PayoutResult(
            reference=f"{account_ref}/{payout.id}",
            status=status,
            detail=(payout.failure_code or payout.status) if status == "failed" else "",
        )

    def _take_back(self, transfer_id: str) -> None:
        """What the bank would not take lies in the account's balance at Stripe: back to ours."""
        with asking():
            transfers = self._client.v1.transfers
            if not transfers.retrieve(transfer_id).reversed:
                transfers.reversals.create(transfer_id, {}, {"idempotency_key": f"{transfer_id}:reversal"})
