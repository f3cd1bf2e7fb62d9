"""A private session as its two people play it: who comes, when, what goes wrong, who leaves and how.

Everything is planned from the seed when the session begins; what the node and the house make of it is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from models.services import extending, rooms, sessions, streams, termination
from models.services.accounts import Caller, Person
from simulation.house import House
from simulation.node import Call
from simulation.truth import Wish

Side = Literal["fan", "creator"]


class Visit:
    """One session and its people's plans."""

    def __init__(self, house: House, session: dict[str, Any], fan: Person, creator: Person, admin: Caller) -> None:
        self.house, self.timeline = house, house.timeline
        self.random = house.timeline.random
        self.session_id: str = session["id"]
        self.room_id: str = session["room_id"]
        self.people: dict[Side, Person] = {"fan": fan, "creator": creator}
        self.admin = admin
        self.inside: dict[Side, bool] = {"fan": False, "creator": False}
        self.over = False
        if self.random.random() < 0.03:
            self._later(self.random.randrange(500, 20_000), lambda: self.end(self._one()))

    # --- coming -------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The room is known to be open: both may come."""
        dice = self.random.random()
        sides: tuple[Side, ...] = ("fan", "creator")
        missing = "fan" if dice < 0.05 else "creator" if dice < 0.10 else "both" if dice < 0.11 else ""
        for side in sides:
            if missing not in (side, "both"):
                slow = self.random.random() < 0.04
                delay = self.random.randrange(15_000, 45_000) if slow else self.random.randrange(300, 9_000)
                self._later(delay, lambda side=side: self._enter(side))  # type: ignore[misc]
        self._plan_trouble()
        self._plan_end()

    def reopened(self, call: Call) -> None:
        """A new life of the node has the room: whoever was in it comes back, mostly."""
        was = dict(self.inside)
        self.inside = {"fan": False, "creator": False}
        for side in ("fan", "creator"):
            if was[side] and self.random.random() < 0.93:
                delay = self.random.randrange(800, 12_000)
                self._later(delay, lambda side=side: self._enter(side, call))  # type: ignore[misc]

    def _enter(self, side: Side, call: Call | None = None) -> None:
        """Ask for a grant as the page does, then take the seat."""
        if self.over or self.inside[side]:
            return
        person = self.people[side]

        def grant(tx: Any) -> bool:
            rooms.admission(tx, person=person, room_id=self.room_id, role="participant", now=self.timeline.utc())
            rooms.signaling_url(tx, self.room_id)
            return True

        if call is None and not self.house.read(grant):
            return
        self._at_the_node(lambda call: self._seat(call, side))

    def _seat(self, call: Call, side: Side) -> None:
        self.inside[side] = True
        if side == "fan":
            call.fan(here=True)
        else:
            call.creator(here=True)

    # --- trouble ------------------------------------------------------------------------------------

    def _plan_trouble(self) -> None:
        random = self.random
        start = random.randrange(6_000, 100_000)
        dice = random.random()
        if dice < 0.25:
            self._gap(start, random.randrange(300, 1_900))
        elif dice < 0.40:
            self._gap(start, random.randrange(2_100, 30_000))
        elif dice < 0.43:
            self._gap(start, random.randrange(100_000, 200_000))
        elif dice < 0.50:
            length = random.choice((random.randrange(2_000, 9_800), random.randrange(10_300, 40_000)))
            self._camera(start, length)
        elif dice < 0.57:
            self._vanish("fan", start, random.choice((random.randrange(2_000, 55_000), 200_000)))
        elif dice < 0.61:
            self._vanish("creator", start, random.randrange(1_000, 90_000))

    def _gap(self, start: int, length: int) -> None:
        self._later(start, lambda: self._at_the_node(lambda call: call.send(on=False)))
        self._later(start + length, lambda: self._at_the_node(lambda call: call.send(on=True)))

    def _camera(self, start: int, length: int) -> None:
        black = self.random.random() < 0.5
        self._later(start, lambda: self._at_the_node(lambda call: call.camera(off=True, black=black)))
        self._later(start + length, lambda: self._at_the_node(lambda call: call.camera(off=False)))

    def _vanish(self, side: Side, start: int, length: int) -> None:
        def gone(call: Call) -> None:
            if self.inside[side]:
                self.inside[side] = False
                (call.fan if side == "fan" else call.creator)(here=False)

        self._later(start, lambda: self._at_the_node(gone))
        self._later(start + length, lambda: self._enter(side))

    # --- ends ---------------------------------------------------------------------------------------

    def _plan_end(self) -> None:
        random = self.random
        after = 4_000 + int(random.expovariate(1 / 55_000))
        dice = random.random()
        plans: tuple[tuple[float, Callable[[], None]], ...] = (
            (0.20, lambda: self._at_the_node(lambda call: call.leave("fan"))),
            (0.26, lambda: self._at_the_node(lambda call: call.leave("creator"))),
            (0.48, lambda: self.end("fan")),
            (0.58, lambda: self.end("creator")),
            (0.60, self.end_stream),
            (0.63, self.moderate),
            (0.645, self.cut_from_outside),
        )
        for most, plan in plans:
            if dice < most:
                self._later(after, plan)
                return
        # Where a minute costs a token and each next one is held, a call would go on for hours.
        self._later(random.randrange(600_000, 1_500_000), lambda: self.end(self._one()))
        if random.random() < 0.4:
            self._later(random.randrange(8_000, 100_000), lambda: self.extend(random.choice((1, 1, 2, 5))))
        else:
            self._later(20_000, self._extend_late)

    def _extend_late(self) -> None:
        """In the very last moment: some of these extensions reach the node after the end."""
        call = self.house.node.call(self.room_id)
        left = None if call is None else call.meter.cut_due_in_ms(self.timeline.now_ms)
        if left is None or left > 5_000:
            self._later(4_000, self._extend_late)
        else:
            self._later(max(0, left - self.random.randrange(10, 900)), lambda: self.extend(1))

    def late(self) -> None:
        """In the evening: who would talk for hours hangs up."""
        self._later(self.random.randrange(20_000, 150_000), lambda: self.end(self._one()))

    def end(self, side: Side) -> None:
        """Press "end" on the page; sometimes twice."""
        person = self.people[side]
        for _ in range(self.random.choice((1, 1, 1, 2))):
            self.house.call(
                person.user_id,
                "end",
                lambda tx, now: sessions.end(tx, self.session_id, by_person_id=person.user_id, now=now),
                wish=Wish(side),
            )

    def end_stream(self) -> None:
        """The creator deletes the public stream that the session came from."""
        creator = self.people["creator"]

        def delete(tx: Any, now: Any) -> None:
            stream = streams.stream_of(tx, creator.user_id)
            if stream is not None:
                streams.end_stream(tx, stream.stream_id, creator, now)

        self.house.call(creator.user_id, "end_stream", delete, wish=Wish("stream_deleted"))

    def moderate(self) -> None:
        """A moderator ends it."""
        fault = self.random.choice(("fan", "creator", "none"))
        self._terminate(self.admin, "MODERATION", Wish("moderation", fault), fault)

    def cut_from_outside(self) -> None:
        """An integrator ends it, and names a reason that no bill follows from."""
        outside = Caller(person=None, integrator_id="int_1", scopes=frozenset(), sign_in_id="int_1")
        reason = self.random.choice(("PAYMENT_FAILED", "MODERATION", "ENDED_BY_FAN"))
        bad = any(
            lot in self.house.invariants.books.bad_lots
            for lot in self.house.invariants.books.by_lot(self.house.invariants.request_of(self.session_id))
        )
        self._terminate(outside, reason, Wish("payment_failed" if bad else "outside_cut"), None)

    def _terminate(self, by: Caller, reason: str, wish: Wish, fault: Any) -> None:
        fan = self.people["fan"].user_id
        self.house.call(
            by.sign_in_id,
            "terminate",
            lambda tx, now: termination.terminate(
                tx, room_id=self.room_id, user_id=fan, reason=reason, label_by=by, at_fault=fault, now=now
            ),
            wish=wish,
        )

    def extend(self, minutes: int) -> None:
        """The fan buys more time; the same key again when the answer was lost."""
        fan, key = self.people["fan"].user_id, f"more-{self.random.randrange(10**9)}"

        def more(tx: Any, now: Any) -> Any:
            return extending.extend(tx, self.session_id, fan_id=fan, minutes=minutes, key=key, now=now)

        with self.house.once("hold"):
            answer = self.house.call(fan, "extend", more)
            if answer.lost or self.random.random() < 0.2:
                self.house.call(fan, "extend", more)

    # --- small things -------------------------------------------------------------------------------

    def _one(self) -> Side:
        return "fan" if self.random.random() < 0.5 else "creator"

    def _later(self, delay_ms: int, act: Callable[[], None]) -> None:
        def unless_over() -> None:
            if not self.over:
                act()

        self.timeline.after(delay_ms, unless_over)

    def _at_the_node(self, act: Callable[[Call], None]) -> None:
        node = self.house.node
        if node.stalled_until > self.timeline.now_ms:
            self.timeline.at(node.stalled_until, lambda: self._at_the_node(act))
            return
        call = node.call(self.room_id)
        if call is not None:
            act(call)
