"""What a creator has earned: pending and when it clears, cleared, kept back, and what may be paid out now.

Reads; the clock's ``clear_due`` and the payouts' services move. The arithmetic of what is payable is a pure
function, shown to the creator term by term.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import ledger
from models.books import AccountRow, EntryRow, HoldRow, TransferRow
from models.clock import rfc3339
from models.config import Settings
from models.db import utc_day
from models.earnings import PayoutAccountRow, PayoutRow
from models.people import PersonRow

RESERVE_DAYS = 90
CLEAR_AT_ONCE = 500
PAGE = 500


class PayoutTerms(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The house's rules of payouts; ``minorPerToken`` in the currency's minor units (cents)."""

    clearing_days: int
    reserve_percent: int
    minimum_tokens: int
    minor_per_token: int
    currency: str


class Payable(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What may be paid out now: ``tokens = max(0, cleared − reserve)``, and nothing while something is owed."""

    cleared: int
    cleared_recently: int
    """In the last 90 days, all of it: what the reserve is a part of."""
    reserve: int
    debt: int
    tokens: int
    amount_minor: int


class Clearing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Pending tokens that clear on a day (UTC)."""

    day: date
    tokens: int


class PayoutView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One payout as its creator sees it."""

    payout_id: str
    status: str
    tokens: int
    amount_minor: int
    currency: str
    requested_at: datetime
    finished_at: datetime | None
    detail: str


class EarningsView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about a creator's earnings; tokens unless named otherwise."""

    pending: int
    contested: int
    """Of the pending: a complaint is open, so it waits for the decision."""
    next_clearings: tuple[Clearing, ...]
    from_gifts: int
    """Earned from gift tokens, which clear to nobody and never pay out; so far."""
    payable: Payable
    terms: PayoutTerms
    account: str
    """``none``, ``unfinished`` or ``ready``: where payouts go."""
    blocked: str | None
    """Why nothing can be paid out now, a code; None when something can."""
    payouts: tuple[PayoutView, ...]


class StatementRow(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer in a creator's statement, in tokens: pending, cleared and owed by it."""

    at: str
    transfer_id: str
    kind: str
    reference: str
    pending: int
    cleared: int
    debt: int


def terms_of(settings: Settings) -> PayoutTerms:
    """The rules that this house was started with."""
    return PayoutTerms(
        clearing_days=settings.clearing_days,
        reserve_percent=settings.reserve_percent,
        minimum_tokens=settings.payout_minimum_tokens,
        minor_per_token=settings.payout_minor_per_token,
        currency=settings.payout_currency,
    )


def payable_of(*, cleared: int, cleared_recently: int, debt: int, terms: PayoutTerms) -> Payable:
    """The arithmetic; the reserve is rounded up."""
    reserve = -(-cleared_recently * terms.reserve_percent // 100)
    tokens = 0 if debt else max(0, cleared - reserve)
    return Payable(
        cleared=cleared,
        cleared_recently=cleared_recently,
        reserve=reserve,
        debt=debt,
        tokens=tokens,
        amount_minor=tokens * terms.minor_per_token,
    )


def payable(tx: Session, creator_id: str, terms: PayoutTerms, now: datetime) -> Payable:
    """What ``creator_id`` may have paid out now."""
    balances = ledger.balances(tx, creator_id)
    return payable_of(
        cleared=balances["earnings"],
        cleared_recently=_cleared_since(tx, creator_id, now - timedelta(days=RESERVE_DAYS)),
        debt=-balances["debt"],
        terms=terms,
    )


def blocked_by(tx: Session, creator_id: str, payable: Payable, terms: PayoutTerms, gateway: str) -> str | None:
    """The code of what stands against a payout now, the gravest first; None when nothing does."""
    person = tx.get_one(PersonRow, creator_id, populate_existing=True)
    if person.spending_frozen_at is not None or person.locked_at is not None:
        return "PAYOUTS_FROZEN"
    if payable.debt:
        return "DEBT_FIRST"
    on_its_way = select(PayoutRow.id).where(PayoutRow.creator_id == creator_id, PayoutRow.status == "requested")
    if tx.scalar(on_its_way) is not None:
        return "PAYOUT_PENDING"
    if payable.tokens < terms.minimum_tokens:
        return "BELOW_MINIMUM"
    account = tx.get(PayoutAccountRow, (creator_id, gateway), populate_existing=True)
    return None if account is not None and account.ready else "NO_PAYOUT_ACCOUNT"


def earnings(tx: Session, creator_id: str, terms: PayoutTerms, gateway: str, now: datetime) -> EarningsView:
    """The creator's earnings now."""
    payable_now = payable(tx, creator_id, terms, now)
    account = tx.get(PayoutAccountRow, (creator_id, gateway))
    mine = HoldRow.creator_id == creator_id
    contested = select(func.coalesce(func.sum(HoldRow.pending), 0)).where(mine, HoldRow.pending > 0)
    gifts = select(func.coalesce(func.sum(HoldRow.promo), 0)).where(mine)
    payouts = tx.scalars(
        select(PayoutRow)
        .where(PayoutRow.creator_id == creator_id)
        .order_by(PayoutRow.requested_at.desc(), PayoutRow.id)
        .limit(50)
    )
    return EarningsView(
        pending=ledger.balances(tx, creator_id)["earnings_pending"],
        contested=int(tx.scalar(contested.where(HoldRow.contested)) or 0),
        next_clearings=_next_clearings(tx, creator_id, terms),
        from_gifts=int(tx.scalar(gifts) or 0),
        payable=payable_now,
        terms=terms,
        account="none" if account is None else "ready" if account.ready else "unfinished",
        blocked=blocked_by(tx, creator_id, payable_now, terms, gateway),
        payouts=tuple(payout_view(row) for row in payouts),
    )


def clear_due(tx: Session, now: datetime, *, clearing_days: int) -> None:
    """The clock's job: what has been pending for ``clearing_days`` becomes cleared."""
    ledger.clear_due(tx, now, limit=CLEAR_AT_ONCE, clearing_days=clearing_days)


def statement(tx: Session, creator_id: str, since: datetime, until: datetime) -> Iterator[StatementRow]:
    """Every transfer through the creator's earnings in ``since`` ≤ at < ``until``, oldest first, in pages."""
    mine = (
        select(TransferRow.id)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(
            AccountRow.owner_id == creator_id,
            AccountRow.kind.in_(("earnings_pending", "earnings", "debt")),
            TransferRow.created_at >= since,
            TransferRow.created_at < until,
        )
    )
    last: tuple[datetime, str] | None = None
    while True:
        page = select(TransferRow).where(TransferRow.id.in_(mine))
        if last is not None:
            at, id_ = last
            page = page.where(
                (TransferRow.created_at > at) | ((TransferRow.created_at == at) & (TransferRow.id > id_))
            )
        rows = tx.scalars(page.order_by(TransferRow.created_at, TransferRow.id).limit(PAGE)).all()
        amounts = _amounts(tx, creator_id, [row.id for row in rows])
        for row in rows:
            yield _statement_row(row, amounts[row.id])
        if len(rows) < PAGE:
            return
        last = rows[-1].created_at, rows[-1].id


def month(year: int, number: int) -> tuple[datetime, datetime]:
    """The first moment of a month (UTC) and of the next."""
    since = datetime(year, number, 1, tzinfo=UTC)
    until = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return since, until


def payout_view(row: PayoutRow) -> PayoutView:
    """A payout as its creator sees it."""
    return PayoutView(
        payout_id=row.id,
        status=row.status,
        tokens=row.tokens,
        amount_minor=row.amount_minor,
        currency=row.currency,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
        detail=row.detail,
    )


def _cleared_since(tx: Session, creator_id: str, since: datetime) -> int:
    cleared = (
        select(func.coalesce(func.sum(EntryRow.amount), 0))
        .join(TransferRow, TransferRow.id == EntryRow.transfer_id)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(
            AccountRow.owner_id == creator_id,
            AccountRow.kind == "earnings",
            TransferRow.kind == "clear",
            TransferRow.created_at > since,
        )
    )
    return int(tx.scalar(cleared) or 0)


def _next_clearings(tx: Session, creator_id: str, terms: PayoutTerms) -> tuple[Clearing, ...]:
    """By day, one question however many calls; what is contested is not among them."""
    day = utc_day(tx, HoldRow.clears_at).label("day")
    rows = tx.execute(
        select(day, func.sum(HoldRow.pending))
        .where(
            HoldRow.creator_id == creator_id,
            HoldRow.pending > 0,
            HoldRow.contested.is_(False),
            HoldRow.clears_at.is_not(None),
        )
        .group_by("day")
        .order_by("day")
    )
    earlier = timedelta(days=ledger.CLEARING_DAYS - terms.clearing_days)
    return tuple(Clearing(day=date.fromisoformat(text) - earlier, tokens=int(tokens)) for text, tokens in rows)


def _amounts(tx: Session, creator_id: str, transfers: list[str]) -> dict[str, dict[str, int]]:
    entries = (
        select(EntryRow.transfer_id, AccountRow.kind, EntryRow.amount)
        .join(AccountRow, AccountRow.id == EntryRow.account_id)
        .where(AccountRow.owner_id == creator_id, EntryRow.transfer_id.in_(transfers))
    )
    found: dict[str, dict[str, int]] = {id_: {} for id_ in transfers}
    for transfer_id, kind, amount in tx.execute(entries):
        found[transfer_id][kind] = found[transfer_id].get(kind, 0) + amount
    return found


def _statement_row(row: TransferRow, amounts: dict[str, int]) -> StatementRow:
    return StatementRow(
        at=rfc3339(row.created_at),
        transfer_id=row.id,
        kind=row.kind,
        reference=row.reference,
        pending=amounts.get("earnings_pending", 0),
        cleared=amounts.get("earnings", 0),
        debt=amounts.get("debt", 0),
    )
