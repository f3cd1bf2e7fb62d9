"""/admin for the people who run the house: queues, dead letters, rooms and sessions. For admins only.

Every page is one part between a frame; with ``?part=1`` the part alone, which the page's script asks for
every few seconds. What admins do goes through ``web.api.admin``; here they only look.
"""

from __future__ import annotations

from typing import Any

import msgspec
from flask import render_template, request
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.services import (
    audits,
    complaints,
    dead_letters,
    floor,
    nodes,
    operations,
    payment_search,
    processes,
    queues,
)
from models.services.audits import AuditRun
from models.services.queues import Queue
from web.auth import role_required
from web.pages import blueprint
from web.pages.deps import database

LETTER_STATES = {"waiting": "To decide", "requeued": "Were run again", "discarded": "Thrown away"}
QUEUE_STATES = {
    "unknown": ("", "Unknown"),
    "no_worker": ("bad", "No worker"),
    "growing": ("warn", "Growing"),
    "working_off": ("info", "Working it off"),
    "keeping_up": ("good", "Keeping up"),
}


class Tab(msgspec.Struct, frozen=True):
    """One page of /admin. ``count``: how many things there wait for somebody."""

    name: str
    href: str
    label: str
    count: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The figures above the queues; None where nobody knows."""

    waiting: int | None
    oldest_ms: int | None
    oldest_in: str
    handled: float | None


@blueprint.get("/admin")
@blueprint.get("/admin/queues")
@role_required("admin")
def admin_queues() -> str:
    """Queues with their last ten minutes, the outbox, processes."""
    now = utc_now()
    with database().reading() as tx:
        found = queues.queues(tx, now)
        return shown(
            tx,
            "queues",
            "Queues",
            every_s=queues.SAMPLE_SECONDS,
            queues=found,
            totals=_totals(found),
            states=QUEUE_STATES,
            sampled=bool(found) and max(queue.at for queue in found) > now - queues.STALE,
            declared=any(queue.declared for queue in found),
            managed=any(queue.managed for queue in found),
            outbox=queues.outbox_depth(tx, now),
            letters=dead_letters.letters(tx, "waiting", 5),
            counts=dead_letters.counts(tx),
            processes=processes.processes(tx, now),
        )


@blueprint.get("/admin/dead-letters")
@role_required("admin")
def admin_dead_letters() -> str:
    """Letters that nobody could do, by what was decided about them."""
    status = request.args.get("status", "waiting")
    chosen = status if status in LETTER_STATES else "waiting"
    with database().reading() as tx:
        letters = dead_letters.letters(tx, msgspec.convert(chosen, dead_letters.Status), 200)
        counts = dead_letters.counts(tx)
        return shown(
            tx, "dead_letters", "Dead letters", letters=letters, counts=counts, chosen=chosen, states=LETTER_STATES
        )


@blueprint.get("/admin/dead-letters/<message_id>")
@role_required("admin")
def admin_dead_letter(message_id: str) -> str:
    """One letter: what it says, how it failed, what was done about it."""
    with database().reading() as tx:
        opened = dead_letters.letter(tx, message_id)
        return shown(
            tx,
            "dead_letter",
            opened.letter.actor or "A letter",
            tab="dead_letters",
            opened=opened,
            letter=opened.letter,
            states=LETTER_STATES,
            acts=operations.acts(tx, subject=message_id),
        )


@blueprint.get("/admin/rooms")
@role_required("admin")
def admin_rooms() -> str:
    """Media nodes, open rooms, who can be cut out of them."""
    with database().reading() as tx:
        return shown(tx, "rooms", "Rooms", every_s=3, nodes=nodes.nodes(tx, utc_now()), rooms=floor.rooms(tx))


@blueprint.get("/admin/sessions")
@role_required("admin")
def admin_sessions() -> str:
    """Sessions that have not ended, with their clocks."""
    with database().reading() as tx:
        return shown(tx, "sessions", "Sessions", every_s=3, sessions=floor.sessions(tx))


def shown(tx: Session, name: str, title: str, *, tab: str | None = None, every_s: int = 5, **values: Any) -> str:
    """The page ``admin/parts/<name>.html`` in its frame, or that part alone."""
    return render_template(
        "admin/part.html" if request.args.get("part") else "admin/page.html",
        part=f"admin/parts/{name}.html",
        title=title,
        every_s=every_s,
        chosen_tab=tab or name,
        tabs=_tabs(tx),
        last_audit=_last_audit(tx),
        now=utc_now(),
        query=request.args.get("q", "").strip(),
        **values,
    )


def _tabs(tx: Session) -> tuple[Tab, ...]:
    return (
        Tab("queues", "/admin", "Queues"),
        Tab("dead_letters", "/admin/dead-letters", "Dead letters", dead_letters.counts(tx)["waiting"]),
        Tab("rooms", "/admin/rooms", "Rooms"),
        Tab("sessions", "/admin/sessions", "Sessions"),
        Tab("ledger", "/admin/ledger", "Ledger"),
        Tab("payments", "/admin/payments", "Payments", payment_search.open_disputes(tx)),
        Tab("complaints", "/admin/complaints", "Complaints", complaints.count_open(tx)),
        Tab("people", "/admin/people", "People"),
        Tab("integrators", "/admin/integrators", "Integrators"),
        Tab("acts", "/admin/acts", "Acts"),
    )


def _last_audit(tx: Session) -> AuditRun | None:
    return next((run for run in audits.runs(tx) if run.status == "done"), None)


def _totals(found: tuple[Queue, ...]) -> Totals:
    ready = [queue.ready for queue in found if queue.ready is not None]
    rates = [queue.out_rate for queue in found if queue.out_rate is not None]
    oldest = max(
        ((queue.oldest_ms, queue.queue) for queue in found if queue.oldest_ms is not None), default=(None, "")
    )
    return Totals(
        waiting=sum(ready) if ready else None,
        oldest_ms=oldest[0],
        oldest_in=oldest[1] if oldest[0] else "",
        handled=sum(rates) if rates else None,
    )
