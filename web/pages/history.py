"""/history and /history/<session>: receipts in words, in numbers, and to take away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Response, abort, render_template, request
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.people import PersonRow
from models.services import recordings, sessions
from models.services.after_receipt import after_receipt
from models.services.receipts import Receipt, ReceiptEntry, ReceiptSummary, document_of
from models.services.sessions import SessionView
from models.sessions import SessionRow
from web.auth import current_person, login_required
from web.pages import blueprint
from web.pages.deps import database, settings
from web.pages.wording import clock, plural, spoken, tokens

ON_A_PAGE = 20


class Segment(msgspec.Struct, frozen=True):
    """A piece of the time bar; ``kind`` is its class in the style sheet."""

    kind: str
    label: str
    milliseconds: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt in the list; ``tokens`` below zero were paid."""

    session_id: str
    with_name: str
    with_handle: str
    with_avatar: str | None
    at: datetime
    words: str
    tokens: int
    earned: bool


@blueprint.get("/history")
@login_required
def history() -> str:
    """The list, newest first; ``?before=<RFC 3339>`` is the page after a line."""
    person = current_person()
    assert person is not None
    before = _moment(request.args.get("before", ""))
    with database().reading() as tx:
        found = sessions.history(tx, person.user_id, limit=ON_A_PAGE + 1, before=before)
    shown = found[:ON_A_PAGE]
    older = shown[-1].ended_at.isoformat() if len(found) > ON_A_PAGE else ""
    return render_template("history.html", rows=[_line(summary) for summary in shown], older=older)


@blueprint.get("/history/<session_id>")
@login_required
def receipt(session_id: str) -> str:
    """One receipt; while the call still runs or settles, a page that says so."""
    person = current_person()
    assert person is not None
    with database().reading() as tx:
        view = sessions.session_view(tx, session_id, person.user_id)
        if isinstance(view, SessionView):
            return render_template("receipt_pending.html", view=view)
        why = sessions.receipt_words(tx, session_id, person.user_id)
        is_creator = person.user_id == view.creator_id
        other = tx.get_one(PersonRow, view.fan_id if is_creator else view.creator_id).display_name
        paused_ms = _paused_ms(tx, session_id)
        later = after_receipt(tx, session_id, person.user_id, utc_now())
        recording = recordings.view(tx, session_id, person.user_id, settings().recording_days)
    segments = time_segments(view, paused_ms)
    return render_template(
        "receipt.html",
        receipt=view,
        is_creator=is_creator,
        with_name=other,
        lead=lead(view, is_creator),
        why=reason_words(view, why, "your" if is_creator else f"{other}’s", paused_ms),
        segments=segments,
        bar_words=", ".join(f"{spoken(part.milliseconds)} {part.label.lower()}" for part in segments),
        charged=view.earnings + view.commission,
        charged_minutes=max(0, view.billed_minutes - view.included_minutes),
        held_words=held_words(view, is_creator),
        later=later,
        recording=recording,
        transfers=[_transfer(transfer, person.user_id, other) for transfer in view.transfers],
        adds_up=view.total_held == view.earnings + view.commission + view.refunded,
    )


@blueprint.get("/history/<session_id>.json")
@login_required
def receipt_file(session_id: str) -> Response:
    """The signed receipt, byte for byte, as a file; before the clock has signed it, what will be signed."""
    person = current_person()
    assert person is not None
    with database().reading() as tx:
        view = sessions.session_view(tx, session_id, person.user_id)
        signed = document_of(tx, session_id)
    if isinstance(view, SessionView):
        abort(404)
    body = signed or msgspec.json.format(msgspec.json.encode(view))
    response = Response(body, content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="receipt-{view.session_id}.json"'
    return response


def lead(view: Receipt, is_creator: bool) -> list[tuple[str, bool]]:
    """The first sentence as (text, strong) pieces."""
    charged, minutes = view.earnings + view.commission, plural(view.billed_minutes, "minute")
    if not charged and view.included_used:
        used = plural(view.included_used, "minute")
        whose = "the fan’s" if is_creator else "your"
        tail = f" of {whose} subscription were used.{' It has paid you for them.' if is_creator else ''}"
        return [("No tokens were paid. ", False), (used, True), (tail, False)]
    if not view.total_held:
        return [("Nothing was held, and ", False), ("nothing", True), (" was paid.", False)]
    if is_creator:
        if not view.earnings:
            return [("You earned ", False), ("nothing", True), (". All of it went back to the fan.", False)]
        earned = plural(view.earnings, "token")
        return [("You earned ", False), (earned, True), (" for ", False), (minutes, True), (".", False)]
    if not charged:
        back = plural(view.refunded, "token")
        return [("You paid ", False), ("nothing", True), (". All ", False), (back, True), (" came back.", False)]
    paid = [("You paid ", False), (plural(charged, "token"), True), (" for ", False), (minutes, True)]
    if not view.refunded:
        return [*paid, (". Nothing came back.", False)]
    back, held = plural(view.refunded, "token"), tokens(view.total_held)
    return [*paid, (". ", False), (back, True), (f" of the {held} held came back.", False)]


def held_words(view: Receipt, is_creator: bool) -> str:
    """What the first line of the bill was held for."""
    minutes = plural(max(0, view.paid_ms // view.minute_ms - view.included_minutes), "minute")
    unlock = " and the unlock price" if view.unlock_price else ""
    if view.payment_mode == "per_minute":
        return f"Held minute by minute, {minutes}{unlock}"
    return f"Held when {'the fan' if is_creator else 'you'} confirmed, {minutes}{unlock}"


def reason_words(view: Receipt, why: str, whose: str, paused_ms: int) -> str:
    """How long it ran, what was not counted, and the row of the end table that applied."""
    ran = f"The call ran {spoken(view.delivered_ms)} with {whose} picture."
    if view.delivered_ms < 1000:
        ran = f"The call ended before {whose} picture arrived."
    gap = f" Another {spoken(paused_ms)} without it are not counted." if paused_ms >= 1000 else ""
    counted, started = view.billed_minutes * view.minute_ms, -(-view.delivered_ms // view.minute_ms)
    if started == view.billed_minutes and counted > view.delivered_ms >= 1000:
        why = f"{why.rstrip('.')}: {clock(view.delivered_ms)} makes {view.billed_minutes}."
    return f"{ran}{gap} {why}"


def time_segments(view: Receipt, paused_ms: int) -> list[Segment]:
    """The bar: delivered, rounded, not counted, came back; empty pieces are left out."""
    counted = view.billed_minutes * view.minute_ms
    delivered = view.delivered_ms // 1000 * 1000  # whole seconds, so that what is shown adds up to what was paid
    used = max(counted, delivered)
    segments = [
        Segment("", "Delivered", min(delivered, counted)),
        Segment("is-round", "Rounded up", max(0, counted - delivered)),
        Segment("is-free", "Delivered, not charged", max(0, delivered - counted)),
        Segment("is-gap", "Not counted", paused_ms),
        Segment("is-rest", "Came back", max(0, view.paid_ms - used)),
    ]
    return [segment for segment in segments if segment.milliseconds >= 500]


def account_words(entry: ReceiptEntry, viewer_id: str, other: str) -> str:
    """An account of the ledger for one who is no bookkeeper."""
    mine = entry.owner == viewer_id
    match entry.account:
        case "wallet":
            return "your wallet" if mine else f"{other}’s wallet"
        case "held":
            return "held"
        case "earnings_pending":
            return "your earnings, clearing" if mine else f"{other}, pending"
        case "fees":
            return "commission"
        case account:
            return account.replace("_", " ")


def _transfer(transfer: Any, viewer_id: str, other: str) -> dict[str, Any]:
    entries = [
        {"account": account_words(entry, viewer_id, other), "amount": entry.amount} for entry in transfer.entries
    ]
    return {"kind": transfer.kind.replace("_", " "), "at": transfer.at, "entries": entries}


def _line(summary: ReceiptSummary) -> Line:
    earned = summary.role == "creator"
    return Line(
        session_id=summary.session_id,
        with_name=summary.counterpart_name,
        with_handle=summary.counterpart_handle,
        with_avatar=None,
        at=summary.ended_at,
        words=f"{plural(summary.billed_minutes, 'minute')} · {summary.end_reason.replace('_', ' ').lower()}",
        tokens=summary.tokens if earned else -summary.tokens,
        earned=earned,
    )


def _paused_ms(tx: Session, session_id: str) -> int:
    row = tx.get_one(SessionRow, session_id)
    return row.creator_pause_ms + row.node_pause_ms


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
        # Near either end of the calendar a zone leads out of it.
        return found.astimezone(UTC) if found.tzinfo else abort(404)
    except (ValueError, OverflowError):
        abort(404)
