"""What must hold after every commit about requests, bookings and sessions; the judge of each end.

Knows rows by plain SQL and what really happened by ``truth``. The books are ``simulation.books``' part.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec

from models.messages import events
from simulation.battles import Battles
from simulation.books import Books
from simulation.clock import Timeline
from simulation.eye import Eye
from simulation.promises import COMMISSION_PERCENT, Promises
from simulation.sales import Sales
from simulation.truth import MINUTE_MS, Truth, Wish, expected_bill, expected_row, require

SETTLE_MS = 60_000
NEVER_CHANGES = (
    "request_id",
    "fan_id",
    "creator_id",
    "rate_per_minute",
    "minimum_minutes",
    "discount_percent",
    "commission_percent",
    "minute_ms",
    "included_minutes",
    "payment_mode",
)
_FIGURES = (
    "status",
    "room_id",
    "unlock_price",
    "paid_minutes",
    "paid_ms",
    "acknowledged_ms",
    "delivered_ms",
    "total_held",
    "live_at",
    "opened_at",
    "hold_refused",
    "end_row",
    "end_cause",
    "end_reason",
    "billed_minutes",
    "total_earnings",
    "commission",
    "refunded",
    "included_used",
    "unlock_earned",
)
SESSION_COLUMNS = ("id", *NEVER_CHANGES, *_FIGURES)
REQUEST_COLUMNS = (
    "id",
    "fan_id",
    "creator_id",
    "status",
    "list_rate",
    "rate_per_minute",
    "minimum_minutes",
    "requested_minutes",
    "discount_percent",
    "included_minutes",
    "unlock_price",
    "total_cost",
    "payment_mode",
    "close_reason",
    "accepted_by",
    "turn_at",
    "expires_at",
)
MAY_CHANGE = ("status", "close_reason", "accepted_by", "turn_at", "expires_at", "unlock_price", "total_cost")
BOOKING_COLUMNS = ("id", "request_id", "fan_id", "creator_id", "status", "total_cost", "starts_at")
_NEXT = {
    "connecting": ("live", "paused", "settling", "ended"),
    "live": ("paused", "settling", "ended"),
    "paused": ("live", "settling", "ended"),
    "settling": ("ended",),
}
_OPEN = ("queued", "pending")


class Context(msgspec.Struct):
    """What the process that acts is about to do, in the simulation's own words."""

    who: str = "nobody"
    event: events.AnyEvent | None = None
    wish: Wish | None = None


class Invariants:
    """Looks at each commit. Raises Violation."""

    def __init__(self, timeline: Timeline, eye: Eye, truth: Truth) -> None:
        self._timeline, self._eye, self._truth = timeline, eye, truth
        self.books = Books(eye)
        self.promises = Promises(timeline, eye, self.books)
        self.battles = Battles(timeline, eye, self.books)
        self.sales = Sales(timeline, eye, self.books)
        self.context = Context()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.bookings: dict[str, dict[str, Any]] = {}
        self.booked: dict[str, Any] = {}
        """References of bookings that have not begun, and when they are to."""
        self.session_of: dict[str, str] = {}
        """Request → session."""
        self.began: Callable[[dict[str, Any]], None] = lambda session: None
        self.opened: Callable[[dict[str, Any]], None] = lambda session: None
        self.ended: Callable[[dict[str, Any]], None] = lambda session: None
        self.asked: Callable[[dict[str, Any]], None] = lambda request: None
        self.called: Callable[[dict[str, Any]], None] = lambda request: None
        self.open_requests: dict[str, int] = {}
        """Creator → how many requests are open."""
        self.charged: Callable[[str], bool] = lambda purchase_id: True
        """Whether the gateway really has the money of a purchase."""
        self.rows: dict[str, int] = {}
        self.looks = 0

    def look(self) -> None:
        """Judge what the last commit changed."""
        touched = self._eye.touched()
        if not touched:
            return
        self.looks += 1
        self.books.look(touched)
        self.promises.look(touched)
        self.battles.look(touched, self.context)
        self.sales.look(touched, self.context)
        for purchase_id in self.books.purchased:
            require(self.charged(purchase_id), f"tokens of {purchase_id} were credited, nobody was charged")
        for request in self._eye.columns(
            "private_stream_requests", REQUEST_COLUMNS, touched.get("request", set())
        ):
            self._request(request)
        for booking in self._eye.columns("bookings", BOOKING_COLUMNS, touched.get("booking", set())):
            self._booking(booking)
        for session in self._eye.columns(
            "private_stream_sessions", SESSION_COLUMNS, touched.get("session", set())
        ):
            self._session(session)
        for reference in touched.get("hold", set()):
            self._held_for_something(reference)

    def request_of(self, session_id: str) -> str:
        """The id of a session's request, which is the reference of its hold."""
        return str(self.sessions[session_id]["request_id"])

    # --- requests and bookings ----------------------------------------------------------------------

    def _request(self, new: dict[str, Any]) -> None:
        id_, old = new["id"], self.requests.get(new["id"])
        self.requests[id_] = new
        if old is None:
            if new["accepted_by"] != "booking":
                self._price_is_right(new)
                self.asked(new)
        else:
            changed = [name for name in new if name not in MAY_CHANGE and new[name] != old[name]]
            require(not changed, f"request {id_} changed {changed}")
            dropped = old["unlock_price"] - new["unlock_price"]
            require(old["total_cost"] - new["total_cost"] == dropped, f"request {id_} changed its price")
            moved = old["status"] == new["status"] or old["status"] in _OPEN
            in_time = new["status"] != "accepted" or old["status"] == "accepted" or old["expires_at"] > self._now()
            require(in_time, f"request {id_} was accepted after it had expired")
            require(moved, f"request {id_} moved from {old['status']} to {new['status']}")
        opened = (new["status"] in _OPEN) - (old is not None and old["status"] in _OPEN)
        self.open_requests[new["creator_id"]] = self.open_requests.get(new["creator_id"], 0) + opened
        if new["status"] == "queued" and new["turn_at"] is not None and (old is None or old["turn_at"] is None):
            self.called(new)
        if new["status"] in _OPEN:
            held = self.books.held(id_)
            require(held == new["total_cost"], f"request {id_}: {held} held of {new['total_cost']}")
        elif new["status"] != "accepted":
            require(self.books.held(id_) == 0, f"request {id_} is {new['status']}, its tokens are still held")
            if new["included_minutes"]:
                self._minutes_came_back(id_, 0)

    def _price_is_right(self, request: dict[str, Any]) -> None:
        """The price follows from the creator's settings and the fan's subscription as they are now."""
        creator_id, fan_id = request["creator_id"], request["fan_id"]
        found = self._eye.rows(
            "SELECT private_stream_rate, private_stream_min_time, subscriber_discount_percent,"
            " instant_unlock_price FROM creator_settings WHERE creator_id = ?",
            (creator_id,),
        )
        rate, minimum, discount, unlock = found[0] if found else (100, 5, 0, None)
        subscriber = self._eye.rows(
            "SELECT 1 FROM subscriptions WHERE fan_id = ? AND creator_id = ? AND status = 'active'"
            " AND period_end > ?",
            (fan_id, creator_id, self._now()),
        )
        percent = discount if subscriber else 0
        expected_rate = max(1, -(-rate * (100 - percent) // 100))
        name = f"request {request['id']}"
        require(request["rate_per_minute"] == expected_rate, f"{name}: a rate of {request['rate_per_minute']}")
        require(request["minimum_minutes"] == minimum, f"{name}: a minimum of {request['minimum_minutes']}")
        minutes = max(request["requested_minutes"], minimum) - request["included_minutes"]
        require(subscriber != [] or request["included_minutes"] == 0, f"{name}: minutes without a subscription")
        require(request["unlock_price"] in (0, unlock), f"{name}: an unlock price of {request['unlock_price']}")
        total = expected_rate * minutes + request["unlock_price"]
        require(request["total_cost"] == total, f"{name} costs {request['total_cost']}, not {total}")

    def bookings_soon(self, milliseconds: int) -> int:
        """How many bookings are to begin within that time."""
        if not self.booked:
            return 0
        until = self._now(milliseconds)
        return sum(starts_at <= until for starts_at in self.booked.values())

    def _now(self, ahead_ms: int = 0) -> Any:
        """The moment as the database has it."""
        return self._eye.moment(self._timeline.utc() + timedelta(milliseconds=ahead_ms))

    def _minutes_came_back(self, request_id: str, used: int) -> None:
        """Of a subscription's reserved minutes only those that were used are gone."""
        found = self._eye.rows("SELECT used FROM subscription_minute_uses WHERE request_id = ?", (request_id,))
        require(found == [(used,)], f"request {request_id} used {used} included minutes, noted are {found}")

    def _booking(self, new: dict[str, Any]) -> None:
        id_, held = new["id"], self.books.held(new["request_id"])
        self.bookings[id_] = new
        self.booked.pop(new["request_id"], None)
        if new["status"] == "booked":
            self.booked[new["request_id"]] = new["starts_at"]
        if new["status"] == "booked":
            require(held == new["total_cost"], f"booking {id_}: {held} held of {new['total_cost']}")
        elif new["status"] != "started":
            require(held == 0, f"booking {id_} is {new['status']}, its tokens are still held")

    def _held_for_something(self, reference: str) -> None:
        if self.books.held(reference) == 0 or self.books.holds[reference].pot is not None:
            return
        request, session_id = self.requests.get(reference), self.session_of.get(reference)
        asked = request is not None and request["status"] in _OPEN
        runs = session_id is not None and self.sessions[session_id]["status"] != "ended"
        require(asked or runs or reference in self.booked, f"tokens are held for {reference}, which is over")

    # --- sessions -----------------------------------------------------------------------------------

    def _session(self, new: dict[str, Any]) -> None:
        id_, old = new["id"], self.sessions.get(new["id"])
        self.sessions[id_] = new
        self.session_of[new["request_id"]] = id_
        if old is None:
            self._begins(new)
            old = new
        changed = [name for name in NEVER_CHANGES if new[name] != old[name]]
        require(not changed, f"session {id_} changed {changed}")
        if old["status"] == "ended":
            require(new == old, f"session {id_} changed after its end")
            return
        if new["status"] != old["status"]:
            allowed = _NEXT[old["status"]]
            require(new["status"] in allowed, f"session {id_} went from {old['status']} to {new['status']}")
        self._figures(old, new)
        held = self.books.held(new["request_id"])
        if new["status"] != "ended":
            require(held == new["total_held"], f"session {id_}: {held} held of {new['total_held']}")
        if new["status"] == "settling" and old["status"] != "settling":
            self._wished(new)
        if new["opened_at"] is not None and old["opened_at"] is None:
            self._truth.session(id_).opened = True
            self.opened(new)
        if new["status"] == "ended":
            require(held == 0, f"session {id_} has ended, {held} are still held")
            self._judge(new)
            self.ended(new)

    def _begins(self, session: dict[str, Any]) -> None:
        request = self.requests[session["request_id"]]
        names = ("rate_per_minute", "minimum_minutes", "discount_percent", "included_minutes", "payment_mode")
        other = [name for name in names if request[name] != session[name]]
        require(not other, f"session {session['id']} has another {other} than its request")
        percent = session["commission_percent"]
        require(percent == COMMISSION_PERCENT, f"session {session['id']} has a commission of {percent} percent")
        require(request["status"] == "accepted", f"session {session['id']} of a request that is not accepted")
        self.began(session)

    def _figures(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        id_, truth = new["id"], self._truth.session(new["id"])
        require(new["delivered_ms"] >= old["delivered_ms"], f"session {id_}: delivered fell")
        require(new["acknowledged_ms"] >= old["acknowledged_ms"], f"session {id_}: acknowledged fell")
        require(new["acknowledged_ms"] <= new["paid_ms"], f"session {id_}: acknowledged beyond what is paid")
        heard, paid = truth.heard_ms, truth.heard_paid_ms
        require(new["delivered_ms"] <= heard, f"session {id_}: {new['delivered_ms']} ms, media said {heard}")
        acknowledged = new["acknowledged_ms"]
        require(acknowledged <= paid, f"session {id_}: {acknowledged} ms are acknowledged of {paid}")
        require(new["delivered_ms"] <= new["paid_ms"], f"session {id_}: delivered beyond what is paid")
        truth.granted_ms = new["paid_ms"]
        require(new["paid_ms"] == new["paid_minutes"] * new["minute_ms"], f"session {id_}: paid time does not fit")

    def _wished(self, session: dict[str, Any]) -> None:
        truth = self._truth.session(session["id"])
        wish = self.context.wish or Wish(None)
        truth.wish, truth.settling_since = wish, self._timeline.now_ms
        said = session["end_cause"]
        name = f"session {session['id']}"
        require(said == wish.cause, f"{name} ends by {said}; {self.context.who} wished {wish.cause}")

    def _judge(self, row: dict[str, Any]) -> None:
        """Exactly this row of the end table, exactly this bill."""
        id_, truth = row["id"], self._truth.session(row["id"])
        event = self.context.event
        final = event if isinstance(event, events.CallEnded) and event.session_id == id_ else None
        if final is None:
            self._may_end_without_a_word(row)
        else:
            require(row["delivered_ms"] >= final.delivered_ms, f"session {id_} lost delivered time at its end")
            acknowledged = min(final.paid_ms, row["paid_ms"])
            require(row["acknowledged_ms"] >= acknowledged, f"session {id_} lost acknowledged time at its end")
        expected = expected_row(final, truth.wish, hold_refused=bool(row["hold_refused"]))
        require(row["end_row"] == expected, f"session {id_} is billed as {row['end_row']}, not as {expected}")
        session = SimpleNamespace(**row)
        bad = self.books.bad_tokens_before(row["request_id"])
        bill = expected_bill(expected, session, bad)
        said = (row["billed_minutes"], row["total_earnings"], row["commission"], row["refunded"])
        due = (bill.billed_minutes, bill.earnings, bill.commission, bill.refunded)
        require(said == due, f"session {id_} ({expected}): minutes, earnings, commission, back {said}, not {due}")
        extras = (row["included_used"] or 0, row["unlock_earned"] or 0)
        wanted = (bill.included_used, bill.unlock_earned)
        require(extras == wanted, f"session {id_} ({expected}): included, unlock {extras}, not {wanted}")
        if row["included_minutes"]:
            self._minutes_came_back(row["request_id"], bill.included_used)
        require(row["billed_minutes"] * MINUTE_MS <= row["acknowledged_ms"], f"session {id_}: billed beyond")
        paid = self.books.holds.get(row["request_id"])
        charged = bill.earnings + bill.commission
        require((paid.paid if paid else 0) <= charged, f"session {id_}: the ledger took more than the bill")
        require(self.books.kinds["settle"] > 0 or charged == 0, f"session {id_}: no settlement")

    def _may_end_without_a_word(self, row: dict[str, Any]) -> None:
        id_, truth, now = row["id"], self._truth.session(row["id"]), self._timeline.now_ms
        who = self.context.who
        require(who == "clock", f"session {id_} was ended by {who} without a final report")
        if truth.settling_since is None:
            require(row["opened_at"] is None, f"session {id_} was open, and is ended as if it never was")
        else:
            waited = now - truth.settling_since
            require(waited >= SETTLE_MS, f"session {id_} was ended {waited} ms after the wish")
