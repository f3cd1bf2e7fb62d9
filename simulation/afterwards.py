"""What happens around sessions: times booked ahead, complaints, refunds, unused tokens given back, payouts.

Some of it takes days; it is planned when its cause arises and happens in whichever night it falls.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.services import bookings, complaints, earnings, payouts, purchase_refunds, refunds
from simulation.people import Creator, Fan, Human

if TYPE_CHECKING:
    from simulation.world import World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Afterwards:
    """Plans what follows from what happened."""

    def __init__(self, world: World) -> None:
        self.world, self.house = world, world.house
        self.timeline, self.random = world.timeline, world.timeline.random

    # --- bookings -----------------------------------------------------------------------------------

    def open_time(self, creator: Creator) -> None:
        """A creator opens a time a few minutes ahead; a fan may take it."""
        far = self.random.random() < 0.4
        seconds = self.random.randrange(4_000, 200_000) if far else self.random.randrange(310, 700)
        ahead = timedelta(seconds=seconds)
        slot = bookings.NewSlot(starts_at=self.timeline.utc() + ahead, minutes=self.random.choice((1, 1, 2, 3)))
        minute_ms = self.house.settings.minute_ms

        def open_it(tx: Any, now: Any) -> str:
            return bookings.open_slots(tx, creator.person, [slot], now=now, minute_ms=minute_ms)[-1].slot_id

        answer = self.house.call(creator.user_id, "open_slot", open_it)
        if not answer.ok:
            return
        for fan in self.random.sample(list(self.world.fans.values()), self.random.choice((1, 1, 2))):
            delay = self.random.randrange(1_000, 30_000)
            self.timeline.after(delay, lambda fan=fan: self._book(fan, creator, answer.value))  # type: ignore[misc]

    def _book(self, fan: Fan, creator: Creator, slot_id: str) -> None:
        answer = self.house.call(
            fan.user_id,
            "book",
            lambda tx, now: (
                bookings.book(
                    tx, fan.person, slot_id, now=now, settings=self.house.settings, cause_id=f"cause-{slot_id}"
                ).booking_id
            ),
            key=f"book-{slot_id}",
        )
        if answer.ok and answer.value and self.random.random() < 0.4:
            by = creator.user_id if self.random.random() < 0.6 else fan.user_id
            delay = self.random.randrange(1_000, 300_000)
            self.timeline.after(delay, lambda: self._cancel(answer.value, by))

    def _cancel(self, booking_id: str, by: str) -> None:
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                by,
                "cancel_booking",
                lambda tx, now: bookings.cancel(tx, booking_id, by_person_id=by, now=now).booking_id,
            )

    # --- a session is over --------------------------------------------------------------------------

    def ended(self, session: dict[str, Any]) -> None:
        """Somebody may not be content."""
        dice, complaints_, refunds_ = self.random.random(), self.world.often(0.09), self.world.often(0.08)
        session_id: str = session["id"]
        if dice < complaints_:
            by = session["fan_id"] if self.random.random() < 0.8 else session["creator_id"]
            delay = self.random.randrange(10_000, 3 * DAY_MS)
            self.timeline.after(delay, lambda: self._complain(session_id, by))
        elif dice < complaints_ + refunds_:
            soon, late = self.random.randrange(60_000, HOUR_MS), self.random.randrange(40 * DAY_MS)
            delay = self.random.choice((soon, late))
            by = session["creator_id"]
            self.timeline.after(delay, lambda: self._refund(session_id, by))

    def _complain(self, session_id: str, by: str) -> None:
        answer = self.house.call(
            by,
            "complain",
            lambda tx, now: (
                complaints.complain(tx, session_id, by_id=by, reason="Nothing to see.", now=now).complaint_id
            ),
        )
        if answer.ok:
            delay = self.random.randrange(HOUR_MS, 40 * DAY_MS)
            self.timeline.after(delay, lambda: self._decide(answer.value))

    def _decide(self, complaint_id: str) -> None:
        tokens = self.random.choice((0, 1, 17, 50))
        for _ in range(self.random.choice((1, 1, 2))):
            self.house.call(
                "admin",
                "decide",
                lambda tx, now: (
                    complaints.decide(
                        tx,
                        complaint_id,
                        admin_id=self.world.admin_id,
                        refund_tokens=tokens,
                        reason="It was looked at.",
                        cause_id=complaint_id,
                        now=now,
                    ).complaint_id
                ),
            )

    def _refund(self, session_id: str, by: str) -> None:
        tokens, key = self.random.choice((None, 1, 1, 13)), f"give-{self.random.randrange(10**9)}"

        def give(tx: Any, now: Any) -> int:
            return refunds.give(
                tx,
                session_id,
                by_id=by,
                side="creator",
                tokens=tokens,
                reason="It was not my day.",
                key=key,
                cause_id=key,
                now=now,
            ).tokens

        with self.house.once("reverse"):
            for _ in range(self.random.choice((1, 2, 2))):
                self.house.call(by, "give_back", give)

    # --- money --------------------------------------------------------------------------------------

    def bought(self, buyer: Human, purchase_id: str) -> None:
        """Some tokens are never used, and given back for their price."""
        charge = self.house.gateway.charges.get(purchase_id)
        # Cards to which nothing can be given back are rare, and a path of their own.
        chance = 0.5 if charge is not None and charge.card == "refund-fails" else 0.1
        if self.world.rarely(chance):
            delay = self.random.choice((self.random.randrange(1_000, HOUR_MS), self.random.randrange(5 * DAY_MS)))
            self.timeline.after(delay, lambda: self._give_back(buyer, purchase_id))

    def _give_back(self, buyer: Human, purchase_id: str) -> None:
        tokens = self.random.choice((None, None, 7))
        for _ in range(self.random.choice((1, 2))):
            self.house.call(
                buyer.user_id,
                "unused",
                lambda tx, now: (
                    purchase_refunds.request(
                        tx,
                        user_id=buyer.user_id,
                        purchase_id=purchase_id,
                        tokens=tokens,
                        cause_id=f"cause-{purchase_id}",
                        now=now,
                    ).refund_id
                ),
            )

    def pay_day(self) -> None:
        """Creators with cleared earnings have them paid out."""
        sums = self.house.invariants.books.sums
        for creator in self.world.creators:
            if sums[f"earnings:{creator.user_id}"] > 0:
                self.timeline.after(self.random.randrange(HOUR_MS), lambda creator=creator: self._pay_out(creator))  # type: ignore[misc]

    def _pay_out(self, creator: Creator) -> None:
        house = self.house
        terms = earnings.terms_of(house.settings)
        house.ask(
            creator.user_id,
            "onboard",
            lambda: payouts.onboard(
                house.db, house.gateway, creator.user_id, return_url="", account=None, now=self.timeline.utc()
            ),
        )

        def request(tx: Any, now: Any) -> Any:
            payable = earnings.payable(tx, creator.user_id, terms, now)
            return payouts.request(
                tx,
                creator.user_id,
                tokens=payable.tokens,
                terms=terms,
                gateway=house.gateway.name,
                cause_id=f"cause-{creator.user_id}",
                now=now,
            ).payout_id

        for _ in range(self.random.choice((1, 2))):
            house.call(creator.user_id, "payout", request)
