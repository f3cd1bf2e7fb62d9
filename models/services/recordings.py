"""Recording a private session with two keys: off unless both sides have signed for it in that very call.

One recording a session: who withdraws ends it for good, and what was recorded till then stays under the
consent that it was made with, until either side deletes it or it expires (docs/decisions/0013). Knows neither
files nor what the recording costs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import consents, ids, log, outbox
from models.clock import rfc3339
from models.consents import Act, Record, Side, Terms
from models.db import insert_into
from models.errors import Conflict, Invalid, NotFound
from models.machine import move
from models.messages.routing import RECORDING_ACTOR, TRANSCODE_QUEUE
from models.people import PersonRow
from models.receipt_keys import SigningKey
from models.recordings import (
    HIGHEST_PRICE,
    STANDING,
    RecordingConsentRow,
    RecordingOfferRow,
    RecordingRow,
)
from models.services import receipt_chain, recording_ends
from models.services.locks import locked
from models.services.recording_ends import Told
from models.sessions import SessionRow

IN_CALL = ("live", "paused")


class Offer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a creator offers; ``price`` in tokens for the fan, 0 is free of charge."""

    offered: bool = False
    price: int = 0
    shared: bool = False


class RecordingView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session's recording as one of its sides sees it. ``mine``, ``theirs``: whose consent stands;
    ``offered``: it can be asked for now."""

    session_id: str
    recording_id: str | None
    role: Side
    offered: bool
    status: Literal["none", "asked", "wanted", "running", "finishing", "kept", "gone"]
    terms: Terms
    text: tuple[str, ...]
    mine: bool
    theirs: bool
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    stop_reason: str | None = None
    stopped_by_me: bool = False
    duration_ms: int | None = None
    size: int | None = None
    expires_at: datetime | None = None
    paid: bool = False
    refund: Literal["none", "due", "given"] = "none"
    may_watch: bool = False
    gone_reason: str | None = None
    gone_by_me: bool = False


# --- what a creator offers -----------------------------------------------------------------------------


def get_offer(tx: Session, creator_id: str) -> Offer:
    """What the creator offers, or nothing. Raises NotFound for no creator."""
    person = tx.get(PersonRow, creator_id)
    if person is None or not person.is_creator:
        raise NotFound("There is no such creator.")
    row = tx.get(RecordingOfferRow, creator_id, populate_existing=True)
    if row is None:
        return Offer()
    return Offer(offered=row.offered, price=row.price_tokens, shared=row.shared)


def put_offer(tx: Session, creator_id: str, offer: Offer) -> Offer:
    """Save what the creator offers; what was asked for keeps its terms. Raises NotFound, Invalid (``field``)."""
    get_offer(tx, creator_id)
    if not 0 <= offer.price <= HIGHEST_PRICE:
        raise Invalid(f"Choose 0 to {HIGHEST_PRICE:,} tokens.", field="price")
    values = {"offered": offer.offered, "price_tokens": offer.price, "shared": offer.shared}
    tx.execute(
        insert_into(tx, RecordingOfferRow)
        .values(creator_id=creator_id, **values)
        .on_conflict_do_update(index_elements=["creator_id"], set_=values)
    )
    return get_offer(tx, creator_id)


# --- the two keys --------------------------------------------------------------------------------------


def consent(
    tx: Session, session_id: str, *, person_id: str, seen: Terms, keep_days: int, key: SigningKey, now: datetime
) -> None:
    """One side agrees, in the call, to the terms that it has ``seen``; with the other side's it may begin.

    Again by the same side is the same. Raises NotFound, Conflict SESSION_NOT_LIVE, RECORDING_NOT_OFFERED,
    RECORDING_OVER, RECORDING_TERMS_CHANGED (carries the terms as they are).
    """
    session = _own(tx, session_id, person_id)
    if session.status not in IN_CALL:
        raise Conflict("Both agree in the call, while it runs.", code="SESSION_NOT_LIVE")
    row = _locked(tx, session_id) or _asked(tx, session, keep_days, now)
    if row.status not in ("asked", *STANDING):
        raise Conflict("This call's recording is over; it is not begun twice.", code="RECORDING_OVER")
    if row.fan_consent_id is None and row.creator_consent_id is None:
        _copy_terms(row, _offered(tx, session.creator_id), keep_days)
    if (terms := _terms(row)) != seen:
        now_so = {"price": terms.price, "shared": terms.shared, "keep_days": terms.keep_days}
        raise Conflict("The terms are others now.", code="RECORDING_TERMS_CHANGED", **now_so)
    side = _side(row, person_id)
    if _standing(row, side):
        return
    _stand(row, side, _sign(tx, row, side, "given", key, now))
    tx.flush()
    log.event("recording_consented", session_id=session_id, recording_id=row.id, side=side)
    if row.fan_consent_id is not None and row.creator_consent_id is not None:
        move(tx, RecordingRow, row.id, "asked", "wanted", wanted_at=now)
        outbox.actor(tx, TRANSCODE_QUEUE, RECORDING_ACTOR, row.id, cause_id=session.cause_id, now=now)
    recording_ends.changed(tx, row, now)


def withdraw(tx: Session, session_id: str, *, person_id: str, key: SigningKey, now: datetime) -> Told | None:
    """One side takes its consent back; what runs stops for good. Safe to repeat. Raises NotFound.

    What was returned is to be sent to the node at once, and is in the outbox as well.
    """
    _own(tx, session_id, person_id)
    row = _locked(tx, session_id)
    if row is None:
        raise NotFound("There is no recording of this call.")
    side = _side(row, person_id)
    if row.status == "finishing" and row.stop_reason == "withdrawn":
        # The node may not have confirmed it the first time.
        return recording_ends.tell_node(tx, row, now)
    if row.status not in ("asked", *STANDING) or not _standing(row, side):
        return None
    _sign(tx, row, side, "withdrawn", key, now)
    log.event("recording_withdrawn", session_id=session_id, recording_id=row.id, side=side)
    if row.status == "asked":
        _stand(row, side, None)
        tx.flush()
        recording_ends.changed(tx, row, now)
        return None
    recording_ends.stop(tx, row, "withdrawn", now, by_id=person_id)
    return recording_ends.tell_node(tx, row, now)


def consent_records(tx: Session, session_id: str) -> tuple[str, ...]:
    """What both sides have signed about this session's recording, oldest first, canonical JSON."""
    return tuple(
        tx.scalars(
            select(RecordingConsentRow.document)
            .join(RecordingRow, RecordingRow.id == RecordingConsentRow.recording_id)
            .where(RecordingRow.session_id == session_id)
            .order_by(RecordingConsentRow.number)
        )
    )


# --- small things --------------------------------------------------------------------------------------


def view(tx: Session, session_id: str, person_id: str, keep_days: int) -> RecordingView:
    """The recording as one side sees it; its terms, where nobody has asked yet, as they would be now.

    Raises NotFound for anybody but the two.
    """
    session = tx.get(SessionRow, session_id)
    if session is None or person_id not in (session.fan_id, session.creator_id):
        raise NotFound("There is no such session.")
    role: Side = "fan" if person_id == session.fan_id else "creator"
    offer = get_offer(tx, session.creator_id)
    row = tx.scalar(recording_ends.of(session_id))
    asked = row is not None and not (
        row.status == "asked" and row.fan_consent_id is None and row.creator_consent_id is None
    )
    if row is None or not asked:
        terms = Terms(price=offer.price, shared=offer.shared, keep_days=keep_days)
        return RecordingView(
            session_id=session_id, recording_id=None, role=role,
            offered=offer.offered and session.status in IN_CALL, status="none",
            terms=terms, text=consents.words(terms), mine=False, theirs=False,
        )  # fmt: skip
    terms = _terms(row)
    other: Side = "creator" if role == "fan" else "fan"
    return RecordingView(
        session_id=session_id,
        recording_id=row.id,
        role=role,
        offered=True,
        status=msgspec.convert(row.status, Literal["asked", "wanted", "running", "finishing", "kept", "gone"]),
        terms=terms,
        text=consents.words(terms),
        mine=_standing(row, role),
        theirs=_standing(row, other),
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        stop_reason=row.stop_reason,
        stopped_by_me=row.stopped_by == person_id,
        duration_ms=row.duration_ms,
        size=row.size,
        expires_at=row.expires_at,
        paid=row.paid_at is not None,
        refund="given" if row.refunded_at else "due" if row.refund_due_at else "none",
        may_watch=may_watch(row, person_id),
        gone_reason=row.gone_reason,
        gone_by_me=row.gone_by == person_id,
    )


def may_watch(row: RecordingRow, person_id: str) -> bool:
    """Whether there is something that this person may watch now. Nobody but the two ever may."""
    if row.status != "kept":
        return False
    if person_id == row.creator_id:
        return True
    paid = row.price_tokens == 0 or (row.paid_at is not None and row.taken_back_at is None)
    return person_id == row.fan_id and row.shared and paid


def _own(tx: Session, session_id: str, person_id: str) -> SessionRow:
    """The session, locked before its recording, as everywhere."""
    session = locked(tx, SessionRow, session_id)
    if session is None or person_id not in (session.fan_id, session.creator_id):
        raise NotFound("There is no such session.")
    return session


def _locked(tx: Session, session_id: str) -> RecordingRow | None:
    return tx.scalar(recording_ends.of(session_id).with_for_update(key_share=True))


def _offered(tx: Session, creator_id: str) -> Offer:
    offer = get_offer(tx, creator_id)
    if not offer.offered:
        raise Conflict("The creator offers no recordings.", code="RECORDING_NOT_OFFERED")
    return offer


def _asked(tx: Session, session: SessionRow, keep_days: int, now: datetime) -> RecordingRow:
    row = RecordingRow(
        id=ids.new_id(ids.RECORDING),
        session_id=session.id,
        room_id=session.room_id,
        fan_id=session.fan_id,
        creator_id=session.creator_id,
        status="asked",
        commission_percent=session.commission_percent,
        asked_at=now,
        epoch=0,
    )
    _copy_terms(row, _offered(tx, session.creator_id), keep_days)
    tx.add(row)
    tx.flush()
    return row


def _copy_terms(row: RecordingRow, offer: Offer, keep_days: int) -> None:
    """From here on they are what both agree to, whatever the creator changes."""
    row.price_tokens, row.shared, row.keep_days = offer.price, offer.shared, keep_days
    row.text_version = consents.TEXT_VERSION


def _terms(row: RecordingRow) -> Terms:
    return Terms(price=row.price_tokens, shared=row.shared, keep_days=row.keep_days, text_version=row.text_version)


def _side(row: RecordingRow, person_id: str) -> Side:
    return "fan" if person_id == row.fan_id else "creator"


def _standing(row: RecordingRow, side: Side) -> bool:
    return (row.fan_consent_id if side == "fan" else row.creator_consent_id) is not None


def _stand(row: RecordingRow, side: Side, consent_id: str | None) -> None:
    if side == "fan":
        row.fan_consent_id = consent_id
    else:
        row.creator_consent_id = consent_id


def _sign(tx: Session, row: RecordingRow, side: Side, act: Act, key: SigningKey, now: datetime) -> str:
    """Write the signed record of an act; its id. The caller has locked the recording."""
    receipt_chain.remember(tx, key, now)
    last = tx.execute(
        select(RecordingConsentRow.number, RecordingConsentRow.hash)
        .where(RecordingConsentRow.recording_id == row.id)
        .order_by(RecordingConsentRow.number.desc())
        .limit(1)
    ).one_or_none()
    number, previous_hash = (1, None) if last is None else (last.number + 1, last.hash)
    terms = _terms(row)
    record = Record(
        consent_id=ids.new_id(ids.CONSENT),
        recording_id=row.id,
        session_id=row.session_id,
        person_id=row.fan_id if side == "fan" else row.creator_id,
        side=side,
        act=act,
        at=rfc3339(now),
        terms=terms,
        text=consents.words(terms),
    )
    sealed = consents.sign(record, key, number=number, previous_hash=previous_hash)
    tx.add(
        RecordingConsentRow(
            id=record.consent_id,
            recording_id=row.id,
            number=number,
            person_id=record.person_id,
            act=act,
            key_id=key.key_id,
            hash=sealed.hash,
            document=sealed.text,
            created_at=now,
        )
    )
    tx.flush()
    return record.consent_id
