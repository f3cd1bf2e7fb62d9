"""When money that we had is taken back: what is frozen, ended and recovered, and what a won dispute undoes.

Everything about one finding is one transaction, in docs/money.md's order; a repeat changes nothing. The
tokens themselves are the ledger's part. Knows gateways by their answers alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log
from models.books import LotRow, LotUseRow
from models.errors import NotFound
from models.gateways import base
from models.machine import move
from models.payments import BAD, DisputeRow, PurchaseRow
from models.people import PersonRow
from models.services import battle_clock, passes, recording_sales, subscriptions, termination
from models.services.announcements import balance_changed
from models.services.closing import close_request, open_requests
from models.services.included_minutes import reserved_of
from models.services.locks import lock_people
from models.services.purchases import find_purchase, locked_purchase, note
from models.sessions import RUNNING, SessionRow

BadStatus = Literal["failed", "disputed"]


class DisputeView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dispute, for its buyer and for admins. Money in the currency's minor unit."""

    dispute_id: str
    purchase_id: str
    user_id: str
    status: str
    reason: str
    amount_minor: int
    currency: str
    due_at: datetime | None
    created_at: datetime
    closed_at: datetime | None


def mark_bad(tx: Session, purchase: str, now: datetime, *, status: BadStatus = "failed") -> bool:
    """A payment that had succeeded is bad: freeze its buyer's spending, end what it pays, take back what can be.

    ``purchase`` is its id or the gateway's reference. Open requests are closed; free tokens go back now,
    held ones when their session is settled, spent ones come from who was paid. False when that was done
    before. Raises NotFound, Conflict for a purchase that never succeeded. Bookings are the clock's: it
    releases those of a frozen account.
    """
    user_id = lock_parties(tx, purchase)
    row = locked_purchase(tx, _found(tx, purchase).id)
    if row.status in BAD and row.succeeded_at is not None:
        return False
    move(tx, PurchaseRow, row.id, "succeeded", status, bad_at=now)
    note(tx, row.id, status, "", now)
    person = tx.get_one(PersonRow, user_id, populate_existing=True)
    person.spending_frozen_at = person.spending_frozen_at or now
    tx.flush()
    # Nothing may be accepted on a frozen account, whichever tokens are behind it.
    for request in open_requests(tx, fan_id=user_id):
        close_request(tx, request, "cancelled", now, "payment_failed")
    battle_clock.spending_frozen(tx, user_id, now)
    references = _paid_with(tx, row.id)
    for reference in references:
        subscriptions.payment_taken_back(tx, reference, now)
        passes.payment_taken_back(tx, reference, now)
        recording_sales.payment_taken_back(tx, reference, now)
    ledger.mark_lot_bad(tx, row.id, cause_id=row.cause_id, now=now)
    # Minutes that a subscription includes are paid by what paid the subscription.
    included = (request_id for reference in references for request_id in reserved_of(tx, reference))
    _end_sessions(tx, {*ledger.references_behind(tx, row.id), *included}, now)
    balance_changed(tx, user_id, now)
    return True


def note_dispute(tx: Session, purchase_id: str, dispute: base.Dispute, now: datetime) -> str:
    """Keep what the gateway says about a dispute; its id. The same answer again changes nothing."""
    purchase = locked_purchase(tx, purchase_id)
    same = (DisputeRow.gateway == purchase.gateway, DisputeRow.gateway_ref == dispute.reference)
    row = tx.scalar(select(DisputeRow).where(*same).with_for_update())
    if row is None:
        row = DisputeRow(
            id=ids.new_id(ids.DISPUTE),
            purchase_id=purchase_id,
            user_id=purchase.user_id,
            gateway=purchase.gateway,
            gateway_ref=dispute.reference,
            status="opened",
            reason=dispute.reason,
            amount_minor=dispute.amount_minor,
            currency=purchase.currency,
            due_at=dispute.due_at,
            created_at=now,
        )
        tx.add(row)
        tx.flush()
        log.event("dispute_opened", purchase_id=purchase_id, dispute_id=row.id)
    if row.status != dispute.status:
        closed_at = None if dispute.status == "opened" else now
        move(tx, DisputeRow, row.id, row.status, dispute.status, closed_at=closed_at)
        note(tx, purchase_id, "dispute_" + dispute.status, "", now)
        log.event("dispute_" + dispute.status, purchase_id=purchase_id, dispute_id=row.id)
    return row.id


def won_since(tx: Session, purchase: PurchaseRow, dispute: base.Dispute, asked_at: datetime) -> bool:
    """Whether an answer that calls a dispute open is older than the news that it was won."""
    row = tx.scalar(
        select(DisputeRow).where(
            DisputeRow.gateway == purchase.gateway, DisputeRow.gateway_ref == dispute.reference
        )
    )
    known = row is not None and row.status == "won" and row.closed_at is not None and asked_at <= row.closed_at
    return known and dispute.status == "opened"


def good_again(tx: Session, purchase_id: str, now: datetime) -> bool:
    """The money is ours after all, such as by a dispute that was won: the tokens return to whom they were taken
    from; False when that was done before.

    Spending is free again once nothing else of this buyer is bad, unless an admin froze it.
    """
    lock_parties(tx, purchase_id)
    row = locked_purchase(tx, purchase_id)
    if row.status not in BAD or row.succeeded_at is None:
        return False
    move(tx, PurchaseRow, row.id, row.status, "succeeded")
    note(tx, row.id, "good_again", "", now)
    for reference in _paid_with(tx, row.id):
        # What another bad payment paid a part of is not paid yet.
        wholly = not _other_bad(tx, reference, row.id)
        recording_sales.payment_good_again(tx, reference, now, wholly=wholly)
        passes.payment_good_again(tx, reference, now, wholly=wholly)
        if wholly:
            subscriptions.payment_good_again(tx, reference, now)
    ledger.lot_good_again(tx, row.id, cause_id=row.cause_id, now=now)
    _unfreeze(tx, row.user_id)
    balance_changed(tx, row.user_id, now)
    return True


def is_frozen(tx: Session, user_id: str) -> bool:
    """Whether this person may spend nothing for now."""
    return tx.scalar(select(PersonRow.spending_frozen_at).where(PersonRow.id == user_id)) is not None


def disputes_of(tx: Session, *, user_id: str | None = None, limit: int = 100) -> tuple[DisputeView, ...]:
    """The latest disputes, newest first: one person's, or everybody's."""
    query = select(DisputeRow).order_by(DisputeRow.created_at.desc(), DisputeRow.id).limit(limit)
    if user_id is not None:
        query = query.where(DisputeRow.user_id == user_id)
    return tuple(_view(row) for row in tx.scalars(query))


def dispute(tx: Session, dispute_id: str) -> DisputeView:
    """One dispute. Raises NotFound."""
    row = tx.get(DisputeRow, dispute_id)
    if row is None:
        raise NotFound("There is no such dispute.")
    return _view(row)


def lock_parties(tx: Session, purchase: str) -> str:
    """Lock the buyer, whose id is returned, and whoever is in a session with them: what ends here is theirs.

    First of all, as everywhere: people come before purchases. Raises NotFound.
    """
    fan_id = _found(tx, purchase).user_id
    running = select(SessionRow.creator_id).where(SessionRow.fan_id == fan_id, SessionRow.status.in_(RUNNING))
    lock_people(tx, fan_id, *tx.scalars(running))
    return fan_id


def _found(tx: Session, purchase: str) -> PurchaseRow:
    found = find_purchase(tx, purchase)
    if found is None:
        raise NotFound("There is no such purchase.")
    return found


def _paid_with(tx: Session, lot_id: str) -> Sequence[str]:
    """What was paid with a lot's tokens, whether or not that was taken back."""
    query = select(LotUseRow.reference).where(LotUseRow.lot_id == lot_id, LotUseRow.spent > 0)
    return tx.scalars(query.order_by(LotUseRow.reference)).all()


def _other_bad(tx: Session, reference: str, lot_id: str) -> bool:
    """Whether another lot than this one paid for it as well, and is bad."""
    others = select(LotUseRow.lot_id).join(LotRow, LotRow.id == LotUseRow.lot_id)
    spent = (LotUseRow.reference == reference, LotUseRow.spent > 0, LotUseRow.lot_id != lot_id)
    return tx.scalar(others.where(*spent, LotRow.bad_at.is_not(None)).limit(1)) is not None


def _end_sessions(tx: Session, references: Collection[str], now: datetime) -> None:
    if not references:
        return
    paid = select(SessionRow.id).where(SessionRow.request_id.in_(references), SessionRow.status.in_(RUNNING))
    for session_id in tx.scalars(paid.order_by(SessionRow.id)).all():
        termination.payment_failed(tx, session_id, now)


def _unfreeze(tx: Session, user_id: str) -> None:
    bad = select(PurchaseRow.id).where(
        PurchaseRow.user_id == user_id, PurchaseRow.status.in_(BAD), PurchaseRow.succeeded_at.is_not(None)
    )
    if tx.scalar(bad.limit(1)) is not None:
        return
    person = tx.get_one(PersonRow, user_id, populate_existing=True)
    # Who froze it shows in the moment: a freeze of ours has that of a purchase found bad.
    ours = select(PurchaseRow.id).where(
        PurchaseRow.user_id == user_id, PurchaseRow.bad_at == person.spending_frozen_at
    )
    if person.spending_frozen_at is not None and tx.scalar(ours.limit(1)) is not None:
        person.spending_frozen_at = None
        tx.flush()


def _view(row: DisputeRow) -> DisputeView:
    return DisputeView(
        dispute_id=row.id,
        purchase_id=row.purchase_id,
        user_id=row.user_id,
        status=row.status,
        reason=row.reason,
        amount_minor=row.amount_minor,
        currency=row.currency,
        due_at=row.due_at,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )
