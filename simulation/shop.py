"""What people do about passes and recordings: press, press again, block, agree, withdraw, buy, delete.

They know what their pages would tell them and nothing of the rules; what must follow, ``sales`` judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.consents import Terms
from models.receipt_keys import signing_key
from models.services import accounts, blocks, passes, recording_sales, recordings
from simulation.people import Creator, Fan

if TYPE_CHECKING:
    from simulation.world import World

KEEP_DAYS = 9
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Shop:
    """Plans and plays what is bought besides sessions."""

    def __init__(self, world: World) -> None:
        self.world, self.house = world, world.house
        self.timeline, self.random = world.timeline, world.timeline.random
        self._key = signing_key(self.house.settings)
        self.house.invariants.sales.sold = self._sold

    # --- passes -------------------------------------------------------------------------------------

    def buy_pass(self, fan: Fan) -> None:
        """A day of somebody's picture: of who is on the air, mostly, and at the price of the moment, mostly."""
        random = self.random
        on_air = [creator for creator in random.sample(self.world.creators, 3) if creator.on_air]
        creator = on_air[0] if on_air else self.world.somebody()
        stream = creator.stream()
        room_id = f"battle-{creator.battle}" if creator.battle else stream[1] if stream else None
        if room_id is not None:
            self.world.transcoder.show(room_id)
        asked = self.house.eye.rows(
            "SELECT pass_price FROM creator_settings WHERE creator_id = ?", (creator.user_id,)
        )
        price = ((asked[0][0] if asked else None) or 25) - (random.random() < 0.03)
        self._press_pass(fan, creator, price)
        if random.random() < 0.15:
            # Another tab, that shows no pass yet.
            self._press_pass(fan, creator, price)

    def _press_pass(self, fan: Fan, creator: Creator, price: int) -> None:
        key = f"pass-{self.random.randrange(10**9)}"

        def buy(tx: Any, now: Any) -> Any:
            passes.buy(
                tx,
                fan=fan.person,
                creator_id=creator.user_id,
                max_price=price,
                key=key,
                now=now,
                settings=self.house.settings,
                cause_id=key,
            )

        with self.house.once("pass"):
            for _ in range(self.random.choice((1, 1, 2))):
                self.house.call(fan.user_id, "buy_pass", buy)

    def _sold(self, row: dict[str, Any]) -> None:
        """Some who sell a pass block its buyer before it is over, and some take that back."""
        if self.random.random() < 0.4:
            soon, late = self.random.randrange(1_000, HOUR_MS), self.random.randrange(26 * HOUR_MS)
            delay = self.random.choice((soon, late))
            self.timeline.after(delay, lambda: self._block(row["creator_id"], row["fan_id"]))

    def _block(self, creator_id: str, fan_id: str) -> None:
        for _ in range(self.random.choice((1, 2))):
            self.house.call(creator_id, "block", lambda tx, now: blocks.block(tx, creator_id, fan_id, now))
        if self.random.random() < 0.8:
            self.timeline.after(self.random.randrange(HOUR_MS), lambda: self._unblock(creator_id, fan_id))

    def _unblock(self, creator_id: str, fan_id: str) -> None:
        self.house.call(creator_id, "unblock", lambda tx, now: accounts.unblock(tx, creator_id, fan_id))

    # --- recordings ---------------------------------------------------------------------------------

    def opened(self, session: dict[str, Any]) -> None:
        """A call begins; in some both want to have it recorded."""
        creator = self.world.creator_of[session["creator_id"]]
        if not creator.records or not self.world.rarely(0.45):
            return
        for person_id in (session["fan_id"], session["creator_id"]):
            delay = self.random.randrange(9_000, 25_000)
            self.timeline.after(delay, lambda one=person_id: self._agree(session["id"], one, 2))  # type: ignore[misc]
        if self.random.random() < 0.12:
            one = self.random.choice((session["fan_id"], session["creator_id"]))
            self.timeline.after(self.random.randrange(12_000, 90_000), lambda: self._withdraw(session["id"], one))

    def _agree(self, session_id: str, person_id: str, tries: int) -> None:
        if session_id not in self.world.visits:
            return
        view = self.house.read(lambda tx: recordings.view(tx, session_id, person_id, KEEP_DAYS))
        if view is None or not view.offered:
            return
        seen = view.terms
        if self.random.random() < 0.04:
            seen = Terms(price=seen.price + 1, shared=seen.shared, keep_days=seen.keep_days)

        def agree(tx: Any, now: Any) -> None:
            recordings.consent(
                tx, session_id, person_id=person_id, seen=seen, keep_days=KEEP_DAYS, key=self._key, now=now
            )

        answer = self.house.call(person_id, "agree", agree)
        if not answer.ok and tries:
            delay = self.random.randrange(2_000, 15_000)
            self.timeline.after(delay, lambda: self._agree(session_id, person_id, tries - 1))

    def _withdraw(self, session_id: str, person_id: str) -> None:
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                person_id,
                "withdraw",
                lambda tx, now: recordings.withdraw(tx, session_id, person_id=person_id, key=self._key, now=now),
            )

    def recorded(self, row: dict[str, Any], before: str) -> None:
        """A recording can be watched: its fan buys it, or not; either side deletes it, or not."""
        if row["status"] != "kept":
            return
        random = self.random
        del before
        if random.random() < 0.75:
            delay = random.choice((random.randrange(1_000, HOUR_MS), random.randrange(5 * DAY_MS)))
            self.timeline.after(delay, lambda: self._buy(row))
        dice, later = random.random(), random.randrange(60_000, 8 * DAY_MS)
        if dice < 0.35:
            self.timeline.after(later, lambda: self._delete(row, row["creator_id"]))
        elif dice < 0.45:
            self.timeline.after(later, lambda: self._delete(row, row["fan_id"]))

    def _buy(self, row: dict[str, Any]) -> None:
        fan = self.world.fans[row["fan_id"]]
        price = row["price_tokens"] + (self.random.random() < 0.03)
        if self.house.invariants.books.sums[f"wallet:{fan.user_id}"] < price and self.random.random() < 0.3:
            fan.buy()

        def buy(tx: Any, now: Any) -> None:
            recording_sales.buy(tx, row["id"], fan_id=fan.user_id, price=price, cause_id=row["id"], now=now)

        with self.house.once("recording"):
            for _ in range(self.random.choice((1, 1, 2))):
                answer = self.house.call(fan.user_id, "buy_recording", buy)
        if answer.ok and self.world.rarely(0.35):
            # Seen, and never to be seen by anybody again.
            delay = self.random.randrange(60_000, 2 * DAY_MS)
            self.timeline.after(delay, lambda: self._delete(row, fan.user_id))

    def _delete(self, row: dict[str, Any], by: str) -> None:
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                by,
                "delete_recording",
                lambda tx, now: recording_sales.delete(tx, row["id"], person_id=by, now=now),
            )
