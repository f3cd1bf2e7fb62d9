"""The ledger: every movement of tokens, double entry, exactly once, and never out of an empty account.

Each function makes one transfer whose entries sum to zero and changes the cached balances in the same
transaction. Called again with the same idempotency key it changes nothing and returns the first transfer.
Nothing is updated or deleted; a mistake is reversed by another transfer. Knows accounts, holds and lots;
not what a stream, a session or a card is.

Locks: a fan's movements queue at the fan's wallet; then accounts change in one fixed order, the hottest
last (creators, then the platform's).
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import lots
from models.audit import AuditReport, audit
from models.books import MANY, PERSONAL, AccountRow, EntryRow, HoldRow, LotRow, TransferRow
from models.clearing import CLEARING_DAYS, clear_due, contest, payout, payout_return, uncontest
from models.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired
from models.holds import HoldView, hold_of, locked_hold
from models.lots import bad_tokens_in, lots_behind, references_behind
from models.people import PersonRow
from models.postings import (
    MAX_TOKENS,
    Entry,
    Transfer,
    account_id,
    check_amount,
    first_transfer,
    lock_balance,
    post,
    transfers_of,
)
from models.recovery import lot_good_again, mark_lot_bad, recover, write_off
from models.refunds import put_back, refund, withdraw

__all__ = [
    "CLEARING_DAYS",
    "MAX_TOKENS",
    "AuditReport",
    "Entry",
    "HoldView",
    "Transfer",
    "account_id",
    "audit",
    "bad_tokens_in",
    "balance",
    "balances",
    "clear_due",
    "contest",
    "gift",
    "hold",
    "hold_of",
    "lot_good_again",
    "lots_behind",
    "mark_lot_bad",
    "pay",
    "payout",
    "payout_return",
    "put_back",
    "references_behind",
    "refund",
    "release",
    "settle",
    "spent_today",
    "top_up",
    "transfers_of",
    "uncontest",
    "withdraw",
    "write_off",
]


def balance(tx: Session, account: str) -> int:
    """The cached balance in tokens; 0 for an account that nothing has moved through yet.

    ``chargeback_loss`` and ``gateway`` without a name are all of their kind together.
    """
    one = AccountRow.kind == account if account in MANY else AccountRow.id == account
    return int(tx.scalar(select(func.coalesce(func.sum(AccountRow.balance), 0)).where(one)) or 0)


def balances(tx: Session, owner_id: str) -> dict[str, int]:
    """Kind → tokens, for all kinds of a person's accounts; ``debt`` is zero or below."""
    query = select(AccountRow.kind, AccountRow.balance).where(AccountRow.owner_id == owner_id)
    found = dict.fromkeys(PERSONAL, 0)
    for kind, tokens in tx.execute(query):
        found[kind] = tokens
    return found


def hold(
    tx: Session, fan_id: str, amount: int, *, key: str, reference: str, cause_id: str, now: datetime
) -> Transfer:
    """Reserve ``amount`` tokens, wallet → held, for ``reference``; again for the same reference adds to it,
    also after all of it was released.

    Raises PaymentRequired (``required``, ``balance``), Forbidden SPENDING_FROZEN or SPENDING_CAP, Conflict
    HOLD_CLOSED when the reference's hold was settled, Invalid for no amount of tokens.
    """
    check_amount(amount)
    available = lock_balance(tx, account_id("wallet", fan_id))
    if (first := first_transfer(tx, key, "hold", reference)) is not None:
        return first
    _check_may_spend(tx, fan_id, amount, now)
    if available < amount:
        raise PaymentRequired("There are not enough tokens.", required=amount, balance=available)
    row = tx.get(HoldRow, reference, populate_existing=True, with_for_update=True)
    if row is None:
        row = HoldRow(reference=reference, fan_id=fan_id, status="open", amount=0, created_at=now)
        tx.add(row)
    elif row.status == "settled" or row.fan_id != fan_id:
        raise Conflict("This hold is closed.", code="HOLD_CLOSED")
    row.status, row.closed_at = "open", None
    row.amount += amount
    tx.flush()
    lots.draw(tx, fan_id, reference, amount)
    entries = {account_id("wallet", fan_id): -amount, account_id("held", fan_id): amount}
    return post(tx, "hold", entries, key=key, reference=reference, cause_id=cause_id, now=now)


def release(
    tx: Session, reference: str, *, key: str, cause_id: str, now: datetime, amount: int | None = None
) -> Transfer:
    """Give back what is held for ``reference``, or ``amount`` tokens of it, held → wallet, to the same lots.

    Raises NotFound without a hold, Conflict HOLD_CLOSED when it is closed, Invalid when less is held.
    """
    row = locked_hold(tx, reference)
    if (first := first_transfer(tx, key, "release", reference)) is not None:
        return first
    _require_open(row)
    amount = row.amount if amount is None else amount
    check_amount(amount)
    if amount > row.amount:
        raise Invalid("Less than that is held.")
    row.amount -= amount
    if row.amount == 0:
        row.status, row.closed_at = "released", now
    lots.give_back(tx, reference, amount)
    entries = {account_id("held", row.fan_id): -amount, account_id("wallet", row.fan_id): amount}
    transfer = post(tx, "release", entries, key=key, reference=reference, cause_id=cause_id, now=now)
    recover(tx, row.fan_id, cause_id, now)
    return transfer


def settle(
    tx: Session,
    reference: str,
    *,
    creator_id: str,
    earnings: int,
    commission: int,
    key: str,
    cause_id: str,
    now: datetime,
    clearing_days: int = CLEARING_DAYS,
) -> Transfer:
    """Close the hold for good: ``earnings`` to the creator (pending), ``commission`` to fees, the rest back.

    One transfer, once: a second settlement under another key is a Conflict HOLD_CLOSED. Good tokens pay
    first; what comes back of a bad payment goes on to its gateway. Raises NotFound, Invalid when more is
    charged than held.
    """
    row = locked_hold(tx, reference)
    if (first := first_transfer(tx, key, "settle", reference)) is not None:
        return first
    _require_open(row)
    paid = earnings + commission
    if min(earnings, commission) < 0 or paid > row.amount:
        raise Invalid("No more can be charged than is held.")
    held, fan_id = row.amount, row.fan_id
    row.amount, row.status, row.closed_at = 0, "settled", now
    row.creator_id, row.earnings, row.commission, row.pending = creator_id, earnings, commission, earnings
    row.clears_at = now + timedelta(days=clearing_days)
    lots.spend(tx, reference, paid)
    entries = {
        account_id("held", fan_id): -held,
        account_id("wallet", fan_id): held - paid,
        account_id("earnings_pending", creator_id): earnings,
        account_id("fees"): commission,
    }
    transfer = post(tx, "settle", entries, key=key, reference=reference, cause_id=cause_id, now=now)
    recover(tx, fan_id, cause_id, now)
    return transfer


def pay(
    tx: Session,
    fan_id: str,
    *,
    creator_id: str,
    amount: int,
    commission_percent: int,
    kind: Literal["tip", "subscription"],
    key: str,
    reference: str,
    cause_id: str,
    now: datetime,
    clearing_days: int = CLEARING_DAYS,
) -> Transfer:
    """Pay a creator at once, wallet → pending earnings and fees; once a reference.

    The commission is rounded down. It leaves a settled hold, so that disputes, refunds and clearing treat it
    like a settlement. Raises what ``hold`` raises.
    """
    check_amount(amount)
    wallet = account_id("wallet", fan_id)
    available = lock_balance(tx, wallet)
    if (first := first_transfer(tx, key, kind, reference)) is not None:
        return first
    _check_may_spend(tx, fan_id, amount, now)
    if available < amount:
        raise PaymentRequired("There are not enough tokens.", required=amount, balance=available)
    if tx.get(HoldRow, reference) is not None:
        raise Conflict("This was paid already.", code="HOLD_CLOSED")
    commission = amount * commission_percent // 100
    row = HoldRow(
        reference=reference,
        fan_id=fan_id,
        creator_id=creator_id,
        status="settled",
        amount=0,
        earnings=amount - commission,
        commission=commission,
        pending=amount - commission,
        created_at=now,
        closed_at=now,
        clears_at=now + timedelta(days=clearing_days),
    )
    tx.add(row)
    tx.flush()
    lots.draw(tx, fan_id, reference, amount)
    lots.spend(tx, reference, amount)
    entries = {
        wallet: -amount,
        account_id("earnings_pending", creator_id): amount - commission,
        account_id("fees"): commission,
    }
    return post(tx, kind, entries, key=key, reference=reference, cause_id=cause_id, now=now)


def top_up(
    tx: Session, *, purchase_id: str, user_id: str, tokens: int, gateway: str, cause_id: str, now: datetime
) -> Transfer:
    """Credit bought tokens, gateway → wallet, as a lot of their own; once a purchase."""
    check_amount(tokens)
    wallet, origin = account_id("wallet", user_id), account_id("gateway", gateway)
    lock_balance(tx, wallet)
    key = f"top_up:{purchase_id}"
    if (first := first_transfer(tx, key, "top_up", purchase_id)) is not None:
        return first
    _add_lot(tx, purchase_id, user_id, "purchase", origin, tokens, now)
    entries = {origin: -tokens, wallet: tokens}
    return post(tx, "top_up", entries, key=key, reference=purchase_id, cause_id=cause_id, now=now)


def gift(tx: Session, user_id: str, tokens: int, *, key: str, cause_id: str, now: datetime) -> Transfer:
    """Give demo or gift tokens, promo → wallet. Their lot is marked: what they pay for never pays out.

    ``key`` is also the lot's id and the transfer's reference, so it must be unique, such as ``gift:<person>``.
    """
    check_amount(tokens)
    wallet = account_id("wallet", user_id)
    lock_balance(tx, wallet)
    if (first := first_transfer(tx, key, "gift", key)) is not None:
        return first
    _add_lot(tx, key, user_id, "promo", "promo", tokens, now)
    return post(tx, "gift", {"promo": -tokens, wallet: tokens}, key=key, reference=key, cause_id=cause_id, now=now)


def _add_lot(
    tx: Session, lot_id: str, owner_id: str, source: str, origin: str, tokens: int, now: datetime
) -> None:
    lot = LotRow(
        id=lot_id, owner_id=owner_id, source=source, origin=origin, tokens=tokens, free=tokens, created_at=now
    )
    tx.add(lot)


def _check_may_spend(tx: Session, fan_id: str, amount: int, now: datetime) -> None:
    found = tx.execute(
        select(PersonRow.spending_frozen_at, PersonRow.daily_cap_tokens).where(PersonRow.id == fan_id)
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such person.")
    frozen_at, cap = found
    if frozen_at is not None:
        raise Forbidden("Spending is frozen until a payment is cleared up.", code="SPENDING_FROZEN")
    if cap is None:
        return
    spent = spent_today(tx, fan_id, now)
    if spent + amount > cap:
        raise Forbidden("That is over your own daily cap.", code="SPENDING_CAP", cap=cap, spent=spent)


def spent_today(tx: Session, fan_id: str, now: datetime) -> int:
    """What has left the wallet to be held or paid since midnight UTC and has not come back."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    out = (
        select(func.coalesce(func.sum(EntryRow.amount), 0))
        .join(TransferRow, TransferRow.id == EntryRow.transfer_id)
        .where(
            EntryRow.account_id == account_id("wallet", fan_id),
            TransferRow.kind.in_(("hold", "release", "settle", "tip", "subscription")),
            TransferRow.created_at >= midnight,
        )
    )
    return max(0, -int(tx.scalar(out) or 0))


def _require_open(row: HoldRow) -> None:
    if row.status != "open":
        raise Conflict("This hold is closed.", code="HOLD_CLOSED")
