"""The ledger: every movement of tokens, double entry, exactly once, and never out of an empty account.

Each function makes one transfer whose entries sum to zero and changes the cached balances in the same
transaction. Called again with the same idempotency key it changes nothing and returns the first transfer.
Nothing is updated or deleted; a mistake is reversed by another transfer. Knows accounts, holds and lots;
not what a stream, a session or a card is.

Locks: a fan's movements queue at the fan's wallet; then accounts change in one fixed order, the hottest
last (creators, then the platform's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.orm import Session

from models import ids, lots
from models.audit import AuditReport, audit
from models.books import MANY, MAX_TOKENS, AccountRow, EntryRow, SlotRow, TransferRow
from models.books_rules import PERSONAL
from models.clearing import CLEARING_DAYS, clear_due, contest, payout, payout_return, uncontest
from models.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired
from models.holds import HoldView, hold_of
from models.ledger_sql import (
    HELD,
    LESS_HELD,
    MORE_HELD,
    NEW_HOLD,
    NEW_LOT,
    NEW_STAKE,
    PAID,
    SETTLED,
    SPENDER,
)
from models.lots import Lot, bad_tokens_in, lots_behind, references_behind
from models.people import PersonRow
from models.postings import (
    About,
    Entry,
    Transfer,
    account_id,
    as_read,
    check_amount,
    check_sum,
    first_transfer,
    lock_balance,
    same,
    transfers_of,
)
from models.postings import transfer as transfer_of
from models.recovery import lot_good_again, mark_lot_bad, recover, write_off
from models.refunds import put_back, refund, withdraw
from models.statements import Write, moment, read, write

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
    "check_allowed",
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

SPENDING = ("hold", "release", "settle", "tip", "subscription", "pass", "recording", "stake", "stake_return")
"""Kinds of transfers that count against a person's daily cap, and those that bring such tokens back."""
_NOT_PLAIN = (None,) * 7
"""Instead of what a settlement is plainly written with: only read."""


def _balances_where(are_they: ColumnElement[bool]) -> Select[str, int]:
    slots = select(func.sum(SlotRow.balance)).where(SlotRow.account_id == AccountRow.id).scalar_subquery()
    query = select(AccountRow.kind, func.sum(AccountRow.balance + func.coalesce(slots, 0)))
    return query.where(are_they).group_by(AccountRow.kind)


# Built once: whatever moves tokens reads these, and building them took longer than executing them.
_ONES, _OF_A_KIND, _OWNERS = (
    _balances_where(column == bindparam("account"))
    for column in (AccountRow.id, AccountRow.kind, AccountRow.owner_id)
)


def balance(tx: Session, account: str) -> int:
    """The cached balance in tokens; 0 for an account that nothing has moved through yet.

    ``chargeback_loss`` and ``gateway`` without a name are all of their kind together.
    """
    return sum(_balances(tx, _OF_A_KIND if account in MANY else _ONES, account).values())


def balances(tx: Session, owner_id: str) -> dict[str, int]:
    """Kind → tokens, for all kinds of a person's accounts; ``debt`` is zero or below."""
    return dict.fromkeys(PERSONAL, 0) | _balances(tx, _OWNERS, owner_id)


def _balances(tx: Session, query: Select[str, int], account: str) -> dict[str, int]:
    return {kind: int(tokens) for kind, tokens in tx.execute(query, {"account": account})}


def hold(
    tx: Session,
    fan_id: str,
    amount: int,
    *,
    key: str,
    reference: str,
    cause_id: str,
    now: datetime,
    pot: str | None = None,
) -> Transfer:
    """Reserve ``amount`` tokens, wallet → held, for ``reference``; again for the same reference adds to it,
    also after all of it was released. With ``pot`` that account holds them: a stake in a battle.

    Raises PaymentRequired (``required``, ``balance``), Forbidden SPENDING_FROZEN or SPENDING_CAP, Conflict
    HOLD_CLOSED when the reference's hold was settled, Invalid for no amount of tokens.
    """
    about, at = About(key, reference, cause_id, now, ids.new_id(ids.TRANSFER)), moment(tx, now)
    kind, plain = ("hold", (amount, about.transfer_id, cause_id, at)) if pot is None else ("stake", (None,) * 4)
    found = _may_spend(tx, fan_id, amount, kind, about, plain)
    if isinstance(found, Transfer):
        return found
    entries = {account_id("wallet", fan_id): -amount, pot or account_id("held", fan_id): amount}
    if found.done:
        return transfer_of(tx, kind, entries, about)[0]
    if found.hold_fan is None and pot is not None:
        writes = [Write(NEW_STAKE, (reference, fan_id, amount, pot, at))]
    elif found.hold_fan is None:
        writes = [Write(NEW_HOLD, (reference, fan_id, amount, at))]
    elif found.hold_status == "settled" or found.hold_fan != fan_id:
        raise Conflict("This hold is closed.", code="HOLD_CLOSED")
    else:
        writes = [Write(MORE_HELD, (amount, reference, found.held))]
    writes += lots.draw(found.lots, reference, amount)
    return _write(tx, kind, entries, writes, about)


def release(
    tx: Session,
    reference: str,
    *,
    key: str,
    cause_id: str,
    now: datetime,
    amount: int | None = None,
    pot: str | None = None,
) -> Transfer:
    """Give back what is held for ``reference``, or ``amount`` tokens of it, held → wallet, to the same lots.

    ``pot`` as it was held with. Raises NotFound without a hold, Conflict HOLD_CLOSED when it is closed, Invalid
    when less is held.
    """
    about, kind = About(key, reference, cause_id, now), "release" if pot is None else "stake_return"
    found = _open_hold(tx, kind, about)
    if isinstance(found, Transfer):
        return found
    amount = found.held if amount is None else amount
    check_amount(amount)
    if amount > found.held:
        raise Invalid("Less than that is held.")
    status, closed_at = ("released", moment(tx, now)) if amount == found.held else ("open", None)
    writes = [Write(LESS_HELD, (amount, status, closed_at, reference, found.held))]
    writes += lots.give_back(found.lots, reference, amount)
    entries = {pot or account_id("held", found.fan_id): -amount, account_id("wallet", found.fan_id): amount}
    transfer = _write(tx, kind, entries, writes, about)
    if found.has_bad_lots:
        recover(tx, found.fan_id, cause_id, now)
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
    """Pay ``earnings`` to the creator (pending) and ``commission`` to fees, return the rest of the hold.

    Exactly once a reference: a second settlement under another key is a Conflict HOLD_CLOSED. Good tokens pay
    first; what comes back of a bad payment goes on to its gateway. Raises NotFound, Invalid when more is
    charged than held.
    """
    about, paid = About(key, reference, cause_id, now, ids.new_id(ids.TRANSFER)), earnings + commission
    at, clears_at = moment(tx, now), moment(tx, now + timedelta(days=clearing_days))
    plain = (creator_id, earnings, commission, about.transfer_id, cause_id, at, clears_at)
    is_plain = min(earnings, commission) > 0 and paid <= MAX_TOKENS
    found = _open_hold(tx, "settle", about, plain if is_plain else _NOT_PLAIN)
    if isinstance(found, Transfer):
        return found
    if min(earnings, commission) < 0 or paid > found.held:
        raise Invalid("No more can be charged than is held.")
    entries = {
        account_id("held", found.fan_id): -found.held,
        account_id("wallet", found.fan_id): found.held - paid,
        account_id("earnings_pending", creator_id): earnings,
        account_id("fees"): commission,
    }
    if found.done:
        return transfer_of(tx, "settle", entries, about)[0]
    values = (creator_id, earnings, commission, earnings, at, clears_at, reference, found.held)
    writes = [Write(SETTLED, values), *lots.spend(found.lots, reference, paid)]
    transfer = _write(tx, "settle", entries, writes, about)
    if found.has_bad_lots:
        recover(tx, found.fan_id, cause_id, now)
    return transfer


def pay(
    tx: Session,
    fan_id: str,
    *,
    creator_id: str,
    amount: int,
    commission_percent: int,
    kind: Literal["tip", "subscription", "pass", "recording"],
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
    about = About(key, reference, cause_id, now)
    found = _may_spend(tx, fan_id, amount, kind, about)
    if isinstance(found, Transfer):
        return found
    if found.hold_fan is not None:
        raise Conflict("This was paid already.", code="HOLD_CLOSED")
    commission = amount * commission_percent // 100
    earnings, at = amount - commission, moment(tx, now)
    clears_at = moment(tx, now + timedelta(days=clearing_days))
    values = (reference, fan_id, creator_id, earnings, commission, earnings, at, at, clears_at)
    writes = [Write(PAID, values), *lots.draw(found.lots, reference, amount, spend=True)]
    entries = {
        account_id("wallet", fan_id): -amount,
        account_id("earnings_pending", creator_id): earnings,
        account_id("fees"): commission,
    }
    return _write(tx, kind, entries, writes, about)


def top_up(
    tx: Session, *, purchase_id: str, user_id: str, tokens: int, gateway: str, cause_id: str, now: datetime
) -> Transfer:
    """Credit bought tokens, gateway → wallet, as a lot of their own; once a purchase."""
    about = About(f"top_up:{purchase_id}", purchase_id, cause_id, now)
    return _bring_in(tx, "top_up", user_id, tokens, "purchase", account_id("gateway", gateway), about)


def gift(tx: Session, user_id: str, tokens: int, *, key: str, cause_id: str, now: datetime) -> Transfer:
    """Give demo or gift tokens, promo → wallet. Their lot is marked: what they pay for never pays out.

    ``key`` is also the lot's id and the transfer's reference, so it must be unique, such as ``gift:<person>``.
    """
    return _bring_in(tx, "gift", user_id, tokens, "promo", account_id("promo"), About(key, key, cause_id, now))


def spent_today(tx: Session, fan_id: str, now: datetime) -> int:
    """What has left the wallet to be held or paid since midnight UTC and has not come back.

    Counted for each reference by itself: what comes back of an earlier day's hold makes no room today.
    """
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    out = (
        select(func.sum(EntryRow.amount).label("tokens"))
        .join(TransferRow, TransferRow.id == EntryRow.transfer_id)
        .where(
            EntryRow.account_id == account_id("wallet", fan_id),
            TransferRow.kind.in_(SPENDING),
            TransferRow.created_at >= midnight,
        )
        .group_by(TransferRow.reference)
        .subquery()
    )
    return -int(tx.scalar(select(func.sum(out.c.tokens)).where(out.c.tokens < 0)) or 0)


def check_allowed(tx: Session, fan_id: str, amount: int, now: datetime) -> None:
    """Whether this person may spend ``amount`` now, had they the tokens: asked before a card is charged for it.

    Raises Forbidden SPENDING_FROZEN or SPENDING_CAP, NotFound.
    """
    _check_allowed(tx, fan_id, amount, *_person(tx, fan_id), now)


def _bring_in(
    tx: Session, kind: str, owner_id: str, tokens: int, source: str, origin: str, about: About
) -> Transfer:
    check_amount(tokens)
    wallet = account_id("wallet", owner_id)
    has = lock_balance(tx, wallet)
    if (first := first_transfer(tx, about.key, kind, about.reference)) is not None:
        return first
    check_sum(has, tokens)
    check_sum(balance(tx, origin), -tokens)
    lot = Write(NEW_LOT, (about.reference, owner_id, source, origin, tokens, tokens, moment(tx, about.now)))
    return _write(tx, kind, {origin: -tokens, wallet: tokens}, [lot], about)


def _write(tx: Session, kind: str, entries: Mapping[str, int], writes: Sequence[Write], about: About) -> Transfer:
    """The movement's one set of statements; the transfer last."""
    made, write_it = transfer_of(tx, kind, entries, about)
    write(tx, [*writes, write_it])
    return made


class _Spender(NamedTuple):
    """What ``hold`` and ``pay`` decide by, once nothing is in the way."""

    done: bool
    """PostgreSQL has written it already (``models.books_calls``)."""
    hold_fan: str | None
    hold_status: str | None
    held: int
    lots: Sequence[Lot]


class _Held(NamedTuple):
    """What ``release`` and ``settle`` decide by."""

    done: bool
    fan_id: str
    held: int
    has_bad_lots: bool
    lots: Sequence[Lot]


def _may_spend(
    tx: Session, fan_id: str, amount: int, kind: str, about: About, plain: tuple[Any, ...] = (None,) * 4
) -> _Spender | Transfer:
    """Lock the wallet and see that nothing forbids to spend; the first transfer, if ``key`` was used before."""
    check_amount(amount)
    tx.flush()
    rows = read(tx, SPENDER, (about.reference, about.key, account_id("wallet", fan_id)), plain)
    done, available, frozen_at, cap = rows[0][:4] if rows else (False, 0, *_person(tx, fan_id))
    if rows and rows[0][7] is not None:
        return same(as_read(*rows[0][7:12]), kind, about.reference)
    _check_allowed(tx, fan_id, amount, frozen_at, cap, about.now)
    if available < amount:
        raise PaymentRequired("There are not enough tokens.", required=amount, balance=available)
    return _Spender(bool(done), rows[0][4], rows[0][5], rows[0][6], [Lot(*row[12:]) for row in rows])


def _check_allowed(
    tx: Session, fan_id: str, amount: int, frozen_at: datetime | None, cap: int | None, now: datetime
) -> None:
    if frozen_at is not None:
        raise Forbidden("Spending is frozen until a payment is cleared up.", code="SPENDING_FROZEN")
    if cap is not None and (spent := spent_today(tx, fan_id, now)) + amount > cap:
        raise Forbidden("That is over your own daily cap.", code="SPENDING_CAP", cap=cap, spent=spent)


def _person(tx: Session, fan_id: str) -> tuple[datetime | None, int | None]:
    """Of somebody without a wallet."""
    found = tx.execute(
        select(PersonRow.spending_frozen_at, PersonRow.daily_cap_tokens).where(PersonRow.id == fan_id)
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such person.")
    return found[0], found[1]


def _open_hold(tx: Session, kind: str, about: About, plain: tuple[Any, ...] = _NOT_PLAIN) -> _Held | Transfer:
    """Lock the wallet behind an open hold and read it; the first transfer, if ``key`` was used before."""
    tx.flush()
    rows = read(tx, HELD, (about.key, about.reference), plain)
    if not rows:
        raise NotFound("Nothing is held for that.")
    done, fan_id, status, held, has_bad_lots = rows[0][:5]
    if rows[0][5] is not None:
        return same(as_read(*rows[0][5:10]), kind, about.reference)
    if status != "open":
        raise Conflict("This hold is closed.", code="HOLD_CLOSED")
    return _Held(bool(done), fan_id, held, bool(has_bad_lots), [Lot(*row[10:]) for row in rows])
