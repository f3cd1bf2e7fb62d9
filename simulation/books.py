"""The books, kept a second time in memory from the entries alone, and compared after each commit.

Only what a commit touched is looked at, so a step costs the same at the end of a run as at its beginning.
Its rules are docs/money.md's; it shares no code with the ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from simulation.eye import Eye
from simulation.truth import require

PERSONAL = ("wallet", "held", "earnings_pending", "earnings", "debt")

# Kind → account kind → the sign that an entry may have. Everything that is not listed may not move.
_SHAPES: dict[str, dict[str, int]] = {
    "top_up": {"gateway": -1, "wallet": 1},
    "gift": {"promo": -1, "wallet": 1},
    "hold": {"wallet": -1, "held": 1},
    "release": {"held": -1, "wallet": 1},
    "settle": {"held": -1, "wallet": 1, "earnings_pending": 1, "fees": 1},
    "tip": {"wallet": -1, "earnings_pending": 1, "fees": 1},
    "subscription": {"wallet": -1, "earnings_pending": 1, "fees": 1},
    "pass": {"wallet": -1, "earnings_pending": 1, "fees": 1},
    "recording": {"wallet": -1, "earnings_pending": 1, "fees": 1},
    "stake": {"wallet": -1, "pot": 1},
    "stake_return": {"pot": -1, "wallet": 1},
    "share": {"pot": -1, "earnings_pending": 1, "fees": 1},
    "reverse": {"wallet": 1, "earnings_pending": -1, "earnings": -1, "fees": -1, "promo": 0},
    "payment_reversal": {
        "gateway": 1,
        "wallet": -1,
        "earnings_pending": -1,
        "earnings": -1,
        "debt": -1,
        "fees": -1,
        "promo": 0,
    },
    "payment_good": {
        "gateway": -1,
        "wallet": 1,
        "earnings_pending": 1,
        "earnings": 1,
        "debt": 1,
        "fees": 1,
        "chargeback_loss": 1,
        "promo": 1,
    },
    "purchase_refund": {"wallet": -1, "gateway": 1},
    "purchase_refund_return": {"gateway": -1, "wallet": 1},
    "clear": {"earnings_pending": -1, "promo": 1, "debt": 1, "earnings": 1},
    "payout": {"earnings": -1, "payouts": 1},
    "payout_return": {"payouts": -1, "debt": 1, "earnings": 1},
    "write_off": {"debt": 1, "chargeback_loss": -1},
}
SALES = ("tip", "subscription", "pass", "recording")
STAKES = ("stake", "stake_return", "share")
_ABOUT_HOLDS = ("hold", "release", "settle", "reverse", *SALES, *STAKES)
_ONCE = ("top_up", "gift", "settle", "share", *SALES)


class Moved(NamedTuple):
    """One transfer, with its tokens by account."""

    kind: str
    reference: str
    entries: dict[str, int]


class Hold:
    """What is known of a hold."""

    __slots__ = ("amount", "by_lot", "creator_id", "fan_id", "paid", "pending", "pot", "promo", "refunded")

    def __init__(self, fan_id: str) -> None:
        self.fan_id = fan_id
        self.creator_id: str | None = None
        self.pot: str | None = None
        self.amount = self.paid = self.pending = self.promo = self.refunded = 0
        self.by_lot: dict[str, int] = {}


class Books:
    """All accounts, holds and lots as they must be."""

    def __init__(self, eye: Eye) -> None:
        self._eye = eye
        self.sums: defaultdict[str, int] = defaultdict(int)
        self.holds: dict[str, Hold] = {}
        self.before: dict[str, dict[str, int]] = {}
        """Reference → lot → tokens held, before the commit that is looked at."""
        self.bad_lots: set[str] = set()
        self.owner_of: dict[str, str] = {}
        """Lot → whose it is."""
        self._free: dict[str, int] = {}
        self._free_of: defaultdict[str, int] = defaultdict(int)
        self._held_of: defaultdict[str, int] = defaultdict(int)
        self._pending_of: defaultdict[str, int] = defaultdict(int)
        self._in_pot: defaultdict[str, int] = defaultdict(int)
        self._once: set[tuple[str, str]] = set()
        self.purchased: set[str] = set()
        """Purchases whose tokens were credited by the commit that is looked at."""
        self.kinds: Counter[str] = Counter()
        self.latest: list[Moved] = []
        """The transfers of the commit that is looked at."""
        self._taken_from: set[tuple[str, str]] = set()
        """From which account of whom the commit that is looked at took tokens of a bad payment."""

    def look(self, touched: dict[str, set[str]]) -> None:
        """Compare what a commit touched. Raises Violation."""
        self.purchased.clear()
        self.latest.clear()
        self.before.clear()
        self._taken_from.clear()
        accounts = self._transfers(touched.get("transfer", set())) | touched.get("account", set())
        owners = self._holds(touched.get("hold", set())) | self._lots(touched.get("lot", set()))
        self._accounts(accounts)
        owners |= {account.partition(":")[2] for account in accounts if account.startswith(("wallet:", "held:"))}
        for owner in owners:
            self._owner(owner)
        for kind, creator_id in self._taken_from:
            self._in_order(kind, creator_id)

    def _transfers(self, ids: set[str]) -> set[str]:
        found = self._eye.among(
            "SELECT t.id, t.kind, t.reference, e.account_id, e.amount FROM transfers t"
            " LEFT JOIN entries e ON e.transfer_id = t.id WHERE t.id IN (?*)",
            ids,
        )
        entries: dict[str, tuple[str, str, dict[str, int]]] = {}
        for id_, kind, reference, account, amount in found:
            moved = entries.setdefault(id_, (kind, reference, {}))[2]
            if account is not None:
                moved[account] = amount
        for id_, (kind, reference, moved) in entries.items():
            self._transfer(id_, kind, reference, moved)
        return {account for _, _, moved in entries.values() for account in moved}

    def _transfer(self, id_: str, kind: str, reference: str, moved: dict[str, int]) -> None:
        require(bool(moved) and sum(moved.values()) == 0, f"transfer {id_} ({kind}) does not sum to zero: {moved}")
        shape = _SHAPES[kind]
        for account, amount in moved.items():
            sign = shape.get(account.partition(":")[0])
            fits = sign is not None and (sign == 0 or amount * sign > 0)
            require(fits, f"a {kind} of {reference} moves {amount} on {account}")
            self.sums[account] += amount
        self.kinds[kind] += 1
        self.latest.append(Moved(kind, reference, moved))
        if kind in _ONCE:
            require((kind, reference) not in self._once, f"a second {kind} for {reference}")
            self._once.add((kind, reference))
        if kind == "top_up":
            self.purchased.add(reference)
        if kind == "payment_reversal":
            self._taken_from |= {tuple(account.split(":")) for account in moved if account[:4] in ("debt", "earn")}  # type: ignore[misc]
        if kind == "clear":
            self._gifts_stay(reference, -moved.get(self._pending_account(moved), 0))
        if kind in _ABOUT_HOLDS:
            self._whose(kind, reference, moved)

    def _whose(self, kind: str, reference: str, moved: dict[str, int]) -> None:
        """Only the two people whom a hold is about may have anything of it; a stake is in its own battle's pot."""
        fan_id, creator_id = self._eye.rows(
            "SELECT fan_id, creator_id FROM holds WHERE reference = ?", (reference,)
        )[0]
        for account in moved:
            account_kind, _, owner = account.partition(":")
            whose = {"wallet": fan_id, "held": fan_id, "earnings_pending": creator_id, "earnings": creator_id}
            fits = account_kind not in whose or whose[account_kind] == owner or kind == "reverse"
            fits = fits and (account_kind != "pot" or owner == reference.partition(":")[0])
            require(fits, f"a {kind} of {reference} moves tokens of {account}")

    @staticmethod
    def _pending_account(moved: dict[str, int]) -> str:
        return next((account for account in moved if account.startswith("earnings_pending:")), "")

    def _gifts_stay(self, reference: str, cleared: int) -> None:
        """The part of what clears that gifts have paid for goes back to promo."""
        spent, gifts, promo = self._eye.rows(
            "SELECT SUM(u.spent - u.recovered),"
            " SUM(CASE WHEN l.source = 'promo' THEN u.spent - u.recovered ELSE 0 END), h.promo"
            " FROM holds h JOIN lot_uses u ON u.reference = h.reference JOIN token_lots l ON l.id = u.lot_id"
            " WHERE h.reference = ? GROUP BY h.promo",
            (reference,),
        )[0]
        least = cleared * gifts // spent if spent else 0
        require(promo >= least, f"{reference}: gifts paid {gifts} of {spent}, and only {promo} of it stay")

    def _in_order(self, kind: str, creator_id: str) -> None:
        """Pending earnings give first, then cleared ones, and only then there is a debt.

        What gifts earned waits for promo and gives nothing; a token a hold may be rounded either way.
        """
        if kind == "earnings_pending":
            return
        pending = self._pending_of[f"earnings_pending:{creator_id}"]
        if pending:
            waits = self._waits_for_promo(creator_id)
            require(pending <= waits, f"a bad payment took {kind} of {creator_id}, who has {pending} pending")
        cleared = self.sums[f"earnings:{creator_id}"]
        require(kind == "earnings" or cleared == 0, f"{creator_id} owes, with {cleared} cleared")

    def _waits_for_promo(self, creator_id: str) -> int:
        """The gifts' part of what is pending, and one token more a hold."""
        rows = self._eye.rows(
            "SELECT h.earnings + h.fee_back - h.recovered - h.refunded, h.promo, SUM(u.spent - u.recovered),"
            " SUM(CASE WHEN l.source = 'promo' THEN u.spent - u.recovered ELSE 0 END)"
            " FROM holds h JOIN lot_uses u ON u.reference = h.reference JOIN token_lots l ON l.id = u.lot_id"
            " WHERE h.creator_id = ? AND h.pending > 0 GROUP BY h.reference",
            (creator_id,),
        )
        return sum(net * gifts // spent - promo + 2 for net, promo, spent, gifts in rows if gifts)

    def _accounts(self, ids: set[str]) -> None:
        found = self._eye.among("SELECT id, kind, balance FROM balances WHERE id IN (?*)", ids)
        require(len(found) == len(ids), "an account that has entries is missing")
        for id_, kind, balance in found:
            require(balance == self.sums[id_], f"{id_} says {balance}, its entries sum to {self.sums[id_]}")
            if kind in PERSONAL:
                fits = balance <= 0 if kind == "debt" else balance >= 0
                require(fits, f"{id_} has {balance}")
            if kind == "earnings_pending":
                pending = self._pending_of[id_]
                require(balance == pending, f"{id_} has {balance}, its settlements say {pending}")
            if kind == "pot":
                require(balance == self._in_pot[id_], f"{id_} has {balance}, its stakes are {self._in_pot[id_]}")

    def _holds(self, references: set[str]) -> set[str]:
        found = self._eye.among(
            "SELECT reference, fan_id, creator_id, pot, status, amount, earnings, commission, recovered, refunded,"
            " pending, promo FROM holds WHERE reference IN (?*)",
            references,
        )
        uses: defaultdict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
        for reference, *use in self._eye.among(
            "SELECT reference, lot_id, held, spent, recovered FROM lot_uses WHERE reference IN (?*)", references
        ):
            uses[reference].append((use[0], use[1], use[2], use[3]))
        for reference, fan_id, creator_id, pot, status, *amounts in found:
            amount, earnings, commission, recovered, refunded, pending, promo = amounts
            found_uses = uses[reference]
            held = sum(use[1] for use in found_uses)
            spent, back = sum(use[2] for use in found_uses), sum(use[3] for use in found_uses)
            name = f"hold {reference}"
            require(amount == held, f"{name} holds {amount}, its lots {held}")
            paid = earnings + commission - refunded
            require(paid == spent, f"{name} paid {paid}, its lots spent {spent}")
            require(recovered == back, f"{name}: {recovered} were recovered, from its lots {back}")
            require(recovered + refunded <= earnings + commission, f"{name}: more came back than was paid")
            require((status == "open") == (amount > 0), f"{name} is {status} with {amount}")
            hold = self.holds.setdefault(reference, Hold(fan_id))
            require(hold.fan_id == fan_id, f"{name} changed hands")
            if pot is None:
                self._held_of[fan_id] += amount - hold.amount
            else:
                require(pot == f"pot:{reference.partition(':')[0]}", f"{name} is in {pot}")
                self._in_pot[pot] += amount - hold.amount
            if creator_id is not None:
                self._pending_of[f"earnings_pending:{creator_id}"] += pending - hold.pending
            self.before[reference] = hold.by_lot
            hold.amount, hold.paid, hold.pending, hold.promo = amount, paid - recovered, pending, promo
            hold.creator_id, hold.pot, hold.refunded = creator_id, pot, refunded
            hold.by_lot = {lot: held for lot, held, _, _ in uses[reference] if held}
        return {row[1] for row in found}

    def _lots(self, ids: set[str]) -> set[str]:
        found = self._eye.among(
            "SELECT l.id, l.owner_id, l.source, l.origin, l.tokens, l.free, l.reversed, l.withdrawn, l.bad_at,"
            " (SELECT COALESCE(SUM(u.held + u.spent), 0) FROM lot_uses u WHERE u.lot_id = l.id)"
            " FROM token_lots l WHERE l.id IN (?*)",
            ids,
        )
        for id_, owner, source, origin, tokens, free, reversed_, withdrawn, bad_at, used in found:
            accounted = free + reversed_ + withdrawn + used
            require(tokens == accounted, f"lot {id_} of {tokens} tokens accounts for {accounted}")
            stays = origin == "promo" and reversed_ + withdrawn == 0
            require(source != "promo" or stays, f"gift {id_} left the house")
            require(bad_at is not None or reversed_ == 0, f"lot {id_} is good, and {reversed_} were taken back")
            (self.bad_lots.discard if bad_at is None else self.bad_lots.add)(id_)
            self.owner_of[id_] = owner
            self._free_of[owner] += free - self._free.get(id_, 0)
            self._free[id_] = free
        return {row[1] for row in found}

    def _owner(self, owner: str) -> None:
        wallet, held = self.sums[f"wallet:{owner}"], self.sums[f"held:{owner}"]
        require(wallet == self._free_of[owner], f"wallet of {owner}: {wallet}, lots: {self._free_of[owner]}")
        require(held == self._held_of[owner], f"held of {owner}: {held}, holds: {self._held_of[owner]}")

    def bad_tokens_before(self, reference: str) -> int:
        """How many tokens of a hold came from bad payments just before the commit that is looked at."""
        by_lot = self.before.get(reference, {})
        return sum(tokens for lot, tokens in by_lot.items() if lot in self.bad_lots)

    def by_lot(self, reference: str) -> dict[str, int]:
        """Lot → tokens held for a reference now."""
        found = self.holds.get(reference)
        return {} if found is None else found.by_lot

    def held(self, reference: str) -> int:
        """What is held for a reference now."""
        found = self.holds.get(reference)
        return 0 if found is None else found.amount
