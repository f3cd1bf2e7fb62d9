"""What the tests of battles share: creators who battle, fans who tip a side, a node that says who is there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stage import Stage

from models.messages import events
from models.services import battle_clock, battle_views, battles
from models.services.accounts import Person
from models.services.battle_views import BattleView


class Arena:
    """One battle on a stage, and its sides."""

    def __init__(self, stage: Stage, *, sides: int = 2, tokens: int = 1_000, **terms: Any) -> None:
        self.stage = stage
        self.creators = [stage.person("creator", tokens=tokens) for _ in range(sides)]
        self.battle_id = self.open(self.creators[0], **terms).battle_id
        for creator in self.creators[1:]:
            self.enter(creator)

    # --- wishes -------------------------------------------------------------------------------------

    def open(self, host: Person, **terms: Any) -> BattleView:
        wish: dict[str, Any] = {
            "title": "North against South",
            "entry_fee": 50,
            "winner_percent": 70,
            "most_creators": 4,
            "limit_minutes": 10,
            "begins_at": self.stage.now + timedelta(minutes=30),
        }
        return self.stage.run(
            lambda tx: battles.open_battle(
                tx, host, **(wish | terms), now=self.stage.now, settings=self.stage.settings, cause_id="test"
            )
        )

    def enter(self, creator: Person, max_entry_fee: int = 100_000) -> BattleView:
        return self.stage.run(
            lambda tx: battles.enter(
                tx, self.battle_id, creator, max_entry_fee=max_entry_fee, now=self.stage.now, cause_id="test"
            )
        )

    def leave(self, creator: Person) -> BattleView:
        return self.stage.run(lambda tx: battles.leave(tx, self.battle_id, creator.user_id, self.stage.now))

    def start(self, host: Person | None = None) -> BattleView:
        self.stage.heartbeat()
        return self.stage.run(
            lambda tx: battles.start(tx, self.battle_id, host or self.creators[0], self.stage.now)
        )

    def tip(self, fan: Person, creator: Person, amount: int = 100, key: str = "key", **more: Any) -> BattleView:
        return self.stage.run(
            lambda tx: battles.tip(
                tx,
                self.battle_id,
                fan=fan,
                creator_id=creator.user_id,
                amount=amount,
                key=key,
                now=self.stage.now,
                cause_id="test",
                **more,
            )
        )

    def end(self, host: Person | None = None) -> BattleView:
        return self.stage.run(lambda tx: battles.end(tx, self.battle_id, host or self.creators[0], self.stage.now))

    # --- what happens --------------------------------------------------------------------------------

    def comes(self, *creators: Person) -> None:
        """They take their seats."""
        for creator in creators:
            self._said(events.ParticipantJoined, creator)

    def goes(self, *creators: Person) -> None:
        """Their seats are empty."""
        for creator in creators:
            self._said(events.ParticipantLeft, creator, reason="lost")

    def _said(self, kind: Any, creator: Person, **more: Any) -> None:
        at = self.stage.now.isoformat()
        self.stage.event(kind, room_id=self.room_id, user_id=creator.user_id, viewers=0, at=at, **more)

    def running(self) -> Arena:
        """It has begun, and all are there."""
        self.start()
        self.comes(*self.creators)
        return self

    def clock(self) -> None:
        """One round of the clock."""
        self.stage.heartbeat()
        for check in (battle_clock.begin_due, battle_clock.end_due, battle_clock.drop_absent):
            self.stage.run(lambda tx, check=check: check(tx, self.stage.now))  # type: ignore[misc]

    # --- what is -------------------------------------------------------------------------------------

    @property
    def view(self) -> BattleView:
        with self.stage.database.reading() as tx:
            return battle_views.find(tx, self.battle_id, None, self.stage.now)

    @property
    def room_id(self) -> str:
        return f"battle-{self.battle_id}"

    def wallet(self, person: Person) -> int:
        return self.stage.balances(person)["wallet"]

    def earned(self, person: Person) -> int:
        return self.stage.balances(person)["earnings_pending"]
