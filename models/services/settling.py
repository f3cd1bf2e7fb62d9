"""The one settlement of a session: facts and wish become a row of the end table, a bill, a transfer.

Exactly once, whatever is repeated or comes late: the session's row is taken, an ended one is left alone,
and the ledger closes its hold once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models import ledger, log, lots
from models.db import insert_into
from models.flags import FlagRow
from models.machine import move
from models.services import recording_ends, rooms, stays, subscriptions
from models.services.announcements import balance_changed, session_changed
from models.services.extending import tell_of_lost
from models.sessions import SessionRow
from models.settlement import AtFault, Bill, EndFacts, PaidFor, Row, Wish, bill, resolve_row
from models.streams import StreamRow
from models.timing import timers_for

ZERO_BILLED_TO_FLAG = 3


def settle(tx: Session, session: SessionRow, facts: EndFacts | None, now: datetime) -> Bill:
    """Settle a session that the caller has locked and found un-ended, by its figures as they stand.

    ``facts`` None: no final report came. The caller has brought the figures up to date.
    """
    row = resolve_row(
        facts,
        wish=None if session.end_cause is None else msgspec.convert(session.end_cause, Wish),
        at_fault=None if session.at_fault is None else msgspec.convert(session.at_fault, AtFault),
        pause_leave_ms=timers_for(session.minute_ms).pause_leave_ms,
        hold_refused=session.hold_refused,
    )
    result = bill_now(tx, session, row)
    subscriptions.return_minutes(tx, session.request_id, result.included_used, now)
    # A call of included minutes alone has nothing to settle.
    if session.total_held > 0:
        ledger.settle(
            tx,
            session.request_id,
            creator_id=session.creator_id,
            earnings=result.earnings,
            commission=result.commission,
            key=f"settle:{session.id}",
            cause_id=session.cause_id,
            now=now,
        )
    _end(tx, session, row, facts, result, now)
    rooms.mark_closed(tx, session.room_id, now)
    stays.settled(tx, session.room_id, session.room_epoch)
    recording_ends.session_over(tx, session.id, now)
    _await_the_creator(tx, session, now)
    session_changed(tx, session, now)
    balance_changed(tx, session.fan_id, now)
    balance_changed(tx, session.creator_id, now)
    tell_of_lost(tx, session, now)
    if result.billed_minutes == 0:
        _flag_zero_billed(tx, session, now)
    log.event(
        "session_settled",
        session_id=session.id,
        cause_id=session.cause_id,
        row=row.key,
        billed_minutes=result.billed_minutes,
        delivered_ms=session.delivered_ms,
    )
    return result


def bill_now(tx: Session, session: SessionRow, row: Row) -> Bill:
    """What the session would come to if it ended by ``row`` with its figures as they stand."""
    bad = row.paid_for is PaidFor.WHOLE_FROM_GOOD_TOKENS
    return bill(
        row,
        total_held=session.total_held,
        min_minutes=session.minimum_minutes,
        paid_ms=session.acknowledged_ms,
        delivered_ms=session.delivered_ms,
        rate=session.rate_per_minute,
        commission_percent=session.commission_percent,
        minute_ms=session.minute_ms,
        included_minutes=session.included_minutes,
        unlock_price=session.unlock_price,
        live=session.live_at is not None or session.delivered_ms > 0,
        bad_tokens=lots.bad_tokens_in(tx, session.request_id) if bad else 0,
    )


def _end(tx: Session, session: SessionRow, row: Row, facts: EndFacts | None, result: Bill, now: datetime) -> None:
    seen = facts or EndFacts(
        fact="closed", creator_connected=session.creator_connected, fan_connected=session.fan_connected
    )
    move(
        tx,
        SessionRow,
        session.id,
        session.status,
        "ended",
        end_time=now,
        end_row=row.key,
        end_reason=row.reason,
        end_fact=None if facts is None else facts.fact,
        creator_connected=seen.creator_connected,
        fan_connected=seen.fan_connected,
        pause_cause=seen.pause_cause,
        paused_for_ms=seen.paused_for_ms,
        actual_duration_minutes=-(-session.delivered_ms // session.minute_ms),
        billed_minutes=result.billed_minutes,
        included_used=result.included_used,
        unlock_earned=result.unlock_earned,
        next_hold_at=None,
        total_earnings=result.earnings,
        commission=result.commission,
        refunded=result.refunded,
        deadline_at=None,
        deadline_kind=None,
    )


def _await_the_creator(tx: Session, session: SessionRow, now: datetime) -> None:
    """Back to public is one press away; a stream whose creator never decides ends by the clock."""
    tx.execute(
        update(StreamRow)
        .where(StreamRow.id == session.stream_id, StreamRow.status == "private")
        .values(creator_gone_at=now),
        execution_options={"synchronize_session": False},
    )


def _flag_zero_billed(tx: Session, session: SessionRow, now: datetime) -> None:
    """The same pair, again and again without a billed minute: somebody should look."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    count = tx.scalar(
        select(func.count())
        .select_from(SessionRow)
        .where(
            SessionRow.creator_id == session.creator_id,
            SessionRow.fan_id == session.fan_id,
            SessionRow.billed_minutes == 0,
            SessionRow.end_time >= midnight,
            SessionRow.end_time < midnight + timedelta(days=1),
        )
    )
    if (count or 0) < ZERO_BILLED_TO_FLAG:
        return
    flag = insert_into(tx, FlagRow).values(
        kind="zero_billed_pair",
        creator_id=session.creator_id,
        fan_id=session.fan_id,
        day=midnight.date().isoformat(),
        session_id=session.id,
        created_at=now,
    )
    tx.execute(flag.on_conflict_do_nothing())
