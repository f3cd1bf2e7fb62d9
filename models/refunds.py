"""Giving tokens back: what a settled hold paid, to the fan; unspent tokens, to where they came from."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from models import lots
from models.books import TransferRow
from models.errors import Conflict, Invalid, NotFound
from models.holds import gift_part, left, locked_hold, take_from_the_paid
from models.postings import Transfer, account_id, check_amount, entries_of, first_transfer, post
from models.recovery import locked_lot, recover


def refund(
    tx: Session, reference: str, tokens: int | None, *, key: str, cause_id: str, now: datetime
) -> Transfer:
    """Give back ``tokens`` of what the hold ``reference`` has paid, or all that is left of it, to the fan.

    From the creator's earnings, pending before cleared, and from fees in proportion; to the fan's wallet and
    the lots it came from. Raises NotFound, Conflict NOT_REVERSIBLE when less was paid or the creator has
    not got it.
    """
    row = locked_hold(tx, reference)
    if (first := first_transfer(tx, key, "reverse", reference)) is not None:
        return first
    paid = left(row)
    amount = paid if tokens is None else tokens
    if row.status != "settled" or paid == 0:
        raise Conflict("Nothing was paid, or all of it was taken back.", code="NOT_REVERSIBLE")
    check_amount(amount)
    if amount > paid:
        raise Conflict("Less than that was paid.", code="NOT_REVERSIBLE", paid=paid)
    remaining = gift_part(row, lots.promo_spent(tx, reference, less=amount), less=amount)
    gifts = max(0, row.promo - remaining)
    entries = take_from_the_paid(tx, row, amount, gift_left=remaining, gifts=gifts, may_owe=False)
    row.promo += entries[account_id("promo")]
    row.refunded += amount
    lots.unspend(tx, reference, amount)
    entries[account_id("wallet", row.fan_id)] = amount
    transfer = post(tx, "reverse", entries, key=key, reference=reference, cause_id=cause_id, now=now)
    recover(tx, row.fan_id, cause_id, now)
    return transfer


def withdraw(
    tx: Session, lot_id: str, tokens: int, *, key: str, reference: str, cause_id: str, now: datetime
) -> Transfer:
    """Take unspent tokens of a purchase out of the house, wallet → gateway, because its price is given back.

    Raises NotFound, Conflict NOT_UNSPENT when fewer are free, the payment is bad, or the lot is a gift.
    """
    check_amount(tokens)
    lot = locked_lot(tx, lot_id)
    if (first := first_transfer(tx, key, "purchase_refund", reference)) is not None:
        return first
    if lot.source != "purchase" or lot.bad_at is not None or tokens > lot.free:
        raise Conflict("Fewer tokens of it are unspent.", code="NOT_UNSPENT")
    lot.free, lot.withdrawn = lot.free - tokens, lot.withdrawn + tokens
    tx.flush()
    entries = {account_id("wallet", lot.owner_id): -tokens, lot.origin: tokens}
    return post(
        tx, "purchase_refund", entries, key=key, reference=reference, cause_id=cause_id, now=now, lot_id=lot.id
    )


def put_back(tx: Session, transfer_id: str, *, cause_id: str, now: datetime) -> Transfer:
    """Undo a withdrawal, because the gateway refused to give the price back; once. Raises NotFound."""
    original = tx.get(TransferRow, transfer_id)
    if original is None:
        raise NotFound("There is no such transfer.")
    if original.kind != "purchase_refund" or original.lot_id is None:
        raise Invalid(f"A {original.kind} is not put back.")
    lot = locked_lot(tx, original.lot_id)
    key = f"put_back:{transfer_id}"
    if (first := first_transfer(tx, key, "purchase_refund_return", original.reference)) is not None:
        return first
    wallet = account_id("wallet", lot.owner_id)
    tokens = next(-entry.amount for entry in entries_of(tx, transfer_id) if entry.account == wallet)
    lot.free, lot.withdrawn = lot.free + tokens, lot.withdrawn - tokens
    tx.flush()
    transfer = post(
        tx,
        "purchase_refund_return",
        {wallet: tokens, lot.origin: -tokens},
        key=key,
        reference=original.reference,
        cause_id=cause_id,
        now=now,
        reverses=transfer_id,
        lot_id=lot.id,
    )
    recover(tx, lot.owner_id, cause_id, now)
    return transfer
