"""A stage for requests and sessions: people with tokens, a media node, a live stream, and media's facts.

Time stands still until a test moves it. Nothing is imitated: what media would say goes in as the messages
that it sends.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ids, ledger
from models.audit import audit
from models.config import Settings, load_settings
from models.db import Database
from models.messages import codec, events
from models.messages.commands import AnyCommand
from models.plumbing import OutboxRow
from models.services import accounts, presence, private_streams, sessions, streams
from models.services.accounts import Caller, Person
from models.sessions import SessionRow

T = TypeVar("T")
START = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
MINUTE = 60_000


class Stage:
    """One database with whoever plays on it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        self.boot = "boot_1"
        self.broker_is_there = True
        self.settings = settings()
        self._numbers = itertools.count()

    # --- moving time, reading back ------------------------------------------------------------------

    def run(self, fn: Callable[[Session], T]) -> T:
        return self.database.run(fn)

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)
        if self.broker_is_there:
            self.carry()

    def carry(self) -> None:
        """The relay has published what waited."""
        waiting = update(OutboxRow).where(OutboxRow.published_at.is_(None))
        self.run(lambda tx: tx.execute(waiting.values(published_at=self.now)))

    def balances(self, person: Person) -> dict[str, int]:
        with self.database.reading() as tx:
            return ledger.balances(tx, person.user_id)

    def session(self, session_id: str) -> SessionRow:
        with self.database.reading() as tx:
            row = tx.get_one(SessionRow, session_id)
            tx.expunge_all()
            return row

    def receipt(self, session_id: str) -> sessions.Receipt:
        with self.database.reading() as tx:
            view = sessions.session_view(tx, session_id, tx.get_one(SessionRow, session_id).fan_id)
        assert isinstance(view, sessions.Receipt)
        return view

    def audit(self) -> None:
        with self.database.reading() as tx:
            assert audit(tx).problems == ()

    def commands(self, kind: type[T] | None = None) -> list[Any]:
        """All commands that were written, oldest first."""
        found: list[AnyCommand] = [codec.decode_command(row.body) for row in self._outbox("command")]
        return [command for command in found if kind is None or isinstance(command, kind)]

    def told(self, person: Person | None, kind: str | None = None) -> list[dict[str, Any]]:
        """Notifications to a person, or those to everybody."""
        user_id = person.user_id if person else None
        found = [msgspec.json.decode(row.body) for row in self._outbox("feed") if row.destination == user_id]
        return [message for message in found if kind in (None, message["type"])]

    def actors(self) -> list[tuple[str | None, str | None, str]]:
        return [(row.destination, row.actor, row.body) for row in self._outbox("actor")]

    def _outbox(self, kind: str) -> list[OutboxRow]:
        with self.database.reading() as tx:
            rows = list(tx.scalars(select(OutboxRow).where(OutboxRow.kind == kind).order_by(OutboxRow.seq)))
            tx.expunge_all()
            return rows

    # --- who plays ----------------------------------------------------------------------------------

    def person(self, *roles: str, tokens: int = 0, present: bool = True) -> Person:
        name = f"{roles[0]}_{next(self._numbers)}"

        def make(tx: Session) -> Person:
            person = accounts.create_person(
                tx,
                email=f"{name}@people.test",
                handle=name,
                display_name=name,
                password_hash="no password fits this",
                roles=roles,
                now=self.now,
            )
            if tokens:
                self._buy(tx, person.user_id, tokens, f"pur_{name}")
            if present:
                presence.feed_opened(tx, person.user_id, "web_1", self.now)
            return person

        return self.run(make)

    def _buy(self, tx: Session, user_id: str, tokens: int, purchase_id: str) -> None:
        ledger.top_up(
            tx,
            purchase_id=purchase_id,
            user_id=user_id,
            tokens=tokens,
            gateway="sandbox",
            cause_id="test",
            now=self.now,
        )

    def fan(self, tokens: int = 1_000, present: bool = True) -> Person:
        return self.person("fan", tokens=tokens, present=present)

    def creator(self) -> Person:
        return self.person("creator")

    def live(self, **changed: Any) -> tuple[Person, streams.StreamView]:
        """A creator who is live, with these settings; the node has opened the room."""
        creator = self.creator()
        if changed:
            offer = {"enabled": True, "rate_per_minute": 100, "min_minutes": 5, "auto_accept": "manual"}
            self.run(
                lambda tx: private_streams.put_settings(tx, creator.user_id, **(offer | changed), now=self.now)
            )
        return creator, self.go_live(creator)

    def go_live(self, creator: Person) -> streams.StreamView:
        self.heartbeat()
        stream = self.run(lambda tx: streams.go_live(tx, creator, title="On air", now=self.now))
        self.event(events.RoomOpened, room_id=stream.room_id)
        return stream

    def resume(self, stream: streams.StreamView, creator: Person) -> streams.StreamView:
        return self.run(lambda tx: streams.resume_public(tx, stream.stream_id, creator, self.now))

    def heartbeat(self) -> None:
        """The web process and the media node are there."""
        self.run(lambda tx: presence.web_heartbeat(tx, "web_1", self.now))

    # --- what they wish -----------------------------------------------------------------------------

    def ask(
        self, fan: Person, stream: streams.StreamView, minutes: int = 10, **more: Any
    ) -> private_streams.RequestView:
        return self.run(
            lambda tx: private_streams.request(
                tx,
                fan=fan,
                creator_id=stream.creator_id,
                stream_id=stream.stream_id,
                minutes=minutes,
                now=self.now,
                settings=self.settings,
                cause_id=ids.new_id("cause"),
                **more,
            )
        )

    def accept(self, request_id: str, creator: Person) -> private_streams.AcceptedView:
        self.heartbeat()
        return self.run(
            lambda tx: private_streams.accept(tx, request_id, creator_id=creator.user_id, now=self.now)
        )

    def cancel(self, request_id: str, fan: Person) -> None:
        self.run(lambda tx: private_streams.cancel(tx, request_id, fan_id=fan.user_id, now=self.now))

    def decline(self, request_id: str, creator: Person) -> None:
        self.run(lambda tx: private_streams.decline(tx, request_id, creator_id=creator.user_id, now=self.now))

    def end(self, session_id: str, person: Person) -> None:
        self.run(lambda tx: sessions.end(tx, session_id, by_person_id=person.user_id, now=self.now))

    def admin(self) -> Caller:
        return Caller(
            person=self.person("admin", present=False),
            integrator_id=None,
            scopes=frozenset(),
            sign_in_id="in_test",
        )

    # --- what media says ----------------------------------------------------------------------------

    def event(self, kind: type[events.Event], *, boot: str | None = None, **fields: Any) -> events.AnyEvent:
        """Let media say it, now; returns it, to be said again."""
        about = {
            "message_id": ids.new_id(ids.MESSAGE),
            "cause_id": "test",
            "node_id": "media-1",
            "boot_id": boot or self.boot,
            "at": "2026-01-02T12:00:00.000Z",
        }
        event: Any = kind(**(about | fields))
        self.say(event)
        return event  # type: ignore[no-any-return]

    def say(self, event: events.AnyEvent) -> None:
        self.run(lambda tx: sessions.on_event(tx, event, self.now))

    def node_ready(self, boot: str | None = None, rooms: tuple[str, ...] = (), **more: Any) -> None:
        self.boot = boot or self.boot
        self.event(events.NodeReady, signaling_url="ws://127.0.0.1:8090/signaling", rooms=rooms, **more)

    def opened(self, session_id: str, paid_ms: int | None = None) -> None:
        row = self.session(session_id)
        self.event(
            events.RoomOpened,
            room_id=row.room_id,
            session_id=session_id,
            paid_ms=row.paid_ms if paid_ms is None else paid_ms,
        )

    def delivered(self, session_id: str, sequence: int, delivered_ms: int, **changed: Any) -> events.AnyEvent:
        row = self.session(session_id)
        fields = {
            "state": "running",
            "cause": None,
            "paid_ms": row.paid_ms,
            "creator_pause_ms": 0,
            "node_pause_ms": 0,
            "room_id": row.room_id,
        } | changed
        return self.event(
            events.MediaDelivered,
            session_id=session_id,
            sequence=sequence,
            delivered_ms=delivered_ms,
            **fields,
        )

    def call_ended(
        self, _session_id: str, fact: str, delivered_ms: int, sequence: int = 1_000, **changed: Any
    ) -> events.AnyEvent:
        row = self.session(_session_id)
        fields = {
            "paid_ms": row.paid_ms,
            "creator_pause_ms": 0,
            "node_pause_ms": 0,
            "pause_cause": None,
            "paused_for_ms": 0,
            "creator_connected": True,
            "fan_connected": True,
            "room_id": row.room_id,
        } | changed
        about = {"session_id": _session_id, "sequence": sequence, "fact": fact, "delivered_ms": delivered_ms}
        return self.event(events.CallEnded, **(about | fields))

    def connecting(self, minutes: int = 10, tokens: int = 1_000) -> Call:
        """A session that was just accepted."""
        creator, stream = self.live()
        fan = self.fan(tokens)
        request = self.ask(fan, stream, minutes)
        accepted = self.accept(request.request_id, creator)
        return Call(fan, creator, stream, request.request_id, accepted.session_id, accepted.room_id)

    def running(self, minutes: int = 10, tokens: int = 1_000) -> Call:
        """A session in which the meter runs."""
        call = self.connecting(minutes, tokens)
        self.opened(call.session_id)
        self.delivered(call.session_id, 1, 0)
        return call


class Call(msgspec.Struct, frozen=True):
    """Who is in a session."""

    fan: Person
    creator: Person
    stream: streams.StreamView
    request_id: str
    session_id: str
    room_id: str


def settings(minute_seconds: int = 60) -> Settings:
    return load_settings(
        {
            "SECRET_KEY": "a-secret-key-for-tests-of-32-characters",
            "TESTING": "1",
            "MINUTE_SECONDS": str(minute_seconds),
        }
    )
