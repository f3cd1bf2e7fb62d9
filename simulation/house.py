"""The house under test: one database, a web process, workers, a relay, a clock, a node, each of which may die.

Whatever a process does goes through here, so that it is in the trace, may be cut short, and is judged by
what it was about to do.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import audit, idempotency, ids, log, tables
from models.config import Settings, load_settings
from models.errors import DomainError, Unavailable
from models.messages import codec, events
from models.services import presence, webhooks
from models.timing import timers_for
from simulation import eye as eyes
from simulation.clock import Timeline
from simulation.crashes import Crash, Crashes, FragileDatabase
from simulation.gateway import SimulatedGateway
from simulation.invariants import Context, Invariants
from simulation.network import Broker, RelayProcess
from simulation.node import Node
from simulation.truth import Truth, Violation, Wish, require
from simulation.workers import Workers
from workers.deadlines import Deadlines

T = TypeVar("T")
AUDIT_EVERY = 500
TRACE = 80
BEAT_MS = 5_000


class Answer(msgspec.Struct, frozen=True):
    """What a client sees: a value, a refusal's code, or a connection that broke."""

    ok: bool
    value: Any = None
    code: str = ""

    @property
    def lost(self) -> bool:
        """Nobody knows whether it was done."""
        return not self.ok and self.code == "LOST"


class House:
    """All processes around one database."""

    def __init__(self, timeline: Timeline, url: str, *, crash_rate: float) -> None:
        self.timeline = timeline
        self.crashes = Crashes(timeline.random, crash_rate)
        self.db = FragileDatabase(url, self.crashes)
        self.settings = _settings(url)
        _prepare(self.db)
        self.eye = eyes.Eye(url)
        self.truth = Truth()
        self.invariants = Invariants(timeline, self.eye, self.truth)
        self.trace: deque[tuple[int, str, object]] = deque(maxlen=TRACE)
        self.refusals: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()
        self.gateway = SimulatedGateway(timeline)
        self.invariants.charged = self.gateway.was_charged
        self.broker = Broker(timeline)
        self.workers = Workers(timeline, self.db, self.broker, self.gateway, self.crashes)
        self.workers.around = self._handling
        self.relay = RelayProcess(timeline, self.db, self.broker, self.crashes)
        self.gateway.hook = self.webhook
        self.clock = Deadlines(
            self.db, timers_for(self.settings.minute_ms), settings=self.settings, now=timeline.utc
        )
        self.relay.rounds = self._nothing_is_lost
        self._marked = 0
        self.db.committed = self._committed
        self.node = Node(timeline, self.broker, self.truth)
        self.web_boot = ids.new_id(ids.BOOT)
        self.present_boot = ""
        self.audits = 0

    def close(self) -> None:
        """Let go of the database."""
        self.eye.close()
        self.db.close()

    # --- processes ----------------------------------------------------------------------------------

    def call(
        self,
        who: str,
        act: str,
        fn: Callable[[Session, datetime], T],
        *,
        key: str | None = None,
        wish: Wish | None = None,
    ) -> Answer:
        """A request to the web process: one transaction, idempotent where it has a key."""

        def work(tx: Session) -> Any:
            now = self.timeline.utc()
            if key is None:
                return fn(tx, now)
            stored = idempotency.claim(tx, person_id=who, route=act, key=key, body=b"", now=now)
            if stored is not None:
                return None
            value = fn(tx, now)
            idempotency.store(tx, person_id=who, route=act, key=key, status=200, body=b"{}")
            return value

        return self.ask(who, act, lambda: self.db.run(work), wish=wish)

    def ask(self, who: str, act: str, fn: Callable[[], Any], *, wish: Wish | None = None) -> Answer:
        """The same for what is no single transaction."""
        self.acts[act] += 1
        try:
            with self.acting(Context(who=f"web:{act}", wish=wish)):
                answer = Answer(True, fn())
        except (Crash, OperationalError):
            answer = Answer(False, code="LOST")
        except DomainError as refusal:
            answer = Answer(False, code=refusal.code)
            self.refusals[refusal.code] += 1
            if isinstance(refusal, Unavailable):
                answer = Answer(False, code="LOST")
        self.trace.append((self.timeline.now_ms, f"{who} {act}", answer.code or "ok"))
        return answer

    @contextmanager
    def once(self, kind: str) -> Iterator[None]:
        """One wish of one person, said again and again: it moves tokens once."""
        before = self.invariants.books.kinds[kind]
        yield
        moved = self.invariants.books.kinds[kind] - before
        require(moved <= 1, f"one wish, said again under the same key, made {moved} transfers ({kind})")

    def read(self, fn: Callable[[Session], T]) -> T | None:
        """A request that only reads; None where it is refused."""
        try:
            with self.db.reading() as tx:
                return fn(tx)
        except DomainError as refusal:
            self.refusals[refusal.code] += 1
            return None

    def webhook(self, body: bytes, headers: dict[str, str]) -> None:
        """The provider calls; it calls again until it is answered."""

        def receive() -> bool:
            event_ = self.gateway.verify_webhook(body, headers)
            now = self.timeline.utc()
            return self.db.run(lambda tx: webhooks.receive(tx, self.gateway.name, event_, now))

        if self.ask("provider", "webhook", receive).lost:
            delay = self.timeline.random.randrange(5_000, 60_000)
            self.timeline.after(delay, lambda: self.webhook(body, headers))

    def tick(self) -> None:
        """A round of the clock process, which may die in the middle."""
        try:
            with self.acting(Context(who="clock")):
                self.clock.step()
            self.invariants.battles.clock_went_round()
        except (Crash, OperationalError):
            self.trace.append((self.timeline.now_ms, "clock", "died"))

    def beat(self) -> None:
        """The web process says that it is alive."""
        with self.db.transaction() as tx:
            presence.web_heartbeat(tx, self.web_boot, self.timeline.utc())

    @contextmanager
    def acting(self, context: Context) -> Iterator[None]:
        """While one process acts, judge by what it is about to do; it may not survive."""
        before, self.invariants.context = self.invariants.context, context
        try:
            with self.crashes.during():
                yield
        finally:
            self.invariants.context = before

    # --- the node's lives ---------------------------------------------------------------------------

    def restart_node(self, *, politely: bool, after_ms: int) -> None:
        """The media process ends and comes back with a new boot id."""
        self.trace.append((self.timeline.now_ms, "node", "stops" if politely else "killed"))
        if politely:
            self.node.suspend()
        else:
            self.node.kill()

        def again() -> None:
            opened, shown = self.node.opened, self.node.shown
            self.node = Node(self.timeline, self.broker, self.truth)
            self.node.opened, self.node.shown = opened, shown

        self.timeline.after(after_ms, again)

    # --- what is watched ----------------------------------------------------------------------------

    def _committed(self) -> None:
        self.invariants.look()
        if self.eye.rows("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"):
            self.relay.nudge()
        if self.db.commits % AUDIT_EVERY == 0:
            self.audit()

    def _nothing_is_lost(self) -> None:
        """What the relay says that it published was published."""
        rows = self.eye.rows(
            "SELECT seq, message_id FROM outbox WHERE seq > ? AND kind = 'actor' AND published_at IS NOT NULL"
            " ORDER BY seq",
            (self._marked,),
        )
        for number, message_id in rows:
            self._marked = number
            published = message_id in self.broker.published
            require(published, f"message {message_id} is marked, and was never published")

    def audit(self) -> None:
        """The house's own audit over everything."""
        self.audits += 1
        with self.db.reading() as tx:
            problems = audit.audit(tx).problems
        require(not problems, f"audit: {'; '.join(problems[:3])}")

    @contextmanager
    def _handling(self, name: str, args: tuple[str, ...]) -> Iterator[None]:
        """A worker handles a message; when it says that it did, it has."""
        event_ = codec.decode_event(args[0]) if name == "on_media_event" else None
        context = Context(who=name, event=event_)
        if name != "on_media_event":
            # Whatever else a worker does, it ends a session for one reason only.
            context.wish = Wish("payment_failed")
        truth = None
        if isinstance(event_, events.MediaDelivered | events.CallEnded | events.RoomOpened) and event_.session_id:
            truth = self.truth.session(event_.session_id)
            truth.heard(event_)
        if isinstance(event_, events.NodeReady):
            self.present_boot = event_.boot_id
        what = name if event_ is None else type(event_).__name__
        about = args[0][:60] if event_ is None else str(truth or "")
        self.trace.append((self.timeline.now_ms, f"worker {what}", about))
        before, self.invariants.context = self.invariants.context, context
        try:
            yield
        finally:
            self.invariants.context = before
        if event_ is not None:
            self._was_taken_in(event_)

    def _was_taken_in(self, event_: events.AnyEvent) -> None:
        """Acknowledged means done."""
        if not isinstance(event_, events.MediaDelivered | events.CallEnded):
            return
        session = self.invariants.sessions.get(event_.session_id)
        if session is None or session["status"] == "ended" or event_.boot_id != self.present_boot:
            return
        name = f"session {event_.session_id}"
        require(not isinstance(event_, events.CallEnded), f"{name}: its end was acknowledged and not taken in")
        most, heard = session["delivered_ms"], event_.delivered_ms
        require(most >= heard, f"{name}: a report of {heard} ms was acknowledged and not taken in")


def _settings(url: str) -> Settings:
    return load_settings(
        {
            "SECRET_KEY": "a-key-for-the-simulation-that-is-long-enough",
            "TESTING": "1",
            "DATABASE_URL": url,
            "PAYOUT_MINIMUM_TOKENS": "20",
        }
    )


def _prepare(db: FragileDatabase) -> None:
    """All tables, in an empty database. SQLite's file need not survive a power cut: nothing waits for a disk."""
    if db.is_sqlite:
        event.listen(db.engine, "connect", lambda raw, _record: raw.execute("PRAGMA synchronous=OFF"))
    tables.metadata.create_all(db.engine)
    eyes.watch(db.engine)


@contextmanager
def told(house: House) -> Iterator[None]:
    """What the house would log goes into the trace; what it would log as a defect is a Violation."""
    said, failed = log.event, log.failure

    def note(word: str, level: int = 0, **values: object) -> None:
        del level
        house.trace.append((house.timeline.now_ms, f"  {word}", values))

    def defect(word: str, **values: object) -> None:
        raise Violation(f"{word} {values}")

    log.event, log.failure = note, defect
    try:
        yield
    finally:
        log.event, log.failure = said, failed
