"""Renewing subscriptions that are paid with a saved card: the card first, outside any transaction."""

from __future__ import annotations

from datetime import datetime

from models import log
from models.db import Database
from models.errors import Forbidden, PaymentRequired, Unavailable
from models.gateways.base import PaymentGateway
from models.services import payments, renewals


def renew_subscription(
    db: Database, gateway: PaymentGateway, subscription_id: str, period: int, now: datetime
) -> bool:
    """Charge the card for that period, once, then pay and begin it; whether it began.

    Repeated, it goes on where it was. A declined card, or a fan who may not spend now, leaves it to the clock's
    next try. Raises Unavailable
    when nobody knows yet whether the card was charged: the same message is tried again.
    """
    cause_id = subscription_id
    try:
        with db.reading() as tx:
            charge = renewals.charge_due(tx, subscription_id, period, now)
        if charge is None:
            return False
        cause_id = charge.cause_id
        purchase = payments.charge_saved(
            db,
            gateway,
            user_id=charge.user_id,
            tokens=charge.tokens,
            key=charge.key,
            cause_id=charge.cause_id,
            now=now,
            currency=charge.currency,
        )
    except (PaymentRequired, Forbidden) as error:
        log.event("renewal_refused", subscription_id=subscription_id, code=error.code, cause_id=cause_id)
        db.run(lambda tx: renewals.tell_unpaid(tx, subscription_id, now))
        return False
    if purchase.status != "succeeded":
        raise Unavailable("The gateway has not decided yet.")
    return db.run(lambda tx: renewals.renew(tx, subscription_id, period, now))
