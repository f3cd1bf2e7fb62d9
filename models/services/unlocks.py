"""What happens to the price of an instant unlock that does not come to be: it is free again at once.

Nobody pays for being accepted at once who was not. The request goes on as an ordinary one.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models import ledger, log
from models.requests import OPEN, RequestRow
from models.services.announcements import balance_changed, tell


def drop(tx: Session, request: RequestRow, now: datetime) -> None:
    """Release the unlock price of an open request that the caller has locked; harmless without one."""
    price = request.unlock_price
    if price == 0 or request.status not in OPEN:
        return
    ledger.release(
        tx, request.id, key=f"unlock:{request.id}", cause_id=request.cause_id, now=now, amount=price
    )
    request.unlock_price = 0
    request.total_cost -= price
    tx.flush()
    balance_changed(tx, request.fan_id, now)
    tell(tx, request.fan_id, "PRIVATE_UNLOCK_RETURNED", now, requestId=request.id, tokens=price)
    log.event("unlock_returned", request_id=request.id, cause_id=request.cause_id)
