"""When the payment behind a lot turns out bad: taking back what can be, in docs/money.md's order, and undoing it.

Free tokens go back at once, held ones when their hold is settled or released, spent ones come from who was
paid: pending earnings with their fee, cleared earnings, debt, and in the end loss. The caller holds the lock
on the fan's wallet where it says so. Knows nothing of cards and disputes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import lots
from models.books import EntryRow, HoldRow, LotRow, LotUseRow, TransferRow
from models.errors import Invalid, NotFound
from models.holds import fee_of, gift_part, hold_for_update, net_earnings, payee, take_from_the_paid
from models.postings import Transfer, account_id, check_amount, first_transfer, lock_balance, post


def mark_lot_bad(tx: Session, lot_id: str, *, cause_id: str, now: datetime) -> int:
    """The payment behind a lot is bad: take back what can be; how many tokens that was.

    A repeat takes nothing more. Raises NotFound, Invalid for a gift: nobody paid for it.
    """
    lot = locked_lot(tx, lot_id)
    if lot.source == "promo":
        raise Invalid("A gift has no payment.")
    if lot.bad_at is None:
        lot.bad_at = now
        tx.flush()
    return recover(tx, lot.owner_id, cause_id, now)


def recover(tx: Session, owner_id: str, cause_id: str, now: datetime) -> int:
    """Take back all that can be of a person's bad lots: what is free, then what was spent; how many tokens.

    The caller holds the owner's wallet.
    """
    bad = select(LotRow).where(LotRow.owner_id == owner_id, LotRow.bad_at.is_not(None))
    found = tx.scalars(
        bad.order_by(LotRow.created_at, LotRow.id).execution_options(populate_existing=True)
    ).all()
    free = sum(_take_free(tx, lot, cause_id, now) for lot in found)
    return free + sum(_take_spent(tx, lot, cause_id, now) for lot in found)


def lot_good_again(tx: Session, lot_id: str, *, cause_id: str, now: datetime) -> int:
    """A dispute was won: what was taken back returns to whom it was taken from; how many tokens.

    What had become debt pays the debt first, then our loss where the debt was written off, and the rest is
    the creator's: they have paid it meanwhile. A repeat changes nothing. Raises NotFound.
    """
    lot = locked_lot(tx, lot_id)
    if lot.bad_at is None:
        return 0
    lot.bad_at = None
    taken = _taken_from(tx, lot)
    entries: Counter[str] = Counter({account_id("wallet", lot.owner_id): lot.reversed})
    lot.free, lot.reversed = lot.free + lot.reversed, 0
    back: dict[str, list[tuple[HoldRow, int]]] = {}
    for use in _uses(tx, lot_id, LotUseRow.recovered > 0):
        row = hold_for_update(tx, use.reference)
        fee = -fee_of(row, -use.recovered)
        entries[account_id("fees")] += fee
        back.setdefault(payee(row), []).append((row, use.recovered - fee))
        row.fee_back -= fee
        row.recovered -= use.recovered
        use.recovered = 0
    for creator_id, holds in sorted(back.items()):
        entries.update(_return_to_creator(tx, creator_id, holds, taken))
    total = sum(entries.values())
    entries[lot.origin] -= total
    if total:
        _post_for(tx, lot, "payment_good", entries, cause_id, now)
    tx.flush()
    return total


def write_off(
    tx: Session, creator_id: str, tokens: int, *, key: str, reference: str, cause_id: str, now: datetime
) -> Transfer:
    """A creator's debt that will never be paid becomes our loss, debt → chargeback_loss of that creator.

    Raises Invalid when less is owed.
    """
    check_amount(tokens)
    owed = -lock_balance(tx, account_id("debt", creator_id))
    if (first := first_transfer(tx, key, "write_off", reference)) is not None:
        return first
    if tokens > owed:
        raise Invalid("Less than that is owed.")
    entries = {account_id("debt", creator_id): tokens, account_id("chargeback_loss", creator_id): -tokens}
    return post(tx, "write_off", entries, key=key, reference=reference, cause_id=cause_id, now=now)


def locked_lot(tx: Session, lot_id: str) -> LotRow:
    """The lot as it is now, with its owner's wallet locked. NotFound."""
    lot = tx.get(LotRow, lot_id)
    if lot is None:
        raise NotFound("There is no such lot.")
    lock_balance(tx, account_id("wallet", lot.owner_id))
    tx.refresh(lot)
    return lot


def _take_free(tx: Session, lot: LotRow, cause_id: str, now: datetime) -> int:
    amount = lot.free
    if amount == 0:
        return 0
    lot.free, lot.reversed = 0, lot.reversed + amount
    entries = {account_id("wallet", lot.owner_id): -amount, lot.origin: amount}
    _post_for(tx, lot, "payment_reversal", entries, cause_id, now)
    return amount


def _take_spent(tx: Session, lot: LotRow, cause_id: str, now: datetime) -> int:
    taken = 0
    for use in _uses(tx, lot.id, LotUseRow.spent > LotUseRow.recovered):
        amount = use.spent - use.recovered
        row = hold_for_update(tx, use.reference)
        gift_left = gift_part(row, lots.promo_spent(tx, use.reference), less=amount)
        entries = take_from_the_paid(tx, row, amount, gift_left=gift_left, may_owe=True)
        entries[lot.origin] = amount
        use.recovered += amount
        row.recovered += amount
        _post_for(tx, lot, "payment_reversal", entries, cause_id, now)
        taken += amount
    return taken


def _return_to_creator(
    tx: Session, creator_id: str, holds: Sequence[tuple[HoldRow, int]], taken: Counter[str]
) -> Counter[str]:
    """Where the creator's part goes: pending as before, promo, debt, our loss, and cleared earnings."""
    debt, loss, pending, earnings = (
        account_id(kind, creator_id) for kind in ("debt", "chargeback_loss", "earnings_pending", "earnings")
    )
    promo = account_id("promo")
    tx.flush()
    owed, lost = -lock_balance(tx, debt), -lock_balance(tx, loss)
    rest = sum(tokens for _, tokens in holds)
    # Of a session that several lots paid, each may return a token more or less of the fee than it took: what
    # those that are still bad will not return is paid now, or it would be nobody's but ours.
    due = min(rest, max(0, owed + lost - _still_taken(tx, creator_id))) if owed + lost else 0
    rest -= due
    entries: Counter[str] = Counter()
    for row, _ in holds:
        # Promo may have more than the net is: then others' earnings gave for it, and nothing of it was pending.
        missing = net_earnings(row) - row.promo - row.pending
        tokens = max(0, min(rest, taken[pending] - entries[pending], missing))
        row.pending += tokens
        entries[pending] += tokens
        rest -= tokens
        # A whole session's rounding is not that of the parts that were left: gifts never pay out.
        gifts = gift_part(row, lots.promo_spent(tx, row.reference)) - row.promo - row.pending
        gifts = min(rest, max(0, gifts))
        row.promo += gifts
        entries[promo] += gifts
        rest -= gifts
    rest += due
    entries[debt] = min(rest, owed)
    rest, due = rest - entries[debt], due - entries[debt]
    entries[loss] = min(rest, lost, max(0, due, taken[debt] - entries[debt]))
    entries[earnings] = rest - entries[loss]
    return entries


def _taken_from(tx: Session, lot: LotRow) -> Counter[str]:
    """Account → tokens that were taken from it because of this lot since it was last good.

    What earlier wins returned, and to whom, is over: it may have paid a debt that another lot had made.
    """
    query = (
        select(TransferRow.kind, TransferRow.idempotency_key, EntryRow.account_id, EntryRow.amount)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .where(TransferRow.reference == lot.id, TransferRow.kind.in_(("payment_reversal", "payment_good")))
    )
    found = [
        (kind, _number(lot, kind, key), account, amount) for kind, key, account, amount in tx.execute(query)
    ]
    won = max((number for kind, number, _, _ in found if kind == "payment_good"), default=-1)
    taken: Counter[str] = Counter()
    for _, number, account, amount in found:
        if number > won and amount < 0:
            taken[account] -= amount
    return taken


def _still_taken(tx: Session, creator_id: str) -> int:
    """How much the creator would get back, were all payments good that made them owe something."""
    owing = (
        select(TransferRow.reference)
        .join(EntryRow, EntryRow.transfer_id == TransferRow.id)
        .where(EntryRow.account_id == account_id("debt", creator_id), TransferRow.kind == "payment_reversal")
    )
    behind = select(LotUseRow.reference).where(LotUseRow.lot_id.in_(owing), LotUseRow.recovered > 0)
    holds = select(HoldRow).where(HoldRow.creator_id == creator_id, HoldRow.reference.in_(behind))
    return sum(row.recovered + fee_of(row, -row.recovered) for row in tx.scalars(holds))


def _uses(tx: Session, lot_id: str, condition: object) -> Sequence[LotUseRow]:
    query = select(LotUseRow).where(LotUseRow.lot_id == lot_id, condition)  # type: ignore[arg-type]
    return tx.scalars(
        query.order_by(LotUseRow.reference).execution_options(populate_existing=True)
    ).all()


def _post_for(
    tx: Session, lot: LotRow, kind: str, entries: dict[str, int], cause_id: str, now: datetime
) -> Transfer:
    """One transfer about a lot's payment; each has its own key, because such things can come again."""
    lot.bites += 1
    tx.flush()
    key = f"{kind}:{lot.id}:{lot.bites}"
    return post(tx, kind, entries, key=key, reference=lot.id, cause_id=cause_id, now=now)


def _number(lot: LotRow, kind: str, key: str) -> int:
    """Which of the lot's transfers has this key; 0 for those of version 0.1.0, which knew no wins."""
    number = key.removeprefix(f"{kind}:{lot.id}:")
    return int(number) if number.isdigit() else 0
