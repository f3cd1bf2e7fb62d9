"""What must hold after every commit about passes and recordings: when they may be sold, and what comes back.

Judges rows by plain SQL. Its rules are those of decisions 0013 and 0014, worked out here on their own; that each
costs what was said, and the commission of it, is in ``promises``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from simulation.books import Books
from simulation.clock import Timeline
from simulation.eye import Eye
from simulation.promises import COMMISSION_PERCENT
from simulation.truth import require

if TYPE_CHECKING:
    from simulation.invariants import Context

DAY = timedelta(hours=24)
_TICK = timedelta(microseconds=1)
_PASS_STAYS = ("fan_id", "creator_id", "price_tokens", "starts_at", "ends_at")
_PASS = ("id", *_PASS_STAYS, "taken_back_at", "revoked_at", "refund_tokens", "refund_due_at")
_TERMS = ("price_tokens", "shared", "keep_days")
_RECORDING_STAYS = ("session_id", "fan_id", "creator_id", "commission_percent")
_RECORDING = (
    "id",
    *_RECORDING_STAYS,
    *_TERMS,
    "status",
    "epoch",
    "fan_consent_id",
    "creator_consent_id",
    "stopped_at",
    "expires_at",
    "paid_at",
    "taken_back_at",
    "refund_due_at",
    "refunded_at",
    "gone_reason",
    "gone_by",
)
_WORK = ("asked", "wanted", "running", "finishing")

Row = dict[str, Any]


class Sales:
    """Looks at each commit, after the books have. Raises Violation."""

    def __init__(self, timeline: Timeline, eye: Eye, books: Books) -> None:
        self._timeline, self._eye, self._books = timeline, eye, books
        self.passes: dict[str, Row] = {}
        self.recordings: dict[str, Row] = {}
        self.unfinished: set[str] = set()
        """Recordings that somebody still works on."""
        self.sold: Callable[[Row], None] = lambda row: None
        self.recorded: Callable[[Row, str], None] = lambda row, before: None
        """Called with a recording whose status changed, and what that was."""

    def look(self, touched: dict[str, set[str]], context: Context) -> None:
        """Judge what the last commit changed."""
        paid: Counter[str] = Counter()
        for kind, reference, _ in self._books.latest:
            if kind in ("pass", "recording"):
                paid[reference] += 1
            if kind == "reverse" and reference.startswith(("pas_", "rec_")):
                self._may_come_back(reference)
        for row in self._eye.columns("passes", _PASS, touched.get("pass", set())):
            self._pass(row, paid.pop(row["id"], 0), context)
        for row in self._eye.columns("recordings", _RECORDING, touched.get("recording", set())):
            self._recording(row, paid.pop(row["id"], 0))
        require(not paid, f"{sorted(paid)} were paid, and nothing was sold")
        if context.who == "web:block":
            kept = self._eye.rows(
                "SELECT p.id FROM passes p JOIN blocks b ON b.fan_id = p.fan_id AND b.creator_id = p.creator_id"
                " WHERE p.ends_at > ? AND p.revoked_at IS NULL",
                (self._now(),),
            )
            require(not kept, f"{kept} are still passes of people who are blocked")

    # --- passes -------------------------------------------------------------------------------------

    def _pass(self, new: Row, payments: int, context: Context) -> None:
        id_, old, name = new["id"], self.passes.get(new["id"]), f"pass {new['id']}"
        self.passes[id_] = new
        require(payments == (old is None), f"{name} was paid {payments} times")
        if old is None:
            self._may_be_sold(new)
            self.sold(new)
            return
        changed = [column for column in _PASS_STAYS if new[column] != old[column]]
        require(not changed, f"{name} changed {changed}")
        if old["revoked_at"] is None and new["revoked_at"] is not None:
            require(context.who == "web:block", f"{name} was revoked by {context.who}")
            self._unused(new)
        else:
            require(new["refund_tokens"] == old["refund_tokens"], f"{name} owes another sum")

    def _may_be_sold(self, row: Row) -> None:
        """At the creator's price, for a picture that is there, to who has neither a pass nor a subscription."""
        name, pair, now = f"pass {row['id']}", (row["fan_id"], row["creator_id"]), self._now()
        asked = self._eye.rows("SELECT pass_price FROM creator_settings WHERE creator_id = ?", (pair[1],))
        require(asked == [(row["price_tokens"],)], f"{name} costs {row['price_tokens']}, asked are {asked}")
        lasts = self._time(row["ends_at"]) - self._time(row["starts_at"])
        require(lasts == DAY and row["starts_at"] == now, f"{name} lasts {lasts} from {row['starts_at']}")
        others = self._eye.rows(
            "SELECT id FROM passes WHERE fan_id = ? AND creator_id = ? AND id <> ? AND ends_at > ?"
            " AND taken_back_at IS NULL AND revoked_at IS NULL",
            (*pair, row["id"], now),
        )
        require(not others, f"{name} was sold to who has {others}")
        month = self._eye.rows(
            "SELECT id FROM subscriptions WHERE fan_id = ? AND creator_id = ? AND status = 'active'"
            " AND period_start <= ? AND period_end > ?",
            (*pair, now, now),
        )
        require(not month, f"{name} was sold to who has {month}")
        blocked = self._eye.rows("SELECT 1 FROM blocks WHERE fan_id = ? AND creator_id = ?", pair)
        require(not blocked, f"{name} was sold to somebody blocked")
        shown = self._eye.rows(
            "SELECT b.id FROM broadcasts b WHERE b.status = 'live' AND b.lease_until > ? AND (b.creator_id = ?"
            " OR b.room_id IN (SELECT f.room_id FROM battles f JOIN battle_sides s ON s.battle_id = f.id"
            " WHERE s.creator_id = ? AND s.status = 'in' AND f.status = 'running'))",
            (now, pair[1], pair[1]),
        )
        require(bool(shown), f"{name} was sold, and no picture is there")

    def _unused(self, row: Row) -> None:
        """What is owed is the part of the day that is left, rounded up, and not more than the price in all."""
        left = self._time(row["ends_at"]) - self._time(self._now())
        tokens, rest = divmod(row["price_tokens"] * (left // _TICK), DAY // _TICK)
        owed = min(row["price_tokens"], self._refunded_before(row["id"]) + tokens + (rest > 0))
        require(row["refund_tokens"] == owed, f"pass {row['id']} owes {row['refund_tokens']}, not {owed}")

    def _refunded_before(self, reference: str) -> int:
        """What refunds had given back before this commit."""
        wallets = (
            tokens
            for kind, about, entries in self._books.latest
            if (kind, about) == ("reverse", reference)
            for account, tokens in entries.items()
            if account.startswith("wallet:")
        )
        return self._books.holds[reference].refunded - sum(wallets)

    # --- recordings ---------------------------------------------------------------------------------

    def _recording(self, new: Row, payments: int) -> None:
        id_, old, name = new["id"], self.recordings.get(new["id"]), f"recording {new['id']}"
        self.recordings[id_] = new
        sold = new["paid_at"] is not None and (old is None or old["paid_at"] is None)
        require(payments == sold, f"{name} was paid {payments} times")
        if old is None:
            percent = new["commission_percent"]
            require(percent == COMMISSION_PERCENT, f"{name} has a commission of {percent} percent")
        before = "" if old is None else old["status"]
        if old is None or (not old["fan_consent_id"] and not old["creator_consent_id"]):
            self._as_offered(new)
        else:
            changed = [column for column in (*_RECORDING_STAYS, *_TERMS) if new[column] != old[column]]
            require(not changed, f"{name} changed {changed}")
        if sold:
            fits = new["status"] == before == "kept" and bool(new["shared"]) and new["price_tokens"] > 0
            require(fits, f"{name} was sold, and is {new['status']}")
        if new["status"] == "kept" and before != "kept":
            kept = self._eye.moment(self._timeline.utc() + timedelta(days=new["keep_days"]))
            require(new["expires_at"] == kept, f"{name} is kept until {new['expires_at']}, not {kept}")
        if new["refund_due_at"] is not None:
            require(_comes_back(new), f"{name}: owes a refund, and neither its creator deleted it nor we lost it")
        if new["gone_reason"] == "expired" and before != "gone":
            require(new["expires_at"] <= self._now(), f"{name} expired too early")
        (self.unfinished.add if new["status"] in _WORK else self.unfinished.discard)(id_)
        if new["status"] != before:
            self.recorded(new, before)

    def _as_offered(self, row: Row) -> None:
        offered = self._eye.rows(
            "SELECT price_tokens, shared FROM recording_offers WHERE creator_id = ? AND offered",
            (row["creator_id"],),
        )
        terms = (row["price_tokens"], row["shared"])
        consented = row["fan_consent_id"] or row["creator_consent_id"]
        require(not consented or offered == [terms], f"recording {row['id']} for {terms}, offered were {offered}")

    # --- what comes back ----------------------------------------------------------------------------

    def _may_come_back(self, reference: str) -> None:
        """Of a pass what is owed since it was revoked; of a recording all, if its creator or we let it go."""
        hold = self._books.holds[reference]
        if reference.startswith("pas_"):
            owed = self._eye.rows("SELECT COALESCE(refund_tokens, 0) FROM passes WHERE id = ?", (reference,))[0][0]
            require(hold.refunded <= owed, f"{reference}: {hold.refunded} came back of {owed}")
            return
        lost = self._eye.rows(
            "SELECT 1 FROM recordings WHERE id = ? AND (gone_reason = 'lost' OR gone_by = creator_id)",
            (reference,),
        )
        require(bool(lost), f"{reference} was given back, and neither deleted by its creator nor lost")

    def final(self) -> None:
        """Nothing is worked on; what is owed came back, or waits for a creator who has not got it."""
        require(not self.unfinished, f"recordings are not complete: {sorted(self.unfinished)[:3]}")
        kept = [row["id"] for row in self.recordings.values() if row["status"] != "gone"]
        require(not kept, f"recordings outlived their days: {kept[:3]}")
        for row in self.passes.values():
            self._settled(row, row["refund_tokens"] or 0)
        for row in self.recordings.values():
            if row["paid_at"] is not None:
                self._settled(row, row["price_tokens"] if _comes_back(row) else 0)

    def _settled(self, row: Row, owed: int) -> None:
        """Of what is owed all came back that was not a bank's; a bad payment takes the rights with it."""
        earned, recovered, refunded, bad = self._eye.rows(
            "SELECT h.earnings + h.commission, h.recovered, h.refunded, (SELECT COUNT(*) FROM lot_uses u"
            " JOIN token_lots l ON l.id = u.lot_id WHERE u.reference = h.reference AND u.spent > 0"
            " AND l.bad_at IS NOT NULL) FROM holds h WHERE h.reference = ?",
            (row["id"],),
        )[0]
        missing = min(owed - refunded, earned - recovered - refunded)
        sums = self._books.sums
        has = sums[f"earnings:{row['creator_id']}"] + sums[f"earnings_pending:{row['creator_id']}"]
        waits = row["refund_due_at"] is not None and has < missing
        require(missing <= 0 or waits, f"{row['id']}: of {owed} owed {refunded} came back, {missing} did not")
        fits = (row["taken_back_at"] is not None) == bool(bad)
        require(fits, f"{row['id']}: {bad} bad payments are behind it, taken back: {row['taken_back_at']}")

    # --- small things -------------------------------------------------------------------------------

    def _now(self) -> Any:
        return self._eye.moment(self._timeline.utc())

    @staticmethod
    def _time(value: Any) -> datetime:
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def _comes_back(row: Row) -> bool:
    """Whoever paid for this recording is given back what it cost: its creator deleted it, or we lost it."""
    return bool(row["gone_reason"] == "lost" or row["gone_by"] == row["creator_id"])
