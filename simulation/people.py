"""Fans and creators: what they try, how often, and what they do when the answer is lost.

They know what their pages would tell them and nothing of the rules; most of what they may not do, they try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import ids
from models.services import (
    offers,
    payments,
    presence,
    private_streams,
    queueing,
    recordings,
    streams,
    subscriptions,
    tips,
)
from models.services.accounts import Person
from simulation import gateway

if TYPE_CHECKING:
    from simulation.world import World

PACKAGES = ("tokens-200", "tokens-500", "tokens-1000", "tokens-2500")


class Human:
    """What both kinds of people have."""

    def __init__(self, world: World, person: Person) -> None:
        self.world, self.house, self.person = world, world.house, person
        self.timeline, self.random = world.timeline, world.timeline.random
        self.user_id = person.user_id
        self._feed: str | None = None
        self._asleep = True

    def wake(self) -> None:
        """A new day: the page is open again."""
        if self._asleep:
            self._asleep = False
            self.open_feed()
            self._again()

    def open_feed(self) -> None:
        """The page connects."""
        user_id, boot = self.user_id, self.house.web_boot
        answer = self.house.call(user_id, "feed", lambda tx, now: presence.feed_opened(tx, user_id, boot, now))
        self._feed = answer.value if answer.ok else None

    def close_feed(self) -> None:
        """The page is gone."""
        feed, self._feed = self._feed, None
        if feed is not None:
            self.house.call(self.user_id, "feed_lost", lambda tx, now: presence.feed_closed(tx, feed, now))

    def _again(self) -> None:
        self.timeline.after(self.random.randrange(3_000, 22_000), self._wakes)

    def _wakes(self) -> None:
        if self.world.night:
            self._asleep = True
            return
        if self._feed is None and self.random.random() < 0.7:
            self.open_feed()
        self.act()
        self._again()

    def act(self) -> None:
        """One thing that this person does."""
        raise RuntimeError("nobody in particular")

    def buy(self) -> None:
        """Tokens by card; once more with the same key when the answer was lost."""
        package = self.random.choices(PACKAGES, (2, 3, 4, 3))[0]
        card = self.random.choices(gateway.CARDS, gateway.WEIGHTS)[0]
        key = f"buy-{self.random.randrange(10**9)}"
        save = self.random.random() < 0.2

        def pay() -> Any:
            return payments.top_up(
                self.house.db,
                self.house.gateway,
                user_id=self.user_id,
                package_id=package,
                card=card,
                key=key,
                cause_id=f"cause-{key}",
                now=self.timeline.utc(),
                save_card=save,
                return_url=lambda purchase_id: "https://greenroom.test/",
            )

        answer = self.house.ask(self.user_id, "buy", pay)
        for _ in range(3):
            if not answer.lost and self.random.random() > 0.05:
                break
            answer = self.house.ask(self.user_id, "buy", pay)
        if answer.ok:
            self.world.afterwards.bought(self, answer.value.purchase_id)


class Fan(Human):
    """Buys tokens, asks for sessions, and does all the rest that fans do."""

    def __init__(self, world: World, person: Person) -> None:
        super().__init__(world, person)
        self.requests: list[str] = []
        self.visit: str | None = None
        self._frozen = False
        self._favourite: Creator | None = None
        self._patient = self.random.random() < 0.4

    def act(self) -> None:
        """Mostly ask for a session."""
        if self.visit is not None:
            if self.random.random() < 0.05:
                self._tip()
            return
        dice = self.random.random()
        mine = self._open_requests()
        poor = self.house.invariants.books.sums[f"wallet:{self.user_id}"] < 250 and not self._frozen
        if mine:
            if self._patient:
                # Waits for the one answer: neither takes it back nor asks others.
                return
            if dice < 0.05:
                self.cancel(self.random.choice(mine))
            elif dice < 0.30 and len(mine) < 4:
                self.ask()
        elif dice < 0.02:
            self.close_feed()
        elif dice < 0.05:
            self._tip()
        elif dice < 0.11:
            self._subscribe()
        elif dice < 0.11 + (passes := self.world.often(0.015)):
            self.world.shop.buy_pass(self)
        elif poor or dice < 0.12 + passes:
            self.buy()
        elif not self.world.enough:
            self.ask()

    # --- money --------------------------------------------------------------------------------------

    def _tip(self) -> None:
        there = None if self.visit is None else self.world.visits[self.visit].people["creator"]
        creator = there or self.world.somebody().person
        amount, key = self.random.choice((4, 5, 7, 20, 133)), f"tip-{self.random.randrange(10**9)}"

        def tip(tx: Any, now: Any) -> Any:
            return tips.tip(
                tx,
                fan=self.person,
                creator_id=creator.user_id,
                amount=amount,
                session_id=self.visit,
                key=key,
                now=now,
                settings=self.house.settings,
                cause_id=f"cause-{key}",
            )

        with self.house.once("tip"):
            for _ in range(self.random.choice((1, 1, 2))):
                self.house.call(self.user_id, "tip", tip)

    def _subscribe(self) -> None:
        if self._favourite is None or self.random.random() < 0.6:
            self._favourite = self.world.somebody()
        creator = self._favourite

        def act(tx: Any, now: Any) -> Any:
            current = subscriptions.between(tx, self.user_id, creator.user_id, now)
            if current is not None and current.status == "active":
                return subscriptions.cancel(tx, current.subscription_id, fan_id=self.user_id, now=now)
            return subscriptions.subscribe(
                tx,
                fan=self.person,
                creator_id=creator.user_id,
                paid_by="gateway" if self.random.random() < 0.4 else "tokens",
                now=now,
                settings=self.house.settings,
                cause_id="cause-subscribe",
            )

        self.house.call(self.user_id, "subscribe", act)

    # --- requests -----------------------------------------------------------------------------------

    def ask(self) -> None:
        """For a private stream, sometimes twice at once, sometimes at a price that is no longer the price."""
        creator = self.world.somebody()
        if self._favourite is not None and self.random.random() < 0.4:
            creator = self._favourite
        if creator.visit is not None and self.random.random() < 0.8:
            # The page says that this one is busy; most look for another.
            creator = self.world.somebody()
        stream = creator.stream()
        if stream is None:
            return
        minutes = self.random.choice((1, 1, 1, 2, 2, 3, 4, 0))
        stale = 1 if self.random.random() < 0.03 else None
        mode = self.random.choices(("prepaid", "per_minute"), (5, 1))[0]
        unlock = self.random.random() < 0.15
        key = f"ask-{self.random.randrange(10**9)}" if self.random.random() < 0.8 else None

        def request(tx: Any, now: Any) -> Any:
            return private_streams.request(
                tx,
                fan=self.person,
                creator_id=creator.user_id,
                stream_id=stream[0],
                minutes=minutes,
                max_total_cost=stale,
                payment_mode=mode,  # type: ignore[arg-type]
                instant_unlock=unlock,
                now=now,
                settings=self.house.settings,
                cause_id=ids.new_id("cau"),
            )

        answer = self.house.call(self.user_id, "ask", request, key=key)
        if answer.code == "SPENDING_FROZEN":
            self._frozen = True
        if answer.lost or self.random.random() < 0.06:
            self.house.call(self.user_id, "ask", request, key=key)

    def asked(self, request_id: str) -> None:
        """A request of this fan exists now."""
        self.requests.append(request_id)
        del self.requests[:-6]

    def cancel(self, request_id: str) -> None:
        """Take it back, maybe twice."""
        for _ in range(self.random.choice((1, 1, 2))):
            self.house.call(
                self.user_id,
                "cancel",
                lambda tx, now: private_streams.cancel(tx, request_id, fan_id=self.user_id, now=now),
            )

    def called(self, request_id: str) -> None:
        """It is this fan's turn in the queue."""
        if self.random.random() < 0.75:
            self.house.call(
                self.user_id,
                "reconfirm",
                lambda tx, now: queueing.reconfirm(tx, request_id, fan_id=self.user_id, now=now).id,
            )

    def _open_requests(self) -> list[str]:
        known = self.house.invariants.requests
        return [id_ for id_ in self.requests if known[id_]["status"] in ("queued", "pending")]


class Creator(Human):
    """Goes live, answers, comes back to public, and changes prices in between."""

    def __init__(self, world: World, person: Person) -> None:
        super().__init__(world, person)
        self.visit: str | None = None
        self.battle: str | None = None
        """Which one runs, with this creator in it or out of it."""
        self.records = False
        self.on_air = False
        self.settle_in()

    def settle_in(self) -> None:
        """Choose a price and a rule."""
        random = self.random
        self.house.call(
            self.user_id,
            "settings",
            lambda tx, now: offers.put_settings(
                tx,
                self.user_id,
                enabled=random.random() < 0.98,
                rate_per_minute=random.choice((1, 7, 33, 50, 99, 100, 101, 120)),
                min_minutes=random.choice((1, 1, 1, 2)),
                auto_accept=random.choices(("manual", "all", "subscribers"), (5, 4, 1))[0],
                now=now,
            ),
        )
        options = offers.CreatorOptions(
            queue=random.random() < 0.5,
            request_priority=random.choice(("first_come", "subscribers_first", "highest_total")),
            per_minute=random.random() < 0.7,
            instant_unlock_price=random.choice((None, 5, 50)),
            subscription_price=random.choice((None, 30, 99, 150)),
            subscription_minutes=random.choice((0, 2, 5, 5)),
            subscriber_discount_percent=random.choice((0, 1, 10, 33, 90)),
            pass_price=random.choice((None, 6, 25, 99)),
        )
        self.house.call(self.user_id, "options", lambda tx, now: offers.put_options(tx, self.user_id, options))
        offer = recordings.Offer(
            offered=self.world.rarely(0.5),
            price=random.choice((0, 9, 9, 35, 35, 120)),
            shared=random.random() < 0.85,
        )
        if offer.offered or self.records:
            self.house.call(self.user_id, "offer", lambda tx, now: recordings.put_offer(tx, self.user_id, offer))
        self.records = offer.offered

    def stream(self) -> tuple[str, str, str] | None:
        """The creator's open stream: id, room, status."""
        found = self.house.eye.rows(
            "SELECT id, room_id, status FROM streams WHERE creator_id = ? AND status <> 'ended'", (self.user_id,)
        )
        return found[0] if found else None

    def act(self) -> None:
        """Be on the air; change the price now and then."""
        stream = self.stream()
        self.on_air = self.battle is not None or (stream is not None and stream[2] == "live")
        if self.visit is not None or self.battle is not None:
            return
        if stream is None:
            self._go_live()
        elif stream[2] == "private":
            if self.random.random() < 0.8:
                self._back_to_public(stream[0])
        else:
            self._sit(stream)
        dice = self.random.random()
        if dice < 0.03:
            self.settle_in()
        elif dice < 0.06 and not self.world.enough:
            self.world.afterwards.open_time(self)
        elif dice < 0.06 + self.world.often(0.02) and not self.world.enough:
            self.world.arena.open(self)

    def asked(self, request_id: str) -> None:
        """Somebody asks: answer after a while, or not at all."""
        delay = self.random.randrange(600, 20_000)
        late = self.world.rarely(0.15)
        if late:
            # In the very last moment: mostly too late, and before the clock has seen that it is.
            delay = self.random.randrange(119_900, 121_200)
        self.timeline.after(delay, lambda: self._answer(request_id, late=late))

    def _answer(self, request_id: str, *, late: bool) -> None:
        if self.world.night and not late:
            return
        if self.house.invariants.requests[request_id]["status"] not in ("pending", "queued"):
            return
        dice = self.random.random()
        if dice < 0.80:
            for _ in range(self.random.choice((1, 1, 1, 2))):
                self.house.call(
                    self.user_id,
                    "accept",
                    lambda tx, now: private_streams.accept(tx, request_id, creator_id=self.user_id, now=now),
                )
        elif dice < 0.9:
            self.house.call(
                self.user_id,
                "decline",
                lambda tx, now: private_streams.decline(tx, request_id, creator_id=self.user_id, now=now),
            )

    def _go_live(self) -> None:
        answer = self.house.call(
            self.user_id, "go_live", lambda tx, now: streams.go_live(tx, self.person, title="On air", now=now)
        )
        if answer.ok and (stream := self.stream()) is not None:
            self.timeline.after(1_500, lambda: self._sit(stream))

    def _back_to_public(self, stream_id: str) -> None:
        answer = self.house.call(
            self.user_id,
            "resume",
            lambda tx, now: streams.resume_public(tx, stream_id, self.person, now).stream_id,
        )
        if answer.ok and (stream := self.stream()) is not None:
            self.timeline.after(1_500, lambda: self._sit(stream))

    def _sit(self, stream: tuple[str, str, str]) -> None:
        self.house.node.seat(stream[1], self.user_id, here=True)
