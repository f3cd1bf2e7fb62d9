"""Where real money comes from: one protocol, one module a payment provider.

Both the web app (checkout) and the workers (polling) ask a gateway, always outside a transaction.
"""

from __future__ import annotations

from models.config import Settings
from models.db import Database
from models.gateways.base import PaymentGateway
from models.gateways.sandbox import SandboxGateway


def gateway_for(settings: Settings, db: Database, *, at_once: int = 16) -> PaymentGateway:
    """The gateway that the settings name; ``load_settings`` has refused every other name.

    ``at_once``: how many threads of this process may wait for it; what is more is Unavailable at once.
    """
    if settings.gateway == "stripe":
        # Here, because the SDK is large and most installations of tests and demos never need it.
        from models.gateways.stripe import StripeGateway

        return StripeGateway(
            settings.stripe_secret_key, settings.stripe_webhook_secrets, settings.stripe_api_base, at_once=at_once
        )
    return SandboxGateway(db, settings.minute_ms, webhook_key=settings.key("sandbox-webhooks"))
