"""What must hold after every commit about money that is no session's: tips, subscriptions, clearing, refunds.

What passes and recordings cost is looked at here as well; the rest about them in ``sales``.

Knows rows by plain SQL, and the provider by what its charges are now. Its numbers are docs/money.md's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from simulation.books import SALES, Books, Moved
from simulation.clock import Timeline
from simulation.eye import Eye
from simulation.gateway import Charge
from simulation.truth import require

COMMISSION_PERCENT = 20
CLEARING = timedelta(days=30)
_SPENDS = ("hold", "stake", *SALES)
_SAID = {
    "tip": "SELECT amount FROM tips WHERE id = ?",
    "subscription": "SELECT price_tokens FROM subscriptions WHERE id = ?",
    "pass": "SELECT price_tokens FROM passes WHERE id = ?",
    "recording": "SELECT price_tokens FROM recordings WHERE id = ?",
}
"""What was said that it costs."""
_PAYS = ("settle", "share", *SALES)
_SUBSCRIPTION = ("id", "period", "price_tokens", "cancel_at_period_end", "period_start", "period_end", "status")
_REFUND = ("id", "purchase_id", "tokens", "amount_minor", "status", "transfer_id")


class Promises:
    """Looks at each commit, after the books have. Raises Violation."""

    def __init__(self, timeline: Timeline, eye: Eye, books: Books) -> None:
        self._timeline, self._eye, self._books = timeline, eye, books
        self._subscriptions: dict[str, dict[str, Any]] = {}

    def look(self, touched: dict[str, set[str]]) -> None:
        """Judge what the last commit changed."""
        for moved in self._books.latest:
            if moved.kind in _SPENDS:
                self._may_spend(moved)
            if moved.kind in SALES:
                self._price(moved)
            elif moved.kind == "clear":
                self._is_due(moved.reference)
        for row in self._eye.columns("subscriptions", _SUBSCRIPTION, touched.get("subscription", set())):
            self._subscription(row)
        for row in self._eye.columns("purchase_refunds", _REFUND, touched.get("refund", set())):
            self._refund(row)

    # --- spending -----------------------------------------------------------------------------------

    def _may_spend(self, moved: Moved) -> None:
        """Nobody spends while a payment of theirs is disputed."""
        owner = next(account for account in moved.entries if account.startswith("wallet:")).partition(":")[2]
        frozen = self._eye.rows("SELECT 1 FROM people WHERE id = ? AND spending_frozen_at IS NOT NULL", (owner,))
        require(not frozen, f"{owner} spent on {moved.reference}, and is frozen")

    def _price(self, moved: Moved) -> None:
        """A tip costs what was said, all else what was promised; the house takes its percentage of each."""
        spent = -sum(tokens for account, tokens in moved.entries.items() if account.startswith("wallet:"))
        wanted = self._eye.rows(_SAID[moved.kind], (moved.reference.partition(":")[0],))
        require(wanted == [(spent,)], f"{moved.kind} {moved.reference} took {spent}, {wanted} was said")
        fee = spent * COMMISSION_PERCENT // 100
        taken = moved.entries.get("fees", 0)
        require(taken == fee, f"{moved.kind} {moved.reference} of {spent}: a fee of {taken}, not {fee}")

    def _subscription(self, new: dict[str, Any]) -> None:
        """Each month is paid once, in its time, and a cancelled one is the last."""
        name, old = f"subscription {new['id']}", self._subscriptions.get(new["id"])
        self._subscriptions[new["id"]] = new
        if new["price_tokens"]:
            paid = self._eye.rows(
                "SELECT COUNT(*) FROM transfers WHERE kind = 'subscription' AND reference LIKE ?",
                (f"{new['id']}:%",),
            )[0][0]
            require(paid == new["period"], f"{name} is in month {new['period']}, {paid} were paid")
        if old is None or new["period"] == old["period"]:
            return
        require(new["period"] == old["period"] + 1, f"{name} skipped a month")
        require(not old["cancel_at_period_end"], f"{name} was cancelled, and went on")
        require(old["status"] == "active", f"{name} had ended, and went on")
        in_time = old["period_end"] <= self._eye.moment(self._timeline.utc())
        require(in_time and new["period_start"] >= old["period_end"], f"{name} went on before its month was over")

    # --- clearing and refunds -----------------------------------------------------------------------

    def _is_due(self, reference: str) -> None:
        """Earnings clear after the clearing period, and not while anybody complains."""
        paid_at = self._eye.rows(
            f"SELECT MIN(created_at) FROM transfers WHERE reference = ? AND kind IN {_PAYS!r}",
            (reference,),
        )[0][0]
        due = paid_at <= self._eye.moment(self._timeline.utc() - CLEARING)
        require(due, f"{reference} was paid at {paid_at}, and cleared too early")
        complaints = self._eye.rows(
            "SELECT c.id FROM complaints c JOIN private_stream_sessions s ON s.id = c.session_id"
            " WHERE s.request_id = ? AND c.status = 'open'",
            (reference,),
        )
        require(not complaints, f"{reference} cleared while {complaints} is open")

    def _refund(self, row: dict[str, Any]) -> None:
        """Unused tokens are worth what they cost, rounded down; those of a refused refund are back."""
        name = f"refund {row['id']}"
        price, bought = self._eye.rows(
            "SELECT price_minor, tokens FROM purchases WHERE id = ?", (row["purchase_id"],)
        )[0]
        worth = price * row["tokens"] // bought
        require(row["amount_minor"] == worth, f"{name} of {row['amount_minor']}: its tokens cost {worth}")
        if row["status"] == "refused":
            back = self._eye.rows("SELECT kind FROM transfers WHERE reverses = ?", (row["transfer_id"],))
            require(back == [("purchase_refund_return",)], f"{name} was refused, and its tokens are not back")

    # --- at the end ---------------------------------------------------------------------------------

    def final(self, charges: dict[str, Charge]) -> None:
        """Which payments are bad is what the provider says, and what left lots is what was given back."""
        lots = self._eye.rows(
            "SELECT l.id, l.bad_at IS NOT NULL, l.withdrawn, (SELECT COALESCE(SUM(r.tokens), 0)"
            " FROM purchase_refunds r WHERE r.purchase_id = l.id AND r.status <> 'refused')"
            " FROM token_lots l WHERE l.source = 'purchase'"
        )
        for id_, bad, withdrawn, given in lots:
            status = charges[id_].status
            require(bool(bad) == (status != "succeeded"), f"{id_} is {status}, and its tokens are bad: {bad}")
            require(withdrawn == given, f"{withdrawn} tokens of {id_} were withdrawn, {given} given back")
