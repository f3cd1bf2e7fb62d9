"""A creator's earnings: what is pending, cleared and payable, payouts, the account they go to, the statement."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from flask import Response
from sqlalchemy.orm import Session

from models.db import Database
from models.errors import Invalid
from models.services import earnings, payouts
from models.services.analytics import LONGEST_DAYS, Analytics, analytics
from models.services.earnings import EarningsView, PayoutView, StatementRow, terms_of
from models.services.payouts import Onboarded
from web import limits
from web.api.schema import CREATOR, Api, Call, Nothing, Query, written_out

api = Api("earnings")
COLUMNS = ("Time (UTC)", "Movement", "Pending", "Cleared", "Owed back", "Reference", "Transfer")
WORDS = {
    "settle": "Private stream",
    "tip": "Tip",
    "subscription": "Subscription",
    "pass": "Pass",
    "share": "Battle",
    "recording": "Recording",
    "reverse": "Refund given",
    "payment_reversal": "Payment taken back",
    "payment_good": "Payment good again",
    "clear": "Cleared",
    "payout": "Payout",
    "payout_return": "Payout came back",
    "write_off": "Written off",
}


class PayoutBody(msgspec.Struct, frozen=True):
    """How many cleared tokens to pay out."""

    tokens: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class AccountBody(msgspec.Struct, frozen=True):
    """``account`` chooses one of the sandbox's; other providers ask for it on their own page."""

    account: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


class AccountState(msgspec.Struct, frozen=True):
    """``none``, ``unfinished`` or ``ready``."""

    account: str


@api.read("/api/earnings", access=CREATOR, answer=EarningsView)
def earnings_of_caller(tx: Session, call: Call[Nothing]) -> EarningsView:
    """The creator's earnings: pending and when they clear, cleared, kept back, payable, payouts."""
    terms = terms_of(call.house.settings)
    return earnings.earnings(tx, call.person.user_id, terms, call.house.gateway.name, call.now)


@api.read("/api/earnings/analytics", access=CREATOR, answer=Analytics,
          query=(Query("days", "The last how many days; 30 when left out.", 1, LONGEST_DAYS),))  # fmt: skip
def private_stream_analytics(tx: Session, call: Call[Nothing]) -> Analytics:
    """How the creator's private streams went: asked, accepted, delivered, earned."""
    return analytics(tx, call.person.user_id, call.query.get("days", 30), call.now)


@api.write("POST", "/api/earnings/payouts", access=CREATOR, body=PayoutBody, answer=PayoutView, status=201,
           idempotency="required", limits=(limits.PAYOUT,),
           errors=("PAYOUTS_FROZEN", "DEBT_FIRST", "PAYOUT_PENDING", "BELOW_MINIMUM", "NO_PAYOUT_ACCOUNT",
                   "INSUFFICIENT_TOKENS"))  # fmt: skip
def request_payout(tx: Session, call: Call[PayoutBody]) -> PayoutView:
    """Pay cleared tokens out. They leave the balance now; the provider's answer follows as ``PAYOUT_CHANGED``."""
    return payouts.request(
        tx,
        call.person.user_id,
        tokens=call.body.tokens,
        terms=terms_of(call.house.settings),
        gateway=call.house.gateway.name,
        cause_id=call.cause_id,
        now=call.now,
    )


@api.own("POST", "/api/earnings/account", access=CREATOR, body=AccountBody, answer=Onboarded,
         limits=(limits.PAYOUT,), errors=("UNAVAILABLE",))  # fmt: skip
def payout_account(call: Call[AccountBody]) -> Onboarded:
    """Where the creator tells the payment provider which bank account is theirs; it leads back to the studio."""
    return payouts.onboard(
        call.house.database,
        call.house.gateway,
        call.person.user_id,
        return_url=f"{call.house.settings.public_url}/studio?tab=earnings",
        account=call.body.account,
        now=call.now,
    )


@api.own("POST", "/api/earnings/account/check", access=CREATOR, answer=AccountState, limits=(limits.PAYOUT,),
         errors=("UNAVAILABLE",))  # fmt: skip
def check_payout_account(call: Call[Nothing]) -> AccountState:
    """Ask the provider whether it pays out to the creator by now."""
    house = call.house
    return AccountState(payouts.refresh_account(house.database, house.gateway, call.person.user_id, call.now))


@api.own("GET", "/api/earnings/statement", access=CREATOR, answer=Nothing, media="text/csv",
         limits=(limits.DOWNLOAD,),
         query=(Query("year", "The year; with `month`. Left out: everything.", 2000, 9998),
                Query("month", "1 to 12.", 1, 12)))  # fmt: skip
def earnings_statement(call: Call[Nothing]) -> Response:
    """Every movement of the creator's earnings as CSV (RFC 4180), oldest first, in tokens."""
    year, number = call.query.get("year"), call.query.get("month")
    if (year is None) != (number is None):
        raise Invalid("A year and a month, or neither.", field="month" if number is None else "year")
    since, until = datetime(2000, 1, 1, tzinfo=UTC), call.now
    name = "greenroom-statement"
    if year is not None and number is not None:
        since, until = earnings.month(year, number)
        name = f"{name}-{year}-{number:02d}"
    lines = _csv(call.house.database, call.person.user_id, since, until)
    response = Response(written_out(lines), content_type="text/csv; charset=utf-8; header=present")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def _csv(database: Database, creator_id: str, since: datetime, until: datetime) -> Iterator[str]:
    yield csv_line(COLUMNS)
    with database.reading() as tx:
        for row in earnings.statement(tx, creator_id, since, until):
            yield csv_line(_cells(row))


def _cells(row: StatementRow) -> tuple[str | int, ...]:
    return row.at, WORDS[row.kind], row.pending, row.cleared, -row.debt, row.reference, row.transfer_id


def csv_line(cells: tuple[str | int, ...]) -> str:
    """One line of CSV (RFC 4180). A text that a spreadsheet would take for a formula is made a text."""
    safe = [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r\n" and cell else cell for cell in cells]
    line = io.StringIO()
    csv.writer(line).writerow(safe)
    return line.getvalue()
