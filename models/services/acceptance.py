"""Accepting a request, by hand or by rule: one winner, and everything that follows from it at once.

All refusals come before the first change. The people's rows are taken first, so that of two acceptances of
one fan, or by one creator, the second sees the first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy.orm import Session

from models import ids, log
from models.errors import Conflict, NotFound
from models.machine import move
from models.people import BlockRow
from models.requests import RequestRow
from models.services import engaged, offers, placement, presence, queueing, rooms, streams, unlocks
from models.services.announcements import session_changed, tell
from models.services.closing import close_request, open_requests
from models.services.ending import open_by
from models.services.engaged import in_session
from models.services.locks import lock_people, locked
from models.sessions import SessionRow
from models.streams import StreamRow
from models.timing import timers_for

AcceptedBy = Literal["creator", "rule", "unlock"]


class AcceptedView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The session that an accepted request became."""

    session_id: str
    room_id: str
    status: str


def accept(
    tx: Session, request_id: str, *, creator_id: str, now: datetime, by: AcceptedBy = "creator"
) -> AcceptedView:
    """Accept a pending request: the hold becomes the session's budget, the stream goes private.

    Also from one private stream to the next. Raises NotFound, Conflict (REQUEST_NOT_PENDING, CREATOR_BUSY,
    STREAM_NOT_LIVE, FAN_BUSY, FAN_AWAY, CREATOR_UNAVAILABLE, FAN_BOOKED), Unavailable without a media node.
    """
    request, stream = _acceptable(tx, request_id, creator_id, now)
    node_id = placement.pick_node(tx, "private", now, instead_of=(creator_id,))
    if by != "unlock":
        unlocks.drop(tx, request, now)
    move(tx, RequestRow, request.id, "pending", "accepted", answered_at=now, accepted_by=by)
    session = begin(tx, request, stream, node_id, now)
    tell(
        tx,
        request.fan_id,
        "PRIVATE_ACCEPTED",
        now,
        requestId=request.id,
        sessionId=session.id,
        roomId=session.room_id,
    )
    log.event("request_accepted", request_id=request.id, session_id=session.id, by=by, cause_id=session.cause_id)
    return AcceptedView(session_id=session.id, room_id=session.room_id, status=session.status)


def apply_rule(tx: Session, request_id: str, now: datetime) -> bool:
    """Accept a request if its creator's rule, or its instant unlock, says so and it can be; whether it was.

    One that is not accepted stays pending, and the price of an unlock that could not be comes back. Raises
    Unavailable when there is no media node.
    """
    request = tx.get(RequestRow, request_id)
    if request is None:
        return False
    by = _at_once(tx, request, now)
    if by is None:
        if request.unlock_price > 0 and (open_one := locked(tx, RequestRow, request_id)) is not None:
            unlocks.drop(tx, open_one, now)
        return False
    try:
        accept(tx, request_id, creator_id=request.creator_id, now=now, by=by)
    except Conflict as refusal:
        # All of accept's refusals come before its first change, so the transaction is still clean.
        log.event("rule_left_pending", request_id=request_id, by=by, code=refusal.code)
        unlocks.drop(tx, request, now)
        return False
    return True


def _at_once(tx: Session, request: RequestRow, now: datetime) -> AcceptedBy | None:
    """What accepts the request without its creator; the rule first, since it costs nothing."""
    if tx.get(BlockRow, (request.creator_id, request.fan_id)) is not None:
        return None
    offer = offers.get_settings(tx, request.creator_id)
    if offers.accepts_at_once(tx, request.fan_id, offer, now):
        return "rule"
    return "unlock" if request.unlock_price > 0 else None


def begin(
    tx: Session,
    request: RequestRow,
    stream: StreamRow,
    node_id: str,
    now: datetime,
    connecting_ms: int | None = None,
) -> SessionRow:
    """The session of a request that is accepted now, and everything that follows from it.

    The caller has locked both people and the stream, and found both free. ``connecting_ms``: how long both
    have to connect, where that is not the usual time.
    """
    _release_others(tx, request, now)
    streams.go_private(tx, stream, now)
    session = _open_session(tx, request, node_id, now, connecting_ms)
    session_changed(tx, session, now)
    return session


def _acceptable(tx: Session, request_id: str, creator_id: str, now: datetime) -> tuple[RequestRow, StreamRow]:
    seen = tx.get(RequestRow, request_id)
    if seen is None or seen.creator_id != creator_id:
        raise NotFound("There is no such request.")
    lock_people(tx, seen.fan_id, creator_id)
    stream = locked(tx, StreamRow, seen.stream_id)
    request = locked(tx, RequestRow, request_id)
    if request is None or request.status != "pending" or request.expires_at <= now:
        status = "expired" if request is None or request.status == "pending" else request.status
        raise Conflict("The request is not pending any more.", code="REQUEST_NOT_PENDING", status=status)
    if tx.get(BlockRow, (creator_id, request.fan_id), populate_existing=True) is not None:
        # Asked for in the very moment of the block; the clock closes it.
        raise Conflict("You have blocked this fan.", code="REQUEST_NOT_PENDING", status="declined")
    if in_session(tx, creator_id):
        raise Conflict("You are in a private stream.", code="CREATOR_BUSY")
    if stream is None or stream.status == "ended":
        raise Conflict("Your public stream has ended.", code="STREAM_NOT_LIVE")
    if in_session(tx, request.fan_id):
        raise Conflict("The fan is in another private stream.", code="FAN_BUSY")
    gone_ms = timers_for(request.minute_ms).feed_gone_ms
    if not presence.feed_present(tx, request.fan_id, now, gone_ms):
        raise Conflict("The fan is away.", code="FAN_AWAY")
    engaged.require_unbooked(
        tx,
        creator_id=creator_id,
        fan_id=request.fan_id,
        now=now,
        minutes=max(request.requested_minutes, request.minimum_minutes),
        minute_ms=request.minute_ms,
    )
    return request, stream


def _release_others(tx: Session, accepted: RequestRow, now: datetime) -> None:
    """Neither of the two can keep another promise now; the creator's others wait, if there is a queue."""
    for other in open_requests(tx, fan_id=accepted.fan_id):
        close_request(tx, other, "cancelled", now, because="fan_busy")
    queueing.send_back(tx, accepted.creator_id, now)


def _open_session(
    tx: Session, request: RequestRow, node_id: str, now: datetime, connecting_ms: int | None
) -> SessionRow:
    session_id = ids.new_id(ids.SESSION)
    paid_minutes = max(request.requested_minutes, request.minimum_minutes)
    session = SessionRow(
        id=session_id,
        request_id=request.id,
        fan_id=request.fan_id,
        creator_id=request.creator_id,
        stream_id=request.stream_id,
        room_id=ids.private_room(session_id),
        node_id=node_id,
        status="connecting",
        cause_id=request.cause_id,
        requested_minutes=request.requested_minutes,
        minimum_minutes=request.minimum_minutes,
        rate_per_minute=request.rate_per_minute,
        discount_percent=request.discount_percent,
        commission_percent=request.commission_percent,
        minute_ms=request.minute_ms,
        payment_mode=request.payment_mode,
        included_minutes=request.included_minutes,
        unlock_price=request.unlock_price,
        connecting_ms=connecting_ms,
        paid_minutes=paid_minutes,
        paid_ms=paid_minutes * request.minute_ms,
        acknowledged_ms=0,
        total_held=request.total_cost,
        delivered_ms=0,
        creator_pause_ms=0,
        node_pause_ms=0,
        last_sequence=-1,
        paused_for_ms=0,
        creator_connected=False,
        fan_connected=False,
        start_time=now,
        deadline_kind="open",
        deadline_at=open_by(timers_for(request.minute_ms), now),
    )
    tx.add(session)
    tx.flush()
    rooms.open_room(
        tx, rooms.private_spec(tx, session), kind="private", node_id=node_id, cause_id=session.cause_id, now=now
    )
    return session
