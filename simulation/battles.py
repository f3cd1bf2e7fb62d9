"""What must hold after every commit about battles: who may be in, what is in the pot, and who gets it in the end.

Judges rows by plain SQL, by what people meant to pay, and by what was heard of their seats. Its numbers and rules
are decision 0014's, worked out here on their own; it shares no code with ``models.splitting``, ``models.pots`` and
the battles' services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec

from models.messages import events
from simulation.books import STAKES, Books
from simulation.clock import Timeline
from simulation.eye import Eye
from simulation.promises import COMMISSION_PERCENT
from simulation.truth import MINUTE_MS, require

if TYPE_CHECKING:
    from simulation.invariants import Context

PROMISED = (
    "host_id",
    "room_id",
    "entry_fee",
    "winner_percent",
    "most_creators",
    "limit_minutes",
    "minute_ms",
    "commission_percent",
    "begins_at",
)
_BATTLE = ("id", *PROMISED, "status", "started_at", "ends_at", "outcome", "end_reason", "pot_tokens")
_SIDE = ("creator_id", "status", "fee", "came_at", "share", "earned")
_TIP = ("id", "creator_id", "fan_id", "key", "amount", "returned_at")
_UNFINISHED = ("open", "running")
_MINUTE = timedelta(milliseconds=MINUTE_MS)

Row = dict[str, Any]


class Known(msgspec.Struct):
    """A battle as it was after the last commit that touched it."""

    row: Row
    sides: dict[str, Row]
    """By creator, in the order in which they entered."""
    tips: dict[str, Row]
    away: dict[str, int | None] = {}
    """Creator → since when, by what was heard, the seat is empty; None: it is taken."""
    said_at: dict[str, datetime] = {}
    """Creator → the node's time of the newest word about that seat."""


class Battles:
    """Looks at each commit, after the books have. Raises Violation."""

    def __init__(self, timeline: Timeline, eye: Eye, books: Books) -> None:
        self._timeline, self._eye, self._books = timeline, eye, books
        self.known: dict[str, Known] = {}
        self.unfinished: dict[str, Known] = {}
        self.meant: dict[tuple[str, str], tuple[str, str, int]] = {}
        """(fan, key) → battle, side, tokens: what somebody pressed."""
        self.answered: set[tuple[str, str]] = set()
        """Of those, what was said to be done."""
        self.opened: Callable[[Row], None] = lambda battle: None
        self.begun: Callable[[Row, list[str]], None] = lambda battle, inside: None
        self.over: Callable[[Row, list[str]], None] = lambda battle, inside: None
        self._heard: set[str] = set()

    def look(self, touched: dict[str, set[str]], context: Context) -> None:
        """Judge what the last commit changed."""
        ids = touched.get("battle", set())
        for battle_id in sorted(ids):
            self._battle(battle_id, context)
        for moved in self._books.latest:
            if moved.kind in STAKES:
                battle_id = moved.reference.partition(":")[0]
                require(battle_id in ids, f"a {moved.kind} of {moved.reference}, whose battle nothing happened to")
        for lot_id in touched.get("lot", set()) & self._books.bad_lots:
            owner = self._books.owner_of[lot_id]
            staked = [id_ for id_ in self.unfinished if self._books.held(f"{id_}:{owner}")]
            require(not staked, f"a payment of {owner} is bad, who has tokens at stake in {staked}")

    def clock_went_round(self) -> None:
        """It has looked at everything: whoever has been away for a minute is in no battle, and will not share."""
        for known in self.unfinished.values():
            for creator_id in _inside(known) if known.away else ():
                since = known.away[creator_id]
                away = since is not None and self._timeline.now_ms - since >= MINUTE_MS
                require(not away, f"{creator_id} is in battle {known.row['id']}, and has been away for a minute")

    def soon(self, milliseconds: int) -> int:
        """How many run, or are to begin within that time."""
        if not self.unfinished:
            return 0
        until = self._moment(timedelta(milliseconds=milliseconds))
        return sum(
            known.row["status"] == "running" or known.row["begins_at"] <= until
            for known in self.unfinished.values()
        )

    def final(self) -> None:
        """All are over, nothing is in a pot, and whoever was told that a tip was given has given it."""
        require(not self.unfinished, f"battles are not over: {sorted(self.unfinished)[:3]}")
        pots = {account: tokens for account, tokens in self._books.sums.items() if account.startswith("pot:")}
        full = [account for account, tokens in pots.items() if tokens]
        require(not full, f"tokens are left in {full[:3]}")
        given = {(tip["fan_id"], tip["key"]) for known in self.known.values() for tip in known.tips.values()}
        require(self.answered <= given, f"tips were accepted, and are not there: {self.answered - given}")

    # --- one battle, one commit ---------------------------------------------------------------------

    def _battle(self, battle_id: str, context: Context) -> None:
        old, new = self.known.get(battle_id), self._read(battle_id)
        row, name = new.row, f"battle {battle_id}"
        if old is not None:
            changed = [column for column in PROMISED if row[column] != old.row[column]]
            require(not changed, f"{name} changed {changed}")
            ended = old.row["status"] not in _UNFINISHED
            require(not ended or (new.row, new.sides, new.tips) == (old.row, old.sides, old.tips),
                    f"{name} changed after its end")  # fmt: skip
            new.away, new.said_at = old.away, old.said_at
        else:
            percent = row["commission_percent"]
            require(percent == COMMISSION_PERCENT, f"{name} has a commission of {percent} percent")
            require(list(new.sides) == [row["host_id"]], f"{name} began without its host alone")
        self.known[battle_id] = new
        began = row["status"] == "running" and (old is None or old.row["status"] == "open")
        if began:
            self._begins(new)
        self._hear(new, context)
        self._money(old or Known(row, {}, {}), new, context)
        if row["status"] in _UNFINISHED:
            self.unfinished[battle_id] = new
        else:
            self.unfinished.pop(battle_id, None)
        if old is None:
            self.opened(row)
        if began:
            self.begun(row, _inside(new))
        if row["status"] not in _UNFINISHED:
            self.over(row, list(new.sides))

    def _read(self, battle_id: str) -> Known:
        (row,) = self._eye.columns("battles", _BATTLE, {battle_id})
        sides = self._eye.rows(
            f"SELECT {', '.join(_SIDE)} FROM battle_sides WHERE battle_id = ? ORDER BY place", (battle_id,)
        )
        tips = self._eye.rows(f"SELECT {', '.join(_TIP)} FROM battle_tips WHERE battle_id = ?", (battle_id,))
        return Known(
            row,
            {side[0]: dict(zip(_SIDE, side, strict=True)) for side in sides},
            {tip[0]: dict(zip(_TIP, tip, strict=True)) for tip in tips},
        )

    def _begins(self, new: Known) -> None:
        inside = _inside(new)
        require(len(inside) >= 2, f"battle {new.row['id']} began with {inside}")
        new.away = dict.fromkeys(inside, self._timeline.now_ms)

    # --- who is there -------------------------------------------------------------------------------

    def _hear(self, known: Known, context: Context) -> None:
        """The node's word that this commit took in, should it be about this battle's seats."""
        event = context.event
        if event is None or f"{event.message_id}{known.row['id']}" in self._heard:
            return
        if isinstance(event, events.NodeReady):
            said: dict[str, bool] = {}
            for creator_id, since in known.away.items():
                # Whoever was there was there in the node's former life.
                known.away[creator_id] = self._timeline.now_ms if since is None else since
        elif getattr(event, "room_id", None) != known.row["room_id"]:
            return
        elif isinstance(event, events.RoomOpened):
            said = {creator_id: creator_id in event.publishers_here for creator_id in known.away}
        elif isinstance(event, events.ParticipantJoined | events.ParticipantLeft):
            said = {event.user_id: isinstance(event, events.ParticipantJoined)}
        else:
            return
        self._heard.add(f"{event.message_id}{known.row['id']}")
        at = datetime.fromisoformat(event.at)
        for creator_id, here in said.items():
            if creator_id in known.away and known.said_at.get(creator_id, at) <= at:
                known.said_at[creator_id] = at
                since = known.away[creator_id]
                known.away[creator_id] = None if here else self._timeline.now_ms if since is None else since

    def _may_be_gone(self, known: Known, creator_id: str, context: Context) -> None:
        """Out of a running battle is who was away for a minute, who never came, and whom an admin cut out."""
        since, wish = known.away.get(creator_id), context.wish
        away = since is not None and self._timeline.now_ms - since >= MINUTE_MS
        cut = wish is not None and (wish.cause, wish.at_fault) == ("cut", creator_id)
        ended = known.row["status"] == "ended" and known.sides[creator_id]["came_at"] is None
        require(away or cut or ended, f"{creator_id} is out of battle {known.row['id']}, and was there")

    # --- money --------------------------------------------------------------------------------------

    def _money(self, old: Known, new: Known, context: Context) -> None:
        """What moved is what follows from who came, went, tipped, and how it ended; nothing else did."""
        battle_id, row = new.row["id"], new.row
        paid_in, back, shared = self._moved(battle_id)
        entered = {
            creator_id: side["fee"]
            for creator_id, side in new.sides.items()
            if side["status"] == "in" and old.sides.get(creator_id, {}).get("status") != "in"
        }
        self._entered(entered, new)
        given = Counter(entered)
        for id_, tip in new.tips.items():
            if id_ not in old.tips:
                self._tipped(tip, new)
                given[tip["fan_id"]] += tip["amount"]
        require(paid_in == +given, f"battle {battle_id}: {dict(paid_in)} were paid in, not {dict(+given)}")
        for creator_id, side in new.sides.items():
            if side["status"] == "gone" and old.sides[creator_id]["status"] == "in":
                self._may_be_gone(new, creator_id, context)
        due, standing = self._due_back(old, new)
        if row["status"] == "ended" and old.row["status"] != "ended":
            self._ends(new, context, standing, shared)
        else:
            require(not shared, f"battle {battle_id} is {row['status']}, and was shared out")
        if row["status"] == "cancelled":
            self._called_off(new, context)
        require(back == +due, f"battle {battle_id}: {dict(back)} went back, not {dict(+due)}")
        self._pot(new)

    def _moved(self, battle_id: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """What the commit moved: into the pot and back by person, and shared out by account."""
        paid_in: Counter[str] = Counter()
        back: Counter[str] = Counter()
        shared: Counter[str] = Counter()
        for kind, reference, entries in self._books.latest:
            if kind not in STAKES or not reference.startswith(f"{battle_id}:"):
                continue
            person, tokens = reference.split(":")[1], entries[f"pot:{battle_id}"]
            if kind == "stake":
                paid_in[person] += tokens
            elif kind == "stake_return":
                back[person] -= tokens
            else:
                shared.update({account: entry for account, entry in entries.items() if account[:4] != "pot:"})
        return paid_in, back, shared

    def _entered(self, entered: dict[str, int], new: Known) -> None:
        row = new.row
        for creator_id, fee in entered.items():
            require(fee == row["entry_fee"], f"{creator_id} entered battle {row['id']} for {fee}")
            require(row["begins_at"] > self._moment(), f"{creator_id} entered battle {row['id']} too late")
        if entered:
            require(row["status"] == "open", f"{list(entered)} entered battle {row['id']}: {row['status']}")
            require(len(_inside(new)) <= row["most_creators"], f"battle {row['id']} has too many sides")

    def _tipped(self, tip: Row, new: Known) -> None:
        """Somebody meant it, for this side, which is in; and the battle takes tips."""
        row, side = new.row, new.sides[tip["creator_id"]]
        meant = self.meant.get((tip["fan_id"], tip["key"]))
        said = (row["id"], tip["creator_id"], tip["amount"])
        require(meant == said, f"tip {tip['id']} is {said}, and {meant} was meant")
        until = row["ends_at"] if row["status"] == "running" else row["begins_at"]
        takes = row["status"] in _UNFINISHED and until > self._moment() and side["status"] == "in"
        require(takes, f"battle {row['id']} took tip {tip['id']} for a side that is {side['status']}")

    def _due_back(self, old: Known, new: Known) -> tuple[Counter[str], list[Row]]:
        """By person, what this commit is to give back; and the tips that count in what follows."""
        row = new.row
        whole = row["status"] == "cancelled" or row["outcome"] == "returned"
        people = {tip["fan_id"] for tip in new.tips.values()} | set(new.sides)
        without = self._frozen(people) | (self._bad(row["id"], people) if row["status"] == "ended" else set())
        due: Counter[str] = Counter()
        standing: list[Row] = []
        for creator_id, side in new.sides.items():
            before = old.sides.get(creator_id, {"fee": 0, "status": ""})
            goes = whole or creator_id in without or self._fee_returns(before, side, row)
            if before["fee"]:
                due[creator_id] += before["fee"] if goes else 0
                said = f"{row['id']}: {creator_id} is {side['status']}, with a fee of {side['fee']}"
                require((side["fee"] == 0) == goes, said)
        for id_, tip in new.tips.items():
            if id_ in old.tips and old.tips[id_]["returned_at"] is not None:
                continue
            side = new.sides[tip["creator_id"]]
            unseen = side["status"] == "left" or (side["status"] == "gone" and side["came_at"] is None)
            if not (unseen or tip["fan_id"] in without):
                standing.append(tip)
            goes = whole or unseen or tip["fan_id"] in without
            due[tip["fan_id"]] += tip["amount"] if goes else 0
            word = "stays" if tip["returned_at"] is None else "went back"
            require((tip["returned_at"] is not None) == goes, f"{row['id']}: tip {id_} of {tip['amount']} {word}")
        return due, standing

    def _fee_returns(self, before: Row, side: Row, row: Row) -> bool:
        """Who left has the fee again; who never came, unless there was a minute to come after the time told."""
        if side["status"] == "left":
            return True
        if side["status"] != "gone" or before["status"] != "in" or side["came_at"] is not None:
            return False
        return bool(max(row["started_at"], row["begins_at"]) > self._moment(-_MINUTE))

    def _ends(self, new: Known, context: Context, standing: list[Row], shared: Counter[str]) -> None:
        row, name = new.row, f"battle {new.row['id']}"
        stayed = [creator_id for creator_id, side in new.sides.items() if side["status"] == "done"]
        self._may_end(new, stayed, context)
        came = sum(side["came_at"] is not None for side in new.sides.values())
        score: Counter[str] = Counter()
        for tip in standing:
            score[tip["creator_id"]] += tip["amount"]
        scores = [score[creator_id] for creator_id in stayed]
        if not stayed or came < 2 or not score:
            expected = "returned"
        elif len(stayed) == 1:
            expected = "walkover"
        else:
            expected = "draw" if scores.count(max(scores)) > 1 else "won"
        require(row["outcome"] == expected, f"{name} is {row['outcome']}, not {expected}")
        wanted: Counter[str] = Counter()
        if expected != "returned":
            pot = sum(side["fee"] for side in new.sides.values()) + sum(tip["amount"] for tip in standing)
            require(row["pot_tokens"] == pot, f"{name} had {row['pot_tokens']} in its pot, not {pot}")
            for creator_id, share in zip(stayed, shares_of(pot, scores, row["winner_percent"]), strict=True):
                fee = share * COMMISSION_PERCENT // 100
                wanted[f"earnings_pending:{creator_id}"] += share - fee
                wanted["fees"] += fee
                side = new.sides[creator_id]
                said = (side["share"], side["earned"])
                require(said == (share, share - fee), f"{name}: {creator_id} is said to have {said} of {share}")
        require(+shared == +wanted, f"{name} ({expected}) paid {dict(+shared)}, not {dict(+wanted)}")

    def _may_end(self, new: Known, stayed: list[str], context: Context) -> None:
        """By the clock when its time is over or there is one left, or by its host."""
        row, who = new.row, context.who
        there = [creator_id for creator_id in stayed if new.away[creator_id] is None]
        may = {
            "time": who == "clock" and row["ends_at"] <= self._moment(),
            "host": who == "web:end_battle",
            "deserted": who == "clock" and (not stayed or (len(stayed) == 1 and stayed == there)),
        }.get(row["end_reason"], False)
        require(may, f"battle {row['id']} was ended by {who} for {row['end_reason']}, with {stayed} in it")
        for creator_id in stayed:
            require(new.sides[creator_id]["came_at"] is not None, f"{creator_id} never came, and has a share")

    def _called_off(self, new: Known, context: Context) -> None:
        row, who = new.row, context.who
        frozen = bool(self._frozen({row["host_id"]}))
        few = len([side for side in new.sides.values() if side["status"] == "done"]) < 2
        may = {
            # Or there was no media node for ten minutes.
            "too_few": who == "clock" and row["begins_at"] <= self._moment(-(0 if few else 10) * _MINUTE),
            "withdrawn": who == "web:leave_battle",
            "moderation": frozen,
        }.get(row["end_reason"], False)
        require(may, f"battle {row['id']} was called off by {who} for {row['end_reason']}")

    def _pot(self, new: Known) -> None:
        """In the pot is what its fees and tips say, each person's under their own name; at the end nothing."""
        row = new.row
        stakes: Counter[str] = Counter()
        for creator_id, side in new.sides.items():
            stakes[creator_id] += side["fee"]
        for tip in new.tips.values():
            stakes[tip["fan_id"]] += tip["amount"] if tip["returned_at"] is None else 0
        for person_id, tokens in stakes.items():
            wanted = tokens if row["status"] in _UNFINISHED else 0
            held = self._books.held(f"{row['id']}:{person_id}")
            require(held == wanted, f"{person_id} has {held} in the pot of {row['id']}, not {wanted}")

    # --- small things -------------------------------------------------------------------------------

    def _moment(self, ahead: timedelta = timedelta()) -> Any:
        return self._eye.moment(self._timeline.utc() + ahead)

    def _frozen(self, people: Iterable[str]) -> set[str]:
        query = "SELECT id FROM people WHERE spending_frozen_at IS NOT NULL AND id IN (?*)"
        return {row[0] for row in self._eye.among(query, people)}

    def _bad(self, battle_id: str, people: Iterable[str]) -> set[str]:
        return {one for one in people if self._books.bad_tokens_before(f"{battle_id}:{one}")}


def _inside(known: Known) -> list[str]:
    return [creator_id for creator_id, side in known.sides.items() if side["status"] == "in"]


def shares_of(pot: int, scores: list[int], winner_percent: int | None) -> list[int]:
    """What each side gets of a pot, in the order of ``scores``, which is that of entering."""
    count, best = len(scores), max(scores)
    top = scores.count(best)
    if winner_percent is None or count == 1 or top == count:
        exact = [Fraction(pot, count)] * count
    else:
        other = Fraction(100 - winner_percent, 100) / (count - 1)
        first = (Fraction(winner_percent, 100) + (top - 1) * other) / top
        exact = [pot * (first if score == best else other) for score in scores]
    shares = [int(part) for part in exact]
    for place in sorted(range(count), key=lambda side: -scores[side])[: pot - sum(shares)]:
        shares[place] += 1
    return shares
