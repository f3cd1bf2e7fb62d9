"""Battles as their people play them: who opens one, enters, comes, vanishes, tips a side, ends it, is cut out.

Everything is planned from the seed when the rows say that a battle exists or has begun; what the house makes of it
is its own. What each person meant to pay is kept here, for ``battles`` to judge by.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.services import battles, rooms, termination
from simulation.people import Creator, Fan, Human
from simulation.truth import Wish

if TYPE_CHECKING:
    from simulation.world import World

HOUR_MS = 3_600_000
WAITS_MS = 2_000


class Arena:
    """Plans battles, and plays them."""

    def __init__(self, world: World) -> None:
        self.world, self.house = world, world.house
        self.timeline, self.random = world.timeline, world.timeline.random
        self._inside: dict[str, set[str]] = {}
        """Battle → whose seats are taken, as they themselves see it."""
        judge = self.house.invariants.battles
        judge.opened, judge.begun, judge.over = self._opened, self._begun, self._over
        self.meant = judge.meant
        self.house.node.shown = self._shown

    # --- before it begins ---------------------------------------------------------------------------

    def open(self, host: Creator) -> None:
        """A creator opens a battle; the press may be repeated."""
        random = self.random
        fee = random.choice((0, 7, 20, 33))
        self._provide(host, fee)
        soon = random.random() < 0.93
        seconds = random.randrange(15, 110) if soon else random.randrange(3_600, 500_000)
        begins_at = self.timeline.utc() + timedelta(seconds=seconds)
        winner_percent = random.choice((None, 50, 60, 67, 100))
        most_creators, limit_minutes = random.choice((2, 2, 3, 4)), random.choice((1, 1, 2, 2))
        key = f"battle-{random.randrange(10**9)}"

        def open_it(tx: Any, now: Any) -> Any:
            battles.open_battle(
                tx,
                host.person,
                title="Who sings",
                entry_fee=fee,
                winner_percent=winner_percent,
                most_creators=most_creators,
                limit_minutes=limit_minutes,
                begins_at=begins_at,
                now=now,
                settings=self.house.settings,
                cause_id=f"cause-{key}",
            )

        with self.house.once("stake"):
            for _ in range(random.choice((1, 1, 2))):
                self.house.call(host.user_id, "open_battle", open_it, key=key)

    def _opened(self, battle: dict[str, Any]) -> None:
        """There is a new one: others enter, fans tip, and its host may not wait, or not want it any more."""
        random, battle_id = self.random, battle["id"]
        self._inside[battle_id] = set()
        for creator in random.sample(self.world.creators, min(len(self.world.creators), random.choice((1, 2, 3)))):
            if creator.user_id != battle["host_id"]:
                delay = random.randrange(1_000, 12_000)
                self.timeline.after(delay, lambda creator=creator: self._enter(creator, battle))  # type: ignore[misc]
        if random.random() < 0.5:
            early = random.randrange(9_000, 40_000)
            self._by_host(battle, early, "start_battle", battles.start)
        if random.random() < 0.05:
            self._by_host(battle, random.randrange(2_000, 60_000), "leave_battle", self._leave)
        if random.random() < 0.15:
            self._by_host(battle, random.randrange(30_000, 170_000), "end_battle", battles.end)
        for _ in range(random.choice((0, 1, 2, 3, 4))):
            fan = random.choice(list(self.world.fans.values()))
            delay = random.randrange(2_000, 140_000)
            self.timeline.after(delay, lambda fan=fan: self._tip(fan, battle_id, None))  # type: ignore[misc]
        if random.random() < 0.3:
            # Whose fans are all each other's friends: an even fight.
            fan = random.choice(list(self.world.fans.values()))
            delay = random.randrange(14_000, 100_000)
            self.timeline.after(delay, lambda: self._tip_all(fan, battle_id))

    def _enter(self, creator: Creator, battle: dict[str, Any]) -> None:
        self._provide(creator, battle["entry_fee"])
        seen = battle["entry_fee"] - (self.random.random() < 0.03)

        def enter(tx: Any, now: Any) -> Any:
            battles.enter(
                tx, battle["id"], creator.person, max_entry_fee=seen, now=now, cause_id=f"cause-{battle['id']}"
            )

        with self.house.once("stake"):
            for _ in range(self.random.choice((1, 1, 2))):
                self.house.call(creator.user_id, "enter_battle", enter)
        if self.random.random() < 0.12:
            delay = self.random.randrange(1_000, 40_000)
            self.timeline.after(delay, lambda: self._go(creator, battle["id"]))

    def _go(self, creator: Creator, battle_id: str) -> None:
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                creator.user_id, "leave_battle", lambda tx, now: self._leave(tx, battle_id, creator.person, now)
            )
        if self.random.random() < 0.3:
            # Had it been a mistake: back for the fee of the battle, if it still takes anybody in.
            found = self.house.invariants.battles.known.get(battle_id)
            if found is not None:
                self._enter(creator, found.row)

    @staticmethod
    def _leave(tx: Any, battle_id: str, person: Any, now: Any) -> Any:
        return battles.leave(tx, battle_id, person.user_id, now)

    def _by_host(self, battle: dict[str, Any], delay: int, act: str, do: Callable[..., Any]) -> None:
        host = self.world.creator_of[battle["host_id"]]

        def press() -> None:
            for _ in range(self.random.choice((1, 1, 2))):
                self.house.call(
                    host.user_id, act, lambda tx, now: do(tx, battle["id"], host.person, now), wish=Wish(act)
                )

        self.timeline.after(delay, press)

    def _provide(self, human: Human, tokens: int) -> None:
        """Who has not got the tokens mostly finds that out."""
        if self.house.invariants.books.sums[f"wallet:{human.user_id}"] < tokens and self.random.random() < 0.25:
            human.buy()

    # --- while it runs ------------------------------------------------------------------------------

    def _begun(self, battle: dict[str, Any], inside: list[str]) -> None:
        """Those who are in it come, mostly; some vanish, and an admin may cut one of them out."""
        random = self.random
        for user_id in inside:
            creator = self.world.creator_of[user_id]
            creator.battle = battle["id"]
            dice = random.random()
            if dice < 0.77:
                self._later(battle, random.randrange(800, 15_000), self._come, user_id)
            elif dice < 0.85:
                self._later(battle, random.randrange(45_000, 75_000), self._come, user_id)
            if random.random() < 0.2:
                start = random.randrange(15_000, 80_000)
                self._later(battle, start, self._vanish, user_id)
                if random.random() < 0.6:
                    self._later(battle, start + random.randrange(2_000, 50_000), self._come, user_id)
        if random.random() < 0.06:
            cut = random.choice(inside)
            self._later(battle, random.randrange(3_000, 60_000), self._cut, cut)

    def _later(
        self, battle: dict[str, Any], delay: int, act: Callable[[dict[str, Any], str], None], user_id: str
    ) -> None:
        def unless_over() -> None:
            if battle["id"] in self._inside:
                act(battle, user_id)

        self.timeline.after(delay, unless_over)

    def _come(self, battle: dict[str, Any], user_id: str) -> None:
        """Ask for a grant as the page does, then take the seat; again while the room is not open yet."""
        creator = self.world.creator_of[user_id]

        def grant(tx: Any) -> bool:
            asked = rooms.admission(
                tx, person=creator.person, room_id=battle["room_id"], role="participant", now=self.timeline.utc()
            )
            rooms.signaling_url(tx, battle["room_id"])
            return asked.publish

        free = creator.visit is None
        if free and self.house.read(grant) and self.house.node.seat(battle["room_id"], user_id, here=True):
            self._inside[battle["id"]].add(user_id)
        elif user_id not in self._inside[battle["id"]]:
            self._later(battle, WAITS_MS + self.random.randrange(4_000), self._come, user_id)

    def _vanish(self, battle: dict[str, Any], user_id: str) -> None:
        if user_id in self._inside[battle["id"]]:
            self._inside[battle["id"]].discard(user_id)
            self.house.node.seat(battle["room_id"], user_id, here=False)

    def _shown(self, room_id: str) -> None:
        """A new life of the node has the room: whoever was in it comes back, mostly."""
        found = self.house.invariants.battles.known.get(room_id.removeprefix("battle-"))
        if found is None or found.row["id"] not in self._inside:
            return
        was, self._inside[found.row["id"]] = self._inside[found.row["id"]], set()
        for user_id in sorted(was):
            if self.random.random() < 0.9:
                self._later(found.row, self.random.randrange(800, 20_000), self._come, user_id)

    def _cut(self, battle: dict[str, Any], user_id: str) -> None:
        self._inside[battle["id"]].discard(user_id)
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                "admin",
                "cut_from_battle",
                lambda tx, now: termination.terminate(
                    tx,
                    room_id=battle["room_id"],
                    user_id=user_id,
                    reason="MODERATION",
                    label_by=self.world.admin,
                    now=now,
                ),
                wish=Wish("cut", user_id),
            )

    def _over(self, battle: dict[str, Any], inside: list[str]) -> None:
        self._inside.pop(battle["id"], None)
        for user_id in inside:
            creator = self.world.creator_of[user_id]
            if creator.battle == battle["id"]:
                creator.battle = None

    # --- fans ---------------------------------------------------------------------------------------

    def _tip_all(self, fan: Fan, battle_id: str) -> None:
        for side in self.house.invariants.battles.known[battle_id].sides:
            self._tip(fan, battle_id, side, 5)

    def _tip(self, fan: Fan, battle_id: str, side: str | None, amount: int | None = None) -> None:
        """A tip for a side, said once or twice under the same key."""
        sides = self.house.invariants.battles.known[battle_id].sides
        side = side or self.random.choice(sorted(sides))
        amount = amount or self.random.choice((5, 5, 11, 40, 99))
        self._provide(fan, amount)
        key = f"side-{self.random.randrange(10**9)}"
        self.meant[fan.user_id, key] = (battle_id, side, amount)

        def tip(tx: Any, now: Any) -> Any:
            battles.tip(
                tx, battle_id, fan=fan.person, creator_id=side, amount=amount, key=key, now=now, cause_id=key
            )

        with self.house.once("stake"):
            for _ in range(self.random.choice((1, 1, 2))):
                if self.house.call(fan.user_id, "tip_side", tip).ok:
                    self.house.invariants.battles.answered.add((fan.user_id, key))
