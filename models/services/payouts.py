"""Payouts: cleared earnings leave the ledger in one transaction, and the gateway is asked outside of any.

``requested → paid | failed``; a paid one fails after all when the bank sends it back days later. The payout's
id is the gateway's idempotency key, so an answer that was lost is asked for again and money leaves once; what
the gateway refuses comes back to the creator.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ids, ledger, log, outbox
from models.db import Database, insert_into
from models.earnings import PayoutAccountRow, PayoutRow
from models.errors import Conflict, Forbidden, Invalid, NotFound
from models.gateways.base import PaymentGateway, PayoutAccount, PayoutResult
from models.machine import move
from models.services import earnings
from models.services.announcements import balance_changed, tell
from models.services.earnings import PayoutTerms, PayoutView, payout_view
from models.services.locks import lock_people, locked

ASK_AGAIN = timedelta(minutes=5)
"""A payout without an answer for this long is asked about again."""
MOST_AT_ONCE = 100
_REFUSALS = {
    "PAYOUTS_FROZEN": "Payouts are stopped until a question about this account is cleared up.",
    "DEBT_FIRST": "What is owed back comes first: the next earnings that clear pay it.",
    "PAYOUT_PENDING": "A payout is on its way; the next can be asked for when it has arrived.",
    "BELOW_MINIMUM": "Less than the smallest payout is payable.",
    "NO_PAYOUT_ACCOUNT": "Tell the payment provider first where the money goes.",
}


class Onboarded(msgspec.Struct, frozen=True, kw_only=True):
    """Where the creator goes on, at the provider's."""

    url: str


def request(
    tx: Session,
    creator_id: str,
    *,
    tokens: int,
    terms: PayoutTerms,
    gateway: str,
    cause_id: str,
    now: datetime,
) -> PayoutView:
    """Pay ``tokens`` out. They leave the creator's cleared earnings now; a worker asks the gateway.

    Raises Forbidden PAYOUTS_FROZEN, Conflict DEBT_FIRST, PAYOUT_PENDING, BELOW_MINIMUM, NO_PAYOUT_ACCOUNT,
    Invalid for fewer than the minimum or more than is payable.
    """
    lock_people(tx, creator_id)
    payable = earnings.payable(tx, creator_id, terms, now)
    reason = earnings.blocked_by(tx, creator_id, payable, terms, gateway)
    if reason == "PAYOUTS_FROZEN":
        raise Forbidden(_REFUSALS[reason], code=reason)
    if reason is not None:
        raise Conflict(_REFUSALS[reason], code=reason, payable=payable.tokens, minimum=terms.minimum_tokens)
    if not terms.minimum_tokens <= tokens <= payable.tokens:
        raise Invalid(f"Choose {terms.minimum_tokens:,} to {payable.tokens:,} tokens.", field="tokens")
    account = tx.get_one(PayoutAccountRow, (creator_id, gateway))
    payout_id = ids.new_id(ids.PAYOUT)
    transfer = ledger.payout(
        tx, creator_id, tokens, key=f"payout:{payout_id}", reference=payout_id, cause_id=cause_id, now=now
    )
    row = PayoutRow(
        id=payout_id,
        creator_id=creator_id,
        status="requested",
        tokens=tokens,
        amount_minor=tokens * terms.minor_per_token,
        currency=terms.currency,
        gateway=gateway,
        account_ref=account.account_ref,
        transfer_id=transfer.transfer_id,
        cause_id=cause_id,
        requested_at=now,
        asked_at=now,
    )
    tx.add(row)
    tx.flush()
    outbox.actor(tx, "payments", "send_payout", payout_id, cause_id=cause_id, now=now)
    _tell(tx, row, now)
    return payout_view(row)


def send(db: Database, gateway: PaymentGateway, payout_id: str, now: datetime) -> str:
    """A worker's part: ask the gateway to pay, or what became of it; the payout's status afterwards.

    Safe to repeat at any point. Raises Unavailable when nobody knows whether money moved: asking again is
    the way to find out.
    """
    with db.reading() as tx:
        row = tx.get(PayoutRow, payout_id)
    if row is None:
        raise NotFound("There is no such payout.")
    if row.status == "failed" or (row.status == "paid" and row.gateway_ref is None):
        return row.status
    if row.gateway != gateway.name:
        raise Conflict("It was asked of another gateway.", code="OTHER_GATEWAY")
    if row.gateway_ref is None:
        result = gateway.payout(row.account_ref, row.amount_minor, row.currency, payout_id)
    else:
        result = gateway.payout_status(row.gateway_ref)
    return db.run(lambda tx: record(tx, payout_id, result, now))


def record(tx: Session, payout_id: str, result: PayoutResult, now: datetime) -> str:
    """What the gateway answered; again is no harm. A refused payout comes back to the creator's earnings."""
    row = _locked(tx, payout_id)
    # Once money has arrived, only a bank that sends it back is news.
    if row.status == "failed" or (row.status == "paid" and result.status != "failed"):
        return row.status
    if result.status == "pending":
        row.gateway_ref, row.detail = result.reference, result.detail
        tx.flush()
        return row.status
    values = {"gateway_ref": result.reference or None, "detail": result.detail, "finished_at": now}
    if result.status == "failed":
        back = ledger.payout_return(tx, row.transfer_id, cause_id=row.cause_id, now=now)
        values["return_transfer_id"] = back.transfer_id
    move(tx, PayoutRow, payout_id, row.status, result.status, **values)
    tx.refresh(row)
    _tell(tx, row, now)
    level = logging.WARNING if result.status == "failed" else logging.INFO
    log.event("payout_finished", level=level, payout_id=payout_id, cause_id=row.cause_id, status=result.status)
    return row.status


def ask_again(tx: Session, now: datetime) -> None:
    """The clock's job: have workers ask about payouts that have been without an answer for a while."""
    waiting = (
        select(PayoutRow)
        .where(PayoutRow.status == "requested", PayoutRow.asked_at <= now - ASK_AGAIN)
        .order_by(PayoutRow.asked_at)
        .limit(MOST_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for row in tx.scalars(waiting).all():
        row.asked_at = now
        outbox.actor(tx, "payments", "send_payout", row.id, cause_id=row.cause_id, now=now)


def all_of(tx: Session, *statuses: str, limit: int = 100) -> Sequence[PayoutRow]:
    """Payouts in these states (any, if none is named), newest first: for admins."""
    query = select(PayoutRow).order_by(PayoutRow.requested_at.desc(), PayoutRow.id).limit(limit)
    return tx.scalars(query.where(PayoutRow.status.in_(statuses)) if statuses else query).all()


def onboard(
    db: Database, gateway: PaymentGateway, creator_id: str, *, return_url: str, account: str | None, now: datetime
) -> Onboarded:
    """The provider's form for the creator's bank account; ``account`` chooses one of a sandbox's.

    Raises Invalid for an account that the sandbox has not, Unavailable.
    """
    with db.reading() as tx:
        known = tx.get(PayoutAccountRow, (creator_id, gateway.name))
    begun = gateway.onboard(
        creator_id,
        account_ref=None if known is None or account else known.account_ref,
        return_url=return_url,
        account=account,
    )
    db.run(lambda tx: _keep_account(tx, creator_id, gateway.name, begun.account_ref, now))
    refresh_account(db, gateway, creator_id, now)
    return Onboarded(url=begun.url)


def refresh_account(db: Database, gateway: PaymentGateway, creator_id: str, now: datetime) -> str:
    """Ask the provider whether it pays out to the creator by now: ``none``, ``unfinished`` or ``ready``."""
    with db.reading() as tx:
        known = tx.get(PayoutAccountRow, (creator_id, gateway.name))
    if known is None:
        return "none"
    found = gateway.account_status(known.account_ref)
    db.run(lambda tx: account_changed(tx, gateway.name, found, now))
    return "ready" if found.ready else "unfinished"


def account_changed(tx: Session, gateway: str, found: PayoutAccount, now: datetime) -> None:
    """The provider said how an account stands; one that we do not know is nobody's."""
    row = tx.scalar(
        select(PayoutAccountRow)
        .where(PayoutAccountRow.gateway == gateway, PayoutAccountRow.account_ref == found.reference)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        return
    changed = row.ready != found.ready
    row.ready, row.checked_at = found.ready, now
    tx.flush()
    if changed:
        tell(tx, row.creator_id, "PAYOUT_CHANGED", now, account="ready" if found.ready else "unfinished")


def payout_of_reference(tx: Session, gateway: str, reference: str) -> str | None:
    """Our payout behind a gateway's reference: for its webhooks."""
    return tx.scalar(select(PayoutRow.id).where(PayoutRow.gateway == gateway, PayoutRow.gateway_ref == reference))


def _keep_account(tx: Session, creator_id: str, gateway: str, account_ref: str, now: datetime) -> None:
    row = insert_into(tx, PayoutAccountRow).values(
        creator_id=creator_id, gateway=gateway, account_ref=account_ref, ready=False, checked_at=now
    )
    again = {"account_ref": account_ref, "ready": False, "checked_at": now}
    tx.execute(row.on_conflict_do_update(index_elements=["creator_id", "gateway"], set_=again))


def _locked(tx: Session, payout_id: str) -> PayoutRow:
    creator_id = tx.scalar(select(PayoutRow.creator_id).where(PayoutRow.id == payout_id))
    if creator_id is None:
        raise NotFound("There is no such payout.")
    lock_people(tx, creator_id)
    row = locked(tx, PayoutRow, payout_id)
    assert row is not None
    return row


def _tell(tx: Session, row: PayoutRow, now: datetime) -> None:
    balance_changed(tx, row.creator_id, now)
    tell(tx, row.creator_id, "PAYOUT_CHANGED", now, payoutId=row.id, status=row.status, detail=row.detail or None)
