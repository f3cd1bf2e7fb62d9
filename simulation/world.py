"""One run: days in which people meet, nights in which only the clock works, and what must be true in the end."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from models import ledger, tables
from models.requests import OPEN
from models.services import accounts
from models.services.accounts import Caller, Person
from simulation.afterwards import Afterwards
from simulation.arena import Arena
from simulation.clock import Timeline, virtual
from simulation.house import BEAT_MS, House, told
from simulation.node import Call
from simulation.people import Creator, Fan
from simulation.shop import Shop
from simulation.transcoder import Transcoder
from simulation.truth import Violation, require
from simulation.visits import Visit

DAY_MS = 86_400_000
DAY_SESSIONS = 1_000
"""Sessions between two nights."""
BOOKED_MS = 900_000
MOST = 0.7
"""Not even in an eventful world does anybody do nothing but what is rare."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    seed: int
    sessions: int
    steps: int
    state_hash: str
    seconds: float
    cpu_seconds: float
    virtual_days: float
    audits: int
    crashes: dict[str, int]
    network: dict[str, int]
    rows: dict[str, int]
    acts: dict[str, int]
    refusals: dict[str, int]
    transfers: dict[str, int]

    @property
    def per_minute(self) -> float:
        """Sessions per minute of real time."""
        return self.sessions * 60 / self.seconds

    @property
    def per_cpu_minute(self) -> float:
        """The same per minute of processor time: what it would be on a machine that does nothing else."""
        return self.sessions * 60 / self.cpu_seconds


class World:
    """Everything, wired together."""

    def __init__(
        self,
        timeline: Timeline,
        url: str,
        *,
        sessions: int,
        people: int,
        crash_rate: float,
        eventful: float,
        troubles: bool,
    ) -> None:
        self.timeline = timeline
        self.house = House(timeline, url, crash_rate=0.0)
        self.target = sessions
        self.began = 0
        self.night = False
        self.enough = False
        self.rows: Counter[str] = Counter()
        self._eventful = eventful
        self._troubles = troubles
        self.visits: dict[str, Visit] = {}
        self.creators: list[Creator] = []
        self.fans: dict[str, Fan] = {}
        self.creator_of: dict[str, Creator] = {}
        self.house.tick()
        invariants = self.house.invariants
        invariants.began, invariants.opened = self._began, self._opened
        invariants.ended, invariants.asked = self._ended, self._asked
        invariants.called = self._called
        self.house.node.opened = self._reopened
        self._populate(people)
        self.admin = self._admin()
        self.admin_id = self.admin.person.user_id if self.admin.person else ""
        self.afterwards, self.arena, self.shop = Afterwards(self), Arena(self), Shop(self)
        self.transcoder = Transcoder(self.house)
        invariants.sales.recorded = self._recorded
        self.house.crashes.rate = crash_rate

    # --- who is there -------------------------------------------------------------------------------

    def _populate(self, count: int) -> None:
        for number in range(count):
            creator = Creator(self, self._person(f"creator_{number}", "creator"))
            if number % 3:
                self.house.db.run(lambda tx, creator=creator: self._gift(tx, creator.user_id, 60))  # type: ignore[misc]
            self.creators.append(creator)
            self.creator_of[creator.user_id] = creator
        for number in range(count * 5 // 4):
            fan = Fan(self, self._person(f"fan_{number}", "fan"))
            if number % 3 == 0:
                self.house.db.run(lambda tx, fan=fan: self._gift(tx, fan.user_id, 150))  # type: ignore[misc]
            self.fans[fan.user_id] = fan

    def _gift(self, tx: Any, user_id: str, tokens: int) -> None:
        ledger.gift(tx, user_id, tokens, key=f"gift:{user_id}", cause_id="gift", now=self.timeline.utc())

    def _person(self, name: str, *roles: str) -> Person:
        return self.house.db.run(
            lambda tx: accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",  # noqa: S106
                roles=roles,
                now=self.timeline.utc(),
            )
        )

    def _admin(self) -> Caller:
        person = self._person("admin_0", "admin")
        return Caller(person=person, integrator_id=None, scopes=frozenset(), sign_in_id="admin")

    def somebody(self) -> Creator:
        """Any creator."""
        return self.timeline.random.choice(self.creators)

    def rarely(self, chance: float) -> bool:
        """True that often in an ordinary world; oftener in an eventful one."""
        return self.timeline.random.random() < self.often(chance)

    def often(self, chance: float) -> float:
        """How often people here do what they do with this ``chance`` in an ordinary world."""
        return min(max(chance, MOST), chance * self._eventful)

    # --- what the rows tell -------------------------------------------------------------------------

    def _asked(self, request: dict[str, Any]) -> None:
        self.fans[request["fan_id"]].asked(request["id"])
        self.creator_of[request["creator_id"]].asked(request["id"])

    def _called(self, request: dict[str, Any]) -> None:
        fan = self.fans[request["fan_id"]]
        delay = self.timeline.random.randrange(500, 50_000)
        self.timeline.after(delay, lambda: fan.called(request["id"]))

    def _began(self, session: dict[str, Any]) -> None:
        self.began += 1
        if self.began >= self.target:
            self.enough = True
        fan, creator = self.fans[session["fan_id"]], self.creator_of[session["creator_id"]]
        fan.visit = creator.visit = session["id"]
        visit = self.visits[session["id"]] = Visit(self.house, session, fan.person, creator.person, self.admin)
        if self.night:
            visit.late()

    def _opened(self, session: dict[str, Any]) -> None:
        self.visits[session["id"]].opened()
        self.shop.opened(session)

    def _recorded(self, recording: dict[str, Any], before: str) -> None:
        self.transcoder.changed(recording, before)
        self.shop.recorded(recording, before)

    def _ended(self, session: dict[str, Any]) -> None:
        self.visits.pop(session["id"]).over = True
        self.rows[session["end_row"]] += 1
        self.fans[session["fan_id"]].visit = self.creator_of[session["creator_id"]].visit = None
        self.afterwards.ended(session)

    def _reopened(self, call: Call) -> None:
        visit = self.visits.get(call.session_id)
        if visit is not None and any(visit.inside.values()):
            visit.reopened(call)

    # --- days and nights ----------------------------------------------------------------------------

    def run(self) -> None:
        """Days until there were enough sessions, then everything to its end."""
        self._clock_round()
        self._beat()
        if self._troubles:
            self._next_trouble()
        while not self.enough:
            self._day()
            self._evening()
            if not self.enough:
                self._night(self.timeline.random.randrange(1, 9))
        self._night(34)
        self._evening()
        self.afterwards.pay_day()
        self._night(3)
        self._evening()
        self._night(2)
        self._evening()
        self._final()

    def _day(self) -> None:
        self.night = False
        until = min(self.target, self.began + DAY_SESSIONS)
        for human in (*self.creators, *self.fans.values()):
            self.timeline.after(self.timeline.random.randrange(20_000), human.wake)
        while self.began < until:
            require(self.timeline.step(), "nothing happens any more")

    def _evening(self) -> None:
        """Nobody begins anything; what runs comes to its end by itself."""
        self.night = True
        self._mend()
        for visit in self.visits.values():
            visit.late()
        most = self.timeline.now_ms + 3_600_000
        while self._something_runs() or self.house.broker.in_flight:
            require(self.timeline.now_ms < most, f"an hour later {self._something_runs()} still run")
            require(self.timeline.step(), "nothing happens any more")

    def _something_runs(self) -> int:
        invariants = self.house.invariants
        running = len(self.visits) + sum(invariants.open_requests.values()) + len(invariants.sales.unfinished)
        return running + invariants.bookings_soon(BOOKED_MS) + invariants.battles.soon(BOOKED_MS)

    def _night(self, days: int) -> None:
        self.timeline.skip(days * DAY_MS)

    def _clock_round(self) -> None:
        self.house.tick()
        random = self.timeline.random
        pause = random.randrange(3_000, 12_000)
        if self.night and not self._something_runs() and not self.house.broker.in_flight:
            pause = random.randrange(8 * 3_600_000, 24 * 3_600_000)
        elif self.night and not self.visits and random.random() < 0.9:
            # Only bookings may have to begin, and those have their grace.
            waits = any(self.house.invariants.open_requests.values()) or self.house.broker.in_flight
            pause = random.randrange(4_000, 20_000) if waits else random.randrange(20_000, 90_000)
        elif random.random() < 0.01:
            # The clock is down for a while and catches up.
            pause = random.randrange(10_000, 100_000)
        self.timeline.after(pause, self._clock_round)

    def _beat(self) -> None:
        quiet = self.night and not self.visits
        if not quiet:
            self.house.beat()
        self.timeline.after(600_000 if quiet else BEAT_MS, self._beat)

    # --- troubles -----------------------------------------------------------------------------------

    def _next_trouble(self) -> None:
        self.timeline.after(self.timeline.random.randrange(5_000, 60_000), self._trouble)

    def _trouble(self) -> None:
        if self.night:
            self.timeline.after(60_000 if self._something_runs() else DAY_MS // 8, self._next_trouble)
            return
        random, house = self.timeline.random, self.house
        length = random.choice((random.randrange(300, 4_000), random.randrange(4_000, 90_000)))
        trouble = random.choice(("node", "stall", "broker", "line", "gateway", "workers", "relay"))
        house.trace.append((self.timeline.now_ms, "trouble", f"{trouble} for {length} ms"))
        match trouble:
            case "node":
                if not house.node.dead:
                    house.restart_node(politely=random.random() < 0.3, after_ms=min(length, 30_000))
            case "stall":
                house.node.stall(min(length, 15_000))
            case "broker":
                house.broker.up = False
                house.node.disconnect()
                self.timeline.after(length, self._broker_back)
            case "line":
                house.node.disconnect()
            case "gateway":
                house.gateway.up = False
                self.timeline.after(length, self._gateway_back)
            case "workers":
                house.broker.workers_up = False
                self.timeline.after(length, house.broker.workers_back)
            case "relay":
                house.relay.stopped = True
                self.timeline.after(length, house.relay.start)
        self._next_trouble()

    def _mend(self) -> None:
        self._broker_back()
        self._gateway_back()
        self.house.broker.workers_back()
        self.house.relay.start()

    def _broker_back(self) -> None:
        self.house.broker.up = True
        self.house.broker.workers_back()

    def _gateway_back(self) -> None:
        self.house.gateway.up = True

    # --- the end ------------------------------------------------------------------------------------

    def _final(self) -> None:
        house = self.house
        house.invariants.look()
        house.audit()
        waiting = house.eye.rows("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL")[0][0]
        require(waiting == 0, f"{waiting} messages were never published")
        open_requests = house.eye.rows(
            f"SELECT COUNT(*) FROM private_stream_requests WHERE status IN {OPEN!r}"
        )[0][0]
        require(open_requests == 0, f"{open_requests} requests are still open")
        unended = house.eye.rows("SELECT COUNT(*) FROM private_stream_sessions WHERE status <> 'ended'")[0][0]
        require(unended == 0, f"{unended} sessions have not ended")
        sums = house.invariants.books.sums
        held = sum(tokens for account, tokens in sums.items() if account.startswith("held:"))
        require(held == 0, f"{held} tokens are still held")
        self._money_fits()

    def _money_fits(self) -> None:
        """What the gateway has taken is what was credited, purchase by purchase."""
        house = self.house
        credited = {row[0] for row in house.eye.rows("SELECT reference FROM transfers WHERE kind = 'top_up'")}
        charged = {id_ for id_, charge in house.gateway.charges.items() if charge.ever_charged}
        lost = sorted(charged - credited)
        require(not lost, f"charged and never credited: {lost[:3]}")
        given = dict(
            house.eye.rows(
                "SELECT purchase_id, SUM(amount_minor) FROM purchase_refunds WHERE status = 'succeeded'"
                " GROUP BY purchase_id"
            )
        )
        for id_, charge in house.gateway.charges.items():
            back = sum(charge.refunds.values())
            require(back <= charge.amount_minor, f"{id_}: {back} of {charge.amount_minor} were given back")
            require(back == given.get(id_, 0), f"{id_}: the provider gave back {back}, we say {given.get(id_, 0)}")
        house.invariants.promises.final(house.gateway.charges)
        house.invariants.battles.final()
        house.invariants.sales.final()
        self._payouts_fit()
        self._receipts_fit()

    def _payouts_fit(self) -> None:
        """What left for creators' banks is what their earnings were charged with."""
        house = self.house
        paid = {
            id_: tokens
            for id_, tokens, status in house.eye.rows("SELECT id, tokens, status FROM creator_payouts")
            if status != "failed"
        }
        sent = {key for key, payout in house.gateway.payouts.items() if payout.result.status != "failed"}
        require(set(paid) == sent, f"payouts differ: {sorted(set(paid) ^ sent)[:3]}")
        balance = house.invariants.books.sums["payouts"]
        require(balance == sum(paid.values()), f"{balance} tokens were paid out, for {sum(paid.values())}")

    def _receipts_fit(self) -> None:
        """Each ended session has one receipt, and each creator's chain has no gap."""
        rows = self.house.eye.rows
        found = rows("SELECT COUNT(*) FROM receipts WHERE kind = 'receipt'")[0][0]
        require(found == self.began, f"{found} receipts for {self.began} sessions")
        gaps = rows("SELECT creator_id FROM receipts GROUP BY creator_id HAVING COUNT(*) <> MAX(number)")
        require(not gaps, f"receipts are missing in the chains of {gaps[:3]}")


def play(
    seed: int,
    *,
    url: str,
    sessions: int,
    people: int = 200,
    crash_rate: float = 0.01,
    eventful: float = 1.0,
    troubles: bool = True,
) -> Result:
    """One run. Raises Violation, whose ``__notes__`` have the end of the trace."""
    timeline = Timeline(seed)
    began, cpu = time.perf_counter(), time.process_time()
    house: House | None = None
    thresholds = gc.get_threshold()
    # Collecting costs a tenth of the time, and there is next to nothing to collect.
    gc.set_threshold(50_000, 50, 1_000)
    with virtual(timeline, seed):
        try:
            world = World(
                timeline,
                url,
                sessions=sessions,
                people=people,
                crash_rate=crash_rate,
                eventful=eventful,
                troubles=troubles,
            )
            house = world.house
            with told(house):
                world.run()
            state_hash = house.eye.state_hash(tables.metadata)
        except Violation as violation:
            _annotate(violation, house)
            raise
        except Exception as error:
            # Whatever the house raises that is no refusal is a finding as well.
            last = traceback.extract_tb(error.__traceback__)[-1]
            finding = Violation(f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
            _annotate(finding, house)
            raise finding from error
        finally:
            gc.set_threshold(*thresholds)
            if house is not None:
                house.close()
    return Result(
        seed=seed,
        sessions=world.began,
        steps=house.db.commits,
        state_hash=state_hash,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
        virtual_days=timeline.now_ms / DAY_MS,
        audits=house.audits,
        crashes={str(where): count for where, count in house.crashes.count.items()},
        network=dict(house.broker.count),
        rows=dict(world.rows),
        acts=dict(house.acts),
        refusals=dict(house.refusals),
        transfers=dict(house.invariants.books.kinds),
    )


def _annotate(violation: Violation, house: House | None) -> None:
    if house is not None:
        violation.step = house.db.commits
        violation.add_note(tail(house))


def tail(house: House) -> str:
    """The last things that happened."""
    lines = [f"{at / 1000:12.3f} s  {what}  {about}" for at, what, about in house.trace]
    return "\n".join([f"step {house.db.commits}", *lines])
