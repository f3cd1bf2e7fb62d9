"""The figures of the whole house that operators watch, out of the database: one place, bounded queries.

Every process that is asked gives the same ones, whichever process did the work. Counts of rows with history
stop at ``MOST_COUNTED``, so that a scrape costs the same in ten years.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.bookings import BookingRow
from models.earnings import AmendmentRow, ComplaintRow, PayoutRow
from models.machine import Machine
from models.payments import DisputeRow, PurchaseRow, RefundRow
from models.people import PersonRow
from models.receipts import ReceiptRow
from models.requests import OPEN, RequestRow
from models.services import audits, book_search, dead_letters, nodes, processes, queues
from models.sessions import SessionRow
from models.streams import RoomRow, StreamRow

MOST_COUNTED = 100_000

_BY_STATUS: tuple[tuple[str, str, type[Machine]], ...] = (
    ("requests", "Requests for private streams", RequestRow),
    ("sessions", "Private sessions", SessionRow),
    ("bookings", "Bookings", BookingRow),
    ("streams", "Public streams", StreamRow),
    ("purchases", "Purchases of tokens", PurchaseRow),
    ("disputes", "Disputed payments", DisputeRow),
    ("purchase_refunds", "Refunds of unused tokens", RefundRow),
    ("payouts", "Payouts to creators", PayoutRow),
    ("complaints", "Complaints about sessions", ComplaintRow),
)


class Figure(NamedTuple):
    """One number: its name, what it means, its labels."""

    name: str
    meaning: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def figures(tx: Session, now: datetime) -> Iterator[Figure]:
    """All of them; what nobody knows is left out, never 0."""
    yield from _messages(tx, now)
    yield from _counts(tx)
    yield from _money(tx, now)
    yield from _media(tx, now)
    for kind in ("clock", "worker", "web"):
        alive = [each for each in processes.processes(tx, now) if each.kind == kind and each.alive]
        yield Figure("processes", "Processes that are alive", len(alive), (("kind", kind),))


def _messages(tx: Session, now: datetime) -> Iterator[Figure]:
    for row in queues.latest(tx, now):
        label = (("queue", row.queue),)
        for name, meaning, value in (
            ("queue_ready", "Messages that wait", row.ready),
            ("queue_unacked", "Messages in workers' hands", row.unacked),
            ("queue_delayed", "Retries that wait for their time", row.delayed),
            ("queue_consumers", "Workers that read the queue", row.consumers),
            ("queue_dead", "Letters in the broker that are not taken in yet", row.dead),
            ("queue_in_per_second", "Messages in a second", row.in_rate),
            ("queue_out_per_second", "Messages done a second", row.out_rate),
            ("queue_oldest_seconds", "Age of the first that waits", _seconds(row.oldest_ms)),
        ):
            if value is not None:
                yield Figure(name, meaning, value, label)
        for source, answers in (("broker", row.declared), ("management", row.managed)):
            labels = (*label, ("source", source))
            yield Figure("queue_source_up", "Whether that source told the last sample", answers, labels)
    outbox = queues.outbox_depth(tx, now)
    yield Figure("outbox_unpublished", "Messages that committed and are not published", outbox.depth)
    yield Figure("outbox_oldest_seconds", "Age of the oldest of them", outbox.oldest_ms / 1000)
    for status, count in dead_letters.counts(tx).items():
        yield Figure("dead_letters", "Dead letters by what was decided", count, (("status", status),))


def _counts(tx: Session) -> Iterator[Figure]:
    for name, meaning, table in _BY_STATUS:
        for status in table.ALLOWED:
            some = select(table.id).where(table.status == status).limit(MOST_COUNTED).subquery()
            count = tx.scalar(select(func.count()).select_from(some)) or 0
            yield Figure(name, f"{meaning} by status, {MOST_COUNTED} at most", count, (("status", status),))


def _money(tx: Session, now: datetime) -> Iterator[Figure]:
    for kind, tokens in book_search.totals(tx).items():
        yield Figure("ledger_tokens", "Tokens on all accounts of a kind", tokens, (("kind", kind),))
    asked = select(func.coalesce(func.sum(RequestRow.total_cost), 0)).where(RequestRow.status.in_(OPEN))
    running = select(func.coalesce(func.sum(SessionRow.total_held), 0)).where(SessionRow.status != "ended")
    booked = select(func.coalesce(func.sum(BookingRow.total_cost), 0)).where(BookingRow.status == "booked")
    for purpose, query in (("requests", asked), ("sessions", running), ("bookings", booked)):
        yield Figure("held_tokens", "Tokens held, by what for", int(tx.scalar(query) or 0), (("for", purpose),))
    unsigned = select(SessionRow.id).where(SessionRow.status == "ended", SessionRow.receipt_at.is_(None))
    yield Figure("receipts_waiting", "Ended sessions without a signed receipt", _some(tx, unsigned))
    amended = select(AmendmentRow.id).where(AmendmentRow.issued_at.is_(None))
    yield Figure("receipt_amendments_waiting", "Amendments that are not signed yet", _some(tx, amended))
    lately = now - timedelta(hours=1)
    signed = select(ReceiptRow.hash).where(ReceiptRow.issued_at > lately)
    yield Figure("receipts_last_hour", "Receipts signed in the last hour", _some(tx, signed))
    settled = select(SessionRow.id).where(SessionRow.status == "ended", SessionRow.end_time > lately)
    yield Figure("settlements_last_hour", "Sessions settled in the last hour", _some(tx, settled))
    frozen = select(PersonRow.id).where(PersonRow.spending_frozen_at.is_not(None))
    yield Figure("people_frozen", "People whose spending is frozen", _some(tx, frozen))
    last = next((run for run in audits.runs(tx) if run.status == "done" and run.finished_at), None)
    if last is not None and last.finished_at is not None:
        yield Figure("audit_problems", "What the last audit found", len(last.problems))
        yield Figure("audit_age_seconds", "Since the last audit", (now - last.finished_at).total_seconds())


def _media(tx: Session, now: datetime) -> Iterator[Figure]:
    for node in nodes.nodes(tx, now):
        label = (("node", node.node_id),)
        yield Figure("media_node_up", "Whether the media node reports", node.alive, label)
        yield Figure("media_node_rooms", "Rooms placed on it", node.rooms, label)
        yield Figure("media_node_participants", "Participants, as placement counts them", node.load, label)
        yield Figure("media_node_capacity", "Participants it is made for", node.capacity, label)
    rows = tx.execute(
        select(RoomRow.kind, RoomRow.status, func.count(), func.coalesce(func.sum(RoomRow.viewers), 0))
        .where(RoomRow.status != "closed")
        .group_by(RoomRow.kind, RoomRow.status)
    )
    for kind, status, count, viewers in rows:
        labels = (("kind", kind), ("status", status))
        yield Figure("rooms", "Rooms that are not closed", int(count), labels)
        yield Figure("room_viewers", "People in those rooms, creators not counted", int(viewers), labels)


def _some(tx: Session, query: object) -> int:
    """How many rows the query has, MOST_COUNTED at most."""
    some = query.limit(MOST_COUNTED).subquery()  # type: ignore[attr-defined]
    return int(tx.scalar(select(func.count()).select_from(some)) or 0)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
