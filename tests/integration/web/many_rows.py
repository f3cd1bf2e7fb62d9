"""A house with few or many rows of everything that pages list, and a count of what a page asks the database.

Calls, requests, tips, subscriptions and bookings are made by the services; what only somebody outside makes
(purchases, disputes, dead letters) is written as it would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import Session
from stage import Stage
from ways import offer, subscribe
from web_people import People

from models.books import TransferRow
from models.db import Database
from models.earnings import PayoutRow
from models.flags import FlagRow
from models.operations import AuditRunRow
from models.payments import DisputeRow, PurchaseRow
from models.receipt_keys import signing_key
from models.services import (
    accounts,
    bookings,
    complaints,
    dead_letters,
    operations,
    private_streams,
    purchase_refunds,
    receipt_chain,
    tips,
)
from models.services.accounts import Person
from models.services.streams import StreamView

MOST_BOOKINGS = 9
"""Of one fan: the house allows ten."""
BODY = b'{"actor_name":"settle","message_id":"m%d","args":["x"],"kwargs":{},"options":{}}'


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is sent to the database within the block."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


class ManyRows:
    """``star`` is a creator and ``patron`` a fan to whom everything happens often; ``admin`` looks on."""

    def __init__(self, people: People, now: datetime) -> None:
        self.people, self.stage = people, Stage(people.database)
        self.stage.now = now
        self.stage.node_ready(capacity=1_000)
        self.stage.heartbeat()
        self.admin = self.stage.admin().person
        assert self.admin is not None
        self.patron = self.stage.fan(tokens=900_000)
        self.star, self.on_air = self._creator()
        self.session_id = ""

    def fill(self, first: int, count: int) -> None:
        """The rows from number ``first`` up to ``count``."""
        for number in range(first, count):
            fan, (creator, stream) = self.stage.fan(tokens=9_000), self._creator()
            self._patronage(self.patron, creator, stream)
            self._patronage(fan, self.star, self.on_air)
            self._call(self.patron, creator, stream)
            self._call(fan, self.star, self.on_air)
            self._booking(fan, self.star, number)
            if number < MOST_BOOKINGS:
                self._booking(self.patron, creator, number)
            self._outside(number, fan)
            self._operator(number, fan)
        key = signing_key(self.stage.settings)
        self.stage.run(lambda tx: receipt_chain.issue_due(tx, key, self.stage.now))
        for _ in range(first, count):
            self.stage.ask(self.stage.fan(tokens=9_000), self.on_air)
            self.stage.connecting()

    def _creator(self) -> tuple[Person, StreamView]:
        creator, stream = self.stage.live()
        offer(self.stage, creator, subscription_price=100, subscription_minutes=3, subscriber_discount_percent=10)
        return creator, stream

    def _patronage(self, fan: Person, creator: Person, stream: StreamView) -> None:
        subscribe(self.stage, fan, creator)
        self.stage.run(
            lambda tx: tips.tip(
                tx,
                fan=fan,
                creator_id=creator.user_id,
                amount=5,
                key=f"tip:{creator.user_id}",
                now=self.stage.now,
                settings=self.stage.settings,
                cause_id="test",
            )
        )

    def _call(self, fan: Person, creator: Person, stream: StreamView) -> None:
        asked = self.stage.ask(fan, stream)
        session_id = self.stage.accept(asked.request_id, creator).session_id
        self.stage.opened(session_id)
        self.stage.delivered(session_id, 1, 0)
        self.stage.call_ended(session_id, "creator_left", 60_000)
        self.stage.resume(stream, creator)
        self.session_id = session_id
        self.stage.run(
            lambda tx: complaints.complain(
                tx, session_id, by_id=fan.user_id, reason="It was black.", now=self.stage.now
            )
        )

    def _booking(self, fan: Person, creator: Person, number: int) -> None:
        at = self.stage.now.replace(second=0, microsecond=0) + timedelta(days=1, minutes=30 * number)
        slots = [bookings.NewSlot(starts_at=at + timedelta(minutes=15 * half), minutes=5) for half in (0, 1)]
        first, _ = self.stage.run(
            lambda tx: bookings.open_slots(tx, creator, slots, now=self.stage.now, minute_ms=60_000)
        )
        self.stage.run(
            lambda tx: bookings.book(
                tx,
                fan=fan,
                slot_id=first.slot_id,
                now=self.stage.now,
                settings=self.stage.settings,
                cause_id="test",
            )
        )

    def _outside(self, number: int, fan: Person) -> None:
        purchase_id, now = f"pur_many_{number}", self.stage.now
        money = {"currency": "USD", "gateway": "sandbox"}

        def write(tx: Session) -> None:
            self.stage._buy(tx, self.patron.user_id, 100, purchase_id)
            tx.add(
                PurchaseRow(
                    id=purchase_id, user_id=self.patron.user_id, idempotency_key=purchase_id, package_id="t100",
                    tokens=100, price_minor=500, gateway_ref=f"ref_{number}", status="succeeded", cause_id="test",
                    created_at=now, succeeded_at=now, **money,
                )
            )  # fmt: skip
            tx.flush()
            tx.add(
                DisputeRow(
                    id=f"dsp_{number}", purchase_id=purchase_id, user_id=self.patron.user_id, status="won",
                    gateway_ref=f"dp_{number}", reason="fraudulent", amount_minor=500, created_at=now, **money,
                )
            )  # fmt: skip
            paid = tx.scalars(select(TransferRow.id).where(TransferRow.kind == "tip")).all()
            tx.add(
                PayoutRow(
                    id=f"pay_{number}", creator_id=self.star.user_id, status="paid", tokens=5, amount_minor=5,
                    account_ref="acct", transfer_id=paid[number], cause_id="test", requested_at=now, asked_at=now,
                    finished_at=now, **money,
                )
            )  # fmt: skip
            purchase_refunds.request(
                tx, user_id=self.patron.user_id, purchase_id=purchase_id, tokens=10, cause_id="test", now=now
            )

        self.stage.run(write)

    def _operator(self, number: int, fan: Person) -> None:
        now, admin_id = self.stage.now, self.admin.user_id

        def write(tx: Session) -> None:
            operations.record(tx, admin_id, "spending_frozen", self.patron.user_id, "Somebody asked", now=now)
            accounts.create_integrator_token(tx, "partner", ("rooms:write",), now)
            accounts.block(tx, self.star.user_id, fan.user_id, now)
            tx.add(
                FlagRow(
                    kind="zero_billed_pair", creator_id=self.star.user_id, fan_id=fan.user_id, day="2026-01-02",
                    session_id=self.session_id, created_at=now,
                )
            )  # fmt: skip
            tx.add(AuditRunRow(id=f"aud_{number}", status="done", asked_at=now, finished_at=now, ok=True))
            died = dead_letters.Corpse(
                queue="sessions", message_id=f"m{number}", body=BODY % number, why="rejected", died_at=now
            )
            dead_letters.take_in(tx, died, now)

        self.stage.run(write)


def one_of_each(world: ManyRows) -> dict[str, str]:
    """Ids that pages about one thing are asked for."""
    with world.people.database.reading() as tx:
        open_request = private_streams.requests_for(tx, world.star.user_id, world.stage.now)[0]
    return {
        "session": world.session_id,
        "star": world.star.handle,
        "star_id": world.star.user_id,
        "stream": world.on_air.stream_id,
        "patron": world.patron.user_id,
        "request": open_request.request_id,
        "purchase": "pur_many_0",
    }
