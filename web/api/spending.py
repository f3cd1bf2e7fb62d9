"""The caller's own daily limit on spending."""

from __future__ import annotations

from typing import Annotated

import msgspec
from sqlalchemy.orm import Session

from models.services import spending
from models.services.spending import SpendingCap
from web.api.schema import FAN, Api, Call, Nothing

api = Api("account")


class CapBody(msgspec.Struct, frozen=True, rename="camel"):
    """Tokens a UTC day; null: no limit. It must be said, so that no limit is lifted by leaving it out."""

    daily_cap_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] | None


@api.read("/api/account/spending-cap", access=FAN, answer=SpendingCap)
def spending_cap(tx: Session, call: Call[Nothing]) -> SpendingCap:
    """The caller's daily limit, and what was spent of it today."""
    return spending.cap_of(tx, call.person.user_id, call.now)


@api.write("PUT", "/api/account/spending-cap", access=FAN, body=CapBody, answer=SpendingCap)
def put_spending_cap(tx: Session, call: Call[CapBody]) -> SpendingCap:
    """Choose a daily limit. A lower one holds at once; a higher one, or none, from the next day (UTC)."""
    return spending.set_cap(tx, call.person.user_id, call.body.daily_cap_tokens, call.now)
