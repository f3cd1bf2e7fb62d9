"""A creator blocks a fan: what the fan had asked for ends with it, and what a pass is no more use for comes back.

Bookings and the next month of a subscription are the clock's; a call that runs is not touched.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models.services import accounts, pass_refunds, queueing
from models.services.announcements import tell
from models.services.closing import close_request, open_requests
from models.services.locks import lock_people


def block(tx: Session, creator_id: str, fan_id: str, now: datetime) -> None:
    """Take no more from this fan; open requests are declined, and everything held for them comes back, as does
    the rest of a pass.

    Again is no harm. Raises Invalid for oneself.
    """
    lock_people(tx, creator_id, fan_id)
    accounts.block(tx, creator_id, fan_id, now)
    closed = open_requests(tx, fan_id=fan_id, creator_id=creator_id)
    for request in closed:
        close_request(tx, request, "declined", now)
        # It may have been done on another page than the one that shows the request.
        tell(tx, creator_id, "PRIVATE_REQUEST_CANCELLED", now, requestId=request.id)
    if closed:
        queueing.tell_positions(tx, creator_id, now)
    # Accounts come last: until here each request's own locks were taken.
    pass_refunds.revoke(tx, fan_id, creator_id, now)
